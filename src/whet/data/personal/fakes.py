"""Made values in place of true ones: plainly made, valid in form, and the same for the same value wherever it stands.

A fake follows from a key and the value alone, so no table of what was replaced by what is ever written. E-mail and web
addresses are under example.com (RFC 2606), telephones 555-0100 to 555-0199, IP addresses those for documents (RFC 5737,
RFC 3849), cards of a range used for tests, accounts of a bank called TEST, national numbers begin with noughts.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from whet.data.personal.checks import luhn
from whet.data.personal.spans import NATIONAL_IDS

TREES = (
    "Acacia", "Alder", "Almond", "Apple", "Ash", "Aspen", "Banyan", "Baobab", "Bay", "Beech", "Birch", "Bramble",
    "Briar", "Cedar", "Cherry", "Clover", "Coral", "Cypress", "Dahlia", "Daisy", "Ebony", "Elder", "Elm", "Fennel",
    "Fern", "Fig", "Fir", "Flax", "Gale", "Ginger", "Hawthorn", "Hazel", "Heath", "Heather", "Hemlock", "Holly",
    "Hyssop", "Iris", "Ivy", "Jasmine", "Juniper", "Larch", "Laurel", "Lavender", "Lilac", "Linden", "Lotus",
    "Maple", "Marigold", "Medlar", "Mulberry", "Myrtle", "Nettle", "Oak", "Olive", "Orchid", "Palm", "Pansy",
    "Pepper", "Pine", "Plum", "Poplar", "Poppy", "Quince", "Reed", "Rose", "Rowan", "Rue", "Rush", "Saffron",
    "Sage", "Sequoia", "Sorrel", "Spruce", "Sumac", "Tansy", "Teak", "Thistle", "Thorn", "Thyme", "Tulip", "Vine",
    "Violet", "Walnut", "Willow", "Yarrow", "Yew", "Zinnia",
)  # fmt: skip
"""What fake people, streets and towns are called: names for given names and for families alike."""

_PARTICLES = {
    "van",
    "der",
    "den",
    "de",
    "la",
    "von",
    "di",
    "da",
    "del",
    "bin",
    "al",
    "el",
    "ben",
    "jr",
    "sr",
    "ii",
    "iii",
    "dos",
}
_LETTERS = re.compile(r"[^\W\d_]+")


def normal(kind: str, value: str) -> str:
    """The spelling under which values are the same: capitals, blanks and, in numbers, signs between do not matter."""
    if kind in ("phone", "card", "iban") or kind in NATIONAL_IDS:
        return "".join(re.findall(r"[^\W_]+", value)).casefold()
    return " ".join(value.casefold().split())


class Fakes:
    """Fakes that follow from a key: another key, other fakes."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def number(self, below: int, *salt: str) -> int:
        """A number from 0 to below - 1 for this salt."""
        drawn = hmac.new(self.key, "\0".join(salt).encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
        return int.from_bytes(drawn[:8], "big") % below

    def __call__(self, kind: str, value: str) -> str:
        """The fake for a value of this kind."""
        plain = normal(kind, value)
        if kind == "person":
            return self.person(value)
        if kind in NATIONAL_IDS:
            return self.national(kind, value, plain)
        return str(getattr(self, kind)(plain))

    def person(self, value: str) -> str:
        """Word by word, so that "Ada Smith", "Smith" and "Ada" agree with each other in every row."""
        return _LETTERS.sub(self._name, value)

    def _name(self, match: re.Match[str]) -> str:
        word = match.group()
        if word.casefold() in _PARTICLES:
            return word
        fake = TREES[self.number(len(TREES), "person", word.casefold())]
        if len(word) == 1:
            fake = fake[0]
        return fake.upper() if word.isupper() and len(word) > 1 else fake.lower() if word.islower() else fake

    def email(self, plain: str) -> str:
        tree = TREES[self.number(len(TREES), "email", plain)].lower()
        return f"{tree}{self.number(1_000_000, 'email number', plain):06d}@example.com"

    def phone(self, plain: str) -> str:
        return f"{200 + self.number(800, 'area', plain)}-555-01{self.number(100, 'line', plain):02d}"

    def card(self, plain: str) -> str:
        """Sixteen digits from 400000 on, where test cards begin, with a check digit that is right."""
        digits = f"400000{self.number(10**9, 'card', plain):09d}"
        return digits + next(check for check in "0123456789" if luhn(digits + check))

    def iban(self, plain: str) -> str:
        """An account at GB's bank TEST with check digits that are right (ISO 13616)."""
        account = f"TEST{self.number(10**14, 'iban', plain):014d}"
        rest = int("".join(str(int(character, 36)) for character in account + "GB00")) % 97
        return f"GB{98 - rest:02d}{account}"

    def ip(self, plain: str) -> str:
        if ":" in plain:
            number = self.number(1 << 32, "ip", plain)
            return f"2001:db8::{number >> 16:x}:{number & 0xFFFF:x}"
        number = self.number(3 * 254, "ip", plain)
        return f"{('192.0.2', '198.51.100', '203.0.113')[number // 254]}.{number % 254 + 1}"

    def mac(self, plain: str) -> str:
        """Of the range for documents, 00-00-5E-00-53 (RFC 7042)."""
        return f"00:00:5e:00:53:{self.number(256, 'mac', plain):02x}"

    def crypto(self, plain: str) -> str:
        return f"wallet-{self.number(10**12, 'crypto', plain):012d}"

    def url(self, plain: str) -> str:
        return f"https://example.com/{self.number(10**8, 'url', plain):08d}"

    def address(self, plain: str) -> str:
        return (
            f"{self.number(999, 'house', plain) + 1} {TREES[self.number(len(TREES), 'street', plain)]} Example Street"
        )

    def place(self, plain: str) -> str:
        return f"{TREES[self.number(len(TREES), 'place', plain)]}ville"

    def organization(self, plain: str) -> str:
        return f"{TREES[self.number(len(TREES), 'organization', plain)]} Example Company"

    def birth_date(self, plain: str) -> str:
        return f"1900-{self.number(12, 'month', plain) + 1:02d}-{self.number(28, 'day', plain) + 1:02d}"

    def age(self, plain: str) -> str:
        return str(20 + self.number(60, "age", plain))

    def national(self, kind: str, value: str, plain: str) -> str:
        """The form kept, letters X, digits nought but for the last four: no state gives such numbers."""
        digits = sum(map(str.isdigit, value))
        made = "0" * max(digits - 4, 0) + f"{self.number(10 ** min(digits, 4), kind, plain):0{min(digits, 4)}d}"
        left = iter(made)
        return "".join(next(left) if c.isdigit() else "X" if c.isalpha() else c for c in value)
