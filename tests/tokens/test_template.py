"""Renderer: which rows a conversation gives and what of them is learnt, against rows written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whet.tokens.plain import PLAIN_TEMPLATE
from whet.tokens.template import Renderer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}"
    "{{ m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}"
    "{{ m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
# No generation prompt, nor a word about it.
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
# As Phi-3's: the end of a text after the last turn, whoever it is.
PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
    "{{ '<|assistant|>\\n' if add_generation_prompt else eos_token }}"
)
# Asks for an answer at the end, be it wanted or not.
ASKS = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>\\n' }}{% endfor %}{{ '<|assistant|>' }}"
# As gpt-oss's: the last answer ends with another token than those before it.
RETURNS = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}"
    "{{ '<|return|>' if m.role == 'assistant' and loop.last else '<|end|>' }}{% endfor %}"
    "{{ '<|assistant|>' if add_generation_prompt }}"
)
# As Qwen3's: thoughts of all but the last answer are dropped, and an empty one is written where there is none.
THINKS = (
    "{% for m in messages %}{% set c = m.content %}{% if m.role == 'assistant' %}"
    "{% set t = c.split('</think>')[0].split('<think>')[-1] if '</think>' in c else '' %}"
    "{% set c = c.split('</think>')[-1] %}"
    "{% if loop.last %}{% set c = '<think>' + t + '</think>' + c %}{% endif %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\\n' + c + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
NO_STOP = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
# Markers that leave out the token that ends the turn.
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TALK = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "there"},
    {"role": "assistant", "content": "no"},
]
Make = Callable[..., Any]
# Any text, and the blanks and words that the tokenizer merges across the borders of turns.
SAID = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text(" \n\tyesno", max_size=6)


@cache
def _renderer(make_tokenizer: Make, template: str) -> Renderer:
    return Renderer(make_tokenizer(template))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, ["<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n«yes<|im_end|>»\n"
                  "<|im_start|>user\nthere<|im_end|>\n<|im_start|>assistant\n«no<|im_end|>»\n"]),
        (LLAMA, ["<s><|start_header_id|>user<|end_header_id|>\n\nhello<|eot_id|>"
                 "<|start_header_id|>assistant<|end_header_id|>\n\n«yes<|eot_id|>»"
                 "<|start_header_id|>user<|end_header_id|>\n\nthere<|eot_id|>"
                 "<|start_header_id|>assistant<|end_header_id|>\n\n«no<|eot_id|>»"]),
        (GEMMA, ["<s><start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n«yes<end_of_turn>»\n"
                 "<start_of_turn>user\nthere<end_of_turn>\n<start_of_turn>model\n«no<end_of_turn>»\n"]),
        (MISTRAL, ["<s>[INST] hello [/INST]« yes</s>»[INST] there [/INST]« no</s>»"]),
        (PHI, ["<|user|>\nhello<|end|>\n<|assistant|>\n«yes<|end|>»\n"
               "<|user|>\nthere<|end|>\n<|assistant|>\n«no<|end|>»\n</s>"]),
        (ASKS, ["<|user|>hello<|end|>\n<|assistant|>«yes<|end|>»\n"
                "<|user|>there<|end|>\n<|assistant|>«no<|end|>»\n<|assistant|>"]),
        (RETURNS, ["<|user|>hello<|end|><|assistant|>«yes<|return|>»",
                   "<|user|>hello<|end|><|assistant|>yes<|end|><|user|>there<|end|><|assistant|>«no<|return|>»"]),
        (THINKS, ["<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n«<think></think>yes<|im_end|>»\n",
                  "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
                  "<|im_start|>user\nthere<|im_end|>\n<|im_start|>assistant\n«<think></think>no<|im_end|>»\n"]),
        (NO_STOP, ["user: hello\nassistant: «yes\n</s>»",
                   "user: hello\nassistant: yes\nuser: there\nassistant: «no\n</s>»"]),
        (MARKED, ["<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n«yes<|im_end|>»\n"
                  "<|im_start|>user\nthere<|im_end|>\n<|im_start|>assistant\n«no<|im_end|>»\n"]),
        (PLAIN_TEMPLATE, ["<s>### User:\nhello\n\n### Assistant:\n«yes</s>»\n\n"
                          "### User:\nthere\n\n### Assistant:\n«no</s>»\n\n"]),
    ],
    ids=["chatml", "llama", "gemma", "mistral", "phi", "asks", "returns", "thinks", "no stop", "marked", "plain"],
)  # fmt: skip
def test_answers_and_their_stop_tokens_are_learnt_and_nothing_else(
    make_tokenizer: Make, shown: Make, template: str, expected: list[str]
) -> None:
    tokenizer = make_tokenizer(template)
    rows = Renderer(tokenizer).conversation(TALK)
    assert [shown(tokenizer, row) for row in rows] == expected
    for row in rows:
        assert row.ids.dtype == np.int32
        assert row.targets.dtype == bool
        assert row.text == tokenizer.decode(row.ids)


def test_turns_between_user_turns_share_a_row_as_long_as_they_are_written_alike(
    make_tokenizer: Make, shown: Make
) -> None:
    # Thoughts stay while the tools are at work and go with the next question, as Qwen3 has it: so the first two
    # answers are one row, and the third another.
    template = (
        "{% set ns = namespace(asked=0) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}"
        "{% set c = m.content if loop.index0 > ns.asked else m.content.split('</think>')[-1] %}"
        "{{ '<|im_start|>' + m.role + '\\n' + c + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    tokenizer = make_tokenizer(template)
    talk = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>1</think>b"},
        {"role": "tool", "content": "c"},
        {"role": "assistant", "content": "<think>2</think>d"},
        {"role": "user", "content": "e"},
        {"role": "assistant", "content": "<think>3</think>f"},
    ]
    rows = [shown(tokenizer, row) for row in Renderer(tokenizer).conversation(talk)]
    assert [row.replace("<|im_start|>", "").replace("<|im_end|>", ";") for row in rows] == [
        "user\na;\nassistant\n«<think>1</think>b;»\ntool\nc;\nassistant\n«<think>2</think>d;»\n",
        "user\na;\nassistant\nb;\ntool\nc;\nassistant\nd;\nuser\ne;\nassistant\n«<think>3</think>f;»\n",
    ]


@pytest.mark.parametrize("template", [CHATML, MARKED, NO_STOP, THINKS], ids=["chatml", "marked", "no stop", "thinks"])
def test_turns_of_weight_0_are_context(make_tokenizer: Make, template: str) -> None:
    tokenizer = make_tokenizer(template)
    talk = [TALK[0], {**TALK[1], "weight": 0}, TALK[2], {**TALK[3], "weight": 1}]
    (row,) = Renderer(tokenizer).conversation(talk)
    whole = Renderer(tokenizer).conversation(TALK)[-1]
    assert row.text == whole.text
    assert tokenizer.decode(row.ids[row.targets]).strip().removeprefix("<think></think>").startswith("no")
    assert not Renderer(tokenizer).conversation([TALK[0], {**TALK[1], "weight": 0}])[0].targets.any()


def test_all_but_the_first_token_is_learnt_where_everything_is(make_tokenizer: Make) -> None:
    for template, end in ((CHATML, "<|im_end|>\n"), (NO_STOP, "no\n</s>")):
        (row,) = Renderer(make_tokenizer(template)).conversation(TALK, learn="everything")
        assert row.text.endswith(end)
        assert row.targets.tolist() == [False] + [True] * (len(row.ids) - 1)


def test_text_is_learnt_whole_with_the_tokenizers_own_special_tokens(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer()
    row = Renderer(tokenizer).text("hello there")
    assert row.ids.tolist() == [*tokenizer("hello there").input_ids, tokenizer.eos_token_id]
    assert row.targets.all()
    assert Renderer(tokenizer).text("hello</s>").ids.tolist() == tokenizer("hello</s>").input_ids


def test_tools_calls_and_results_are_rendered_and_calls_are_learnt(make_tokenizer: Make, shown: Make) -> None:
    template = (
        "{% if tools %}{{ '<|im_start|>system\\n' + tools | tojson + '<|im_end|>\\n' }}{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content or '') }}"
        "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function | tojson + '</tool_call>' }}{% endfor %}"
        "{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    talk = [
        {"role": "user", "content": "1 + 1"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "2"},
    ]
    expected = (
        f"<|im_start|>system\n{json.dumps(tools)}<|im_end|>\n<|im_start|>user\n1 + 1<|im_end|>\n<|im_start|>assistant\n"
        '«<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|im_end|>»\n<|im_start|>tool\n2<|im_end|>\n'
        "<|im_start|>assistant\n«2<|im_end|>»\n"
    )
    tokenizer = make_tokenizer(template)
    assert [shown(tokenizer, row) for row in Renderer(tokenizer).conversation(talk, tools)] == [expected]
    # OpenAI sends arguments as JSON text; it is not to be quoted once more.
    talk[1]["tool_calls"][0]["function"]["arguments"] = '{"a": 1}'
    assert [shown(tokenizer, row) for row in Renderer(tokenizer).conversation(talk, tools)] == [expected]
    # A template that joins texts takes the arguments as text alone.
    tokenizer = make_tokenizer(template.replace("c.function | tojson", "c.function.name + c.function.arguments"))
    talk[1]["tool_calls"][0]["function"]["arguments"] = {"a": 1}
    assert '<tool_call>add{"a": 1}</tool_call>' in Renderer(tokenizer).conversation(talk, tools)[0].text


def test_the_plain_template_is_saved_with_the_tokenizer_and_knows_tools(make_tokenizer: Make, tmp_path: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = make_tokenizer(None)
    renderer = Renderer(tokenizer)
    assert renderer.is_plain
    assert renderer.stop_ids == {tokenizer.eos_token_id}
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.chat_template == PLAIN_TEMPLATE
    assert Renderer(again).is_plain
    assert not Renderer(make_tokenizer(CHATML)).is_plain
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    talk = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "Two."},
    ]
    (row,) = renderer.conversation(talk, [{"name": "add"}])
    assert row.text == (
        '<s>### Tools:\n{"name": "add"}\n\n### Developer:\nBe brief.\n\n### User:\n?\n\n### Assistant:\n'
        '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>\n'
        '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call></s>\n\n'
        "### Tool:\n2\n\n### Assistant:\nTwo.</s>\n\n"
    )
    # A base model may have no beginning token.
    assert Renderer(make_tokenizer(None, bos_token=None)).conversation(TALK)[0].text.startswith("### User:\nhello\n\n")


def test_stop_ids_are_where_serving_stops(make_tokenizer: Make) -> None:
    for template, stops in (
        (CHATML, {"</s>", "<|im_end|>"}), (LLAMA, {"</s>", "<|eot_id|>"}), (MISTRAL, {"</s>"}), (NO_STOP, {"</s>"}),
        (PHI, {"</s>", "<|end|>"}), (RETURNS, {"</s>", "<|return|>"}), (MARKED, {"</s>", "<|im_end|>"}),
    ):  # fmt: skip
        tokenizer = make_tokenizer(template)
        assert set(tokenizer.convert_ids_to_tokens(sorted(Renderer(tokenizer).stop_ids))) == stops


def test_the_end_of_a_call_is_no_stop(make_tokenizer: Make) -> None:
    template = (
        "{% for m in messages %}{{ m.role + ':' + m.content }}"
        "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function | tojson + '</tool_call>' }}{% endfor %}"
        "{% endfor %}"
    )
    tokenizer = make_tokenizer(template)
    tokenizer.add_tokens(["<tool_call>", "</tool_call>"])
    renderer = Renderer(tokenizer)
    assert renderer.stop_ids == {tokenizer.eos_token_id}
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {}}}]}
    (row,) = renderer.conversation([TALK[0], call])
    assert row.text.endswith("</tool_call></s>")
    assert row.targets.tolist()[-2:] == [True, True]


def test_a_developer_is_the_system_where_the_template_knows_only_that(make_tokenizer: Make) -> None:
    template = "{% for m in messages if m.role != 'developer' %}{{ m.role + ':' + m.content + '</s>' }}{% endfor %}"
    talk = [{"role": "developer", "content": "be brief"}, *TALK[:2]]
    assert Renderer(make_tokenizer(template)).conversation(talk)[0].text.startswith("system:be brief</s>user")
    assert Renderer(make_tokenizer(CHATML)).conversation(talk)[0].text.startswith("<|im_start|>developer\nbe brief")


def test_many_at_once_are_as_one_by_one(make_tokenizer: Make) -> None:
    renderer = Renderer(make_tokenizer(THINKS))
    talks = [(TALK[: 2 + 2 * (i % 2)], None, f"a:{i}") for i in range(1030)]
    done: list[int] = []
    many = renderer.conversations(talks, progress=done.append)
    assert done == [512, 1024, 1030]
    for (messages, _, place), rows in zip(talks[::100], many[::100], strict=True):
        for row, expected in zip(rows, renderer.conversation(messages, place=place), strict=True):
            assert row.ids.tolist() == expected.ids.tolist()
            assert row.targets.tolist() == expected.targets.tolist()


@given(question=SAID, answer=SAID.filter(bool))
@pytest.mark.parametrize(
    ("template", "stop"),
    [(CHATML, "<|im_end|>"), (MARKED, "<|im_end|>"), (NO_STOP, "\n</s>"), (RETURNS, "<|return|>"),
     (PLAIN_TEMPLATE, "</s>")],
    ids=["chatml", "marked", "no stop", "returns", "plain"],
)  # fmt: skip
def test_whatever_is_said_the_targets_are_the_answer_and_the_context_is_servings_prompt(
    make_tokenizer: Make, template: str, stop: str, question: str, answer: str
) -> None:
    renderer = _renderer(make_tokenizer, template)
    tokenizer, asked = renderer.tokenizer, [{"role": "user", "content": question}]
    (row,) = renderer.conversation([*asked, {"role": "assistant", "content": answer}])
    assert tokenizer.decode(row.ids[row.targets]) == answer + stop
    context = row.ids[: int(row.targets.argmax())].tolist()
    assert context == renderer.prompt(asked)
    assert context == tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
