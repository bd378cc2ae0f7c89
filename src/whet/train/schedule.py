"""When: how many steps, which rows each takes, and the learning rate of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from whet.errors import RecipeError
from whet.recipe import PolicyPart, Recipe, TrainPart


@dataclass(frozen=True, slots=True)
class Schedule:
    """The order of a run. It follows from the recipe and the number of rows alone, so a resumed run has the same."""

    row_count: int
    part: TrainPart

    @classmethod
    def of(cls, recipe: Recipe, row_count: int) -> Schedule:
        """The recipe's. Where answers are drawn, `batch_size` counts answers, and the rows are prompts."""
        if not isinstance(recipe.objective, PolicyPart):
            return cls(row_count, recipe.train)
        prompts, rest = divmod(recipe.train.batch_size, recipe.objective.num_generations)
        if rest or not prompts:
            raise RecipeError(
                f"{recipe.train.batch_size} answers a step cannot be {recipe.objective.num_generations} to each prompt",
                where="train.batch_size",
                do="make it a multiple of objective.num_generations",
            )
        return cls(row_count, recipe.train.model_copy(update={"batch_size": prompts}))

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.row_count / self.part.batch_size)

    @property
    def total_steps(self) -> int:
        return self.part.max_steps or math.ceil(self.steps_per_epoch * self.part.epochs)

    @property
    def warmup_steps(self) -> int:
        """A share is rounded up, as transformers does. The first step of a warm-up has rate 0: a run of one step has
        none, and RecipeError is raised where the recipe asks for it."""
        warmup, total = self.part.warmup_steps, self.total_steps
        if warmup < 1:
            return math.ceil(warmup * total) if total > 1 else 0
        if total == 1:
            raise RecipeError(
                "the one step of this run would be the first of a warm-up, whose learning rate is 0",
                where="train.warmup_steps",
                do="set train.warmup_steps=0",
            )
        return int(warmup)

    def rows_of(self, step: int) -> list[int]:
        """Indices of the rows of a step (0-based). The last step of an epoch may have fewer than `batch_size`."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.arange(self.row_count)
        if self.part.shuffle:
            order = np.random.default_rng((self.part.seed, epoch)).permutation(self.row_count)
        return [int(i) for i in order[place * self.part.batch_size : (place + 1) * self.part.batch_size]]

    def epoch_of(self, step: int) -> float:
        """Epochs done after `step` steps."""
        return step / self.steps_per_epoch

    def learning_rate(self, step: int) -> float:
        """Of a step (0-based): linear warm-up to the peak, then as `lr_scheduler_type` says, as transformers has it."""
        peak, warmup, total = self.part.learning_rate, self.warmup_steps, self.total_steps
        if step < warmup:
            return peak * step / max(1, warmup)
        if self.part.lr_scheduler_type == "constant":
            return peak
        done = (step - warmup) / max(1, total - warmup)
        if self.part.lr_scheduler_type == "linear":
            return peak * max(0.0, 1.0 - done)
        return peak * max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))

    @property
    def evaluate_every(self) -> int:
        return self.part.evaluate_every or max(1, math.ceil(self.total_steps / 10))
