"""`groups`: which groups of people rows name, and the words that describe them (docs/toxicity.md).

A count of words, not a measure of fairness: it says where to look.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import orjson
import pyarrow as pa
from pydantic import Field, field_validator

from whet.data.curation.contract import Decision, Record, Row, Rows, SetStep
from whet.data.curation.texts import texts_of
from whet.data.mentions.compare import log_odds, mean_interval
from whet.data.mentions.describe import descriptors, tone
from whet.data.mentions.find import axes, find_mentions, group_terms
from whet.data.words import folded, sentences, words
from whet.errors import did_you_mean
from whet.recipe.part import Part

SEVERAL, NONE = "several", "none"


class GroupsSettings(Part):
    """What is counted, and what `group` becomes."""

    axis: str | None = None
    """Also write `group`, for this axis: the group a row names, "several" or "none". A `group` that is there goes."""
    pronouns: bool = True
    """Count she and he (her, his, ...) as naming women and men."""
    prior: Annotated[float, Field(gt=0)] = 100.0
    """Words of prior in the log-odds: more draw rare words closer to zero."""
    top: Annotated[int, Field(ge=1)] = 10
    """So many words a group in the report."""

    @field_validator("axis")
    @classmethod
    def _known(cls, axis: str | None) -> str | None:
        if axis is not None and axis not in axes():
            raise ValueError(f"no axis {axis!r}.{did_you_mean(axis, axes())} Axes are: {', '.join(axes())}")
        return axis


class Groups(SetStep):
    """Count groups of people that rows name, and the words that describe them."""

    settings = GroupsSettings

    def schema(self) -> pa.Schema:
        """`found` is JSON [[group, term, [descriptors]], ...]; it and `toxicity` are null for a row that names none."""
        return pa.schema([("found", pa.binary()), ("toxicity", pa.float32())])

    def features(self, records: Sequence[Record]) -> dict[str, Any]:
        found = [self._found(record.row) for record in records]
        columns = self.context.columns
        toxicity = [_toxicity(r.row, columns) if f else None for r, f in zip(records, found, strict=True)]
        return {"found": [orjson.dumps(f) if f else None for f in found], "toxicity": toxicity}

    def _found(self, row: Row) -> list[tuple[str, str, list[str]]]:
        return [one for _, text in texts_of(row, self.context.columns) for one in described(text, self.set.pronouns)]

    def decide(self, features: pa.Table, rows: Rows) -> Decision:
        decision = Decision(np.ones(rows.count, dtype=bool))
        tally = Tally()
        for index, packed in enumerate(features["found"].to_pylist()):
            found = orjson.loads(packed) if packed else []
            groups = sorted({group for group, _, _ in found})
            new: Row = {"groups": groups} if groups else {}
            if self.set.axis is not None:
                of_axis = [g.partition("/")[2] for g in groups if g.startswith(f"{self.set.axis}/")]
                new["group"] = SEVERAL if len(of_axis) > 1 else of_axis[0] if of_axis else NONE
            if new:
                decision.columns[index] = new
                decision.why[index] = ("names a group" if groups else "names none", ", ".join(groups))
            if groups:
                tally.add(found, features["toxicity"][index].as_py())
        decision.notes = tally.report(rows.count, self.set.prior, self.set.top)
        return decision


def _toxicity(row: Row, columns: tuple[str, ...]) -> float:
    """What `toxic` wrote; else the lexicon's opinion of all texts."""
    if isinstance(row.get("toxicity"), (int, float)):
        return float(row["toxicity"])
    from whet.data.toxicity.lexicon import lexicon

    return max((lexicon().score(text)[0] for _, text in texts_of(row, columns)), default=0.0)


def described(text: str, pronouns: bool = True) -> list[tuple[str, str, list[str]]]:
    """(axis/group, term, what describes it) of each mention of a group in a text."""
    look = _quick(pronouns)
    if look.search(folded(text)) is None:
        return []
    found = []
    for start, stop in sentences(text):
        sentence = text[start:stop]
        if look.search(folded(sentence)) is None:
            continue
        tokens = words(sentence, start)
        for mention in find_mentions(tokens, pronouns):
            found.append((f"{mention.axis}/{mention.group}", mention.term, descriptors(tokens, mention)))
    return found


_QUICK: dict[bool, re.Pattern[str]] = {}


def _quick(pronouns: bool) -> re.Pattern[str]:
    """Does a text hold the first word of any term?"""
    if pronouns not in _QUICK:
        firsts = {first for first, same in group_terms().items() if pronouns or not all(t.pronoun for t in same)}
        by_letter: dict[str, list[str]] = defaultdict(list)
        for first in sorted(firsts, key=lambda word: (-len(word), word)):
            by_letter[first[0]].append(re.escape(first[1:]))
        branches = "|".join(f"{letter}(?:{'|'.join(rest)})" for letter, rest in sorted(by_letter.items()))
        _QUICK[pronouns] = re.compile(rf"\b(?:{branches})\b")
    return _QUICK[pronouns]


class Tally:
    """Counts over rows: by group the rows, mentions, terms, descriptors, and the toxicity of each row."""

    def __init__(self) -> None:
        self.named = 0
        self.rows: Counter[str] = Counter()
        self.terms: dict[str, Counter[str]] = defaultdict(Counter)
        self.words: dict[str, Counter[str]] = defaultdict(Counter)
        self.toxicity: dict[str, list[float]] = defaultdict(list)

    def add(self, found: Sequence[tuple[str, str, list[str]]], toxicity: float) -> None:
        """The mentions of one row that has some."""
        self.named += 1
        for group in {group for group, _, _ in found}:
            self.rows[group] += 1
            self.toxicity[group].append(toxicity)
        for group, term, described_by in found:
            self.terms[group][term] += 1
            self.words[group].update(described_by)

    def report(self, rows: int, prior: float, top: int) -> dict[str, Any]:
        """By axis and group, JSON: counts, tone and toxicity with intervals, and the words that set a group apart."""
        report: dict[str, Any] = {}
        lines: dict[str, Any] = {"rows": rows, "rows that name a group": self.named}
        for axis, groups in axes().items():
            named = [f"{axis}/{group}" for group in groups if self.rows[f"{axis}/{group}"]]
            if named:
                all_words = sum((self.words[group] for group in named), Counter[str]())
                lines[axis] = ", ".join(f"{g.partition('/')[2]} {self.rows[g]:,}" for g in named)
                report[axis] = {g.partition("/")[2]: self._of(g, all_words, prior, top) for g in named}
        return {**lines, "report": report}

    def _of(self, group: str, all_words: Counter[str], prior: float, top: int) -> dict[str, Any]:
        own = self.words[group]
        apart = [odds for odds in log_odds(own, all_words - own, prior) if odds.times and odds.low > 0]
        return {
            "rows": self.rows[group],
            "mentions": self.terms[group].total(),
            "terms": dict(self.terms[group].most_common(top)),
            "described": own.total(),
            "words": dict(own.most_common(top)),
            "apart": [[o.word, o.times, round(o.log_odds, 3), round(o.low, 3), round(o.high, 3)] for o in apart[:top]],
            "tone": _rounded(mean_interval([float(tone(word)) for word in own.elements()])),
            "toxicity": _rounded(mean_interval(self.toxicity[group])),
        }


def _rounded(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [round(value, 3) for value in values]
