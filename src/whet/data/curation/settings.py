"""`curate.yaml`, or the words of a command line -> Curation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from whet.data.curation.contract import Context, Step
from whet.errors import RecipeError, did_you_mean
from whet.recipe.faults import check_part
from whet.recipe.load import read_yaml
from whet.recipe.part import Part


class Curation(Part):
    """A recipe of curation. `steps` run in the order given; each is a name, or `name: {its settings}`."""

    seed: int = 0
    """Of every draw, in every step."""
    columns: list[str] = []
    """The columns that hold text. None: whet's own names, or every column of strings where a row has none of them."""
    prompt_columns: list[str] = []
    """The columns that ask, in order, where they have names of their own: [question]. For steps that tell prompts from
    answers."""
    answer_columns: list[str] = []
    """The columns that answer: [answer]."""
    encoding: str = "auto"
    """Of text files: auto is UTF-8, or what a byte order mark says."""
    max_broken: Annotated[float, Field(ge=0, le=1)] = 0.001
    """The share of rows that may be unreadable; more stop the run."""
    max_row_bytes: Annotated[int, Field(ge=1)] = 16 << 20
    """A longer row is set aside, not read."""
    steps: Annotated[list[dict[str, Any]], Field(min_length=1)]
    """What is done, in order."""

    def context(self, **services: Any) -> Context:
        """What the steps of a run share."""
        prompts, answers = tuple(self.prompt_columns), tuple(self.answer_columns)
        return Context(self.seed, tuple(self.columns), prompts, answers, services)


def load_curation(path: str | Path) -> Curation:
    """The recipe in a YAML file. Raises RecipeError with file and key."""
    return check_curation(read_yaml(Path(path)), where=str(path))


def check_curation(tree: dict[str, Any], where: str) -> Curation:
    """The typed recipe of a plain tree, every step's settings checked, or a RecipeError that names the first fault."""
    steps = tree.get("steps")
    if not isinstance(steps, list) or not steps:
        raise RecipeError("no steps", where=where, do="add `steps: [repair, quality, duplicates]`")
    named = [_one_key(step, number, where) for number, step in enumerate(steps, 1)]
    curation = check_part(Curation, {**tree, "steps": named}, where)
    for number, step in enumerate(named, 1):
        settings_of(*next(iter(step.items())), where=where, key=f"steps.{number}")
    return curation


def _one_key(step: Any, number: int, where: str) -> dict[str, Any]:
    if isinstance(step, str):
        return {step: {}}
    if isinstance(step, dict) and len(step) == 1:
        name, settings = next(iter(step.items()))
        return {str(name): settings or {}}
    raise RecipeError(
        f"step {number} must be a name, or one name with its settings; found {step!r}",
        where=where,
        do="each step begins with its own dash: `- quality: {rules: gopher}`",
    )


def settings_of(name: str, tree: dict[str, Any], where: str, key: str = "") -> Part:
    """The typed settings of the step `name`. Raises RecipeError for a step or a key that does not exist."""
    from whet.data.steps import STEPS

    if name not in STEPS:
        raise RecipeError(
            f"no step {name!r}.{did_you_mean(name, STEPS)}", where=where, do=f"steps are: {', '.join(STEPS)}"
        )
    return check_part(STEPS[name].settings, tree, where, ".".join(filter(None, (key, name))))


def make_step(name: str, tree: dict[str, Any], context: Context) -> Step:
    """The step `name`, ready to run."""
    from whet.data.steps import STEPS

    return STEPS[name](settings_of(name, tree, where=name), context)
