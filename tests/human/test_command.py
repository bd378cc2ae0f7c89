from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from whet.cli import app
from whet.errors import MissingExtra, RecipeError, RowError, RunError
from whet.human.folder import Review, open_review
from whet.human.log import Judgement, Log
from whet.human.serve import serve
from whet.listen import is_loopback


def whet(*words: str) -> Any:
    done = CliRunner().invoke(app, ["review", *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A review is set up and told of, and ends at once."""
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)


@pytest.mark.usefixtures("not_served")
def test_a_review_is_set_up_told_of_and_gone_on_with(answers: Callable[[int], list[str]], tmp_path: Path) -> None:
    files, folder = answers(20), tmp_path / "of"
    rubric = tmp_path / "rubric.yaml"
    rubric.write_text("- Is it sound?\n")
    options = ["--judges", "anna,ben", "--overlap", "1", "--rubric", str(rubric), "--port", "0"]
    said = whet(*files, "--to", str(folder), *options).output
    review = open_review(folder)
    assert [judge.name for judge in review.judges] == ["anna", "ben"]
    assert [question.text for question in review.rubric] == ["Is it sound?"]
    for judge in review.judges:
        assert f"?token={judge.token}" in said
    assert f"{folder}: 20 pairs, 1 attention checks" in said.replace("\n", "")
    again = whet(str(folder), "--port", "0").output
    assert review.judges[0].token in again
    with pytest.raises(RunError, match="there is something already"):
        whet(*files, "--to", str(folder))
    with pytest.raises(RecipeError, match=r"--judges: a review that is set up does not change"):
        whet(str(folder), "--judges", "carl")


@pytest.mark.usefixtures("not_served")
def test_another_host_is_said_to_be_open(make_review: Callable[..., Review]) -> None:
    review = make_review()
    assert "nothing is encrypted" not in " ".join(whet(str(review.folder), "--port", "0").output.split())
    assert "nothing is encrypted" in " ".join(
        whet(str(review.folder), "--port", "0", "--host", "0.0.0.0").output.split()
    )
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.7", "example.org")] == [False] * 4


def test_results_are_written_and_printed(make_review: Callable[..., Review]) -> None:
    review = make_review(4)
    log = Log(review.log)
    for item in review.judges[0].items:
        log.add(Judgement("2026-01-01T00:00:00+00:00", "anna", item, "left", 0)).result()
    log.close()
    said = whet(str(review.folder), "--results").output
    assert "100 % (100 to 100 %)" in said
    assert "not done yet: ben" in said
    names = {path.name for path in (review.folder / "results").iterdir()}
    assert names == {"preferences.jsonl", "ratings.jsonl", "results.json", "results.html"}


def test_bad_input_leaves_nothing_behind(answers: Callable[[int], list[str]], tmp_path: Path) -> None:
    files, folder = answers(3), tmp_path / "of"
    to = ["--to", str(folder)]
    for words, fault in [
        ([*files, *to, "--judges", "an na"], RecipeError),
        ([*files, *to, "--overlap", "2"], RecipeError),
        ([*files, *to, "--rubric", str(tmp_path / "none.yaml")], RecipeError),
        ([files[0], str(tmp_path / "none.jsonl"), *to], RowError),
        ([files[0], *to], RowError),  # rows with one answer
        ([files[0], files[0], *to], RowError),
        ([str(folder), "--results"], RecipeError),
    ]:
        with pytest.raises(fault):
            whet(*words)
        assert not folder.exists()


def test_without_the_extra_it_says_which(make_review: Callable[..., Review], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtra, match=r"pip install 'whet\[serve\]'"):
        serve(make_review())
