"""`whet tokens`: train a tokenizer, extend a model's, compare some on your rows, look at a row's tokens."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from whet.errors import RecipeError, RowError

if TYPE_CHECKING:
    from whet.rows import Row
    from whet.tokens.report import Figures

app = typer.Typer(
    no_args_is_help=True, help="Train a tokenizer, extend a model's vocabulary, measure and look at tokens."
)

Columns = Annotated[
    str,
    typer.Option("--columns", help="Columns with text, by commas; a.b goes inside. Default: the rows' known shape."),
]
Seed = Annotated[int, typer.Option("--seed", help="Of rows drawn by path#500.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="A new folder.")]


@app.command("train")
def train(
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Files, folders, hub:NAME; path#5000 samples.")],
    output: Output,
    kind: Annotated[
        Literal["bpe", "unigram", "sentencepiece-bpe"],
        typer.Option(help="bpe (byte-level), unigram or sentencepiece-bpe."),
    ] = "bpe",
    vocab_size: Annotated[int, typer.Option(help="Entries in all, special tokens and bytes included.")] = 32_000,
    columns: Columns = "",
    normalizer: Annotated[
        Literal["nfc", "none", "nfkc", "nfkc-lower"], typer.Option(help="nfc, none, nfkc or nfkc-lower.")
    ] = "nfc",
    digits_alone: Annotated[bool, typer.Option(help="Each digit its own token.")] = True,
    bos: Annotated[str | None, typer.Option(help="Token that begins a text; none by default.")] = None,
    eos: Annotated[str, typer.Option(help="Token that ends a text.")] = "<|endoftext|>",
    pad: Annotated[str | None, typer.Option(help="Padding token; that of --eos by default.")] = None,
    special: Annotated[list[str] | None, typer.Option(help="One more special token; may be repeated.")] = None,
    chat_template: Annotated[
        str, typer.Option(help="A Jinja file; `chatml`, with its two tokens; or `none`.")
    ] = "chatml",
    validation: Annotated[float, typer.Option(min=0, max=0.5, help="Share of texts to measure on alone.")] = 0.0,
    beside: Annotated[list[str] | None, typer.Option(help="A tokenizer to measure on these too; repeatable.")] = None,
    seed: Seed = 0,
) -> None:
    """Train a tokenizer on the texts of your rows, and save it as a fast Hugging Face tokenizer."""
    from whet.tokens.folder import check_free
    from whet.tokens.report import compare
    from whet.tokens.train import Settings, train_tokenizer

    check_free(output)
    others = {name: tokenizer_of(name) for name in beside or []}
    settings = Settings(
        kind, vocab_size, normalizer, digits_alone, bos, eos, pad, tuple(special or ()), _template(chat_template)
    )
    with _texts(data, columns, seed, "training") as texts:
        learnt = (text for _, text in texts if not _held_out(text, validation))
        tokenizer = train_tokenizer(learnt, output, settings)
    typer.echo(f"{output}: {kind}, {len(tokenizer):,} entries, {len(settings.all_special)} of them special")
    if validation:
        with _texts(data, columns, seed, "measuring") as texts:
            kept = ((place, text) for place, text in texts if _held_out(text, validation))
            _print(compare({output.name: tokenizer, **others}, kept))


def _template(given: str) -> str | None:
    if given in ("chatml", "none"):
        return None if given == "chatml" else ""
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read: {error}", where=f"--chat-template {given}") from None


def _held_out(text: str, share: float) -> bool:
    """Whether a text is kept for measuring: by its content, so that equal ones are on one side."""
    import hashlib

    drawn = int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big")
    return drawn < share * 2**64


@app.command("extend")
def extend(
    model: Annotated[str, typer.Argument(help="A name on the hub or a folder.")],
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Files, folders, hub:NAME; path#5000 samples.")],
    output: Output,
    add: Annotated[int, typer.Option(min=1, help="So many new entries, chosen on the rows.")] = 200,
    terms: Annotated[Path | None, typer.Option(help="Add these instead: a term a line.")] = None,
    form: Annotated[
        Literal["words", "merges"] | None,
        typer.Option(help="words: taken whole; merges: BPE gone on. Default: words where it can be."),
    ] = None,
    fit: Annotated[bool, typer.Option(help="Fit the new rows on some of the texts, all else as it is.")] = True,
    columns: Columns = "",
    seed: Seed = 0,
) -> None:
    """Add a domain's words to a model's vocabulary; their embeddings begin from the pieces they replace."""
    named = _lines(terms) if terms is not None else None
    from whet.models.extend import extend as run

    with _texts(data, columns, seed, "reading") as texts:
        read = (text for _, text in texts)
        done = run(model, read, output, add=add, terms=named, form=form, fit=fit, seed=seed, say=_say)
    saved = 1 - done.tokens_after / max(1, done.tokens_before)
    typer.echo(f"{done.folder}: {len(done.tokens)} new entries ({done.form}), such as {_some(done.tokens)}")
    typer.echo(f"tokens of their words: {done.tokens_before:,} -> {done.tokens_after:,} ({saved:.1%} fewer)")
    change = done.bits_after / done.bits_before - 1
    typer.echo(f"bits a byte on some of them: {done.bits_before:.4f} -> {done.bits_after:.4f} ({change:+.1%})")
    for name, why in done.left_out:
        typer.echo(f"! left out: {name!r}: {why}")
    ids = f"$(seq -s, {done.first_id} {done.first_id + len(done.tokens) - 1})"
    typer.echo(f'whet train model={done.folder} data=... "method.trainable_token_indices=[{ids}]"')


def _some(tokens: list[str]) -> str:
    return ", ".join(repr(token) for token in tokens[:8])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(f"cannot be read: {error}", where=f"--terms {path}") from None


@app.command("report")
def report(
    words: Annotated[
        list[str], typer.Argument(metavar="MODEL... DATA", help="Tokenizers (models' folders or names), then the rows.")
    ],
    columns: Columns = "",
    html: Annotated[Path | None, typer.Option(help="Write the report as a page too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    seed: Seed = 0,
) -> None:
    """What tokenizers make of your rows, side by side."""
    from whet.tokens.report import compare

    *models, data = words
    if not models:
        raise RecipeError("one word alone: a tokenizer or the rows are missing", where="whet tokens report")
    tokenizers = {name: tokenizer_of(name) for name in models}
    with _texts([data], columns, seed, "measuring") as texts:
        found = compare(tokenizers, texts)
    if html is not None:
        from whet.cli.tokens_page import page
        from whet.look import write_whole

        write_whole(html, page(found, f"{found[0].texts:,} texts, {found[0].bytes / 1e6:.2f} MB of {data}"))
    if as_json:
        typer.echo(json.dumps([figures.tree() for figures in found], indent=1, ensure_ascii=False))
    else:
        _print(found)


def _print(found: list[Figures]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from whet.cli.tokens_page import notices_of, table_of, words_text

    header, rows = table_of(found)
    table = Table(header[0], box=None, pad_edge=False)
    for name in header[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    # A pipe has no width, and the 80 columns that rich takes it for would fold every cell.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(table)
    for figures in found:
        console.print(Text(f"\n{figures.name}", "bold"))
        console.print(Text(f"  cost most: {words_text(figures.costliest)}"), soft_wrap=True)
        console.print(Text(f"  longest:   {words_text(figures.longest[:5])}"), soft_wrap=True)
    for notice in notices_of(found):
        console.print(Text(f"! {notice}"), soft_wrap=True)


@app.command("show")
def show(
    model: Annotated[str, typer.Argument(help="A model's folder or name, or a tokenizer's folder.")],
    what: Annotated[str, typer.Argument(metavar="TEXT|DATA", help="A text; or a file of rows, with --row.")],
    row: Annotated[int | None, typer.Option("--row", min=1, help="This row of the file, counted from 1.")] = None,
    ids: Annotated[bool, typer.Option("--ids/--no-ids", help="Each token's number behind it.")] = True,
) -> None:
    """A text's tokens in colour. A conversation goes through the chat template; what is learnt is set off."""
    from rich.console import Console
    from rich.text import Text

    from whet.cli.tokens_page import coloured

    tokenizer = tokenizer_of(model)
    console = Console(highlight=False)
    colour = console.color_system is not None
    for shown in _rows(tokenizer, what, row):
        head = f"{len(shown):,} tokens, {len(tokenizer.decode(shown.ids).encode()):,} bytes"
        if row is not None:
            special, learnt = ("bold red", "underlined") if colour else ("in ‹›", "in «»")
            head = f"{shown.place}: {head}, {shown.target_count:,} learnt ({learnt}; special tokens {special})"
        console.print(Text(head, "bold"), soft_wrap=True)
        console.print(coloured(tokenizer, shown, colour, ids), soft_wrap=True)


