"""A plain tree -> a typed part, with faults told in the house's words."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from whet.errors import RecipeError, did_you_mean
from whet.recipe.part import Part

P = TypeVar("P", bound=Part)


def check_part(part: type[P], tree: Any, where: str, key: str = "") -> P:
    """The typed part of a plain tree. `key` is the dotted path of the tree in its file, for the message.

    Raises RecipeError that names the first fault, what is known there, and how many more faults there are.
    """
    if not isinstance(tree, dict):
        raise RecipeError(f"`{key or part.__name__}` must be keys and values; found {tree!r}", where=where)
    try:
        return part.model_validate(tree)
    except ValidationError as error:
        first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        name = ".".join([key] * bool(key) + [str(step) for step in first["loc"]])
        known = list(part.model_fields)
        do = f"known there: {', '.join(known)}" if known else "it takes no settings"
        if first["type"] == "extra_forbidden":
            what = f"unknown key `{name}`.{did_you_mean(str(first['loc'][-1]), known)}{more}"
        elif first["type"] == "missing":
            what = f"`{name}` is missing{more}"
        else:
            what = f"`{name}`: {plain(first)}; found {first.get('input')!r}{more}"
        raise RecipeError(what, where=where, do=do) from None


def plain(fault: Any) -> str:
    """Pydantic's message in words that need no knowledge of pydantic."""
    if fault["type"] in ("model_type", "model_attributes_type"):
        return "must be keys and values, or the short form"
    if fault["type"] == "union_tag_invalid":
        known = fault["ctx"]["expected_tags"].replace("'", "")
        return f"kind must be one of {known}.{did_you_mean(str(fault['ctx']['tag']), known.split(', '))}"
    return str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
