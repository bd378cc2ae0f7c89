"""The card of a classifier: what it was trained on, how good it is where, and what it is not for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whet.data.toxicity.training import Trained

_HEAD = """# {name}: a classifier of texts

Logistic regression on hashed n-grams ({min_chars} to {max_chars} characters, 1 to {words} words, 2^{log2_buckets}
buckets), trained by `whet data toxic-train`. It gives the probability that a text is labelled `{toxic}` by the people
who labelled the rows below; it knows their words and their judgement, no others.

    whet data toxic IN OUT scorer=FOLDER

## Trained on

| | |
|---|---|
| rows | {rows} |
| content (BLAKE2b of texts and labels) | {content} |
| licence of the rows | {licence} |
| columns | text: {text}, label: {label}, toxic: {toxic} |
| texts | {train:,} to train, {validation:,} to validate, {test:,} held out; {skipped} rows had no text or label |
| split | by a hash of the text (seed {seed}), so that equal texts are on one side; near ones may not be |
| penalty (l2) | {penalty:g}, least log loss on the validation texts |
| longer texts | are scored in pieces of {window} characters, as 95 % of the training texts have; the worst counts |
"""

_LIMITS = """
## What it is not for

- A word that the training rows have mostly in toxic texts makes any text with it look toxic: look at the groups above
  and at a suite of your own before rows are dropped by it. Flag or weigh down first.
- Other kinds of text, other languages and other years than those of the rows: nothing is known of how it does there.
- Long texts get the score of their worst piece, so they are flagged more often than short ones.
- Never a judgement of a person.
"""


def card(trained: Trained, source: dict[str, str]) -> str:
    """The card, Markdown. `source` has rows, text, label, toxic, licence, seed, skipped, content."""
    config = trained.classifier.config.model_dump()
    facts = {**config, **source, **trained.sizes, "penalty": trained.penalty}
    facts["licence"] = source["licence"] or "not said"
    lines = [_HEAD.format(**facts), *_figures(trained.figures)]
    lines += ["\n## By threshold (held out)\n", "| from | precision | recall | F1 |", "|---|---|---|---|"]
    lines += [f"| {from_} | {precision} | {recall} | {f1:.3f} |" for from_, precision, recall, f1 in trained.thresholds]
    lines += ["\n## Calibration (held out)\n", "| mean score | share toxic | texts |", "|---|---|---|"]
    lines += [f"| {score:.3f} | {share:.3f} | {texts:,} |" for score, share, texts in trained.bins]
    lines += [
        "\n## Errors by group named in the text (held out, threshold 0.5)\n",
        "Found by whet's list of group terms; `-`: too few texts of that label.\n",
        "| group | texts | toxic | called toxic though it is not | missed |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for group, texts, positives, false, missed in trained.groups:
        lines.append(f"| {group} | {texts:,} | {positives:,} | {false or '-'} | {missed or '-'} |")
    return "\n".join(lines) + "\n" + _LIMITS


def _figures(figures: dict[str, Any]) -> list[str]:
    shown = ("precision", "recall", "f1", "false positive rate", "auroc")
    return [
        f"## How good (held out: {figures['texts']:,} texts, {figures['positives']:,} toxic; threshold 0.5)\n",
        "Intervals are 95 %: Wilson's for rates, bootstrap for F1 and AUROC.\n",
        "| figure | value |", "|---|---|",
        *(f"| {name} | {figures[name]} |" for name in shown),
        f"| expected calibration error (10 bins) | {figures['calibration error']:.3f} |",
        f"| Brier score | {figures['brier']:.3f} |",
    ]  # fmt: skip
