"""The steps of curation, by name: each a function of rows, a verb of `whet data`, and a line of a `curate.yaml`.

A module holds one step: its settings (a Part), the step, and the pure functions that it is made of.
"""

from __future__ import annotations

from whet.data.curation.contract import RowStep, SetStep
from whet.data.steps.augment import Augment
from whet.data.steps.balance import Balance
from whet.data.steps.decontaminate import Decontaminate
from whet.data.steps.duplicates import Duplicates
from whet.data.steps.groups import Groups
from whet.data.steps.inconsistencies import Inconsistencies
from whet.data.steps.language import Language
from whet.data.steps.perplexity import Perplexity
from whet.data.steps.personal import Personal
from whet.data.steps.quality import Quality
from whet.data.steps.repair import Repair
from whet.data.steps.sample import Sample
from whet.data.steps.select import Select
from whet.data.steps.split import Split
from whet.data.steps.toxic import Toxic

STEPS: dict[str, type[RowStep] | type[SetStep]] = {
    "repair": Repair,
    "quality": Quality,
    "language": Language,
    "inconsistencies": Inconsistencies,
    "perplexity": Perplexity,
    "duplicates": Duplicates,
    "decontaminate": Decontaminate,
    "split": Split,
    "select": Select,
    "balance": Balance,
    "augment": Augment,
    "personal": Personal,
    "toxic": Toxic,
    "groups": Groups,
    "sample": Sample,
}
