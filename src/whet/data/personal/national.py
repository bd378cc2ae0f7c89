"""Numbers that a state gives a person, by form and checksum: presidio's recognisers, and three of our own.

presidio takes its time to import (it brings spaCy), so it is asked once a text has something in the right form.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from whet.data.personal.checks import brazilian_cpf, dutch_bsn, french_nir
from whet.data.personal.patterns import near
from whet.data.personal.spans import CHECKED, Span
from whet.errors import MissingExtra


class Rule(NamedTuple):
    """How a kind of number is found.

    `form`: what it must look like to be looked at. `check`: presidio's class, a function of the plain number, or "" for
    none. `words`: what must stand close; None where form and check together are proof enough.
    """

    kind: str
    form: str
    check: str | Callable[[str], bool]
    words: str | None = None


_ID = r"national id|identity|id number|id no"
RULES = (
    Rule("us_ssn", r"\d{3}([- .])\d{2}\1\d{4}", "UsSsnRecognizer"),
    Rule("us_ssn", r"\d{9}|\d{3}-\d{6}|\d{5}-\d{4}", "UsSsnRecognizer", r"ssn|social security"),
    Rule("us_itin", r"9\d{2}[- ]?\d{2}[- ]?\d{4}", "UsItinRecognizer", r"itin|taxpayer"),
    Rule("us_npi", r"[12]\d{9}|[12]\d{3}[ -]\d{3}[ -]\d{3}", "UsNpiRecognizer", r"npi|provider"),
    Rule("us_mbi", r"[0-9][a-z0-9]{3}-?[a-z0-9]{3}-?[a-z]{2}\d\d", "UsMbiRecognizer", r"medicare|mbi|beneficiary"),
    Rule("us_driver_license", r"[a-z]{0,2}\d{6,14}[a-z]?|\d{3,4}-\d{2,3}-\d{3,4}", "",
         r"driv(?:er|ing)(?:['’]?s)? licen[cs]e|licen[cs]e (?:number|no)"),
    Rule("us_passport", r"[a-z]?\d{8,9}", "UsPassportRecognizer", r"passport"),
    Rule("uk_passport", r"[a-z]{2}\d{7}", "UkPassportRecognizer", r"passport"),
    Rule("uk_nhs", r"\d{3}[- ]?\d{3}[- ]?\d{4}", "NhsRecognizer", r"nhs|national health|patient|health service"),
    Rule("uk_nino", r"[a-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[a-d]", "UkNinoRecognizer"),
    Rule("uk_driving_licence", r"[a-z9]{5}\d{6}[a-z9]{2}\w[a-z]{2}", "UkDrivingLicenceRecognizer"),
    Rule("ca_sin", r"\d{3}[- ]?\d{3}[- ]?\d{3}", "CaSinRecognizer", r"sin|social insurance"),
    Rule("de_tax_id", r"\d{11}", "DeTaxIdRecognizer", r"steuer\w*|idnr|tin|tax (?:id|number|identification)"),
    Rule("de_id_card", r"[cfghjklmnprtvwxyz][a-z0-9]{7}\d", "DeIdCardRecognizer",
         r"\w*ausweis\w*|identity card|id card"),
    Rule("de_social_security", r"\d{8}[a-z]\d{3}", "DeSocialSecurityRecognizer"),
    Rule("de_health_insurance", r"[a-z]\d{9}", "DeHealthInsuranceRecognizer",
         r"kranken\w*|versicher\w*|kvnr|health insurance"),
    Rule("fr_nir", r"[1-478] ?\d{2} ?\d{2} ?(?:\d{2}|2[ab]) ?\d{3} ?\d{3} ?\d{2}", french_nir),
    Rule("it_fiscal_code",
         r"[a-z]{6}[\dl-nlp-v]{2}[a-z][\dlmnp-v]{2}[a-z][\dlmnp-v]{3}[a-z]", "ItFiscalCodeRecognizer"),
    Rule("es_nif", r"\d{7,8}-?[a-z]", "EsNifRecognizer"),
    Rule("es_nie", r"[xyz]\d{7}-?[a-z]", "EsNieRecognizer"),
    Rule("pl_pesel", r"\d{11}", "PlPeselRecognizer", r"pesel"),
    Rule("se_personnummer", r"(?:\d{2})?\d{6}[-+]?\d{4}", "SePersonnummerRecognizer",
         r"personnummer|personal (?:identity )?number|swedish"),
    Rule("fi_hetu", r"\d{6}[-+a-fu-y]\d{3}[0-9a-y]", "FiPersonalIdentityCodeRecognizer"),
    Rule("au_tfn", r"\d{3} ?\d{3} ?\d{3}", "AuTfnRecognizer", r"tfn|tax file"),
    Rule("au_medicare", r"[2-6]\d{3} ?\d{5} ?\d", "AuMedicareRecognizer", r"medicare"),
    Rule("in_aadhaar", r"\d{4}([- :]?)\d{4}\1\d{4}", "InAadhaarRecognizer", r"aadhaa?r|uidai|uid"),
    Rule("in_pan", r"[a-z]{3}[abcfghjlpt][a-z]\d{4}[a-z]", "InPanRecognizer"),
    Rule("in_gstin", r"\d{2}[a-z]{5}\d{4}[a-z][a-z0-9]z[a-z0-9]", "InGstinRecognizer"),
    Rule("sg_nric", r"[stfgm]\d{7}[a-z]", "SgFinRecognizer", r"nric|fin|singapore"),
    Rule("kr_rrn", r"\d{6}-?[1-4]\d{6}", "KrRrnRecognizer", r"rrn|resident|korean?|주민등록번호"),
    Rule("kr_frn", r"\d{6}-?[5-8]\d{6}", "KrFrnRecognizer", r"frn|foreigner|korean?|외국인등록번호"),
    Rule("th_tnin", r"\d{13}", "ThTninRecognizer", rf"thai\w*|{_ID}"),
    Rule("tr_national_id", r"[1-9]\d{10}", "TrNationalIdRecognizer", rf"tc|t\.c\.|kimlik|turkish|{_ID}"),
    Rule("za_id", r"\d{10}[0-2][89]\d", "ZaIdNumberRecognizer", rf"south africa\w*|rsa|{_ID}"),
    Rule("ng_nin", r"\d{11}", "NgNinRecognizer", rf"nin|nigeria\w*|{_ID}"),
    Rule("nl_bsn", r"\d{9}", dutch_bsn, r"bsn|burgerservicenummer|sofinummer|citizen service"),
    Rule("br_cpf", r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}", brazilian_cpf, r"cpf"),
)  # fmt: skip


class Numbers:
    """The finder of those kinds of national number that are asked for."""

    def __init__(self, kinds: set[str]) -> None:
        self.rules = [
            (rule, re.compile(rf"(?<![\w])(?:{rule.form})(?!\w|-\d)", re.IGNORECASE | re.ASCII),
             re.compile(rf"(?i)(?<!\w)(?:{rule.words})(?!\w)") if rule.words else None)
            for rule in RULES if rule.kind in kinds
        ]  # fmt: skip

    def __call__(self, text: str) -> Iterator[Span]:
        """The numbers in a text. Raises MissingExtra without presidio, once one must be checked."""
        for begin, end in _places(text):
            for rule, form, words in self.rules:
                for match in form.finditer(text, begin, end):
                    near_word = words is None or near(words, text, *match.span())
                    if near_word and _passes(rule.check, match.group()):
                        yield Span(match.start(), match.end(), rule.kind, CHECKED)


_RUN = re.compile(
    r"\d(?:[ .:+-]?[\dab]){5,}|(?<!\w)(?=[a-z]*\d)[a-z0-9]{9,}|(?<!\w)[a-z0-9]{4}-[a-z0-9]{3}-[a-z0-9]{4}",
    re.IGNORECASE | re.ASCII,
)
"""What all of the forms hold: six digits close together, or letters and digits of some length."""


def _places(text: str) -> Iterator[tuple[int, int]]:
    """Where in the text a number may be: from a word's beginning to a word's end, none overlapping."""
    end = 0
    for run in _RUN.finditer(text):
        if run.end() <= end:
            continue
        begin, end = max(run.start() - 8, end), run.end() + 8
        while end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
            end += 1
        yield begin, end


def _passes(check: str | Callable[[str], bool], found: str) -> bool:
    if callable(check):
        return check(re.sub(r"[\s.-]", "", found))
    if not check:
        return sum(map(str.isdigit, found)) >= 5
    recognizer = presidio(check)
    # Given alone, so that a checksum speaks of the whole and nothing else. Forms are held in capitals.
    results = recognizer.analyze(found.upper(), recognizer.supported_entities, None)
    checked = type(recognizer).validate_result is not _base().validate_result
    return any(r.end - r.start == len(found) and (r.score == 1 or not checked) for r in results)


@cache
def presidio(name: str) -> Any:
    """presidio's recogniser of this name, on its own: no engine of language models, and no network."""
    _base()
    from presidio_analyzer import predefined_recognizers

    return getattr(predefined_recognizers, name)()


@cache
def _base() -> Any:
    try:
        with _left_out("transformers", "torch", "stanza"):
            from presidio_analyzer import PatternRecognizer
    except ImportError:
        raise MissingExtra("presidio-analyzer", "data", "checking national ids") from None
    return PatternRecognizer


@contextmanager
def _left_out(*names: str) -> Iterator[None]:
    """While presidio is imported: without what it takes along if it is there. Its patterns need none of it, and each
    process would pay for it with seconds and hundreds of megabytes."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: "there is no such module"
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
