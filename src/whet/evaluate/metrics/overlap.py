"""Overlap with references, by the packages that define it: BLEU and chrF (sacrebleu), ROUGE (rouge-score)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whet.errors import MissingExtra
from whet.evaluate.measure import Measured, mean_of
from whet.evaluate.metrics.references import references_of

ROUGE = ("rouge1", "rouge2", "rougeL")


def bleu(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """Corpus BLEU (Papineni et al. 2002) with sacrebleu's defaults; its signature is in the notes."""
    return [_of_corpus("bleu", _sacrebleu().BLEU, completions, references_of(columns))]


def chrf(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """Corpus chrF2 (Popović 2015) with sacrebleu's defaults; its signature is in the notes."""
    return [_of_corpus("chrf", _sacrebleu().CHRF, completions, references_of(columns))]


def rouge(completions: Sequence[str], columns: dict[str, list[Any]]) -> list[Measured]:
    """F-measure of ROUGE-1, -2 and -L (Lin 2004), stemmed, as rouge-score has it; of several references the best."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise MissingExtra("rouge-score", "evaluate", "ROUGE") from None
    scorer = RougeScorer(ROUGE, use_stemmer=True)
    found = [scorer.score_multi(refs, text) for text, refs in zip(completions, references_of(columns), strict=True)]
    return [mean_of(name, [scores[name].fmeasure for scores in found]) for name in ROUGE]


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError:
        raise MissingExtra("sacrebleu", "evaluate", "BLEU and chrF") from None
    return metrics


def _of_corpus(name: str, kind: Any, completions: Sequence[str], references: list[list[str]]) -> Measured:
    """A score that sacrebleu makes of counts summed over rows. Rows may differ in how many references they have."""
    most = max(map(len, references))
    streams = [[refs[number] if number < len(refs) else None for refs in references] for number in range(most)]
    metric = kind(references=streams)
    stats_RK = np.array(metric._extract_corpus_statistics(list(completions), None), dtype=np.float64)
    single = kind(effective_order=True) if name == "bleu" else kind()
    values = [single.sentence_score(text, refs).score for text, refs in zip(completions, references, strict=True)]

    def figure(sums: np.ndarray, rows: float) -> float:
        return float(metric._compute_score_from_stats([round(value) for value in sums]).score)

    score = metric._compute_score_from_stats([round(value) for value in stats_RK.sum(0)])
    notes = {"signature": str(metric.get_signature()), "sacrebleu": str(score)}
    return Measured(name, stats_RK, figure, np.array(values), True, notes)
