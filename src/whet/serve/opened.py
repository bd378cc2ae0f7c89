"""Runs and models by the names that they are served under. Adapters of one method on one base are one model in memory,
and so is that base where it is served too."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from whet.errors import RunError, did_you_mean
from whet.models.load import load_tokenizer
from whet.models.saved import Side, open_run, result_of
from whet.models.several import Several, check_alike, load_adapters
from whet.models.virtual import virtual_tokens
from whet.recipe import Recipe, load_recipe
from whet.serve.faults import ApiFault
from whet.serve.inference.scheduler import Scheduler
from whet.tokens.pieces import Bytes
from whet.tokens.template import Renderer


@dataclass(frozen=True)
class Served:
    """A model under a name, with the template and the stop tokens that it was trained with. `longest`: tokens of a
    prompt with its answer."""

    name: str
    source: str
    created: int
    side: Side
    renderer: Renderer
    bytes: Bytes
    longest: int | None
    scheduler: Scheduler

    @property
    def tokenizer(self) -> Any:
        return self.side.tokenizer

    @property
    def vocabulary(self) -> int:
        return int(self.side.model.config.get_text_config().vocab_size)


class Shelf:
    """All that is served, by name."""

    def __init__(self, served: Sequence[Served], notes: Sequence[str]):
        self.by_name = {each.name: each for each in served}
        self.notes = list(notes)

    @property
    def schedulers(self) -> list[Scheduler]:
        return list(dict.fromkeys(each.scheduler for each in self.by_name.values()))

    def find(self, name: str) -> Served:
        """Raises ApiFault."""
        if name not in self.by_name:
            near = did_you_mean(name, self.by_name)
            raise ApiFault(404, f"the model {name!r} does not exist.{near}", param="model", code="model_not_found")
        return self.by_name[name]

    def close(self) -> None:
        for scheduler in self.schedulers:
            scheduler.close()


def open_shelf(
    sources: Mapping[str, str],
    *,
    at_once: int = 64,
    most_waiting: int = 1024,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Shelf:
    """Open all of them. `dtype` is that of frozen weights; None: as recipes say, and as the machine is fast for plain
    models. Raises RunError and ModelError as `whet.models.saved.open_run` does."""
    served: list[Served] = []
    notes: list[str] = []
    for group in _groups(sources):
        sides, more = (_together if len(group) > 1 else _alone)(group, device, dtype)
        notes += more
        renderers = {name: Renderer(side.tokenizer) for name, side in sides.items()}
        longest = {name: _longest(side) for name, side in sides.items()}
        scheduler = Scheduler(
            {name: (side, renderers[name].stop_ids) for name, side in sides.items()},
            at_once=at_once,
            most_waiting=most_waiting,
        )
        served += [
            Served(
                name, group[name], _created(group[name]), side, renderers[name], Bytes(side.tokenizer), longest[name],
                scheduler,
            )
            for name, side in sides.items()
        ]  # fmt: skip
    order = list(sources)
    return Shelf(sorted(served, key=lambda each: order.index(each.name)), notes)


def _longest(side: Side) -> int | None:
    longest = getattr(side.model.config.get_text_config(), "max_position_embeddings", None)
    with side.answering():
        return longest - virtual_tokens(side.model) if isinstance(longest, int) else None


def _created(source: str) -> int:
    path = Path(source).expanduser()
    return int(path.stat().st_mtime) if path.exists() else int(time.time())


def _groups(sources: Mapping[str, str]) -> list[dict[str, str]]:
    """Which of them are one model in memory: adapters first, their base last."""
    groups: list[dict[str, str]] = []
    firsts: list[tuple[Path, Recipe]] = []
    plain = {}
    for name, source in sources.items():
        run = Path(source).expanduser()
        if not (run / "recipe.yaml").is_file():
            plain[name] = source
            continue
        recipe = load_recipe(run / "recipe.yaml")
        adapter = result_of(run).name == "adapter"
        group = next((n for n, first in enumerate(firsts) if adapter and _alike(first, (run, recipe))), None)
        if group is not None:
            groups[group][name] = source
            continue
        groups.append({name: source})
        firsts.append((run, recipe))
    for name, source in plain.items():
        of = (n for n, (run, recipe) in enumerate(firsts) if _is_base(source, run, recipe))
        group = next(of, None)
        if group is not None:
            groups[group][name] = source
        else:
            groups.append({name: source})
    return groups


def _alike(first: tuple[Path, Recipe], other: tuple[Path, Recipe]) -> bool:
    if result_of(first[0]).name != "adapter":
        return False
    try:
        check_alike({"first": first[0], "other": other[0]}, {"first": first[1], "other": other[1]})
    except RunError:
        return False
    return first[1].model.dtype == other[1].model.dtype


def _is_base(source: str, run: Path, recipe: Recipe) -> bool:
    """Whether a plain model is what a run's adapter lies on, opened in the same way."""
    part = recipe.model
    changed = part.revision or part.quantize or part.new_tokens or part.dtype != "auto"
    return part.name == source and not changed and result_of(run).name == "adapter"


def _alone(
    group: Mapping[str, str], device: str | torch.device, dtype: torch.dtype | None
) -> tuple[dict[str, Side], list[str]]:
    [(name, source)] = group.items()
    loaded = open_run(source, device=device, dtype=dtype)
    loaded.model.eval()
    return {name: Side(name, loaded.model, loaded.tokenizer)}, loaded.notes


def _together(
    group: Mapping[str, str], device: str | torch.device, dtype: torch.dtype | None
) -> tuple[dict[str, Side], list[str]]:
    runs = {name: source for name, source in group.items() if (Path(source).expanduser() / "recipe.yaml").is_file()}
    several = load_adapters(runs, device, dtype)
    several.model.eval()
    sides = {
        name: Side(name, several.model, several.tokenizers[name], partial(_switched, several, name)) for name in runs
    }
    part = load_recipe(Path(next(iter(runs.values()))).expanduser() / "recipe.yaml").model
    for name in group.keys() - runs.keys():
        sides[name] = Side(name, several.model, load_tokenizer(part), several.base)
    return sides, several.notes


def _switched(several: Several, name: str) -> AbstractContextManager[None]:
    if several.active != [name]:
        several.switch(name)
    return nullcontext()
