"""Train the tagger of names, addresses, places and organisations that the step `personal` uses.

    pip install 'whet[train-tagger]'
    python scripts/train_tagger.py [FILE] [--steps 1000]

The sentences are in tagger_phrases.yaml; names of people, towns, countries and jobs come from the lists of Faker (MIT),
with a part of them altered at random, so that the tagger learns how names look besides which there are. Organisations
and addresses are put together here. Nothing else is learnt from. Without FILE it writes the one in the package.
"""

from __future__ import annotations

import argparse
import importlib
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.numpy import save_file

from whet.data.personal import tagger as T

HERE = Path(__file__).parent
SLOT = re.compile(r"\{(\w+)\}")
NAMED = {"person": "person", "given": "person", "family": "person", "org": "organization", "address": "address",
         "street": "address", "place": "place", "city": "place", "country": "place"}  # fmt: skip
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
FILLING = (
    "the a of and to in is it that for on with as was are be this by at from not have but all can your which their more will about "
    "if when what there use each how do other many then them these so some would make like into time has look two write go see no "
    "way could people my than first water been call who its now find long down day did get come made may part over new sound take "
    "only little work know place year live me back give most very after thing our just name good sentence man think say great where "
    "help through much before line right too mean old any same tell boy follow came want show also around form three small set put "
    "end does another well large must big even such because turn here why ask went men read need land different home us move try "
    "kind hand picture again change off play spell air away animal house point page letter mother answer found study still learn "
    "should world"
).split()


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


class Maker:
    """Sentences with labels, from a seed."""

    def __init__(self, phrases: dict[str, Any], lists: Lists, choose: random.Random) -> None:
        self.lists, self.own, self.choose = phrases["lists"], lists, choose
        self.sentences = [sentence.replace("\\n", "\n") for sentence in phrases["sentences"]]

    def text(self) -> tuple[str, list[tuple[int, int, str]]]:
        """One to four sentences and their spans, in a case of their own."""
        choose, text, spans = self.choose, "", []
        for _ in range(choose.choice((1, 1, 1, 2, 2, 3, 4))):
            more, at = self.filled(choose.choice(self.sentences)), len(text)
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

    def person(self) -> str:
        kind = self.choose.random()
        if kind < 0.1:
            return self.given()
        if kind < 0.16:
            return self.family()
        if kind < 0.28:
            return f"{self.given()} {self.choose.choice('ABCDEFGHJKLMNPRSTVW')}{self.choose.choice(('.', '.', ''))} {self.family()}"
        if kind < 0.33:
            return f"{self.given()} {self.given()} {self.family()}"
        if kind < 0.36:
            return f"{self.given()} {self.choose.choice(('van', 'van der', 'de', 'de la', 'von', 'di', 'bin', 'Mc', 'al', 'ben'))} {self.family()}"
        if kind < 0.38:
            return f"{self.choose.choice('ABCDEFGHJKLMNPRSTVW')}. {self.family()}"
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
            region = choose.choice("AL AK AZ CA CO FL GA IL LA MA NY NSW ON QC TX VIC WA SE KA MI".split())
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
        letter = lambda: self.choose.choice("ABCDEGHJLNPRSTUW")  # noqa: E731
        return f"{letter()}{letter()}{self.choose.randint(1, 20)} {self.choose.randint(1, 9)}{letter()}{letter()}"

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
        return f"{self.word()}.{self.word()}{self.choose.choice(('', self.nn()))}@{self.word()}.{self.choose.choice(('com', 'org', 'de', 'co.uk', 'fr'))}"

    def url(self) -> str:
        return f"https://www.{self.word()}{self.word()}.{self.choose.choice(('com', 'org', 'eu', 'se'))}/"


def encode(text: str, spans: list[tuple[int, int, str]]) -> tuple[list[list[int]], list[int]]:
    """Rows of the table of each token, and its label."""
    matches = list(T.TOKEN.finditer(text))
    words = [T.EDGE] * T.WIDTH + [match.group() for match in matches] + [T.EDGE] * T.WIDTH
    hashes = np.array([T.word_hashes(word) for word in words], np.uint32)
    with np.errstate(over="ignore"):
        pairs = T.pair_rows(hashes[:, 0], hashes[:, 1], np.full(len(matches), T.case_of(text), np.uint32)).tolist()
    labels, rows = [0] * len(matches), []
    for at, match in enumerate(matches):
        inside = next((span for span in spans if span[0] <= match.start() < span[1]), None)
        if inside:
            labels[at] = T.LABELS.index(("B-" if match.start() == inside[0] else "I-") + inside[2])
        rows.append(
            [row for place in range(2 * T.WIDTH + 1) for row in T.word_rows(words[at + place])[place]] + pairs[at]
        )
    return rows, labels


