"""`whet chat`: a conversation with a run or any model, alone or beside the model before training."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from whet.cli.generate import Base, MaxNewTokens, Run, Seed, System, Temperature, TopP, open_for_answers, printable
from whet.errors import RowError, WhetError, did_you_mean
from whet.rows import Message

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from whet.models.saved import Side
    from whet.tokens.template import Renderer

COMMANDS = {
    "/reset": "begin anew with the same system prompt",
    "/undo": "take back the last question and its answer",
    "/system": "/system TEXT: begin anew with this system prompt; without TEXT, with none",
    "/help": "list the commands",
    "/quit": "leave; so does Ctrl-D",
}

_TWO_COLUMNS = 100  # characters; on a narrower terminal one answer is shown under the other


def chat(
    run: Run = "whet-tiny",
    base: Base = False,
    system: System = None,
    temperature: Temperature = 0.7,
    top_p: TopP = 1.0,
    max_new_tokens: MaxNewTokens = 512,
    seed: Seed = 0,
) -> None:
    """Talk with a run or any model. From a pipe, each line is a question."""
    from rich.console import Console

    from whet.tokens.template import Renderer

    console = Console(highlight=False, markup=False)
    speakers = [Speaker(side, Renderer(side.tokenizer)) for side in open_for_answers(run, base)]
    settings = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
    talk = Talk(console, speakers, settings, seed, system)
    if sys.stdin.isatty():
        console.print(f"{run}: /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves", style="dim")
    talk.hold(_typed(console) if sys.stdin.isatty() else _piped())


@dataclass
class Speaker:
    """One model with its own side of the conversation: it goes on from what it said itself."""

    side: Side
    renderer: Renderer
    messages: list[Message] = field(default_factory=list)

    def answer(self, question: str, **settings: Any) -> Generator[str, None, None]:
        """The answer, piece by piece. What has been said so far is in `messages`, wherever the answer is left."""
        from whet.models.generate import stream

        asked = [*self.messages, {"role": "user", "content": question}]
        ids = self.renderer.prompt(asked)
        answer = {"role": "assistant", "content": ""}
        self.messages = [*asked, answer]
        pieces = stream(self.side.model, self.side.tokenizer, ids, stop_ids=self.renderer.stop_ids, **settings)
        with self.side.answering(), closing(pieces):
            for piece in pieces:
                answer["content"] += piece
                yield piece


@dataclass
class Talk:
    """A conversation with one or two speakers at once. Every answer draws from a seed of its own, so that a question
    asked again gets another answer and the whole is the same the next time."""

    console: Console
    speakers: list[Speaker]
    settings: dict[str, Any]
    seed: int
    system: str | None

    def hold(self, lines: Iterable[str]) -> None:
        """Answer each line, or do as it says, until the lines end or one of them leaves."""
        self._begin()
        for line in lines:
            if line.strip() == "/quit":
                return
            if line.startswith("/"):
                self._do(*line.strip().split(maxsplit=1))
            elif line.strip():
                self._ask(line.strip())

    def _begin(self) -> None:
        for speaker in self.speakers:
            speaker.messages = [{"role": "system", "content": self.system}] if self.system else []

    def _do(self, command: str, text: str = "") -> None:
        if command == "/reset":
            self._begin()
        elif command == "/undo":
            for speaker in self.speakers:
                asked = [place for place, message in enumerate(speaker.messages) if message["role"] == "user"]
                del speaker.messages[asked[-1] if asked else len(speaker.messages) :]
        elif command == "/system":
            self.system = text or None
            self._begin()
        elif command == "/help":
            self._write("".join(f"{name:8} {meaning}\n" for name, meaning in COMMANDS.items()))
        else:
            self.console.print(f"no such command: {command}.{did_you_mean(command, COMMANDS)} /help lists them all")

    def _ask(self, question: str) -> None:
        """Show every speaker's answer. A question that one of them cannot answer is forgotten by all."""
        before = [list(speaker.messages) for speaker in self.speakers]
        side_by_side = len(self.speakers) > 1 and self.console.is_terminal and self.console.width >= _TWO_COLUMNS
        try:
            if side_by_side:
                self._show_columns(question)
            else:
                for speaker in self.speakers:
                    self._show(speaker, question)
        except WhetError as error:
            self.console.print(str(error))
            for speaker, messages in zip(self.speakers, before, strict=True):
                speaker.messages = messages
        self.seed += 1

    def _answer(self, speaker: Speaker, question: str) -> Iterator[str]:
        """The answer as it is to be shown, until it ends or Ctrl-C stops it."""
        with _ctrl_c() as stopped, closing(speaker.answer(question, seed=self.seed, **self.settings)) as pieces:
            for piece in pieces:
                yield printable(piece) if self.console.is_terminal else piece
                if stopped.is_set():
                    yield " (stopped)"
                    return

    def _show(self, speaker: Speaker, question: str) -> None:
        if len(self.speakers) > 1:
            self.console.print(f"[{speaker.side.name}]", style="bold", soft_wrap=True)
        for piece in self._answer(speaker, question):
            self._write(piece)
        self._write("\n")

    def _write(self, piece: str) -> None:
        """As it is: rich would turn tabs into blanks, and hold back what does not end a line."""
        self.console.file.write(piece)
        self.console.file.flush()

    def _show_columns(self, question: str) -> None:
        """Both answers beside each other, the one written after the other."""
        from rich.live import Live

        told = ["" for _ in self.speakers]
        with Live(self._columns(told), console=self.console, transient=True) as live:
            for number, speaker in enumerate(self.speakers):
                for piece in self._answer(speaker, question):
                    told[number] += piece
                    live.update(self._columns(told))
        self.console.print(self._columns(told))

    def _columns(self, told: list[str]) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(expand=True, padding=(0, 2, 1, 0))
        for _ in told:
            table.add_column(ratio=1)
        table.add_row(*(Text(speaker.side.name, style="bold") for speaker in self.speakers))
        table.add_row(*map(Text, told))
        return table


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Within it Ctrl-C sets the event; pressed twice it is KeyboardInterrupt as ever.

    That exception could come anywhere and be lost: Python drops one that is raised in a `__del__`.
    """
    pressed = threading.Event()

    def press(number: int, frame: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _typed(console: Console) -> Iterator[str]:
    with suppress(ImportError):
        import readline  # noqa: F401  (its mere presence gives `input` a history and arrow keys)
    while True:
        try:
            yield input("> ")
        except EOFError:
            console.print()
            return
        except KeyboardInterrupt:
            console.print("\nCtrl-D or /quit leaves", style="dim")


def _piped() -> Iterator[str]:
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise RowError(f"not text in UTF-8: {error.reason}", where="standard input") from None
