"""Texts under a model, without training: bits a byte, for steps of curation that ask how likely a text is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from whet.models.language_model import LanguageModel, by_row
from whet.models.load import load
from whet.models.probe import probe
from whet.recipe import TrainPart
from whet.rows import Row
from whet.tokens.pack import pack_rows
from whet.tokens.template import Renderer
from whet.train.engine import pack_tokens
from whet.train.run import target_bytes

LONGEST = 1024
"""Tokens of a text that are scored, from its beginning; fewer where the model takes fewer."""


class _Scorer(NamedTuple):
    language_model: LanguageModel
    tokenizer: Any
    renderer: Renderer
    max_length: int


@torch.no_grad()
def bits_per_byte(texts: Sequence[str], model: str = "whet-tiny") -> list[float | None]:
    """-log2 p(text) / bytes of UTF-8 for each text under `model`, a name or a folder: a measure that can be compared
    across tokenizers. Of long texts the first 1,024 tokens count; None for a text in which nothing is predicted.

    A model without a token for the beginning does not predict the first token, whose bytes are then left out too.
    Raises ModelError as `whet.models.load.load` does.
    """
    scorer = _scorer(model)
    end = scorer.tokenizer.eos_token_id
    rows = []
    for rendered in scorer.renderer.texts([(text, "") for text in texts]):
        ids, targets = rendered.ids, rendered.targets
        if len(ids) and ids[-1] == end:  # how likely the end is says little of the text
            ids, targets = ids[:-1], targets[:-1]
        rows.append(Row(ids[: scorer.max_length], targets[: scorer.max_length]))
    scored = [row for row in rows if row.target_count]
    logps = _logps(scorer, scored)
    sizes = target_bytes(scored, scorer.tokenizer)
    found = iter(-logp / math.log(2) / size if size else None for logp, size in zip(logps, sizes, strict=True))
    return [next(found) if row.target_count else None for row in rows]


def _logps(scorer: _Scorer, rows: Sequence[Row]) -> list[float]:
    language_model = scorer.language_model
    shares = language_model.shares
    out = [0.0] * len(rows)
    for pack in pack_rows(rows, pack_tokens(language_model, TrainPart()), share=shares, padded=not shares):
        with language_model.running():
            logps_N = language_model(pack.to(language_model.device)).float().cpu()
        for index, logps in zip(pack.rows, by_row(logps_N, [pack]), strict=True):
            out[index] = float(logps.sum())
    return out


@lru_cache(maxsize=1)
def _scorer(model: str) -> _Scorer:
    loaded = load(model, torch.float32, "cuda" if torch.cuda.is_available() else "cpu")
    loaded.model.requires_grad_(False)
    language_model = LanguageModel(loaded.model, probe(loaded.model, len(loaded.tokenizer)).path).eval()
    limit = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None) or LONGEST
    return _Scorer(language_model, loaded.tokenizer, Renderer(loaded.tokenizer), min(LONGEST, limit))
