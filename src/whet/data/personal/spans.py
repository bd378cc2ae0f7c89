"""A stretch of text that holds a personal value, and which of several that overlap is the one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

CHECKED, FORM, LIKELY = 3, 2, 1
"""How sure a recogniser is: a checksum or an unmistakable form; a form with what stands around it; a likelihood."""

NATIONAL_IDS = (
    "us_ssn", "us_itin", "us_npi", "us_mbi", "us_driver_license", "us_passport", "uk_nhs", "uk_nino",
    "uk_driving_licence", "uk_passport", "ca_sin", "de_tax_id", "de_id_card", "de_social_security",
    "de_health_insurance", "fr_nir", "it_fiscal_code", "es_nif", "es_nie", "pl_pesel", "se_personnummer", "fi_hetu",
    "au_tfn", "au_medicare", "in_aadhaar", "in_pan", "in_gstin", "sg_nric", "kr_rrn", "kr_frn", "th_tnin",
    "tr_national_id", "za_id", "ng_nin", "nl_bsn", "br_cpf",
)  # fmt: skip
KINDS = (
    "email", "phone", "card", "iban", "ip", "mac", "crypto", "url", "person", "address", "place", "organization",
    "birth_date", "age", *NATIONAL_IDS,
)  # fmt: skip
"""Every kind, by the name that settings and ledger use. `national_id` in settings stands for all NATIONAL_IDS."""


class Span(NamedTuple):
    """A personal value: `text[start:end]`, counted in code points."""

    start: int
    end: int
    kind: str
    sure: int = FORM


def resolve(spans: Iterable[Span]) -> list[Span]:
    """Spans that do not overlap, in order of place.

    Of two that overlap the surer stays, then the longer, then the one that begins first, then the kind that comes first
    in KINDS. What the winner leaves of one found by likelihood alone is kept as a span of its own: it was taken for
    personal too, and half a street's name must not remain behind.
    """
    order = {kind: number for number, kind in enumerate(KINDS)}
    waiting = sorted(spans, key=lambda s: (-s.sure, s.start - s.end, s.start, order.get(s.kind, len(order))))
    kept: list[Span] = []
    for span in waiting:
        pieces = [(span.start, span.end)]
        for other in kept:
            if other.start < span.end and span.start < other.end:
                pieces = [piece for start, end in pieces for piece in _without(start, end, other)]
        if pieces == [(span.start, span.end)]:
            kept.append(span)
        elif span.sure == LIKELY:
            kept += [Span(start, end, span.kind, LIKELY) for start, end in pieces]
    return sorted(kept)


def _without(start: int, end: int, other: Span) -> list[tuple[int, int]]:
    """What `other` leaves of start..end."""
    if other.end <= start or end <= other.start:
        return [(start, end)]
    return [(a, b) for a, b in ((start, other.start), (other.end, end)) if b > a]
