"""The sentences that train_tagger.py learns from: phrases of tagger_phrases.yaml, filled from lists and at random."""

from __future__ import annotations

import ast
import calendar
import importlib
import os
import random
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SLOT = re.compile(r"\{(\w+)\}")
NAMED = {"person": "person", "given": "person", "family": "person", "org": "organization", "address": "address",
         "street": "address", "place": "place", "city": "place", "country": "place"}  # fmt: skip
PARTICLES = ("van", "van der", "de", "de la", "von", "di", "bin", "Mc", "al", "ben")
REGIONS = ("AL", "AK", "AZ", "CA", "CO", "FL", "GA", "IL", "LA", "MA", "NY", "NSW", "ON", "QC",
           "TX", "VIC", "WA", "SE", "KA", "MI")  # fmt: skip
MONTHS = list(calendar.month_name)[1:]
DAYS = list(calendar.day_name)
FILLING = [
    "the", "a", "of", "and", "to", "in", "is", "it", "that", "for", "on", "with", "as", "was", "are", "be",
    "this", "by", "at", "from", "not", "have", "but", "all", "can", "your", "which", "their", "more", "will",
    "about", "if", "when", "what", "there", "use", "each", "how", "do", "other", "many", "then", "them", "these",
    "so", "some", "would", "make", "like", "into", "time", "has", "look", "two", "write", "go", "see", "no",
    "way", "could", "people", "my", "than", "first", "water", "been", "call", "who", "its", "now", "find", "long",
    "down", "day", "did", "get", "come", "made", "may", "part", "over", "new", "sound", "take", "only", "little",
    "work", "know", "place", "year", "live", "me", "back", "give", "most", "very", "after", "thing", "our",
    "just", "name", "good", "sentence", "man", "think", "say", "great", "where", "help", "through", "much",
    "before", "line", "right", "too", "mean", "old", "any", "same", "tell", "boy", "follow", "came", "want",
    "show", "also", "around", "form", "three", "small", "set", "put", "end", "does", "another", "well", "large",
    "must", "big", "even", "such", "because", "turn", "here", "why", "ask", "went", "men", "read", "need", "land",
    "different", "home", "us", "move", "try", "kind", "hand", "picture", "again", "change", "off", "play",
    "spell", "air", "away", "animal", "house", "point", "page", "letter", "mother", "answer", "found", "study",
    "still", "learn", "should", "world"
]  # fmt: skip


class Lists:
    """Names of people and places by Faker's locales, so that what stands together comes from one country."""

    def __init__(self) -> None:
        from faker.config import AVAILABLE_LOCALES

        self.people: list[tuple[list[str], list[str]]] = []
        cities: set[str] = set()
        countries: set[str] = set()
        jobs: set[str] = set()
        words: set[str] = set()
        for locale in sorted(AVAILABLE_LOCALES):
            person, address = _provider("person", locale), _provider("address", locale)
            given = _listed(person, "first_names", "first_names_male", "first_names_female")
            family = _listed(person, "last_names", "last_names_male", "last_names_female", "last_names_unisex")
            if len(given) > 20 and len(family) > 20:
                share = 5 if locale.startswith("en") else 3 if given[0].isascii() else 1
                self.people += [(given, family)] * share
            cities |= set(_listed(address, "cities", "city_names"))
            countries |= set(_listed(address, "countries"))
            if locale.startswith("en"):
                jobs |= set(_listed(_provider("job", locale), "jobs"))
                words |= set(_listed(_provider("lorem", locale), "word_list"))
        self.cities, self.countries = sorted(cities), sorted(countries)
        self.english = sorted(_listed(_provider("address", "en_US"), "countries"))
        self.jobs = sorted(job.split("/")[0].split(",")[0] for job in jobs)
        self.words = sorted(words) + FILLING * 3


def _provider(kind: str, locale: str) -> Any:
    try:
        return importlib.import_module(f"faker.providers.{kind}.{locale}").Provider
    except ModuleNotFoundError:
        return None


def _listed(provider: Any, *names: str) -> list[str]:
    found: set[str] = set()
    for name in names:
        values = getattr(provider, name, ())
        if not isinstance(values, property) and not callable(values):
            found |= {str(value).strip() for value in values}
    return sorted(value for value in found if value)


