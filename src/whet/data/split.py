"""Rows set aside for validation, such that no row is learnt from and judged on as well."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from whet.rows import Example, Message


def content_key(example: Example) -> bytes:
    """16 bytes that are equal for rows with the same content: turns, text, tools and label.

    Places, ids, weights, groups and extras do not count, nor do runs of blanks and the ways Unicode has to write one
    letter (NFC).
    """
    return _key(example, (example.messages, example.prompt, example.chosen, example.rejected), example.label)


def _side_key(example: Example) -> bytes:
    """The content, or for answers that are compared their prompt: a model that has learnt from some of them must not be
    judged by others."""
    if example.shape in ("preference", "label"):
        return _key(example, (example.prompt,), None)
    return content_key(example)


def _key(example: Example, sides: Sequence[list[Message]], label: bool | None) -> bytes:
    content = [
        example.shape,
        example.text,
        *[[{key: value for key, value in turn.items() if key != "weight"} for turn in turns]
          for turns in sides],
        example.tools,
        label,
    ]  # fmt: skip
    spelled = json.dumps(_normal(content), sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(spelled.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def split(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(train, validation), both in the order given; validation gets `share` of the rows, rounded.

    Equal rows fall on one side, and so do the answers to one prompt where answers are compared. Either side gets a row
    wherever there are two different ones; `share` 0 sets none aside. A row's luck hangs on the seed and its content
    alone, so most rows stay on their side when others are added.
    """
    if share <= 0:
        return list(examples), []
    keys = [_side_key(example) for example in examples]
    sizes: dict[bytes, int] = {}
    for key in keys:
        sizes[key] = sizes.get(key, 0) + 1
    drawn = sorted(sizes, key=lambda key: hashlib.blake2b(key, salt=seed.to_bytes(16, "little")).digest())
    room = min(max(round(share * len(examples)), 1), len(examples) - 1)
    aside: set[bytes] = set()
    for key in drawn:
        if sizes[key] <= room:
            aside.add(key)
            room -= sizes[key]
    if not aside and len(drawn) > 1:  # every content comes more often than there is room for
        aside.add(min(drawn, key=lambda key: sizes[key]))
    train = [example for example, key in zip(examples, keys, strict=True) if key not in aside]
    validation = [example for example, key in zip(examples, keys, strict=True) if key in aside]
    return train, validation


def duplicates(train: Sequence[Example], validation: Sequence[Example]) -> list[Example]:
    """The rows of `train` whose content is in `validation` as well, in their order."""
    seen = {content_key(example) for example in validation}
    return [example for example in train if content_key(example) in seen]


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFC", value).split())
    if isinstance(value, dict):
        return {key: _normal(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(inner) for inner in value]
    return value
