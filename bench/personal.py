"""How well `whet data personal` finds what people labelled, kind by kind, and how fast; presidio alone beside it.

    python bench/personal.py FILE.json... [--presidio] [--lean 0] [--errors KIND]

FILE is in presidio-research's form: a list of {"full_text", "template_id", "spans": [{"entity_type", "start_position",
"end_position"}]}.
Two ways of counting: *exact*, kind and both ends agree; *overlap*, a found span counts as right if it
overlaps a labelled one of its kind, and a labelled one as found if a span of its kind overlaps it. Sentences of an odd
template number are counted apart as well: nobody looked at errors in those while the recognisers were made.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whet.data.personal.finder import Finder
from whet.data.personal.spans import KINDS

KIND_OF = {
    "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "CREDIT_CARD": "card", "IBAN_CODE": "iban", "IP_ADDRESS": "ip",
    "DOMAIN_NAME": "url", "URL": "url", "US_SSN": "us_ssn", "US_DRIVER_LICENSE": "us_driver_license", "AGE": "age",
    "PERSON": "person", "ADDRESS": "address", "STREET_ADDRESS": "address", "ZIP_CODE": "address", "LOCATION": "place",
    "GPE": "place", "ORGANIZATION": "organization",
}  # fmt: skip
"""Their labels as our kinds. DATE_TIME, TITLE, PREFIX and NRP are none that `personal` finds."""
WHERE = {"address", "place"}
Found = set[tuple[int, int, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Precision, recall and F1 of personal data by kind.")
    parser.add_argument("files", nargs="+")
    parser.add_argument(
        "--presidio", action="store_true", help="presidio's own recognisers, without a language model, too"
    )
    parser.add_argument("--lean", type=float, default=0.0)
    parser.add_argument("--errors", metavar="KIND", help="print the errors of a kind in sentences of even templates")
    args = parser.parse_args()
    for file in args.files:
        rows = json.loads(Path(file).read_text(encoding="utf-8"))
        labelled = {
            KIND_OF[span["entity_type"]] for row in rows for span in row["spans"] if span["entity_type"] in KIND_OF
        }
        finder = Finder(KINDS, args.lean)
        finder(["warm up 078-05-1120 at 1 High Street"])
        print(f"\n{Path(file).name}: {len(rows):,} sentences")
        report(rows, labelled, ours(finder), args.errors)
        if args.presidio:
            print("presidio alone (NoOpNlpEngine, SpacyRecognizer removed, its spans as they are):")
            report(rows, labelled, presidio(), None)


def report(rows: list[Any], labelled: set[str], find: Callable[[list[str]], list[Found]], errors: str | None) -> None:
    """Print a line a kind."""
    texts = [row["full_text"] for row in rows]
    begin = time.perf_counter()
    found = find(texts)
    seconds = time.perf_counter() - begin
    true: list[Found] = [
        {
            (s["start_position"], s["end_position"], KIND_OF[s["entity_type"]])
            for s in row["spans"]
            if s["entity_type"] in KIND_OF
        }
        for row in rows
    ]
    unseen = [number for number, row in enumerate(rows) if row["template_id"] % 2]
    print("kind              labels   exact: P     R    F1   overlap: P     R    F1   odd: exact F1  overlap F1")
    for kinds in [{kind} for kind in KINDS if kind in labelled] + [WHERE]:
        pairs = [_of(kinds, *pair) for pair in zip(true, found, strict=True)]
        exact, overlap = (scores(pairs, same) for same in (equal, overlapping))
        apart = [scores([pairs[n] for n in unseen], same)[2] for same in (equal, overlapping)]
        name = " or ".join(sorted(kinds))
        count = sum(len(gold) for gold, _ in pairs)
        left = f"{name:18}{count:6}{exact[0]:11.3f}{exact[1]:6.3f}{exact[2]:6.3f}"
        right = f"{apart[0]:16.3f}{apart[1]:12.3f}" if any(pairs[n][0] for n in unseen) else " no labels"
        print(left + f"{overlap[0]:13.3f}{overlap[1]:6.3f}{overlap[2]:6.3f}{right}")
    print(f"characters of labelled values covered by a span of some kind: {covered(true, found):.3f}")
    print(f"{len(rows) / seconds:,.0f} sentences a second, one process")
    if errors:
        show(rows, true, found, errors)


def _of(kinds: set[str], true: Found, found: Found) -> tuple[Found, Found]:
    """What is of these kinds, under one name."""
    name = min(kinds)
    return {(a, b, name) for a, b, k in true if k in kinds}, {(a, b, name) for a, b, k in found if k in kinds}


def equal(a: tuple[int, int, str], b: tuple[int, int, str]) -> bool:
    return a == b


def overlapping(a: tuple[int, int, str], b: tuple[int, int, str]) -> bool:
    return a[2] == b[2] and a[0] < b[1] and b[0] < a[1]


def scores(pairs: list[tuple[Found, Found]], same: Callable[..., bool]) -> tuple[float, float, float]:
    """(precision, recall, F1)."""
    right = sum(any(same(f, t) for t in true) for true, found in pairs for f in found)
    hit = sum(any(same(t, f) for f in found) for true, found in pairs for t in true)
    precision = right / max(sum(len(found) for _, found in pairs), 1)
    recall = hit / max(sum(len(true) for true, _ in pairs), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def covered(true: list[Found], found: list[Found]) -> float:
    """The share of characters of labelled values that lie in some span: what redaction takes away."""
    inside = total = 0
    for gold, spans in zip(true, found, strict=True):
        hidden = {at for start, end, _ in spans for at in range(start, end)}
        told = {at for start, end, _ in gold for at in range(start, end)}
        inside, total = inside + len(hidden & told), total + len(told)
    return inside / max(total, 1)


def show(rows: list[Any], true: list[Found], found: list[Found], kind: str) -> None:
    """What was missed and what was found without a label, by overlap, in sentences of even templates."""
    shown: Counter[str] = Counter()
    for row, gold, spans in zip(rows, true, found, strict=True):
        if row["template_id"] % 2:
            continue
        text = row["full_text"]
        for sign, these, those in (("missed", gold, spans), ("wrong", spans, gold)):
            for span in sorted(these):
                if span[2] == kind and not any(overlapping(span, other) for other in those):
                    shown[sign] += 1
                    print(f"  {sign}: {text[span[0] : span[1]]!r} in {text[max(span[0] - 50, 0) : span[1] + 30]!r}")
    print(dict(shown))


def ours(finder: Finder) -> Callable[[list[str]], list[Found]]:
    """A Finder, its spans as sets."""
    return lambda texts: [{(span.start, span.end, span.kind) for span in spans} for spans in finder(texts)]


def presidio() -> Callable[[list[str]], list[Found]]:
    """Its analyser as it is used without a network."""
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NoOpNlpEngine

    registry = RecognizerRegistry()
    registry.load_predefined_recognizers()
    registry.remove_recognizer("SpacyRecognizer")
    engine = AnalyzerEngine(
        registry=registry,
        nlp_engine=NoOpNlpEngine([{"lang_code": "en", "model_name": "none"}]),
        supported_languages=["en"],
    )

    def find(texts: list[str]) -> list[Found]:
        return [
            {(r.start, r.end, KIND_OF[r.entity_type]) for r in engine.analyze(text, "en") if r.entity_type in KIND_OF}
            for text in texts
        ]

    return find


if __name__ == "__main__":
    main()
