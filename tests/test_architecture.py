"""The walls of the house: which room may import which (docs/architecture.md), read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "whet"
PLAIN = {"recipe", "errors", "rows", "entrance", "look", "endpoint", "listen", "answers", "functions"}
"""Modules that every room may import; they themselves import little of whet."""

MAY_IMPORT: dict[str, set[str]] = {
    "recipe": {"errors"},
    "errors": set(),
    "entrance": set(),
    "rows": set(),
    "endpoint": {"errors", "recipe"},
    "listen": {"errors"},
    "answers": set(),
    "functions": {"errors"},
    "look": {"errors"},
    "data": set(),
    "tokens": set(),
    "methods": set(),
    "objectives": set(),
    "graders": set(),
    "models": {"tokens", "methods"},
    "train": {"data", "tokens", "models", "methods", "objectives", "graders"},
    "advise": {"data", "tokens", "models", "methods", "objectives", "train"},
    "evaluate": {"data", "tokens", "models", "methods", "objectives", "train"},
    "incontext": {"data", "tokens", "models", "methods", "objectives", "train", "evaluate"},
    "fewshot": {"data", "tokens", "models", "methods", "objectives", "train", "evaluate", "incontext"},
    "rlhf": {"data", "tokens", "models", "train", "graders", "evaluate"},
    "human": {"data", "tokens", "models", "train", "evaluate"},
    "serve": {"data", "tokens", "models", "methods", "objectives", "train", "evaluate"},
    "api": {"data", "tokens", "models", "methods", "objectives", "train", "advise", "evaluate"},
    "cli": {
        "data",
        "tokens",
        "models",
        "methods",
        "objectives",
        "train",
        "advise",
        "evaluate",
        "incontext",
        "fewshot",
        "human",
        "api",
        "graders",
        "rlhf",
        "serve",
    },
    "__init__": {"models", "train", "api"},
    "__main__": {"cli"},
}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported_rooms(source: str) -> set[str]:
    """Rooms of whet that a module imports anywhere: at the top, inside functions, for the type checker."""
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "whet" else [node.module]
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError("imports are written in full: from whet.room import name")
        rooms |= {name.split(".")[1] for name in names if name and name.startswith("whet.")}
    return rooms


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    room = room_of(path)
    allowed = MAY_IMPORT[room] | {room} | (PLAIN if room not in PLAIN else set())
    assert imported_rooms(path.read_text(encoding="utf-8")) <= allowed


def test_the_reader_of_imports_sees_every_form() -> None:
    source = "import whet.data\nfrom whet import tokens\ndef f():\n    from whet.train.run import run\n"
    assert imported_rooms(source) == {"data", "tokens", "train"}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["advise", "--help"],
        ["runs", "--help"],
        ["recipe", "--help"],
        ["grade", "--help"],
        ["review", "--help"],
        ["serve", "--help"],
    ],
)
def test_help_does_not_import_torch(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['whet', *{words}]\n"
        "from whet.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pyarrow', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
