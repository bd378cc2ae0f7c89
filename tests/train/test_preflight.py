"""The ledger: what becomes of rows that are too long, empty or doubled, and when a run stops before it starts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from whet.errors import PreflightError, StorageError
from whet.recipe import Recipe, check_recipe
from whet.rows import Example
from whet.tokens.template import Renderer
from whet.train.preflight import Prepared, check, prepare, show, write

Make = Callable[[], Any]


@pytest.fixture
def letters() -> Any:
    """A token a letter: lengths can be counted by hand. A talk is <s> U question E A answer E, so 5 and its letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.add_special_tokens({"additional_special_tokens": ["<U>", "<A>", "<E>"]})
    fast.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ '<A>' if m.role == 'assistant' else '<U>' }}{{ m.content }}<E>"
        "{% endfor %}{{ '<A>' if add_generation_prompt }}"
    )
    return fast


def talk(place: int, question: str = "q", answer: str = "a", **settings: Any) -> Example:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **settings}]
    return Example(f"a.jsonl:{place}", "conversation", messages=messages)


def recipe(**preflight: Any) -> Recipe:
    return check_recipe({"data": "a.jsonl", "train": {"max_length": 20}, "preflight": preflight}, "test")


def prepared(letters: Any, train: list[Example], validation: list[Example] | None = None, **settings: Any) -> Prepared:
    return prepare(recipe(**settings), Renderer(letters), train, validation or [], max_length=20)


def test_rows_that_fit_are_kept_whole_and_counted(letters: Any) -> None:
    talks = [talk(1), talk(2, answer="a" * 14), Example("b.txt:1", "text", text="hello")]
    done = prepared(letters, talks, [talk(9, "v")])
    assert [len(row) for row in done.train] == [7, 20, 6]
    side = done.ledger.train
    assert (side.read, side.kept, side.sequences, side.lost) == (3, 3, 3, 0)
    assert (side.tokens, side.target_tokens) == (33, 2 + 15 + 5)
    assert side.lengths == {"median": 7, "90 %": 20, "99 %": 20, "longest": 20}
    assert (done.ledger.validation.read, done.ledger.validation.tokens) == (1, 7)
    assert not done.ledger.plain_template
    check(done.ledger, recipe())


def test_cut_loses_the_end_and_says_so(letters: Any) -> None:
    talks = [*(talk(i) for i in range(1, 8)), talk(8, answer="a" * 15), talk(9, answer="a" * 40), talk(10)]
    done = prepared(letters, talks)
    assert [len(row) for row in done.train][7:9] == [20, 20]
    assert done.ledger.train.cut.rows == 2
    assert done.ledger.train.cut.first == ["a.jsonl:8 (21 tokens)", "a.jsonl:9 (46 tokens)"]
    assert done.ledger.train.kept == 10
    with pytest.raises(PreflightError) as caught:
        check(done.ledger, recipe())
    message = str(caught.value)
    assert "2 of 10 training rows (20.0%) lose something at 20 tokens" in message
    assert "2 cut: a.jsonl:8 (21 tokens), a.jsonl:9 (46 tokens)" in message
    assert "train.max_length=46 keeps every row whole" in message
    assert "preflight.max_loss_share=0.2 allows it" in message
    assert "split" not in message  # a conversation cannot be
    check(done.ledger, recipe(max_loss_share=0.2))
    longer = prepare(recipe(), Renderer(letters), talks, [], max_length=46)
    check(longer.ledger, recipe())


def test_the_share_that_is_advised_is_enough(letters: Any) -> None:
    talks = [talk(i, answer="a" * (30 if i < 7 else 1)) for i in range(200)]
    ledger = prepared(letters, talks).ledger
    with pytest.raises(PreflightError, match=r"preflight\.max_loss_share=0\.035 allows it"):
        check(ledger, recipe())
    check(ledger, recipe(max_loss_share=0.035))
    with pytest.raises(PreflightError, match=r"preflight\.max_loss_share=0\.016 allows it"):
        check(prepared(letters, talks[5:132]).ledger, recipe())  # 2 of 127, 1.57 %


def test_what_lies_after_the_last_target_is_no_loss(letters: Any) -> None:
    example = talk(1, answer="a" * 10)
    example.messages.append({"role": "assistant", "content": "b" * 30, "weight": 0})
    done = prepared(letters, [example])
    assert letters.decode(done.train[0].ids[done.train[0].targets]) == "a" * 10 + "<E>"
    assert done.ledger.train.lost == 0
    # The same where the template itself writes something after the answer.
    letters.chat_template += "{{ '.' * 30 if not add_generation_prompt }}"
    done = prepared(letters, [talk(1)])
    assert (len(done.train[0]), done.ledger.train.lost) == (7, 0)


def test_drop_leaves_long_rows_out(letters: Any) -> None:
    done = prepared(letters, [talk(1), talk(2, answer="a" * 30)], too_long="drop")
    assert [row.place for row in done.train] == ["a.jsonl:1"]
    assert done.ledger.train.dropped.first == ["a.jsonl:2 (36 tokens)"]
    assert (done.ledger.train.read, done.ledger.train.kept) == (2, 1)
    with pytest.raises(PreflightError, match=r"1 dropped: a\.jsonl:2"):
        check(done.ledger, recipe(too_long="drop"))


