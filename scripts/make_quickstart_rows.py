"""Write the quickstart's rows: rough notes to a shop's customer desk, and the e-mails that answer them.

    python scripts/make_quickstart_rows.py [FILE]

The sentences are in quickstart_phrases.yaml; this draws facts and sentences with a fixed seed, so that the same file
comes out every time. Without FILE it writes the one in the package.
"""

from __future__ import annotations

import calendar
import json
import random
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "src" / "whet" / "data" / "quickstart" / "rows.jsonl"
ROWS_AN_INTENT = 24
SEED = 7


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in make_rows()), encoding="utf-8")
    print(f"{path}: {path.stat().st_size:,} bytes")


def make_rows() -> list[dict[str, Any]]:
    """All rows, shuffled; each is `{"messages": [system, user, assistant]}`, no two alike."""
    phrases = yaml.safe_load((HERE / "quickstart_phrases.yaml").read_text(encoding="utf-8"))
    choose = random.Random(SEED)
    rows = [
        make_row(phrases, intent, number, choose)
        for intent in phrases["intents"].values()
        for number in range(ROWS_AN_INTENT)
    ]
    choose.shuffle(rows)
    return rows


def make_row(phrases: dict[str, Any], intent: dict[str, Any], number: int, choose: random.Random) -> dict[str, Any]:
    """One note and its answer. Notes take turns, so that each is used as often; the rest is drawn."""
    facts = draw_facts(phrases["facts"], choose)
    note = intent["notes"][number % len(intent["notes"])].format_map(facts)
    subject = choose.choice(intent["subjects"]).format_map(facts)
    sentences = [choose.choice(intent[part]).format_map(facts) for part in ("first", "second", "third")]
    body = " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
    answer = f"Subject: {subject[0].upper()}{subject[1:]}\n\nDear {facts['name']},\n\n{body}\n\n{phrases['closing']}"
    return {
        "messages": [
            {"role": "system", "content": phrases["system"]},
            {"role": "user", "content": note},
            {"role": "assistant", "content": answer},
        ]
    }


def draw_facts(lists: dict[str, list[str]], choose: random.Random) -> dict[str, str]:
    """A value for every slot that a phrase may have."""
    facts = {slot: choose.choice(values) for slot, values in lists.items()}
    products = lists["machine"] + lists["furniture"] + lists["small"]
    product, other = choose.sample(products, 2)
    day = weekday_from(date(2026, 1, 5) + timedelta(days=choose.randrange(330)))
    second_day = weekday_from(day + timedelta(days=choose.randrange(2, 20)))
    year, month = choose.choice((2027, 2028)), choose.choice(calendar.month_name[1:])
    return facts | {
        "product": product,
        "a_product": with_article(product),
        "other": other,
        "a_other": with_article(other),
        "a_furniture": with_article(facts["furniture"]),
        "order": str(choose.randrange(20_000, 100_000)),
        "amount": f"£{choose.randrange(12, 190)}.{choose.choice(('00', '50', '95'))}",
        "count": str(choose.randrange(3, 40)),
        "model": f"{choose.choice('BDKLRT')}{choose.randrange(100, 1000)}",
        "month": f"{month} {year}",
        "day": scribbled(day, choose),
        "date": written_out(day),
        "day2": scribbled(second_day, choose),
        "date2": written_out(second_day),
    }


def weekday_from(day: date) -> date:
    """The day itself or, at a weekend, the Monday after it."""
    return day + timedelta(days=7 - day.weekday()) if day.weekday() > 4 else day


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def written_out(day: date) -> str:
    """Tuesday 14 May. By hand, as strftime speaks the machine's language."""
    return f"{calendar.day_name[day.weekday()]} {day.day} {calendar.month_name[day.month]}"


def scribbled(day: date, choose: random.Random) -> str:
    """tue 14 may, Tue 14 May, tuesday 14 may."""
    weekday, month = calendar.day_name[day.weekday()], calendar.month_name[day.month]
    return choose.choice(
        (f"{weekday[:3].lower()} {day.day} {month[:3].lower()}", f"{weekday[:3]} {day.day} {month[:3]}",
         f"{weekday.lower()} {day.day} {month.lower()}")
    )  # fmt: skip


if __name__ == "__main__":
    main()
