"""Small models with a method on them, for every kind that the recipe knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import TypeAdapter

from whet.methods import METHODS, Given
from whet.recipe import BottleneckPart, MethodPart, SFTPart, TrainPart
from whet.rows import Row

SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "r": 4},
    "rslora": {"kind": "lora", "r": 4, "use_rslora": True},
    "dora": {"kind": "lora", "r": 4, "use_dora": True},
    "pissa": {"kind": "lora", "r": 4, "init_lora_weights": "pissa"},
    "olora": {"kind": "lora", "r": 4, "init_lora_weights": "olora"},
    "lora_tokens": {"kind": "lora", "r": 4, "trainable_token_indices": [5, 9]},
    "adalora": {"kind": "adalora", "init_r": 6, "target_r": 3},
    "ia3": {"kind": "ia3"},
    "vera": {"kind": "vera", "r": 8},
    "oft": {"kind": "oft", "oft_block_size": 8},
    "boft": {"kind": "boft"},
    "ln_tuning": {"kind": "ln_tuning"},
    "trainable_tokens": {"kind": "trainable_tokens", "token_indices": list(range(3, 60))},
    "prefix": {"kind": "prefix", "num_virtual_tokens": 5},
    "prefix_projection": {"kind": "prefix", "num_virtual_tokens": 5, "prefix_projection": True},
    "prompt": {"kind": "prompt", "num_virtual_tokens": 5},
    "p_tuning": {"kind": "p_tuning", "num_virtual_tokens": 5},
    "full": {"kind": "full"},
}


def part_of(name: str, **changes: Any) -> Any:
    return TypeAdapter(MethodPart).validate_python(SETTINGS[name] | changes)


@pytest.fixture(scope="session")
def put_on() -> Callable[..., Any]:
    """put_on(model, "dora", steps=20) -> the model with that method, from fixed random numbers."""
    import torch

    def put(model: Any, name: str, steps: int = 20, **changes: Any) -> Any:
        part = part_of(name, **changes)
        torch.manual_seed(0)
        return METHODS[part.kind].apply(model, part, Given(total_steps=steps))

    return put


@pytest.fixture(scope="session")
def engine_of() -> Callable[..., Any]:
    """engine_of(model, "dora", path="trie", **train) -> an Engine for it, in float32."""
    import torch
    from accelerate import Accelerator

    from whet.models.language_model import LanguageModel
    from whet.train.engine import Engine

    def make(model: Any, name: str = "lora", path: str = "trie", **train: Any) -> Any:
        language_model = LanguageModel(model, path)  # type: ignore[arg-type]
        settings = TrainPart(**{"weight_decay": 0.0, **train})
        return Engine(language_model, SFTPart(), settings, Accelerator(cpu=True), torch.float32, method=part_of(name))

    return make


@pytest.fixture(scope="session")
def score() -> Callable[..., list[Any]]:
    """score(model, rows): log-probabilities of the targets by a plain forward of the model, a row at a time. A model
    with virtual tokens answers for them too; those are left out."""
    import torch

    def logps(model: Any, rows: Sequence[Row]) -> list[Any]:
        out = []
        model.eval()
        for row in rows:
            ids = torch.from_numpy(row.ids).long()
            logits = model(input_ids=ids[None], use_cache=False).logits[0, -len(ids) :]
            at = torch.from_numpy(row.targets).nonzero()[:, 0]
            at = at[at > 0]
            out.append(logits.float().log_softmax(1)[at - 1, ids[at]])
        return out

    return logps


@pytest.fixture(scope="session")
def adapted() -> Callable[..., Any]:
    """adapted(model, variant, seed=None, **settings): `seed` gives the adapter random weights."""

    def put_on(model: Any, variant: str = "pfeiffer", seed: int | None = None, **settings: Any) -> Any:
        import torch

        part = BottleneckPart(variant=variant, **({"reduction_factor": 4} | settings))
        model = METHODS["bottleneck"].apply(model, part, Given())
        if seed is not None:
            draw = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for p in model.parameters():
                    if p.requires_grad:
                        p.normal_(std=0.2, generator=draw)
        return model

    return put_on
