"""A reward model: how good an answer is, by a model that has learnt it from preferences.

A run of `objective: reward`, or any folder of transformers' sequence classifiers with one label. It reads texts, and
cuts them by its own tokenizer and template: so it may be of another family than the model that it judges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whet.errors import ModelError
from whet.models.language_model import LanguageModel, by_row
from whet.models.load import is_classifier
from whet.models.probe import probe
from whet.models.saved import open_run
from whet.recipe import GraderPart, MultiPart, RewardModelPart
from whet.rows import Message, Row, read_at_end
from whet.tokens.pack import pack_rows
from whet.tokens.template import Renderer

PACK_TOKENS = 4096


class RewardModel:
    """Scores answers; the weights are not changed."""

    def __init__(self, model: Any, tokenizer: Any):
        model.eval()
        self.renderer = Renderer(tokenizer)
        self.model = LanguageModel(model, probe(model, len(tokenizer)).path)
        self.longest = getattr(self.model.config, "max_position_embeddings", None) or math.inf

    def __call__(self, prompts: Sequence[str | list[Message]], answers: Sequence[str]) -> list[float]:
        """A reward for each answer to its prompt; NaN for one that is longer than the model takes, or that the template
        marks nothing of."""
        talks = [
            ([*_asked(prompt), {"role": "assistant", "content": answer}], None, "")
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        rows = [self._row(rendered[-1]) for rendered in self.renderer.conversations(talks)]
        found = [math.nan] * len(rows)
        # What would follow a row is no input.
        fit = [index for index, row in enumerate(rows) if 1 < len(row) <= self.longest + 1]
        packs = pack_rows([rows[index] for index in fit], PACK_TOKENS, self.model.shares, not self.model.shares)
        for pack in packs:
            with torch.no_grad(), self.model.running():
                rewards_N = self.model(pack.to(self.model.device)).float().cpu()
            for index, reward in zip(pack.rows, by_row(rewards_N, [pack]), strict=True):
                found[fit[index]] = float(reward[0])
        return found

    @staticmethod
    def _row(rendered: Any) -> Row:
        """Read where the answer ends."""
        learnt = np.flatnonzero(rendered.targets)
        return Row(*read_at_end(rendered.ids[: learnt[-1] + 1 if len(learnt) else 0]))


def _asked(prompt: str | list[Message]) -> list[Message]:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [turn | {"weight": 0} for turn in turns]


def open_reward_models(part: GraderPart, device: str | torch.device = "cpu") -> dict[str, RewardModel]:
    """Those that a grader names, by their names. Raises as `open_reward_model` does."""
    parts = part.graders.values() if isinstance(part, MultiPart) else [part]
    names = dict.fromkeys(one.model for one in parts if isinstance(one, RewardModelPart))
    return {name: open_reward_model(name, device) for name in names}


def open_reward_model(folder: Path | str, device: str | torch.device = "cpu") -> RewardModel:
    """Raises RunError for a run of another objective, ModelError for a folder that is no reward model."""
    loaded = open_run(folder, device=device, rewards=True)
    if not (Path(folder).expanduser() / "recipe.yaml").is_file() and not is_classifier(loaded.model.config):
        raise ModelError(
            "no reward model: it has no head that gives one number",
            where=str(folder),
            do="train one: whet train model=... data=PAIRS objective.kind=reward",
        )
    return RewardModel(loaded.model, loaded.tokenizer)
