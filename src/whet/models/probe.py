"""Probe: before anything is trained, one shared pack against the model's own forward on separate rows.

A model whose attention never asks for the registered function, or does something more, gives other numbers on a pack.
Then it is run on padded rows, and the run says so. Never a silent wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from whet.errors import ModelError
from whet.models.attention import Trie, kernel_for
from whet.models.language_model import LanguageModel, Path, is_reward_model, rewards_of
from whet.models.virtual import virtual_tokens
from whet.rows import Row
from whet.tokens.pack import MIN_SHARED, pack_rows

TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.05}
"""Of logps, largest absolute difference. Wrong attention shows in the first digit on a trained model; that every layer
asked for the trie is checked beside it, since on random weights attention hardly shows."""

USUAL = 10.0
"""Nats: a usual log-probability of random tokens. Rounding grows with larger ones, and so does what passes."""

WINDOW = MIN_SHARED - 3
"""Tokens; of sliding windows while the probe runs."""


_MISFITS = (NotImplementedError, TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError)
"""What models and libraries raise where shapes or keywords do not fit."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The path a model takes, why (empty for the trie), and the largest difference seen on it."""

    path: Path
    reason: str
    difference: float


def probe(model: Any, vocabulary: int, seed: int = 0) -> Probed:
    """The fastest path on which the model gives its own numbers.

    A method's parameters are looked at while they hold random numbers: many begin as no change at all, and would hide
    what a pack does to them. They are put back.

    Raises ModelError where even the model's own logits on padded rows differ from those of separate rows.
    """
    rows = _rows(vocabulary, seed)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), _short_windows(model), _unlike_the_start(model, seed):
            expected = _answers(model, rows)
            if not all(logps.isfinite().all() for logps in expected):
                raise ModelError(
                    "the model's own log-probabilities are not numbers", do="its weights are damaged; fetch them again"
                )
            largest = max(float(logps.abs().max()) for logps in expected)
            tolerance = TOLERANCE.get(next(model.parameters()).dtype, 2e-3) * max(1.0, largest / USUAL)
            reason = _refused(model)
            if not reason:
                reason, difference = _try_trie(model, rows, expected, tolerance)
                if not reason:
                    return Probed("trie", "", difference)
            paths: tuple[Path, ...] = ("padded", "logits")
            for path in paths:
                try:
                    difference = _difference(LanguageModel(model, path), rows, expected)
                except _MISFITS as error:
                    reason = f"{reason}; {path}: {_line(error)}"
                    continue
                if difference <= tolerance:
                    return Probed(path, reason, difference)
    finally:
        model.train(training)
    raise ModelError(
        "the model gives other numbers on padded rows than on single ones "
        f"(largest difference of a log-probability {difference:.3g}); {reason}",
        do="train with train.batch_size=1, or report the model",
    )


_TAKEN: WeakKeyDictionary[Any, dict[int, bool]] = WeakKeyDictionary()


def takes_tries(model: Any) -> bool:
    """Whether answers may be written on the trie. Probed once a model, and once with virtual tokens on it."""
    config, virtual = model.config.get_text_config(), virtual_tokens(model)
    found = _TAKEN.setdefault(model, {})
    if virtual not in found:
        rope = getattr(config, "rope_parameters", None) or {}
        try:  # frequencies that change with a row's length are not those of a row beside longer ones
            found[virtual] = "dynamic" not in str(rope) and "longrope" not in str(rope)
            found[virtual] = found[virtual] and probe(model, int(config.vocab_size)).path == "trie"
        except ModelError:
            found[virtual] = False
    return found[virtual]


def _rows(vocabulary: int, seed: int) -> list[Row]:
    """Four rows over a trie of three levels, every token but the first a target."""
    draw = np.random.default_rng(seed)

    def ids(size: int) -> np.ndarray:
        return draw.integers(0, vocabulary, size, dtype=np.int32)

    stem, branch = ids(MIN_SHARED + 5), ids(MIN_SHARED + 3)
    bodies = [[stem, branch, ids(7)], [stem, branch, ids(12)], [stem, ids(9)], [ids(11)]]
    rows = [np.concatenate(parts) for parts in bodies]
    return [Row(row, np.ones(len(row), bool)) for row in rows]


