"""The references of rows: one text a row, or several."""

from __future__ import annotations

from typing import Any

from whet.errors import RowError


def references_of(columns: dict[str, list[Any]]) -> list[list[str]]:
    """[rows] of one or more references. Raises RowError for a row without one, with its place."""
    found = columns.get("reference")
    places = columns.get("place", [])
    if found is None:
        raise RowError("no references", do="rows need an answer: `completion`, `output`, or a last assistant's turn")
    out = []
    for number, value in enumerate(found):
        several = [str(item) for item in value] if isinstance(value, list) else [] if value is None else [str(value)]
        if not several:
            place = places[number] if places else f"row {number + 1}"
            raise RowError("no reference", where=place, do="give the row an answer, or leave it out")
        out.append(several)
    return out
