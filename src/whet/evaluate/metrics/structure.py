"""Structured answers: whether they are JSON, fit the row's schema, and have the right values in their fields."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from whet.answers import NOTHING, parsed
from whet.errors import MissingExtra, RowError
from whet.evaluate.measure import Measured, mean_of
from whet.evaluate.metrics.answers import normal
from whet.evaluate.metrics.references import references_of


def valid_json(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """The share of answers that are JSON."""
    return [mean_of("valid_json", [float(parsed(text) is not NOTHING) for text in completions])]


def json_schema(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """The share of answers that fit the row's `schema` (JSON Schema, an object or its text)."""
    try:
        import jsonschema
    except ImportError:
        raise MissingExtra("jsonschema", "evaluate", "checking schemas") from None
    schemas = columns.get("schema")
    if schemas is None:
        raise RowError("no column `schema`", do="give each row the JSON Schema that its answer should fit")
    values = []
    for number, (text, schema) in enumerate(zip(completions, schemas, strict=True)):
        try:
            rule = json.loads(schema) if isinstance(schema, str) else schema
            jsonschema.validators.validator_for(rule).check_schema(rule)
        except (ValueError, jsonschema.SchemaError) as error:
            place = columns["place"][number] if "place" in columns else f"row {number + 1}"
            raise RowError(f"broken schema: {str(error).splitlines()[0]}", where=place) from None
        value = parsed(text)
        values.append(float(value is not NOTHING and jsonschema.validators.validator_for(rule)(rule).is_valid(value)))
    return [mean_of("json_schema", values)]


def fields(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """The share of the reference's fields (leaves of its JSON) that the answer has with the same value, over all rows
    and by field. Texts are compared normalised, numbers by value; an answer that is no JSON has none right."""
    by_field: dict[str, list[float]] = {}
    rows = []
    for text, refs in zip(completions, references_of(columns), strict=True):
        wanted, found = leaves(parsed(refs[0])), leaves(parsed(text))
        right = {path: float(path in found and _same(found[path], value)) for path, value in wanted.items()}
        rows.append(sum(right.values()) / len(right) if right else math.nan)
        for path, value in right.items():
            by_field.setdefault(path, []).append(value)
    each = {path: sum(values) / len(values) for path, values in by_field.items()}
    return [mean_of("fields", rows, by_field=each)]


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """The values at the ends of a JSON tree, by dotted path; the items of a list by their place."""
    if value is NOTHING:
        return {}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in items:
        found |= leaves(inner, f"{path}.{key}" if path else str(key))
    return found


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool) or isinstance(found, bool) or wanted is None or found is None:
        return found is wanted
    if isinstance(wanted, (int, float)) and isinstance(found, (int, float)):
        return math.isclose(found, wanted, rel_tol=1e-6)
    return normal(str(found)) == normal(str(wanted))
