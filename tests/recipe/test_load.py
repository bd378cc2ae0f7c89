"""From YAML and words to a recipe: what is refused, with its place, and what is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from whet.errors import RecipeError
from whet.recipe import MethodPart, Recipe, load_recipe, recipe_yaml


def fault(*words: str, yaml: str | None = None, folder: Path | None = None) -> str:
    path = None
    if yaml is not None and folder is not None:
        path = folder / "recipe.yaml"
        path.write_text(yaml)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method.r=0"], "`method.r`: must be greater than or equal to 1; found 0"),
        (["method.rr=4"], "unknown key `method.rr`. Did you mean 'r'?"),
        (["method=prefx"], "kind must be one of lora, full, adalora, ia3, vera, oft, boft, ln_tuning, "),
        (["method=prefx"], "Did you mean 'prefix'?"),
        (["method=prefix", "method.r=4"], "unknown key `method.r`"),
        (["train.learning_rate=.inf"], "`train.learning_rate`: must be a finite number"),
        (["train.warmup_steps=.inf"], "`train.warmup_steps`: must be a finite number"),
        (["method=full", "model.quantize=nf4"], "holds the base in whole steps"),
        (["model=5"], "`model`: must be keys and values, or the short form; found 5"),
        (["train.epochs"], "'train.epochs' is not `key=value`"),
        (["recipe.yaml"], "a recipe comes before the settings"),
    ],
)
def test_settings_that_are_refused(words: list[str], said: str) -> None:
    assert said in fault("data=rows.jsonl", *words)


def test_a_key_of_several_files_names_the_list() -> None:
    said = fault("data=[a.jsonl, b.jsonl]", "data.columns={prompt: question}")
    assert "`data.columns` cannot be set: `data` is a list of 2" in said


def test_a_key_that_is_there_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    yaml = "data: a.jsonl\ntrain:\n  max_steps: 1\nmethod: full\ntrain:\n  epochs: 2\n"
    assert "recipe.yaml:5: `train` is there twice, first at line 2" in fault(yaml=yaml, folder=tmp_path)


def test_rows_in_the_place_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(RecipeError, match="rows are named by data="):
        load_recipe(tmp_path / "rows.jsonl")


def test_every_method_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    kinds = [part.model_fields["kind"].default for part in MethodPart.__args__[0].__args__]  # type: ignore[attr-defined]
    assert {"full", "lora", "bottleneck", "prefix", "auto"} <= set(kinds)
    for kind in kinds:
        recipe = load_recipe(None, ["data=a.jsonl", f"method={kind}"])
        (tmp_path / "again.yaml").write_text(recipe_yaml(recipe))
        assert load_recipe(tmp_path / "again.yaml") == recipe
        assert isinstance(recipe, Recipe)


def test_one_tracker_needs_no_list() -> None:
    assert load_recipe(None, ["data=a.jsonl", "track=tensorboard"]).track == ["tensorboard"]
