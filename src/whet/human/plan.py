"""Who judges what: items in an order of each judge's own, sides at random, attention checks among them, the rubric.

All of it follows from the seed, and the sides from the seed, the judge and the item, so that a page that is opened
again shows the same.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from whet.errors import RecipeError
from whet.human.pairs import Material, Pair, Turns, key_of, said

VERDICTS = {
    "left": "left better",
    "right": "right better",
    "tie": "tie",
    "both_bad": "both bad",
    "skip": "skip",
}
CANDIDATES = 20
"""Answers to other prompts that are looked at for a check; the one that shares the fewest words is taken."""


@dataclass(frozen=True)
class Item:
    """A pair under a name that says nothing. Of a check, answer 0 belongs to the prompt and answer 1 to another."""

    id: str
    prompt: Turns
    answers: tuple[Turns, Turns]
    models: tuple[str, str]
    place: str
    check: bool = False
    tools: list[dict[str, Any]] | None = None

    @property
    def question(self) -> str:
        """The prompt as a key."""
        return key_of(self.prompt)


@dataclass(frozen=True)
class Judge:
    """`token` opens the review as this judge; `items` are theirs, in their order."""

    name: str
    token: str
    items: list[str]


@dataclass(frozen=True)
class Question:
    """Of a rubric: answered by 1 to 5 for each answer."""

    key: str
    text: str


def left_of(seed: int, judge: str, item: str) -> int:
    """Which answer, 0 or 1, this judge sees at the left: a fair coin."""
    return hashlib.blake2b(f"{seed}/{judge}/{item}".encode(), digest_size=1).digest()[0] & 1


def judge_names(words: str) -> list[str]:
    """Names with commas between. Raises RecipeError."""
    names = [name.strip() for name in words.split(",") if name.strip()]
    odd = [name for name in names if not re.fullmatch(r"[\w.-]{1,40}", name)]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if not names or odd or twice:
        what = f"{odd[0]!r} is no name" if odd else f"{twice[0]!r} is there twice" if twice else "no judge"
        raise RecipeError(what, where="--judges", do="letters, digits, . _ -, with commas between: --judges anna,ben")
    return names


def planned(
    material: Material, names: Sequence[str], attention: float, overlap: int | None, seed: int
) -> tuple[list[Item], list[Judge], list[str]]:
    """Items (checks among them), judges with their items, and notes.

    `attention` is the share of a judge's items that are checks, which all judges see; `overlap` how many judges see a
    pair, all if None. Raises RecipeError for an overlap that there are no judges for.
    """
    each = len(names) if overlap is None else overlap
    if not 1 <= each <= len(names):
        raise RecipeError(f"{each} of {len(names)} judges cannot see a pair", where="--overlap", do="1 to all of them")
    draw = random.Random(seed)
    pairs = list(material.pairs)
    draw.shuffle(pairs)
    share = math.ceil(len(pairs) * each / len(names))
    checks, notes = _checks(pairs, math.ceil(share * attention / (1 - attention)), draw)
    everything = [(pair, False) for pair in pairs] + [(pair, True) for pair in checks]
    names_of_items = draw.sample(range(16**8), len(everything))
    items = [
        Item(f"{number:08x}", pair.prompt, pair.answers, pair.models, pair.place, check, pair.tools)
        for number, (pair, check) in zip(names_of_items, everything, strict=True)
    ]
    seen: dict[str, list[str]] = {name: [] for name in names}
    for item in items:
        # those with the least to do, by lot where several have as little
        order = sorted(names, key=lambda name: (len(seen[name]), draw.random()))
        for name in order if item.check else order[:each]:
            seen[name].append(item.id)
    for mine in seen.values():
        draw.shuffle(mine)
    return items, [Judge(name, secrets.token_urlsafe(16), mine) for name, mine in seen.items()], notes


def _checks(pairs: list[Pair], count: int, draw: random.Random) -> tuple[list[Pair], list[str]]:
    """Up to `count` pairs of an answer and one that belongs to another prompt, as unlike as can be found."""
    made: list[Pair] = []
    for pair in draw.sample(pairs, len(pairs)):
        if len(made) == count:
            break
        side = draw.randrange(2)
        own = set(said(pair.answers[side]).lower().split())
        words = own | {word for turn in pair.prompt for word in turn["content"].lower().split()}
        others = [other for other in draw.sample(pairs, min(CANDIDATES, len(pairs))) if other.question != pair.question]
        foreign = [turns for other in others for turns in other.answers if said(turns).strip()]
        if not own or not foreign:
            continue
        worst = min(foreign, key=lambda turns: len(words & set(said(turns).lower().split())) / len(words))
        if said(worst).strip() != said(pair.answers[side]).strip():
            made.append(Pair(pair.prompt, (pair.answers[side], worst), (pair.models[side], ""), pair.place, pair.tools))
    if len(made) < count:
        return made, [f"{len(made)} of {count} attention checks could be made: too few prompts with different answers"]
    return made, []


def read_rubric(path: str) -> list[Question]:
    """Questions of a YAML file: a list of texts, or names with texts. Raises RecipeError."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"cannot be read: {error}", where=path, do="give a YAML file in UTF-8") from None
    tree = tree.get("questions", tree) if isinstance(tree, dict) else tree
    pairs = list(tree.items()) if isinstance(tree, dict) else [(text, text) for text in tree or []]
    sound = isinstance(tree, list | dict) and all(isinstance(text, str) and text.strip() for _, text in pairs)
    if not pairs or not sound or len({str(key) for key, _ in pairs}) < len(pairs):
        do = "a list of questions (- Is it true?), or names with questions (truth: Is it true?)"
        raise RecipeError("no rubric", where=path, do=do)
    return [Question(str(key), text.strip()) for key, text in pairs]
