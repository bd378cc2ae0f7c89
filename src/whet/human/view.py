"""What a judge's pages show, and nothing else: texts, sides, this judge's own judgements."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from whet.human.folder import Review
from whet.human.log import Judgement
from whet.human.pairs import Turns, said
from whet.human.plan import VERDICTS, Item, Judge

KEYS = {"left": "F", "right": "J", "tie": "T", "both_bad": "B", "skip": "S"}
_UNSEEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Side:
    """One of the two answers as it is shown. `edited` is None where the judge left it as it was."""

    name: str
    text: str
    edited: str | None
    ratings: list[int | None]
    edit_key: str


@cache
def _pages() -> Environment:
    return Environment(
        loader=PackageLoader("whet.human", "pages"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def shown(text: str) -> str:
    """`text` as HTML can hold it: control characters, NUL among them, as the sign for what cannot be shown."""
    return _UNSEEN.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def same_text(given: str, turns: Turns) -> bool:
    """Whether an edit field came back as the page had filled it."""
    return shown(given).strip() == shown(said(turns)).strip()


def item_page(
    review: Review,
    judge: Judge,
    item: Item,
    judged: dict[str, Judgement],
    now: float,
    fault: str = "",
    unsaved: Judgement | None = None,
) -> str:
    """The page of one pair; `unsaved` is what was sent and lacks something (`fault`), `now` seconds since 1970."""
    place = judge.items.index(item.id)
    before = judged.get(item.id)
    filled = unsaved or before
    left = review.left(judge, item)
    sides = []
    for name, answer, key in (("left", left, "D"), ("right", 1 - left, "K")):
        ratings = filled.ratings.get(str(answer), {}) if filled else {}
        edited = filled.edits.get(str(answer)) if filled else None
        sides.append(
            Side(name, shown(said(item.answers[answer])), None if edited is None else shown(edited),
                 [ratings.get(question.key) for question in review.rubric], key)
        )  # fmt: skip
    return _pages().get_template("item.html.j2").render(
        judge=judge.name, item=item.id, number=place + 1, of=len(judge.items), done=len(judged),
        turns=[(turn["role"], shown(said([turn | {"role": "assistant"}]))) for turn in item.prompt],
        sides=sides, rubric=review.rubric, verdicts=VERDICTS, keys=KEYS, fault=fault,
        verdict=before.verdict if before else None, reason=shown(filled.reason) if filled else "", shown=f"{now:.2f}",
        back=judge.items[place - 1] if place else None,
        forward=judge.items[place + 1] if before and place + 1 < len(judge.items) else None,
    )  # fmt: skip


def home_page(review: Review, judge: Judge, judged: dict[str, Judgement], following: str | None) -> str:
    """Where a judge begins, goes on and ends: how it is done, how far it is, what was judged."""
    items = [(number, item, judged.get(item)) for number, item in enumerate(judge.items, 1)]
    return _pages().get_template("home.html.j2").render(
        judge=judge.name, of=len(judge.items), done=len(judged), following=following, items=items,
        rubric=review.rubric, verdicts=VERDICTS, keys=KEYS,
    )  # fmt: skip


def message_page(title: str, text: str, onward: str = "") -> str:
    return _pages().get_template("message.html.j2").render(title=title, text=text, onward=onward)
