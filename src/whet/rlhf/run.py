"""The stages of `whet rlhf`, each a run folder of its own within the output:

    1-sft/  1-sft-merged/   2-preferences/   3-reward/   4-policy/   comparison.json   report.html

A stage that is finished is taken as it is, one that was interrupted goes on from its checkpoint: the same command again
goes on where it stopped. What is wrong with any stage's recipe or rows is found before the first one starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.errors import RecipeError, RunError, StorageError
from whet.look import write_whole
from whet.models.export.formats import export
from whet.recipe import Recipe
from whet.recipe.rlhf import RLHFRecipe, policy_tree
from whet.rlhf.before_after import Compared, compared
from whet.rlhf.page import page
from whet.rlhf.preferences import judged
from whet.train.folder import read_summary
from whet.train.run import Run

Train = Callable[[Recipe], Run]
"""`whet.api.run`, or what stands in for it."""
Resume = Callable[[Path], Run]


@dataclass(frozen=True)
class Circle:
    """What came out: the policy's run folder, and the comparison where one was asked for."""

    folder: Path
    policy: Path
    comparison: Compared | None


@dataclass
class _Stages:
    recipe: RLHFRecipe
    folder: Path
    train: Train
    resume: Resume
    say: Callable[[str], None]

    def start(self) -> str:
        """The model that preferences, reward and policy begin from: the recipe's, or that after the supervised stage,
        as a plain model's folder."""
        if self.recipe.sft is None:
            model = self.recipe.model
            return str(model["name"] if isinstance(model, dict) else model)
        run = self._trained("sft", self.folder / "1-sft", self.recipe.model)
        if (run / "model").is_dir():
            return str(run / "model")
        merged = self.folder / "1-sft-merged"
        if not (merged / "config.json").is_file():
            self.say("the supervised start, adapter and base in one model")
            export(run, "hf", merged)
        return str(merged)

    def preferences(self, model: str) -> str:
        """The file of pairs."""
        part = self.recipe.preferences
        if part.data is not None:
            return part.data
        path = self.folder / "2-preferences" / "preferences.jsonl"
        if path.is_file():
            return str(path)
        _made(path.parent)
        if part.review is not None:
            self.say(f"preferences from the review {part.review}")
            _from_review(Path(part.review), path)
            return str(path)
        self.say("preferences: answers are sampled and judged")
        found = judged(model, part, path)
        self.say(
            f"{found.pairs:,} pairs; {found.equal:,} prompts without one, {found.ungraded:,} answers without a grade"
        )
        return str(path)

    def policy(self, model: str, pairs: str) -> Path:
        """The run that people would prefer."""
        if self.recipe.offline:
            return self._trained("policy", self.folder / "4-policy", model, data=pairs)
        reward = None
        if self.recipe.reward is not None:
            reward = self._trained("reward", self.folder / "3-reward", model, data=pairs, objective="reward")
        objective = policy_tree(self.recipe, reward)
        return self._trained("policy", self.folder / "4-policy", model, forced={"objective": objective})

    def _trained(self, name: str, folder: Path, model: Any, forced: dict[str, Any] | None = None, **more: Any) -> Path:
        """The finished run of a stage."""
        if read_summary(folder).get("status") == "finished":
            self.say(f"{name}: done already, {folder}")
            return folder
        self.say(f"{name}: {folder}")
        if (folder / "recipe.yaml").is_file():
            self.resume(folder)
        else:
            self.train(_stage(self.recipe, name, model, folder, forced, **more))
        if read_summary(folder).get("status") != "finished":
            raise RunError(f"the stage {name} did not finish", where=str(folder), do="the same command goes on with it")
        return folder


def circle(recipe: RLHFRecipe, train: Train, resume: Resume, say: Callable[[str], None] = lambda text: None) -> Circle:
    """All stages. Raises what they raise; RunError for an output that holds the stages of another recipe."""
    folder = Path(recipe.output)
    check(recipe)
    _claim(folder, recipe)
    stages = _Stages(recipe, folder, train, resume, say)
    start = stages.start()
    policy = stages.policy(start, stages.preferences(start))
    found = None
    if recipe.compare is not None:
        say("before and after, on held-out prompts")
        found = compared(start, str(policy), recipe.compare)
        write_whole(folder / "comparison.json", json.dumps(found.tree(), indent=1, ensure_ascii=False))
    write_whole(folder / "report.html", page(recipe, folder, found))
    return Circle(folder, policy, found)


def check(recipe: RLHFRecipe) -> None:
    """Every stage's recipe, and that its files are there. Raises RecipeError."""
    later = Path(recipe.output)
    pairs = recipe.preferences.data or "pairs"
    if recipe.sft is not None:
        _stage(recipe, "sft", recipe.model, later)
    if recipe.reward is not None:
        _stage(recipe, "reward", "model", later, data=pairs, objective="reward")
    objective = policy_tree(recipe, later if recipe.reward is not None else None)
    more = {"data": pairs} if recipe.offline else {}
    _stage(recipe, "policy", "model", later, {"objective": objective}, **more)
    part, compare = recipe.preferences, recipe.compare
    named = {
        "preferences.data": part.data,
        "preferences.prompts": part.prompts,
        "preferences.review": part.review,
        "compare.prompts": compare.prompts if compare else None,
        "compare.perplexity": compare.perplexity if compare else None,
        **{f"{stage}.data": (getattr(recipe, stage) or {}).get("data") for stage in ("sft", "reward", "policy")},
    }
    for key, path in named.items():
        if isinstance(path, str) and "://" not in path and not path.startswith("hub:"):
            plain = path.rsplit("#", 1)[0]
            if not Path(plain).exists():
                raise RecipeError(f"no such file or folder: {plain}", where=key, do="check the path")


def _stage(
    recipe: RLHFRecipe, name: str, model: Any, folder: Path, forced: dict[str, Any] | None = None, **more: Any
) -> Recipe:
    stage = recipe if not forced else recipe.model_copy(update={name: {**(getattr(recipe, name) or {}), **forced}})
    return stage.stage(name, model, folder, **more)


def _claim(folder: Path, recipe: RLHFRecipe) -> None:
    """The folder, with the recipe in it; it may hold stages of this recipe and of no other."""
    path, text = folder / "rlhf.json", json.dumps(recipe.model_dump(mode="json"), indent=1, ensure_ascii=False)
    if path.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise RunError(
                "it holds the stages of another recipe",
                where=f"output={folder}",
                do="name another output, or delete it",
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise RunError("it is not empty", where=f"output={folder}", do="name another output")
    _made(folder)
    write_whole(path, text)


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot be made: {error.strerror}", where=str(folder), do="name another output") from error


def _from_review(review: Path, path: Path) -> None:
    """The preference rows of a review's results."""
    found = review / "results" / "preferences.jsonl"
    if not found.is_file():
        raise RunError(
            "the review has no results yet", where=str(review), do=f"whet review {review} --results writes them"
        )
    write_whole(path, found.read_text(encoding="utf-8"))
