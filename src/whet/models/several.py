"""Several runs on one base in one process: loaded by name, switched, stacked or added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from whet.errors import RunError, did_you_mean
from whet.methods import METHODS, Method
from whet.models.safety import check_adapter
from whet.models.saved import load_base, result_of, tokenizer_of, with_adapter
from whet.recipe import Recipe, load_recipe


@dataclass
class Several:
    """A model with the adapters of several runs. `model` answers with those that `switch` named last; at first with the
    first run's."""

    model: Any
    method: Method
    tokenizers: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    active: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return list(self.tokenizers)

    @property
    def tokenizer(self) -> Any:
        """The active run's, with its chat template; of several, the first one's."""
        return self.tokenizers[self.active[0]]

    def switch(self, *names: str) -> None:
        """Answer with these. Several LoRAs (or other changes of weights) add up; several bottleneck adapters are
        applied in this order.

        Raises RunError for no name, a name that is not here, and several where the method takes one at a time.
        """
        if not names:
            raise RunError("no name to switch to", do="name one, or use `base()` for the model without adapters")
        for name in names:
            if name not in self.tokenizers:
                raise RunError(
                    f"no adapter {name!r} is loaded.{did_you_mean(name, self.names)}",
                    do=f"here: {', '.join(self.names)}",
                )
        assert self.method.switch is not None, "adapters can be switched"
        self.method.switch(self.model, [key_of(self.names.index(name)) for name in names])
        self.active = list(names)

    def base(self) -> AbstractContextManager[None]:
        """Within it, the model answers without any of them."""
        return self.method.base(self.model)


def load_adapters(
    runs: Sequence[Path | str] | Mapping[str, Path | str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Several:
    """The adapters of several runs on one base: `load_adapters(["runs/a", "runs/b"])` names them after their folders,
    `load_adapters({"law": "runs/a"})` as it says. `dtype` is that of the base; None: as the first run's recipe says.

    Raises RunError for runs without an adapter, with different bases or methods, or of one name; and what
    `whet.models.saved.open_run` raises.
    """
    folders = _named(runs)
    recipes = {name: load_recipe(folder / "recipe.yaml") for name, folder in folders.items()}
    check_alike(folders, recipes)
    adapters = {name: _adapter(folder) for name, folder in folders.items()}
    for adapter in adapters.values():
        check_adapter(adapter)
    first, recipe = next(iter(recipes.items()))
    loaded = load_base(recipe.model, folders[first], device, dtype)
    tokenizers = {name: tokenizer_of(adapter, recipe.model, loaded.model.config) for name, adapter in adapters.items()}
    model = loaded.model
    for number, adapter in enumerate(adapters.values()):
        model = with_adapter(model, adapter, recipe.model, recipe.method.kind, key_of(number))
    several = Several(model, METHODS[recipe.method.kind], tokenizers, loaded.notes)
    several.switch(several.names[0])
    return several


def check_alike(folders: Mapping[str, Path], recipes: Mapping[str, Recipe]) -> None:
    """Raises RunError that names the first run with another base, or another method, than the first."""
    (first, recipe), *others = recipes.items()
    for name, other in others:
        if other.method.kind != recipe.method.kind:
            raise RunError(
                f"its method is {other.method.kind}, and that of {folders[first]} is {recipe.method.kind}",
                where=str(folders[name]),
                do="load runs of one method together",
            )
        one, two = (part.model_dump(exclude={"dtype"}) for part in (recipe.model, other.model))
        if key := next((key for key in one if one[key] != two[key]), None):
            raise RunError(
                f"its base differs: model.{key} is {two[key]}, and that of {folders[first]} is {one[key]}",
                where=str(folders[name]),
                do="load runs together that started from the same model",
            )


def key_of(number: int) -> str:
    """An adapter's name inside the model; those of runs may hold anything."""
    return f"run_{number}"


def _named(runs: Sequence[Path | str] | Mapping[str, Path | str]) -> dict[str, Path]:
    if isinstance(runs, str):
        raise RunError("several runs are wanted", where=runs, do=f"give a list: [{runs!r}, ...]")
    if isinstance(runs, Mapping):
        folders = {name: Path(run).expanduser() for name, run in runs.items()}
    else:
        paths = [Path(run).expanduser() for run in runs]
        folders = {path.resolve().name: path for path in paths}
        if len(folders) < len(paths):
            raise RunError(
                "two of the runs have the same name",
                where=", ".join(map(str, paths)),
                do='name them: load_adapters({"a": "one/run", "b": "other/run"})',
            )
    if not folders:
        raise RunError("no run to load", do='load_adapters(["runs/a", "runs/b"])')
    for folder in folders.values():
        if not (folder / "recipe.yaml").is_file():
            raise RunError("no run: there is no recipe.yaml", where=str(folder), do="`whet runs` lists the runs")
    return folders


def _adapter(run: Path) -> Path:
    result = result_of(run)
    if result.name != "adapter":
        raise RunError(
            "its result is a whole model, not an adapter", where=str(run), do="open it alone, with whet.open_run"
        )
    return result
