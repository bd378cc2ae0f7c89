"""Graders of the text alone: string_check, number, json_schema, length."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whet.answers import NOTHING, close, numbers, parsed
from whet.errors import MissingExtra, RecipeError
from whet.graders.grade import Case, Grader, each
from whet.recipe.graders import JSONSchemaPart, LengthPart, NumberPart, StringCheckPart
from whet.recipe.template import Template

OPERATIONS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


def string_check(part: StringCheckPart, name: str) -> Grader:
    """1 where the operation is true of input and reference, else 0."""
    text, reference, operation = Template(part.input), Template(part.reference), OPERATIONS[part.operation]
    score = each(lambda case: float(operation(case.filled(text), case.filled(reference))))
    return Grader(name, score, [text, reference])


def number(part: NumberPart, name: str) -> Grader:
    """1 where the last number of the input is the reference's last, within either tolerance; signs, scales (k, million)
    and per cent as the metric `numeric` reads them. An input without a number scores 0."""
    text, reference = Template(part.input), Template(part.reference)

    def score(case: Case) -> float:
        wanted = numbers(case.filled(reference))
        if not wanted:
            raise ValueError("no number in the reference")
        found = numbers(case.filled(text))
        return float(bool(found) and close(found[-1], wanted[-1], part.relative_tolerance, part.absolute_tolerance))

    return Grader(name, each(score), [text, reference])


def json_schema(part: JSONSchemaPart, name: str) -> Grader:
    """1 where the input, bare or in a code fence, is JSON that fits the schema, else 0."""
    try:
        import jsonschema
    except ImportError:
        raise MissingExtra("jsonschema", "evaluate", "checking schemas") from None
    text = Template(part.input)

    def checker(schema: Any) -> Any:
        kind = jsonschema.validators.validator_for(schema)
        kind.check_schema(schema)
        return kind(schema)

    if isinstance(part.json_schema, dict):
        try:
            fixed = checker(part.json_schema)
        except jsonschema.SchemaError as error:
            raise RecipeError(f"broken schema: {error.message}", where=f"grader {name}", do="correct it") from None
        return Grader(name, each(lambda case: _fits(fixed, case.filled(text))), [text])
    of_row = Template(part.json_schema)

    def score(case: Case) -> float:
        return _fits(checker(json.loads(case.filled(of_row))), case.filled(text))

    return Grader(name, each(score), [text, of_row])


def _fits(checker: Any, text: str) -> float:
    value = parsed(text)
    return float(value is not NOTHING and checker.is_valid(value))


def length(part: LengthPart, name: str) -> Grader:
    """1 from `min` to `max` units; outside 1 - slope x distance, at least 0."""
    text, count = Template(part.input), _counter(part, name)

    def score(case: Case) -> float:
        units = count(case.filled(text))
        beyond = max(part.min - units, units - part.max if part.max is not None else 0, 0)
        return max(1 - part.slope * beyond, 0.0)

    return Grader(name, each(score), [text])


def _counter(part: LengthPart, name: str) -> Callable[[str], int]:
    if part.unit == "characters":
        return len
    if part.unit == "words":
        return lambda text: len(text.split())
    from tokenizers import Tokenizer

    path = Path(part.tokenizer).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise RecipeError(f"no tokenizer: {error}", where=str(path), do="name a folder with tokenizer.json") from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
