"""The part `evaluate` of a recipe, and the judge that it may ask."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from whet.recipe.endpoint import EndpointPart
from whet.recipe.part import Part


class JudgePart(EndpointPart):
    rubric: str = "How correct, complete and helpful is the answer?"
    """What is judged, in words."""
    scale: tuple[int, int] = (1, 5)
    """The worst grade and the best."""
    reference: bool = True
    """Show the judge the row's own answer where there is one."""

    @model_validator(mode="after")
    def _asked(self) -> JudgePart:
        if not self.model or not self.endpoint:
            raise ValueError("a judge needs `model` and `endpoint`")
        if self.scale[0] >= self.scale[1]:
            raise ValueError(f"a scale goes from the worst grade to a higher best; found {list(self.scale)}")
        return self


class EvaluatePart(Part):
    metrics: list[str] = ["perplexity"]
    """Names of metrics, or `FILE.py:FUNCTION`; `whet evaluate --help` says where they are listed."""
    data: str | None = None
    """Rows to evaluate on; none: the held-out rows."""
    columns: dict[str, str] = {}
    """As in `data`."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Sample so many rows."""
    slices: list[str] = []
    """Columns to report by."""
    every: Annotated[int, Field(ge=0)] | Literal["evaluation"] = "evaluation"
    """Steps between evaluations during training; 0: before and after alone. `evaluation`: with each on `validation`."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    """Longest answer."""
    judge: JudgePart | None = None
    """Who is asked for the metric `judge`."""

    @field_validator("metrics")
    @classmethod
    def _some(cls, metrics: list[str]) -> list[str]:
        if not metrics:
            raise ValueError("name at least one metric")
        return metrics

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        """`evaluate: [perplexity, rouge]`."""
        return {"metrics": given} if isinstance(given, list) else given

    @property
    def asked(self) -> bool:
        """Whether there is more to measure than the held-out perplexity, which training measures itself."""
        return self.metrics != ["perplexity"] or self.data is not None
