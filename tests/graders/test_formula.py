"""calculate_output: arithmetic that is hand-computed, and what is no arithmetic."""

from __future__ import annotations

import math

import pytest

from whet.recipe.formula import Formula

VALUES = {"a": 2.0, "b": 3.0, "c": -0.5}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 2.0),
        ("(a + b) / 2", 2.5),
        ("0.5 * a + 0.5 * b", 2.5),
        ("2 * a ^ 2", 8.0),  # power binds before the product, as in OpenAI's formulas and unlike Python's ^
        ("a ** 3", 8.0),
        ("-c", 0.5),
        ("min(a, b, c)", -0.5),
        ("max(a, 1)", 2.0),
        ("abs(c) + floor(2.7) + ceil(2.1)", 5.5),
        ("sqrt(a * 8) + exp(0) + log(1)", 5.0),
    ],
)
def test_formulas(text: str, value: float) -> None:
    assert Formula(text, VALUES)(VALUES) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "a.__class__", "(lambda: 1)()", "[x for x in (1,)]", "a if b else c", "",
        "'text'", "True", "a[0]", "min()", "log(a, b)", "pow(a, b)", "min(*a)", "a; b", "a = 1", "a // b", "d",
        "a == b", "f'{a}'",
        "(" * 500 + "a" + ")" * 500, "a+" * 2000 + "a",
    ],
)  # fmt: skip
def test_what_is_no_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Formula(text, VALUES)


@pytest.mark.parametrize(
    "text", ["1 / (a - 2)", "log(c)", "sqrt(c)", "10 ^ 1000", "exp(1000)", "c ^ 0.5", "1e308 * 10"]
)
def test_no_finite_result_is_an_error(text: str) -> None:
    with pytest.raises((ArithmeticError, ValueError)):
        Formula(text, VALUES)(VALUES)


def test_the_names_that_are_used() -> None:
    assert Formula("a + max(b, 1)", VALUES).names == {"a", "b"}
    assert math.isclose(Formula("a", VALUES)({"a": 0.1}), 0.1)
