"""Writes fixtures/adapters.safetensors and adapters.json: what the `adapters` library makes of tiny models.

The library pins transformers 4.57, so it needs an environment of its own:

    python -m venv adapters-venv
    adapters-venv/bin/pip install adapters==1.3.0 torch
    adapters-venv/bin/python tests/methods/make_adapters_fixture.py

For a llama and a gpt2 of random weights: the weights, token ids, and for each kind of adapter (and a stack of two) its
weights by the library's own names, how many there are, and the logits.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import adapters
import torch
from adapters import DoubleSeqBnConfig, ParBnConfig, SeqBnConfig
from adapters.composition import Stack
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

FOLDER = Path(__file__).parent / "fixtures"
MODELS = {
    "llama": {
        "vocab_size": 48, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "tie_word_embeddings": False,
    },
    "gpt2": {"vocab_size": 48, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32},
}  # fmt: skip
# The library's defaults, but for widths that a model of 16 units leaves something of.
ADAPTERS = {
    "houlsby": DoubleSeqBnConfig(reduction_factor=4),
    "pfeiffer": SeqBnConfig(reduction_factor=4),
    "parallel": ParBnConfig(),
    "pfeiffer gelu": SeqBnConfig(reduction_factor=3, non_linearity="gelu", scaling=0.5),
    "parallel tanh": ParBnConfig(reduction_factor=2.5, non_linearity="tanh", scaling=1.5),
    "houlsby second": DoubleSeqBnConfig(reduction_factor=8),
}


def main() -> None:
    tensors: dict[str, torch.Tensor] = {}
    facts: dict[str, Any] = {
        "versions": {name: version(name) for name in ("adapters", "transformers", "torch")},
        "adapters": {
            name: {key: config[key] for key in ("reduction_factor", "non_linearity", "scaling")}
            for name, config in ADAPTERS.items()
        },
        "models": MODELS,
        "parameters": {},
    }
    ids_RL = torch.randint(0, 48, (2, 12), generator=torch.Generator().manual_seed(0))
    tensors["ids"] = ids_RL
    for number, (architecture, settings) in enumerate(MODELS.items()):
        config = AutoConfig.for_model(architecture, **settings)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        draw = torch.Generator().manual_seed(number)
        randomise(dict(model.named_parameters()), draw)
        tensors |= {f"{architecture}/model/{name}": p.detach().clone() for name, p in model.named_parameters()}
        tensors[f"{architecture}/logits"] = logits(model, ids_RL)
        adapters.init(model)
        for name, adapter in ADAPTERS.items():
            key = name.replace(" ", "_")
            model.add_adapter(key, config=adapter)
            own = {path: p for path, p in model.named_parameters() if f".adapters.{key}." in path}
            randomise(own, draw)
            model.set_active_adapters(key)
            facts["parameters"][f"{architecture}/{name}"] = sum(p.numel() for p in own.values())
            tensors |= {f"{architecture}/{name}/{path}": p.detach().clone() for path, p in own.items()}
            tensors[f"{architecture}/{name}/logits"] = logits(model, ids_RL)
        model.set_active_adapters(Stack("houlsby", "houlsby_second"))
        tensors[f"{architecture}/houlsby, houlsby second/logits"] = logits(model, ids_RL)
    FOLDER.mkdir(exist_ok=True)
    save_file(tensors, FOLDER / "adapters.safetensors")
    (FOLDER / "adapters.json").write_text(json.dumps(facts, indent=1) + "\n")


@torch.no_grad()
def randomise(parameters: dict[str, torch.Tensor], draw: torch.Generator) -> None:
    for name, parameter in parameters.items():
        parameter.normal_(std=0.3, generator=draw)
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.add_(1.0)  # gains of norms


@torch.no_grad()
def logits(model: Any, ids_RL: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids_RL, use_cache=False).logits.clone()


if __name__ == "__main__":
    main()
