"""`sample`: so many rows, drawn without replacement, in their order."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from whet.data.curation.contract import Decision, Rows, SetStep
from whet.recipe.part import Part


class SampleSettings(Part):
    """How many rows stay."""

    rows: Annotated[int, Field(ge=1)]
    """So many; all, where there are fewer."""


class Sample(SetStep):
    """Draw rows by the seed."""

    settings = SampleSettings

    def schema(self) -> pa.Schema:
        return pa.schema([])

    def decide(self, features: Any, rows: Rows) -> Decision:
        keep = np.zeros(rows.count, dtype=bool)
        draw = self.context.draw("sample")
        keep[draw.choice(rows.count, min(self.set.rows, rows.count), replace=False)] = True
        return Decision(keep, {int(index): ("not drawn", "") for index in np.flatnonzero(~keep)})
