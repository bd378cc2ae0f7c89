"""Models as llama.cpp has them: its names for settings and weights, and how it lays weights out.

What is written here is what `src/llama-model.cpp` of llama.cpp reads. A setting that it has no place for is refused:
a file that llama.cpp would compute otherwise is worse than none.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from whet.errors import ModelError, did_you_mean

Settings = dict[str, int | float]
"""Metadata of the model in a GGUF file, without the architecture's name before each key."""

_SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "vocab_size": "vocab_size",
}
_ROPE = _SIZES | {
    "feed_forward_length": "intermediate_size",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "rope.dimension_count": "head_dim",
}
_CAPS = {"attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping"}


@dataclass(frozen=True)
class Architecture:
    """`name` in GGUF. `keys`: metadata -> attribute of the config; what the config has as None is left out.
    `paired`: rotary halves of q and k interleaved. `norm_shift`: added to the gains of norms, which the model adds when
    it runs. `conv1d`: matrices are held [in, out]. `tied`: it knows no head of its own. `window`: every so many layers
    one sees all, the others the sliding window; 0: it knows no window. `activation` is the one that it computes."""

    name: str
    keys: dict[str, str]
    paired: bool = False
    norm_shift: float = 0.0
    conv1d: bool = False
    tied: bool = False
    window: int = 0
    activation: str = "silu"


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("llama", _ROPE, paired=True),
    "mistral": Architecture("llama", _ROPE, paired=True),
    "qwen2": Architecture("qwen2", _ROPE),
    "qwen3": Architecture("qwen3", _ROPE),
    "gemma": Architecture("gemma", _ROPE, norm_shift=1.0, tied=True, activation="gelu_pytorch_tanh"),
    "gemma2": Architecture(
        "gemma2", _ROPE | _CAPS, norm_shift=1.0, tied=True, window=2, activation="gelu_pytorch_tanh"
    ),
    "gemma3_text": Architecture("gemma3", _ROPE, norm_shift=1.0, tied=True, window=6, activation="gelu_pytorch_tanh"),
    "gpt2": Architecture(
        "gpt2", _SIZES | {"attention.layer_norm_epsilon": "layer_norm_epsilon"}, conv1d=True, activation="gelu_new"
    ),
}
"""By `model_type` of config.json."""


def architecture_of(config: Any) -> Architecture:
    """Raises ModelError for a model type that is not known here."""
    if config.model_type not in ARCHITECTURES:
        raise ModelError(
            f"GGUF of {config.model_type!r} is not known.{did_you_mean(config.model_type, ARCHITECTURES)}",
            where="--to gguf",
            do=f"known are {', '.join(ARCHITECTURES)}; any model can be exported --to hf",
        )
    return ARCHITECTURES[config.model_type]


def check_config(config: Any) -> list[str]:
    """Whether llama.cpp computes what this config says; what should be told though it is no fault.

    Raises ModelError that names the first setting which it has no place for.
    """
    known = architecture_of(config)
    full, sliding = _ropes(config)
    activation = getattr(config, "hidden_activation", None) or getattr(
        config, "activation_function", getattr(config, "hidden_act", None)
    )
    wrong: list[tuple[str, Any]] = []
    if activation != known.activation:
        wrong.append(("activation", activation))
    if known.tied and not config.tie_word_embeddings:
        wrong.append(("tie_word_embeddings", False))
    if full.get("rope_type", "default") not in ("default", "linear", "llama3"):
        wrong.append(("rope_type", full["rope_type"]))
    if full.get("partial_rotary_factor", 1.0) != 1.0:
        wrong.append(("partial_rotary_factor", full["partial_rotary_factor"]))
    if sliding and (sliding.get("rope_type", "default") != "default" or sliding.get("rope_theta") != 10000.0):
        wrong.append(("rope_parameters of sliding attention", sliding))
    scale = getattr(config, "query_pre_attn_scalar", None)
    if scale is not None and scale != _head_dim(config):
        wrong.append(("query_pre_attn_scalar", scale))
    if getattr(config, "scale_attn_by_inverse_layer_idx", False) or not getattr(config, "scale_attn_weights", True):
        wrong.append(("scaling of attention", "by layer, or none"))
    for cap in _CAPS:
        if getattr(config, cap, None) is not None and cap not in known.keys:
            wrong.append((cap, getattr(config, cap)))
    if known.window and list(config.layer_types) != _layer_types(known.window, config.num_hidden_layers):
        wrong.append(("layer_types", config.layer_types))
    if wrong:
        name, value = wrong[0]
        raise ModelError(
            f"llama.cpp's {known.name} has no place for {name} = {value}",
            where="--to gguf",
            do="export it --to hf, which every setting survives",
        )
    window = _plain_window(config, known)
    return [f"contexts are cut to {window:,} tokens: llama.cpp's {known.name} has no sliding window"] if window else []


