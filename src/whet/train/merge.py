"""Several LoRA runs made into one, by weight: a run folder like any other, that says where it came from.

`linear` is the weighted sum of the changes, exactly; its rank is the sum of the ranks. `svd` is the same sum, cut to a
rank. TIES (Yadav et al. 2023, arXiv 2306.01708) and DARE (Yu et al. 2024, arXiv 2311.03099) drop what changed little,
or at random. All through peft's `add_weighted_adapter`, whose names these are but for one: peft's own `linear` weighs A
and B apart, so that their products mix; the exact sum is its `cat`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from whet.errors import RecipeError, RunError, did_you_mean
from whet.methods import on_peft
from whet.models.several import Several, key_of, load_adapters
from whet.recipe import LoRAPart, Recipe, load_recipe, recipe_yaml
from whet.train.checkpoint import whole_folder

Combination = Literal[
    "linear", "svd", "ties", "dare_linear", "dare_ties", "ties_svd", "dare_linear_svd", "dare_ties_svd"
]
"""Without `_svd`, TIES and DARE work on A and B apart and want equal ranks; with it, on the changes B A, whose result
is then cut to a rank."""

_MERGED = "merged"


def merge(
    runs: Sequence[Path | str],
    weights: Sequence[float] | None = None,
    combination: Combination = "linear",
    *,
    output: Path | str,
    density: float | None = None,
    rank: int | None = None,
    seed: int = 0,
) -> Path:
    """Combine finished LoRA runs on one base into the new run folder `output`, and return it.

    weights: a factor of each run's change; None: 1 / number of runs each. density: share of each change that TIES and
    DARE keep, above 0 and up to 1. rank: of the result, for `svd` and its kin; None: the largest of the runs'. seed: of
    what DARE drops.

    Raises RecipeError for settings that do not go together, and RunError for an output that is taken, runs with other
    bases or methods than the first, changes that are no plain LoRA, and ranks that the combination cannot take. Nothing
    is left behind then.
    """
    factors = _check(runs, weights, combination, density, rank)
    target = Path(output).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError("it is not empty", where=f"output={output}", do="name another output")
    folders = [Path(run).expanduser() for run in runs]
    several = load_adapters({f"{number}": folder for number, folder in enumerate(folders)})
    recipes = [load_recipe(folder / "recipe.yaml") for folder in folders]
    _check_plain(several, folders)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _combine(several.model, factors, combination, density, rank)
    history = {
        "runs": [str(run) for run in runs],
        "weights": factors,
        "combination": combination,
        **({"density": density} if density is not None else {}),
        **({"seed": seed} if combination.startswith("dare") else {}),
    }
    with whole_folder(target) as folder:
        _write(folder, several, recipes, str(output), history)
    return target


def _check(
    runs: Sequence[Path | str],
    weights: Sequence[float] | None,
    combination: str,
    density: float | None,
    rank: int | None,
) -> list[float]:
    """The weights, as numbers."""
    if isinstance(runs, (str, Path)) or len(runs) < 2:
        raise RecipeError(
            "merging needs two runs or more", where="merge", do="whet merge RUN RUN ... --output runs/new"
        )
    factors = [1 / len(runs)] * len(runs) if weights is None else [float(weight) for weight in weights]
    if len(factors) != len(runs) or not all(map(math.isfinite, factors)):
        raise RecipeError(f"{len(runs)} runs, and weights {factors}", where="weights", do="give a number for each run")
    known = get_args(Combination)
    if combination not in known:
        near = did_you_mean(combination, known)
        raise RecipeError(
            f"no combination {combination!r}.{near}", where="combination", do=f"known: {', '.join(known)}"
        )
    drops = combination.startswith(("ties", "dare"))
    if drops and (density is None or not 0 < density <= 1):
        found = "no density" if density is None else f"a density of {density}"
        raise RecipeError(
            f"{combination} with {found}", where="density", do="give a share above 0 and up to 1, such as 0.5"
        )
    if not drops and density is not None:
        raise RecipeError(f"{combination} drops nothing, so it has no density", where="density", do="leave it out")
    if rank is not None and (not combination.endswith("svd") or rank < 1):
        raise RecipeError(f"{combination} cannot take rank={rank}", where="rank", do="leave it out, or use svd")
    return factors


def _check_plain(several: Several, folders: list[Path]) -> None:
    """Raises RunError for what is more than B A, which peft would leave out or refuse without saying where."""
    for number, folder in enumerate(folders):
        config = (getattr(several.model, "peft_config", None) or {}).get(key_of(number))
        if config is None or config.peft_type.value != "LORA":
            raise RunError(
                "only LoRA runs can be merged", where=str(folder), do="stack or switch them: whet.load_adapters"
            )
        for key in ("use_dora", "modules_to_save", "trainable_token_indices"):
            if getattr(config, key, None):
                raise RunError(
                    f"it was trained with method.{key}, which is no low-rank change and cannot be combined",
                    where=str(folder),
                    do="leave this run out",
                )
        first = several.model.peft_config[key_of(0)]
        for key in ("layers_to_transform", "exclude_modules"):  # peft would take the first run's for all
            if getattr(config, key) != getattr(first, key):
                raise RunError(
                    f"its method.{key} is {getattr(config, key)}, and that of {folders[0]} is {getattr(first, key)}",
                    where=str(folder),
                    do="merge runs that adapt the same layers",
                )


def _combine(model: Any, factors: list[float], combination: str, density: float | None, rank: int | None) -> None:
    """The new adapter beside the others. Raises RunError for ranks or modules that cannot be combined."""
    names = [key_of(number) for number in range(len(factors))]
    # peft makes the new config from the first one, and its scale would then be lora_alpha / sqrt(r).
    model.peft_config[names[0]].use_rslora = False
    try:
        model.add_weighted_adapter(
            names,
            factors,
            _MERGED,
            combination_type="cat" if combination == "linear" else combination,
            density=density,
            svd_rank=rank,
        )
    except (ValueError, TypeError) as error:
        ranks = ", ".join(str(model.peft_config[name].r) for name in names)
        raise RunError(
            f"{combination} cannot combine them (of ranks {ranks}): {' '.join(str(error).split())[:200]}",
            where="merge",
            do="runs of different ranks go together by linear, svd, ties_svd, dare_linear_svd and dare_ties_svd",
        ) from error


def _write(folder: Path, several: Several, recipes: list[Recipe], output: str, history: dict[str, Any]) -> None:
    """adapter/, recipe.yaml and summary.json."""
    on_peft.save(several.model, folder / "adapter", _MERGED)
    several.tokenizer.save_pretrained(folder / "adapter")
    config = several.model.peft_config[_MERGED]
    targets = config.target_modules if isinstance(config.target_modules, str) else sorted(config.target_modules)
    part = LoRAPart(
        r=config.r,
        lora_alpha=config.lora_alpha,
        target_modules=targets,
        layers_to_transform=config.layers_to_transform,
        exclude_modules=config.exclude_modules,
    )
    data = {one.model_dump_json(): one for recipe in recipes for one in recipe.data}
    merged = recipes[0].model_copy(update={"method": part, "data": list(data.values()), "output": output})
    (folder / "recipe.yaml").write_text(recipe_yaml(merged), encoding="utf-8")
    summary: dict[str, Any] = {
        "status": "finished",
        "model": {
            "name": merged.model.name,
            "architecture": several.model.config.get_text_config().model_type,
            "trainable_parameters": sum(p.numel() for n, p in several.model.named_parameters() if f".{_MERGED}." in n),
        },
        "method": "lora",
        "result": "adapter",
        "before": None,
        "after": None,
        "samples": [],
        "merged": history,
        "versions": {name: version(name) for name in ("whet", "torch", "transformers", "peft")},
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8")
