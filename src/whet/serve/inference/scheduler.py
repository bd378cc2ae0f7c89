"""The thread that owns a model. Requests come in from any thread; pieces of answers go out after every step.

A batch is of one adapter. Requests for it are let in between steps, rows that end make way, and nothing waits for the
longest answer (`whet.models.decode`). Adapters that have requests take turns of a few steps each; an adapter's rows
keep their place and their cache while others have theirs.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from whet.errors import ModelError
from whet.models.decode import Decoder, token_bytes
from whet.models.language_model import LanguageModel
from whet.models.probe import probe, takes_tries
from whet.models.saved import Side
from whet.serve.inference.choice import Choice, Piece
from whet.serve.inference.choose import Choose
from whet.serve.inference.sequential import Sequential

log = logging.getLogger("whet.serve")

TURN = 16
"""Steps of one adapter before the next has its turn."""

KEPT_BYTES = 2**29
"""Of keys and values that prompts of one name may have in common with prompts to come."""

Result = TypeVar("Result")


class Full(Exception):
    """As many answers wait as may; it holds how many do."""


class Asked:
    """One request: answers to be written. `deliver` is called with pieces, from the scheduler's thread. `leave` when
    nobody reads any more."""

    def __init__(self, choices: Sequence[Choice], deliver: Callable[[list[Piece]], None]):
        self.choices, self.deliver = choices, deliver
        self.left = False

    def leave(self) -> None:
        self.left = True


@dataclass(frozen=True)
class Work:
    """Something else to be done with the model: scores, embeddings."""

    do: Callable[[Turn], Any]
    future: Future[Any]


class Turn:
    """What one name has to do: a side of the model, its requests, and the rows in flight."""

    def __init__(self, side: Side, stop_ids: frozenset[int]):
        self.side, self.stop_ids = side, stop_ids
        self.arrived: deque[Asked] = deque()
        self.work: deque[Work] = deque()
        self.decoder: Decoder | Sequential | None = None
        self.choose = Choose()
        self.asked_by: dict[int, Asked] = {}  # row -> its request
        self._language_model: LanguageModel | None = None

    @property
    def busy(self) -> bool:
        return bool(self.arrived or self.work or self.asked_by)

    @property
    def waiting(self) -> int:
        """Rows and works that have not begun."""
        decoder = self.decoder
        begun = len(decoder.waiting) if decoder is not None else 0
        return begun + sum(len(asked.choices) for asked in list(self.arrived)) + len(self.work)

    @property
    def flight(self) -> int:
        decoder = self.decoder
        return len(decoder.flight) if decoder is not None else 0

    @property
    def language_model(self) -> LanguageModel:
        """On the path that training would take. Only while this side answers."""
        if self._language_model is None:
            vocabulary = int(self.side.model.config.get_text_config().vocab_size)
            self._language_model = LanguageModel(self.side.model, probe(self.side.model, vocabulary).path)
        return self._language_model

    def admit(self) -> None:
        """Requests that have arrived, among the rows that wait."""
        while self.arrived:
            asked = self.arrived[0]
            if self.decoder is None:
                model = self.side.model
                if takes_tries(model):
                    keep = KEPT_BYTES // token_bytes(model)
                    self.decoder = Decoder(model, [], [], self.choose, keep)
                else:
                    self.decoder = Sequential(model, self.choose)
            self._add(self.decoder, asked, asked.choices)
            self.arrived.popleft()  # only now: whatever fails before, it is told

    def _add(self, decoder: Decoder | Sequential, asked: Asked, choices: Sequence[Choice]) -> None:
        prompts = [[*choice.prompt, *choice.ids] for choice in choices]
        rows = decoder.add(prompts, [choice.room - len(choice.ids) for choice in choices])
        for row, choice in zip(rows, choices, strict=True):
            self.choose.choices[row], self.asked_by[row] = choice, asked

    def step(self, at_once: int) -> None:
        """A token more for each row, and what came of it delivered."""
        decoder = self.decoder
        assert decoder is not None, "there are rows"
        self._drop([row for row, asked in self.asked_by.items() if asked.left])
        slots = decoder.slots(at_once)
        if isinstance(decoder, Decoder):
            self._make_room(decoder, slots)
        pieces: dict[Asked, list[Piece]] = {}
        ended, stopped = [], []
        for row, token, last in decoder.step(self.stop_ids, slots):
            choice, asked = self.choose.choices[row], self.asked_by[row]
            if choice.fault is not None:
                piece = Piece(choice.number, "", fault=choice.fault)
            else:
                piece = choice.take(token, token in self.stop_ids, last)
            pieces.setdefault(asked, []).append(piece)
            if piece.finish or piece.fault:
                ended.append(row)
                if not last:
                    stopped.append(row)  # by a string or a fault, of which the decoder knows nothing
        decoder.drop(stopped)
        self._forget(ended)
        for asked, told in pieces.items():
            asked.deliver(told)

    def _make_room(self, decoder: Decoder, slots: int) -> None:
        """Rows that grew until not all fit go back among those that wait, those with least to compute anew."""
        while len(decoder.flight) > slots:
            row = min(decoder.flight, key=lambda row: row.shared + row.own).index
            choice, asked = self.choose.choices[row], self.asked_by[row]
            self._drop([row])
            self._add(decoder, asked, [choice])

    def _drop(self, rows: Sequence[int]) -> None:
        if rows:
            assert self.decoder is not None, "there are rows"
            self.decoder.drop(rows)
            self._forget(rows)

    def _forget(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self.choose.choices[row], self.asked_by[row]

    def fail(self, fault: str) -> None:
        """End all answers with a fault. What the decoder holds may be anything by now, so it is given up."""
        if isinstance(self.decoder, Sequential):
            self.decoder.drop(list(self.asked_by))  # its thread must have ended
        self.decoder = None
        waiting = [(asked, self.choose.choices[row]) for row, asked in self.asked_by.items()]
        while self.arrived:
            asked = self.arrived.popleft()
            waiting += [(asked, choice) for choice in asked.choices]
        self.choose.choices.clear()
        self.asked_by.clear()
        for asked, choice in waiting:
            asked.deliver([Piece(choice.number, "", fault=fault)])
        while self.work:
            self.work.popleft().future.set_exception(ModelError(fault))


class Scheduler:
    """One model in memory under the names of its `sides`, with the tokens at which each one's answers end. At most
    `at_once` rows of a name are in flight, and at most `most_waiting` wait in all."""

    def __init__(self, sides: dict[str, tuple[Side, frozenset[int]]], *, at_once: int = 64, most_waiting: int = 1024):
        self.turns = {name: Turn(side, stop_ids) for name, (side, stop_ids) in sides.items()}
        self.at_once, self.most_waiting = at_once, most_waiting
        self._order = deque(self.turns.values())
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"whet-serve-{next(iter(sides))}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return sum(turn.waiting for turn in self.turns.values())

    @property
    def flight(self) -> int:
        return sum(turn.flight for turn in self.turns.values())

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def ask(self, name: str, asked: Asked) -> None:
        """Have a request answered. Raises Full."""
        with self._room(len(asked.choices)):
            self.turns[name].arrived.append(asked)
            self._changed.notify()

    def do(self, name: str, work: Callable[[Turn], Result]) -> Future[Result]:
        """Have something else done with the model of that name. Raises Full."""
        future: Future[Result] = Future()
        with self._room(1):
            self.turns[name].work.append(Work(work, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """End the thread after the step at hand, and all answers with it."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    @contextmanager
    def _room(self, more: int) -> Iterator[None]:
        """The lock, while something is added. What finds nothing waiting is taken whatever its size."""
        with self._changed:
            waiting = self.waiting
            if self._closing or (waiting and waiting + more > self.most_waiting):
                raise Full(waiting)
            yield

    def _next(self) -> Turn | None:
        """Whose turn it is; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or any(turn.busy for turn in self._order))
            if self._closing:
                return None
            while not self._order[0].busy:
                self._order.rotate(-1)
            turn = self._order[0]
            self._order.rotate(-1)
            return turn

    def _run(self) -> None:
        while (turn := self._next()) is not None:
            try:
                with turn.side.answering():
                    self._take(turn)
            except Exception as error:  # whatever a model does wrong, the others are served on
                log.exception("answers of %s end here", turn.side.name)
                out_of_memory = isinstance(error, torch.OutOfMemoryError)
                turn.fail("out of memory" if out_of_memory else "the model failed; the server's log says why")
        for turn in self.turns.values():
            turn.fail("the server stops")

    def _take(self, turn: Turn) -> None:
        """One turn: one piece of other work, and some steps."""
        if turn.work:
            work = turn.work.popleft()
            if work.future.set_running_or_notify_cancel():
                try:
                    work.future.set_result(work.do(turn))
                except Exception as error:
                    work.future.set_exception(error)
        turn.admit()
        if turn.decoder is None:
            return
        with turn.decoder.running():
            steps = 0
            while turn.asked_by and not self._closing:
                turn.step(self.at_once)
                turn.admit()
                steps += 1
                held = isinstance(turn.decoder, Sequential) and turn.decoder.held
                if steps >= TURN and not held and (turn.work or self._others(turn)):
                    return

    def _others(self, turn: Turn) -> bool:
        return any(other.busy for other in self._order if other is not turn)
