"""Rows made from rows: which texts are reworded, by what templates, what a model is asked, and what is accepted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from whet.data.curation.texts import ANSWERS, Path, Row, texts_of, with_texts

Which = Literal["prompt", "answer", "all"]

_OF_ANSWERS = {*ANSWERS, "rejected", "answer", "response"}
_OF_PROMPTS = {"prompt", "instruction", "input", "question"}
_ROLES = {"user": "prompt", "human": "prompt", "assistant": "answer", "gpt": "answer", "model": "answer"}

FORMS = (
    "Question: {prompt}",
    "{prompt}\n\nAnswer:",
    "Please help me with this.\n\n{prompt}",
    "This is what I would like to have answered: {prompt}",
    "Task:\n{prompt}\n\nYour answer:",
)
"""The same question in other forms."""
BACK = {"prompt": "Write the question or the request to which this is the answer.\n\n{answer}", "answer": "{prompt}"}
"""From the answer back to the question."""

ASKED = {
    "paraphrase": "Rewrite the text below in other words and, where you can, with another order of its parts. Keep its "
    "meaning, its language, and every name and number. Do not answer it. Reply with the rewritten text alone.",
    "synonyms": "Replace some words of the text below by synonyms and leave everything else as it is: the order of "
    "words, names, numbers, punctuation. Do not answer it. Reply with the changed text alone.",
}
"""What a model is told to do with a text."""


def kind_of(row: Row, path: Path, named: bool) -> str:
    """Whether the text at a path is part of the prompt, of the answer, or of neither (running text, system, tools).

    `named`: the user named the columns; one of no known name then counts as prompt.
    """
    value = row[str(path[0])]
    turn = value[path[1]] if len(path) > 1 and isinstance(value, list) and isinstance(path[1], int) else None
    if isinstance(turn, dict) and ("role" in turn or "from" in turn):
        return _ROLES.get(str(turn.get("role", turn.get("from"))), "other")
    if path[0] in _OF_ANSWERS:
        return "answer"
    return "prompt" if path[0] in _OF_PROMPTS or named else "other"


def texts_to_change(row: Row, which: Which, columns: tuple[str, ...] = ()) -> list[tuple[Path, str]]:
    """The texts of a row that are prompts, or answers, or any; with their paths."""
    found = [(path, text) for path, text in texts_of(row, columns) if text.strip()]
    return [(p, text) for p, text in found if which == "all" or kind_of(row, p, bool(columns)) == which]


def question_of(row: Row, columns: tuple[str, ...] = ()) -> tuple[Path, str] | None:
    """What is asked: the last user's turn, or the prompt or instruction without its input."""
    found = [pair for pair in texts_to_change(row, "prompt", columns) if pair[0] != ("input",)]
    return found[-1] if found else None


def answer_of(row: Row, columns: tuple[str, ...] = ()) -> tuple[Path, str] | None:
    """What is answered last; None also where there are better and worse answers."""
    found = texts_to_change(row, "answer", columns)
    return found[-1] if found and "rejected" not in row else None


def filled(template: str, fields: dict[str, Any]) -> str:
    """The template with `{name}` replaced by fields. Raises KeyError for one that is not there."""
    return re.sub(r"\{(\w+)\}", lambda match: str(fields[match[1]]), template)


def from_template(row: Row, template: str | dict[str, str], columns: tuple[str, ...] = ()) -> tuple[Row | None, str]:
    """(the row in another form, "") or (None, why not).

    A text is a new question; keys and values are new values of `prompt`, `answer` or of any column. Fields are
    `{prompt}`, `{answer}` and the row's columns.
    """
    question, answer = question_of(row, columns), answer_of(row, columns)
    own = {"prompt": question, "answer": answer}
    fields = row | {name: pair[1] for name, pair in own.items() if pair}
    changes: dict[Path, str] = {}
    values: Row = {}
    for name, form in ({"prompt": template} if isinstance(template, str) else template).items():
        try:
            text = filled(form, fields)
        except KeyError as error:
            return None, f"no field {error.args[0]}"
        place = own.get(name)
        if place:
            changes[place[0]] = text
        elif name in own and name not in row:
            return None, f"no {name}"
        else:
            values[name] = text
    return with_texts(row, changes) | values, ""


def example_request(examples: Sequence[tuple[str, str]]) -> str:
    """Self-Instruct (Wang et al. 2022, arXiv 2212.10560): a few tasks, and the wish for one more."""
    shown = "\n".join(json.dumps({"prompt": p, "answer": a}, ensure_ascii=False) for p, a in examples)
    return (
        "Below are tasks with their answers, as JSON, one a line. Write one more task of this kind, on another "
        "subject, with a right and complete answer. Reply with one JSON object with the keys `prompt` and `answer`, "
        f"and nothing else.\n\n{shown}"
    )


def example_of(answer: str) -> tuple[str, str] | None:
    """(prompt, answer) from a model's JSON, which may stand in a code fence; None for anything else."""
    begin, end = answer.find("{"), answer.rfind("}")
    try:
        found = json.loads(answer[begin : end + 1])
    except (json.JSONDecodeError, RecursionError):
        return None
    pair = [found.get("prompt"), found.get("answer")] if isinstance(found, dict) else []
    texts = [text.strip() for text in pair if isinstance(text, str) and text.strip()]
    return (texts[0], texts[1]) if len(texts) == 2 else None


def like(row: Row, prompt: str, answer: str) -> Row:
    """A new example in the columns of a row."""
    for name, who, what in (("messages", "role", "content"), ("conversations", "from", "value")):
        if name in row:
            roles = ("user", "assistant") if name == "messages" else ("human", "gpt")
            return {name: [{who: role, what: text} for role, text in zip(roles, (prompt, answer), strict=True)]}
    if "instruction" in row:
        return {"instruction": prompt, **({"input": ""} if "input" in row else {}), "output": answer}
    return {"prompt": prompt, "completion": answer}


_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"\w+")
_REFUSAL = re.compile(r"(?i)\W*(?:i['’]?m sorry|i am sorry|sorry, |i can['’]?t |i cannot |as an ai\b|i['’]?m unable)")


def numbers(text: str) -> Counter[str]:
    """The numbers in a text, thousands' commas left out: "1,200" is "1200"."""
    return Counter(re.sub(r",(?=\d{3}(?!\d))", "", found) for found in _NUMBER.findall(text))


def likeness(a: str, b: str) -> float:
    """Words that two texts share of all their words, each as often as it occurs (Jaccard of bags), without case."""
    bag_a, bag_b = (Counter(_WORD.findall(text.lower())) for text in (a, b))
    return (bag_a & bag_b).total() / max((bag_a | bag_b).total(), 1)


def fault_of(source: str, made: str, most_alike: float, length: tuple[float, float]) -> str:
    """Why a reworded text is refused, or ""."""
    if not made.strip():
        return "empty"
    if made.split() == source.split():
        return "as its source"
    if _REFUSAL.match(made) and not _REFUSAL.match(source):
        return "a refusal"
    if numbers(made) != numbers(source):
        return "other numbers"
    if not length[0] <= len(made) / len(source) <= length[1]:
        return "too short" if len(made) < len(source) else "too long"
    return "nearly as its source" if likeness(source, made) >= most_alike else ""


def unwrapped(answer: str, source: str) -> str:
    """A model's text without blanks around it, and without the quotation marks that the source did not have."""
    text = answer.strip()
    for opening, closing in ('""', "“”", "''"):
        if len(text) > 1 and text[0] == opening and text[-1] == closing and not source.startswith(opening):
            return text[1:-1].strip()
    return text
