"""The log of a review -> rows to train on, and figures: who wins, how far judges agree, how each of them judged."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from whet.errors import RunError
from whet.evaluate.measure import Interval, exact_binomial, resampled
from whet.human.agreement import alpha_interval, kappa
from whet.human.folder import Review, judgements_of
from whet.human.log import Judgement
from whet.human.pairs import Turns, said
from whet.human.plan import VERDICTS, Item, Judge
from whet.human.strengths import bounded, with_intervals
from whet.rows import Message

SAID = {0: "first", 1: "second"}


@dataclass(frozen=True)
class Judged:
    """How one judge judged. `left` of `decided` preferred the answer at the left; `p_of_left` is the exact binomial of
    a fair coin. `seconds` are the quartiles of the time a judgement."""

    name: str
    of: int
    verdicts: dict[str, int]
    edits: int
    left: int
    decided: int
    p_of_left: float
    checks: int
    failed: int
    seconds: tuple[float, float, float] | None
    excluded: bool = False

    @property
    def judged(self) -> int:
        return sum(self.verdicts.values())


@dataclass(frozen=True)
class Match:
    """Two models, as judgements count them. `share` of a: wins, and half of what is neither's, over prompts."""

    a: str
    b: str
    won: int
    lost: int
    tied: int
    both_bad: int
    skipped: int
    share: Interval | None


@dataclass(frozen=True)
class Rated:
    """A rubric's question: the mean of each model with its interval, and how far judges agree on it."""

    question: str
    means: dict[str, Interval]
    alpha: Interval | None


@dataclass(frozen=True)
class Agreed:
    """Two judges on the pairs that both judged; `kappa` is NaN where it is not defined."""

    a: str
    b: str
    pairs: int
    same: int
    kappa: float


@dataclass
class Results:
    review: Review
    preferences: list[dict[str, Any]]
    ratings: list[dict[str, Any]]
    counts: dict[str, int]
    judges: list[Judged]
    matches: list[Match]
    strengths: dict[str, Interval]
    bounded: bool
    alpha: Interval | None
    kappas: list[Agreed]
    rated: list[Rated]
    notes: list[str] = field(default_factory=list)


Last = dict[tuple[str, str], Judgement]


def summed_up(review: Review, max_failed: float | None = None, seed: int = 0) -> Results:
    """Everything that the log says so far. Judges who fail a larger share of their checks than `max_failed` are left
    out of all but their own line.

    Raises RunError where nothing was judged, or nobody is left.
    """
    log, torn = judgements_of(review)
    last: Last = {(each.judge, each.item): each for each in log}
    if not last:
        raise RunError("nothing is judged yet", where=str(review.folder), do=f"whet review {review.folder} serves it")
    judges = [_judged(review, judge, last, max_failed) for judge in review.judges]
    kept = {judge.name for judge in judges if not judge.excluded}
    real = {key: each for key, each in last.items() if key[0] in kept and not review.items[key[1]].check}
    if not kept:
        raise RunError("every judge fails more checks than --max-failed allows", where=str(review.folder))
    preferences, counts = _preferences(review, real)
    wins_QMM = _wins(review, real)
    counts |= {"judgements": len(real), "replaced": len(log) - len(last)}
    values_JU = _values(review, real, kept)
    found = Results(
        review, preferences, _ratings(review, real), counts, judges, _matches(review, real, seed),
        dict(zip(review.models, with_intervals(wins_QMM, seed), strict=True)) if wins_QMM.any() else {},
        bounded(wins_QMM.sum(0)), alpha_interval(values_JU, range(4), "nominal", seed),
        _kappas(review, real, sorted(kept)), _rated(review, real, kept, seed), list(review.notes),
    )  # fmt: skip
    found.notes += _notes(found, torn)
    return found


def _judged(review: Review, judge: Judge, last: Last, max_failed: float | None) -> Judged:
    mine = [last[judge.name, item] for item in judge.items if (judge.name, item) in last]
    checks = [each for each in mine if review.items[each.item].check and each.verdict != "skip"]
    # Who calls them equal did not read either; that both are bad may be so.
    failed = sum(each.preferred == 1 or each.verdict == "tie" for each in checks)
    tally = Counter(each.verdict for each in mine)
    decided = [each for each in mine if each.preferred is not None]
    left = sum(each.verdict == "left" for each in decided)
    times = [each.seconds for each in mine if each.seconds is not None]
    quartiles = tuple(float(value) for value in np.quantile(times, [0.25, 0.5, 0.75])) if times else None
    excluded = max_failed is not None and bool(checks) and failed / len(checks) > max_failed
    return Judged(
        judge.name, len(judge.items), {kind: tally[kind] for kind in VERDICTS}, sum(bool(each.edits) for each in mine),
        left, len(decided), exact_binomial(left, len(decided) - left), len(checks), failed,
        quartiles, excluded,  # type: ignore[arg-type]  # a tuple of three
    )  # fmt: skip


