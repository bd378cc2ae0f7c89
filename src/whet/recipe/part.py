"""The parent of all parts of a recipe."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from whet.errors import RecipeError
from whet.recipe.faults import fault


class Part(BaseModel):
    """A part of the recipe: unknown keys are errors, values are checked when set.

    Built or changed from Python it raises RecipeError, as a recipe that is read does.
    """

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    def __init__(self, /, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise self._fault(error) from None

    # Without this mark pydantic would call it for parts within parts too, and a fault there would lose its place.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise self._fault(error) from None

    def _fault(self, error: ValidationError) -> RecipeError:
        return fault(error, type(self), where=type(self).__name__.removesuffix("Part"))
