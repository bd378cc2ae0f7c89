"""The steps of curation, by name: each a function of rows, a verb of `whet data`, and a line of a `curate.yaml`.

A module holds one step: its settings (a Part), the step, and the pure functions that it is made of.
"""

from __future__ import annotations

from whet.data.curation.contract import RowStep, SetStep
from whet.data.steps.augment import Augment
from whet.data.steps.balance import Balance
from whet.data.steps.repair import Repair
from whet.data.steps.sample import Sample
from whet.data.steps.select import Select

STEPS: dict[str, type[RowStep] | type[SetStep]] = {
    "augment": Augment,
    "balance": Balance,
    "repair": Repair,
    "sample": Sample,
    "select": Select,
}
