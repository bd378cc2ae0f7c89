"""Contextual calibration (Zhao et al. 2021, arXiv 2102.09690): what a prompt makes of no question at all is taken out.

The model is asked content-free questions behind the same demonstrations. The mean of the labels' shares there is the
prompt's leaning, and divides the shares of the real question:

    log q(label | prompt) = log p(label | prompt) - log mean over c of p(label | c)         c: "N/A", "[MASK]", ""

where p are shares among the labels. The paper's W is diag(mean p)^-1, its b is 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from whet.models.in_context.prompt import LIKE
from whet.rows import Example, Message

CONTENT_FREE = ("N/A", "[MASK]", "")


def asking(example: Example, text: str) -> Example:
    """The row with `text` as its last question."""
    at = max(place for place, turn in enumerate(example.messages) if turn["role"] == "user")
    before = example.messages[at]
    turn: Message = {**before, "content": text, LIKE: before.get(LIKE, before["content"])}
    return replace(example, messages=[*example.messages[:at], turn, *example.messages[at + 1 :]])


def log_shares(logps: np.ndarray) -> np.ndarray:
    """Log of each label's share among the labels, over the last axis."""
    shifted = logps - logps.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def calibrated(logps_RL: np.ndarray, neutral_RCL: np.ndarray) -> np.ndarray:
    """log q [rows, labels], up to what is the same for all labels of a row. `neutral_RCL` [rows, content-free
    questions, labels]; one that is the same for all rows may come as [1, ...]."""
    leaning_RL = np.exp(log_shares(neutral_RCL)).mean(1)
    return np.asarray(log_shares(logps_RL) - np.log(leaning_RL))
