"""What training left behind, opened: a run folder with its adapter or its model. Plain models open the same way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from whet.errors import ModelError, RunError
from whet.methods import METHODS, Method
from whet.models.embed import embed
from whet.models.in_context.choose import Embed
from whet.models.in_context.prompt import FILE, Prompt, read_prompt, with_prompt
from whet.models.load import Loaded, load, load_tokenizer, read_tokenizer
from whet.models.safety import check_adapter
from whet.recipe import ModelPart, load_recipe


@dataclass(frozen=True)
class Side:
    """A model that answers, by its name. `answering()` is to be around every answer of this side: the base of an
    adapter is the run's own model with the adapter off."""

    name: str
    model: Any
    tokenizer: Any
    answering: Callable[[], AbstractContextManager[None]] = nullcontext


def open_sides(
    folder: Path | str, *, base: bool = False, device: str | torch.device = "cpu"
) -> tuple[list[Side], list[str]]:
    """The base (where asked for) and the run, in this order, and what should be told about their files.

    With an adapter both are one model in memory. Raises RunError and ModelError as `open_run` does.
    """
    loaded = open_run(folder, device=device)
    sides = [Side(loaded.name, loaded.model, loaded.tokenizer)]
    notes = loaded.notes
    method = method_of(folder) if base else None
    if method is not None and result_of(Path(folder).expanduser()).name == "adapter":
        sides.insert(0, Side("base", loaded.model, loaded.tokenizer, partial(method.base, loaded.model)))
    elif base and loaded.prompt is not None:
        part = load_recipe(Path(folder).expanduser() / "recipe.yaml").model
        sides.insert(0, Side("base", loaded.model, load_tokenizer(part)))
    elif base:
        before = open_run(folder, base=True, device=device)
        sides.insert(0, Side("base", before.model, before.tokenizer))
        notes = before.notes + notes
    return sides, notes


def open_run(
    folder: Path | str,
    *,
    base: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    whole: bool = False,
    rewards: bool = False,
) -> Loaded:
    """The model that a run made, with the tokenizer and the chat template that it was trained with.

    `folder` may also be a model's folder or name. `base` opens the model that the run started from instead, with the
    run's tokenizer, so that both are asked the very same. `dtype` is that of the weights; None: as the recipe says.
    `whole` opens a base that the recipe quantizes as it is. `rewards` opens a reward model, and only that.

    Raises RunError for a run that is not finished (its checkpoints are not a result), one whose base is gone or does
    not fit its adapter, and for the base of something that is no run; ModelError as `whet.models.load.load` does.
    """
    run = Path(folder).expanduser()
    if not (run / "recipe.yaml").is_file():
        if base:
            raise RunError(
                "a model, not a run: it has no base to compare with", where=str(folder), do="leave out --base"
            )
        return load(str(folder), dtype, device, rewards)
    recipe = load_recipe(run / "recipe.yaml")
    if not base:
        _check_objective(recipe.objective.kind, rewards, run)
    part = recipe.model.model_copy(update={"quantize": None}) if whole else recipe.model
    result = result_of(run)
    if result.name == "model" and not base:
        # What was trained is saved whole, new tokens with it.
        saved = part.model_copy(update={"name": str(result), "revision": None, "new_tokens": []})
        return replace(load(saved, dtype, device, rewards), name=str(folder))
    if result.name == "adapter":
        check_adapter(result)
    loaded = load_base(part, run, device, dtype, rewards)
    tokenizer = tokenizer_of(result, part, loaded.model.config)
    if base:
        return replace(loaded, tokenizer=tokenizer)
    if result.name == "prompt":
        return prompted(replace(loaded, name=str(folder), folder=result), read_prompt(result))
    model = with_adapter(loaded.model, result, part, recipe.method.kind)
    return Loaded(model, tokenizer, str(folder), result, loaded.notes)


def method_of(folder: Path | str) -> Method | None:
    """The method of a run; None for a prompt run, a model's folder or name. Raises RecipeError for a broken recipe."""
    recipe = Path(folder).expanduser() / "recipe.yaml"
    return METHODS.get(load_recipe(recipe).method.kind) if recipe.is_file() else None


def prompted(loaded: Loaded, prompt: Prompt) -> Loaded:
    """The model asked with a prompt."""
    by_model: Embed = lambda texts: embed(loaded.model, loaded.tokenizer, texts)  # noqa: E731
    return replace(loaded, tokenizer=with_prompt(loaded.tokenizer, prompt, by_model), prompt=prompt)


def result_of(run: Path) -> Path:
    """The folder of a run's result. Raises RunError where there is none yet."""
    for result, file in (
        (run / "adapter", "adapter_config.json"),
        (run / "model", "config.json"),
        (run / "prompt", FILE),
    ):
        if (result / file).is_file():
            return result
    steps = sorted((run / "checkpoints").glob("step-*"), key=lambda step: step.stat().st_mtime)
    what = (
        f"the run is not finished: its last checkpoint is {steps[-1].name}" if steps else "the run has made nothing yet"
    )
    raise RunError(f"{what}, and there is neither adapter/ nor model/", where=str(run), do=f"whet train --resume {run}")


def _check_objective(kind: str, rewards: bool, run: Path) -> None:
    if rewards and kind != "reward":
        raise RunError(
            f"a run of objective {kind}, not a reward model", where=str(run), do="train one: objective.kind=reward"
        )
    if kind == "reward" and not rewards:
        raise RunError(
            "a reward model: it gives answers a number, and writes none itself",
            where=str(run),
            do="grade with it: a grader of type reward_model, in `whet grade` or in objective.grader of ppo and grpo",
        )


def load_base(
    part: ModelPart,
    run: Path,
    device: str | torch.device,
    dtype: torch.dtype | None = None,
    rewards: bool = False,
) -> Loaded:
    """The model that a run started from. Raises RunError where it cannot be loaded any more."""
    try:
        return load(part, dtype, device, rewards)
    except ModelError as error:
        raise RunError(
            f"the model that this run started from cannot be loaded: {error.where or part.name}: {error.what}",
            where=f"{run / 'recipe.yaml'}: model.name",
            do=f"put it back or correct model.name there; {error.do}",
        ) from error


def tokenizer_of(result: Path, part: ModelPart, config: Any) -> Any:
    """The tokenizer saved with the result; the base's own where none was."""
    if (result / "tokenizer_config.json").is_file():
        return read_tokenizer(result, part, config)
    return load_tokenizer(part)


def with_adapter(model: Any, adapter: Path, part: ModelPart, kind: str, name: str = "default") -> Any:
    """The base with a run's adapter on it, every weight of it in its place. Raises RunError where it does not fit."""
    load_adapter = METHODS[kind].load
    assert load_adapter is not None, "a method whose result is an adapter can load one"
    try:
        return load_adapter(model, adapter, name)
    except RunError as error:
        raise _unfit(adapter, part, error.what) from error


def _unfit(adapter: Path, part: ModelPart, why: str) -> RunError:
    return RunError(
        f"the adapter does not fit {part.name}: {why[:300]}",
        where=str(adapter),
        do="check that model.name and model.revision in recipe.yaml are what it was trained on",
    )
