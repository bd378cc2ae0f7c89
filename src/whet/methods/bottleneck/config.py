"""What an adapter is, as it stands in `adapter_config.json`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from whet.errors import RecipeError, RunError
from whet.recipe import BottleneckPart

FORMAT, VERSION = "whet-bottleneck", 1
_CHOICES = {key: get_args(BottleneckPart.model_fields[key].annotation) for key in ("variant", "non_linearity")}


@dataclass(frozen=True)
class Config:
    """An adapter's kind and sizes, and what it needs of its base. Sizes are numbers of units, or of layers."""

    variant: str
    non_linearity: str
    scaling: float
    bottleneck_size: int
    hidden_size: int
    num_hidden_layers: int
    model_type: str
    base_model_name_or_path: str

    @classmethod
    def of(cls, part: BottleneckPart, model: Any) -> Config:
        """For a model. Raises RecipeError where its width, divided by `reduction_factor`, leaves no unit."""
        text = model.config.get_text_config()
        size = int(text.hidden_size // part.reduction_factor)
        if size < 1:
            raise RecipeError(
                f"reduction_factor={part.reduction_factor:g} leaves nothing of the model's width, {text.hidden_size}",
                where="method.reduction_factor",
                do=f"set it to {text.hidden_size} or less",
            )
        return cls(
            variant=part.variant,
            non_linearity=part.non_linearity,
            scaling=float(part.scaling),
            bottleneck_size=size,
            hidden_size=int(text.hidden_size),
            num_hidden_layers=int(text.num_hidden_layers),
            model_type=str(text.model_type),
            base_model_name_or_path=str(getattr(model, "name_or_path", "")),
        )

    def write(self, path: Path) -> None:
        tree = {"format": FORMAT, "format_version": VERSION, **dataclasses.asdict(self)}
        path.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Config:
        """Raises RunError for a file of another format or version, and for a key that is missing or no such value."""
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"cannot be read: {error}", where=str(path)) from None
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            raise RunError("no bottleneck adapter of whet", where=str(path), do=f'its "format" would be "{FORMAT}"')
        if tree.get("format_version") != VERSION:
            raise RunError(
                f"format_version is {tree.get('format_version')!r}, and this whet reads {VERSION}",
                where=str(path),
                do="pip install -U whet",
            )
        values: dict[str, Any] = {}
        for key in dataclasses.fields(cls):
            value: Any = tree.get(key.name)
            if not _fits(key.name, str(key.type), value):
                raise RunError(f"{key.name} is {value!r}", where=str(path), do="take the file from the run again")
            values[key.name] = float(value) if key.type == "float" else value
        return cls(**values)

    def misfit(self, model: Any) -> str | None:
        """The first way in which the model is another base than this adapter's, or None."""
        text = model.config.get_text_config()
        for key in ("model_type", "hidden_size", "num_hidden_layers"):
            if getattr(self, key) != getattr(text, key):
                return f"{key} is {getattr(self, key)!r} for the adapter and {getattr(text, key)!r} for the model"
        return None


def _fits(key: str, kind: str, value: Any) -> bool:
    if key in _CHOICES:
        return value in _CHOICES[key]
    if kind == "int":
        return type(value) is int and value > 0
    if kind == "float":
        return type(value) in (int, float) and 0 < value < float("inf")
    return isinstance(value, str)
