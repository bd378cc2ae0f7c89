"""`whet chat` and `whet generate`, from a pipe and on a terminal, against what the models say when asked directly."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from rich.console import Console
from typer.testing import CliRunner

from whet.cli import chat, generate
from whet.errors import RowError, RunError, WhetError
from whet.models.generate import sample
from whet.models.saved import open_run, open_sides
from whet.tokens.template import Renderer

app = typer.Typer()
app.command("chat")(chat.chat)
app.command("generate")(generate.generate)


def whet(*words: object, said: str = "") -> str:
    """Standard output of a command that ends well."""
    result = CliRunner().invoke(app, [str(word) for word in words], input=said)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def answer(run: Path, messages: list[dict[str, str]], base: bool = False, length: int = 8, **settings: Any) -> str:
    """The answer of the run, asked without the command line."""
    loaded = open_run(run, base=base)
    renderer = Renderer(loaded.tokenizer)
    prompts = [renderer.prompt(messages)]
    stop = renderer.stop_ids
    return sample(loaded.model, loaded.tokenizer, prompts, stop_ids=stop, max_new_tokens=length, **settings)[0].text


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


GREEDY = ("--temperature", "0", "--max-new-tokens", "8")


def test_generate_answers_one_prompt_with_nothing_around_it(lora_run: Path) -> None:
    assert whet("generate", lora_run, "the cat", "--max-new-tokens", 8) == answer(lora_run, [user("the cat")]) + "\n"


@pytest.mark.parametrize("kind", ["lora_run", "full_run"])
def test_generate_as_json_with_the_base_beside_it(kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    out = whet("generate", run, "the cat", "the dog", "--base", "--json", "--max-new-tokens", 8)
    rows = [json.loads(line) for line in out.split("\n") if line]
    assert [row["prompt"] for row in rows] == ["the cat", "the dog"]
    for row in rows:
        assert row["completion"] == answer(run, [user(row["prompt"])])
        assert row["base"] == answer(run, [user(row["prompt"])], base=True) != row["completion"]
        assert row["stopped"] is False


def test_generate_reads_files_of_prompts(lora_run: Path, tmp_path: Path) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text("the cat\n\nthe dog\r\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "the cat", "answer": 1}\n{"prompt": [{"role": "user", "content": "the dog"}]}\n')
    talks = tmp_path / "talks.jsonl"
    talk = [user("the cat"), says("mat"), user("the dog"), says("rug")]
    talks.write_text(json.dumps({"messages": talk}) + "\n")
    asked = {
        path: [json.loads(line) for line in whet("generate", lora_run, "--file", path, "--json", *GREEDY).splitlines()]
        for path in (lines, rows, talks)
    }
    assert asked[lines] == asked[rows]
    assert [row["prompt"] for row in asked[lines]] == ["the cat", "the dog"]
    (last,) = asked[talks]
    assert last["prompt"] == talk[:3]
    assert last["completion"] == answer(lora_run, talk[:3])


def test_generate_shows_several_prompts_in_blocks(lora_run: Path) -> None:
    out = whet("generate", lora_run, "the cat", "the dog", *GREEDY)
    assert out == "".join(f"> {text}\n{answer(lora_run, [user(text)])}\n\n" for text in ("the cat", "the dog"))


def test_generate_with_a_system_prompt_and_drawn(lora_run: Path) -> None:
    messages = [{"role": "system", "content": "go home"}, user("the cat")]
    out = whet("generate", lora_run, "the cat", "--system", "go home", "--max-new-tokens", 8)
    assert out == answer(lora_run, messages) + "\n"
    drawn = whet(
        "generate", lora_run, "the cat", "--temperature", 1, "--seed", 4, "--top-p", 0.9, "--max-new-tokens", 8
    )
    assert drawn == answer(lora_run, [user("the cat")], temperature=1.0, seed=4, top_p=0.9) + "\n"


def test_generate_raw_goes_on_with_the_text(lora_run: Path) -> None:
    loaded = open_run(lora_run)
    ids = loaded.tokenizer("the cat").input_ids
    out = loaded.model.generate(
        torch.tensor([ids]), max_new_tokens=8, do_sample=False, eos_token_id=[1, 2], pad_token_id=0
    )
    expected = loaded.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
    assert whet("generate", lora_run, "the cat", "--raw", "--max-new-tokens", 8) == expected + "\n"


def test_generate_says_what_is_wrong_before_it_answers(lora_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("the cat\n" + "long " * 200 + "\n")
    with pytest.raises(RowError, match=rf"{file}:2: the prompt has \d+ tokens and the model takes 128"):
        whet("generate", lora_run, "--file", file)
    with pytest.raises(RowError, match=r"missing\.txt"):
        whet("generate", lora_run, "--file", tmp_path / "missing.txt")
    (tmp_path / "rows.jsonl").write_text('{"question": "x"}\n')
    with pytest.raises(RowError, match=r"rows\.jsonl:1"):
        whet("generate", lora_run, "--file", tmp_path / "rows.jsonl")
    talk = tmp_path / "talk.jsonl"
    talk.write_text(json.dumps({"messages": [user("a"), says("b"), user("c"), says("d")]}))
    with pytest.raises(RowError, match="--raw goes on with a text"):
        whet("generate", lora_run, "--file", talk, "--raw")
    for words in ([], ["x", "--raw", "--system", "y"]):
        result = CliRunner().invoke(app, ["generate", str(lora_run), *words])
        assert result.exit_code == 2


def test_chat_from_a_pipe_remembers_what_was_said(lora_run: Path) -> None:
    first = answer(lora_run, [user("the cat")])
    second = answer(lora_run, [user("the cat"), says(first), user("the dog")])
    assert whet("chat", lora_run, *GREEDY, said="the cat\n\nthe dog\n") == f"{first}\n{second}\n"


def test_chat_commands(lora_run: Path) -> None:
    first = answer(lora_run, [user("the cat")])
    told = answer(lora_run, [{"role": "system", "content": "go home"}, user("the cat")])
    assert whet("chat", lora_run, *GREEDY, said="the mat\n/reset\nthe cat\n").endswith(f"\n{first}\n")
    said = "the cat\nthe dog\n/undo\nthe dog\n/undo\n/undo\n/undo\nthe cat\n"
    out = whet("chat", lora_run, *GREEDY, said=said)
    second = answer(lora_run, [user("the cat"), says(first), user("the dog")])
    assert out == f"{first}\n{second}\n{second}\n{first}\n"
    assert whet("chat", lora_run, *GREEDY, said="x\n/system go home\nthe cat\n").endswith(f"\n{told}\n")
    assert whet("chat", lora_run, *GREEDY, "--system", "go home", said="the cat\n") == f"{told}\n"
    said = "/system\nthe cat\n/quit\nthe dog\n"
    assert whet("chat", lora_run, *GREEDY, "--system", "go home", said=said) == f"{first}\n"
    assert "no such command: /rest. Did you mean '/reset'?" in whet("chat", lora_run, said="/rest\n")
    assert all(name in whet("chat", lora_run, said="/help\n") for name in chat.COMMANDS)


@pytest.mark.parametrize("kind", ["lora_run", "full_run"])
def test_chat_beside_the_base_keeps_two_histories(kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    said = {}
    for base in (True, False):
        first = answer(run, [user("the cat")], base=base)
        said[base] = first, answer(run, [user("the cat"), says(first), user("the dog")], base=base)
    out = whet("chat", run, "--base", *GREEDY, said="the cat\nthe dog\n")
    assert out == "".join(f"[base]\n{said[True][turn]}\n[{run}]\n{said[False][turn]}\n" for turn in (0, 1))


def test_a_question_asked_again_gets_another_answer_and_a_session_the_same(lora_run: Path) -> None:
    words = ("chat", lora_run, "--max-new-tokens", 8, "--temperature", 1.5)
    out = whet(*words, said="the cat\n/reset\nthe cat\n")
    assert out == whet(*words, said="the cat\n/reset\nthe cat\n")
    expected = [answer(lora_run, [user("the cat")], temperature=1.5, seed=seed) for seed in (0, 1)]
    assert expected[0] != expected[1]
    assert out == "".join(f"{text}\n" for text in expected)


def test_a_question_that_is_too_long_is_told_and_forgotten(lora_run: Path) -> None:
    out = whet("chat", lora_run, *GREEDY, said="long " * 100 + "\nthe cat\n")
    assert "the model takes 128 with the answer" in out
    assert out.endswith(f"\n{answer(lora_run, [user('the cat')])}\n")


def test_a_plain_model_has_no_base(model_folder: Path) -> None:
    for command in ("chat", "generate"):
        with pytest.raises(RunError, match="a model, not a run"):
            whet(command, model_folder, *(["hi"] if command == "generate" else []), "--base")


def on_a_terminal(run: Path, width: int, screen: io.StringIO | None = None) -> tuple[str, chat.Talk]:
    """One question to the base and the run; what a terminal would be sent."""
    screen = screen or io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, height=24, highlight=False, markup=False)
    speakers = [chat.Speaker(side, Renderer(side.tokenizer)) for side in open_sides(run, base=True)[0]]
    talk = chat.Talk(console, speakers, {"temperature": 0.0, "max_new_tokens": 8}, 0, None)
    talk.hold(["the cat"])
    return screen.getvalue(), talk


def test_two_columns_on_a_wide_terminal(lora_run: Path) -> None:
    wide, talk = on_a_terminal(lora_run, 120)
    narrow, same = on_a_terminal(lora_run, 60)
    heads = [line for line in wide.splitlines() if "base" in line]
    assert heads
    assert str(lora_run)[:20] in heads[-1], "the run's name stands beside `base`"
    assert "[base]" in narrow
    assert [s.messages for s in talk.speakers] == [s.messages for s in same.speakers]
    assert talk.speakers[0].messages == [user("the cat"), says(answer(lora_run, [user("the cat")], base=True))]
    assert talk.speakers[1].messages == [user("the cat"), says(answer(lora_run, [user("the cat")]))]


class Interrupted(io.StringIO):
    """A screen in front of which somebody presses Ctrl-C at the fourth thing that is written."""

    written = 0

    def write(self, text: str) -> int:
        self.written += 1
        if self.written == 4:
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(lora_run: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    screen = Interrupted()
    shown, talk = on_a_terminal(lora_run, 60, screen)
    base, run = talk.speakers
    whole = answer(lora_run, [user("the cat")], base=True)
    said = base.messages[1]["content"]
    assert whole.startswith(said)
    assert 0 < len(said) < len(whole)
    assert shown.count(" (stopped)\n") == 1
    assert run.messages[1]["content"] == answer(lora_run, [user("the cat")]), "the other one still answers"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # Ctrl-C means again what it did before
    signal.signal(signal.SIGINT, before)


def test_what_steers_a_terminal_is_left_out() -> None:
    assert generate.printable("a\x1b[31mb\x07\r\x9bc\td\n👩‍👧 ع\u200cل") == "a[31mbc\td\n👩‍👧 ع\u200cل"


def test_the_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: Iterator[Callable[[], str]] = iter(
        [lambda: "one", _raise(KeyboardInterrupt), lambda: "two", _raise(EOFError)]
    )
    monkeypatch.setattr("builtins.input", lambda prompt: next(keys)())
    console = Console(file=io.StringIO())
    assert list(chat._typed(console)) == ["one", "two"]
    assert "Ctrl-D or /quit leaves" in console.file.getvalue()  # type: ignore[attr-defined]


def _raise(error: type[BaseException]) -> Callable[[], str]:
    def press() -> str:
        raise error

    return press


def test_a_pipe_that_is_not_text(lora_run: Path) -> None:
    result = CliRunner().invoke(app, ["chat", str(lora_run)], input=b"\xff\xfe\n")
    assert isinstance(result.exception, WhetError)
    assert "standard input: not text in UTF-8" in str(result.exception)
