"""The steps' names and what each does in a line, so that `--help` need not import them. A test holds it to STEPS."""

from __future__ import annotations

VERBS = {
    "repair": "Repair encodings, Unicode, control characters, white space, markup.",
    "quality": "Drop or flag texts that break the rules of Gopher, C4 or FineWeb, and answers that loop.",
    "language": "Name each row's language; keep some.",
    "inconsistencies": "Find contradicting, empty, cut and refused answers.",
    "perplexity": "Score rows by a model; drop the least likely.",
    "sample": "Draw so many rows.",
}
