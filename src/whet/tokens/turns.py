"""Which characters of a rendered conversation are learnt: an assistant's turn, from where serving would begin to
generate it to the token at which serving stops.

No content is ever searched for. A template either marks the turns itself (`{% generation %}`), or a turn is what it
writes beyond the prompt that serving would send: render(messages[:i], add_generation_prompt=True).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from whet.errors import TemplateError
from whet.rows import Message

Span = tuple[int, int]


class Written(NamedTuple):
    """What a template wrote; `marks` are the spans between its generation markers, None where it has no markers."""

    text: str
    marks: list[Span] | None


Write = Callable[[list[Message], bool], Written]
"""(messages, add_generation_prompt) -> Written. Raises TemplateError where the template refuses the messages."""


class Endings(NamedTuple):
    """How a template ends an assistant's turn: the tokens that stop it, longest first, and what the template writes
    after the words of a last turn, with how much of that is through the stop."""

    stops: list[str]
    tails: dict[str, int]


@dataclass(frozen=True, slots=True)
class Turn:
    """One learnt turn, in the conversation up to it as the template writes it while this turn is the last."""

    text: str
    spans: list[Span]
    closed: bool = True  # a stop token is written at its end
    as_served: bool = True  # its context is, to the letter, the prompt that serving would send


@dataclass(frozen=True, slots=True)
class Piece:
    """A row as text. `spans` are learnt; so is the end token that is added after the text where `add_stop`."""

    text: str
    spans: list[Span]
    add_stop: bool = False


def find_turn(write: Write, messages: list[Message], index: int, endings: Endings) -> Turn:
    """The turn `messages[index]`, learnt through its stop token; what the template writes after that is not learnt.

    Raises TemplateError where the template writes it so that its beginning cannot be told.
    """
    text, marks = write(messages[: index + 1], False)
    as_served = True
    if marks is None:
        start, as_served = _start(write, messages, index, text)
        spans = [(start, len(text))]
    else:
        spans = _marks_of_last(write, messages, index, marks)
    spans = _joined(spans)
    if not spans:  # the template marks or writes nothing of this turn
        return Turn(text, [], as_served=as_served)
    start, end = spans[-1]
    stop = stop_end(text, start, end, endings)
    return Turn(text, [*spans[:-1], (start, stop or end)], stop is not None, as_served)


def join_turns(turns: Sequence[Turn]) -> list[Piece]:
    """As few rows as are true: an earlier turn is learnt in a later one's row if that begins with the very same text.

    Where a template writes a turn otherwise once others follow it (reasoning dropped, another stop token, none at
    all), the turn gets its own row, which ends with it, as serving would see it. A trie shares their common prefix.
    """
    pieces: list[Piece] = []
    for turn in reversed(turns):
        if not turn.spans:
            continue
        through = turn.text[: turn.spans[-1][1]]
        host = next((piece for piece in pieces if turn.closed and piece.text.startswith(through)), None)
        if host is not None:
            host.spans[:0] = turn.spans
        else:
            pieces.append(Piece(turn.text, list(turn.spans), add_stop=not turn.closed))
    return pieces[::-1]


def stop_end(text: str, start: int, end: int, endings: Endings) -> int | None:
    """Where the stop token ends that closes text[start:end], None where there is none.

    It is the first of the stops and blanks that the turn ends with, whatever the template writes after them; else one
    that follows the turn at once, which is so where a template's markers leave it out.
    """
    if end == len(text):
        known = ((len(text) - len(tail), through) for tail, through in endings.tails.items() if text.endswith(tail))
        end = next((begin + through for begin, through in known if begin >= start), end)
    at, found = end, None
    while at > start:
        stop = next((stop for stop in endings.stops if text.endswith(stop, start, at)), None)
        if stop is not None:
            found, at = at, at - len(stop)
        elif text[at - 1].isspace():
            at -= 1
        else:
            break
    if found is not None:
        return found
    at = end
    while at < len(text) and text[at].isspace():
        at += 1
    stop = next((stop for stop in endings.stops if text.startswith(stop, at)), None)
    return None if stop is None else at + len(stop)


def shared_start(one: str, other: str) -> str:
    """The longest text that both begin with."""
    differ = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(differ, min(len(one), len(other)))]


def _start(write: Write, messages: list[Message], index: int, text: str) -> tuple[int, bool]:
    """Where the turn begins in `text`, which ends with it, and whether that is where serving's prompt ends."""
    before = messages[:index]
    if not before:
        return _start_of_first(write, messages[0], text), True
    prompt = write(before, True).text
    if text.startswith(prompt):
        return len(prompt), True
    # The two may part within the generation prompt (one of them opens or skips <think>), never before it: all that
    # the prompt has in common with the conversation so far must be in the text too.
    shared = len(shared_start(prompt, text))
    if shared < len(shared_start(prompt, write(before, False).text)):
        raise _unclear("the template writes the conversation before it in another way once the turn is there")
    return shared, False


def _start_of_first(write: Write, message: Message, text: str) -> int:
    """A conversation that begins with an answer: its header is what two other answers in its place have in common."""
    one, other = (write([{**message, "content": said}], False).text for said in "AB")
    header = shared_start(one, other)
    if message.get("tool_calls") or not one.startswith("A", len(header)) or not text.startswith(header):
        raise _unclear("the conversation begins with it, and there is no prompt to compare it to")
    return len(header)


def _unclear(why: str) -> TemplateError:
    return TemplateError(
        f"cannot tell where the assistant's turn begins: {why}",
        do="mark the assistant's turns in the template with {% generation %} ... {% endgeneration %}",
    )


def _marks_of_last(write: Write, messages: list[Message], index: int, marks: list[Span]) -> list[Span]:
    """Of all the marked spans those of `messages[index]`, the last. One a turn is usual, but none or more occur."""
    if len(marks) == sum(message["role"] == "assistant" for message in messages[: index + 1]):
        return marks[-1:]
    earlier = write(messages[:index], False).marks if index else None
    return marks[len(earlier or []) :]


def _joined(spans: list[Span]) -> list[Span]:
    """Without empty spans, and those that touch as one."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        elif start < end:
            joined.append((start, end))
    return joined
