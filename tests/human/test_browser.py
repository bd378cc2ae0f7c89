"""The pages in Chromium, by keyboard alone."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from whet.human.folder import Review, create
from whet.human.log import read_log
from whet.human.pairs import read_pairs, said
from whet.human.plan import Question

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

KEYS = {"f": "left", "ArrowLeft": "left", "j": "right", "ArrowRight": "right", "t": "tie", "b": "both_bad", "s": "skip"}


@pytest.fixture
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


def opened(chromium: Any, link: str) -> Any:
    """A page of a browser of its own that has opened a link; what goes wrong in it is in page.faults."""
    page = chromium.new_context(reduced_motion="reduce").new_page()
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(link)
    page.wait_for_url(lambda url: "token" not in url)
    return page


def press_on(page: Any, key: str) -> None:
    """Press a key, and wait for the page that follows."""
    before = page.url
    page.keyboard.press(key)
    page.wait_for_url(lambda url: url != before)
    page.wait_for_selector("#heading:focus")  # where a screen reader goes on reading


def item_of(page: Any) -> str:
    return str(page.url.rsplit("/", 1)[1])


def test_two_people_judge_50_pairs_by_keyboard_and_a_kill_loses_nothing(
    chromium: Any, make_review: Callable[..., Review], serve: Callable[..., Any]
) -> None:
    review = make_review(50)
    served = serve(review.folder)
    pages = {name: opened(chromium, link) for name, link in served.links.items()}
    pressed: dict[tuple[str, str], tuple[str, str]] = {}
    draw = random.Random(3)
    for page in pages.values():
        press_on(page, "Enter")
    for number in range(50):
        for name, page in pages.items():
            reason = f"reason {number} ü" if number % 10 == 0 else ""
            if reason:
                page.keyboard.press("r")
                page.keyboard.type(reason + " fjtbs")  # in a text field letters are letters
                page.keyboard.press("Escape")
            key = draw.choice(list(KEYS))
            pressed[name, item_of(page)] = (KEYS[key], f"{reason} fjtbs".strip() if reason else "")
            if (name, number) == ("ben", 23):  # the server is away when the key is pressed
                served.kill()
                page.keyboard.press("f")
                page.wait_for_selector("#said.problem")
                served = serve(review.folder, served.port)
            if (name, number) == ("anna", 37):  # it is killed while the judgement is on its way
                before = page.url
                page.keyboard.press(key)
                served.kill()
                served = serve(review.folder, served.port)
                page.wait_for_selector("form.htmx-request", state="detached")
                if page.url != before:
                    continue
            press_on(page, key)
    for page in pages.values():
        assert "All judged" in page.inner_text("h1")
        told = ("ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "Failed to fetch")
        assert [fault for fault in page.faults if not any(words in fault for words in told)] == []
    served.kill()
    found, torn = read_log(review.log)
    assert torn == 0
    assert len(pressed) == 100
    assert {(each.judge, each.item): (each.verdict, each.reason) for each in found} == pressed


def test_ratings_edits_and_going_back_by_keyboard(
    chromium: Any, make_review: Callable[..., Review], serve: Callable[..., Any]
) -> None:
    review = make_review(3, ["anna"], rubric=[Question("sound", "Is it sound?"), Question("kind", "Is it kind?")])
    anna = review.judges[0]
    served = serve(review.folder)
    page = opened(chromium, served.links["anna"])
    press_on(page, "Enter")
    first, left = anna.items[0], review.left(anna, review.items[anna.items[0]])
    page.keyboard.press("f")  # without ratings
    page.wait_for_selector("#judgement > .notice")
    assert read_log(review.log)[0] == []
    for digit in "4231":
        page.keyboard.press(digit)
    page.keyboard.press("d")
    page.keyboard.press("Control+End")
    page.keyboard.type(" And more.")
    page.keyboard.press("Escape")
    page.keyboard.press("k")  # opened, and closed again: no edit
    page.keyboard.type("lost")
    page.keyboard.press("Escape")
    page.keyboard.press("k")
    press_on(page, "ArrowLeft")
    [judged] = read_log(review.log)[0]
    assert judged.ratings == {str(left): {"sound": 4, "kind": 2}, str(1 - left): {"sound": 3, "kind": 1}}
    assert judged.edits == {str(left): said(review.items[first].answers[left]) + " And more."}
    press_on(page, "z")
    assert item_of(page) == first
    assert page.input_value("#left-edit").endswith(" And more.")
    page.keyboard.press("d")  # back to the original
    press_on(page, "t")
    assert item_of(page) == anna.items[1]
    last = read_log(review.log)[0][-1]
    assert (last.item, last.verdict, last.edits, last.ratings) == (first, "tie", {}, judged.ratings)
    press_on(page, "o")
    assert "1 of 3 judged" in page.inner_text("main")
    assert [fault for fault in page.faults if "status of 422" not in fault] == []


def test_single_keys_can_be_switched_off_and_the_keyboard_still_does_all(
    chromium: Any, make_review: Callable[..., Review], serve: Callable[..., Any]
) -> None:
    review = make_review(2, ["anna"])
    page = opened(chromium, serve(review.folder).links["anna"])
    page.focus("#letters")
    page.keyboard.press("Space")
    page.focus("#begin")
    press_on(page, "Enter")
    page.keyboard.press("f")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.value") == "tie":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    press_on(page, "Enter")
    assert [each.verdict for each in read_log(review.log)[0]] == ["tie"]


def test_texts_run_nothing(chromium: Any, tmp_path: Path, serve: Callable[..., Any]) -> None:
    bad = (
        "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"></textarea><h1>big</h1>\0"
    )
    rows = [{"prompt": bad, "chosen": bad, "rejected": f"{n}"} for n in range(2)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    review = create(tmp_path / "review", read_pairs(str(path), {}), ["anna"], attention=0)
    page = opened(chromium, serve(review.folder).links["anna"])
    press_on(page, "Enter")
    for _ in range(2):
        page.keyboard.press("d")
        page.keyboard.press("Escape")
        page.keyboard.press("r")
        page.keyboard.type(bad.replace("\0", ""))
        page.keyboard.press("Escape")
        assert "<h1>big</h1>" in page.inner_text(".asked")
        press_on(page, "f")
    assert page.title() == "All judged"
    assert page.faults == []
    assert [each.edits for each in read_log(review.log)[0]] == [{}, {}]


def test_a_link_on_another_site_opens_the_review(
    chromium: Any, make_review: Callable[..., Review], serve: Callable[..., Any]
) -> None:
    """The strict cookie is not sent along where a browser is redirected after such a link."""
    served = serve(make_review(2).folder)
    page = chromium.new_context().new_page()
    page.goto(served.base.replace("127.0.0.1", "localhost") + "/static/review.css")  # another site to the browser
    page.evaluate("link => { document.body.innerHTML = `<a href='${link}'>go</a>` }", served.links["anna"])
    page.click("a")
    page.wait_for_selector("#begin")
    assert page.url == served.base + "/"
