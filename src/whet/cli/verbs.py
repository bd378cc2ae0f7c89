"""The steps' names and what each does in a line, so that `--help` need not import them. A test holds it to STEPS."""

from __future__ import annotations

VERBS = {
    "personal": "Redact, mask, hash or replace personal data.",
    "repair": "Repair encodings, Unicode, control characters, white space, markup.",
    "sample": "Draw so many rows.",
}
