"""`language`: which language a row is written in, by py3langid, without a network; only some are kept if asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field

from whet.data.curation.contract import Outcome, Record, Row, RowStep
from whet.data.curation.texts import joined, prompt_and_answer
from whet.errors import MissingExtra, RecipeError, did_you_mean
from whet.recipe.part import Part

UNDETERMINED = "und"
"""ISO 639's code where nothing can be said: too short, too unsure, or code and formulas rather than prose."""
LONGEST = 300
"""Characters of prose that are looked at: enough to be sure, and more cost time."""
READ = 2000
"""Characters of a text in which prose is looked for."""


class LanguageSettings(Part):
    """Which languages stay, and when nothing is said."""

    languages: list[str] = []
    """ISO 639-1 codes of those that are kept, e.g. [en, de]. None: all are; every row gets its column `language`."""
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Below it a row is `und`, undetermined."""
    min_letters: Annotated[int, Field(ge=0)] = 20
    """So is a text of fewer letters, in bytes of UTF-8: an ideograph counts three."""
    undetermined: Literal["keep", "drop"] = "keep"
    """What becomes of `und` where `languages` are given."""
    part: Literal["row", "answer"] = "row"
    """What is judged: all texts of a row, or its answer alone."""


class Language(RowStep):
    """Add a column `language` to every row, and drop the rows in languages that are not asked for."""

    settings = LanguageSettings

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        known = identifier().labels
        for code in settings.languages:
            if code not in known:
                what = f"no language {code!r}.{did_you_mean(code, known)}"
                raise RecipeError(what, where="language.languages", do=f"codes of ISO 639: {', '.join(known)}")

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        return [self._told(record.row) for record in records]

    def _told(self, row: Row) -> Outcome:
        text = joined(row, self.context.columns)
        if self.set.part == "answer":
            both = prompt_and_answer(row, self.context.prompt_columns, self.context.answer_columns)
            text = both[1] if both else ""
        found, probability = language_of(text, self.set.min_letters, self.set.min_probability)
        wanted = [*self.set.languages, *([UNDETERMINED] if self.set.undetermined == "keep" else [])]
        if self.set.languages and found not in wanted:
            return Outcome(None, (f"not asked for: {found}",), f"probability {probability:.2f}")
        return Outcome(row if row.get("language") == found else {**row, "language": found}, (found,))


def language_of(text: str, min_letters: int = 20, min_probability: float = 0.6) -> tuple[str, float]:
    """(ISO 639 code, probability) of a text; `und` where it is too short, too unsure, or no prose.

    py3langid (Lui and Baldwin 2012, langid.py) is a naive Bayes classifier over byte n-grams. Its scores grow with the
    length of a text as if n-grams were independent, so it divides them by the root of the length before the softmax:
    the probability is that of one of its 130 languages against the others, given that the text is in one of them.
    """
    prose = prose_of(text[:READ])[:LONGEST]
    letters = "".join(filter(str.isalpha, prose))
    if len(letters.encode(errors="surrogatepass")) < max(min_letters, 1) or _is_notation(prose, len(letters)):
        return UNDETERMINED, 0.0
    code, probability = identifier().classify(prose)
    return (code if probability >= min_probability and code != "zxx" else UNDETERMINED), float(probability)


@cache
def identifier() -> Any:
    """py3langid with normalised probabilities. Raises MissingExtra."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtra("py3langid", "data", "identifying languages") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


_NO_PROSE = re.compile(
    r"""(?sx) ```.*?(?:```|\Z) | `[^`\n]*` | \$\$.*?\$\$ | \$[^$\n]*[\\^_=][^$\n]*\$ | \\\[.*?\\\] | \\\(.*?\\\)
    | <<[^<>]*>> | </?[A-Za-z][^<>]*> | https?://\S+ | \S+@\S+\.\S+"""
)


def prose_of(text: str) -> str:
    """The text without code in fences or backticks, formulas, tags and addresses."""
    return _NO_PROSE.sub(" ", text) if any(mark in text for mark in "`$\\<@:") else text


def _is_notation(text: str, letters: int) -> bool:
    """Whether a text is code (many of code's signs), or a formula or table (more signs and digits than letters)."""
    signs = sum(map(text.count, "{}()[];=<>_\\|^"))
    return signs > 0.1 * letters or len(text) - sum(map(str.isspace, text)) > 2 * letters
