"""Renderer: what it refuses, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from whet.errors import RowError, TemplateError
from whet.tokens.template import Renderer

Make = Callable[..., Any]
TALK = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]
SAYS = "{% for m in messages %}{{ m.role + ':' + m.content + '</s>' }}{% endfor %}"


def test_a_refusal_is_told_in_the_templates_own_words_with_the_rows_place(make_tokenizer: Make) -> None:
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + SAYS
    )
    renderer = Renderer(make_tokenizer(refusing))
    with pytest.raises(TemplateError, match=r"^a\.jsonl:7: .*System role not supported") as caught:
        renderer.conversation([{"role": "system", "content": "be brief"}, *TALK], place="a.jsonl:7")
    assert caught.value.do is not None
    with pytest.raises(TemplateError, match=r"^a\.jsonl:8: .*System role not supported"):
        renderer.prompt([{"role": "system", "content": "be brief"}], place="a.jsonl:8")
    assert renderer.conversation(TALK)[0].text == "user:hello</s>assistant:yes</s>"


def test_the_plain_template_refuses_what_it_cannot_write(make_tokenizer: Make) -> None:
    renderer = Renderer(make_tokenizer(None))
    with pytest.raises(TemplateError, match="content that is not text"):
        renderer.prompt([{"role": "user", "content": [{"type": "text", "text": "hello"}]}])
    with pytest.raises(TemplateError, match="no such role: critic"):
        renderer.prompt([{"role": "critic", "content": "hello"}])


def test_faults_in_a_templates_code_are_its_refusal(make_tokenizer: Make) -> None:
    for code in ("{{ messages[0].content + 1 }}", "{{ messages[9].role }}", "{{ messages[0].nothing.at_all }}"):
        with pytest.raises(TemplateError, match=r"^b:1: the chat template refuses this row: "):
            Renderer(make_tokenizer(code)).conversation(TALK, place="b:1")
    with pytest.raises(TemplateError, match="not Jinja: line 2"):
        Renderer(make_tokenizer("{{ bos_token }}\n{% for m in %}"))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    from transformers import PythonBackend

    class Slow(PythonBackend):
        vocab_size = 1

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    with pytest.raises(TemplateError, match="Slow cannot tell which token") as caught:
        Renderer(Slow())
    assert "fast tokenizer" in str(caught.value)


def test_half_a_character_is_refused_with_its_place(make_tokenizer: Make) -> None:
    renderer = Renderer(make_tokenizer(SAYS))
    with pytest.raises(RowError, match=r"^c:3: '\\ud83d' is half a character"):
        renderer.conversation([TALK[0], {"role": "assistant", "content": "\ud83d yes"}], place="c:3")
    with pytest.raises(RowError, match=r"^c:4: "):
        renderer.texts([("fine", "c:2"), ("\udc00", "c:4")])
    with pytest.raises(RowError, match=r"^c:5: "):
        renderer.prompt([{"role": "user", "content": "\ud83d"}], place="c:5")
    with pytest.raises(RowError, match="without messages"):
        renderer.conversation([])


def test_what_a_template_would_leave_out_in_silence_is_refused(make_tokenizer: Make) -> None:
    renderer = Renderer(make_tokenizer(SAYS))
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {}}}]}
    with pytest.raises(TemplateError, match=r"^d:1: the chat template leaves out what this row has: tool_calls\n"):
        renderer.conversation([TALK[0], call], place="d:1")
    with pytest.raises(TemplateError, match="leaves out what this row has: tools\n"):
        renderer.conversation(TALK, tools=[{"type": "function", "function": {"name": "add"}}])
    deaf = Renderer(
        make_tokenizer("{% for m in messages if m.role != 'tool' %}{{ m.role + m.content + '</s>' }}{% endfor %}")
    )
    with pytest.raises(TemplateError, match="leaves out what this row has: tool\n"):
        deaf.conversation([*TALK, {"role": "tool", "content": "2"}, TALK[1]])
    # Content in parts only, as templates of models that see have it: plain text would vanish.
    part = "{% for p in m.content if p is mapping %}{{ p.text }}{% endfor %}"
    parts = "{% for m in messages %}{{ m.role }}" + part + "</s>{% endfor %}"
    with pytest.raises(TemplateError, match="leaves out what this row has: assistant, user\n"):
        Renderer(make_tokenizer(parts)).conversation(TALK)


def test_an_answer_that_nothing_ends_is_refused(make_tokenizer: Make) -> None:
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    with pytest.raises(TemplateError, match=r"^e:1: neither .* would never stop"):
        Renderer(make_tokenizer(template, eos_token=None)).conversation(TALK, place="e:1")


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | length }} " + SAYS,  # the prompt is no beginning of the row
        "{% for m in messages[::-1] %}{{ m.content + ' ' + m.role + '</s>' }}{% endfor %}",  # the answer comes first
        "{{ messages[-1].content }}" + SAYS,
    ],
)
def test_a_template_that_rewrites_what_was_said_before_is_refused(make_tokenizer: Make, template: str) -> None:
    with pytest.raises(TemplateError, match=r"^f:2: cannot tell where the assistant's turn begins") as caught:
        Renderer(make_tokenizer(template)).conversation(TALK, place="f:2")
    assert "{% generation %}" in str(caught.value)


def test_a_prompt_that_ends_otherwise_than_the_turn_begins_is_reported(make_tokenizer: Make) -> None:
    # As DeepSeek-R1's: the prompt opens <think>, the turn as it is written does not.
    tokenizer = make_tokenizer(SAYS + "{% if add_generation_prompt %}{{ 'assistant:<think>\n' }}{% endif %}")
    renderer = Renderer(tokenizer)
    (row,) = renderer.conversation(TALK, place="g:1")
    assert tokenizer.decode(row.ids[row.targets]) == "yes</s>"
    assert renderer.unlike_serving == ["g:1"]


def test_a_conversation_may_begin_with_an_answer(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer("{{ bos_token }}" + SAYS + "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}")
    renderer = Renderer(tokenizer)
    (row,) = renderer.conversation([TALK[1], *TALK])
    learnt = [tokenizer.decode([token]) if target else "_" for token, target in zip(row.ids, row.targets, strict=True)]
    assert "".join(learnt).strip("_").replace("_", "") == "yes</s>yes</s>"
    assert not renderer.unlike_serving