def prose() -> list[str]:
    """Paragraphs of the documentation inside Python's own library: ordinary sentences without people in them."""
    found: set[str] = set()
    for file in sorted(Path(os.__file__).parent.glob("*.py")) + sorted(Path(os.__file__).parent.glob("*/*.py")):
        if "site-packages" in file.parts or "test" in str(file) or "idlelib" in file.parts:
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                found |= set((ast.get_docstring(node) or "").split("\n\n"))
    topics = importlib.import_module("pydoc_data.topics").topics
    found |= {paragraph.strip() for topic in topics.values() for paragraph in topic.split("\n\n")}
    people = re.compile(r"(?i)\b(?:by|author|copyright|written|contributed|thanks|monty|knuth|guido|spam)\b|@")
    return sorted(each for each in found if 40 < len(each) < 600 and not people.search(each))


class Maker:
    """Sentences with labels, from a seed."""

    def __init__(self, phrases: dict[str, Any], lists: Lists, choose: random.Random) -> None:
        self.lists, self.own, self.choose = phrases["lists"], lists, choose
        self.sentences = [sentence.replace("\\n", "\n") for sentence in phrases["sentences"]]
        self.prose = prose()

    def text(self) -> tuple[str, list[tuple[int, int, str]]]:
        """One to four sentences and their spans, in a case of their own."""
        choose, text, spans = self.choose, "", []
        for _ in range(choose.choice((1, 1, 1, 2, 2, 3, 4))):
            plain = choose.random() < 0.12
            more, at = (
                (choose.choice(self.prose), []) if plain else self.filled(choose.choice(self.sentences)),
                len(text),
            )
            spans += [(at + start, at + end, kind) for start, end, kind in more[1]]
            text += more[0] + choose.choice((" ", " ", "\n", "\n\n"))
        case = choose.random()
        # Only where it changes no length: a few letters grow when they become capitals.
        for chance, change in ((0.14, str.lower), (0.17, str.upper)):
            if case < chance and len(change(text)) == len(text):
                return change(text), spans
        return text, spans

    def filled(self, sentence: str) -> tuple[str, list[tuple[int, int, str]]]:
        """A sentence with its slots filled, and the labelled ones as spans."""
        self.people = self.choose.choice(self.own.people)
        out, spans, at = "", [], 0
        sentence = sentence.replace("{{", "\0").replace("}}", "\1")
        for match in SLOT.finditer(sentence):
            out += sentence[at : match.start()]
            value = self.slot(match.group(1))
            if match.group(1) in NAMED:
                spans.append((len(out), len(out) + len(value), NAMED[match.group(1)]))
            out, at = out + value, match.end()
        return (out + sentence[at:]).replace("\0", "{").replace("\1", "}"), spans

    def slot(self, name: str) -> str:
        """What a slot is filled with; lists of the phrases may have slots themselves."""
        if name in self.lists:
            return SLOT.sub(lambda inner: self.slot(inner.group(1)), self.choose.choice(self.lists[name]))
        return str(getattr(self, name)())

    def given(self) -> str:
        name = self.choose.choice(self.people[0])
        return self.altered(name) if self.choose.random() < 0.2 else name

    def family(self) -> str:
        name = self.choose.choice(self.people[1])
        name = self.altered(name) if self.choose.random() < 0.25 else name
        return f"{name}-{self.choose.choice(self.people[1])}" if self.choose.random() < 0.03 else name

    def initial(self) -> str:
        return self.choose.choice("ABCDEFGHJKLMNPRSTVW")

    def person(self) -> str:
        kind = self.choose.random()
        if kind < 0.1:
            return self.given()
        if kind < 0.16:
            return self.family()
        if kind < 0.28:
            return f"{self.given()} {self.initial()}{self.choose.choice(('.', '.', ''))} {self.family()}"
        if kind < 0.33:
            return f"{self.given()} {self.given()} {self.family()}"
        if kind < 0.36:
            return f"{self.given()} {self.choose.choice(PARTICLES)} {self.family()}"
        if kind < 0.38:
            return f"{self.initial()}. {self.family()}"
        if kind < 0.40:
            return f"{self.given()} {self.family()} {self.choose.choice(('Jr.', 'II', 'III', 'Sr.'))}"
        return f"{self.given()} {self.family()}"

    def altered(self, name: str) -> str:
        """A name that nobody listed: its beginning with another's end, or one letter changed."""
        other = self.choose.choice(self.people[self.choose.randrange(2)])
        if len(name) > 4 and len(other) > 4 and self.choose.random() < 0.6:
            return (
                name[: self.choose.randint(2, len(name) - 2)] + other[-self.choose.randint(2, len(other) - 2) :].lower()
            )
        at = self.choose.randrange(len(name))
        new = self.choose.choice("aeiou" if name[at].lower() in "aeiou" else "bdfgklmnprstvz")
        return name[:at] + (new.upper() if name[at].isupper() else new) + name[at + 1 :]

    def city(self) -> str:
        name = self.choose.choice(self.own.cities)
        kind = self.choose.random()
        return (
            name.upper()
            if kind < 0.1 and len(name.upper()) == len(name)
            else self.altered(name)
            if kind < 0.2
            else name
        )

    def place(self) -> str:
        return self.choose.choice((self.city, self.country))()

    def country(self) -> str:
        return self.choose.choice(self.own.english if self.choose.random() < 0.7 else self.own.countries)

    def org(self) -> str:
        choose, kind = self.choose, self.choose.random()
        coined = choose.choice(self.lists["coin_a"]) + choose.choice(self.lists["coin_b"])
        if kind < 0.25:
            return coined
        if kind < 0.35:
            return f"{coined} {self.slot(choose.choice(('suffix', 'trade')))}"
        if kind < 0.47:
            return f"{self.family()} {self.slot('suffix')}"
        if kind < 0.52:
            return f"{self.family()}-{self.family()}"
        if kind < 0.57:
            return f"{self.family()}, {self.family()} and {self.family()}"
        if kind < 0.62:
            return f"{self.family()} {choose.choice(('and', '&'))} {self.family()}"
        if kind < 0.8:
            words = " ".join(self.Word() for _ in range(choose.choice((1, 1, 2))))
            return f"{words} {self.slot(choose.choice(('trade', 'trade', 'suffix')))}"
        if kind < 0.88:
            return " ".join(self.Word() for _ in range(choose.choice((1, 2, 2, 3))))
        if kind < 0.91:
            return "".join(choose.choice("ABCDEFGHIKLMNOPRSTUVW") for _ in range(choose.choice((3, 3, 4))))
        return self.slot("body")

    def street(self) -> str:
        choose, kind = self.choose, self.choose.random()
        name = choose.choice((self.family, self.city, self.Word, self.given, self.person))()
        number = choose.choice(
            (
                str(choose.randint(1, 400)),
                str(choose.randint(1, 99999)),
                f"{choose.randint(1, 99)}{choose.choice('abc')}",
            )
        )
        if kind < 0.45:
            way = f"{choose.choice(('', '', '', 'N. ', 'South ', 'West '))}{name} {self.slot('way')}"
            return way if choose.random() < 0.1 else f"{number} {way}"
        if kind < 0.65:
            way = f"{name.split(' ')[0]}{self.slot('way_end')}"
        elif kind < 0.85:
            way = f"{self.slot('way_start')} {name}"
        else:
            way = name  # a house by the name of its hamlet
        return choose.choice(
            (
                f"{way} {number}",
                f"{way} {number}",
                f"{number} {way}",
                f"{number}, {way}",
                f"{number} {way} {choose.randint(1, 99)}",
            )
        )

    def address(self) -> str:
        choose = self.choose
        if choose.random() < 0.04:
            box = choose.choice(
                (
                    f"PO Box {choose.randint(1, 9999)}",
                    f"P.O. Box {choose.randint(1, 9999)}",
                    f"Unit {choose.randint(1, 9999)} Box {choose.randint(1, 9999)}",
                )
            )
            return f"{box}{self.gap()}{self.city()} {self.code()}"
        parts = [self.street()]
        if choose.random() < 0.4:
            parts.append(self.slot("unit"))
            if choose.random() < 0.2:
                parts.reverse()
        if choose.random() < 0.75:
            code, city = choose.choice((self.code, self.postcode))(), self.city()
            region = choose.choice(REGIONS)
            parts.append(
                choose.choice(
                    (city, city, f"{code} {city}", f"{city} {code}", f"{city}, {region} {code}", f"{city}, {region}")
                )
            )
            if choose.random() < 0.4:
                parts.append(self.country() + choose.choice(("", f" {code}")))
        gap = choose.choice((", ", ", ", "\n", " "))
        return gap.join(parts) if choose.random() < 0.8 else "".join(p + self.gap() for p in parts[:-1]) + parts[-1]

    def gap(self) -> str:
        return self.choose.choice((", ", "\n", " ", ",\n", "\n, "))

    def postcode(self) -> str:
        return (
            f"{self._letter()}{self._letter()}{self.choose.randint(1, 20)} "
            f"{self.choose.randint(1, 9)}{self._letter()}{self._letter()}"
        )

    def _letter(self) -> str:
        return self.choose.choice("ABCDEGHJLNPRSTUW")

    def word(self) -> str:
        return self.choose.choice(self.own.words)

    def Word(self) -> str:  # noqa: N802
        return self.word().capitalize()

    def WORD(self) -> str:  # noqa: N802
        return self.word().upper()

    def words(self) -> str:
        return " ".join(self.word() for _ in range(self.choose.randint(2, 11)))

    def Words(self) -> str:  # noqa: N802
        return " ".join(self.word().capitalize() for _ in range(self.choose.randint(1, 5)))

    def job(self) -> str:
        job = self.choose.choice(self.own.jobs)
        return job if self.choose.random() < 0.3 else job.lower()

    def nn(self) -> str:
        return str(self.choose.randint(1, 99))

    def n(self) -> str:
        return self.choose.choice(
            (
                str(self.choose.randint(1, 999)),
                f"{self.choose.randint(1, 999):03d}",
                f"{self.choose.randint(1000, 999999):,}",
            )
        )

    def year(self) -> str:
        return str(self.choose.randint(1700, 2030))

    def month(self) -> str:
        return self.choose.choice(MONTHS)

    def day(self) -> str:
        return self.choose.choice(DAYS)

    def date(self) -> str:
        d, m, y = self.choose.randint(1, 28), self.choose.randint(1, 12), self.choose.randint(1900, 2030)
        return self.choose.choice(
            (
                f"{m}/{d}/{y}",
                f"{y}-{m:02d}-{d:02d}",
                f"{d}.{m}.{y}",
                f"{d} {MONTHS[m - 1]} {y}",
                f"{MONTHS[m - 1]} {d}, {y}",
            )
        )

    def time(self) -> str:
        return self.choose.choice(
            (
                f"{self.choose.randint(0, 23)}:{self.choose.randint(0, 59):02d}",
                f"{self.choose.randint(1, 12)} pm",
                "noon",
            )
        )

    def money(self) -> str:
        return f"{self.choose.choice('$€£')}{self.choose.randint(1, 9999):,}"

    def code(self) -> str:
        letters = "".join(
            self.choose.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(self.choose.choice((0, 0, 0, 2, 3)))
        )
        return letters + str(self.choose.randint(10 ** (k := self.choose.choice((3, 4, 4, 7, 15))), 10 ** (k + 1)))

    def phone(self) -> str:
        return "".join(
            self.choose.choice("0123456789") if c == "d" else c
            for c in self.choose.choice(("+dd dd ddd dddd", "(ddd) ddd-dddd", "0ddd dddddd", "ddd-ddd-dddd"))
        )

    def email(self) -> str:
        local = f"{self.word()}.{self.word()}{self.choose.choice(('', self.nn()))}"
        return f"{local}@{self.word()}.{self.choose.choice(('com', 'org', 'de', 'co.uk', 'fr'))}"

    def url(self) -> str:
        return f"https://www.{self.word()}{self.word()}.{self.choose.choice(('com', 'org', 'eu', 'se'))}/"
