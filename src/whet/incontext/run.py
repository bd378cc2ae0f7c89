"""`whet prompt`: candidates of instruction, demonstrations and their order, searched on held-out rows; the best becomes
a run. All that can be wrong with rows and settings is found before the model is loaded."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from whet.errors import RecipeError, RunError
from whet.evaluate.measure import Interval, mean_of
from whet.evaluate.score import Scorer
from whet.evaluate.subject import read_rows
from whet.incontext.measure import Choose, Measured, check_lengths, measure
from whet.incontext.rows import Labelled, as_example, demonstration, divided, labelled, labels_of, never_seen, without
from whet.incontext.search import Candidate, search
from whet.models.embed import embed
from whet.models.in_context.choose import Chooser, Demonstration
from whet.models.in_context.prompt import Prompt, fields_of, instruction_place, with_prompt
from whet.models.load import Loaded, load
from whet.recipe import DataPart, InContextPart, Recipe, check_recipe
from whet.rows import Example
from whet.tokens.template import Renderer
from whet.train.folder import free_folder

Done = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Prompted:
    """What came of it. `recipe` has the best candidate as its method, `candidates` are the best first, `test` is the
    accuracy of the best and of the bare question on test rows."""

    recipe: Recipe
    folder: Path
    prompt: Prompt
    candidates: list[Candidate]
    validation: int
    to_show: int
    test: dict[str, Interval]
    example: str
    seconds: float
    notes: list[str] = field(default_factory=list)


def prompt(
    model: str,
    data: DataPart,
    *,
    part: InContextPart | None = None,
    shots: Sequence[int] = (8,),
    instructions: Sequence[str] = ("",),
    draws: int = 1,
    validation: float | str = 0.2,
    test: str | None = None,
    budget: int | None = None,
    output: str = "runs/{model}-{method}-{time}",
    done: Done = lambda what, rows, of: None,
) -> Prompted:
    """Search a prompt for labelled rows; `whet.incontext.folder.write` makes a run folder of what is found.

    `part` has what all candidates share. These are every instruction with every number of shots, and each of these with
    `draws` seeds where demonstrations are drawn. `validation` is a share of the rows or a file; the rest is shown.
    `test` rows are neither shown nor searched by: the best candidate is measured on them at the end. `budget`: see
    `search`. Raises RecipeError, RowError and ModelError for what cannot be asked; nothing is written then.
    """
    begin = time.perf_counter()
    part = part or InContextPart()
    recipe = _recipe(model, data, part, validation, output)
    folder = free_folder(recipe)
    rows = _rows(data, part, validation, test)
    parts = _parts(part.model_copy(update={"labels": rows.shown.labels}), shots, instructions, draws)
    pool = [demonstration(example) for example in rows.shown.examples]
    for one in parts:
        Chooser(pool, one.model_copy(update={"similarity": "bm25"}))  # too few rows are told before a model is loaded
    asking = _Asking(load(recipe.model, torch.float32, "cuda" if torch.cuda.is_available() else "cpu"), pool)
    everything = [*rows.validation.examples, *(rows.test.examples if rows.test else [])]
    for one in parts:
        asking.check(one, everything)
    found = search(
        parts,
        lambda candidate, places: asking.measure(candidate.part, [rows.validation.examples[i] for i in places]),
        rows.validation.answers, budget, part.seed, lambda scored, of: done("search", scored, of),
    )  # fmt: skip
    best = found[0].part
    tested = _tested(asking, best, rows.test, done) if rows.test else {}
    prompt, renderer = asking.prompt(best), asking.renderer(best, whole=True)
    example = rows.validation.examples[0]
    text = renderer.conversation(example.messages, place=example.place)[-1].text
    chosen = recipe.model_copy(update={"method": best, "output": str(folder)})
    return Prompted(
        chosen, folder, prompt, found, len(rows.validation.examples), len(pool), tested, text,
        time.perf_counter() - begin, rows.notes,
    )  # fmt: skip


@dataclass(frozen=True)
class _Rows:
    shown: Labelled
    validation: Labelled
    test: Labelled | None
    notes: list[str]


def _rows(data: DataPart, part: InContextPart, validation: float | str, test: str | None) -> _Rows:
    """What is shown, searched by and tested on, filled into the template; no two of these ask the same."""
    prompt = Prompt(part)
    fields_of(part.template)

    def read(path: str) -> list[Example]:
        source = data.model_copy(update={"path": path})
        return [prompt.asked(example) for example in read_rows(source, part.seed)]

    examples = read(data.path)
    labels = part.labels or labels_of(examples)
    rows, notes = labelled(examples, labels), []
    tested = labelled(read(test), labels) if test is not None else None
    if tested is not None:
        rows, others = without(rows, tested.examples)
        notes += [f"{others:,} rows ask what a test row asks, and are left out"] if others else []
    if isinstance(validation, str):
        held = labelled(read(validation), labels)
        if tested is not None:
            held, others = without(held, tested.examples)
            notes += [f"{others:,} validation rows ask what a test row asks, and are left out"] if others else []
        shown, others = without(rows, held.examples)
        notes += [f"{others:,} rows ask what a validation row asks, and are not shown"] if others else []
    else:
        shown, held = divided(rows, validation, part.seed)
    if not held.examples:
        raise RecipeError("no rows are left to search by", where="validation", do="give others than the test rows")
    for some, what in ((shown, "to show"), (held, "for validation")):
        notes += never_seen(some, what)
    return _Rows(shown, held, tested, notes)


def _recipe(model: str, data: DataPart, part: InContextPart, validation: float | str, output: str) -> Recipe:
    name = Path(model).expanduser()
    if (name / "recipe.yaml").is_file():
        if not (name / "model" / "config.json").is_file():
            raise RunError(
                "a run with an adapter or a prompt, and prompts are made for a model",
                where=model,
                do=f"whet export {model} --to hf --out FOLDER, then whet prompt FOLDER",
            )
        model = str(name / "model")
    tree = {"model": model, "data": [data.model_dump()], "validation": validation, "method": part.model_dump(),
            "output": output, "train": {"seed": part.seed}}  # fmt: skip
    return check_recipe(tree, where="whet prompt")


def _parts(part: InContextPart, shots: Sequence[int], instructions: Sequence[str], draws: int) -> list[InContextPart]:
    """The candidates: each seed another draw where something is drawn."""
    found: list[InContextPart] = []
    for instruction, count in itertools.product(dict.fromkeys(instructions), dict.fromkeys(shots)):
        drawn = count > 0 and (part.choose == "random" or part.order == "random")
        for draw in range(draws if drawn else 1):
            found.append(part.model_copy(update={"instruction": instruction, "shots": count, "seed": part.seed + draw}))
    if not found:
        raise RecipeError("no candidates", where="shots", do="give shots, as in --shots 0,8")
    return found


class _Asking:
    """A model asked with candidates."""

    def __init__(self, loaded: Loaded, pool: Sequence[Demonstration]):
        self.loaded, self.pool = loaded, list(pool)
        self.scorer = Scorer.of(loaded)
        self.place = instruction_place(loaded.tokenizer)
        self._examples = {id(shown): as_example(shown) for shown in self.pool}
        self._vectors: dict[str, Any] = {}
        self._renderers: dict[tuple[str, str], Renderer] = {}
        self._choosers: dict[str, Chooser] = {}

    def check(self, part: InContextPart, examples: Sequence[Example]) -> None:
        check_lengths(self.scorer, self.renderer(part), examples, part.labels, self._demonstrations(part))

    def measure(self, part: InContextPart, examples: Sequence[Example]) -> Measured:
        return measure(
            self.scorer, self.renderer(part), examples, part.labels, self._demonstrations(part),
            calibrate=part.calibrate,
        )  # fmt: skip

    def prompt(self, part: InContextPart) -> Prompt:
        chooser = self._chooser(part)
        return Prompt(part, self.pool if chooser.by_question else chooser.fixed(), self.place)

    def renderer(self, part: InContextPart, whole: bool = False) -> Renderer:
        """The template with the candidate's instruction; `whole` with its demonstrations, too."""
        if whole:
            return Renderer(with_prompt(self.loaded.tokenizer, self.prompt(part), self._embed))
        key = part.instruction, part.template
        if key not in self._renderers:
            bare = Prompt(InContextPart(instruction=part.instruction, template=part.template, shots=0), [], self.place)
            self._renderers[key] = Renderer(with_prompt(self.loaded.tokenizer, bare))
        return self._renderers[key]

    def _chooser(self, part: InContextPart) -> Chooser:
        """The same for all instructions."""
        alike = part.model_copy(update={"instruction": ""})
        key = alike.model_dump_json()
        if key not in self._choosers:
            self._choosers[key] = Chooser(self.pool, alike, self._embed)
        return self._choosers[key]

    def _demonstrations(self, part: InContextPart) -> list[Example] | Choose:
        chooser = self._chooser(part)
        if not chooser.by_question:
            return [self._examples[id(shown)] for shown in chooser.fixed()]
        return lambda example: [self._examples[id(shown)] for shown in chooser(_question(example))]

    def _embed(self, texts: Sequence[str]) -> Any:
        key = "\0".join(texts)
        if key not in self._vectors:
            self._vectors[key] = embed(self.loaded.model, self.loaded.tokenizer, texts)
        return self._vectors[key]


def _question(example: Example) -> str:
    """By which demonstrations are chosen: the first that the user says, as in a prompt run that answers."""
    return str(next(turn["content"] for turn in example.messages if turn["role"] == "user"))


def _tested(asking: _Asking, best: InContextPart, rows: Labelled, done: Done) -> dict[str, Interval]:
    bare = InContextPart(shots=0, labels=best.labels, template=best.template)
    figures = {}
    for number, (name, part) in enumerate((("zero-shot", bare), ("prompt", best))):
        done("test", number * len(rows.examples), 2 * len(rows.examples))
        chosen = asking.measure(part, rows.examples).chosen()
        figures[name] = mean_of(
            "accuracy", [float(a == b) for a, b in zip(chosen, rows.answers, strict=True)]
        ).interval()
    return figures
