"""Graders that ask models: `score_model` and `label_model` behind an endpoint, `reward_model` as it is lent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from whet.answers import numbers, parsed
from whet.endpoint import Answer, Endpoint, Request
from whet.errors import RecipeError
from whet.graders.grade import Case, Found, Grader, one_of
from whet.recipe.graders import LabelModelPart, RewardModelPart, ScoreModelPart
from whet.recipe.template import Template
from whet.rows import Message

RewardModel = Callable[[Sequence[str | list[Message]], Sequence[str]], list[float]]
"""(prompts, answers) -> scores; a prompt is a text or the turns of a conversation."""


def score_model(part: ScoreModelPart, name: str) -> Grader:
    """The number that the model gives, brought into `range`; an answer that lacks what the messages ask for has the
    lowest. It is asked for JSON, steps and then `{"result": number}`; where it writes something else, its last number
    counts. Raises RecipeError without an endpoint or its key."""
    low, high = part.range
    step = _object({"description": {"type": "string"}, "conclusion": {"type": "string"}})
    shape = _object({"steps": {"type": "array", "items": step}, "result": {"type": "number"}})

    def read(text: str) -> float | None:
        found = score_in(text)
        return None if found is None else min(max(found, low), high)

    return _asking(part, name, shape, read, low)


def score_in(text: str) -> float | None:
    """`result` of a JSON object, else the last number; None for none."""
    value = parsed(text)
    if isinstance(value, dict):
        value = value.get("result")
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    found = numbers(text)
    return found[-1][0] * found[-1][1] if found else None


def label_model(part: LabelModelPart, name: str) -> Grader:
    """1 where the model's label is a passing one, else 0; an answer that lacks what the messages ask for has 0. It is
    asked for JSON, `{"result": label}`; the label alone is understood too. Raises as `score_model` does."""
    shape = _object({"result": {"type": "string", "enum": part.labels}})

    def read(text: str) -> float | None:
        label = label_in(text, part.labels)
        return None if label is None else float(label in part.passing_labels)

    return _asking(part, name, shape, read, 0.0)


def label_in(text: str, labels: Sequence[str]) -> str | None:
    """The label that is `result` of a JSON object, or all there is but for case and marks around it; None for none."""
    value = parsed(text)
    said = str(value.get("result", "")) if isinstance(value, dict) else text

    def plain(label: str) -> str:
        return label.strip().strip("\"'`*.!").casefold()

    return next((label for label in labels if plain(label) == plain(said)), None)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    fixed = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "properties": properties, **fixed}


def _asking(
    part: ScoreModelPart | LabelModelPart, name: str, shape: dict[str, Any], read: Callable[[str], float | None],
    lowest: float,
) -> Grader:  # fmt: skip
    """A grader that asks once for each different request, and `read`s the answers."""
    where = f"grader {name}"
    if not part.endpoint:
        raise RecipeError("no `endpoint`", where=where, do="say where the model is: http://localhost:8000/v1")
    Endpoint.of(part, where)  # the key is there, or it is said before anything is graded
    messages = [(message.role, Template(message.content)) for message in part.input]
    own: Request = {}
    if "response_format" not in part.extra:
        schema = {"name": "grade", "strict": True, "schema": shape}
        own["response_format"] = {"type": "json_schema", "json_schema": schema}

    def request(case: Case) -> Request:
        turns = [{"role": role, "content": case.filled(content)} for role, content in messages]
        return {"messages": turns, **own}

    def scorer(cases: Sequence[Case]) -> list[Found]:
        asked = [one_of(request, case, lowest) for case in cases]
        different = {_key(one): one for one in asked if isinstance(one, dict)}
        endpoint = Endpoint.of(part, where, sensible=lambda text: read(text) is not None)
        answers = {key: found for key, [found] in endpoint.ask(different, lambda key: [different[key]])}
        return [_found(answers[_key(one)], read) if isinstance(one, dict) else one for one in asked]

    return Grader(name, scorer, [content for _, content in messages])


def _key(request: Request) -> str:
    return json.dumps(request["messages"])


def _found(answer: Answer, read: Callable[[str], float | None]) -> Found:
    score = None if answer.fault else read(answer.text)
    return f"the model gave no score: {answer.fault}" if score is None else score


def reward_model(part: RewardModelPart, name: str, reward_models: Mapping[str, RewardModel]) -> Grader:
    """What the model that is lent under this name says of prompts and answers: where a row has all turns as `messages`,
    and the part asks for no other prompt, of these. Raises RecipeError where none is."""
    if part.model not in reward_models:
        known = f"; there is {', '.join(reward_models)}" if reward_models else ""
        raise RecipeError(
            f"no reward model {part.model!r} is lent here{known}",
            where=f"grader {name}",
            do="grade by it where reward models are opened, or lend it: build(part, reward_models={MODEL: function})",
        )
    score, prompt, text = reward_models[part.model], Template(part.prompt), Template(part.input)
    whole_talk = part.prompt == RewardModelPart.model_fields["prompt"].default

    def asked(case: Case) -> tuple[str | list[Message], str]:
        talk = case.item.get("messages") if whole_talk else None
        return talk or case.filled(prompt), case.filled(text)

    def scorer(cases: Sequence[Case]) -> list[Found]:
        pairs = [one_of(asked, case) for case in cases]
        whole = [pair for pair in pairs if isinstance(pair, tuple)]
        scores = iter(score([pair[0] for pair in whole], [pair[1] for pair in whole]) if whole else [])
        return [float(next(scores)) if isinstance(pair, tuple) else pair for pair in pairs]

    return Grader(name, scorer, [prompt, text])
