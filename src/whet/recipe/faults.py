"""From pydantic's errors to whet's: the key, what was found there, what to do."""

from __future__ import annotations

from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from whet.errors import RecipeError, did_you_mean

_EVERY_KEY = "`whet recipe schema` lists every key"
P = TypeVar("P", bound=BaseModel)
_UNKNOWN = ("extra_forbidden", "no_such_attribute")


def check_part(part: type[P], tree: Any, where: str, key: str = "") -> P:
    """The typed part of a plain tree, where it stands alone: a step of curation, say. `key` is its dotted path in the
    file. Raises RecipeError that names the first fault, and what is known there."""
    if not isinstance(tree, dict):
        raise RecipeError(f"`{key or part.__name__}` must be keys and values; found {tree!r}", where=where)
    try:
        return part.model_validate(tree)
    except ValidationError as error:
        known = list(part.model_fields)
        do = f"known there: {', '.join(known)}" if known else "it takes no settings"
        raise fault(error, part, where, key, do) from None


def fault(
    error: ValidationError,
    part: type[BaseModel],
    where: str,
    key: str = "",
    do: str = "`whet recipe schema` lists every key",
) -> RecipeError:
    """The RecipeError that names the first fault that pydantic found in `part`, and how many more there are. `key` is
    the path of the part itself, `do` what else can be done but to take a known key."""
    first = min(error.errors(), key=lambda each: each["type"] not in _UNKNOWN)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    inner, known = _place(part, first["loc"])
    key = ".".join(filter(None, (key, inner)))
    if first["type"] in _UNKNOWN:
        return RecipeError(
            f"unknown key `{key}`.{did_you_mean(str(first['loc'][-1]), known)}{more}",
            where=where,
            do=f"known there: {', '.join(known)}",
        )
    if first["type"] == "missing":
        return RecipeError(f"`{key}` is missing{more}", where=where, do=do)
    said = f"`{key}`: {_plain(first)}; found {first.get('input')!r}" if key else _plain(first)
    return RecipeError(f"{said}{more}", where=where, do=do)


def parts_in(annotation: Any) -> list[type[BaseModel]]:
    """The parts that a field's type is made of: itself, its items, or the branches of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for inner in get_args(annotation) for part in parts_in(inner)]


def _place(part: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """A dotted key and the names known beside it, from pydantic's location of a fault in `part`.

    Pydantic's location also names the branches of unions (`lora`, `constrained-float`); those are not keys.
    """
    below: list[type[BaseModel]] = []
    words: list[str] = []
    keyed = False
    for index, step in enumerate(location):
        named = [p for p in below if step in _kinds(p)]
        if named:
            part, below = named[0], []
        elif isinstance(step, int) or keyed:
            words.append(str(step))
            keyed = False
        else:
            if len(below) == 1:
                part, below = below[0], []
            if step in part.model_fields:
                below = parts_in(part.model_fields[step].annotation)
                keyed = get_origin(part.model_fields[step].annotation) is dict
                words.append(step)
            elif index == len(location) - 1 and "-" not in step and "[" not in step and step not in ("str", "int"):
                words.append(step)
    return ".".join(words), list(part.model_fields)


def _kinds(part: type[BaseModel]) -> tuple[Any, ...]:
    """What a part is called where its kind decides: by `kind`, or by `type` as OpenAI has it."""
    described = part.model_fields.get("kind") or part.model_fields.get("type")
    return get_args(described.annotation) if described else ()


def _plain(fault: Any) -> str:
    """Pydantic's message in words that need no knowledge of pydantic."""
    if fault["type"] == "union_tag_not_found":
        return "must say its " + str(fault["ctx"]["discriminator"]).replace("'", "`")
    if fault["type"] in ("model_type", "model_attributes_type"):
        return "must be keys and values, or the short form"
    if fault["type"] == "union_tag_invalid":
        known = fault["ctx"]["expected_tags"].replace("'", "")
        key = fault["ctx"]["discriminator"].replace("'", "")
        return f"{key} must be one of {known}.{did_you_mean(str(fault['ctx']['tag']), known.split(', '))}"
    return str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