class Chain(torch.nn.Module):
    """The CRF that `whet.data.personal.tagger` reads: a sum of rows of a table, and transitions."""

    def __init__(self) -> None:
        super().__init__()
        size = len(T.LABELS)
        self.table = torch.nn.EmbeddingBag(T.BUCKETS + 1, size, mode="sum", padding_idx=T.BUCKETS)
        torch.nn.init.zeros_(self.table.weight)
        self.moves = torch.nn.Parameter(torch.zeros(size, size))
        kinds = [label[2:] for label in T.LABELS]
        begun = [
            [label[0] != "I" or kinds[before] == kinds[now] for now, label in enumerate(T.LABELS)]
            for before in range(size)
        ]
        self.register_buffer("legal", torch.where(torch.tensor(begun), 0.0, -1e4))

    def loss(self, rows_NF: torch.Tensor, labels_BT: torch.Tensor, sizes_B: torch.Tensor) -> torch.Tensor:
        """Mean over texts of -log p(labels | text); `rows_NF` of all texts' tokens end to end, `labels_BT` padded with O."""
        inside_BT = torch.arange(labels_BT.shape[1]) < sizes_B[:, None]
        scores_BTL = torch.zeros(*labels_BT.shape, len(T.LABELS)).masked_scatter(
            inside_BT[..., None], self.table(rows_NF)
        )
        moves = self.moves + self.legal
        gold = scores_BTL.gather(2, labels_BT[..., None])[..., 0].mul(inside_BT).sum(1) + moves[0, labels_BT[:, 0]]
        steps = moves[labels_BT[:, :-1], labels_BT[:, 1:]] * inside_BT[:, 1:]
        last = labels_BT.gather(1, sizes_B[:, None] - 1)[:, 0]
        gold = gold + steps.sum(1) + moves[last, 0]
        alpha = scores_BTL[:, 0] + moves[0]
        for t in range(1, labels_BT.shape[1]):
            through = torch.logsumexp(alpha[:, :, None] + moves, 1) + scores_BTL[:, t]
            alpha = torch.where(inside_BT[:, t, None], through, alpha)
        return (torch.logsumexp(alpha + moves[:, 0], 1) - gold).mean()


def batch(maker: Maker, size: int, dropout: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `loss` takes, of so many new texts. A share of the features is left out, so that none is relied on alone."""
    texts = [encode(*maker.text()) for _ in range(size)]
    texts = [text for text in texts if text[1]]
    width = max(len(row) for rows, _ in texts for row in rows)
    rows = np.array([row + [T.BUCKETS] * (width - len(row)) for rows, _ in texts for row in rows])
    rows[np.random.default_rng(maker.choose.getrandbits(32)).random(rows.shape) < dropout] = T.BUCKETS
    sizes = torch.tensor([len(labels) for _, labels in texts])
    labels = torch.zeros(len(texts), int(sizes.max()), dtype=torch.long)
    for number, (_, of_text) in enumerate(texts):
        labels[number, : len(of_text)] = torch.tensor(of_text)
    return torch.from_numpy(rows), labels, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tagger of the step `personal`.")
    parser.add_argument("file", nargs="?", default=str(T.SHIPPED))
    parser.add_argument("--steps", type=int, default=1000, help="of 256 new texts each")
    args = parser.parse_args()
    phrases = yaml.safe_load((HERE / "tagger_phrases.yaml").read_text(encoding="utf-8"))
    maker, chain = Maker(phrases, Lists(), random.Random(7)), Chain()
    optimizer = torch.optim.Adam(chain.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, args.steps)
    losses = []
    for step in range(1, args.steps + 1):
        loss = chain.loss(*batch(maker, 256, dropout=0.15))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0:
            print(f"step {step}: loss {np.mean(losses[-50:]):.3f} a text", flush=True)
    weights = chain.table.weight.detach()[: T.BUCKETS].numpy()
    scale = np.float32(np.quantile(np.abs(weights), 0.99999) / 127)
    small = np.clip(np.rint(weights / scale), -127, 127).astype(np.int8)
    moves = (chain.moves + chain.legal).detach().numpy().astype(np.float32)
    save_file({"weights": small, "scale": scale.reshape(1), "transitions": moves}, args.file)
    print(f"{args.file}: {Path(args.file).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
