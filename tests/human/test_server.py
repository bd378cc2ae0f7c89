"""Who may see what, what is taken and what is refused; through the application itself, without a socket."""

from __future__ import annotations

import html
import json
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from whet.human.folder import Review, create
from whet.human.log import Judgement, Log, read_log
from whet.human.pairs import read_pairs, said
from whet.human.plan import Judge, Question
from whet.human.server import MOST_BYTES, Desk, make_app


@contextmanager
def clients(review: Review, *names: str) -> Iterator[list[TestClient]]:
    """A browser each for the judges named, which has opened its link."""
    log = Log(review.log)
    app = make_app(Desk(review, log, read_log(review.log)[0]))
    tokens = {judge.name: judge.token for judge in review.judges}
    browsers = []
    for name in names:
        browser = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
        assert browser.get("/", params={"token": tokens[name]}).status_code == 200
        browsers.append(browser)
    yield browsers or [TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)]
    log.close()


def judgements(review: Review) -> list[Judgement]:
    return read_log(review.log)[0]


def one(review: Review) -> tuple[Judge, str]:
    return review.judges[0], review.judges[0].items[0]


def test_without_a_token_nothing_is_shown(make_review: Callable[..., Review]) -> None:
    review = make_review()
    _, item = one(review)
    with clients(review) as [stranger]:
        for path in ("/", f"/item/{item}", "/?token=", "/?token=wrong", "/?token=%00%ff"):
            answer = stranger.get(path)
            assert answer.status_code == 401, path
            assert "kettle" not in answer.text
            assert "Traceback" not in answer.text
        assert stranger.post(f"/item/{item}", data={"verdict": "left"}).status_code == 401
        assert stranger.get("/elsewhere").status_code == 404
        assert stranger.get("/static/review.json").status_code == 404
    assert judgements(review) == []


def test_the_token_goes_into_a_cookie_that_no_script_reads(make_review: Callable[..., Review]) -> None:
    review = make_review()
    with clients(review) as [browser]:
        answer = browser.get("/", params={"token": review.judges[0].token})
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert answer.headers["refresh"] == "0; url=/"
        page = browser.get("/")
        assert page.status_code == 200
        assert review.judges[0].token not in page.text


def test_another_judges_item_is_refused_to_see_and_to_judge(make_review: Callable[..., Review]) -> None:
    review = make_review(8, overlap=1)
    anna, ben = review.judges
    assert not set(anna.items) & set(ben.items)
    with clients(review, "anna") as [browser]:
        for item in (ben.items[0], "00000000", "..%2Freview.json"):
            answer = browser.get(f"/item/{item}")
            assert answer.status_code in (403, 404)
            assert "kettle" not in answer.text
        assert browser.post(f"/item/{ben.items[0]}", data={"verdict": "left"}).status_code == 403
    assert judgements(review) == []


def test_nothing_tells_the_models_or_which_pairs_are_checks(make_review: Callable[..., Review]) -> None:
    review = make_review(30, attention=0.3, rubric=[Question("q", "Sound?")])
    anna = review.judges[0]
    shapes = set()
    with clients(review, "anna") as [browser]:
        for item in anna.items:
            answer = browser.get(f"/item/{item}")
            sent = answer.text + str(answer.headers) + str(answer.url)
            for model in review.models:
                assert model not in sent
            assert "jsonl" not in sent
            left, right = (answer_text(answer.text, side) for side in ("left", "right"))
            shown = [said(each) for each in review.items[item].answers]
            assert [left, right] == (shown if review.left(anna, review.items[item]) == 0 else shown[::-1])
            if item == anna.items[0]:
                continue  # it alone has no way back
            plain = re.sub(r"<(div|textarea)[^>]*(text|edit)[^>]*>.*?</\1>", "", answer.text, flags=re.DOTALL)
            shapes.add(re.sub(r"\b[0-9a-f]{8}\b|\d+(\.\d+)?", "", plain))
    assert len(shapes) == 1  # but for numbers and texts the page of a check is that of any pair


