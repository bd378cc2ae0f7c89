"""text_similarity: how alike two texts are, by the packages that define each measure; from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from whet.errors import MissingExtra, RecipeError
from whet.graders.grade import Case, Found, Grader, each, one_of
from whet.recipe.graders import TextSimilarityPart
from whet.recipe.template import Template

Embedder = Callable[[Sequence[str]], Any]
"""Texts -> array [texts, width]."""
Measure = Callable[[str, str], float]
"""(text, reference) -> 0 to 1."""


def text_similarity(part: TextSimilarityPart, name: str, embedders: Mapping[str, Embedder]) -> Grader:
    """Raises MissingExtra without the measure's package, RecipeError for cosine without vectors."""
    text, reference = Template(part.input), Template(part.reference)
    if part.evaluation_metric == "cosine":
        if part.embedding_model not in embedders:
            raise RecipeError(
                f"cosine needs vectors, and nothing here embeds by {part.embedding_model!r}",
                where=f"grader {name}",
                do="take another evaluation_metric, or lend one: build(part, embedders={MODEL: texts -> array})",
            )
        return Grader(name, _cosines(embedders[part.embedding_model], text, reference), [text, reference])
    measure = _measure(part.evaluation_metric)
    score = each(lambda case: measure(case.filled(text), case.filled(reference)))
    return Grader(name, score, [text, reference])


def _measure(metric: str) -> Measure:
    if metric == "fuzzy_match":
        return _fuzzy_match()
    if metric == "bleu":
        return _bleu()
    if metric in ("gleu", "meteor"):
        return _gleu() if metric == "gleu" else _meteor()
    return _rouge(metric)


def _fuzzy_match() -> Measure:
    """rapidfuzz's `ratio`: 1 - insertions and deletions over both lengths."""
    try:
        from rapidfuzz import fuzz
    except ImportError:
        raise MissingExtra("rapidfuzz", "evaluate", "fuzzy_match") from None
    return lambda text, reference: fuzz.ratio(text, reference) / 100


def _bleu() -> Measure:
    """BLEU of a sentence (Papineni et al. 2002), by sacrebleu with effective order."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise MissingExtra("sacrebleu", "evaluate", "BLEU") from None
    bleu = BLEU(effective_order=True)
    return lambda text, reference: float(min(bleu.sentence_score(text, [reference]).score / 100, 1.0))


def _words() -> Callable[[str], list[str]]:
    """The tokenizer of mteval-v13a."""
    try:
        from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    except ImportError:
        raise MissingExtra("sacrebleu", "evaluate", "GLEU and METEOR") from None
    words = Tokenizer13a()
    return lambda text: str(words(text)).split()


def _gleu() -> Measure:
    """Google's GLEU (Wu et al. 2016, arXiv 1609.08144): the less of recall and precision of 1- to 4-grams; by nltk."""
    try:
        from nltk.translate.gleu_score import sentence_gleu
    except ImportError:
        raise MissingExtra("nltk", "evaluate", "GLEU") from None
    words = _words()
    return lambda text, reference: float(sentence_gleu([words(reference)], words(text)))


class _NoSynonyms:
    """In the place of WordNet."""

    def synsets(self, word: str) -> list[Any]:
        return []


def _meteor() -> Measure:
    """METEOR (Banerjee and Lavie 2005) by nltk, with its exact and Porter-stem matchers. The third, of synonyms, needs
    WordNet's files, and is left out on every machine so that scores do not depend on them."""
    try:
        from nltk.translate.meteor_score import single_meteor_score
    except ImportError:
        raise MissingExtra("nltk", "evaluate", "METEOR") from None
    words, none = _words(), _NoSynonyms()
    return lambda text, reference: float(single_meteor_score(words(reference), words(text), wordnet=none))


def _rouge(metric: str) -> Measure:
    """F-measure of ROUGE-N or -L (Lin 2004), stemmed, by rouge-score."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise MissingExtra("rouge-score", "evaluate", "ROUGE") from None
    kind = "rougeL" if metric == "rouge_l" else metric.replace("_", "")
    scorer = RougeScorer([kind], use_stemmer=True)
    return lambda text, reference: float(scorer.score(reference, text)[kind].fmeasure)


def _cosines(embed: Embedder, text: Template, reference: Template) -> Callable[[Sequence[Case]], list[Found]]:
    """Cosines of the angles between vectors; all texts are embedded together."""

    def scorer(cases: Sequence[Case]) -> list[Found]:
        pairs = [one_of(lambda case: (case.filled(text), case.filled(reference)), case) for case in cases]
        texts = list(dict.fromkeys(one for pair in pairs if isinstance(pair, tuple) for one in pair))
        if not texts:
            return list(pairs)
        vectors = np.asarray(embed(texts), dtype=np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = dict(zip(texts, vectors / np.where(lengths > 0, lengths, 1.0), strict=True))
        return [float(unit[pair[0]] @ unit[pair[1]]) if isinstance(pair, tuple) else pair for pair in pairs]

    return scorer
