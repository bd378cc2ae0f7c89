"""Answers through transformers' `generate`, for models whose attention takes no trie: prompts of like lengths padded
into batches, each of which takes as long as its longest answer.

Tokens are chosen by `whet.models.draw` here too, and settings are made in full: what a model's folder says about
sampling never leaks in.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from whet.models.attention import NAME, attention_of
from whet.models.decode import Choose, rows_at_once
from whet.models.virtual import virtual_tokens


def batched(
    model: Any,
    prompts: Sequence[list[int]],
    rooms: Sequence[int],
    draw: Choose,
    stop: frozenset[int],
    batch_size: int,
) -> Generator[tuple[int, int, bool], None, None]:
    """(row, token, whether it is the row's last), batch by batch."""
    longest = max(len(prompt) + room for prompt, room in zip(prompts, rooms, strict=True))
    # Padding between virtual tokens and a prompt would move the two apart.
    alike = virtual_tokens(model) > 0
    with _plain(model):
        for batch in _batches(prompts, rooms, rows_at_once(model, longest, batch_size), alike):
            room = rooms[batch[0]]
            for row, ids in zip(batch, _answers(model, prompts, batch, room, draw, stop), strict=True):
                end = next((place for place, token in enumerate(ids) if token in stop), room - 1)
                for place, token in enumerate(ids[: end + 1]):
                    yield row, token, place == end


def streamed(
    model: Any, prompt: list[int], room: int, draw: Choose, stop: frozenset[int]
) -> Generator[tuple[int, int, bool], None, None]:
    """The same of one prompt, as its tokens are made, in a thread beside. Closing it stops the model."""
    tokens: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
    left = threading.Event()

    def work() -> None:
        try:
            with _plain(model):
                ids_1L = torch.tensor([prompt], device=model.device)
                _generate(
                    model, ids_1L, torch.ones_like(ids_1L), [0], room, draw, stop,
                    streamer=_Tokens(tokens), stopping_criteria=StoppingCriteriaList([_Left(left)]),
                )  # fmt: skip
            tokens.put(None)
        except BaseException as error:  # raised again by the reader
            tokens.put(error)

    worker = threading.Thread(target=work, name="whet-stream", daemon=True)
    worker.start()
    try:
        place = 0
        while isinstance(token := tokens.get(), int):
            place += 1
            yield 0, token, token in stop or place == room
        if token is not None:
            raise token
    finally:
        left.set()
        worker.join()


@contextmanager
def _plain(model: Any) -> Iterator[None]:
    """The model without its folder's defaults, and with attention that knows caches and padding."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    defaults = base.generation_config
    own_attention = base.config._attn_implementation == NAME
    try:
        base.generation_config = GenerationConfig()
        with attention_of(base, "sdpa") if own_attention else nullcontext():
            yield
    finally:
        base.generation_config = defaults


def _batches(prompts: Sequence[list[int]], rooms: Sequence[int], batch_size: int, alike: bool) -> Iterator[list[int]]:
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


def _answers(
    model: Any, prompts: Sequence[list[int]], batch: list[int], room: int, draw: Choose, stop: frozenset[int]
) -> list[list[int]]:
    """What the model adds to each prompt, with whatever follows the stop token in a longer batch."""
    longest = max(len(prompts[index]) for index in batch)
    ids_RL = torch.zeros(len(batch), longest, dtype=torch.int64)
    mask_RL = torch.zeros_like(ids_RL)
    for row, index in enumerate(batch):
        ids_RL[row, longest - len(prompts[index]) :] = torch.tensor(prompts[index])
        mask_RL[row, longest - len(prompts[index]) :] = 1
    out_RL = _generate(model, ids_RL.to(model.device), mask_RL.to(model.device), batch, room, draw, stop)
    answers: list[list[int]] = out_RL[:, longest:].tolist()
    return answers


def _generate(
    model: Any, ids_RL: torch.Tensor, mask_RL: torch.Tensor, rows: list[int], room: int, draw: Choose,
    stop: frozenset[int], **more: Any,
) -> torch.Tensor:  # fmt: skip
    settings = GenerationConfig(
        max_new_tokens=room,
        do_sample=False,
        eos_token_id=sorted(stop) or None,
        pad_token_id=0,  # masked wherever it stands; the tokenizer's own may have no embedding
        use_cache=True,
    )
    chosen = LogitsProcessorList([_Chosen(draw, rows)])
    out_RL: torch.Tensor = model.generate(
        input_ids=ids_RL, attention_mask=mask_RL, generation_config=settings, logits_processor=chosen, **more
    )
    return out_RL


class _Chosen(LogitsProcessor):  # type: ignore[misc]
    """Leaves `generate` one token to choose: the one that was drawn."""

    def __init__(self, draw: Choose, rows: list[int]):
        self.draw, self.rows = draw, rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens_R1 = torch.tensor(self.draw(scores, self.rows), device=scores.device)[:, None]
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens_R1, 0.0)


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
