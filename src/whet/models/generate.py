"""Answers from a model: many at once, or one as it is being written.

Both go through transformers' `generate`, with settings that are made here in full: what a model's folder says about
sampling never leaks in. The model is handed back as it came: training or not, its attention, and the random numbers of
whoever is training it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from whet.errors import ModelError
from whet.models.attention import NAME, attention_of
from whet.models.virtual import virtual_tokens

COLDEST = 1e-4
"""Logits divided by less leave the range of float32; the likeliest token is what would be drawn."""

_CONTEXT = 8  # tokens of the prompt that are decoded with the answer, so that its first blank is not lost


@dataclass(frozen=True, slots=True)
class Completion:
    """`ids` as generated, the stop token with them; `text` without it and without other special tokens, so that prompt
    and text make the whole; `stopped` is False where the length ran out first."""

    ids: list[int]
    text: str
    stopped: bool


def sample(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    *,
    stop_ids: Iterable[int],
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    batch_size: int = 16,
) -> list[Completion]:
    """An answer for each prompt (token ids), in their order. Greedy at temperature 0.

    Prompts are batched by length and padded at the left; in float32 a greedy answer does not depend on the batch.
    Sampled answers are the same again for the same prompts, seed and batch size. A prompt near the model's
    longest length gets what room there is. Raises ModelError for a prompt that is empty or leaves no room.
    """
    stop = frozenset(stop_ids)
    rooms = [room(model, prompt, max_new_tokens) for prompt in prompts]
    completions: dict[int, Completion] = {}
    with _generating(model, seed):
        # Padding between virtual tokens and a prompt would move the two apart.
        for batch in _batches(prompts, rooms, batch_size, alike=virtual_tokens(model) > 0):
            settings = _settings(rooms[batch[0]], temperature, top_p, top_k, stop)
            for index, ids in zip(batch, _answers(model, [prompts[i] for i in batch], settings), strict=True):
                completions[index] = _completion(tokenizer, prompts[index], ids, stop)
    return [completions[index] for index in range(len(prompts))]


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
    settings = _settings(room(model, prompt, max_new_tokens), temperature, top_p, top_k, stop)
    tokens: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
    left = threading.Event()

    def work() -> None:
        try:
            with _generating(model, seed):
                ids_1L = torch.tensor([prompt], device=model.device)
                model.generate(
                    input_ids=ids_1L,
                    attention_mask=torch.ones_like(ids_1L),
                    generation_config=settings,
                    streamer=_Tokens(tokens),
                    stopping_criteria=StoppingCriteriaList([_Left(left)]),
                )
            tokens.put(None)
        except BaseException as error:  # raised again by the reader
            tokens.put(error)

    worker = threading.Thread(target=work, name="whet-stream", daemon=True)
    worker.start()
    text = _Text(tokenizer, prompt)
    try:
        while isinstance(token := tokens.get(), int):
            if token not in stop and (piece := text.add(token)):
                yield piece
        if token is not None:
            raise token
        if rest := text.rest():
            yield rest
    finally:
        left.set()
        worker.join()


@contextmanager
def _generating(model: Any, seed: int) -> Iterator[None]:
    """The model in evaluation mode, without its folder's defaults, with attention that knows caches and padding, and
    the random numbers of `seed`; all of it put back at the end.

    Not `torch.inference_mode`: buffers that a model fills on the way (rotary frequencies) could not be trained with
    afterwards.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    training = [module for module in model.modules() if module.training]
    defaults = base.generation_config
    device = model.device
    own_attention = base.config._attn_implementation == NAME
    try:
        model.eval()
        base.generation_config = GenerationConfig()
        with (
            attention_of(base, "sdpa") if own_attention else nullcontext(),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
        ):
            torch.manual_seed(seed)
            yield
    finally:
        base.generation_config = defaults
        for module in training:
            module.training = True


def _settings(room: int, temperature: float, top_p: float, top_k: int, stop: frozenset[int]) -> GenerationConfig:
    """Every setting that `generate` would otherwise fill in itself: its own default is top_k=50."""
    drawn = {"temperature": temperature, "top_p": top_p, "top_k": top_k} if temperature > COLDEST else {}
    return GenerationConfig(
        max_new_tokens=room,
        do_sample=bool(drawn),
        eos_token_id=sorted(stop) or None,
        pad_token_id=0,  # masked wherever it stands; the tokenizer's own may have no embedding
        use_cache=True,
        **drawn,
    )


def room(model: Any, prompt: list[int], max_new_tokens: int) -> int:
    """Tokens that the answer to a prompt may have. Raises ModelError for a prompt that is empty or leaves no room."""
    if not prompt:
        raise ModelError("the prompt is empty, and there is nothing to go on", do="give it some text")
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(longest, int):
        return max_new_tokens
    longest -= virtual_tokens(model)
    if len(prompt) >= longest:
        raise ModelError(
            f"the prompt has {len(prompt):,} tokens and the model takes {longest:,} with the answer",
            do="shorten the prompt, or begin the conversation anew",
        )
    return min(max_new_tokens, longest - len(prompt))


def _batches(prompts: list[list[int]], rooms: list[int], batch_size: int, alike: bool) -> Iterator[list[int]]:
    """Indices of prompts that are answered together: of like lengths (`alike`: the same), and with the same room."""
    order = sorted(range(len(prompts)), key=lambda index: (-rooms[index], len(prompts[index])))
    batch: list[int] = []
    first: tuple[int, int] = (0, 0)
    for index in order:
        size = (rooms[index], len(prompts[index]) if alike else 0)
        if batch and (len(batch) == batch_size or size != first):
            yield batch
            batch = []
        first = first if batch else size
        batch.append(index)
    if batch:
        yield batch


def _answers(model: Any, prompts: list[list[int]], settings: GenerationConfig) -> list[list[int]]:
    """What the model adds to each prompt, with whatever follows the stop token in a longer batch."""
    longest = max(map(len, prompts))
    ids_RL = torch.zeros(len(prompts), longest, dtype=torch.int64)
    attention_mask_RL = torch.zeros_like(ids_RL)
    for row, prompt in enumerate(prompts):
        ids_RL[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention_mask_RL[row, longest - len(prompt) :] = 1
    out_RL = model.generate(
        input_ids=ids_RL.to(model.device),
        attention_mask=attention_mask_RL.to(model.device),
        generation_config=settings,
    )
    return out_RL[:, longest:].tolist()  # type: ignore[no-any-return]


def _completion(tokenizer: Any, prompt: list[int], ids: list[int], stop: frozenset[int]) -> Completion:
    end = next((place for place, token in enumerate(ids) if token in stop), None)
    ids = ids if end is None else ids[: end + 1]
    text = _Text(tokenizer, prompt)
    told = "".join(text.add(token) for token in ids[:end])
    return Completion(ids, told + text.rest(), end is not None)


class _Text:
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


class _Tokens(BaseStreamer):  # type: ignore[misc]
    """Hands on each token as `generate` makes it; what comes first is the prompt."""

    def __init__(self, tokens: queue.SimpleQueue[int | BaseException | None]):
        self.tokens = tokens
        self.prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self.prompt_seen:
            for token in value.flatten().tolist():
                self.tokens.put(token)
        self.prompt_seen = True

    def end(self) -> None:
        """The queue is closed by the thread, once `generate` has returned."""


class _Left(StoppingCriteria):  # type: ignore[misc]
    """Stops when nobody reads any more."""

    def __init__(self, left: threading.Event):
        self.left = left

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.left.is_set(), device=input_ids.device)