@contextmanager
def _short_windows(model: Any) -> Iterator[None]:
    """Sliding windows shorter than the probe's rows: a layer that leaves its window to the mask, and so sees more on a
    trie, would give itself away on rows of thousands of tokens only."""
    holders: dict[int, Any] = {
        id(part): part for module in model.modules() for part in (module, getattr(module, "config", None))
    }
    before = [
        (part, window)
        for part in holders.values()
        if isinstance(window := getattr(part, "sliding_window", None), int) and window > WINDOW
    ]
    try:
        for part, _ in before:
            part.sliding_window = WINDOW
        yield
    finally:
        for part, window in before:
            part.sliding_window = window


@contextmanager
def _unlike_the_start(model: Any, seed: int) -> Iterator[None]:
    """Noise on what a method trains, where the model itself is frozen."""
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    if len(trained) == len(parameters):
        trained = []
    before = [p.detach().clone() for p in trained]
    draw = torch.Generator().manual_seed(seed)
    try:
        for p in trained:
            p.add_(torch.randn(p.shape, generator=draw).to(p.device, p.dtype), alpha=0.02)
        yield
    finally:
        for p, value in zip(trained, before, strict=True):
            p.copy_(value)


def _answers(model: Any, rows: list[Row]) -> list[torch.Tensor]:
    """The reference. Raises ModelError where the model itself cannot answer: a method put on it that does not fit."""
    try:
        return _separate(model, rows)
    except _MISFITS as error:
        raise ModelError(
            f"the model cannot answer with this method on it: {_line(error)}",
            do="take another method; method=lora works on every model that has linear layers",
        ) from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _separate(model: Any, rows: list[Row]) -> list[torch.Tensor]:
    """The reference: the model's own forward and all its logits, a row at a time."""
    base = model.get_base_model() if hasattr(model, "get_base_model") and not virtual_tokens(model) else model
    device = next(model.parameters()).device
    out = []
    for row in rows:
        ids = torch.from_numpy(row.ids.astype(np.int64)).to(device)
        if is_reward_model(base):
            hidden_LD = getattr(base, base.base_model_prefix)(input_ids=ids[None], use_cache=False).last_hidden_state[0]
            out.append(rewards_of(base, hidden_LD[:-1]))
            continue
        logits = base(input_ids=ids[None], use_cache=False).logits[0, -len(row) : -1].float()
        out.append(logits.log_softmax(1).gather(1, ids[1:, None])[:, 0])
    return out


def _difference(language_model: LanguageModel, rows: list[Row], expected: list[torch.Tensor]) -> float:
    largest = 0.0
    packs = pack_rows(rows, 10_000, share=language_model.shares, padded=not language_model.shares)
    for pack in packs:
        pack = pack.to(language_model.device)
        with language_model.running():
            logps = language_model(pack)
        reference = torch.cat([expected[index] for index in pack.rows])
        largest = max(largest, (logps - reference).abs().max().item())
    return largest if largest == largest else float("inf")


def _try_trie(model: Any, rows: list[Row], expected: list[torch.Tensor], tolerance: float) -> tuple[str, float]:
    """("", difference) where the trie gives the model's own numbers, else the reason why not."""
    language_model = LanguageModel(model, "trie")
    layers = int(language_model.config.num_hidden_layers)
    _, decoder, _ = language_model._inner
    try:
        difference = _difference(language_model, rows, expected)
        pack = pack_rows(rows, 10_000)[0].to(language_model.device)
        # The layers alone: what the method adds to the trie is no layer's doing.
        trie = Trie(pack.segments, kernel_for(language_model.device))
        with language_model.running():
            decoder(input_ids=pack.ids_T[None], position_ids=pack.positions_T[None], trie=trie, use_cache=False)
    except _MISFITS as error:
        return f"its attention does not take a trie ({_line(error)})", float("inf")
    if trie.calls != layers:
        return f"{trie.calls} of its {layers} layers ask for the registered attention", difference
    if difference > tolerance:
        return f"a log-probability differs by {difference:.3g} on a shared pack", difference
    return "", difference


def _refused(model: Any) -> str:
    """Layer kinds that short probe rows cannot tell from full attention."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    return f"it has layers of kind {', '.join(sorted(kinds))}" if kinds else ""
