"""What is learnt from rows. An objective is a module with two pure functions; `OBJECTIVES` names them by the recipe's
`objective.kind`:

    rows(example, renderer, part) -> [Row]                  the rows that one example yields
    loss(logps_N, row_of_N, weights_R, part) -> Loss        from the log-probabilities of their targets

and `rows_of`, `rows` of many examples at once. The loop divides totals by the count over all packs and ranks, so that
neither packing nor accumulation weighs a row differently.
"""

from __future__ import annotations

from types import ModuleType

from whet.objectives import sft
from whet.objectives.contract import Loss

__all__ = ["OBJECTIVES", "Loss"]

OBJECTIVES: dict[str, ModuleType] = {"sft": sft}
