"""Metrics by name: each a function of completions and the rows' columns, as one of the user's own would be.

A metric takes `completions` [rows] and `columns`, a dict of lists [rows] that has `reference` where rows have an
answer, and gives one or several Measured. `whet evaluate --metrics my.py:polite` loads a function of the user's own,
called as `polite(completions, **columns)`, which gives a number (or True, False, None) a row, or a dict of such lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from whet.evaluate.measure import Measured
from whet.evaluate.metrics import answers, form, labels, overlap, structure

Columns = dict[str, list[Any]]
Metric = Callable[[Sequence[str], Columns], list[Measured]]

METRICS: dict[str, Metric] = {
    "exact_match": answers.exact_match,
    "token_f1": answers.token_f1,
    "numeric": answers.numeric,
    "bleu": overlap.bleu,
    "chrf": overlap.chrf,
    "rouge": overlap.rouge,
    "accuracy": labels.accuracy,
    "macro_f1": labels.macro_f1,
    "valid_json": structure.valid_json,
    "json_schema": structure.json_schema,
    "fields": structure.fields,
    "citations": form.citations,
    "length": form.length,
    "refusals": form.refusals,
    "stopped": form.stopped,
}
"""Those of completions. Perplexity and choices are measured on log-probabilities: see whet.evaluate.run."""
