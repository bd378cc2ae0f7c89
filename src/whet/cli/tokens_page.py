"""What `whet tokens report` and `show` print and write: a table, a page, a text in colours."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from whet.rows import Row
    from whet.tokens.report import Figures, Word

BACKGROUNDS = ("on grey23", "on dark_blue")


def table_of(all_figures: Sequence[Figures]) -> tuple[list[str], list[list[str]]]:
    """A header, and a line a tokenizer."""
    header = [
        "tokenizer", "vocabulary", "bytes a token", "tokens a word", "tokens", "a text: median", "95 %", "most",
        "unknown", "single bytes", "used", "changed",
    ]  # fmt: skip
    rows = []
    for figures in all_figures:
        tree = figures.tree()
        lengths = tree["tokens_per_text"]
        rows.append([
            figures.name, f"{figures.vocabulary:,}", f"{tree['bytes_per_token']:.3f}",
            f"{tree['tokens_per_word']:.3f}", f"{figures.tokens:,}", *(f"{lengths[name]:,.0f}" for name in lengths),
            f"{figures.unknown:,}", f"{tree['single_byte_share']:.1%}", f"{tree['vocabulary_used']:.0%}",
            f"{figures.changed:,}",
        ])  # fmt: skip
    return header, rows


def notices_of(all_figures: Sequence[Figures]) -> list[str]:
    """What should not be overlooked."""
    notices = []
    for figures in all_figures:
        if figures.unknown:
            notices.append(f"{figures.name}: {figures.unknown:,} tokens are unknown: what they stood for is lost")
        if figures.first_changed:
            place, text, back = figures.first_changed
            notices.append(
                f"{figures.name}: {figures.changed:,} of {figures.texts:,} texts do not come back to the letter, the "
                f"first at {place}: {text!a} comes back as {back!a}"
            )
    return notices


def words_text(words: Sequence[Word]) -> str:
    """`in·demn·ify (12)`, some of them."""
    return ", ".join("·".join(word.pieces[:12]).strip() + f" ({word.count:,})" for word in words)


def page(all_figures: Sequence[Figures], under: str) -> str:
    """The report as one HTML file with everything in it."""
    from jinja2 import Environment, StrictUndefined

    from whet.look import css

    text = files(__package__).joinpath("tokens_page.html.j2").read_text(encoding="utf-8")
    header, rows = table_of(all_figures)
    best = max(all_figures, key=lambda figures: figures.bytes / max(1, figures.tokens))
    return (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(text)
        .render(
            css=css(), header=header, rows=rows, all=all_figures, notices=notices_of(all_figures), under=under,
            headline=f"{best.name}: {best.bytes / max(1, best.tokens):.2f} bytes a token",
        )
    )  # fmt: skip


def coloured(tokenizer: Any, row: Row, colour: bool, ids: bool) -> Text:
    """A row's tokens as text on alternating backgrounds, or apart by `|` where there is no colour. Special tokens are
    bold red, or in ‹›; what is learnt is underlined, or between «»."""
    from rich.text import Text

    from whet.tokens.pieces import Bytes
    from whet.tokens.report import readable

    as_bytes = Bytes(tokenizer)
    special = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
    learnt = row.targets.copy()
    learnt[:1] = False
    text = Text()
    for number, token in enumerate(row.ids.tolist()):
        piece = _seen(readable(as_bytes.of(token)))
        number_shown = f"[{token}]" if ids else ""
        if colour:
            style = BACKGROUNDS[number % 2]
            style += " bold red" if token in special else ""
            text.append(piece.rstrip("\n"), style + (" underline" if learnt[number] else ""))
            text.append(number_shown, "dim")
            text.append("\n" * (len(piece) - len(piece.rstrip("\n"))))
            continue
        begins = learnt[number] and not learnt[number - 1]
        ends = learnt[number] and (number + 1 == len(row) or not learnt[number + 1])
        shown = f"‹{piece}›" if token in special else piece
        separator = "|" if number and not text.plain.endswith("\n") else ""
        text.append(f"{separator}{'«' if begins else ''}{shown}{number_shown}{'»' if ends else ''}")
    return text


def _seen(piece: str) -> str:
    """Line ends and control characters made visible; a line end is kept as well."""
    return "".join(
        "↵\n" if c == "\n" else "→" if c == "\t" else c if c.isprintable() or c == " " else f"<{ord(c):02X}>"
        for c in piece
    )
