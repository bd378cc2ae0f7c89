from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from whet.errors import RunError, StorageError
from whet.train.report import write_report
from whet.train.report.content import ledger
from whet.train.report.plots import MAX_POINTS, centred_mean, curve
from whet.train.runs import read_run

MakeRun = Callable[..., Path]
VOID = {"meta", "link", "img", "br", "hr", "input", "base"}


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of style; notes every tag that is not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


def report(folder: Path) -> Page:
    path = write_report(folder)
    assert path == folder / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def points(page_text: str, group: str) -> int:
    """How many points the line of an SVG group has: the moves and lines of its first path."""
    path = re.search(rf'<g id="{group}">\s*<path d="([^"]*)"', page_text)
    assert path, group
    return len(re.findall(r"[ML]", path[1]))


def test_page_stands_alone(make_run: MakeRun) -> None:
    folder = make_run()
    page, text = report(folder), (folder / "report.html").read_text()
    assert not {"script", "link", "iframe", "img", "object", "base"} & {tag for tag, _ in page.tags}
    assert page.attributes("src") == []
    references = page.attributes("href") + page.attributes("xlink:href") + re.findall(r"url\(([^)]*)\)", text)
    assert references
    assert all(reference.startswith("#") for reference in references)
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= namespaces
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in (policy or "")


def test_ids_are_unique_and_references_land(make_run: MakeRun) -> None:
    folder = make_run()
    page, text = report(folder), (folder / "report.html").read_text()
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {r.removeprefix("#") for r in page.attributes("xlink:href") + re.findall(r"url\(([^)]*)\)", text)} <= set(
        ids
    )


def test_page_says_what_the_run_achieved(make_run: MakeRun) -> None:
    values = {"loss": 2.07, "perplexity": 7.9, "bits_per_byte": 0.71}
    changes = {"before": {"loss": 3.72, "perplexity": 41.2, "bits_per_byte": 1.28}, "after": values}
    page = report(make_run(summary_changes=changes))
    assert "Perplexity 41.2 → 7.90 on 80 held-out rows" in page.text
    for said in ("81% lower", "1 min 24 s", "1.2 GB", "384,000", "5.24% of 7.32 M", "53%", "learning_rate: 0.002"):
        assert said in page.text
    assert "support.jsonl:640 (an empty text)" in page.text
    assert "183,060" in page.text
    assert "transformers" in page.text
    assert "5.23.0" in page.text


def test_plots_show_every_line_of_the_metrics(make_run: MakeRun) -> None:
    folder = make_run()
    page, text = report(folder), (folder / "report.html").read_text()
    run = read_run(folder)
    for group in ("loss-wide-raw", "loss-narrow-raw", "loss-wide-smooth", "learning-rate-raw", "grad-norm-raw"):
        assert points(text, group) == len(run.steps) == 270
    assert points(text, "tokens-per-second-smooth") == 270
    assert points(text, "loss-wide-held-out") == len(run.evaluations) == 11
    markers = re.search(r'<g id="loss-wide-held-out">.*?</g>', text, re.DOTALL)
    assert markers
    assert markers[0].count("<use") == 11
    labels = page.attributes("aria-label")
    assert any(
        "Held-out loss goes from 3.72 at step 0 to 2.10 at step 270, lowest 2.08 at step 189" in a for a in labels
    )
    assert "#0" not in "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL)).replace('="#', "")  # no stand-in colour


def test_learning_rate_plot_has_the_shape_of_the_data(make_run: MakeRun) -> None:
    """Points of the drawing are an affine image of (step, learning rate)."""
    folder = make_run()
    report(folder)
    path = re.search(r'<g id="learning-rate-raw">\s*<path d="([^"]*)"', (folder / "report.html").read_text())
    assert path
    drawn_P2 = np.array(re.findall(r"[ML] (\S+) (\S+)", path[1]), dtype=float)
    steps, rates = curve(read_run(folder).steps, "learning_rate")
    assert np.corrcoef(drawn_P2[:, 0], steps)[0, 1] > 0.999999
    assert np.corrcoef(drawn_P2[:, 1], rates)[0, 1] < -0.9999  # SVG counts downwards


