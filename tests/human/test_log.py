from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import pytest

from whet.errors import RowError, RunError, StorageError
from whet.human.folder import Review, held, open_review
from whet.human.log import Judgement, Log, read_log, set_aside


def judgement(number: int = 0, **more: object) -> Judgement:
    return Judgement("2026-01-01T00:00:00+00:00", "anna", f"{number:08x}", "left", 1, **more)  # type: ignore[arg-type]


def written(path: Path, *judgements: Judgement) -> bytes:
    log = Log(path)
    wait([log.add(each) for each in judgements])
    log.close()
    return path.read_bytes()


def test_what_is_added_is_read_back_in_order(tmp_path: Path) -> None:
    given = [judgement(0, reason='a "reason"\n\0\ud800é', edits={"1": "x"}, ratings={"0": {"q": 5}}, seconds=1.5)]
    given += [judgement(n) for n in range(1, 500)]
    raw = written(tmp_path / "log", *given)
    assert raw.count(b"\n") == 500
    assert read_log(tmp_path / "log") == (given, 0)


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_torn_last_line_is_recognised_and_set_aside(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "judgements.jsonl"
    whole = written(path, judgement(1), judgement(2))
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[:-cut])
    torn = len(whole) - cut - first
    assert read_log(path) == ([judgement(1)], torn)
    set_aside(path, torn)
    assert path.read_bytes() == whole[:first]
    assert (tmp_path / "torn.bin").read_bytes() == whole[first:-cut] + b"\n"
    assert written(path, judgement(3)).count(b"\n") == 2
    assert read_log(path) == ([judgement(1), judgement(3)], 0)


def test_a_tail_of_zeros_is_torn_too(tmp_path: Path) -> None:
    whole = written(tmp_path / "log", judgement(1))
    for tail in (b"\0" * 300, b"\0" * 300 + b"\n"):
        (tmp_path / "log").write_bytes(whole + tail)
        assert read_log(tmp_path / "log") == ([judgement(1)], len(tail))


def test_a_broken_line_with_others_behind_it_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = written(path, judgement(1), judgement(2))
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(RowError, match=r"log:1: no judgement"):
        read_log(path)


def test_a_full_disk_fails_the_judgement_and_leaves_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(path)
    log.add(judgement(1)).result()
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, limits[1]))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            log.add(judgement(2)).result()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.stat().st_size == size
    log.add(judgement(3)).result()
    log.close()
    assert read_log(path) == ([judgement(1), judgement(3)], 0)


def test_judgements_that_come_while_one_is_synced_are_synced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    go_on = threading.Event()
    fsync = os.fsync

    def slow(handle: int) -> None:
        synced.append(handle)
        assert go_on.wait(30)
        fsync(handle)

    path = tmp_path / "log"
    log = Log(path)
    monkeypatch.setattr(os, "fsync", slow)
    first = log.add(judgement(0))
    while not synced:
        time.sleep(0.001)
    others = [log.add(judgement(number)) for number in range(1, 200)]
    assert not any(each.done() for each in [first, *others])
    go_on.set()
    wait([first, *others])
    log.close()
    assert len(synced) == 2
    assert len(read_log(path)[0]) == 200


def test_a_log_of_another_review_is_refused(make_review: Callable[..., Review]) -> None:
    review = make_review()
    written(review.log, judgement(1))
    with pytest.raises(RowError, match=r"judgements\.jsonl:1: 'anna' has no item '00000001'"), held(review):
        pass


def test_a_review_is_held_by_one_and_says_what_a_crash_left(make_review: Callable[..., Review]) -> None:
    review = make_review()
    review.log.write_bytes(b'{"time": "2026')
    with held(review) as (judgements, notes):
        assert judgements == []
        assert "14 bytes of a line that a crash cut off" in notes[0]
        with pytest.raises(RunError, match="another server is at work"), held(review):
            pass
    with held(review) as (_, notes):
        assert notes == []


def test_a_review_opens_as_it_was_made(make_review: Callable[..., Review]) -> None:
    made = make_review(attention=0.2)
    opened = open_review(made.folder)
    assert opened == made
    assert made.folder.stat().st_mode & 0o077 == 0
    with pytest.raises(RunError, match=r"there is something already(.|\n)*whet review "):
        make_review()
    (made.folder / "items.jsonl").write_text("{")
    with pytest.raises(RunError, match="broken"):
        open_review(made.folder)
