"""Answers from a model: many at once, or one as it is being written.

On the trie where the model allows it (`whet.models.decode`), else through transformers' `generate`
(`whet.models.by_transformers`); both choose tokens alike. What a model's folder says about sampling never leaks in. The
model is handed back as it came: training or not, and its attention; no random number of its user is used up.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from whet.errors import ModelError
from whet.models import by_transformers
from whet.models.decode import Decoder
from whet.models.draw import Draw
from whet.models.probe import takes_tries
from whet.models.virtual import virtual_tokens

AT_ONCE = 64
"""Rows in flight, where nothing else is asked for."""

_CONTEXT = 8  # tokens of the prompt that are decoded with the answer, so that its first blank is not lost


@dataclass(frozen=True, slots=True)
class Completion:
    """`ids` as generated, the stop token with them; `text` without it and without other special tokens, so that prompt
    and text make the whole; `stopped` is False where the length ran out first; `logps`, where they were asked for, is
    the log-probability of each id when it was drawn."""

    ids: list[int]
    text: str
    stopped: bool
    logps: list[float] | None = None


def sample(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    stop_ids: Iterable[int],
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    batch_size: int = AT_ONCE,
    first: int = 0,
    logps: bool = False,
    places: Sequence[str] | None = None,
    done: Callable[[int], None] = lambda rows: None,
) -> list[Completion]:
    """An answer for each prompt (token ids), in their order. Greedy at temperature 0.

    At most `batch_size` prompts are answered at once. In float32 a greedy answer does not depend on which, but for
    ties within rounding; nor does what a prompt draws, which follows from the seed and its number (`first` and on,
    for a list that is answered in parts). A prompt near the model's longest length gets what room there is. `done` is
    told of rows as they end; with `logps` each completion has those of its tokens. Raises ModelError for a prompt that
    is empty or leaves no room, before any is answered, and where the model gives no numbers (NaN); `places` are what
    errors call the prompts.
    """
    if not prompts:
        return []
    stop = frozenset(stop_ids)
    rooms = rooms_of(model, prompts, max_new_tokens, places)
    draw = Draw(temperature, top_p, top_k, seed, first, lambda row: _place(places, row), keep=logps)
    ids: list[list[int]] = [[] for _ in prompts]
    with _evaluating(model):
        if takes_tries(model):
            tokens = Decoder(model, prompts, rooms, draw).tokens(stop, batch_size)
        else:
            tokens = by_transformers.batched(model, prompts, rooms, draw, stop, batch_size)
        for row, token, last in tokens:
            ids[row].append(token)
            if last:
                done(1)
    return [
        _completion(tokenizer, prompt, found, stop, draw.logps.get(row))
        for row, (prompt, found) in enumerate(zip(prompts, ids, strict=True))
    ]


def stream(
    model: Any,
    tokenizer: Any,
    prompt: list[int],
    *,
    stop_ids: Iterable[int],
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
) -> Generator[str, None, None]:
    """The text of one answer, piece by piece: whole characters only, without special tokens. Leaving the loop early
    stops the model after the token at hand. Raises ModelError as `sample` does."""
    stop = frozenset(stop_ids)
    most = room(model, prompt, max_new_tokens)
    draw = Draw(temperature, top_p, top_k, seed)
    text = Text(tokenizer, prompt)
    with _evaluating(model):
        if takes_tries(model):
            tokens = Decoder(model, [prompt], [most], draw).tokens(stop, 1)
        else:
            tokens = by_transformers.streamed(model, prompt, most, draw, stop)
        with closing(tokens):
            for _, token, _ in tokens:
                if token not in stop and (piece := text.add(token)):
                    yield piece
    if rest := text.rest():
        yield rest


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode, put back at the end.

    Not `torch.inference_mode`: buffers that a model fills on the way (rotary frequencies) could not be trained with
    afterwards.
    """
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True


def room(model: Any, prompt: list[int], max_new_tokens: int) -> int:
    """Tokens that the answer to a prompt may have. Raises ModelError for a prompt that is empty or leaves no room."""
    return rooms_of(model, [prompt], max_new_tokens)[0]


def rooms_of(
    model: Any, prompts: Sequence[list[int]], max_new_tokens: int, places: Sequence[str] | None = None
) -> list[int]:
    """Tokens that the answer to each prompt may have. Raises ModelError for prompts that are empty or leave no room: it
    names the first and counts them all."""
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = longest - virtual_tokens(model) if isinstance(longest, int) else None
    if empty := [row for row, prompt in enumerate(prompts) if not prompt]:
        raise ModelError(
            f"the prompt is empty, and there is nothing to go on{_others(empty, prompts)}",
            where=_place(places, empty[0]) if places else None,
            do="give it some text",
        )
    if longest is None:
        return [max_new_tokens] * len(prompts)
    if long := [row for row, prompt in enumerate(prompts) if len(prompt) >= longest]:
        raise ModelError(
            f"the prompt has {len(prompts[long[0]]):,} tokens and the model takes {longest:,} with the answer"
            f"{_others(long, prompts)}",
            where=_place(places, long[0]) if places or len(prompts) > 1 else None,
            do="shorten the prompt, or begin the conversation anew",
        )
    return [min(max_new_tokens, longest - len(prompt)) for prompt in prompts]


def _place(places: Sequence[str] | None, row: int) -> str:
    return places[row] if places else f"prompt {row + 1}"


def _others(rows: list[int], prompts: Sequence[list[int]]) -> str:
    return f" ({len(rows):,} of {len(prompts):,} prompts are like this)" if len(rows) > 1 else ""


def _completion(
    tokenizer: Any, prompt: list[int], ids: list[int], stop: frozenset[int], logps: list[float] | None
) -> Completion:
    end = next((place for place, token in enumerate(ids) if token in stop), None)
    ids = ids if end is None else ids[: end + 1]
    text = Text(tokenizer, prompt)
    told = "".join(text.add(token) for token in ids[:end])
    return Completion(ids, told + text.rest(), end is not None, logps and logps[: len(ids)])


class Text:
    """Tokens to text as they come. Decoded from the end of the last piece, not from the beginning: the cost does not
    grow with the answer. A piece that ends within a character (U+FFFD) waits for the rest of it."""

    def __init__(self, tokenizer: Any, prompt: list[int]):
        self.tokenizer = tokenizer
        self.ids = prompt[-_CONTEXT:]
        self.start, self.told = 0, len(self.ids)  # decoding starts at `start`; up to `told` has been given out

    def add(self, token: int) -> str:
        """The text that this token completes, which may be none."""
        self.ids.append(token)
        piece = self._untold()
        if not piece or piece.endswith("\ufffd"):
            return ""
        self.start, self.told = self.told, len(self.ids)
        return piece

    def rest(self) -> str:
        """What was still waiting when the answer ended."""
        return self._untold()

    def _untold(self) -> str:
        before = self._decode(self.ids[self.start : self.told])
        return self._decode(self.ids[self.start :])[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
