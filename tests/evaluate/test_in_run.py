"""`evaluate:` in a recipe, and forgetting: real runs of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import whet
from whet.api import resume, run
from whet.errors import ModelError, RecipeError, RowError
from whet.evaluate.compare import compare
from whet.evaluate.run import evaluate
from whet.evaluate.subject import open_subject
from whet.evaluate.training import InRun
from whet.recipe import EvaluatePart

DROPS = {"kind": "lora", "r": 4, "lora_dropout": 0.2}
"""Draws random numbers at every step, which an evaluation must leave alone."""


@pytest.fixture
def with_metrics(recipe_of: Any) -> Any:
    def make(output: str = "run", every: Any = "evaluation", **evaluated: Any) -> Any:
        part = {"metrics": ["exact_match", "perplexity"], "limit": 3, "max_new_tokens": 4, "every": every}
        recipe = recipe_of(output, DROPS, max_steps=4, evaluate_every=2, checkpoint_every=2)
        return recipe.model_copy(update={"evaluate": EvaluatePart(**(part | evaluated))})

    return make


def lines(folder: Path, key: str) -> list[dict[str, Any]]:
    return [line for text in (folder / "metrics.jsonl").read_text().splitlines() if key in (line := json.loads(text))]


def test_a_run_tells_base_beside_tuned(with_metrics: Any) -> None:
    done = run(with_metrics(slices=[]), quiet=True)
    found = done.summary["evaluation"]
    assert [line["step"] for line in lines(done.folder, "metrics")][:2] == [0, 2]
    assert {"exact_match", "perplexity", "bits_per_byte"} == set(found["before"]) == set(found["after"])
    assert found["rows"] == 3
    again = evaluate(open_subject(str(done.folder)), _held_out(done.folder), ["perplexity"])
    assert found["after"]["perplexity"]["value"] == pytest.approx(again["perplexity"], rel=1e-4)
    tree = json.loads((done.folder / "evaluations" / "held-out" / "evaluation.json").read_text())
    assert tree["figures"]["perplexity"] == found["after"]["perplexity"]
    assert [one["name"] for one in tree["comparison"]["differences"]] == [one["name"] for one in found["differences"]]
    page = (done.folder / "report.html").read_text()
    assert "Evaluation on 3 rows: held-out rows" in page
    assert "exact match" in page


def _held_out(folder: Path) -> Any:
    from pyarrow import parquet

    from whet.rows import Example

    table = parquet.read_table(folder / "evaluations" / "held-out" / "rows.parquet").to_pylist()
    return [
        Example(row["place"], "conversation", messages=[
            {"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["reference"]},
        ])
        for row in table
    ]  # fmt: skip


def test_measuring_changes_no_weight(recipe_of: Any, with_metrics: Any) -> None:
    plain = run(recipe_of("plain", DROPS, max_steps=4, evaluate_every=2, checkpoint_every=2), quiet=True)
    measured = run(with_metrics("measured", every=1), quiet=True)
    assert [line["step"] for line in lines(measured.folder, "metrics")][:4] == [0, 1, 2, 3]
    one, two = (load_file(done.folder / "adapter" / "adapter_model.safetensors") for done in (plain, measured))
    assert all((one[name] == two[name]).all() for name in one)
    assert one.keys() == two.keys()


def test_a_resumed_run_ends_as_if_it_had_not_stopped(with_metrics: Any, monkeypatch: Any) -> None:
    whole = run(with_metrics("whole"), quiet=True)
    measure = InRun.__call__

    def killed(self: Any, engine: Any, renderer: Any, held_out: Any, when: str) -> Any:
        if when == "after":
            raise KeyboardInterrupt
        return measure(self, engine, renderer, held_out, when)

    with monkeypatch.context() as patch:
        patch.setattr(InRun, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            run(with_metrics("stopped"), quiet=True)
    resumed = resume(whole.folder.with_name("stopped"), quiet=True)
    assert resumed.summary["evaluation"]["after"] == whole.summary["evaluation"]["after"]
    assert lines(resumed.folder, "metrics") == lines(whole.folder, "metrics")
    one, two = (load_file(done.folder / "adapter" / "adapter_model.safetensors") for done in (whole, resumed))
    assert all((one[name] == two[name]).all() for name in one)


def test_what_is_wrong_is_said_before_anything_is_made(with_metrics: Any, tmp_path: Path) -> None:
    for changes, match in [
        ({"metrics": ["exactmatch"]}, "no metric 'exactmatch'"), ({"metrics": ["judge"]}, "no judge named"),
        ({"data": str(tmp_path / "none.jsonl")}, "none.jsonl"),
    ]:  # fmt: skip
        with pytest.raises((RecipeError, RowError), match=match):
            run(with_metrics(**changes), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_judge_that_fails_during_training_ends_nothing(chat_server: Any, with_metrics: Any) -> None:
    chat_server.reply = lambda body, number: "Grade: 2" if number < 1 else (503, {}, b"")
    judge = {"endpoint": chat_server.url, "model": "m", "retries": 0, "backoff": 0}
    recipe = with_metrics(metrics=["judge"], limit=1, judge=judge)
    done = run(recipe, quiet=True)
    assert done.summary["status"] == "finished"
    assert done.summary["evaluation"]["before"]["judge"]["value"] == 2


def test_forgetting_is_found(with_metrics: Any, recipe_of: Any, tmp_path: Path) -> None:
    """Trained on one answer to everything until it says nothing else; a general set that it knew is worse."""
    (tmp_path / "one.jsonl").write_text("".join(
        json.dumps({"prompt": f"where is cat {n}?", "completion": "on the mat"}) + "\n" for n in range(24)
    ))  # fmt: skip
    base = recipe_of().model.name
    general = tmp_path / "general.jsonl"
    subject = open_subject(base)
    prompts = [f"say {word} {n}" for n in range(10) for word in ("yes", "no", "why")]
    # what the base itself answers is what it knows
    general.write_text("".join(json.dumps({"prompt": text, "completion": "x"}) + "\n" for text in prompts))
    known = evaluate(subject, str(general), ["length"], max_new_tokens=6).columns["completion"]
    general.write_text("".join(
        json.dumps({"prompt": text, "completion": answer or "."}) + "\n"
        for text, answer in zip(prompts, known, strict=True)
    ))  # fmt: skip
    done = whet.train(base, str(tmp_path / "one.jsonl"), output=str(tmp_path / "forgets"), quiet=True, samples=0,
                      train={"max_steps": 30, "learning_rate": 0.02, "batch_size": 8})  # fmt: skip
    learnt = whet.compare(done, None, str(tmp_path / "one.jsonl"))
    forgot = whet.compare(str(done.folder), None, str(general), ["perplexity"], output=tmp_path / "general")
    assert {one.name: one.verdict for one in learnt.differences}["perplexity"] == "better"
    assert {one.name: one.verdict for one in forgot.differences}["perplexity"] == "worse"
    assert forgot.a == base
    assert json.loads((tmp_path / "general" / "evaluation.json").read_text())["comparison"]["against"] == base
    same = evaluate(subject, str(general), ["perplexity"])
    assert compare(same, same).differences[0].verdict == "within noise"
    with pytest.raises(ModelError):
        evaluate(subject, [_long()], ["length"])


def _long() -> Any:
    from whet.rows import Example

    turns = [{"role": "user", "content": "cat " * 400}, {"role": "assistant", "content": "x"}]
    return Example("long.jsonl:1", "conversation", messages=turns)