def _rows(tokenizer: Any, what: str, number: int | None) -> list[Row]:
    """The rows that a text, or a row of a file, becomes."""
    import numpy as np

    from whet.rows import Row

    if number is None:
        try:
            what.encode()
        except UnicodeEncodeError:
            raise RowError("bytes that are no UTF-8", where="the text", do="give it in a file") from None
        token_ids = tokenizer(what, add_special_tokens=False, verbose=False)["input_ids"]
        return [Row(np.array(token_ids, dtype=np.int32), np.zeros(len(token_ids), dtype=bool))]
    from whet.data import read
    from whet.objectives.sft import SFT
    from whet.recipe import DataPart, SFTPart
    from whet.tokens.template import Renderer

    examples = read([DataPart(path=what)])
    if number > len(examples):
        raise RowError(f"there is no row {number}", where=what, do=f"give --row 1 to {len(examples)}")
    return SFT.rows(examples[number - 1], Renderer(tokenizer), SFTPart())


def tokenizer_of(name: str) -> Any:
    """The tokenizer of a model, or of a folder that holds a tokenizer alone. Raises ModelError."""
    from whet.models.load import load_tokenizer, load_tokenizer_alone
    from whet.recipe import ModelPart

    folder = Path(name).expanduser()
    if folder.is_dir() and (folder / "tokenizer.json").is_file() and not (folder / "config.json").is_file():
        return load_tokenizer_alone(folder)
    return load_tokenizer(ModelPart(name=name))


def _say(text: str) -> None:
    typer.echo(text, err=True)


@contextmanager
def _texts(data: list[str], columns: str, seed: int, doing: str) -> Iterator[Iterator[tuple[str, str]]]:
    """(place, text) of the rows, with a count on a terminal."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from whet.data.texts import texts

    console = Console(stderr=True)
    shown = [SpinnerColumn(), TextColumn(doing), MofNCompleteColumn(), TextColumn("texts"), TimeElapsedColumn()]
    bar = Progress(*shown, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("", total=None)

    def counted(done: Callable[[int], None]) -> Iterator[tuple[str, str]]:
        for number, each in enumerate(texts(data, [name for name in columns.split(",") if name], seed), 1):
            if number % 100 == 0:
                done(number)
            yield each

    with bar:
        yield counted(lambda number: bar.update(task, completed=number))