def test_split_makes_pieces_of_a_text_in_which_every_token_is_predicted_once(letters: Any) -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(70))
    done = prepared(letters, [Example("b.txt:1", "text", text=text), talk(2, answer="a" * 30)], too_long="split")
    pieces = [row for row in done.train if row.place == "b.txt:1"]
    assert all(len(piece) <= 20 for piece in pieces)
    predicted = "".join(letters.decode(piece.ids[1:][piece.targets[1:]]) for piece in pieces)
    assert text[0] + predicted == text + "</s>"
    side = done.ledger.train
    assert (side.split.rows, side.cut.rows, side.sequences) == (1, 1, len(pieces) + 1)  # a conversation cannot be split
    with pytest.raises(PreflightError) as caught:
        check(done.ledger, recipe(too_long="split"))
    assert "too_long=split" not in str(caught.value)
    with pytest.raises(PreflightError, match=r"preflight\.too_long=split makes several rows"):
        check(prepared(letters, [Example("b.txt:1", "text", text=text)]).ledger, recipe())


def test_rows_without_a_target_stop_the_run(letters: Any) -> None:
    no_answer = Example("a.jsonl:2", "conversation", messages=[{"role": "user", "content": "q"}])
    beyond = talk(4, question="q" * 30)
    done = prepared(letters, [talk(1), no_answer, talk(3, weight=0), beyond])
    assert [row.place for row in done.train] == ["a.jsonl:1"]
    with pytest.raises(PreflightError) as caught:
        check(done.ledger, recipe(max_loss_share=1))
    message = str(caught.value)
    assert "3 of 4 training rows have nothing to learn: a.jsonl:2 (no turn of the assistant), " in message
    assert (
        "a.jsonl:3 (every turn of the assistant has weight 0), a.jsonl:4 (all of it lies beyond 20 tokens)" in message
    )
    assert "train.max_length=36" in message
    assert "preflight.nothing_to_learn=drop" in message
    check(done.ledger, recipe(max_loss_share=1, nothing_to_learn="drop"))
    with pytest.raises(PreflightError, match="; 1 more are cut or dropped"):
        check(prepared(letters, [no_answer, talk(5, answer="a" * 20)]).ledger, recipe())
    with pytest.raises(PreflightError, match="3 without anything to learn"):
        check(done.ledger, recipe(nothing_to_learn="drop"))
    with pytest.raises(PreflightError, match="no training row is left"):
        check(prepared(letters, [no_answer]).ledger, recipe(max_loss_share=1, nothing_to_learn="drop"))


def test_validation_is_checked_like_training(letters: Any) -> None:
    done = prepared(letters, [talk(1)], [talk(2, answer="a" * 30)])
    with pytest.raises(PreflightError, match="1 of 1 validation rows"):
        check(done.ledger, recipe())


def test_where_the_model_is_the_limit_no_longer_rows_are_advised(letters: Any) -> None:
    done = prepare(recipe(), Renderer(letters), [talk(1, answer="a" * 10)], [], max_length=12)
    with pytest.raises(PreflightError) as caught:
        check(done.ledger, recipe())
    assert "train.max_length" not in str(caught.value)
    assert "the model takes 12 tokens" in str(caught.value)


def test_several_rows_of_one_conversation_are_one_row_of_the_users(letters: Any) -> None:
    letters.chat_template = letters.chat_template.replace("<E>", "")  # no stop token: a row a turn
    example = talk(1)
    example.messages.extend(talk(1, "q" * 20, "b").messages)
    done = prepared(letters, [example])
    side = done.ledger.train
    assert (side.read, side.kept, side.sequences, side.cut.rows, side.nothing_to_learn.rows) == (1, 1, 1, 1, 0)
    assert side.lengths["longest"] == 5 + 1 + 20 + 1 + 1 + 1  # <s> U q A a, U, the question, A, b, </s>


def test_rows_in_both_sets_and_other_contexts_are_named(letters: Any) -> None:
    letters.chat_template = letters.chat_template.replace(
        "'<A>' if add_generation_prompt", "'<A><think>' if add_generation_prompt"
    )
    done = prepared(letters, [talk(1), talk(2, "other")], [talk(7)])
    assert done.ledger.duplicated.first == ["a.jsonl:1"]
    assert done.ledger.unlike_serving.rows == 3
    check(done.ledger, recipe())
    screen = io.StringIO()
    show(done.ledger, Console(file=screen, width=100))
    assert "in training and in validation: a.jsonl:1" in screen.getvalue()
    assert "another context than the prompt that serving sends" in screen.getvalue()


def test_the_ledger_is_written_as_json_and_shown(letters: Any, tmp_path: Path) -> None:
    letters.chat_template = None
    train = [talk(i, answer="a" * i) for i in range(30, 37)]
    done = prepare(recipe(), Renderer(letters), train, [talk(99)], max_length=60)
    write(done.ledger, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["preflight.json"]
    tree = json.loads((tmp_path / "preflight.json").read_text())
    lengths = [len(f"<>### User:\nq\n\n### Assistant:\n{'a' * i}>\n\n") - 1 for i in range(30, 37)]
    assert tree["train"]["lengths"]["longest"] == max(lengths)
    cut = [length for length in lengths if length - 2 > 60]  # the line breaks after the end are not needed
    assert tree["train"]["cut"] == len(cut) == 6
    assert tree["train"]["cut_first"] == [f"a.jsonl:{31 + i} ({length - 2} tokens)" for i, length in enumerate(cut[:5])]
    assert tree["plain_template"] is True
    assert tree["validation"]["read"] == 1
    assert "dropped_first" not in tree["train"]
    screen = io.StringIO()
    show(done.ledger, Console(file=screen, width=100))
    lines = [line.split() for line in screen.getvalue().splitlines()]
    assert ["read", "7", "1"] in lines
    assert ["cut", "6", "0"] in lines
    assert "no chat template of its own" in screen.getvalue()
    with pytest.raises(StorageError):
        write(done.ledger, tmp_path / "nowhere")
