from __future__ import annotations

import io
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from whet.train.progress import Progress, Silent, SmoothedLoss, clip, plain


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def in_a_log(width: int = 100) -> tuple[Progress, io.StringIO, Clock]:
    out, clock = io.StringIO(), Clock()
    return Progress(Console(file=out, width=width, force_terminal=False), clock), out, clock


def on_a_terminal(width: int = 120) -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    return Progress(Console(file=out, width=width, force_terminal=True, color_system=None, _environ={})), out


def event(step: int, loss: float = 2.0) -> dict[str, Any]:
    return {"step": step, "loss": loss, "learning_rate": 2e-4, "tokens_per_second": 5210.7}


def evaluated(step: int, loss: float) -> dict[str, Any]:
    return {"step": step, "evaluation": {"loss": loss, "perplexity": math.exp(loss), "bits_per_byte": loss / 3}}


def finished(**changes: Any) -> dict[str, Any]:
    before, after = evaluated(0, 3.7)["evaluation"], evaluated(1, 2.0)["evaluation"]
    summary = {"status": "finished", "before": before, "after": after, "tokens_per_second": 5200, "seconds": 84.2}
    summary |= {"peak_memory_bytes": 1_240_000_000, "steps": 270, "epochs": 3.0, "result": "adapter", "samples": []}
    return summary | {"model": {"parameters": 7_000_000, "trainable_parameters": 384_000}} | changes


def test_log_has_the_first_the_last_and_every_tenth() -> None:
    progress, out, clock = in_a_log()
    with progress:
        progress.start(200, 0)
        for step in range(1, 201):
            clock.now += 0.1
            progress.step(event(step))
    shown = [line.split()[1] for line in out.getvalue().splitlines()]
    assert shown == ["1/200", *(f"{step}/200" for step in range(20, 201, 20))]


def test_log_has_a_line_after_a_long_silence() -> None:
    progress, out, clock = in_a_log()
    with progress:
        progress.start(100_000, 0)
        for step in range(1, 71):
            clock.now += 1.0
            progress.step(event(step))
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["1/100000", "31/100000", "61/100000"]


def test_log_line_has_all_figures_and_the_time_left() -> None:
    progress, out, clock = in_a_log()
    progress.start(30, 10)  # resumed: ten steps are done, and took no time of this run
    clock.now += 20.0
    progress.step(event(11, loss=3.0))
    clock.now += 0.0
    progress.step(event(12, loss=1.0))
    line = out.getvalue().splitlines()[1]
    # 20 s for two steps, 18 to go; smoothed (0.95 * 0.05 * 3 + 0.05 * 1) / (1 - 0.95^2)
    assert line == "step 12/30  loss 1.000  smoothed 1.974  lr 2e-4  5,211 tokens/s  3 min 00 s left"


def test_smoothed_loss_equals_the_weighted_mean() -> None:
    losses = [3.0, 1.0, 2.5, 0.5]
    smoothed = SmoothedLoss(0.9)
    shown = [smoothed.update(loss) for loss in losses]
    weights = [0.9 ** (3 - index) for index in range(4)]
    assert shown[0] == pytest.approx(3.0)
    assert shown[-1] == pytest.approx(sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights))


def test_evaluation_names_the_best_so_far() -> None:
    progress, out, _ = in_a_log()
    progress.start(100, 0)
    for step, loss in ((0, 3.0), (10, 2.0), (20, 2.5)):
        progress.evaluation(evaluated(step, loss))
    lines = out.getvalue().splitlines()
    assert lines[0] == "step 0  held-out perplexity 20.1  bits a byte 1.00"
    assert lines[1] == "step 10  held-out perplexity 7.39  bits a byte 0.667  best so far"
    assert lines[2] == "step 20  held-out perplexity 12.2  bits a byte 0.833"


def test_note_is_one_line_and_no_markup() -> None:
    progress, out, _ = in_a_log(width=40)
    progress.note("row [bold red]17[/] of\n  [link=http://x]x[/link]\x1b[31m is longer than the screen is wide")
    assert out.getvalue() == "! row [bold red]17[/] of [link=http://x]x[/link][31m is longer than the screen is wide\n"


def test_terminal_has_a_bar_that_goes_away() -> None:
    progress, out = on_a_terminal()
    with progress:
        progress.start(4, 0)
        for step in range(1, 5):
            progress.step(event(step))
        progress.note("a warning")
    text = out.getvalue()
    assert "4/4" in text
    assert "smoothed 2.000" in text
    assert "! a warning" in text
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[?25h" in text  # the cursor is shown again


def test_terminal_is_itself_again_after_an_error() -> None:
    progress, out = on_a_terminal()

    def interrupted() -> None:
        with progress:
            progress.start(4, 0)
            progress.step(event(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert out.getvalue().rfind("\x1b[?25h") > out.getvalue().rfind("\x1b[?25l")


def test_final_screen_has_the_figures_and_ends_with_the_report() -> None:
    progress, out, _ = in_a_log()
    progress.summary(finished(validation_rows=80), Path("runs/x"))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert "Perplexity 40.4 -> 7.39 on 80 held-out rows" in lines
    said = out.getvalue()
    for figure in ("1.23 -> 0.667", "5,200", "1.2 GB", "1 min 24 s", "270 (3 epochs)", "384,000 of 7.00 M"):
        assert figure in said
    assert lines[-2:] == ["adapter: runs/x/adapter", "report: runs/x/report.html"]


def test_final_screen_shows_samples_short_and_as_they_are() -> None:
    long = "\n".join(f"line {number}" for number in range(40))
    sample = {"prompt": "[red]note[/red] " + long, "before": "[bold]b\x1b]0;title\x07", "after": long, "reference": ""}
    progress, out, _ = in_a_log()
    progress.summary(finished(samples=[sample] * 5), Path("runs/x"))
    text = out.getvalue()
    assert text.count("[bold]b]0;title") == 3
    assert "\x1b" not in text
    assert "line 39" in text  # the prompt keeps its end
    assert "line 11 " in text  # the answer its beginning
    assert "line 12 " not in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_final_screen_without_measures() -> None:
    changes = {"before": None, "after": None, "status": "stopped", "stopped_because": "interrupted", "result": None}
    progress, out, _ = in_a_log()
    progress.summary(finished(**changes) | {"model": {}, "seconds": None}, Path("runs/x"))
    assert "No rows were held out" in out.getvalue()
    assert "stopped: interrupted" in out.getvalue()
    assert out.getvalue().splitlines()[-1] == "report: runs/x/report.html"


def test_silent_says_nothing_but_logs_notes(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="whet"), Silent() as progress:
        progress.start(3, 0)
        progress.step(event(1))
        progress.evaluation(evaluated(1, 2.0))
        progress.note("3 rows were cut")
        progress.summary(finished(), Path("runs/x"))
    assert capsys.readouterr() == ("", "")
    assert caplog.messages == ["3 rows were cut"]


def test_clip_keeps_what_fits() -> None:
    assert clip("a\nb", 2, 10) == "a\nb"
    assert clip("a\nb\nc", 2, 10) == "a\nb\n…"
    assert clip("a\nb\nc", 2, 10, keep_end=True) == "…\nb\nc"
    assert clip("x" * 25, 2, 10) == "x" * 10 + "\n" + "x" * 10 + "\n…"
    assert clip("one two three", 2, 7) == "one two\nthree"
    assert plain("a\r\nb\tc\x1b[0m\u202ed\ud800") == "a\nb    c[0md"