def answer_text(page: str, side: str) -> str:
    match = re.search(rf'id="{side}-text"[^>]*>(.*?)</div>', page, re.DOTALL)
    assert match
    return html.unescape(match[1])


def test_a_judgement_is_on_the_disk_before_the_answer(make_review: Callable[..., Review]) -> None:
    review = make_review(rubric=[Question("q", "Sound?")])
    anna, item = one(review)
    form = {
        "verdict": "right",
        "reason": " shorter\r\nand right ",
        "rate-left-0": "2",
        "rate-right-0": "5",
        "shown": "1",
    }
    with clients(review, "anna") as [browser]:
        answer = browser.post(f"/item/{item}", data=form)
        [found] = judgements(review)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/item/{anna.items[1]}")
    left = review.left(anna, review.items[item])
    assert (found.judge, found.item, found.left, found.preferred) == ("anna", item, left, 1 - left)
    assert found.reason == "shorter\nand right"
    assert found.ratings == {str(left): {"q": 2}, str(1 - left): {"q": 5}}
    assert (found.edits, found.seconds) == ({}, None)  # no page was made in 1970


def test_a_pair_judged_again_is_shown_as_judged_and_the_later_counts(make_review: Callable[..., Review]) -> None:
    review = make_review(2)
    anna, item = one(review)
    with clients(review, "anna") as [browser]:
        browser.post(f"/item/{item}", data={"verdict": "tie", "reason": "same to me"})
        again = browser.get(f"/item/{item}").text
        assert re.search(r'value="tie"[^>]*aria-current="true"', again)
        assert "same to me" in again
        assert browser.post(f"/item/{item}", data={"verdict": "left"}).headers["location"] == f"/item/{anna.items[1]}"
        assert browser.post(f"/item/{anna.items[1]}", data={"verdict": "skip"}).headers["location"] == "/"
        assert "All judged" in browser.get("/").text
    assert [each.verdict for each in judgements(review)] == ["tie", "left", "skip"]
    with clients(review, "anna", "ben") as [browser, other]:  # a new start from the log
        assert re.search(r'value="left"[^>]*aria-current="true"', browser.get(f"/item/{item}").text)
        assert "aria-current" not in other.get(f"/item/{item}").text


def test_what_lacks_something_is_not_taken_and_comes_back_filled(make_review: Callable[..., Review]) -> None:
    review = make_review(rubric=[Question("q", "Sound?")])
    _, item = one(review)
    rated = {"rate-left-0": "1", "rate-right-0": "2"}
    with clients(review, "anna") as [browser]:
        for form, words in [
            ({"verdict": "left", "rate-left-0": "4", "reason": "kept"}, "Rate both answers"),
            ({"verdict": "left", "rate-left-0": "4", "rate-right-0": "9"}, "Rate both answers"),
            ({"verdict": "best"} | rated, "Choose one of the five"),
            (rated, "Choose one of the five"),
            ({"verdict": "left", "edit-left": "  "} | rated, "edited answer is empty"),
        ]:
            answer = browser.post(f"/item/{item}", data=form)
            assert answer.status_code == 422
            assert words in answer.text
            if "reason" in form:
                assert "kept</textarea>" in answer.text
                assert re.search(r'name="rate-left-0" value="4" checked', answer.text)
        assert judgements(review) == []
        assert browser.post(f"/item/{item}", data={"verdict": "skip"}).status_code == 303  # a skip needs no ratings


def test_an_edit_is_one_only_where_the_text_has_changed(make_review: Callable[..., Review]) -> None:
    review = make_review()
    anna, item = one(review)
    left, right = (answer_text(page_of(review, item), side) for side in ("left", "right"))
    with clients(review, "anna") as [browser]:
        form = {"verdict": "left", "edit-left": left.replace("\n", "\r\n"), "edit-right": right + " Better."}
        browser.post(f"/item/{item}", data=form)
        [found] = judgements(review)
        assert found.edits == {str(1 - review.left(anna, review.items[item])): right + " Better."}
        assert right + " Better.</textarea>" in browser.get(f"/item/{item}").text