def _preferences(review: Review, real: Last) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """A row a judgement that decides, and one an edited answer: the edit is better than what it was made of."""
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for (_, name), each in real.items():
        if each.preferred is not None:
            votes[name][each.preferred] += 1
    rows: list[dict[str, Any]] = []
    counts = Counter({"tie": 0, "both_bad": 0, "skip": 0, "edits": 0, "empty": 0})
    for (judge, name), each in real.items():
        item = review.items[name]
        if each.preferred is None:
            counts[each.verdict] += 1
        else:
            better, worse = item.answers[each.preferred], item.answers[1 - each.preferred]
            found = {"for": votes[name][each.preferred], "against": votes[name][1 - each.preferred]}
            if said(better).strip() and said(worse).strip():
                rows.append(_row(item, _plain(better), _plain(worse), judge, found, each.reason))
            else:
                counts["empty"] += 1
        for answer, text in sorted(each.edits.items()):
            if said(item.answers[int(answer)]).strip():
                counts["edits"] += 1
                of_one = {"for": 1, "against": 0}
                rows.append(
                    _row(item, text, _plain(item.answers[int(answer)]), judge, of_one, each.reason) | {"edited": True}
                )
            else:
                counts["empty"] += 1
    return rows, dict(counts)


def _row(item: Item, chosen: Any, rejected: Any, judge: str, votes: dict[str, int], reason: str) -> dict[str, Any]:
    if isinstance(chosen, list) or isinstance(rejected, list):  # one spelling a row
        chosen, rejected = _turns(chosen), _turns(rejected)
    row = {
        "prompt": _plain(item.prompt, "user"),
        "chosen": chosen,
        "rejected": rejected,
        "judge": judge,
        "votes": votes,
    }
    return row | ({"reason": reason} if reason else {}) | ({"tools": item.tools} if item.tools else {})


def _plain(turns: Turns, role: str = "assistant") -> str | Turns:
    """A single turn of words, by `role`, as its text; all else as messages."""
    only = turns[0] if len(turns) == 1 else {}
    return only["content"] if only.keys() == {"role", "content"} and only["role"] == role else turns


def _turns(value: str | Turns) -> Turns:
    message: Message = {"role": "assistant", "content": value}
    return [message] if isinstance(value, str) else value


def _ratings(review: Review, real: Last) -> list[dict[str, Any]]:
    return [
        {"prompt": _plain(item.prompt, "user"), "completion": _plain(item.answers[int(answer)]), "judge": judge,
         "model": item.models[int(answer)], "ratings": ratings}
        for (judge, name), each in real.items() for item in [review.items[name]]
        for answer, ratings in sorted(each.ratings.items())
    ]  # fmt: skip


def _wins(review: Review, real: Last) -> np.ndarray:
    """How often i was preferred to j, by prompt [Q, M, M]; half each way for what is neither's."""
    at = {name: number for number, name in enumerate(review.models)}
    by_prompt: dict[str, np.ndarray] = {}
    for (_, name), each in real.items():
        item = review.items[name]
        wins_MM = by_prompt.setdefault(item.question, np.zeros((len(at), len(at))))
        i, j = (at[model] for model in item.models)
        first = 0.5 if each.preferred is None else 1.0 - each.preferred
        if each.verdict != "skip":
            wins_MM[i, j] += first
            wins_MM[j, i] += 1 - first
    return np.stack(list(by_prompt.values())) if by_prompt else np.zeros((0, len(at), len(at)))


def _matches(review: Review, real: Last, seed: int) -> list[Match]:
    found = []
    for a, b in combinations(review.models, 2):
        met = {key: each for key, each in real.items() if review.items[key[1]].models == (a, b)}
        if not met:
            continue
        tally = Counter(map(_category, met.values()))
        by_prompt: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for (_, name), each in met.items():
            if each.verdict != "skip":
                sums = by_prompt[review.items[name].question]
                sums[0] += 0.5 if each.preferred is None else 1.0 - each.preferred
                sums[1] += 1
        share = mean_interval(list(by_prompt.values()), seed) if by_prompt else None
        found.append(
            Match(a, b, tally["first"], tally["second"], tally["tie"], tally["both_bad"], tally["skip"], share)
        )
    return found


