"""A model of a few thousand random weights with a real tokenizer, and the runs that training would make of it. Below:
tiny models of many architectures, rows that share prefixes, and what plain transformers makes of these; and an
endpoint that misbehaves on demand."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports huggingface_hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: on tensors this small a second thread only waits

import numpy as np
import pytest

from whet.recipe import Recipe, check_recipe
from whet.rows import Row

TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|' + message.role + '|>' + message.content + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}"""
SPECIAL = ["<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Callable[[], Any]:
    """Makes a byte-level BPE tokenizer of 288 tokens, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=288, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(
        ["the cat sat on the mat, and the dog lay on the rug; then they all went home"], trainer
    )
    text = tokenizer.to_str()

    def make() -> Any:
        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(text), bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
        )

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: Callable[[], Any]) -> Callable[..., Any]:
    """Makes a Llama with random weights for it; keywords go to its config."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)  # so small that a second thread only waits

    def make(seed: int = 0, **settings: Any) -> Any:
        torch.manual_seed(seed)
        config = {
            "vocab_size": 288, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
            "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False,
        }  # fmt: skip
        return LlamaForCausalLM(LlamaConfig(**{**config, **settings})).eval()

    return make


@pytest.fixture
def model_folder(tmp_path: Path, tiny_model: Callable[..., Any], tiny_tokenizer: Callable[[], Any]) -> Path:
    """A model's folder: config.json, model.safetensors and the tokenizer's files."""
    folder = tmp_path / "tiny"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def lora_run(tmp_path: Path, model_folder: Path, tiny_tokenizer: Callable[[], Any]) -> Path:
    """A finished run of LoRA: recipe.yaml, and adapter/ with weights that change the answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    run = _run(tmp_path / "lora-run", model_folder)
    get_peft_model(base, config).save_pretrained(run / "adapter")
    tiny_tokenizer().save_pretrained(run / "adapter")
    return run


@pytest.fixture
def full_run(tmp_path: Path, model_folder: Path, tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> Path:
    """A finished run of full fine-tuning: recipe.yaml and model/ with other weights than the base."""
    run = _run(tmp_path / "full-run", model_folder)
    tiny_model(seed=1).save_pretrained(run / "model")
    tiny_tokenizer().save_pretrained(run / "model")
    return run


def _run(folder: Path, model: Path) -> Path:
    from whet.recipe import check_recipe, recipe_yaml

    folder.mkdir()
    recipe = check_recipe({"model": {"name": str(model), "dtype": "float32"}, "data": "train.jsonl"}, "test")
    (folder / "recipe.yaml").write_text(recipe_yaml(recipe))
    return folder


# Architectures -------------------------------------------------------------------------------------------------------

VOCABULARY = 97
_LLAMA = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_WINDOW = {"sliding_window": 13}  # shorter than the rows
_SLIDING = _LLAMA | _WINDOW | {"layer_types": ["sliding_attention", "full_attention"], "head_dim": 8}
_NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "qwen3": _LLAMA | {"head_dim": 8},
    "mistral": _LLAMA | _WINDOW,
    "gemma2": _SLIDING | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0},
    "gemma3_text": _SLIDING | {"final_logit_softcapping": None},
    "gpt2": _LLAMA | _NO_DROPOUT,
    "gpt_neox": _LLAMA,
    "cohere": _LLAMA | {"logit_scale": 0.25},
    "granite": _LLAMA | {"logits_scaling": 3.0, "embedding_multiplier": 2.0, "attention_multiplier": 0.2},
    "phi": _LLAMA,
    "phimoe": _LLAMA | {"num_local_experts": 2, "num_experts_per_tok": 2},
    "falcon": {key: _LLAMA[key] for key in _LLAMA if key not in ("num_key_value_heads", "intermediate_size")}
    | {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False},
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0},
    "gpt_oss": _SLIDING | {"num_local_experts": 2, "num_experts_per_tok": 1}
    | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
}  # fmt: skip


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """make_model("llama", seed=0, **changes): a tiny model with random weights, large enough for attention to show."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(1)

    def make(architecture: str, seed: int = 0, **changes: Any) -> Any:
        config = AutoConfig.for_model(architecture, **(_ARCHITECTURES[architecture] | changes))
        # eager is the one implementation of transformers that does soft caps and sinks
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().train()
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.normal_(std=0.15, generator=draw)
                if parameter.ndim == 1 and ("norm" in name or ".ln_" in name) and not name.endswith("bias"):
                    parameter.add_(1.0)  # gains lie around one, or the layers would fade
        return model

    return make


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., list[Row]]:
    """make_rows(seed=0): ragged rows that share prefixes of two depths, are prefixes of others, or are there twice."""

    def make(seed: int = 0) -> list[Row]:
        draw = np.random.default_rng(seed)
        ids = lambda size: draw.integers(3, VOCABULARY, size, dtype=np.int32)  # noqa: E731
        stem, branch = ids(20), ids(18)
        both = np.concatenate([stem, branch])
        pairs = [(ids(9), ids(4)), (both, ids(7)), (both, ids(15)), (stem, ids(30)), (stem, np.append(branch, ids(2)))]
        pairs += [(ids(3), ids(1)), pairs[3]]
        weights = [1.0, 0.5, 2.0, 1.0, 0.25, 1.0, 1.5]
        return [
            Row(np.concatenate([prompt, answer]), np.arange(len(prompt) + len(answer)) >= len(prompt), weight=weight)
            for (prompt, answer), weight in zip(pairs, weights, strict=True)
        ]

    return make


