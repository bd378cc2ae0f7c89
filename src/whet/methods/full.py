"""Full fine-tuning: every parameter is trained, or the named parts of the model."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from whet.errors import RecipeError, RunError
from whet.methods.contract import Facts, Given, Method
from whet.recipe import FullPart

_LAYERS = re.compile(r"layers\.(\d+)(?:-(\d*))?")
_LAYER_OF = re.compile(r"\.(?:layers|h|blocks?)\.(\d+)\.")


def apply(model: Any, part: FullPart, given: Given) -> Any:
    """All parameters, or those of `part.trainable`, trainable and in float32: bfloat16 steps of 1e-5 would round to
    nothing. Raises RecipeError for a name that no parameter has."""
    parameters = dict(model.named_parameters(remove_duplicate=False))  # a head tied to the embeddings has a name too
    names = [name for pattern in part.trainable or [""] for name in _named(pattern, parameters)]
    wanted = {id(parameters[name]) for name in names}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in wanted)
        parameter.data = parameter.data.float()
    return model


def base(model: Any) -> AbstractContextManager[None]:
    """Raises RunError: full fine-tuning overwrites the base, which must be loaded again."""
    raise RunError("full fine-tuning keeps no base inside the model", do="load the base model beside it")


def save(model: Any, folder: Path) -> None:
    """`config.json` and `model.safetensors`, float32, as `AutoModelForCausalLM.from_pretrained` reads them."""
    model.save_pretrained(folder)


def rate(name: str, part: FullPart, layers: int) -> float:
    """Layer-wise decay: layer i of n learns at decay^(n - 1 - i), the embeddings at decay^n, the head and what follows
    the last layer at 1 (Howard and Ruder 2018, arXiv 1801.06146, section 3.2, as ELECTRA and BEiT have it)."""
    if part.layerwise_lr_decay == 1.0:
        return 1.0
    layer = layer_of(name)
    if layer is not None:
        return float(part.layerwise_lr_decay ** (layers - 1 - layer))
    embeds = "embed" in name or re.search(r"\.w[tp]e\.", name) is not None
    return float(part.layerwise_lr_decay**layers) if embeds else 1.0


def layer_of(name: str) -> int | None:
    """The number of the layer that a parameter belongs to."""
    found = _LAYER_OF.search(name)
    return int(found[1]) if found else None


def _named(pattern: str, parameters: dict[str, Any]) -> set[str]:
    span = _LAYERS.fullmatch(pattern)
    if span:
        first = int(span[1])
        last = first if "-" not in pattern else int(span[2]) if span[2] else max(_numbers(parameters))
        found = {name for name in parameters if (n := layer_of(name)) is not None and first <= n <= last}
    else:
        found = {name for name in parameters if pattern in name}
    if not found:
        pieces = sorted({piece for name in parameters for piece in name.split(".") if not piece.isdigit()})
        layers = f"layers.0 to layers.{max(_numbers(parameters), default=0)}"
        raise RecipeError(
            f"{pattern!r} names no parameter of this model",
            where="method.trainable",
            do=f"known are {layers}, and {', '.join(pieces)}",
        )
    return found


def _numbers(parameters: dict[str, Any]) -> list[int]:
    return [n for name in parameters if (n := layer_of(name)) is not None]


METHOD = Method(
    facts=Facts("every parameter, or the parts you name", "", quantizes=False, private=True),
    apply=apply,
    base=base,
    save=save,
    result="model",
    needs_float32=True,
    rate=rate,
)
