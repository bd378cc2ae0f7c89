"""Where an answer's text ends, beside a version that sees all of it at once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from whet.serve.inference.choice import Until

letters = st.text("abc", max_size=4)


@settings(deadline=None, max_examples=300)
@given(st.lists(letters, max_size=12), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_told_is_the_text_up_to_the_first_stop(pieces: list[str], stops: list[str]) -> None:
    until, told, found = Until(stops), "", False
    for number, piece in enumerate(pieces):
        more, found = until.add(piece)
        told += more
        sofar = "".join(pieces[: number + 1])
        places = [sofar.find(stop) for stop in stops if stop in sofar]
        assert found == bool(places)
        if found:
            assert told == sofar[: min(places)]
            return
        assert sofar.startswith(told)
        rest = sofar[len(told) :]
        assert not rest or any(stop.startswith(rest) for stop in stops), "nothing is held back without need"
    assert told + until.rest() == "".join(pieces)
