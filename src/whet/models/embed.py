"""Texts as vectors: the mean of a causal model's last hidden states over a text's tokens, of length one.

A model that was trained for embeddings does this better; this one needs no second model, and orders texts by topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

LONGEST = 512
"""Tokens of a text that count, from its beginning."""
BATCH = 32


def embed(model: Any, tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """[texts, width] float32, each row of Euclidean length one; an empty text is the vector of the end token."""
    ids = [tokenizer(text, verbose=False)["input_ids"][:LONGEST] or [tokenizer.eos_token_id or 0] for text in texts]
    found: np.ndarray = embed_ids(model, ids)
    return found


@torch.no_grad()
def embed_ids(model: Any, ids: Sequence[list[int]]) -> np.ndarray:
    """The same of token ids, all of which count."""
    found = np.empty((len(ids), model.get_input_embeddings().embedding_dim), dtype=np.float32)
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.model
    for begin in range(0, len(order), BATCH):
        batch = order[begin : begin + BATCH]
        longest = max(len(ids[index]) for index in batch)
        ids_RL = torch.zeros(len(batch), longest, dtype=torch.int64)
        mask_RL = torch.zeros_like(ids_RL)
        for row, index in enumerate(batch):
            ids_RL[row, : len(ids[index])] = torch.tensor(ids[index])
            mask_RL[row, : len(ids[index])] = 1
        hidden_RLD = decoder(
            input_ids=ids_RL.to(model.device), attention_mask=mask_RL.to(model.device), use_cache=False
        ).last_hidden_state.float()
        weights_RL1 = mask_RL.to(model.device)[:, :, None]
        mean_RD = (hidden_RLD * weights_RL1).sum(1) / weights_RL1.sum(1)
        found[batch] = torch.nn.functional.normalize(mean_RD, dim=1).cpu().numpy()
    return found
