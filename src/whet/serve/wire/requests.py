"""What requests may hold. Field names and limits are OpenAI's; a field that is not here is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from whet.rows import Message
from whet.serve.wire.unsupported import without_harmless

DEEPEST = 64
"""Lists and objects inside each other."""
MOST_ALTERNATIVES = 20
MOST_BIAS = 1024

TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


def _stops(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _sound(value: Any) -> None:
    """Raises ValueError for what no text holds, and for what is nested too deep."""
    level = [value]
    for _ in range(DEEPEST):
        for item in level:
            if isinstance(item, str):
                if "\0" in item:
                    raise ValueError("a NUL character, which no text holds")
                if not item.isascii():
                    try:
                        item.encode()
                    except UnicodeEncodeError:
                        raise ValueError("half a character (a lone surrogate), which no text holds") from None
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEEPEST} levels")


def _inside(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return [*item, *item.values()]
    return item if isinstance(item, list) else []


class Body(BaseModel):
    """Any request. Null is as good as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str
    user: str | None = None  # who asks, and the two below: labels that change no answer
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _looked_through(cls, data: Any) -> Any:
        _sound(data)
        return without_harmless(data) if isinstance(data, dict) else data


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False  # padding against eavesdroppers on lengths: there is none either way


class Generating(Body):
    """What chat and completions share."""

    n: int = Field(1, ge=1, le=128)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(default={}, max_length=MOST_BIAS)
    stop: Annotated[
        list[Annotated[str, Field(min_length=1)]], BeforeValidator(_stops, json_schema_input_type=str | list[str])
    ] = Field(default=[], max_length=4)
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> Generating:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for stream=true alone")
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def _text_of(content: Any) -> Any:
    """Parts of text as one text; a part of another kind is refused by its name."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str) or set(part) != {"type", "text"}:
            raise ValueError(f"a part of type {kind!r}; the models here read parts of text alone")
        texts.append(part["text"])
    return "".join(texts)


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: Annotated[
        str | None, BeforeValidator(_text_of, json_schema_input_type=str | list[dict[str, Any]] | None)
    ] = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    refusal: None = None  # an answer of this server handed back has it

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("content is missing")
        return self

    def plain(self) -> Message:
        return self.model_dump(exclude_none=True)


class ChatRequest(Generating):
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MOST_ALTERNATIVES)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto"] | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=true")
        if self.tool_choice is not None and not self.tools:
            raise ValueError("tool_choice needs tools")
        return self


class CompletionRequest(Generating):
    prompt: str | TokenIds | Annotated[list[str], Field(min_length=1)] | Annotated[list[TokenIds], Field(min_length=1)]
    max_tokens: int = Field(16, ge=0)
    logprobs: int | None = Field(None, ge=0, le=MOST_ALTERNATIVES)
    echo: bool = False


class EmbeddingRequest(Body):
    input: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=2048)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=2048)]
    )
    encoding_format: Literal["float", "base64"] = "float"
