"""Which language a text is in: sentences of our own, what is too short, and what is code."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest

from whet.data.curation.pipeline import curate
from whet.data.steps.language import identifier, language_of
from whet.errors import RecipeError

SENTENCES = {
    "en": "The train leaves at seven, so we should be at the station before breakfast.",
    "de": "Der Zug fährt um sieben ab, also sollten wir vor dem Frühstück am Bahnhof sein.",
    "fr": "Le train part à sept heures, nous devrions donc être à la gare avant le petit déjeuner.",
    "es": "El tren sale a las siete, así que deberíamos estar en la estación antes del desayuno.",
    "it": "Il treno parte alle sette, quindi dovremmo essere alla stazione prima di colazione.",
    "nl": "De trein vertrekt om zeven uur, dus we moeten voor het ontbijt op het station zijn.",
    "pt": "O comboio parte às sete, por isso devemos estar na estação antes do pequeno-almoço.",
    "pl": "Pociąg odjeżdża o siódmej, więc powinniśmy być na dworcu przed śniadaniem.",
    "tr": "Tren yedide kalkıyor, bu yüzden kahvaltıdan önce istasyonda olmalıyız.",
    "ru": "Поезд отправляется в семь, поэтому мы должны быть на вокзале до завтрака.",
    "el": "Το τρένο φεύγει στις επτά, οπότε πρέπει να είμαστε στον σταθμό πριν από το πρωινό.",
    "ja": "電車は七時に出るので、朝食の前に駅に着いているべきです。",
    "ko": "기차가 일곱 시에 떠나니 아침 식사 전에 역에 도착해야 합니다.",
    "ar": "يغادر القطار في السابعة، لذلك يجب أن نكون في المحطة قبل الفطور.",
    "hi": "ट्रेन सात बजे चलती है, इसलिए हमें नाश्ते से पहले स्टेशन पर होना चाहिए।",
}

NO_PROSE = {
    "short": "Yes, sure.",
    "empty": " \n",
    "python": "def area(width, height):\n    if width < 0:\n        raise ValueError(width)\n    return width * height",
    "c": 'int main(void) {\n  for (int i = 0; i < 10; i++) printf("%d\\n", i);\n  return 0;\n}',
    "html": "<table><tr><td>one</td><td>two</td></tr></table>",
    "fenced": "```\nfor every item of the list we print the name of the item\n```",
    "formula": "$$\\int_0^1 \\frac{\\sin x}{x} dx \\approx 0.946$$",
    "table": "12.5 | 13.1 | 44.0 | 18.2\n11.0 | 12.2 | 39.8 | 21.7 total mean error of each",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_sentences_of_our_own(code: str) -> None:
    found, probability = language_of(SENTENCES[code])
    assert (found, probability > 0.6) == (code, True)


@pytest.mark.parametrize("text", NO_PROSE.values(), ids=NO_PROSE)
def test_what_is_no_prose_is_not_judged(text: str) -> None:
    assert language_of(text)[0] == "und"


def test_the_prose_around_code_is_judged() -> None:
    assert language_of(f"{SENTENCES['de']}\n\n```\n{NO_PROSE['c']}\n```\n")[0] == "de"


def test_sentences_of_sixty_languages() -> None:
    """Sentences that spaCy ships with each of its languages, written by those who added them."""
    lang = pytest.importorskip("spacy.lang", reason="spaCy comes with presidio")
    right, judged = 0, 0
    for module in pkgutil.iter_modules(lang.__path__):
        if module.name not in identifier().labels:
            continue
        try:
            sentences = importlib.import_module(f"spacy.lang.{module.name}.examples").sentences
        except (ImportError, AttributeError):
            continue
        found = [language_of(sentence)[0] for sentence in sentences]
        judged += sum(code != "und" for code in found)
        right += found.count(module.name)
    assert judged > 250
    assert right >= 0.98 * judged


def rows() -> list[dict[str, Any]]:
    return [{"text": SENTENCES[code], "n": n} for n, code in enumerate(("en", "fr", "de"))] + [{"text": "Ok", "n": 3}]


def test_every_row_gets_its_language() -> None:
    done = curate(rows(), [{"language": {}}])
    assert [row["language"] for row in done.rows or []] == ["en", "fr", "de", "und"]
    assert done.ledger.steps[0].reasons == {"en": 1, "fr": 1, "de": 1, "und": 1}


@pytest.mark.parametrize(("undetermined", "left"), [("keep", [0, 2, 3]), ("drop", [0, 2])])
def test_only_languages_that_are_asked_for_stay(undetermined: str, left: list[int]) -> None:
    done = curate(rows(), [{"language": {"languages": ["en", "de"], "undetermined": undetermined}}])
    assert [row["n"] for row in done.rows or []] == left
    assert done.ledger.steps[0].reasons["not asked for: fr"] == 1


def test_the_answer_alone() -> None:
    row = {"prompt": SENTENCES["en"], "completion": SENTENCES["it"]}
    assert (curate([row], [{"language": {"part": "answer"}}]).rows or [])[0]["language"] == "it"


def test_a_language_that_does_not_exist() -> None:
    with pytest.raises(RecipeError, match="no language 'english'"):
        curate(rows(), [{"language": {"languages": ["english"]}}])