@pytest.fixture(scope="session")
def plain_step(gradients: Callable[[Any], Any]) -> Callable[..., tuple[float, dict[str, Any]]]:
    """plain_step(model, rows): loss, and gradient by name, of a step with transformers alone: rows padded at the right,
    all logits, the mean over targets weighed by row. The model's gradients are cleared."""
    import torch

    def step(model: Any, rows: Sequence[Row]) -> tuple[float, dict[str, Any]]:
        longest = max(map(len, rows))
        ids, mask, labels = (torch.full((len(rows), longest), fill) for fill in (0, 0, -100))
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = torch.from_numpy(row.ids), 1
            labels[place, : len(row)] = torch.from_numpy(np.where(row.targets, row.ids, -100))
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none"
        )
        weights = torch.tensor([row.weight for row in rows])[:, None] * (labels[:, 1:] != -100)
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        return loss.item(), gradients(model)

    return step


@pytest.fixture(scope="session")
def gradients() -> Callable[[Any], dict[str, Any]]:
    """gradients(model): those that are there, by parameter's name; the model's own are cleared."""

    def take(model: Any) -> dict[str, Any]:
        taken = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
        return taken

    return take


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """assert_same(found, expected, relative=1e-5): tensors by name. A difference is measured against its own tensor's
    largest value, or a hundredth of the largest of all (some gradients are zero but for rounding)."""

    def check(found: dict[str, Any], expected: dict[str, Any], relative: float = 1e-5) -> None:
        assert found.keys() == expected.keys()
        floor = 1e-2 * max(float(tensor.abs().max()) for tensor in expected.values())
        for name, tensor in expected.items():
            allowed = relative * max(floor, float(tensor.abs().max()))
            assert float((found[name] - tensor).abs().max()) <= allowed, name

    return check


# --- whole runs ------------------------------------------------------------

ANIMALS = ["cat", "dog", "rug", "mat", "home", "wren", "mole", "newt"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """30 short conversations; a fixed prompt and a few answers, so that a model of random weights learns them."""
    path = tmp_path / "rows.jsonl"
    lines = []
    for number in range(30):
        animal = ANIMALS[number % len(ANIMALS)]
        turns = [
            {"role": "user", "content": f"where is the {animal} number {number}?"},
            {"role": "assistant", "content": f"the {animal} sat on the mat"},
        ]
        lines.append(json.dumps({"messages": turns}))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def recipe_of(model_folder: Path, rows: Path, tmp_path: Path) -> Any:
    def make(output: str = "run", method: Any = "lora", **train: Any) -> Recipe:
        settings = {"batch_size": 4, "epochs": 2, "learning_rate": 1e-2, "max_length": 96, "checkpoint_every": 3}
        return check_recipe(
            {
                "model": {"name": str(model_folder), "dtype": "float32"}, "data": str(rows), "validation": 0.2,
                "method": method, "train": {**settings, **train}, "samples": 1, "output": str(tmp_path / output),
            },
            "test",
        )  # fmt: skip

    return make


Reply = tuple[int, dict[str, str], bytes] | str | float
"""What becomes of a request: (status, headers, body), a chat completion of this text, or silence for some seconds."""


class ChatServer:
    """A real HTTP server that speaks as much of OpenAI's API as a test needs. `reply(body, number)` says what happens
    to a request; number counts requests from 0, `seen` has them all."""

    def __init__(self) -> None:
        self.reply: Callable[[dict[str, Any], int], Reply] = lambda body, number: "fine"
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        lock, outer = threading.Lock(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.seen)
                    outer.seen.append(body | {"path": self.path})
                    outer.headers.append(dict(self.headers))
                    outer.times.append(time.monotonic())
                reply = outer.reply(body, number)
                if isinstance(reply, float):
                    time.sleep(reply)
                    return
                if isinstance(reply, str):
                    reply = (200, {}, completion(reply))
                self.send_response(reply[0])
                for name, value in reply[1].items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply[2])))
                self.end_headers()
                self.wfile.write(reply[2])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


def completion(text: Any, ended: str = "stop") -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": ended}]}).encode()


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """A server on a port of its own; `url` ends in /v1."""
    server = ChatServer()
    yield server
    server.server.shutdown()
    server.server.server_close()
