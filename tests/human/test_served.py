"""The server as a process, over real HTTP: many judges at once, a kill, two servers on one review."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from whet.human.folder import Review
from whet.human.log import read_log

JUDGES, PAIRS = 200, 2


def test_200_judges_at_once_are_served_and_each_judgement_is_in_the_log_once(
    make_review: Callable[..., Review], serve: Callable[..., Any]
) -> None:
    review = make_review(PAIRS, [f"judge{n}" for n in range(JUDGES)])
    served = serve(review.folder)
    sent: dict[tuple[str, str], str] = {}

    async def judge(name: str, link: str) -> None:
        draw = random.Random(name)
        async with httpx.AsyncClient(base_url=served.base, timeout=120, verify=False) as browser:
            assert (await browser.get(link)).status_code == 200
            begin = re.search(r'id="begin" href="(/item/\w+)"', (await browser.get("/")).text)
            assert begin
            path = begin[1]
            while path != "/":
                assert (await browser.get(path)).status_code == 200
                verdict = draw.choice(["left", "right", "tie", "both_bad", "skip"])
                answer = await browser.post(path, data={"verdict": verdict, "reason": name})
                assert answer.status_code == 303
                sent[name, path.removeprefix("/item/")] = verdict
                path = answer.headers["location"]

    async def everyone() -> None:
        await asyncio.gather(*(judge(name, link) for name, link in served.links.items()))

    asyncio.run(everyone())
    found, torn = read_log(review.log)
    assert torn == 0
    assert len(sent) == JUDGES * PAIRS
    assert sorted((each.judge, each.item, each.verdict) for each in found) == sorted(
        (*key, verdict) for key, verdict in sent.items()
    )
    assert all(each.reason == each.judge for each in found)


def test_a_judgement_that_was_answered_survives_a_kill(
    make_review: Callable[..., Review], serve: Callable[..., Any]
) -> None:
    review = make_review(6)
    anna = review.judges[0]
    first = serve(review.folder)
    with httpx.Client(base_url=first.base) as browser:
        browser.get(first.links["anna"])
        for item in anna.items[:3]:
            browser.post(f"/item/{item}", data={"verdict": "tie"})
    first.kill()
    with review.log.open("ab") as log:
        log.write(b'{"time": "torn')
    second = serve(review.folder, first.port)
    assert second.links == first.links
    assert "are set aside in torn.bin" in second.said
    with httpx.Client(base_url=second.base) as browser:
        browser.get(second.links["anna"])
        assert f'href="/item/{anna.items[3]}"' in browser.get("/").text
    assert [each.item for each in read_log(review.log)[0]] == anna.items[:3]


def test_a_second_server_on_a_review_and_a_taken_port_are_refused(
    make_review: Callable[..., Review], serve: Callable[..., Any]
) -> None:
    review = make_review()
    served = serve(review.folder)
    command = [sys.executable, "-m", "whet", "review"]
    second = subprocess.run([*command, str(review.folder), "--port", "0"], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "another server is at work in this review" in second.stderr
    files = [str(review.folder.parent / f"{name}.jsonl") for name in ("wren", "mole")]
    other = ["--to", str(review.folder.parent / "other"), "--port", str(served.port)]
    taken = subprocess.run([*command, *files, *other], capture_output=True, text=True, check=False)
    assert taken.returncode == 2
    assert "cannot listen" in taken.stderr


@pytest.mark.parametrize(("ended", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_it_and_it_goes_on_later(
    make_review: Callable[..., Review], serve: Callable[..., Any], ended: signal.Signals, code: int
) -> None:
    served = serve(make_review().folder)
    served.process.send_signal(ended)
    said, _ = served.process.communicate(timeout=30)
    assert served.process.returncode == code
    if ended is signal.SIGINT:
        assert "0 of 12 judged; go on with: whet review" in said
