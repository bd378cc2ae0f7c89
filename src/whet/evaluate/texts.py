"""How likely texts are under a model, for steps of curation that ask: bits a byte, nothing but the text scored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from whet.evaluate.perplexity import score_rows
from whet.evaluate.score import Scorer
from whet.evaluate.subject import Subject, open_subject
from whet.rows import Row
from whet.train.run import target_bytes

LONGEST = 1024
"""Tokens of a text that are scored, from its beginning; fewer where the model takes fewer."""


def bits_per_byte(texts: Sequence[str], model: str = "whet-tiny") -> list[float | None]:
    """-log2 p(text) / bytes of UTF-8 for each text under `model`, a run, a name or a folder: a measure that can be
    compared across tokenizers. Of long texts the first 1,024 tokens count; None where nothing is predicted.

    A model without a token for the beginning does not predict the first token, whose bytes are then left out too.
    Raises ModelError and RunError as `whet.models.saved.open_run` does.
    """
    subject, scorer = _opened(model)
    longest = min(LONGEST, scorer.max_length or LONGEST)
    end = subject.tokenizer.eos_token_id
    rows = []
    for rendered in subject.renderer.texts([(text, "") for text in texts]):
        ids, targets = rendered.ids, rendered.targets
        if len(ids) and ids[-1] == end:  # how likely the end is says little of the text
            ids, targets = ids[:-1], targets[:-1]
        rows.append(Row(ids[:longest], targets[:longest]))
    there = [row for row in rows if row.target_count]
    scored = iter(score_rows(scorer, there, target_bytes(there, subject.tokenizer)))
    found = [next(scored) if row.target_count else None for row in rows]
    return [one.bits_per_byte if one is not None and one.bytes else None for one in found]


@lru_cache(maxsize=1)
def _opened(model: str) -> tuple[Subject, Scorer]:
    subject = open_subject(model)
    return subject, Scorer(subject.model, len(subject.tokenizer))
