"""Texts with `{{item.NAME}}` and `{{sample.output_text}}` in them, as OpenAI's graders have them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from whet.errors import did_you_mean

SAMPLE = ("output_text", "output_json")
"""What is known of an answer: its text, and its value where it is JSON."""
_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"\s*(item|sample)((?:\.[^\s.\[\]{}]+|\[\d+\])+)\s*")
_STEP = re.compile(r"\.([^\s.\[\]{}]+)|\[(\d+)\]")

Path = tuple[str | int, ...]
"""`item.a[0].b` is ("item", "a", 0, "b")."""


class Absent(LookupError):
    """What a template asks for is not there. `of_sample`: it is the answer that has it not, and not the row."""

    def __init__(self, path: Path) -> None:
        self.of_sample = path[0] == "sample"
        super().__init__(f"no `{dotted(path)}`")


class Template:
    """Raises ValueError for a place that is none of `item.` and `sample.`."""

    def __init__(self, text: str) -> None:
        pieces = _PLACE.split(text)
        self._texts, self.paths = pieces[::2], [_path(place) for place in pieces[1::2]]

    def __call__(self, item: Mapping[str, Any], sample: Mapping[str, Any]) -> str:
        """The text, filled in: texts as they are, other values as JSON. Raises Absent."""
        filled = [self._texts[0]]
        for path, text in zip(self.paths, self._texts[1:], strict=True):
            found = value_at(path, {"item": item, "sample": sample})
            filled += [found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str), text]
        return "".join(filled)

    def alone(self) -> Path | None:
        """The path where the text is one place and nothing beside it."""
        return self.paths[0] if len(self.paths) == 1 and not "".join(self._texts).strip() else None

    @property
    def columns(self) -> set[str]:
        """Those of the row that it needs."""
        return {str(path[1]) for path in self.paths if path[0] == "item"}


def value_at(path: Path, tree: Any) -> Any:
    """What lies at a path. Raises Absent where nothing does, or null."""
    for step in path:
        inside = isinstance(step, str) and isinstance(tree, Mapping) and step in tree
        listed = isinstance(step, int) and isinstance(tree, Sequence) and not isinstance(tree, str) and step < len(tree)
        tree = tree[step] if inside or listed else None
        if tree is None:
            raise Absent(path)
    return tree


def dotted(path: Path) -> str:
    return str(path[0]) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path[1:])


def _path(place: str) -> Path:
    match = _PATH.fullmatch(place)
    if not match:
        raise ValueError(f"{{{{{place}}}}} is neither {{{{item.NAME}}}} nor {{{{sample.output_text}}}}")
    steps: list[str | int] = [int(number) if number else name for name, number in _STEP.findall(match[2])]
    if match[1] == "sample" and steps[0] not in SAMPLE:
        raise ValueError(
            f"no `sample.{steps[0]}`: whet's answers are text, `sample.output_text`, or `sample.output_json`."
            f"{did_you_mean(str(steps[0]), SAMPLE)}"
        )
    return (match[1], *steps)
