"""A model with a bottleneck adapter on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from whet.methods import METHODS, Given
from whet.recipe import BottleneckPart


@pytest.fixture(scope="session")
def adapted() -> Callable[..., Any]:
    """adapted(model, variant, seed=None, **settings): `seed` gives the adapter random weights."""

    def put_on(model: Any, variant: str = "pfeiffer", seed: int | None = None, **settings: Any) -> Any:
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
