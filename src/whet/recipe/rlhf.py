"""The recipe of `whet rlhf`: the circle from a model to one that people prefer.

    sft          a supervised start (may be left out)
    preferences  which of two answers is better: a file, a review by people, or a grader that stands for them
    reward       a reward model that learns from them (left out where `policy` learns from pairs itself, as dpo does)
    policy       ppo, grpo, rloo, reinforce++ with that reward; or dpo, orpo, simpo, cpo
    compare      before and after on prompts that nothing was learnt from

`sft`, `reward` and `policy` are recipes as `whet train` has them, without `model` and `output`: those follow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from whet.recipe.graders import GraderPart
from whet.recipe.load import check_recipe, read_yaml
from whet.recipe.objectives import PolicyPart
from whet.recipe.part import Part
from whet.recipe.tree import Recipe

FOLLOWS = ("model", "output")
OFFLINE = ("dpo", "orpo", "simpo", "cpo")


class PreferencesPart(Part):
    """Where preferences come from: exactly one of `data`, `review` and `grader`."""

    data: str | None = None
    """Rows of `prompt`, `chosen` and `rejected`."""
    review: str | None = None
    """A folder of `whet review`, whose results are taken."""
    grader: GraderPart | None = None
    """Stands for people: answers are sampled, and the one with the higher score is preferred."""
    prompts: str | None = None
    """Of the grader: rows with a `prompt`."""
    answers: Annotated[int, Field(ge=2)] = 4
    """To each prompt; the best and the worst make the pair."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _one_source(self) -> PreferencesPart:
        given = [name for name in ("data", "review", "grader") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"name one of data, review and grader; found {', '.join(given) or 'none'}")
        if (self.grader is None) != (self.prompts is None):
            raise ValueError("a grader judges answers to `prompts`: name both, or neither")
        return self


class ComparePart(Part):
    prompts: str
    """Rows with a `prompt`, held out from all that is learnt."""
    grader: GraderPart
    """What people would say."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    perplexity: str | None = None
    """Rows whose perplexity is measured before and after; none: not measured."""


class RLHFRecipe(Part):
    model: Any = "whet-tiny"
    output: str = "runs/rlhf"
    """The folder of all stages."""
    sft: dict[str, Any] | None = None
    preferences: PreferencesPart
    reward: dict[str, Any] | None = None
    policy: dict[str, Any]
    compare: ComparePart | None = None

    @field_validator("sft", "reward", "policy")
    @classmethod
    def _without_what_follows(cls, tree: dict[str, Any] | None) -> dict[str, Any] | None:
        if named := [key for key in FOLLOWS if key in (tree or {})]:
            raise ValueError(f"`{named[0]}` follows from the stages: leave it out here")
        return tree

    @model_validator(mode="after")
    def _whole(self) -> RLHFRecipe:
        kind = _kind(self.policy)
        if kind in OFFLINE:
            if self.reward is not None:
                raise ValueError(f"policy learns by {kind}, which needs no reward model: leave `reward` out")
        elif self.reward is None and "grader" not in self.policy.get("objective", {}):
            raise ValueError(f"policy learns by {kind}: add `reward`, or an objective.grader")
        return self

    def stage(self, name: str, model: Any, output: Path, **more: Any) -> Recipe:
        """The recipe of a stage. Raises RecipeError with the stage's name before the key."""
        tree = {**more, **(getattr(self, name) or {}), "model": model, "output": str(output).replace("{", "{{")}
        return check_recipe(tree, where=name)

    @property
    def offline(self) -> bool:
        """Whether the policy learns from the pairs themselves."""
        return _kind(self.policy) in OFFLINE


def policy_tree(recipe: RLHFRecipe, reward_model: Path | None) -> dict[str, Any]:
    """The policy's `objective`, graded by the reward model where it names no grader of its own."""
    given = recipe.policy.get("objective", {})
    objective = {"kind": given} if isinstance(given, str) else dict(given)
    if reward_model is not None and "grader" not in objective:
        objective["grader"] = {"type": "reward_model", "model": str(reward_model)}
    return objective


def load_rlhf(path: str | Path) -> RLHFRecipe:
    """Raises RecipeError with the file and the key."""
    from whet.recipe.faults import check_part

    return check_part(RLHFRecipe, read_yaml(Path(path)), str(path))


def _kind(policy: dict[str, Any]) -> str:
    objective = policy.get("objective", {})
    kind = objective if isinstance(objective, str) else objective.get("kind", "ppo")
    known = (*OFFLINE, *_ONLINE)
    if kind not in known:
        raise ValueError(f"policy.objective is {kind!r}; it is one of {', '.join(known)}")
    return str(kind)


_ONLINE = tuple(str(part.model_fields["kind"].default) for part in PolicyPart.__subclasses__())
