"""Bits a byte as a signal: what is dropped for it, and that the figure is the model's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from whet.data.curation.pipeline import curate
from whet.errors import ModelError, RecipeError
from whet.evaluate.texts import bits_per_byte

TEXTS = ["the cat sat on the mat", "zq xv kj wq pf", "the dog lay on the rug; then they all went home", "a"]


def by_length(texts: list[str], model: str) -> list[float | None]:
    """A stand-in for a model where only the step is looked at: the text's length in tens."""
    return [None if text == "?" else len(text) / 10 for text in texts]


def rows(*sizes: int) -> list[dict[str, Any]]:
    return [{"text": "x" * size} for size in sizes]


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ({"max": 0.7}, [1, 2, 3, 4, 5, 6, 7]),
        ({"min": 0.3, "max": 0.7}, [3, 4, 5, 6, 7]),
        ({"drop_highest": 0.2}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"drop_lowest": 0.1, "max": 0.95}, [2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_bounds_and_quantiles(settings: dict[str, float], left: list[int]) -> None:
    done = curate(rows(*range(1, 11)), [{"perplexity": settings}], perplexity=by_length)
    assert done.rows == [{"text": "x" * size, "bits_per_byte": size / 10} for size in left]


def test_what_cannot_be_judged_stays() -> None:
    given = [{"text": "?"}, {"text": " "}, {"text": "xxxx"}]
    done = curate(given, [{"perplexity": {"max": 0.1, "min": 0.05}}, "sample"][:1], perplexity=by_length)
    assert [row["bits_per_byte"] for row in done.rows or []] == [None, None]
    assert done.ledger.steps[0].reasons == {"too unlikely": 1}


def test_the_answer_alone() -> None:
    row = {"prompt": "xxxxxxxx", "completion": "xx"}
    done = curate([row], [{"perplexity": {"part": "answer"}}], perplexity=by_length)
    assert done.rows == [row | {"bits_per_byte": 0.2}]


def test_without_a_model_it_says_what_to_do() -> None:
    with pytest.raises(RecipeError, match=r"whet\.evaluate\.texts\.bits_per_byte"):
        curate(rows(1), ["perplexity"])


def test_bits_per_byte_are_those_of_plain_transformers(model_folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(model_folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    found = bits_per_byte([*TEXTS, ""], str(model_folder))
    for text, bits in zip(TEXTS[:3], found, strict=False):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        size = len(
            tokenizer.decode(ids[0, 1:]).encode()
        )  # this tokenizer has no <s> before: nothing predicts the first
        with torch.no_grad():
            logps = torch.log_softmax(model(ids).logits.float(), -1)[0, :-1].gather(1, ids[0, 1:, None])
        assert bits == pytest.approx(-float(logps.sum()) / math.log(2) / size, rel=1e-5)
    assert found[3:] == [None, None]


def test_the_command_scores_with_a_model(model_folder: Path, tmp_path: Path) -> None:
    import json

    from typer.testing import CliRunner

    from whet.cli import app

    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    words = ["data", "perplexity", str(source), str(out), f"model={model_folder}", "--quiet"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    written = [json.loads(line)["bits_per_byte"] for line in out.read_text().splitlines()]
    assert written[:3] == pytest.approx(bits_per_byte(TEXTS[:3], str(model_folder)), abs=1e-4)
    assert written[3] is None


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        bits_per_byte(["text"], str(tmp_path / "none"))
