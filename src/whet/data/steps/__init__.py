"""The steps of curation, by name: each a function of rows, a verb of `whet data`, and a line of a `curate.yaml`.

A module holds one step: its settings (a Part), the step, and the pure functions that it is made of.
"""

from __future__ import annotations

from whet.data.curation.contract import RowStep, SetStep
from whet.data.steps.personal import Personal
from whet.data.steps.repair import Repair
from whet.data.steps.sample import Sample

STEPS: dict[str, type[RowStep] | type[SetStep]] = {
    "personal": Personal,
    "repair": Repair,
    "sample": Sample,
}
