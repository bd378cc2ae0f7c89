"""Renderer against transformers' own masks and TRL's tokenisation, with the chat templates of real models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whet.tokens.template import Renderer

trl = pytest.importorskip("trl", reason="compares with TRL, and uses the chat templates that it carries")
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
Make = Callable[..., Any]
TALK = [
    {"role": "user", "content": "hello\n"},
    {"role": "assistant", "content": "yes, été"},
    {"role": "user", "content": "there"},
    {"role": "assistant", "content": "no"},
]


def read(name: str) -> str:
    path = TEMPLATES / f"{name}.jinja"
    if not path.is_file():
        pytest.skip(f"this TRL has no template {name}")
    return path.read_text(encoding="utf-8")


def transformers_mask(tokenizer: Any, talk: list[dict[str, Any]], template: str, stops: frozenset[int]) -> Any:
    """transformers' ids and mask by the template's generation markers; in each learnt span only through the stop."""
    out = tokenizer.apply_chat_template(
        talk, chat_template=template, return_dict=True, return_assistant_tokens_mask=True, tokenize=True
    )
    mask, stopped = [], False
    for token, marked in zip(out["input_ids"], out["assistant_masks"], strict=True):
        mask.append(bool(marked) and not stopped)
        stopped = bool(marked) and (stopped or token in stops)
    return out["input_ids"], mask


@pytest.mark.parametrize(
    "name",
    ["cohere", "cohere2", "diffusion_gemma", "gemma", "gemma3", "lfm2", "phi3", "qwen2_5_vl", "qwen3_vl",
     "qwen3_instruct_2507"],
)  # fmt: skip
def test_turns_found_by_rendering_are_those_that_trl_marks_by_hand(make_tokenizer: Make, name: str) -> None:
    """TRL rewrites the templates of known models with markers; whet finds the same in the originals."""
    tokenizer = make_tokenizer(read(name))
    renderer = Renderer(tokenizer)
    (row,) = renderer.conversation(TALK)
    ids, mask = transformers_mask(tokenizer, TALK, read(f"{name}_training"), renderer.stop_ids)
    assert row.ids.tolist() == ids
    assert row.targets.tolist() == mask
    assert any(mask)


@pytest.mark.parametrize("name", ["lfm2_2_5", "phi3_training", "qwen2_5_training", "qwen3_training", "gemma3_training"])
def test_marked_turns_are_those_of_transformers_own_mask(make_tokenizer: Make, name: str) -> None:
    tokenizer = make_tokenizer(read(name))
    renderer = Renderer(tokenizer)
    (row,) = renderer.conversation(TALK)
    ids, mask = transformers_mask(tokenizer, TALK, tokenizer.chat_template, renderer.stop_ids)
    assert row.ids.tolist() == ids
    assert row.targets.tolist() == mask


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "qwen3_5_nothink", "glm4moe", "gptoss", "llama3_1", "gemma4"])
def test_every_row_is_what_serving_sends_and_then_the_answer(make_tokenizer: Make, name: str) -> None:
    tokenizer = make_tokenizer(read(name))
    renderer = Renderer(tokenizer)
    rows = renderer.conversation(TALK)
    if name in (
        "qwen3",
        "qwen3_5_nothink",
        "glm4moe",
        "gptoss",
    ):  # they write an answer otherwise once it is not the last
        assert len(rows) == 2
    for row, turn in zip(rows[-2:], ([1, 3] if len(rows) == 2 else [1]), strict=True):
        prompt = tokenizer.apply_chat_template(TALK[:turn], add_generation_prompt=True, return_dict=False)
        assert row.ids[: len(prompt)].tolist() == prompt
        assert renderer.prompt(TALK[:turn]) == prompt
        assert row.targets.tolist()[: len(prompt) + 1] == [False] * len(prompt) + [True]
    last = rows[-1]
    assert int(last.ids[last.targets][-1]) in renderer.stop_ids


def test_calls_of_tools_are_learnt_as_trl_learns_them(make_tokenizer: Make) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    tools = [{"type": "function", "function": {"name": "add", "description": "", "parameters": {"type": "object"}}}]
    talk = [
        TALK[0],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        TALK[3],
    ]
    for name in ("qwen3_instruct_2507", "lfm2_v2"):
        tokenizer = make_tokenizer(read(name))
        renderer = Renderer(tokenizer)
        (row,) = renderer.conversation(talk, tools)
        out = tokenizer.apply_chat_template(
            talk,
            tools=tools,
            chat_template=read(f"{name}_training"),
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        assert row.ids.tolist() == out["input_ids"]
        stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
        learnt = [int(token) for token in row.ids[row.targets]]
        marked = [token for token, mark in zip(out["input_ids"], out["assistant_masks"], strict=True) if mark]
        after_stop = [i for i in range(1, len(marked)) if marked[i - 1] == stop]  # the line break after <|im_end|>
        assert learnt == [token for i, token in enumerate(marked) if i not in after_stop]
        assert learnt.count(stop) == 2


def test_rows_are_those_of_trls_trainer(make_tokenizer: Make, tmp_path: Path) -> None:
    """A prompt with its completion under ChatML, through SFTTrainer. TRL also learns the line break after the stop."""
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    chatml = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    tokenizer = make_tokenizer(chatml, pad_token="<|endoftext|>")
    talks = [TALK[:2], TALK[2:], [{"role": "system", "content": "Be brief."}, *TALK]]
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    trainer = SFTTrainer(
        model=LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size)),
        args=SFTConfig(str(tmp_path), report_to=[], use_cpu=True, bf16=False, max_length=None),
        train_dataset=Dataset.from_list([{"prompt": talk[:-1], "completion": talk[-1:]} for talk in talks]),
        processing_class=tokenizer,
    )
    renderer = Renderer(tokenizer)
    for talk, theirs in zip(talks, trainer.train_dataset, strict=True):
        context = [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in talk[:-1]]
        (row,) = renderer.conversation([*context, talk[-1]])
        assert row.ids.tolist() == theirs["input_ids"]
        learnt = [label != -100 for label in theirs["labels"]]
        assert row.targets.tolist() == [*learnt[:-1], False]
        assert learnt[-1]
        assert tokenizer.decode(row.ids[-1]) == "\n"
