"""`inconsistencies`: one prompt with contradicting answers; answers that are empty, cut, refusals, or no answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field

from whet.data.curation.contract import Decision, Record, Row, Rows, SetStep
from whet.data.curation.texts import prompt_and_answer
from whet.data.steps.answer_checks import CHECKS, plain, roles
from whet.recipe.part import Part

Action = Annotated[
    Literal["drop", "flag", "off"],
    BeforeValidator(lambda value: "off" if value is False else value),  # as YAML reads `off`
]
Several = Literal["drop-all", "keep-first", "keep-majority", "flag", "report"]


class InconsistenciesSettings(Part):
    """What becomes of the rows that a check finds. flag: kept, with the names of the checks in a column
    `inconsistencies`; off: the check is not made."""

    empty: Action = "drop"
    """No answer, or a placeholder such as `<nooutput>`."""
    roles: Action = "drop"
    """Turns of a conversation out of order, or missing."""
    repeats_prompt: Action = "flag"
    """The answer is the prompt again."""
    refusal: Action = "flag"
    """"I'm sorry, but I cannot help with that.\""""
    truncated: Action = "flag"
    """An open code fence, open JSON, or prose that ends in a comma or a word that must go on."""
    no_full_stop: Action = "off"
    """Prose whose last sentence has no full stop: finds more cut answers, and many that people wrote so."""
    wrong_language: Action = "flag"
    """Asked in one language, answered in another, with no translation asked for."""
    contradictions: Several = "flag"
    """Rows with one prompt and different closed answers (yes and no, labels, figures). keep-first: rows that answer
    as the first one; keep-majority: as most do, and none of a tie; report: only count them."""
    several_answers: Several = "report"
    """Rows with the same prompt and different answers, fewer than two of them closed: seldom a fault."""
    closed_words: int = Field(default=3, ge=1)
    """Words that a closed answer may have."""


class Inconsistencies(SetStep):
    """Find answers that contradict each other or are none. A row without a prompt and an answer is not judged."""

    settings = InconsistenciesSettings

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        actions: dict[str, str] = {name: getattr(settings, name.replace("-", "_")) for name in (*CHECKS, "roles")}
        self.actions = {name: action for name, action in actions.items() if action != "off"}

    def schema(self) -> pa.Schema:
        digest = pa.binary(16)
        return pa.schema(
            [("prompt", digest), ("answer", digest), ("closed", pa.bool_()), ("found", pa.list_(pa.string()))]
        )

    def features(self, records: Sequence[Record]) -> dict[str, Any]:
        """Hashes of prompt and answer; found: `check: what is wrong`, one a check."""
        out: dict[str, list[Any]] = {name: [] for name in self.schema().names}
        for record in records:
            both = prompt_and_answer(record.row, self.context.prompt_columns, self.context.answer_columns)
            prompt, answer = (plain(text) for text in both) if both else ("", "")
            out["prompt"].append(_digest(prompt) if prompt and answer else None)
            out["answer"].append(_digest(answer) if prompt and answer else None)
            out["closed"].append(len(answer.split()) <= self.set.closed_words)
            out["found"].append(self._found(record.row, both))
        return out

    def _found(self, row: Row, both: tuple[str, str] | None) -> list[str]:
        turns = row.get("messages", row.get("conversations"))
        wrong = roles(turns) if "roles" in self.actions and isinstance(turns, list) else ""
        found = [f"roles: {wrong}"] if wrong else []
        if both:
            for name, check in CHECKS.items():
                wrong = check(*both) if name in self.actions else ""
                if wrong:
                    found.append(f"{name}: {wrong}")
                if wrong and name == "empty":
                    break  # of no answer there is no more to say
        return found

    def decide(self, features: pa.Table, rows: Rows) -> Decision:
        found: dict[int, list[tuple[str, str, str]]] = {}
        for index, wrong in enumerate(features["found"].to_pylist()):
            for line in wrong or ():
                name, _, detail = line.partition(": ")
                found.setdefault(index, []).append((name, self.actions[name], detail))
        notes = self._compare(features, found)
        decision = Decision(np.ones(rows.count, dtype=bool))
        counts: Counter[str] = Counter()
        for index, of_row in sorted(found.items()):
            counts.update(name for name, _, _ in of_row)
            dropped = next(((name, detail) for name, action, detail in of_row if action == "drop"), None)
            flagged = [name for name, action, _ in of_row if action == "flag"]
            if dropped:
                decision.keep[index] = False
                decision.why[index] = dropped
            elif flagged:
                decision.columns[index] = {"inconsistencies": flagged}
                decision.why[index] = (flagged[0], "; ".join(detail for _, _, detail in of_row))
        decision.notes = {"found": dict(counts.most_common()), **notes}
        return decision

    def _compare(self, features: pa.Table, found: dict[int, list[tuple[str, str, str]]]) -> dict[str, int]:
        """Add what prompts that come more than once lead to; returns how many such prompts there are, by kind."""
        closed = features["closed"].to_numpy()
        kinds: Counter[str] = Counter()
        for indices, answers in same_prompt(features["prompt"], features["answer"]):
            by_answer: dict[int, int] = Counter(answers.tolist())
            if len(by_answer) == 1:
                continue
            contradict = len(set(answers[closed[indices]].tolist())) > 1
            name = "contradiction" if contradict else "several-answers"
            kinds[f"prompts with {'contradicting' if contradict else 'several'} answers"] += 1
            what = self.set.contradictions if contradict else self.set.several_answers
            detail = f"{len(by_answer)} answers in {len(indices)} rows"
            for index, answer in zip(indices.tolist(), answers.tolist(), strict=True):
                action = what if what in ("flag", "report") else "drop"
                if action == "drop" and answer in kept_answers(answers, what):
                    action = "report"
                found.setdefault(index, []).append((name, action, detail))
        return dict(kinds)


def same_prompt(prompts: pa.ChunkedArray, answers: pa.ChunkedArray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(row numbers in order, their answers as numbers) for each prompt of two rows or more; rows with null are left
    out."""
    numbered = [column.combine_chunks().dictionary_encode().indices.fill_null(-1) for column in (prompts, answers)]
    prompt, answer = (column.to_numpy() for column in numbered)
    order = np.argsort(prompt, kind="stable")
    order = order[prompt[order] >= 0]
    cuts = np.flatnonzero(np.diff(prompt[order])) + 1
    groups = np.split(order, cuts)
    return [(group, answer[group]) for group in groups if len(group) > 1]


def kept_answers(answers: np.ndarray, what: str) -> set[int]:
    """Which of the answers to one prompt stay: the first, the most frequent unless another is as frequent, or none."""
    if what == "keep-first":
        return {int(answers[0])}
    most = Counter(answers.tolist()).most_common(2)
    return {most[0][0]} if what == "keep-majority" and (len(most) == 1 or most[0][1] > most[1][1]) else set()


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
