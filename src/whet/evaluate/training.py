"""`evaluate:` of a recipe: the same rows before, now and then during, and after training; base and result compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whet.errors import RecipeError
from whet.evaluate.compare import Comparison, compare
from whet.evaluate.judge import Judge
from whet.evaluate.result import write
from whet.evaluate.run import JUDGE, Evaluation, evaluate, metric_of
from whet.evaluate.subject import Subject, read_rows
from whet.recipe import DataPart, Recipe
from whet.rows import Example
from whet.tokens.template import Renderer
from whet.train.engine import Engine
from whet.train.evaluator import When


class InRun:
    """Measures for one run, and writes into its folder: `evaluations/NAME`, the result beside its base, and
    `evaluations/NAME-before`. Raises RecipeError and RowError for what can be wrong before training."""

    def __init__(self, recipe: Recipe, folder: Path):
        self.part, self.seed = recipe.evaluate, recipe.train.seed
        self.names = recipe.model.name, str(folder)
        for metric in self.part.metrics:
            metric_of(metric)
        if recipe.objective.kind == "reward":
            raise RecipeError(
                "a reward model gives no answers to measure",
                where="evaluate",
                do="leave it out: the accuracy on held-out pairs is measured anyway",
            )
        if JUDGE in self.part.metrics and self.part.judge is None:
            raise RecipeError("no judge named", where="evaluate.judge", do="give it `endpoint` and `model`")
        self.examples: Sequence[Example] | None = None
        if self.part.data is not None:
            given = DataPart(path=self.part.data, columns=self.part.columns, limit=self.part.limit)
            self.examples = read_rows(given, self.seed)
        elif not recipe.validation:
            raise RecipeError("no rows to evaluate on", where="evaluate.data", do="name a file, or hold rows out")
        elif recipe.objective.kind != "sft":
            raise RecipeError(
                f"the rows that {recipe.objective.kind} holds out have no answers to compare with",
                where="evaluate.data",
                do="name a file of rows with answers: `messages`, or `prompt` with `completion`",
            )
        name = Path(self.part.data.split("#")[0]).stem if self.part.data else "held-out"
        self.folder = folder / "evaluations" / name
        self.judge = Judge(self.part.judge, self.folder) if self.part.judge else None
        self.before: Evaluation | None = None
        self.after: Evaluation | None = None
        self.comparison: Comparison | None = None

    def __call__(
        self, engine: Engine, renderer: Renderer, held_out: Sequence[Example], when: When
    ) -> dict[str, float | None]:
        """As whet.train.evaluator.Evaluator has it."""
        if self.examples is None:
            self.examples = self._some(held_out)
        model, tokenizer = engine.language_model.model, renderer.tokenizer
        name = self.names[when == "after"]
        subject = Subject(
            name, model, tokenizer, renderer, engine.language_model, engine.compute_dtype, engine.pack_tokens
        )
        found = evaluate(
            subject, self.examples, self.part.metrics, slices=self.part.slices, judge=self.judge,
            max_new_tokens=self.part.max_new_tokens, seed=self.seed,
        )  # fmt: skip
        if when == "before":
            self.before = found
            write(found, self.folder.with_name(self.folder.name + "-before"))
        elif when == "after":
            self.after = found
            self.comparison = compare(self.before, found, self.seed) if self.before else None
            write(found, self.folder, self.comparison)
        return {name: one.value if math.isfinite(one.value) else None for name, one in found.intervals.items()}

    def outcome(self) -> dict[str, Any]:
        """As whet.train.evaluator.Evaluator has it."""
        sides = {"before": self.before, "after": self.after}
        return {
            "data": self.part.data or "held-out rows",
            "rows": len(self.examples or ()),
            "folder": f"evaluations/{self.folder.name}",
            **{
                when: {name: one.plain() for name, one in side.intervals.items()}
                for when, side in sides.items()
                if side
            },
            "differences": [
                {"name": one.name, **one.interval.plain(), "p": one.p, "verdict": one.verdict}
                for one in (self.comparison.differences if self.comparison else [])
            ],
        }

    def _some(self, held_out: Sequence[Example]) -> Sequence[Example]:
        """The held-out rows, or a sample of them in their order."""
        if self.part.limit is None or self.part.limit >= len(held_out):
            return held_out
        chosen = np.random.default_rng(self.seed).choice(len(held_out), self.part.limit, replace=False)
        return [held_out[number] for number in np.sort(chosen).tolist()]
