"""What a recipe's `evaluate:` asks for. It is measured by the room `evaluate`, which stands above this one and is lent
to a run; training itself knows the held-out loss alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from whet.errors import RecipeError
from whet.recipe import Recipe
from whet.rows import Example
from whet.tokens.template import Renderer
from whet.train.engine import Engine

When = Literal["before", "during", "after"]


class Evaluator(Protocol):
    """One for a run. Writes an evaluation into the run folder."""

    def __call__(
        self, engine: Engine, renderer: Renderer, held_out: Sequence[Example], when: When
    ) -> dict[str, float | None]:
        """Figures by name of the model as it is now; it is left as it was. Raises WhetError."""

    def outcome(self) -> dict[str, Any]:
        """What summary.json says: figures before and after, and what can be said of their differences."""


MakeEvaluator = Callable[[Recipe, Path], Evaluator]
"""From a recipe and the run folder, which is not there yet. Raises WhetError for what is wrong with the settings."""


def evaluator_of(recipe: Recipe, folder: Path, make: MakeEvaluator | None) -> Evaluator | None:
    """The recipe's evaluator, None where it asks for no more than training measures itself."""
    if not recipe.evaluate.asked:
        return None
    if make is None:
        raise RecipeError(
            "nobody is here to measure that", where="evaluate", do="train through whet.train(...) or `whet train`"
        )
    return make(recipe, folder)
