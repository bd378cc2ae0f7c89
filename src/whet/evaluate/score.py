"""Log-probabilities of rows under a model, on the trie where it can: what perplexity and choices are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from whet.errors import ModelError
from whet.models.language_model import LanguageModel, by_row
from whet.models.load import Loaded
from whet.models.probe import probe
from whet.models.virtual import virtual_tokens
from whet.rows import Row
from whet.tokens.pack import pack_rows

PACK_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Computed tokens a pack, by device: enough for a few-shot preamble and hundreds of questions behind it."""


class Scorer:
    """A model that scores rows, on packs with shared prefixes where a probe shows that it can. `language_model` is one
    that was probed already; products are computed in `compute_dtype`."""

    def __init__(
        self, model: Any, vocabulary: int, pack_tokens: int | None = None,
        language_model: LanguageModel | None = None, compute_dtype: torch.dtype = torch.float32,
    ):  # fmt: skip
        self.note = ""
        if language_model is None:
            probed = probe(model, vocabulary)
            language_model = LanguageModel(model, probed.path)
            self.note = f"padded batches: {probed.reason}" if probed.reason else ""
        self.language_model, self.compute_dtype = language_model, compute_dtype
        self.pack_tokens = pack_tokens or PACK_TOKENS.get(self.language_model.device.type, PACK_TOKENS["cpu"])
        limit = getattr(self.language_model.config, "max_position_embeddings", None)
        self.max_length: int | None = limit - virtual_tokens(model) if isinstance(limit, int) else None

    @classmethod
    def of(cls, loaded: Loaded) -> Scorer:
        """A scorer of an opened run or model."""
        return cls(loaded.model, len(loaded.tokenizer))

    def logps(self, rows: Sequence[Row], done: Callable[[int], None] = lambda rows: None) -> list[np.ndarray]:
        """log p of each target of each row, float32 [targets], in the rows' order. `done` gets rows finished at a time.

        Raises ModelError for a row longer than the model takes, and where the model gives no numbers (NaN).
        """
        self._check_lengths(rows)
        shares = self.language_model.shares
        out: list[np.ndarray] = [np.empty(0, dtype=np.float32)] * len(rows)
        training = self.language_model.training
        self.language_model.eval()
        try:
            for pack in pack_rows(rows, self.pack_tokens, share=shares, padded=not shares):
                with torch.no_grad(), self.language_model.running(self.compute_dtype):
                    logps_N = self.language_model.logps(pack.to(self.language_model.device)).float().cpu()
                for index, logps in zip(pack.rows, by_row(logps_N, [pack]), strict=True):
                    if torch.isnan(logps).any():
                        raise ModelError("the model gives no numbers (NaN)", where=rows[index].place, do=SOUND)
                    out[index] = logps.numpy()
                done(len(pack.rows))
        finally:
            self.language_model.train(training)
        return out

    def fits(self, row: Row) -> bool:
        """Whether the model takes the row: all of it but its last token, from which nothing is predicted."""
        return self.max_length is None or len(row) - 1 <= self.max_length

    def cut(self, row: Row) -> Row:
        """The row without as much of its beginning as does not fit."""
        if self.fits(row) or self.max_length is None:
            return row
        begin = len(row) - 1 - self.max_length
        targets = row.targets[begin:].copy()
        targets[0] = False
        return Row(row.ids[begin:], targets, row.weight, row.group, row.role, row.place)

    def _check_lengths(self, rows: Sequence[Row]) -> None:
        long = [row for row in rows if not self.fits(row)]
        if long:
            more = f" ({len(long):,} of {len(rows):,} rows are too long)" if len(long) > 1 else ""
            raise ModelError(
                f"the row has {len(long[0]):,} tokens, and the model takes {self.max_length:,}{more}",
                where=long[0].place,
                do="shorten it; perplexity of longer texts is measured by sliding window",
            )


SOUND = "check the weights with `whet selftest`, or evaluate in float32 (model.dtype=float32)"
