"""The steps' names and what each does in a line, so that `--help` need not import them. A test holds it to STEPS."""

from __future__ import annotations

VERBS = {
    "repair": "Repair encodings, Unicode, control characters, white space, markup.",
    "quality": "Drop or flag texts that break the rules of Gopher, C4 or FineWeb, and answers that loop.",
    "language": "Name each row's language; keep some.",
    "inconsistencies": "Find contradicting, empty, cut and refused answers.",
    "perplexity": "Score rows by a model; drop the least likely.",
    "duplicates": "Drop exact and near copies, also of held-out rows; the best one stays.",
    "decontaminate": "Drop rows that contain a piece of an evaluation set.",
    "split": "Say which rows are for training, validation, test; what belongs together stays together.",
    "select": "Choose the rows that are most like a few target examples.",
    "balance": "Bring groups of rows into proportion: by column, by clusters, by file.",
    "augment": "Make rows from rows: noise, templates, paraphrases, new ones after examples.",
    "personal": "Redact, mask, hash or replace personal data.",
    "toxic": "Score how toxic rows are; flag, drop or weigh them down.",
    "groups": "Count groups of people that rows name, and the words that describe them.",
    "sample": "Draw so many rows.",
}
