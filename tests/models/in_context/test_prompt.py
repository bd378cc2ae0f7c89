"""A prompt on a tokenizer writes what the bare template writes of the same turns, put there by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whet.errors import RecipeError, RowError, RunError
from whet.models.in_context.choose import Demonstration
from whet.models.in_context.prompt import Prompt, around, filled, instruction_place, read_prompt, with_prompt
from whet.recipe import InContextPart
from whet.rows import Example
from whet.tokens.template import Renderer

ODD = 'say "hi" {{ x }} {% if %}\n\\n é 🙂 {# no #}'


def turns(*texts: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def system(text: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": text}]


def text_of(tokenizer: Any, messages: list[dict[str, Any]]) -> str:
    found: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return found


def test_the_template_writes_instruction_and_demonstrations(tiny_tokenizer: Callable[[], Any]) -> None:
    shown = [Demonstration(tuple(turns(ODD, "a"))), Demonstration(tuple(turns("second", "b")))]
    part = InContextPart(instruction="Be {{ brief }}.", template="Q: {{ prompt }}\nA:", shots=2)
    tokenizer = with_prompt(tiny_tokenizer(), Prompt(part, shown))
    asked = turns("what?", "this", "and then?")
    by_hand = turns(f"Q: {ODD}\nA:", "a", "Q: second\nA:", "b", "Q: what?\nA:", "this", "Q: and then?\nA:")
    plain = tiny_tokenizer()
    assert text_of(tokenizer, asked) == text_of(plain, system("Be {{ brief }}.") + by_hand)
    own = text_of(tokenizer, system("And kind.") + asked)
    assert own == text_of(plain, system("Be {{ brief }}.\n\nAnd kind.") + by_hand)


def test_where_no_system_prompt_is_taken_the_instruction_is_in_the_first_turn(tiny_tokenizer: Any) -> None:
    plain = tiny_tokenizer()
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + plain.chat_template
    plain.chat_template = refusing
    assert instruction_place(tiny_tokenizer()) == "system"
    assert instruction_place(plain) == "user"
    part = InContextPart(instruction="Be brief.", template="Q: {{ prompt }}", shots=1)
    one = with_prompt(plain, Prompt(part, [Demonstration(tuple(turns("x", "y")))], "user"))
    assert text_of(one, turns("z")) == text_of(plain, turns("Be brief.\n\nQ: x", "y", "Q: z"))
    none = with_prompt(plain, Prompt(part.model_copy(update={"shots": 0}), [], "user"))
    assert text_of(none, turns("z", "a", "b")) == text_of(plain, turns("Be brief.\n\nQ: z", "a", "Q: b"))


def test_demonstrations_by_question_stay_as_the_talk_goes_on(tiny_tokenizer: Any) -> None:
    pool = [Demonstration(tuple(turns("the cat sat", "a"))), Demonstration(tuple(turns("a dog ran", "b")))]
    part = InContextPart(choose="nearest", shots=1, template="Q: {{ prompt }}", instruction="Say.")
    renderer, plain = Renderer(with_prompt(tiny_tokenizer(), Prompt(part, pool))), Renderer(tiny_tokenizer())
    asked = system("More.") + turns("my dog", "b", "a cat?")
    by_hand = system("Say.\n\nMore.") + turns("Q: a dog ran", "b", "Q: my dog", "b", "Q: a cat?")
    assert renderer.prompt(asked) == plain.prompt(by_hand)
    (row,), (wanted,) = (
        r.conversation([*m, *turns("", "c")[1:]]) for r, m in ((renderer, asked[1:]), (plain, by_hand))
    )
    assert row.text.split("Q:", 1)[1] == wanted.text.split("Q:", 1)[1]


def test_a_file_gives_the_prompt_back(tmp_path: Path) -> None:
    part = InContextPart(shots=1, labels=["a", "b"], calibrate=True, instruction=ODD)
    prompt = Prompt(part, [Demonstration(tuple(turns(ODD, "a")), "x:1")], "user")
    prompt.write(tmp_path)
    assert read_prompt(tmp_path) == prompt
    (tmp_path / "prompt.json").write_text("{}")
    with pytest.raises(RunError, match="cannot be read"):
        read_prompt(tmp_path)


def test_templates_of_columns() -> None:
    example = Example("a:1", "conversation", messages=turns("where?", "there"), extra={"topic": "places"})
    asked = Prompt(InContextPart(template="{{ topic }}: {{ prompt | upper }}")).asked(example)
    assert asked.messages == turns("places: WHERE?", "there")
    assert Prompt(InContextPart(template="Q: {{ prompt }}")).asked(example) is example  # the tokenizer does that
    assert around("Q: {{ prompt }}\n") == ("Q: ", "\n")
    assert around("{{ prompt | trim }}") is around("{{ prompt }} {{ prompt }}") is around("{{ topic }}") is None
    with pytest.raises(RowError, match=r"wants `topik`.*Did you mean 'topic'") as raised:
        Prompt(InContextPart(template="{{ topik }} {{ prompt }}")).asked(example)
    assert "there are: prompt, topic" in str(raised.value)
    with pytest.raises(RecipeError, match="not Jinja"):
        filled("{{ prompt", {"prompt": ""}, "a:1")
    with pytest.raises(RowError, match="cannot be filled"):  # sandboxed
        filled("{{ prompt.__class__.__mro__ }}", {"prompt": ""}, "a:1")
