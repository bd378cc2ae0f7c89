from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from whet.cli.runs import app
from whet.errors import RunError
from whet.look.units import count, duration, figure, scientific, size
from whet.train.runs import compare, list_runs, read_run, verdict

MakeRun = Callable[..., Path]


def measured(loss: float, perplexity: float, bits: float) -> dict[str, float]:
    return {"loss": loss, "perplexity": perplexity, "bits_per_byte": bits}


def test_list_finds_runs_at_any_depth_and_nothing_else(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("b")
    make_run("deep/er/a", with_summary=False)
    (tmp_path / "no-run").mkdir()
    (tmp_path / "no-run" / "recipe.yaml").write_text("model: x")
    (tmp_path / "b" / "adapter").mkdir()
    (tmp_path / "b" / "adapter" / "weights").write_bytes(b"x" * 1000)
    found = list_runs(tmp_path)
    assert [run.name for run in found] == ["b", "deep/er/a"]
    expected = sum(path.stat().st_size for path in (tmp_path / "b").rglob("*") if path.is_file())
    assert found[0].bytes_on_disk == expected > 1000


def test_line_of_a_finished_run_is_its_summary(make_run: MakeRun, tmp_path: Path) -> None:
    changes = {"before": measured(3.7, 41.2, 1.3), "after": measured(2.1, 7.9, 0.7), "seconds": 84.2}
    make_run("a", summary_changes=changes)
    (run,) = list_runs(tmp_path)
    assert (run.model, run.method, run.status, run.steps) == ("whet-tiny", "lora", "finished", 270)
    assert (run.perplexity_before, run.perplexity_after, run.seconds) == (41.2, 7.9, 84.2)
    assert run.faults == []


def test_line_of_an_unfinished_run_comes_from_its_metrics(make_run: MakeRun, tmp_path: Path) -> None:
    lines = [
        {"step": 0, "evaluation": measured(3.0, 20.1, 1.0)},
        {"step": 1, "loss": 3.0, "tokens_per_second": 100.0},
        {"step": 2, "loss": 2.0, "tokens_per_second": 300.0},
        {"step": 2, "evaluation": measured(2.5, 12.2, 0.9)},
        {"step": 3, "loss": 1.0, "tokens_per_second": 350.0},
    ]
    make_run("a", lines=lines, with_summary=False)
    (run,) = list_runs(tmp_path)
    assert (run.status, run.steps, run.tokens_per_second, run.seconds) == ("unfinished", 3, 300.0, None)
    assert (run.perplexity_before, run.perplexity_after) == (20.1, 12.2)


def test_broken_lines_are_left_out_and_said(make_run: MakeRun) -> None:
    folder = make_run(lines=[{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('[1, 2]\n{"loss": 1}\n{"step": 3, "lo')
    (folder / "summary.json").write_text('{"status": "fin')
    run = read_run(folder)
    assert [line["step"] for line in run.steps] == [1, 2]
    assert run.summary is None
    assert run.faults == [
        "metrics.jsonl:3 and 2 more: not a line of metrics, left out",
        "summary.json: cannot be read, left out",
    ]


def test_a_step_written_again_after_a_resume_counts_once(make_run: MakeRun) -> None:
    again = [{"step": 2, "loss": 2.5}, {"step": 3, "loss": 1.5}]
    run = read_run(make_run(lines=[{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, *again]))
    assert [(line["step"], line["loss"]) for line in run.steps] == [(1, 3.0), (2, 2.5), (3, 1.5)]


def test_no_run_names_the_nearest(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("support-large")
    (folder / "adapter").mkdir()
    with pytest.raises(RunError, match=r"no such run folder\n.*Did you mean '.*support-large'"):
        read_run(tmp_path / "suport-large")
    with pytest.raises(RunError, match=r"not a run folder.*\n.*it lies in the run .*support-large$"):
        read_run(folder / "adapter")
    with pytest.raises(RunError, match=r"it holds 1 runs; name one, such as .*support-large"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        list_runs(tmp_path / "nowhere")


def test_compare_finds_what_differs(make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("b", recipe={"method.r": 4, "train.learning_rate": 1e-3, "method.new": [1, 2]})]
    comparison = compare(runs)
    found = {row.key: row.values for row in comparison.differences}
    assert found == {"method.r": [16, 4], "train.learning_rate": [2e-3, 1e-3], "method.new": [None, [1, 2]]}


def test_compare_marks_the_best_on_the_same_rows(make_run: MakeRun) -> None:
    a = make_run("a", summary_changes={"after": measured(2.0, 7.4, 0.7), "tokens_per_second": 10.0})
    b = make_run("b", summary_changes={"after": measured(1.9, 6.7, 0.6), "tokens_per_second": 9.0})
    comparison = compare([a, b])
    best = {row.name: row.best for row in comparison.figures if row.best is not None}
    assert best == {"perplexity after": 1, "loss after": 1, "bits a byte after": 1, "tokens a second": 0}
    assert comparison.notes == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("validation", 0.2), ("validation", "test.jsonl"), ("train.seed", 1), ("data", [{"path": "other.jsonl"}])],
)
def test_compare_marks_no_best_on_different_rows(make_run: MakeRun, key: str, value: object) -> None:
    a = make_run("a", summary_changes={"after": measured(2.0, 7.4, 0.7)})
    b = make_run("b", recipe={key: value}, summary_changes={"after": measured(1.9, 6.7, 0.6)})
    comparison = compare([a, b])
    assert [row.name for row in comparison.figures if row.best is not None] == []
    assert f"different validation data (`{key}` differs)" in comparison.notes[0]


def test_compare_with_a_validation_file_may_differ_in_data_and_seed(make_run: MakeRun) -> None:
    a = make_run("a", recipe={"validation": "test.jsonl"}, summary_changes={"after": measured(2.0, 7.4, 0.7)})
    changes = {"validation": "test.jsonl", "train.seed": 1, "data": [{"path": "more.jsonl"}]}
    b = make_run("b", recipe=changes, summary_changes={"after": measured(1.9, 6.7, 0.6)})
    assert next(row.best for row in compare([a, b]).figures if row.name == "perplexity after") == 1


def test_compare_notices_a_changed_file(make_run: MakeRun) -> None:
    a = make_run("a", summary_changes={"before": measured(3.0, 20.1, 1.0), "after": measured(2.0, 7.4, 0.7)})
    b = make_run("b", summary_changes={"before": measured(3.2, 24.5, 1.1), "after": measured(1.9, 6.7, 0.6)})
    assert "began with another loss" in compare([a, b]).notes[0]


def test_compare_of_different_models_trusts_bits_a_byte_alone(make_run: MakeRun) -> None:
    a = make_run("a", summary_changes={"after": measured(2.0, 7.4, 0.7)})
    b = make_run("b", recipe={"model.name": "other"}, summary_changes={"after": measured(1.9, 6.7, 0.8)})
    comparison = compare([a, b])
    best = {row.name: row.best for row in comparison.figures}
    assert (best["perplexity after"], best["loss after"], best["bits a byte after"]) == (None, None, 0)
    assert "bits a byte" in comparison.notes[0]


def test_compare_needs_two(make_run: MakeRun) -> None:
    with pytest.raises(RunError, match="two runs"):
        compare([make_run("a")])


def test_verdict_of_each_ending() -> None:
    values = {"before": measured(3.7, 41.23, 1.3), "after": measured(2.1, 7.901, 0.7)}
    assert verdict(values, 80) == "perplexity 41.2 -> 7.90 on 80 held-out rows"
    assert verdict(values) == "perplexity 41.2 -> 7.90 on held-out rows"
    assert "nothing was measured" in verdict({"status": "finished", "before": None, "after": None})
    assert "failed" in verdict({"status": "failed", "before": values["before"], "after": None})


def test_command_prints_a_table(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("first", summary_changes={"before": measured(3.7, 41.2, 1.3), "after": measured(2.1, 7.9, 0.7)})
    make_run("[bold]second", with_summary=False)
    for args in ([str(tmp_path)], ["list", str(tmp_path)]):
        result = CliRunner().invoke(app, args)
        assert result.exit_code == 0, result.output
        first = next(line for line in result.output.splitlines() if line.startswith("first"))
        assert first.split()[1:5] == ["whet-tiny", "lora", "270", "finished"]
        assert "41.2 -> 7.90" in first
        assert "[bold]second" in result.output


def test_command_prints_json(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("first", summary_changes={"after": measured(99.0, float("inf"), 0.7)})
    result = CliRunner().invoke(app, [str(tmp_path), "--json"])
    (line,) = json.loads(result.output)
    assert (line["name"], line["steps"], line["perplexity_after"]) == ("first", 270, None)


def test_command_compares(make_run: MakeRun) -> None:
    a, b = make_run("a"), make_run("b", recipe={"method.r": 4}, summary_changes={"after": measured(1.9, 6.7, 0.6)})
    table = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert table.exit_code == 0, table.output
    rows = {line.split()[0]: line.split()[1:] for line in table.output.splitlines() if line.strip()}
    assert rows["method.r"] == ["16", "4"]
    assert any(
        line.startswith("perplexity after") and line.rstrip().endswith("6.70 *") for line in table.output.splitlines()
    )
    tree = json.loads(CliRunner().invoke(app, ["compare", str(a), str(b), "--json"]).output)
    assert tree["differences"] == [{"key": "method.r", "values": [16, 4]}]


def test_command_leaves_the_error_to_the_caller(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "nowhere")])
    assert isinstance(result.exception, RunError)


def test_figures_as_people_read_them() -> None:
    assert [figure(x) for x in (41.23, 7.9, 0.5234, 1204.4, 0.00004, 0.0, None, float("inf"))] == [
        "41.2", "7.90", "0.523", "1,204", "4.00e-05", "0.000", "–", "infinite",
    ]  # fmt: skip
    assert [duration(x) for x in (8.24, 48.2, 192, 7500, 100_800, None)] == [
        "8.2 s", "48 s", "3 min 12 s", "2 h 05 min", "1 d 4 h", "–",
    ]  # fmt: skip
    assert [size(x) for x in (640, 1_240, 38_400_000, 2_100_000_000)] == ["640 B", "1.2 kB", "38.4 MB", "2.1 GB"]
    assert [count(x) for x in (812, 9604, 1_240_000, 7_100_000_000)] == ["812", "9,604", "1.24 M", "7.10 B"]
    assert [scientific(x) for x in (2e-4, 1.5e-4, 0.0, 1.0)] == ["2e-4", "1.5e-4", "0", "1e0"]
