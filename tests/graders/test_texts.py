"""Templates, and graders of the text alone, against values worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from whet.errors import RecipeError
from whet.graders import Grade, build
from whet.recipe import load_grader
from whet.recipe.graders import GRADERS
from whet.recipe.template import Absent, Template


def grades(settings: dict[str, Any], rows: list[dict[str, Any]], answers: list[str], **lent: Any) -> list[Grade]:
    kind = GRADERS[settings["type"]]
    return build(kind(**settings), **lent).grade(rows, answers)


def score(settings: dict[str, Any], answer: str, /, **row: Any) -> float | None:
    return grades(settings, [row], [answer])[0].score


def test_a_template_is_filled_from_row_and_answer() -> None:
    row = {"a": {"b": [1, {"c": "deep"}]}, "x-y": 2.5, "flag": True}
    template = Template("{{item.a.b[1].c}}/{{ item.x-y }}/{{item.flag}}/{{sample.output_text}}/{{item.a.b}}")
    assert template(row, {"output_text": "said {{item.flag}}"}) == 'deep/2.5/true/said {{item.flag}}/[1, {"c": "deep"}]'
    assert Template("nothing")({}, {}) == "nothing"


@pytest.mark.parametrize("path", ["item.none", "item.a.none", "item.a[5]", "item.null", "item.a.b.c.d"])
def test_what_is_not_there_is_absent(path: str) -> None:
    with pytest.raises(Absent, match="no `item"):
        Template(f"{{{{{path}}}}}")({"a": [1], "null": None}, {})


@pytest.mark.parametrize("place", ["itm.a", "item", "a", "sample.choices[0]", "item.a | upper", "item['a']", ""])
def test_places_that_are_none(place: str) -> None:
    with pytest.raises(ValueError, match=r"neither|no `sample"):
        Template(f"{{{{{place}}}}}")


@pytest.mark.parametrize(
    ("operation", "answer", "expected"),
    [
        ("eq", "Paris", 1), ("eq", "paris", 0), ("ne", "paris", 1), ("ne", "Paris", 0), ("like", "In Paris.", 1),
        ("like", "in paris", 0), ("ilike", "in PARIS", 1), ("ilike", "Rome", 0), ("like", "Par", 0),
    ],
)  # fmt: skip
def test_string_check(operation: str, answer: str, expected: float) -> None:
    settings = {"type": "string_check", "operation": operation, "reference": "{{item.city}}"}
    assert score(settings, answer, city="Paris") == expected


def test_what_the_answer_lacks_costs_it_and_what_the_row_lacks_is_a_fault() -> None:
    settings = {"type": "string_check", "name": "city", "operation": "ne", "input": "{{sample.output_json.city}}",
                "reference": "{{item.city}}"}  # fmt: skip
    rows = [{"city": "Rome"}, {"city": "Rome"}, {"place": "rows.jsonl:7"}]
    found = grades(settings, rows, ['```json\n{"city": "Paris"}\n```', "no JSON", '{"city": "Paris"}'])
    assert [grade.score for grade in found] == [1, 0, None]
    assert found[0].parts == {"city": 1}
    assert found[2].fault == "city, rows.jsonl:7: no `item.city`"


def test_a_column_that_no_row_has_is_told_before_grading() -> None:
    grader = build(GRADERS["string_check"](operation="eq", reference="{{item.ctiy}}"))
    with pytest.raises(RecipeError, match=r"no row has a column 'ctiy'. Did you mean 'city'"):
        grader.check([{"city": "Rome"}, {"town": "Bath"}])
    build(GRADERS["string_check"](operation="eq", reference="{{item.town}}")).check(
        [{"city": "Rome"}, {"town": "Bath"}]
    )


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("It is 5, or 12.", "12", 1),
        ("so (1,200) million", "-1.2 billion", 1),
        ("25%", "0.25", 1),
        ("25%", "25", 1),
        ("100.001", "100", 1),
        ("100.1", "100", 0),
        ("none", "100", 0),
        ("99", "100", 0),
    ],
)
def test_number(answer: str, reference: str, expected: float) -> None:
    assert score({"type": "number", "reference": "{{item.answer}}"}, answer, answer=reference) == expected


def test_number_within_tolerances() -> None:
    settings = {"type": "number", "reference": "{{item.answer}}"}
    assert score(settings | {"absolute_tolerance": 1}, "99", answer=100) == 1
    assert score(settings | {"relative_tolerance": 0.011}, "99", answer=100) == 1
    assert score(settings | {"relative_tolerance": 0.009}, "99", answer=100) == 0
    [grade] = grades(settings, [{"answer": "none"}], ["5"])
    assert grade.score is None
    assert "no number in the reference" in str(grade.fault)


def test_json_schema() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    settings = {"type": "json_schema", "json_schema": schema}
    answers = ['{"a": 1}', '```json\n{"a": 2}\n```', '{"a": "1"}', "{}", "a: 1", "[" * 100_000]
    assert [grade.score for grade in grades(settings, [{}] * 6, answers)] == [1, 1, 0, 0, 0, 0]
    of_row = {"type": "json_schema"}
    rows: list[dict[str, Any]] = [{"schema": schema}, {"schema": '{"type": "string"}'}, {"schema": "{"}, {}]
    found = [grade.score for grade in grades(of_row, rows, ['{"a": 1}', '"text"', "1", "1"])]
    assert found == [1, 1, None, None]
    with pytest.raises(RecipeError, match="broken schema"):
        build(GRADERS["json_schema"](json_schema={"type": "nothing"}))


@pytest.mark.parametrize(("words", "expected"), [(0, 0.5), (1, 0.75), (2, 1), (4, 1), (5, 0.75), (7, 0.25), (9, 0)])
def test_length_falls_linearly_outside_its_band(words: int, expected: float) -> None:
    settings = {"type": "length", "min": 2, "max": 4, "slope": 0.25}
    assert score(settings, " ".join(["word"] * words)) == expected


def test_length_in_other_units(tmp_path: Path, tiny_tokenizer: Any) -> None:
    assert score({"type": "length", "max": 3, "unit": "characters", "slope": 0.5}, "four") == 0.5
    tiny_tokenizer().save_pretrained(tmp_path)
    text = "the cat sat on the mat"
    tokens = len(tiny_tokenizer()(text, add_special_tokens=False)["input_ids"])
    settings = {"type": "length", "unit": "tokens", "tokenizer": str(tmp_path), "slope": 0.125}
    assert score(settings | {"max": tokens}, text) == 1
    assert score(settings | {"max": tokens - 2}, text) == 0.75
    with pytest.raises(RecipeError, match="no tokenizer"):
        build(GRADERS["length"](**settings | {"max": 3, "tokenizer": str(tmp_path / "none")}))


def test_multi_is_a_formula_over_its_graders() -> None:
    graders = {
        "name": {"type": "text_similarity", "evaluation_metric": "fuzzy_match", "input": "{{sample.output_json.name}}",
                 "reference": "{{item.name}}"},
        "mail": {"type": "string_check", "operation": "eq", "input": "{{sample.output_json.mail}}",
                 "reference": "{{item.mail}}"},
        "size": {"type": "length", "unit": "characters", "max": 10, "slope": 1},
    }  # fmt: skip
    settings = {"type": "multi", "graders": graders, "calculate_output": "(name + mail) / 2"}
    row = {"name": "Ann Lee", "mail": "a@x.org"}
    right, wrong = '{"name": "Ann Lee", "mail": "a@x.org"}', '{"name": "Ann Lee", "mail": "b@x.org"}'
    found = grades(settings, [row, row, {"name": "Ann Lee"}, row], [right, wrong, right, "no"])
    assert [grade.score for grade in found] == [1, 0.5, None, 0]
    assert found[1].parts == {"name": 1, "mail": 0, "size": 0}  # also what the formula does not use
    assert found[2].parts == {"name": 1, "size": 0}
    assert found[2].fault == "multi: mail, row 3: no `item.mail`"
    division = settings | {"calculate_output": "1 / mail"}
    [grade] = grades(division, [row], [wrong])
    assert (grade.score, grade.fault) == (
        None,
        "multi, row 1: calculate_output: ZeroDivisionError: float division by zero",
    )
    with pytest.raises(RecipeError, match="no row has a column 'mail'"):
        build(GRADERS["multi"](**settings)).check([{"name": "Ann Lee"}])


def test_a_grader_from_a_file_and_as_a_field(tmp_path: Path) -> None:
    from whet.recipe.graders import GraderPart
    from whet.recipe.part import Part

    class Holder(Part):
        grader: GraderPart

    file = tmp_path / "grader.yaml"
    file.write_text("type: string_check\noperation: eq\nreference: '{{item.a}}'\n")
    assert Holder(grader=str(file)).grader == load_grader(file)  # type: ignore[arg-type]
    again = Holder(**Holder(grader=str(file)).model_dump(mode="json"))  # type: ignore[arg-type]
    assert again.grader == load_grader(file)
    json = tmp_path / "grader.json"
    json.write_text('{"type": "string_check", "operation": "eq", "reference": "{{item.a}}"}')
    assert load_grader(json) == load_grader(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type: string_chek", "no grader 'string_chek'. Did you mean 'string_check'?"),
        ("operation: eq", "no `type`"),
        ("{type: string_check, operation: eq, refrence: x}", "unknown key `refrence`. Did you mean 'reference'?"),
        ("{type: string_check, operation: is, reference: x}", "`operation`: must be 'eq', 'ne', 'like' or 'ilike'"),
        ("{type: string_check, operation: eq, reference: '{{row.x}}'}", "neither {{item.NAME}} nor"),
        ("{type: multi, graders: {a: {type: length, maxx: 3}}, calculate_output: a}", "unknown key `graders.a.maxx`"),
        ("{type: multi, graders: {a: {type: length, max: 3}}, calculate_output: a + b}", "no grader 'b'"),
        ("{type: multi, graders: {a-b: {type: length, max: 3}}, calculate_output: a}", "graders"),
        ("{type: python, source: 'def grade(:'}", "no Python"),
        ("{type: length, min: 5, max: 2}", "min 5 is above max 2"),
        ("{type: text_similarity, evaluation_metric: cosine, reference: x}", "embedding_model"),
        ("{type: score_model, model: m, range: [1, 0], input: [{role: user, content: x}]}", "lowest score"),
        (
            "{type: label_model, model: m, labels: [a], passing_labels: [b], input: [{role: user, content: x}]}",
            "'b' is",
        ),
    ],
)
def test_settings_that_are_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "grader.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_grader(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_grader(tmp_path / "none.yaml")
