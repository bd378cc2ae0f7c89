"""What is evaluated on what: a model opened, rows read and rendered, each with its prompt and its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from whet.data import read
from whet.errors import RowError
from whet.evaluate.score import Scorer
from whet.models.in_context.prompt import Prompt
from whet.models.language_model import LanguageModel
from whet.models.load import Loaded
from whet.models.saved import open_run
from whet.recipe import DataPart
from whet.rows import Example, Message
from whet.tokens.template import Renderer


@dataclass(frozen=True)
class Subject:
    """A model under its name, its tokenizer, how rows become tokens, and the prompt of a prompt run."""

    name: str
    model: Any
    tokenizer: Any
    renderer: Renderer
    language_model: LanguageModel | None = None
    """Probed already, where there is one."""
    compute_dtype: torch.dtype = torch.float32
    pack_tokens: int | None = None
    prompt: Prompt | None = None

    @classmethod
    def of(cls, loaded: Loaded) -> Subject:
        return cls(loaded.name, loaded.model, loaded.tokenizer, Renderer(loaded.tokenizer), prompt=loaded.prompt)

    def asked(self, examples: Sequence[Example]) -> list[Example]:
        """The rows as they are put to the model: filled into a prompt run's template where it uses their columns."""
        return [self.prompt.asked(example) if self.prompt else example for example in examples]

    def scorer(self) -> Scorer:
        """What gives its log-probabilities."""
        size = len(self.tokenizer)
        return Scorer(self.model, size, self.pack_tokens, self.language_model, self.compute_dtype)


def open_subject(run: str | Loaded, base: bool = False, dtype: torch.dtype = torch.float32) -> Subject:
    """A run, a model's folder or name, opened for evaluation: in float32 unless asked otherwise, so that figures do not
    hang on how a machine rounds. `base` is the model that the run started from. Raises as `open_run` does."""
    if isinstance(run, Loaded):
        return Subject.of(run)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Subject.of(open_run(run, base=base, device=device, dtype=dtype))


def read_rows(data: str | DataPart | Sequence[DataPart] | Sequence[Example], seed: int = 0) -> list[Example]:
    """The rows to evaluate on, in the shapes that training reads; rows that were read already as they are."""
    if isinstance(data, str):
        data = DataPart(path=data)
    parts = [data] if isinstance(data, DataPart) else list(data)
    examples = [one for one in parts if isinstance(one, Example)]
    return examples or read([one for one in parts if isinstance(one, DataPart)], "sft", seed)


def prompt_of(example: Example) -> list[Message]:
    """The turns before the last answer. Raises RowError for running text, which asks nothing."""
    last = [place for place, turn in enumerate(example.messages) if turn["role"] == "assistant"]
    if not last or last[-1] == 0:
        raise RowError(
            "no prompt and answer here",
            where=example.place,
            do="these metrics need `prompt` and `completion`, or turns",
        )
    return example.messages[: last[-1]]


def reference_of(example: Example) -> Any:
    """The last answer; several where the row has a column `references`."""
    several = example.extra.get("references")
    if isinstance(several, list) and several:
        return [str(text) for text in several]
    last = [turn for turn in example.messages if turn["role"] == "assistant"][-1]
    return str(last.get("content") or "")


def columns_of(examples: Sequence[Example]) -> dict[str, list[Any]]:
    """The rows' columns by name [rows], as metrics and slices take them: place, prompt, reference, group, and whatever
    else the rows have; None where a row has none."""
    columns: dict[str, list[Any]] = {"place": [example.place for example in examples]}
    if all(example.shape == "conversation" for example in examples):
        columns["prompt"] = [str(prompt_of(example)[-1].get("content") or "") for example in examples]
        columns["reference"] = [reference_of(example) for example in examples]
    names = dict.fromkeys(name for example in examples for name in example.extra)
    columns |= {name: [example.extra.get(name) for example in examples] for name in names if name not in columns}
    if any(example.group is not None for example in examples):
        columns["group"] = [example.group for example in examples]
    return columns