def settings_of(config: Any) -> Settings:
    """The metadata of a config."""
    known = architecture_of(config)
    settings: Settings = {}
    for key, attribute in known.keys.items():
        value = _head_dim(config) if attribute == "head_dim" else getattr(config, attribute)
        if value is not None:
            settings[key] = value
    if known.conv1d:
        settings["feed_forward_length"] = config.n_inner or 4 * config.hidden_size
        return settings
    full, _ = _ropes(config)
    settings["rope.freq_base"] = float(full["rope_theta"])
    if full.get("rope_type") == "linear":
        settings["rope.scaling.factor"] = float(full["factor"])
    if window := _plain_window(config, known):
        settings["context_length"] = window
    elif known.window:
        settings["attention.sliding_window"] = config.sliding_window
    return settings


def config_with(config: Any, settings: Settings) -> Any:
    """A copy of a config with everything that a file's metadata says in it, to read a file back by."""
    read = copy.deepcopy(config)
    for key, attribute in architecture_of(config).keys.items():
        if attribute != "head_dim" and key != "context_length":
            setattr(read, attribute, settings.get(key))
    full, _ = _ropes(read)
    if full:
        read.head_dim = settings["attention.key_length"]
        full["rope_theta"] = settings["rope.freq_base"]
    if "attention.sliding_window" in settings:
        read.sliding_window = settings["attention.sliding_window"]
    return read


def rope_factors(config: Any) -> np.ndarray | None:
    """What llama.cpp divides the rotary frequencies by, [head_dim / 2] float32, for Llama 3's long contexts.

    Long waves are stretched by `factor`, short ones kept, those between go over smoothly (`_compute_llama3_parameters`
    of transformers).
    """
    full, _ = _ropes(config)
    if full.get("rope_type") != "llama3":
        return None
    dim = _head_dim(config)
    waves = 2 * math.pi * full["rope_theta"] ** (np.arange(0, dim, 2, dtype=np.float64) / dim)
    low, high = full["low_freq_factor"], full["high_freq_factor"]
    smooth = np.clip((full["original_max_position_embeddings"] / waves - low) / (high - low), 0, 1)
    factors: np.ndarray = (1 / ((1 - smooth) / full["factor"] + smooth)).astype(np.float32)
    return factors


def names_of(model: Any, known: Architecture) -> dict[str, str]:
    """GGUF's name of every parameter, by its own. Raises ModelError for one that has none."""
    import gguf

    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == known.name)
    place = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    names = {}
    for name, _ in model.named_parameters():
        found = place.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelError(
                f"llama.cpp's {known.name} has no place for the weight {name}",
                where="--to gguf",
                do="export it --to hf",
            )
        names[name] = found
    return names


def laid_out(name: str, weight: torch.Tensor, config: Any) -> np.ndarray:
    """A parameter as llama.cpp has it, float32."""
    array: np.ndarray = _relaid(name, weight, config, _interleaved, architecture_of(config).norm_shift).numpy()
    return array


def shape_of(name: str, weight: torch.Tensor, config: Any) -> tuple[int, ...]:
    """The shape of `laid_out`, without the work."""
    return tuple(_relaid(name, weight.to("meta"), config, _interleaved, 0.0).shape)


def laid_back(name: str, array: np.ndarray, config: Any) -> torch.Tensor:
    """The parameter of what `laid_out` made of it."""
    return _relaid(name, torch.tensor(array), config, _in_halves, -architecture_of(config).norm_shift)


def _relaid(
    name: str, weight: torch.Tensor, config: Any, order: Callable[[torch.Tensor, int], torch.Tensor], shift: float
) -> torch.Tensor:
    known, weight = architecture_of(config), weight.detach().float()
    module, _, kind = name.rpartition(".")
    if known.paired and module.endswith(("q_proj", "k_proj")):
        heads = config.num_attention_heads if module.endswith("q_proj") else config.num_key_value_heads
        return order(weight, heads)
    if known.conv1d and kind == "weight" and module.endswith(("c_attn", "c_proj", "c_fc")):
        return weight.T.contiguous()
    return weight + shift if module.endswith("norm") else weight


def _interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head from halves (x1 x2 .. y1 y2 ..), as transformers rotates them, to pairs (x1 y1 x2 y2 ..)."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2).contiguous()


def _in_halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2).contiguous()


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _ropes(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rotary settings of layers that see all and, where they are others, of those with a window. Not copies."""
    ropes = getattr(config, "rope_parameters", None) or {}
    return (ropes["full_attention"], ropes["sliding_attention"]) if "full_attention" in ropes else (ropes, {})


def _plain_window(config: Any, known: Architecture) -> int | None:
    """The sliding window of a model whose llama.cpp twin has none: within it the two are equal."""
    window = getattr(config, "sliding_window", None)
    if known.window or not window or not getattr(config, "use_sliding_window", True):
        return None
    return int(window) if window < config.max_position_embeddings else None


def _layer_types(every: int, layers: int) -> list[str]:
    return ["sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(layers)]