def test_what_people_and_models_wrote_is_text(make_run: MakeRun) -> None:
    evil = "</div><script>alert(1)</script><img src=http://x.example/y onerror=alert(1)> & \ud83d \x00 {{ 7*7 }}"
    sample = dict.fromkeys(("prompt", "reference", "before", "after"), evil)
    changes = {"samples": [sample], "device": evil, "stopped_because": evil, "versions": {evil: evil}}
    folder = make_run("<b>name", recipe={"model.name": evil}, summary_changes=changes)
    (folder / "preflight.json").write_text(
        json.dumps({evil: evil, "train": {evil: evil, f"{evil}_first": [evil], "b": {evil: evil}}})
    )
    page = report(folder)
    assert not {"script", "img", "b"} & {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") >= 10
    assert "{{ 7*7 }}" in page.text
    assert "<b>name" in page.text


def test_long_prompt_and_answers_are_whole(make_run: MakeRun) -> None:
    long = "\n".join(f"line {number}" for number in range(300))
    page = report(make_run(summary_changes={"samples": [{"prompt": long, "before": "b", "after": long}]}))
    assert page.text.count("line 299") == 2
    assert "The row's own answer" not in page.text


def test_run_without_summary(make_run: MakeRun) -> None:
    page = report(make_run(with_summary=False))
    assert "No result yet: 270 steps so far" in page.text
    assert "no summary.json" in page.text
    assert "unfinished" in page.text


def test_run_without_anything_measured(make_run: MakeRun) -> None:
    lines = [{"step": 1, "loss": 3.5}, {"step": 2, "loss": 3.25}]
    changes = {"status": "stopped", "steps": 2, "stopped_because": "interrupted", "before": None, "after": None}
    folder = make_run(lines=lines, summary_changes=changes | {"samples": [], "best_step": None})
    page = report(folder)
    assert "No rows were held out, so nothing was measured" in page.text
    assert "Stopped at step 2: interrupted" in page.text
    assert "3.50 → 3.25" in page.text
    assert points((folder / "report.html").read_text(), "loss-wide-raw") == 2
    assert "Gradient norm" not in page.text


def test_run_without_a_step(make_run: MakeRun) -> None:
    folder = make_run(lines=[], with_summary=False)
    (folder / "preflight.json").unlink()
    page = report(folder)
    assert "no step was finished" in page.text
    assert "nothing to plot" in page.text
    assert "no preflight.json" in page.text
    assert "svg" not in {tag for tag, _ in page.tags}


def test_worse_model_and_broken_files_are_said(make_run: MakeRun) -> None:
    worse = {"before": {"loss": 2.0, "perplexity": 7.39, "bits_per_byte": 0.7}}
    folder = make_run(summary_changes=worse | {"after": {"loss": 2.5, "perplexity": 12.2, "bits_per_byte": 0.9}})
    (folder / "preflight.json").write_text("{")
    page = report(folder)
    assert "no better than before" in page.text
    assert "65% higher" in page.text
    assert "preflight.json: cannot be read, left out" in page.text


def test_numbers_that_are_none_do_not_stop_the_page(make_run: MakeRun) -> None:
    nan, inf = float("nan"), float("inf")
    lines = [{"step": 1, "loss": nan, "grad_norm": inf}, {"step": 2, "loss": 3.0, "grad_norm": None}]
    changes = {"status": "failed", "after": {"loss": inf, "perplexity": inf, "bits_per_byte": inf}}
    folder = make_run(lines=lines, summary_changes=changes | {"seconds": None, "tokens": 0, "epochs": None})
    page = report(folder)
    assert "infinite" in page.text
    assert points((folder / "report.html").read_text(), "loss-wide-raw") == 1


def test_file_appears_whole_or_not_at_all(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run()
    (folder / "report.html").write_text("the one before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(StorageError, match="No space left"):
            write_report(folder)
    assert (folder / "report.html").read_text() == "the one before"
    write_report(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.jsonl", "preflight.json", "recipe.yaml", "report.html", "summary.json",
    ]  # fmt: skip


def test_no_run_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_same_run_same_page(make_run: MakeRun) -> None:
    folder = make_run()
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_long_curve_is_drawn_as_means() -> None:
    lines = [{"step": step, "loss": float(step % 2)} for step in range(1, 10 * MAX_POINTS + 1)]
    steps, losses = curve(lines, "loss")
    assert len(steps) == MAX_POINTS
    assert steps[0] == 5.5  # the mean of steps 1 to 10
    assert losses == pytest.approx(np.full(MAX_POINTS, 0.5))


def test_centred_mean_equals_the_slow_one() -> None:
    values = np.random.default_rng(0).normal(size=95)
    slow = []
    for at in range(95):
        left = min(4, at)
        right = min(left, 94 - at)
        slow.append(sum(values[at - left : at + right + 1]) / (left + right + 1))
    np.testing.assert_allclose(centred_mean(values), slow)


def test_ledger_sets_both_sides_beside_each_other() -> None:
    train = {"read": 1200, "cut": 2, "cut_first": ["a:7 (900 tokens)", "a:9"], "lengths": {"median": 70}}
    rows = ledger({"plain_template": True, "duplicated": 0, "train": train, "validation": {"read": 80, "cut": 0}})
    assert [(row.name, row.values, row.places, row.lost) for row in rows] == [
        ("read", ["1,200", "80"], [], False),
        ("cut", ["2", "0"], ["a:7 (900 tokens)", "a:9"], True),
        ("lengths, median", ["70", "–"], [], False),
        ("plain template", ["yes"], [], False),
        ("duplicated", ["0"], [], False),
    ]