def mean_interval(sums_Q2: Sequence[Sequence[float]], seed: int) -> Interval:
    """A mean from (sum, count) by prompt, with its 95 % percentile bootstrap interval over prompts."""
    sums = np.asarray(sums_Q2, float)
    drawn_B2 = resampled(sums, seed)
    low, high = np.quantile(drawn_B2[:, 0] / drawn_B2[:, 1], [0.025, 0.975])
    total = sums.sum(0)
    return Interval(float(total[0] / total[1]), float(low), float(high))


def _category(each: Judgement) -> str:
    return SAID[each.preferred] if each.preferred is not None else each.verdict


def _values(review: Review, real: Last, kept: set[str]) -> np.ndarray:
    """What each judge said of each pair [judges, pairs], NaN for nothing or a skip."""
    kinds = {"first": 0, "second": 1, "tie": 2, "both_bad": 3}
    judges = {name: row for row, name in enumerate(sorted(kept))}
    items = {name: column for column, name in enumerate(n for n, item in review.items.items() if not item.check)}
    values_JU = np.full((len(judges), len(items)), np.nan)
    for (judge, name), each in real.items():
        values_JU[judges[judge], items[name]] = kinds.get(_category(each), np.nan)
    return values_JU


def _kappas(review: Review, real: Last, judges: list[str]) -> list[Agreed]:
    said_by: dict[str, dict[str, str]] = {judge: {} for judge in judges}
    for (judge, name), each in real.items():
        if each.verdict != "skip":
            said_by[judge][name] = _category(each)
    found = []
    for a, b in combinations(judges, 2):
        both = [name for name in said_by[a] if name in said_by[b]]
        if both:
            of_a, of_b = ([said_by[judge][name] for name in both] for judge in (a, b))
            same = sum(x == y for x, y in zip(of_a, of_b, strict=True))
            found.append(Agreed(a, b, len(both), same, kappa(of_a, of_b)))
    return found


def _rated(review: Review, real: Last, kept: set[str], seed: int) -> list[Rated]:
    judges = sorted(kept)
    found = []
    for question in review.rubric:
        by_model: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
        units: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        for (judge, name), each in real.items():
            for answer, ratings in each.ratings.items():
                if question.key in ratings:
                    item = review.items[name]
                    sums = by_model[item.models[int(answer)]][item.question]
                    sums[0] += ratings[question.key]
                    sums[1] += 1
                    units[name, answer][judge] = ratings[question.key]
        if units:
            values_JU = np.array([[unit.get(judge, np.nan) for unit in units.values()] for judge in judges], float)
            means = {
                model: mean_interval(list(by_model[model].values()), seed)
                for model in review.models
                if model in by_model
            }
            found.append(Rated(question.text, means, alpha_interval(values_JU, range(1, 6), "ordinal", seed)))
    return found


def _notes(found: Results, torn: int) -> list[str]:
    counts, notes = found.counts, []
    undecided = [f"{counts[kind]:,} {words}" for kind, words in
                 (("tie", "ties"), ("both_bad", "both bad"), ("skip", "skipped")) if counts[kind]]  # fmt: skip
    if undecided:
        notes.append(f"no preference comes of {', '.join(undecided)} of {counts['judgements']:,} judgements")
    if counts["empty"]:
        notes.append(f"{counts['empty']:,} judgements about an empty answer make no row to train on")
    if counts["replaced"]:
        notes.append(
            f"{counts['replaced']:,} judgements were replaced by a later one of the same judge on the same pair"
        )
    if out := [judge.name for judge in found.judges if judge.excluded]:
        notes.append(f"left out for the checks they failed: {', '.join(out)}")
    if torn:
        notes.append(
            f"the last {torn:,} bytes of the log are no whole line (a crash, or being written now): not counted"
        )
    if found.strengths and not found.bounded:
        notes.append(
            "some models never lost to the rest, so their strength has no bound: shown as with a tenth of a win more "
            "each way"
        )
    for judge in found.judges:
        if judge.decided >= 10 and judge.p_of_left < 0.02:
            share = judge.left / judge.decided
            notes.append(
                f"{judge.name} prefers a side: left in {100 * share:.0f} % of {judge.decided} (p {judge.p_of_left:.1g})"
            )
    missing = [judge.name for judge in found.judges if judge.judged < judge.of]
    if missing:
        notes.append(f"not done yet: {', '.join(missing)}")
    return notes


def number(value: float) -> float | None:
    """As JSON has it."""
    return value if math.isfinite(value) else None
