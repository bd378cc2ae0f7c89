"""Chat templates in Ollama's language: equal where they can be said, refused where not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whet.errors import RunError, TemplateError
from whet.models.export import llama_cpp
from whet.models.export.formats import export
from whet.models.export.ollama import Modelfile, modelfile_of, read_modelfile
from whet.tokens.plain import PLAIN_TEMPLATE

CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi {{ .Content }}"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|system|>You help.<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<turn>{{ m.role }}\n{{ m.content }}</turn>\n{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
SYSTEM_IN_USER = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {% if loop.index0 == 1 and messages[0].role == 'system' %}"
    "{{ messages[0].content }}\n\n{% endif %}{{ m.content }} [/INST]{% elif m.role == 'assistant' %} {{ m.content }}"
    "</s>{% endif %}{% endfor %}"
)
LAST_ONLY = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content if loop.last or m.role == 'user' else m.content | upper }}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
BRACES = "{% for m in messages %}<|{{ m.role }}|>{{ '{{' + m.content + '}}' }}{% endfor %}"


def made(tokenizer: Any, template: str, add_bos: bool = False) -> Modelfile:
    tokenizer.chat_template = template
    return modelfile_of(tokenizer, frozenset([1, 2]), add_bos)


def test_a_template_by_hand(tiny_tokenizer: Callable[[], Any]) -> None:
    tokenizer = tiny_tokenizer()
    found = modelfile_of(tokenizer, frozenset([2]), add_bos=False)
    assert found.template == (
        '{{ if not .System }}<s>{{ end }}{{ range .Messages }}{{ if eq .Role "user" }}<|user|>{{ .Content }}<|end|>'
        '{{ else if eq .Role "assistant" }}<|assistant|>{{ .Content }}<|end|>'
        '{{ else if eq .Role "system" }}<s><|system|>{{ .Content }}<|end|>{{ end }}{{ end }}<|assistant|>'
    )
    assert found.stops == ["<|end|>"]
    bare = modelfile_of(tokenizer, frozenset([2]), add_bos=True)
    assert "<s>" not in bare.template


@pytest.mark.parametrize("template", [PLAIN_TEMPLATE, DEFAULT_SYSTEM, NO_SYSTEM])
def test_what_is_written_renders_alike(template: str, tiny_tokenizer: Callable[[], Any]) -> None:
    tokenizer = tiny_tokenizer()
    found = read_modelfile(made(tokenizer, template).written("model.gguf"))
    for chat in (CHAT, CHAT[1:], CHAT[1:2]):
        if template == NO_SYSTEM and chat is CHAT:
            continue
        wanted = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert found.render(chat) == wanted
    assert found.stops == ["</s>", "<|end|>"]


def test_a_template_without_system_messages_says_so(tiny_tokenizer: Callable[[], Any]) -> None:
    assert "Ollama will leave one out" in made(tiny_tokenizer(), NO_SYSTEM).notes[0]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (SYSTEM_IN_USER, "it writes a system message into the user's turn"),
        (LAST_ONLY, "it writes a turn more than once, or not at all|depends on more than the role"),
        (BRACES, "has a meaning of its own there"),
        ("{{ messages[-1].content }}", "it writes a turn more than once, or not at all"),
    ],
)
def test_what_cannot_be_said_is_refused(template: str, words: str, tiny_tokenizer: Callable[[], Any]) -> None:
    with pytest.raises(TemplateError, match=words) as caught:
        made(tiny_tokenizer(), template)
    assert "--to gguf" in str(caught.value.do)


def test_a_folder_for_ollama(lora_run: Path) -> None:
    done = export(lora_run, to="ollama", gguf_type="q8_0")
    assert sorted(path.name for path in done.folder.iterdir()) == ["Modelfile", "model-q8_0.gguf"]
    text = (done.folder / "Modelfile").read_text()
    assert text.startswith('FROM ./model-q8_0.gguf\nTEMPLATE """')
    assert text.endswith('PARAMETER stop "</s>"\nPARAMETER stop "<|end|>"\n')
    assert done.next == f"ollama create lora-run -f {done.folder / 'Modelfile'}"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<|user|>", "<|human|>", r"Modelfile: rendered chats: expected '<s><\|user\|>.*, found '<s><\|human\|>"),
        ('PARAMETER stop "<|end|>"\n', "", r"Modelfile: stops: expected \['</s>', '<\|end\|>'\], found \['</s>'\]"),
    ],
)
def test_a_broken_modelfile_is_caught(
    old: str, new: str, words: str, lora_run: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Path
) -> None:
    monkeypatch.setattr(llama_cpp, "read_modelfile", lambda text: read_modelfile(text.replace(old, new)))
    with pytest.raises(RunError, match=words):
        export(lora_run, to="ollama", out=nothing_left)
