"""`personal`: what names or reaches a person, found offline and redacted, masked, hashed, replaced, dropped or flagged.

Every string of a row is looked at, whatever column or depth it stands in, unless `columns` says which. Put the step
before all others: what they drop or show as examples is then clean too (docs/personal-data.md).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator

from whet.data.curation.contract import Outcome, Record, Row, RowStep
from whet.data.curation.texts import Path, with_texts
from whet.data.personal.actions import Action, changed, hashed, masked, redacted, replaced
from whet.data.personal.finder import Finder, echoes
from whet.data.personal.spans import KINDS, NATIONAL_IDS, Span
from whet.errors import RecipeError, did_you_mean
from whet.recipe.part import Part

How = Literal["redact", "mask", "hash", "replace", "drop", "flag"]
COLUMN = "personal"
"""The column that `flag` adds: how many values of each kind."""
KEY = "WHET_PERSONAL_KEY"
"""The environment variable that holds the key, where the settings do not."""
NOT_TEXT = {"role", "from", "type", "split", "label", "group", "language", "weight", "licence", "license", COLUMN}
"""Keys whose strings are names of ours, not people's."""


class PersonalSettings(Part):
    """Which values are looked for, and what becomes of them."""

    kinds: list[str] = [
        "email", "phone", "card", "iban", "ip", "mac", "crypto", "person", "address", "birth_date", "national_id",
    ]  # fmt: skip
    """Besides these: url, place, organization, age. `national_id` stands for all of them."""
    action: How = "redact"
    """redact `<EMAIL>`, mask `j***@***`, hash `<EMAIL:9f86...>`, replace by a fake, drop the row, flag it."""
    actions: dict[str, How] = {}
    """By kind, where it differs: {person: replace, card: drop}."""
    allow: list[str] = []
    """Values that are not personal, such as support@ourcompany.com; capitals do not matter."""
    lean: Annotated[float, Field(ge=-10, le=10)] = 0.0
    """Of names, addresses, places, organisations: above nought more are found, also wrongly; below, fewer."""
    key: SecretStr = SecretStr("")
    """For `hash`, and for `replace`. Better in the environment: WHET_PERSONAL_KEY. Never shown."""

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: list[str]) -> list[str]:
        return [_known(kind) for kind in kinds]

    @field_validator("actions")
    @classmethod
    def _known_too(cls, actions: dict[str, How]) -> dict[str, How]:
        return {_known(kind): how for kind, how in actions.items()}


def _known(kind: str) -> str:
    if kind not in (*KINDS, "national_id"):
        raise ValueError(
            f"no kind {kind!r}.{did_you_mean(kind, [*KINDS, 'national_id'])} Kinds are: {', '.join(KINDS)}"
        )
    return kind


class Personal(RowStep):
    """Redact, mask, hash or replace personal data; or drop or flag the rows that hold some."""

    settings = PersonalSettings
    private = True

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        kinds = {kind for named in settings.kinds for kind in (NATIONAL_IDS if named == "national_id" else (named,))}
        named = {
            **dict.fromkeys(NATIONAL_IDS, settings.actions.get("national_id", settings.action)),
            **settings.actions,
        }
        self.how: dict[str, How] = {kind: named.get(kind, settings.action) for kind in kinds}
        key = (settings.key.get_secret_value() or os.environ.get(KEY, "")).encode()
        if "hash" in self.how.values() and not key:
            raise RecipeError(
                "`hash` needs a key",
                where="personal",
                do=f"set {KEY} in the environment; without one, anyone could try values",
            )
        seeded = blake2b(f"{context.seed}\0".encode() + key).digest()
        makers: dict[str, Action] = {
            "redact": redacted, "drop": redacted, "mask": masked, "hash": hashed(key), "replace": replaced(seeded),
        }  # fmt: skip
        self.actions = {kind: makers[how] for kind, how in self.how.items() if how in makers}
        self.find = Finder(kinds, settings.lean, settings.allow)

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        strings = [list(strings_of(record.row, self.context.columns)) for record in records]
        found = iter(self.find([text for of_row in strings for _, text in of_row]))
        outcomes = []
        for record, of_row in zip(records, strings, strict=True):
            paths, texts = [path for path, _ in of_row], [text for _, text in of_row]
            spans = echoes(texts, [next(found) for _ in texts], self.find.allow)
            outcomes.append(self._done(record.row, list(zip(paths, texts, spans, strict=True))))
        return outcomes

    def _done(self, row: Row, found: list[tuple[Path, str, list[Span]]]) -> Outcome:
        found = [each for each in found if each[2]]
        kinds = [span.kind for _, _, spans in found for span in spans]
        if not kinds:
            return Outcome(row)
        shown = f"… {' … '.join(map(redacted, kinds[:10]))} …"
        if any(self.how[kind] == "drop" for kind in kinds):
            clean = with_texts(row, {path: changed(text, spans, _REDACT) for path, text, spans in found})
            return Outcome(None, tuple(kinds), shown, clean)
        new = with_texts(row, {path: changed(text, spans, self.actions) for path, text, spans in found})
        flagged = Counter(kind for kind in kinds if self.how[kind] == "flag")
        return Outcome({**new, COLUMN: dict(flagged)} if flagged else new, tuple(kinds), shown)


_REDACT: dict[str, Action] = dict.fromkeys(KINDS, redacted)


def strings_of(row: Row, columns: tuple[str, ...] = ()) -> Iterator[tuple[Path, str]]:
    """Every string of a row with its path, at any depth: tool calls and columns besides the text ones, too."""
    for name, value in row.items():
        if name in columns if columns else name not in NOT_TEXT:
            yield from _strings((name,), value)


def _strings(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _strings((*path, number), item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in NOT_TEXT:
                yield from _strings((*path, key), item)
