"""The steps' names and what each does in a line, so that `--help` need not import them. A test holds it to STEPS."""

from __future__ import annotations

VERBS = {
    "augment": "Make rows from rows: noise, templates, paraphrases, new ones after examples.",
    "balance": "Bring groups of rows into proportion: by column, by clusters, by file.",
    "repair": "Repair encodings, Unicode, control characters, white space, markup.",
    "sample": "Draw so many rows.",
    "select": "Choose the rows that are most like a few target examples.",
}
