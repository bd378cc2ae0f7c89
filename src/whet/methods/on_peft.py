"""What the methods of the peft library share: put on, switch off, save, load, merge. Classes and files are peft's."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from whet.errors import RecipeError, RunError
from whet.methods.contract import Facts, Given, Method, refuse_new_tokens

_MISFITS = (ValueError, RuntimeError, AssertionError, AttributeError, KeyError, TypeError)


def adapt(model: Any, config: Any) -> Any:
    """The model as a PeftModel with this config; what is trained is float32 whatever the base is.

    Raises RecipeError where the config's modules name nothing in the model, or a setting does not fit them.
    """
    from peft import get_peft_model

    wanted = getattr(config, "target_modules", None)
    known = ", ".join(module_names(model))  # before peft adds its own
    _check_saved_whole(model, getattr(config, "modules_to_save", None) or ())
    if model.get_output_embeddings() is None:  # a model that gives rewards: its head is trained and saved whole
        config.task_type = "SEQ_CLS"
    try:
        with warnings.catch_warnings(action="ignore"):  # of tied weights and the like, which the export's gate checks
            warnings.filterwarnings("error", message="Invalid .*Adjusted")  # a setting that peft changes in silence
            adapted = get_peft_model(model, config)
    except (*_MISFITS, UserWarning, re.error) as error:
        raise RecipeError(
            f"peft cannot put {str(config.peft_type.value).lower()} on {wanted or 'this model'!r}: {_line(error)}",
            where="method.target_modules" if "target" in str(error).lower() else "method",
            do=f"the model's modules are {known}",
        ) from None
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def method(facts: Facts, config: Callable[[Any, Any, Given], Any], embeds: bool = False, norms: bool = False) -> Method:
    """A method that is a config of peft's and nothing more. `config(model, part, given)` makes it; `embeds`: whether it
    trains embeddings, so that new tokens may be added; `norms`: whether it trains the model's own norms, whose float32
    would meet weights of another type outside of autocast: then the base is float32 too."""

    def apply(model: Any, part: Any, given: Given) -> Any:
        if not embeds:
            refuse_new_tokens(given, part.kind)
        return adapt(model, config(model, part, given))

    def load_norms(model: Any, folder: Path, name: str = "default") -> Any:
        dtype = model.get_input_embeddings().weight.dtype
        return load(model, folder, name).to(dtype)

    opener = load_norms if norms else load
    merger = merge if facts.merges else None
    return Method(facts, apply, base, save, opener, switch=switch, merge=merger, needs_float32=norms)


def check_rank(model: Any, r: int, key: str) -> None:
    """Raises RecipeError for a rank over the model's width, which would be no low rank."""
    width = int(model.config.get_text_config().hidden_size)
    if r > width:
        raise RecipeError(
            f"a rank of {r:,} in a model of width {width:,}", where=key, do=f"at most {width:,}; 8 to 64 is usual"
        )


def _check_saved_whole(model: Any, names: Iterable[str]) -> None:
    """peft passes over a name that no module has."""
    for name in names:
        if not any(module == name or module.endswith(f".{name}") for module, _ in model.named_modules()):
            raise RecipeError(
                f"no module is called {name!r}",
                where="method.modules_to_save",
                do=f"the model's modules are {', '.join(module_names(model))}",
            )


def module_names(model: Any) -> list[str]:
    """The last part of the name of every module with a weight: what `target_modules` may say."""
    return sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "weight")})


def base(model: Any) -> AbstractContextManager[None]:
    """Within it, the model answers as it did before."""
    return model.disable_adapter()  # type: ignore[no-any-return]


def save(model: Any, folder: Path, name: str = "default") -> None:
    """`adapter_config.json` and `adapter_model.safetensors`, as `PeftModel.from_pretrained` reads them."""
    # Not "auto": peft would then ask the hub for the base's configuration, to see whether the vocabulary grew.
    with warnings.catch_warnings(action="ignore"):
        model.save_pretrained(folder, selected_adapters=[name], save_embedding_layers=False)
    if (folder / name).is_dir():  # peft's way with any name but `default`
        for file in (folder / name).iterdir():
            file.replace(folder / file.name)
        (folder / name).rmdir()


def load(model: Any, folder: Path, name: str = "default") -> Any:
    """The base with a saved adapter on it, beside those that are there; the first one is active. Every weight of the
    adapter must find its place, and every place a weight: peft alone would warn, and answer with half an adapter.

    Raises RunError that names the first weight without a place.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    try:
        with warnings.catch_warnings(action="ignore"):  # of missing weights, which are an error below
            if isinstance(model, PeftModel):
                model.load_adapter(str(folder), name, torch_device=str(model.device))
                adapted = model
            else:
                adapted = PeftModel.from_pretrained(model, str(folder), name, torch_device=str(model.device))
    except Exception as error:  # peft's and torch's own, by the method and by what does not fit
        raise RunError(_line(error), where=str(folder)) from error
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        saved = set(file.keys())
    places = set(get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False))
    if astray := sorted(saved ^ places):
        only = "the adapter" if astray[0] in saved else "the model"
        raise RunError(f"{astray[0]} is only in {only}", where=str(folder))
    return adapted.eval()


def switch(model: Any, names: Sequence[str]) -> None:
    """Answer with these adapters; changes by several add up. Raises RunError where the method takes one at a time."""
    if len(names) == 1:
        model.set_adapter(names[0], inference_mode=True)
        return
    if model.active_peft_config.is_prompt_learning:
        raise RunError(f"virtual tokens of {len(names)} adapters at once", do="switch to one of them")
    model.base_model.set_adapter(list(names), inference_mode=True)


def merge(model: Any) -> Any:
    """The change written into the weights: a plain transformers model that answers alike.

    Raises RunError where a merged weight is not a number.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise RunError(f"the adapter cannot be merged: {_line(error)}") from error


def settings(part: Any, *without: str) -> dict[str, Any]:
    """A part's keys as peft's config takes them, those that are None left to peft."""
    given = part.model_dump(exclude={"kind", *without})
    return {key: value for key, value in given.items() if value is not None}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