def page_of(review: Review, item: str) -> str:
    with clients(review, "anna") as [browser]:
        return browser.get(f"/item/{item}").text


ODD = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "</textarea></div><form action='http://evil'>",
    "{{ 7 * 7 }} {% raw %} ${x} <b hx-get='/'>",
    "NUL \0 bell \x07 end",
    "\nfirst line empty\r\nwindows\rmac",
    "שלום עולם, 你好 👩‍👩‍👧 ‮reversed",
    "x" * 2_000_000,
]


@pytest.mark.parametrize("text", ODD, ids=["script", "closing", "template", "nul", "lines", "unicode", "long"])
def test_odd_texts_are_shown_as_text_and_kept_as_they_are(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": text, "chosen": text, "rejected": "plain"}) + "\n")
    review = create(tmp_path / "review", read_pairs(str(path), {}), ["anna"], attention=0)
    anna, item = one(review)
    side = "left" if review.left(anna, review.items[item]) == 0 else "right"
    with clients(review, "anna") as [browser]:
        page = browser.get(f"/item/{item}")
        assert page.status_code == 200
        body = page.text.split("<body")[1]
        assert "<script" not in body
        assert "<img" not in body
        assert "\0" not in body
        assert len(re.findall("<form", body)) == 1
        assert "<b hx" not in body
        unseen = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").replace("\x07", "\ufffd")
        shown = answer_text(page.text, side)
        assert shown == unseen
        # sent back as a browser does, line ends and all, it is no edit
        browser.post(
            f"/item/{item}", data={"verdict": "left", f"edit-{side}": shown.replace("\n", "\r\n"), "reason": text}
        )
    [found] = judgements(review)
    assert found.edits == {}
    assert review.items[item].answers[0][0]["content"] == text
    assert len(found.reason) <= 10_000


def test_too_long_a_body_and_one_that_is_no_form_are_refused(make_review: Callable[..., Review]) -> None:
    review = make_review()
    _, item = one(review)
    with clients(review, "anna") as [browser]:
        assert browser.post(f"/item/{item}", content=b"reason=" + b"x" * MOST_BYTES).status_code == 413
        assert browser.post(f"/item/{item}", content=b"&".join([b"a=1"] * 2000)).status_code == 400
        assert browser.post(f"/item/{item}", content=b"\xff\xfe\0").status_code == 422
    assert judgements(review) == []


def test_a_form_of_another_page_is_refused(make_review: Callable[..., Review]) -> None:
    """A page on another port of this host is the same site to the cookie."""
    review = make_review()
    _, item = one(review)
    with clients(review, "anna") as [browser]:
        other = browser.post(f"/item/{item}", data={"verdict": "left"}, headers={"origin": "http://127.0.0.1:9999"})
        assert other.status_code == 403
        own = browser.post(f"/item/{item}", data={"verdict": "left"}, headers={"origin": "http://127.0.0.1"})
        assert own.status_code == 303
    assert len(judgements(review)) == 1


def test_every_answer_has_a_strict_policy(make_review: Callable[..., Review]) -> None:
    review = make_review()
    _, item = one(review)
    with clients(review, "anna") as [browser]:
        for path in ("/", f"/item/{item}", "/item/0", "/nowhere", "/static/review.js"):
            policy = browser.get(path).headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
        page = browser.get(f"/item/{item}").text
    assert not re.search(r"<script(?! src=\"/static/)|\son\w+=|style=|https?://", page)


def test_a_judgement_that_cannot_be_written_is_not_counted(make_review: Callable[..., Review]) -> None:
    review = make_review()
    _, item = one(review)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with clients(review, "anna") as [browser]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            answer = browser.post(f"/item/{item}", data={"verdict": "left"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert answer.status_code == 507
        assert "Not saved" in answer.text
        assert "aria-current" not in browser.get(f"/item/{item}").text
    assert judgements(review) == []
