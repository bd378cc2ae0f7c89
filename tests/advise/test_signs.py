"""Signs beside numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from whet.advise.signs import measure, of_lengths, of_likeness, of_text
from whet.rows import Row


def row(*ids: int) -> Row:
    return Row(np.array(ids, dtype=np.int32), np.arange(len(ids)) > 0)


def values(signs: list[Any]) -> dict[str, float]:
    return {sign.name: sign.value for sign in signs}


def test_tokens_a_word_and_bytes_a_token() -> None:
    found = values(of_text([row(1, 2, 3, 4), row(5, 6)], ["ab cd", "é"]))
    assert found == {"tokens a word": 2.0, "bytes a token": pytest.approx(7 / 6)}


def test_lengths_are_those_of_rows() -> None:
    found = values(of_lengths([*range(1, 11)]))
    assert found == {"rows": 10, "median length": 5, "90 % length": 9, "longest": 10}
    assert "few rows" in of_lengths([1])[0].suggests


def test_likeness_of_equal_and_of_different_rows() -> None:
    same = values(of_likeness([row(*range(41))] * 4))
    assert same["repeated rows"] == 0.75
    assert same["shared prefixes"] == 0.75  # the trie stores 40 of 160 tokens
    assert same["distinct 5-grams"] == 0.25
    apart = values(of_likeness([row(*range(start, start + 41)) for start in (0, 100, 200)]))
    assert apart == {"repeated rows": 0.0, "shared prefixes": 0.0, "distinct 5-grams": 1.0}


def test_base_bits_a_byte_are_those_of_the_engine(tiny_tokenizer: Callable[[], Any]) -> None:
    class Coin:  # a model that gives every token one half
        def scores(self, rows: list[Row]) -> list[torch.Tensor]:
            return [torch.full((each.target_count,), float(np.log(0.5))) for each in rows]

    tokenizer = tiny_tokenizer()
    ids = tokenizer("xyz", add_special_tokens=False)["input_ids"]  # a byte a token: none of these were merged
    assert len(ids) == 3
    found = values(measure([row(ids[0], *ids)], Coin(), tokenizer))  # type: ignore[arg-type]
    assert found["base bits a byte"] == pytest.approx(1.0)
