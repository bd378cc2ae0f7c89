"""Every key of a recipe, for people to read."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from whet.recipe.faults import parts_in
from whet.recipe.graders import GRADERS
from whet.recipe.tree import Recipe


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the recipe, for people to read."""

    key: str
    kind: str
    default: str
    meaning: str


def settings(part: type[BaseModel] = Recipe, prefix: str = "") -> list[Setting]:
    """Every key that a recipe may have, depth first. A grader is one key: docs/graders.md has its kinds."""
    found = []
    for name, described in part.model_fields.items():
        below = [inner for inner in parts_in(described.annotation) if inner not in GRADERS.values()]
        for inner in below:
            found.extend(settings(inner, f"{prefix}{name}."))
        if not below:
            default = (
                "(must be given)"
                if described.is_required()
                else yaml.safe_dump(described.default, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
            )
            kind = _kind_of(described.annotation)
            found.append(Setting(prefix + name, kind, default, described.description or ""))
    return found


def _kind_of(annotation: Any) -> str:
    """A type as a reader of YAML would say it."""
    if annotation in GRADERS.values():
        return "grader"
    if get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(dict.fromkeys(_kind_of(choice) for choice in get_args(annotation)))
    if get_origin(annotation) is Annotated:
        return _kind_of(get_args(annotation)[0])
    if get_origin(annotation) in (list, dict):
        return f"{get_origin(annotation).__name__} of {_kind_of(get_args(annotation)[-1])}"
    words = {str: "text", int: "whole number", float: "number", bool: "true | false", type(None): "null"}
    return words.get(annotation, str(annotation))
