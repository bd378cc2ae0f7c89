"""Log-probabilities of prompts, the way training and `whet evaluate` score rows: on packs with shared prefixes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from whet.models.language_model import LanguageModel
from whet.rows import Row
from whet.serve.inference.choice import TokenLogp
from whet.serve.inference.choose import likeliest
from whet.tokens.pack import pack_rows

PACK_TOKENS = 4096


def score(model: LanguageModel, prompts: Sequence[list[int]], top: int) -> list[list[TokenLogp]]:
    """Of each prompt its tokens with their log-probabilities and the `top` likeliest there; the first of each has
    neither. The model must be in evaluation mode."""
    rows = [Row(np.array(ids, np.int32), np.ones(len(ids), bool)) for ids in prompts]
    found = [[TokenLogp(ids[0], None, [])] for ids in prompts]
    for pack in pack_rows(rows, PACK_TOKENS, share=model.shares, padded=not model.shares):
        pack = pack.to(model.device)
        targets = iter(zip(pack.target_row_N.tolist(), pack.target_ids_N.tolist(), strict=True))
        with torch.no_grad(), model.running():
            for logits_nV in model.logits(pack):
                logps_nV = logits_nV.log_softmax(-1)
                for logps_V, likely in zip(logps_nV, likeliest(logps_nV, top), strict=True):
                    row, token = next(targets)
                    found[pack.rows[row]].append(TokenLogp(token, float(logps_V[token]), likely))
    return found
