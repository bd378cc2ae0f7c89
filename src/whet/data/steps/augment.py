"""`augment`: rows made from rows: with surface noise, in other forms, in other words, or new ones after examples.

Each says in `made` how it was made and from which row. What `split` holds out is neither changed nor used, and a row
that was made is not made into others. The steps that follow see made rows as any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from whet.data.curation.contract import Decision, Made, Record, Row, Rows, SetStep
from whet.data.curation.texts import Path as TextPath
from whet.data.curation.texts import prompt_and_answer, with_texts
from whet.data.steps import rewording as words
from whet.data.steps.noise import NoiseSettings, noisy
from whet.endpoint import Answer, Endpoint, Lent, Model, Request
from whet.errors import RecipeError, RowError
from whet.recipe.endpoint import EndpointPart

BY_MODEL = ("paraphrase", "synonyms", "self_instruct")
POOL = 1000
"""Examples that new rows are written after are drawn from so many rows."""
TOLD = 20
"""So many rows that a model failed on are named in the ledger; all are in the rejects."""
TRIES = 5
"""Draws of noise until a text differs; a short one may go unharmed a few times."""


class AugmentSettings(EndpointPart):
    """How rows are made, and of how many."""

    by: Literal["noise", "templates", "paraphrase", "synonyms", "self_instruct"]
    """noise and templates need no model; the others ask one."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the rows."""
    copies: Annotated[int, Field(ge=1, le=100)] = 1
    """Rows made from each."""
    rows: Annotated[int, Field(ge=1)] = 100
    """How many are asked for, by self_instruct."""
    seeds: Annotated[int, Field(ge=1, le=20)] = 3
    """Examples that each is written after, by self_instruct."""
    texts: Literal["prompt", "answer", "all"] = "prompt"
    """Whose words change. A model learns to write the answers: noise in them is learnt."""
    noise: NoiseSettings = NoiseSettings()
    """How often each kind of slip happens."""
    templates: list[str | dict[str, str]] = []
    """Texts with {prompt}, {answer} or a column's name; or keys and values, for several columns. None: whet's own."""
    back: bool = False
    """By templates: also ask for the question that belongs to the answer."""
    model: str = ""
    """Its name at the endpoint; without one, a model or a run of whet's."""
    temperature: Annotated[float, Field(ge=0)] = 0.8
    cache: str = ""
    """The file of answers that were paid for; OUT.answers.jsonl without a name."""
    most_alike: Annotated[float, Field(gt=0, le=1)] = 0.95
    """A model's text that shares so much of its words with the source, or with a row made before, is refused."""
    length: tuple[float, float] = (0.5, 2.0)
    """And one that is shorter or longer than the source by more than these."""

    @model_validator(mode="after")
    def _model(self) -> AugmentSettings:
        if self.by in BY_MODEL and not self.model:
            raise ValueError(f"{self.by} asks a model: name it as `model`, and where it is as `endpoint`")
        return self


class _Task(NamedTuple):
    """What a model is asked for one new row: `texts` of `record` in other words, or a row after the `examples`."""

    record: Record
    copy: int
    texts: list[tuple[TextPath, str]]
    examples: list[tuple[str, str]]


