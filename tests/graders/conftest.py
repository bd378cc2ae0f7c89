"""What the graders' tests share: skip where programs cannot be confined."""

from __future__ import annotations

import pytest

from whet.errors import RecipeError
from whet.graders.confined import Limits, allowed


@pytest.fixture(scope="session")
def confined() -> Limits:
    """The limits of a box, short in time; skips where the kernel allows none."""
    try:
        return allowed(Limits(seconds=1.5, memory_mb=256, file_mb=4, disk_mb=16), "test")
    except RecipeError as error:
        pytest.skip(str(error))
