"""Check digits: what tells a card, an account or a person's number from any other digits."""

from __future__ import annotations


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: from the right, every second digit doubled, the sum of digits divisible by ten."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def card_scheme(digits: str) -> str | None:
    """The scheme whose prefix and length these digits have (ISO/IEC 7812 issuer ranges); the check is not looked at."""
    size, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4" and size in (13, 16, 19):
        return "visa"
    if size == 16 and (51 <= two <= 55 or 2221 <= four <= 2720):
        return "mastercard"
    if size == 15 and two in (34, 37):
        return "amex"
    if 14 <= size <= 19 and (two in (36, 38, 39) or 300 <= int(digits[:3]) <= 305):
        return "diners"
    if 16 <= size <= 19 and (four == 6011 or two in (64, 65) or 3528 <= four <= 3589 or two == 62):
        return "discover"
    if size == 15 and four in (2131, 1800):
        return "jcb"
    if 12 <= size <= 19 and (two == 50 or 56 <= two <= 69):
        return "maestro"
    return None


IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH":
    21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18,
    "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ":
    23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21,
    "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL":
    28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
"""Characters of an IBAN by country (ISO 13616 registry)."""


def iban(plain: str) -> bool:
    """ISO 13616 / ISO 7064: the country's length, and 1 modulo 97 with the first four characters moved to the end."""
    plain = plain.upper()
    if IBAN_LENGTHS.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def french_nir(plain: str) -> bool:
    """INSEE: 13 characters and a key of two digits, 97 less the number modulo 97; Corsica's 2A, 2B count as 19, 18."""
    number = plain[:13].upper().replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(plain[13:])


def dutch_bsn(digits: str) -> bool:
    """The eleven test: weights 9 to 2 and -1, the sum divisible by eleven."""
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    return digits != "0" * 9 and sum(w * int(d) for w, d in zip(weights, digits, strict=True)) % 11 == 0


def brazilian_cpf(digits: str) -> bool:
    """Two check digits, each the weighted sum of all before it times ten, modulo eleven, ten counted as nought."""
    if len(set(digits)) == 1:
        return False
    for size in (9, 10):
        total = sum((size + 1 - place) * int(digit) for place, digit in enumerate(digits[:size]))
        if total * 10 % 11 % 10 != int(digits[size]):
            return False
    return True
