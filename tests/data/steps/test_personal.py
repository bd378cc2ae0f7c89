"""The step `personal`: what is found, what is not, what takes its place, and that no value is told to anyone.

Numbers with check digits were computed by hand or are the published examples that their standards give.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whet.data.curation.pipeline import Curated, curate
from whet.data.personal import checks, fakes, tagger
from whet.data.personal.actions import changed, hashed, masked, redacted
from whet.data.personal.finder import Finder, echoes
from whet.data.personal.spans import CHECKED, FORM, KINDS, LIKELY, NATIONAL_IDS, Span, resolve
from whet.errors import RecipeError

FORMS = [kind for kind in KINDS if kind not in tagger.TAGGED]


def found(text: str, *kinds: str) -> list[tuple[str, str]]:
    """(kind, value) of each span of these kinds, all that are found by form if none is named."""
    return [(span.kind, text[span.start : span.end]) for span in Finder(kinds or FORMS)([text])[0]]


def run(rows: list[dict[str, Any]], **settings: Any) -> Curated:
    return curate(rows, [{"personal": settings}])


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("write to ann.o'hara+news@mail.example.co.uk.", "email", "ann.o'hara+news@mail.example.co.uk"),
        ("(mailto:jürgen@bücher.example)", "email", "jürgen@bücher.example"),
        ("почта@пример.рф, срочно", "email", "почта@пример.рф"),
        ("card 4111 1111 1111 1111, please", "card", "4111 1111 1111 1111"),
        ("5555-5555-5555-4444", "card", "5555-5555-5555-4444"),
        ("amex 378282246310005", "card", "378282246310005"),
        ("IBAN: GB82 WEST 1234 5698 7654 32.", "iban", "GB82 WEST 1234 5698 7654 32"),
        ("de89370400440532013000 is mine", "iban", "de89370400440532013000"),
        ("from 203.0.113.77:8080", "ip", "203.0.113.77"),
        ("host 2001:db8:85a3::8a2e:370:7334 is down", "ip", "2001:db8:85a3::8a2e:370:7334"),
        ("mac 00:1A:2b:3C:4d:5E", "mac", "00:1A:2b:3C:4d:5E"),
        ("see (https://a.example/b_(c)?d=e#f).", "url", "https://a.example/b_(c)?d=e#f"),
        ("www.example.org/x, for one", "url", "www.example.org/x"),
        ("call +44 20 7946 0958 now", "phone", "+44 20 7946 0958"),
        ("(212) 555-0143 ext. 12", "phone", "(212) 555-0143 ext. 12"),
        ("01.23.45.67.89", "phone", "01.23.45.67.89"),
        ("Tel:030 1234567", "phone", "030 1234567"),
        ("my phone: 555 0143", "phone", "555 0143"),
        ("born on 3 May 1971 in", "birth_date", "3 May 1971"),
        ("DOB 1971-05-03", "birth_date", "1971-05-03"),
        ("a 37-year-old", "age", "37"),
        ("ssn 536-22-1234", "us_ssn", "536-22-1234"),
        ("NHS number 943 476 5919", "uk_nhs", "943 476 5919"),
        ("NI no AB 12 34 56 C", "uk_nino", "AB 12 34 56 C"),
        ("Steuer-ID 86095742719", "de_tax_id", "86095742719"),
        ("2 55 08 14 168 025 38", "fr_nir", "2 55 08 14 168 025 38"),
        ("RSSMRA85T10A562S", "it_fiscal_code", "RSSMRA85T10A562S"),
        ("DNI 12345678Z", "es_nif", "12345678Z"),
        ("PESEL 44051401359", "pl_pesel", "44051401359"),
        ("TFN 876 543 210", "au_tfn", "876 543 210"),
        ("Aadhaar 2341 2341 2346", "in_aadhaar", "2341 2341 2346"),
        ("BSN 111222333", "nl_bsn", "111222333"),
        ("CPF 529.982.247-25", "br_cpf", "529.982.247-25"),
        ("my driver's license is D1234567", "us_driver_license", "D1234567"),
    ],
)  # fmt: skip
def test_a_value_is_found_whole(text: str, kind: str, value: str) -> None:
    assert found(text) == ([(kind, value)] if value else [])


@pytest.mark.parametrize(
    "text",
    [
        "card 4111 1111 1111 1112", "1234567890123452", "GB82 WEST 1234 5698 7654 33", "DE8937040044053201300",
        "version 1.2.3.4", "300.1.2.3", "listen on 127.0.0.1", "std::vector and a::b", "at 12:30:45", "@decorator",
        "a @ b.c", "from 1990-1995", "on 2024-05-03 10:11:12", "1,234,567.89", "12345678", "ISBN 978-3-16-148410-0",
        "3.14159265", "000-12-3456", "NHS number 9434765918", "Aadhaar 2341 2341 2345", "Steuer-ID 86095742718",
        "2 55 08 14 168 025 39", "RSSMRA85T10A562T", "DNI 12345678A", "PESEL 44051401358", "BSN 111222334",
        "CPF 529.982.247-26", "529982247", "the 3 May 1971 edition", "",
        "he calls it 2400 / 200 = 12", "call it $4640 / 1160", "phones: <<5000/500=10>>", "call 0000001-1",
    ],
)  # fmt: skip
def test_what_only_looks_like_one_is_not(text: str) -> None:
    assert found(text) == []


def test_check_digits_by_hand() -> None:
    assert checks.luhn("79927398713")  # ISO/IEC 7812's usual example: 7 9 9 2 7 3 9 8 7 1, check digit 3
    assert [n for n in range(10) if checks.luhn(f"7992739871{n}")] == [3]
    assert checks.iban("GB82WEST12345698765432")
    assert checks.french_nir("255081416802538")
    assert checks.french_nir("2550814168025" + "38")
    assert checks.dutch_bsn("111222333")  # 9+8+7+2*(6+5+4)+3*(3+2)-3 = 66
    assert not checks.brazilian_cpf("11111111111")


def test_spans_count_code_points_in_any_script() -> None:
    text = "👩‍👩‍👧 e\u0301 नमस्ते x@y.example 你好 203.0.113.9 🎉"
    assert found(text) == [("email", "x@y.example"), ("ip", "203.0.113.9")]
    assert "".join(
        text[span.start : span.end] for span in Finder(["email", "ip"])([text])[0]
    ) == "x@y.example203.0.113.9"  # fmt: skip


def test_of_overlapping_spans_the_surer_then_the_longer_stays() -> None:
    card, phone = Span(4, 20, "card", CHECKED), Span(0, 14, "phone", FORM)
    assert resolve([phone, card]) == [card]
    assert resolve([Span(0, 5, "ip", FORM), Span(2, 9, "url", FORM)]) == [Span(2, 9, "url", FORM)]
    assert resolve([Span(0, 5, "phone", FORM), Span(0, 5, "email", FORM)]) == [Span(0, 5, "email", FORM)]
    # what is left of a likely one is still taken away
    left = resolve([Span(0, 30, "address", LIKELY), card])
    assert left == [Span(0, 4, "address", LIKELY), card, Span(20, 30, "address", LIKELY)]


def test_an_address_in_a_link_is_found_even_where_links_are_not_wanted() -> None:
    text = "https://a.example/?to=bob@b.example&n=John"
    assert found(text, "email", "person") == [("email", "bob@b.example")]
    assert [kind for kind, _ in found(text, "email", "url")] == ["url"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("My name is Margaret Hollis and I live in Leeds.", ["Margaret Hollis"]),
        ("Dear Mr. Kowalski,\nthank you.\nBest regards,\nAnna Lindqvist", ["Kowalski", "Anna Lindqvist"]),
        ("Please ask Dr. Fatima Al Rashid or Giuseppe.", ["Fatima Al Rashid", "Giuseppe"]),
        ("On Monday the Python interpreter raised a ValueError.", []),
        ("What is Machine Learning? Explain in three steps.", []),
    ],
)
def test_names_by_what_they_look_like_and_where_they_stand(text: str, values: list[str]) -> None:
    assert [value for _, value in found(text, "person")] == values


def test_a_name_found_once_is_found_all_over_the_row() -> None:
    texts = ["I am Will Kowalczyk.", "So Kowalczyk it is, if you will, Will. Kowalczyks no."]
    spans = echoes(texts, [[Span(5, 20 - 1, "person", LIKELY)], []])
    assert [texts[1][span.start : span.end] for span in spans[1]] == ["Kowalczyk"]
    assert echoes(["Ada"], [[]]) == [[]]


def test_an_address_is_found_as_a_whole() -> None:
    assert found("Send it to 12 Rosewood Lane, Springfield, IL 62704 by Friday.", "address") == [
        ("address", "12 Rosewood Lane, Springfield, IL 62704")
    ]


def test_the_tagger_s_scores_are_the_sums_of_its_table() -> None:
    draw = np.random.default_rng(3)
    weights = draw.normal(size=(tagger.BUCKETS, len(tagger.LABELS))).astype(np.float32)
    made = tagger.Tagger(weights, np.zeros((len(tagger.LABELS), len(tagger.LABELS)), np.float32))
    texts = ["Hello Ann-Marie,\ncall 555!", "", "ALL IN CAPITALS", "all in small é"]
    words = [[match.group() for match in tagger.TOKEN.finditer(text)] for text in texts]
    with np.errstate(over="ignore"):
        scores = made.emissions(words, texts)
        at = 0
        for of_text, text in zip(words, texts, strict=True):
            padded = [tagger.EDGE] * 2 + of_text + [tagger.EDGE] * 2
            hashes = np.array([tagger.word_hashes(word) for word in padded], np.uint32)
            pairs = tagger.pair_rows(hashes[:, 0], hashes[:, 1], np.full(len(of_text), tagger.case_of(text), np.uint32))
            for place in range(len(of_text)):
                rows = [row for k in range(5) for row in tagger.word_rows(padded[place + k])[k]] + pairs[place].tolist()
                np.testing.assert_allclose(scores[at + place], weights[rows].sum(0), rtol=1e-4, atol=1e-4)
            at += len(of_text) + 2


def test_viterbi_against_every_path() -> None:
    from itertools import product

    draw = np.random.default_rng(5)
    scores, moves = draw.normal(size=(4, 3)).astype(np.float32), draw.normal(size=(3, 3)).astype(np.float32)

    def total(path: tuple[int, ...]) -> float:
        steps = sum(moves[a, b] for a, b in zip((0, *path), (*path, 0), strict=True))
        return float(sum(scores[t, label] for t, label in enumerate(path)) + steps)

    assert tuple(tagger.viterbi(scores, moves)) == max(product(range(3), repeat=4), key=total)


def test_masks_show_the_form_alone() -> None:
    assert masked("email", "joe.doe@mail.example") == "j***@***"
    assert masked("card", "4111 1111 1111 1234") == "**** **** **** 1234"
    assert masked("person", "Ada King-Lovelace") == "A*** K***"
    assert masked("us_ssn", "536-22-1234") == "***-**-**34"
    assert masked("age", "37") == "**"
    assert changed("a bob b", [Span(2, 5, "person")], {"person": redacted}) == "a <PERSON> b"


def test_a_hash_is_hmac_sha256_of_kind_and_value() -> None:
    import hashlib
    import hmac

    want = hmac.new(b"secret", b"email\0joe@a.example", hashlib.sha256).hexdigest()[:16]
    assert hashed(b"secret")("email", "JOE@a.example") == f"<EMAIL:{want}>"
    assert hashed(b"other")("email", "joe@a.example") != f"<EMAIL:{want}>"


def test_fakes_are_consistent_valid_in_form_and_plainly_made() -> None:
    make = fakes.Fakes(b"key")
    assert make("email", "Joe@A.example") == make("email", "joe@a.example") != make("email", "jo@a.example")
    assert make("email", "joe@a.example").endswith("@example.com")
    assert make("phone", "+1 (212) 867-5309") == make("phone", "12128675309")
    assert make("phone", "12128675309")[3:10] == "-555-01"
    for number in range(20):
        card, account = make("card", str(number)), make("iban", str(number))
        assert checks.luhn(card)
        assert (card[:6], len(card)) == ("400000", 16)
        assert checks.iban(account)
        assert account[4:8] == "TEST"
        assert make("ip", f"10.0.0.{number}").rsplit(".", 1)[0] in ("192.0.2", "198.51.100", "203.0.113")
    assert make("us_ssn", "536-22-1234").startswith("000-00-")
    assert make("person", "Ada Smith").split() == [make("person", "Ada"), make("person", "Smith")]
    assert make("person", "ADA smith") == f"{make('person', 'Ada').upper()} {make('person', 'Smith').lower()}"
    assert all(made in fakes.TREES for made in make("person", "Ada Smith").split())


ROW = {
    "messages": [
        {"role": "user", "content": 'I am Margaret Hollis, "m.hollis@mail.example" 😀\nSSN 536-22-1234'},
        {"role": "assistant", "content": "Thank you, Margaret.",
         "tool_calls": [{"function": {"name": "mail", "arguments": '{"to": "m.hollis@mail.example"}'}}]},
    ],
    "author": "Margaret Hollis",
    "count": 3,
}  # fmt: skip
VALUES = ("Margaret", "Hollis", "m.hollis", "536-22", "22-1234")


def test_every_string_of_a_row_is_cleaned_and_the_rest_stays() -> None:
    (row,) = run([ROW]).rows or []
    assert row["messages"][0]["content"] == 'I am <PERSON>, "<EMAIL>" 😀\nSSN <US_SSN>'
    assert row["messages"][1]["content"] == "Thank you, <PERSON>."
    assert json.loads(row["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"to": "<EMAIL>"}
    assert (row["author"], row["count"], row["messages"][0]["role"]) == ("<PERSON>", 3, "user")


def test_cleaning_twice_changes_nothing_more() -> None:
    once = run([ROW]).rows or []
    assert run(once).rows == once
    assert run(once).ledger.steps[0].changed == 0


def test_the_same_value_gets_the_same_fake_across_rows_and_runs() -> None:
    rows = [
        {"prompt": "I am Margaret Hollis.", "completion": "Dear Margaret,"},
        {"text": "Ask Mrs. Hollis, m@a.example"},
    ]
    first, again, other = (
        run(rows, action="replace").rows,
        run(rows, action="replace").rows,
        run(rows, action="replace", key="another").rows,
    )
    assert first == again != other
    assert first is not None
    given, family = first[0]["prompt"].removeprefix("I am ").rstrip(".").split()
    assert first[0]["completion"] == f"Dear {given},"
    assert first[1]["text"].startswith(f"Ask Mrs. {family}, ")


def test_flag_counts_and_leaves_the_text() -> None:
    rows = run([{"text": "a@b.example, c@d.example, 203.0.113.5"}, {"text": "nothing"}], action="flag").rows
    assert rows == [
        {"text": "a@b.example, c@d.example, 203.0.113.5", "personal": {"email": 2, "ip": 1}},
        {"text": "nothing"},
    ]


def test_kinds_actions_allow_and_columns_choose() -> None:
    text = "Support@Our.example or joe@x.example, card 4111111111111111"
    row = run([{"text": text, "note": "joe@x.example"}], kinds=["email"], allow=["support@our.example"]).rows
    assert row == [{"text": "Support@Our.example or <EMAIL>, card 4111111111111111", "note": "<EMAIL>"}]
    done = curate([{"text": text, "note": "joe@x.example"}], [{"personal": {"actions": {"card": "mask"}}}])
    assert done.rows == [{"text": "<EMAIL> or <EMAIL>, card ************1111", "note": "<EMAIL>"}]
    from whet.data.curation.settings import check_curation

    only = curate(
        [{"text": text, "note": "joe@x.example"}], check_curation({"columns": ["note"], "steps": ["personal"]}, "t")
    )
    assert only.rows == [{"text": text, "note": "<EMAIL>"}]


@pytest.mark.parametrize("action", ["redact", "mask", "hash", "replace", "drop", "flag"])
def test_no_value_reaches_ledger_or_rejects(tmp_path: Path, action: str) -> None:
    rows = [ROW, {"text": "clean"}]
    done = curate(rows, [{"personal": {"action": action, "key": "s3cret-key"}}], tmp_path / "out.jsonl")
    ledger = (tmp_path / "out.ledger.json").read_text()
    told = ledger + (tmp_path / "out.rejects.jsonl").read_text()
    assert not [value for value in (*VALUES, "s3cret") if value in told]
    (step,) = json.loads(ledger)["steps"]
    assert step["reasons"] == {"person": 3, "email": 2, "us_ssn": 1}
    assert step["examples"][0]["after"] == "… <PERSON> … <EMAIL> … <US_SSN> … <PERSON> … <EMAIL> … <PERSON> …"
    assert done.ledger.steps[0].dropped == (action == "drop")
    if action == "drop":
        reject = json.loads((tmp_path / "out.rejects.jsonl").read_text())
        assert reject["row"]["messages"][1]["content"] == "Thank you, <PERSON>."


def test_counts_come_from_all_processes_alike(tmp_path: Path) -> None:
    rows = [{"text": f"row {n}: user{n}@mail.example" if n % 2 else f"row {n}"} for n in range(3500)]
    done = curate(rows, [{"personal": {"kinds": ["email"]}}], tmp_path / "out.jsonl")
    assert done.ledger.steps[0].reasons == {"email": 1750}
    assert "@" not in (tmp_path / "out.jsonl").read_text()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kinds": ["emial"]}, "no kind 'emial'.*email"),
        ({"actions": {"phones": "mask"}}, "no kind 'phones'"),
        ({"action": "erase"}, "redact"),
        ({"action": "hash"}, "needs a key"),
        ({"lean": 99}, "lean"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHET_PERSONAL_KEY", raising=False)
    with pytest.raises(RecipeError, match=says):
        run([{"text": "a@b.example"}], **settings)


def test_the_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHET_PERSONAL_KEY", "k")
    by_environment = run([{"text": "a@b.example"}], action="hash").rows
    monkeypatch.delenv("WHET_PERSONAL_KEY")
    assert by_environment == run([{"text": "a@b.example"}], action="hash", key="k").rows


def test_rows_of_odd_content_pass() -> None:
    rows = [
        {"text": ""},
        {"text": None},
        {"n": 1},
        {"text": "\ud7ff\uffff\x00 \u202e"},
        {"list": [["a@b.example"], None]},
    ]
    done = run(rows).rows or []
    assert done[:4] == rows[:4]
    assert done[4] == {"list": [["<EMAIL>"], None]}


@pytest.mark.parametrize(
    "text",
    ["a" * 200_000, "a." * 50_000 + "@", "1 " * 50_000, "1-" * 50_000, "((" * 50_000, "www." * 50_000, "a:" * 50_000,
     "+1" * 50_000, "A1" * 50_000, "x@" * 50_000],
    ids=lambda text: text[:4],
)  # fmt: skip
def test_a_long_text_of_one_thing_holds_nothing(text: str) -> None:
    """Each has a careless expression try every end for every beginning: it would not come back."""
    assert [kind for kind, _ in found(text) if kind != "url"] == []


def test_every_national_id_has_a_rule() -> None:
    from whet.data.personal.national import RULES

    assert {rule.kind for rule in RULES} == set(NATIONAL_IDS)
