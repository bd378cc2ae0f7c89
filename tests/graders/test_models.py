"""Graders that ask a model, against a real server on this machine, and a reward model that is lent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from whet.errors import RecipeError
from whet.graders import build
from whet.graders.models import label_in, score_in
from whet.recipe.graders import LabelModelPart, RewardModelPart, ScoreModelPart

MESSAGES = [
    {"role": "system", "content": "You grade."},
    {"role": "user", "content": "Wanted: {{item.answer}}. Found: {{sample.output_text}}"},
]


def part(url: str, kind: Any = ScoreModelPart, **settings: Any) -> Any:
    return kind(input=MESSAGES, model="judge", endpoint=url, retries=1, backoff=0, **settings)


def test_score_model_asks_as_it_is_told_and_reads_the_result(chat_server: Any) -> None:
    replies = {
        "5": '{"steps": [], "result": 0.75}',
        "6": "I would say 7 of 10, so 0.5",
        "7": '{"result": 3}',
        "8": "no",
    }
    chat_server.reply = lambda body, number: replies[body["messages"][1]["content"][-1]]
    grader = build(part(chat_server.url, sampling_params={"seed": 3, "temperature": 1, "max_completions_tokens": 50}))
    found = grader.grade([{"answer": 5}] * 5, ["5", "6", "7", "8", "5"])
    assert [grade.score for grade in found] == [0.75, 0.5, 1, None, 0.75]  # 3 is brought into the range
    assert found[3].fault == "score_model, row 4: the model gave no score: not what was asked for"
    assert len(chat_server.seen) == 5  # the same question is asked once, nonsense twice
    body = chat_server.seen[0]
    assert body["messages"][0] == {"role": "system", "content": "You grade."}
    assert body["messages"][1]["content"].startswith("Wanted: 5. Found: ")
    assert (body["seed"], body["temperature"], body["max_tokens"], body["model"]) == (3, 1, 50, "judge")
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["result"] == {"type": "number"}


def test_a_server_without_response_formats(chat_server: Any) -> None:
    chat_server.reply = lambda body, number: "1" if "response_format" not in body else (400, {}, b"")
    grader = build(part(chat_server.url, extra={"response_format": None}))
    assert grader.grade([{"answer": 5}], ["5"])[0].score == 1
    [grade] = build(part(chat_server.url)).grade([{"answer": 5}], ["5"])
    assert (grade.score, grade.fault) == (None, "score_model, row 1: the model gave no score: HTTP 400")


def test_label_model(chat_server: Any) -> None:
    replies = {"5": '{"result": "good"}', "6": "**Bad**.", "7": "fair", "8": '{"result": "other"}'}
    chat_server.reply = lambda body, number: replies[body["messages"][1]["content"][-1]]
    grader = build(
        part(chat_server.url, LabelModelPart, labels=["good", "fair", "bad"], passing_labels=["good", "fair"])
    )
    found = grader.grade([{"answer": 5}] * 4 + [{}], ["5", "6", "7", "8", "5"])
    assert [grade.score for grade in found] == [1, 0, 1, None, None]
    assert "no `item.answer`" in str(found[4].fault)
    shape = chat_server.seen[0]["response_format"]["json_schema"]["schema"]["properties"]["result"]
    assert shape == {"type": "string", "enum": ["good", "fair", "bad"]}


def test_a_server_that_refuses_costs_scores_and_no_more(chat_server: Any) -> None:
    chat_server.reply = lambda body, number: (401, {}, json.dumps({"error": {"message": "wrong key"}}).encode())
    [grade] = build(part(chat_server.url)).grade([{"answer": 5}], ["5"])
    assert grade.score is None
    assert "wrong key" in str(grade.fault)
    nowhere = build(part("http://127.0.0.1:9/v1"))
    assert "no connection" in str(nowhere.grade([{"answer": 5}], ["5"])[0].fault)


def test_what_is_missing_is_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(RecipeError, match="no `endpoint`"):
        build(part(""))
    with pytest.raises(RecipeError, match="not set"):
        build(part("http://127.0.0.1:9/v1", api_key_env="NO_SUCH_KEY"))
    with pytest.raises(RecipeError, match="no reward model 'rm' is lent"):
        build(RewardModelPart(model="rm"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"result": 2}', 2), ('```json\n{"result": -1.5}\n```', -1.5), ('{"result": "2"}', None), ('{"score": 2}', None),
     ("first 3, then 4", 4), ("80%", 0.8), ("none", None), ('{"result": true}', None)],
)  # fmt: skip
def test_scores_in_texts(text: str, expected: float | None) -> None:
    assert score_in(text) == expected


def test_labels_in_texts() -> None:
    labels = ["good", "not good"]
    assert [label_in(text, labels) for text in ("Good", "'not good'.", "very good", '{"result": "good"}', "{}")] == [
        "good", "not good", None, "good", None,
    ]  # fmt: skip


def test_a_reward_model_that_is_lent() -> None:
    def model(prompts: Any, answers: Any) -> list[float]:
        return [len(prompt) - len(answer) for prompt, answer in zip(prompts, answers, strict=True)]

    grader = build(RewardModelPart(model="rm", name="liked"), reward_models={"rm": model})
    found = grader.grade([{"prompt": "why?"}, {}, {"prompt": "how?"}], ["so", "so", "because"])
    assert [grade.score for grade in found] == [2, None, -3]
    assert found[0].parts == {"liked": 2}

    def broken(prompts: Any, answers: Any) -> list[float]:
        raise RuntimeError("no memory")

    [grade] = build(RewardModelPart(model="rm"), reward_models={"rm": broken}).grade([{"prompt": "why?"}], ["so"])
    assert grade.fault == "reward_model, row 1: RuntimeError: no memory"