class Augment(SetStep):
    """Make rows from rows."""

    settings = AugmentSettings

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        self.notes: dict[str, Any] = {"made": 0, "refused": 0, "left out": Counter()}

    def schema(self) -> pa.Schema:
        return pa.schema([])

    def decide(self, features: Any, rows: Rows) -> Decision:
        made = {"noise": self._by_noise, "templates": self._by_templates}.get(self.set.by, self._by_model)(rows)
        return Decision(np.ones(rows.count, bool), added=self._counted(made), notes=self.notes)

    def _counted(self, made: Iterator[Made]) -> Iterator[Made]:
        for new in made:
            self.notes["refused" if new.refused else "made"] += 1
            yield new
        left_out = self.notes["left out"] = dict(self.notes["left out"])
        if not self.notes["made"] + self.notes["refused"] and f"no {self.set.texts}" in left_out:
            raise RowError(
                f"no row has a {self.set.texts} that could be changed", where="augment",
                do="set texts=all for running text, or name the `columns` that are asked",
            )  # fmt: skip

    def _sources(self, rows: Rows) -> Iterator[Record]:
        """The rows that others are made from: drawn, of train, and not made themselves."""
        drawn = self.context.draw("augment", self.set.by).random(rows.count) < self.set.share
        for record in rows.records():
            if reason := _held_back(record.row):
                self.notes["left out"][reason] += 1
            elif drawn[record.number]:
                yield record
            else:
                self.notes["left out"]["not drawn"] += 1

    def _by_noise(self, rows: Rows) -> Iterator[Made]:
        for record in self._sources(rows):
            texts = words.texts_to_change(record.row, self.set.texts, self.context.columns)
            if not texts:
                self.notes["left out"][f"no {self.set.texts}"] += 1
            for copy in range(self.set.copies if texts else 0):
                draw = self.context.draw("augment", "noise", record.number, copy)
                for _ in range(TRIES):
                    changes = {path: noisy(text, self.set.noise, draw) for path, text in texts}
                    if any(changes[path] != text for path, text in texts):
                        yield self._made(record, with_texts(record.row, changes), copy)
                        break
                else:
                    yield Made(record.number, None, "noise", "as its source")

    def _by_templates(self, rows: Rows) -> Iterator[Made]:
        forms = [*(self.set.templates or words.FORMS), *([words.BACK] if self.set.back else [])]
        for record in self._sources(rows):
            order = self.context.draw("augment", "templates", record.number).permutation(len(forms))
            for copy, number in enumerate(order[: self.set.copies].tolist()):
                row, refused = words.from_template(record.row, forms[number], self.context.columns)
                if row is None or row == record.row:
                    yield Made(record.number, None, "templates", refused or "as its source")
                else:
                    yield self._made(record, row, copy, template=number)

    def _by_model(self, rows: Rows) -> Iterator[Made]:
        model = self._model()
        tasks = self._new_tasks(rows) if self.set.by == "self_instruct" else self._rewordings(rows)
        failed: list[str] = []
        before: list[str] = []
        for task, answers in model.ask(tasks, self._requests):
            fault = next((answer.fault for answer in answers if answer.fault), "")
            if fault:
                failed.append(task.record.place)
                yield Made(task.record.number, None, self.set.by, fault)
            elif self.set.by == "self_instruct":
                yield self._after_examples(task, answers[0], before)
            else:
                yield self._reworded(task, answers)
        self.notes["model"] = dict(model.counts)
        if failed:
            self.notes["failed"] = {"rows": len(failed), "first": failed[:TOLD]}
            if isinstance(model, Endpoint) and model.says:
                self.notes["failed"]["endpoint says"] = model.says

    def _rewordings(self, rows: Rows) -> Iterator[_Task]:
        columns = self.context.columns
        for record in self._sources(rows):
            if self.set.texts == "all":
                texts = words.texts_to_change(record.row, "all", columns)
            else:
                one = (words.question_of if self.set.texts == "prompt" else words.answer_of)(record.row, columns)
                texts = [one] if one else []
            if not texts:
                self.notes["left out"][f"no {self.set.texts}"] += 1
            for copy in range(self.set.copies if texts else 0):
                yield _Task(record, copy, texts, [])

    def _new_tasks(self, rows: Rows) -> Iterator[_Task]:
        """Tasks for new rows, in order of their first example."""
        draw = self.context.draw("augment", "self_instruct")
        wanted = draw.choice(rows.count, min(rows.count, 3 * POOL), replace=False).tolist()
        pool = []
        for record in rows.records(wanted):
            pair = None if _held_back(record.row) else prompt_and_answer(record.row)
            if pair and all(text.strip() for text in pair):
                pool.append((record, pair))
        if not pool:
            do = "whet knows prompt + completion, instruction + output, messages"
            raise RowError("no row has a prompt and an answer to learn from", where="augment", do=do)
        pool = pool[:POOL]
        for copy, first in enumerate(np.sort(draw.integers(len(pool), size=self.set.rows)).tolist()):
            others = [n for n in draw.permutation(len(pool))[: self.set.seeds].tolist() if n != first]
            shown = [first, *others[: self.set.seeds - 1]]
            yield _Task(pool[first][0], copy, [], [pool[number][1] for number in shown])

    def _requests(self, task: _Task) -> list[Request]:
        asked = [f"{words.ASKED[self.set.by]}\n\n{text}" for _, text in task.texts]
        asked += [words.example_request(task.examples)] if task.examples else []
        seed = {"seed": self.context.seed * 1000 + task.copy}
        return [{"messages": [{"role": "user", "content": text}], **seed} for text in asked]

    def _reworded(self, task: _Task, answers: list[Answer]) -> Made:
        changes = {}
        for (path, source), answer in zip(task.texts, answers, strict=True):
            changes[path] = words.unwrapped(answer.text, source)
            refused = words.fault_of(source, changes[path], self.set.most_alike, self.set.length)
            if refused:
                return Made(task.record.number, with_texts(task.record.row, changes), self.set.by, refused)
        return self._made(task.record, with_texts(task.record.row, changes), task.copy, model=self.set.model)

    def _after_examples(self, task: _Task, answer: Answer, before: list[str]) -> Made:
        """A new row, unless it is much like its examples or one that was made before it."""
        number, found = task.record.number, words.example_of(answer.text)
        if found is None:
            return Made(number, {"answer": answer.text}, self.set.by, "not the JSON that was asked for")
        row = words.like(task.record.row, *found)
        if any(words.likeness(known, found[0]) >= self.set.most_alike for known in self._known(task, before)):
            return Made(number, row, self.set.by, "nearly as another row")
        before.append(found[0])
        return self._made(task.record, row, task.copy, model=self.set.model)

    def _known(self, task: _Task, before: list[str]) -> list[str]:
        return [prompt for prompt, _ in task.examples] + before

    def _made(self, record: Record, row: Row, copy: int, **how: Any) -> Made:
        row = {**row, "made": {"by": self.set.by, "from": record.place, **how}}
        if "id" in row and row["id"] == record.row.get("id"):
            row["id"] = f"{row['id']}/{self.set.by}{copy + 1}" if isinstance(row["id"], str) else None
        return Made(record.number, row, f"made by {self.set.by}")

    def _model(self) -> Model:
        """Who is asked. Raises RecipeError where that is nobody, or a key is not where it is said to be."""
        if not self.set.endpoint:
            generate = self.context.services.get("generate")
            if generate is None:
                raise RecipeError(
                    f"{self.set.by} by {self.set.model} needs an endpoint or a lent model", where="augment",
                    do="set `endpoint`, or from Python curate(rows, steps, generate=function), prompts -> texts",
                )  # fmt: skip
            asked = {"max_new_tokens": self.set.max_tokens, "temperature": self.set.temperature}
            return Lent(generate, model=self.set.model, seed=self.context.seed, **asked)
        beside = f"{self.context.beside}.answers.jsonl" if self.context.beside else ""
        cache = self.set.cache or beside
        return Endpoint.of(
            self.set, "augment", Path(cache) if cache else None,
            words.example_of if self.set.by == "self_instruct" else str.strip,
        )  # fmt: skip


def _held_back(row: Row) -> str:
    """Why no row is made from this one, or ""."""
    if row.get("split") not in (None, "train"):
        return "held out"
    return "made itself" if row.get("made") else ""
