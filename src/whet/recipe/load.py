"""From YAML and `a.b=value` words to a recipe, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from whet.errors import RecipeError
from whet.recipe.faults import fault
from whet.recipe.tree import Recipe


def load_recipe(path: str | Path | None = None, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """A recipe from a YAML file (or none) and `a.b=value` words, later ones winning.

    Raises RecipeError with the file or the word as its place, the key's path, and the nearest known name.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        tree = read_yaml(Path(path))
    for word in overrides:
        set_word(tree, word)
    return check_recipe(tree, where=str(path) if path else "command line")


def check_recipe(tree: dict[str, Any], where: str) -> Recipe:
    """The typed recipe of a plain tree, or a RecipeError that names the first fault and how many more there are."""
    unknown = [key for key in tree if key not in Recipe.model_fields]
    if "data" not in tree and not unknown:
        raise RecipeError("no data named", where=where, do="add data=my.jsonl, or `data: my.jsonl` in the recipe")
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise fault(error, Recipe, where) from None


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe, resolved, as YAML that `load_recipe` reads back to an equal one."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
        _check_doubles(yaml.compose(text, yaml.SafeLoader), path)
    except FileNotFoundError:
        raise RecipeError("no such recipe", where=str(path), do="check the path, or give model=... data=...") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        rows = path.suffix not in (".yaml", ".yml")
        do = f"rows are named by data={path}" if rows else "correct the line"
        raise RecipeError(f"not YAML: {getattr(error, 'problem', None) or error}", where=where, do=do) from None
    if not isinstance(tree, dict):
        raise RecipeError("a recipe is keys and values", where=str(path), do="see recipes/quickstart/recipe.yaml")
    return tree


def _check_doubles(node: yaml.Node | None, path: Path) -> None:
    """PyYAML lets the last of two equal keys win in silence. Raises RecipeError with both lines."""
    seen: dict[str, int] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        line = key.start_mark.line + 1
        if key.value in seen:
            raise RecipeError(
                f"`{key.value}` is there twice, first at line {seen[key.value]}", where=f"{path}:{line}", do="join them"
            )
        seen[key.value] = line
        _check_doubles(value, path)
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        _check_doubles(item, path)


def set_word(tree: dict[str, Any], word: str) -> None:
    """Put `a.b=value` into the tree; the value is read as YAML."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        first = word.endswith((".yaml", ".yml"))
        do = "a recipe comes before the settings" if first else "settings are key=value; quote what has blanks in it"
        raise RecipeError(f"{word!r} is not `key=value`", where="command line", do=do)
    try:
        parsed = yaml.safe_load(value) if value else None
    except yaml.YAMLError:
        parsed = value
    # PyYAML keeps YAML 1.1, where "#" ends a value after a blank only and "a: b" is a mapping; a path stays a path.
    if isinstance(parsed, dict) and not value.lstrip().startswith("{"):
        parsed = value
    *parents, last = key.split(".")
    for parent in parents:
        below = tree.get(parent)
        if isinstance(below, str):  # a short form, e.g. `model: NAME` and then model.dtype=...
            below = {"path" if parent == "data" else "name" if parent == "model" else "kind": below}
        elif isinstance(below, list):
            raise RecipeError(
                f"`{key}` cannot be set: `{parent}` is a list of {len(below)}",
                where="command line",
                do=f"set it in the list's items: '{parent}=[{{path: ..., {last}: ...}}, ...]'",
            )
        elif not isinstance(below, dict):
            below = {}
        tree[parent] = below
        tree = below
    tree[last] = parsed
