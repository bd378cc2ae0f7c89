"""Rows made from rows: what is made and from what, what is never touched, and a model that fails."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from whet.data.curation.pipeline import Curated, curate
from whet.data.steps import rewording
from whet.errors import ModelError, RecipeError, RowError

SUBJECTS = ["apples", "pears", "plums", "figs", "dates", "limes", "nuts", "melons", "cherries", "peaches"]


def rows(count: int = 10) -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{n}",
            "prompt": f"How many {SUBJECTS[n % 10]} are there in the {n + 2} baskets of the old farmer's market?",
            "completion": f"There are {3 * n + 6} of them in all the baskets.",
        }
        for n in range(count)
    ]


def augmented(given: list[dict[str, Any]], out: Path | None = None, **settings: Any) -> Curated:
    services = {"generate": settings.pop("generate")} if "generate" in settings else {}
    return curate(given, [{"augment": settings}], out, **services)


def made_of(done: Curated) -> list[dict[str, Any]]:
    return [row for row in done.rows or [] if "made" in row]


# Without a model -----------------------------------------------------------------------------------------------------


def test_noise_changes_prompts_alone_and_says_what_it_did() -> None:
    given = rows()
    done = augmented(given, by="noise", copies=2, noise={"typos": 0.1})
    assert [row for row in done.rows or [] if "made" not in row] == given
    made = made_of(done)
    assert len(made) == 20
    for at, row in enumerate(made):
        source = given[at // 2]
        assert row["completion"] == source["completion"]
        assert row["prompt"] != source["prompt"]
        assert rewording.numbers(row["prompt"]) == rewording.numbers(source["prompt"])
        assert row["made"] == {"by": "noise", "from": f"row {at // 2 + 1}"}
        assert row["id"] == f"{source['id']}/noise{at % 2 + 1}"
    assert len({row["prompt"] for row in made}) == 20
    assert augmented(given, by="noise", copies=2, noise={"typos": 0.1}).rows == done.rows
    assert done.ledger.steps[0].reasons == {"made by noise": 20}
    assert done.ledger.steps[0].notes == {"made": 20, "refused": 0, "left out": {}}


def test_made_rows_stand_behind_their_sources() -> None:
    done = augmented(rows(3), by="noise", noise={"typos": 0.2})
    assert [row["id"] for row in done.rows or []] == ["r0", "r0/noise1", "r1", "r1/noise1", "r2", "r2/noise1"]


def test_answers_change_only_when_asked() -> None:
    made = made_of(augmented(rows(), by="noise", texts="answer", noise={"drops": 0.3}))
    assert [row["prompt"] for row in made] == [row["prompt"] for row in rows()]
    assert all(a["completion"] != b["completion"] for a, b in zip(made, rows(), strict=True))


def test_held_out_and_made_rows_are_left_alone() -> None:
    given = rows()
    for number, split in enumerate(["test", "validation", "train", None]):
        given[number]["split"] = split
    given[4]["made"] = {"by": "templates", "from": "elsewhere"}
    for settings in ({"by": "noise"}, {"by": "templates"}, {"by": "paraphrase", "model": "m", "generate": reworded}):
        done = augmented(given, **settings)
        sources = {row["made"]["from"] for row in made_of(done)} - {"elsewhere"}
        assert sources == {f"row {n}" for n in (3, 4, 6, 7, 8, 9, 10)}
        assert done.ledger.steps[0].notes["left out"] == {"held out": 2, "made itself": 1}


def test_a_share_of_the_rows() -> None:
    done = augmented(rows(400), by="noise", share=0.25, noise={"typos": 0.2})
    assert len(made_of(done)) == pytest.approx(100, abs=35)  # 4 standard deviations
    assert done.ledger.steps[0].notes["left out"] == {"not drawn": 400 - len(made_of(done))}


def test_templates_ask_the_same_in_other_forms() -> None:
    made = made_of(augmented(rows(4), by="templates", copies=2))
    for at, row in enumerate(made):
        form = rewording.FORMS[row["made"]["template"]]
        assert row["prompt"] == form.replace("{prompt}", rows()[at // 2]["prompt"])
        assert row["completion"] == rows()[at // 2]["completion"]
    assert all(made[n]["prompt"] != made[n + 1]["prompt"] for n in range(0, 8, 2))


def test_ones_own_templates_and_the_way_back() -> None:
    made = made_of(augmented(rows(3), by="templates", templates=["{id}? {prompt}"], back=True, copies=9))
    assert Counter(row["made"]["template"] for row in made) == {0: 3, 1: 3}
    for row in made:
        source = rows()[int(row["id"][1])]
        if row["made"]["template"] == 0:
            assert row["prompt"] == f"{source['id']}? {source['prompt']}"
        else:
            assert row["completion"] == source["prompt"]
            assert source["completion"] in row["prompt"]


def test_a_template_that_does_not_fit_is_told_for_each_row(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = augmented(rows(3), out, by="templates", templates=["{topic}: {prompt}"])
    assert done.ledger.rows == 3
    rejects = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").read_text().splitlines()]
    assert [(line["place"], line["reason"]) for line in rejects] == [
        (f"row {n} (made)", "no field topic") for n in (1, 2, 3)
    ]
    assert done.ledger.steps[0].dropped == 0


def test_running_text_has_no_prompt() -> None:
    with pytest.raises(RowError, match="texts=all"):
        augmented([{"text": "only text here"}], by="noise")
    assert made_of(augmented([{"text": "only running text here"}], by="noise", texts="all", noise={"typos": 0.5}))


def test_later_steps_see_made_rows() -> None:
    steps = [{"augment": {"by": "templates", "templates": ["{prompt} \u200b"]}}, {"repair": {}}]
    done = curate(rows(2), steps)
    assert [row["prompt"] for row in made_of(done)] == [row["prompt"] for row in rows(2)]


# By a lent model -----------------------------------------------------------------------------------------------------


def text_in(prompt: str) -> str:
    return prompt.split("\n\n", 1)[1]


def reworded(prompts: list[str], **_: Any) -> list[str]:
    return [f"Please say it: {text_in(prompt)} Exactly how many?" for prompt in prompts]


def test_a_lent_model_rewords_prompts() -> None:
    asked: list[dict[str, Any]] = []

    def generate(prompts: list[str], **settings: Any) -> list[str]:
        asked.append(settings)
        return reworded(prompts)

    given = rows(3)
    given[1] = {"messages": [{"role": "user", "content": "Is 1 prime?"}, {"role": "assistant", "content": "No."}]}
    made = made_of(augmented(given, by="paraphrase", model="tiny", generate=generate, length=[0.5, 9]))
    assert made[0]["prompt"] == f"Please say it: {given[0]['prompt']} Exactly how many?"
    assert made[0]["made"] == {"by": "paraphrase", "from": "row 1", "model": "tiny"}
    assert made[1]["messages"][0]["content"].startswith("Please say it: Is 1 prime?")
    assert made[1]["messages"][1] == given[1]["messages"][1]
    assert asked == [{"model": "tiny", "seed": 0, "max_new_tokens": 512, "temperature": 0.8}]


def test_what_a_model_made_badly_is_refused_with_its_reason(tmp_path: Path) -> None:
    bad = {
        0: lambda text: text, 1: lambda text: "", 2: lambda text: text.replace("4", "5"), 3: lambda text: text.upper(),
        4: lambda text: "6", 5: lambda text: "I'm sorry, I cannot talk of 7 baskets of things like these here.",
    }  # fmt: skip

    def generate(prompts: list[str], **_: Any) -> list[str]:
        good = reworded(prompts)
        return [bad[n](text_in(prompt)) if n in bad else good[n] for n, prompt in enumerate(prompts)]

    out = tmp_path / "out.jsonl"
    done = augmented(rows(), out, by="synonyms", model="m", generate=generate)
    assert done.ledger.steps[0].reasons == {
        "made by synonyms": 4, "as its source": 1, "empty answer": 1, "other numbers": 1, "nearly as its source": 1,
        "too short": 1, "a refusal": 1,
    }  # fmt: skip
    assert done.ledger.rows == 14
    assert done.ledger.steps[0].notes["failed"] == {"rows": 1, "first": ["row 2"]}
    rejects = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").read_text().splitlines()]
    assert rejects[1] == {
        "place": "row 2 (made)", "step": "augment", "reason": "empty answer", "detail": "synonyms", "row": None,
    }  # fmt: skip
    assert rejects[2]["row"]["prompt"] == rows()[2]["prompt"].replace("4", "5")


def test_new_rows_after_examples() -> None:
    given = rows()
    given[3]["split"] = "test"
    seen: list[str] = []

    def generate(prompts: list[str], **_: Any) -> list[str]:
        seen.extend(prompts)
        answers = [json.dumps({"prompt": f"{'word ' * n}What of {n}?", "answer": f"So much: {n}."}) for n in range(20)]
        answers[2], answers[3], answers[4] = (
            "nonsense",
            answers[1],
            json.dumps({"prompt": given[0]["prompt"], "answer": "x"}),
        )
        return answers[: len(prompts)]

    done = augmented(given, by="self_instruct", rows=20, seeds=9, model="m", generate=generate)
    made = made_of(done)
    assert made[0]["prompt"] == "What of 0?"
    assert made[0]["completion"] == "So much: 0."
    assert "id" not in made[0]
    assert made[0]["made"].keys() == {"by", "from", "model"}
    assert not any(given[3]["prompt"] in prompt for prompt in seen)
    assert all(sum(json.dumps(row["prompt"]) in prompt for row in given) == 9 for prompt in seen)
    assert done.ledger.steps[0].reasons == {
        "made by self_instruct": 17, "not the JSON that was asked for": 1, "nearly as another row": 2,
    }  # fmt: skip


# By an endpoint ------------------------------------------------------------------------------------------------------


def by_endpoint(server: Any, out: Path, count: int = 10, **settings: Any) -> Curated:
    known = {"by": "paraphrase", "model": "big", "endpoint": server.url, "backoff": 0.01, "timeout": 0.3, "retries": 1}
    return curate(rows(count), [{"augment": known | settings}], out, overwrite=True)


def paraphrase(body: dict[str, Any], number: int) -> str:
    return reworded([body["messages"][0]["content"]])[0]


def test_rows_that_an_endpoint_fails_on_are_listed_and_the_rest_is_kept(
    chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    failures = {
        "plums": 0.5, "figs": (500, {}, b""), "nuts": (200, {}, b"nonsense"),
        "dates": (400, {}, b'{"error": {"message": "bad request by sk-very-secret"}}'),
    }  # fmt: skip

    def reply(body: dict[str, Any], number: int) -> Any:
        text = body["messages"][0]["content"]
        return next((failure for word, failure in failures.items() if word in text), None) or paraphrase(body, number)

    chat_server.reply = reply
    out = tmp_path / "out.jsonl"
    done = by_endpoint(chat_server, out, api_key_env="MY_KEY")
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row for row in written if "made" not in row] == rows()
    assert [row["id"] for row in written if "made" in row] == [f"r{n}/paraphrase1" for n in (0, 1, 5, 7, 8, 9)]
    entry = done.ledger.steps[0]
    assert entry.reasons == {
        "made by paraphrase": 6, "no answer in 0.3 s": 1, "HTTP 500": 1, "an answer that is no chat completion": 1,
        "HTTP 400": 1,
    }  # fmt: skip
    assert entry.notes["failed"] == {
        "rows": 4, "first": ["row 3", "row 4", "row 5", "row 7"], "endpoint says": "bad request by ***",
    }  # fmt: skip
    assert entry.notes["model"] == {"asked": 10, "retried": 3}
    rejects = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").read_text().splitlines()]
    assert [line["place"] for line in rejects] == [f"row {n} (made)" for n in (3, 4, 5, 7)]
    assert chat_server.headers[0]["Authorization"] == "Bearer sk-very-secret"
    for file in tmp_path.iterdir():
        assert b"very-secret" not in file.read_bytes(), file
    # and again, when it is well: only what failed is asked for
    before = len(chat_server.seen)
    chat_server.reply = paraphrase
    assert by_endpoint(chat_server, out, api_key_env="MY_KEY").ledger.rows == 20
    assert len(chat_server.seen) == before + 4


def test_an_interrupted_run_leaves_its_answers_and_nothing_else(chat_server: Any, tmp_path: Path) -> None:
    chat_server.reply = lambda body, number: (401, {}, b"") if number == 6 else paraphrase(body, number)
    out = tmp_path / "out.jsonl"
    with pytest.raises(ModelError, match="HTTP 401"):
        by_endpoint(chat_server, out, concurrency=1)
    assert [file.name for file in tmp_path.iterdir()] == ["out.answers.jsonl"]
    kept = len((tmp_path / "out.answers.jsonl").read_text().splitlines())
    assert kept >= 6
    chat_server.reply = paraphrase
    done = by_endpoint(chat_server, out, concurrency=1)
    assert done.ledger.rows == 20
    # By its own count: a request that was under way when the first run ended may reach the server only now.
    counts = done.ledger.steps[0].notes["model"]
    assert counts["from cache"] >= kept
    assert counts["asked"] == 10 - counts["from cache"]


def test_copies_and_extra_keys_of_the_body(chat_server: Any, tmp_path: Path) -> None:
    chat_server.reply = lambda body, number: f"{paraphrase(body, number)} {'more ' * body['seed']}"
    extra = {"max_tokens": None, "max_completion_tokens": 9}
    by_endpoint(chat_server, tmp_path / "out.jsonl", count=1, copies=3, concurrency=1, extra=extra)
    assert [body["seed"] for body in chat_server.seen] == [0, 1, 2]
    assert chat_server.seen[0].keys() == {
        "path", "model", "temperature", "messages", "seed", "max_completion_tokens",
    }  # fmt: skip


def test_nonsense_instead_of_an_example_is_asked_for_again(chat_server: Any, tmp_path: Path) -> None:
    good = json.dumps({"prompt": "Why so?", "answer": "For no reason."})
    chat_server.reply = lambda body, number: good if number else "Sure!"
    done = by_endpoint(chat_server, tmp_path / "out.jsonl", by="self_instruct", rows=1)
    assert done.ledger.steps[0].notes["model"] == {"asked": 1, "retried": 1}
    assert done.ledger.rows == 11


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"by": "paraphrase"}, RecipeError, "asks a model"),
        ({"by": "paraphrase", "model": "m"}, RecipeError, "endpoint or a lent model"),
        ({"by": "paraphrase", "model": "m", "endpoint": "localhost:8000"}, RecipeError, "http://localhost"),
        ({"by": "paraphrase", "model": "m", "endpoint": "file:///etc/passwd"}, RecipeError, "http://localhost"),
        ({"by": "paraphrase", "model": "m", "endpoint": "http://me:pass@host/v1"}, RecipeError, "without user"),
        ({"by": "paraphrase", "model": "m", "endpoint": "http://h", "api_key_env": "UNSET_X"}, RecipeError, "not set"),
        ({"by": "self_instruct", "model": "m", "generate": reworded}, RowError, "no row has a prompt"),
        ({"by": "noise", "noise": {"typos": 2}}, RecipeError, "typos"),
    ],
)
def test_what_cannot_be_done(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        augmented([{"text": "running text"}], **settings)
