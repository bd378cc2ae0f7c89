"""A model folder is looked through before transformers reads it: nothing in it may run, and nothing may be missing.

Configs are data, and yet two of them have run code past `trust_remote_code=False`: CVE-2026-4372 through
`_attn_implementation_internal`, which named a repository of attention kernels, and CVE-2026-5241 through a
`trust_remote_code` of the config's own, handed on to a nested load. Both are closed by transformers 5.5. The next one
is met here:

- a key that switches code on or says where it is (`CODE_KEYS`) is refused, at any depth;
- any other key that looks as if it named code, a repository or a path (a leading underscore, or a word such as
  `kernel`, `module`, `file`, `url`) is refused when its value holds text, unless the model type's own config class
  declares it: `conv_kernel: 4` of Mamba passes, `layer_kernels: "someone/repo"` does not;
- unknown keys that are plain settings pass, since every training tool leaves some behind;
- `auto_map` is refused where the model needs it. Where transformers has a class of its own for the type, as for Falcon
  and Phi-3, whose configs still carry one, it passes with a note: `trust_remote_code=False` keeps it from being used.

`model.trust_remote_code` lifts the check of keys, as the model's own Python runs then anyway.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from whet.errors import ModelError, did_you_mean
from whet.models.weights import check_inside, check_safetensors, check_weights, no_weights, read_json
from whet.recipe import ModelPart

CONFIG_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
"""The configs that transformers reads from a model's folder."""

CODE_KEYS = frozenset(
    {
        "allow_all_kernels",
        "auto_map",
        "code_revision",
        "custom_generate",
        "custom_pipelines",
        "fusion_config",
        "gguf_file",
        "kernel_config",
        "transformers_weights",
        "trust_remote_code",
        "use_kernels",
    }
)
"""Keys that load or choose code, in configs or in the calls that configs have been smuggled into."""

_IMPLEMENTATION = re.compile(r"_?(attn|experts)_implementation(_internal)?")
_HARMLESS_IMPLEMENTATIONS = (None, "eager", "sdpa")
_NAMES_SOMETHING = re.compile(
    r"^_|(^|_)(code|dir|files?|filename|folder|hub|implementation|import|kernels?|modules?|path|pipelines?|plugins?"
    r"|remote|repo|repository|scripts?|url)(_|$)"
)
# A model's own name, left by older versions in every config and overwritten at loading.
_HARMLESS_KEYS = frozenset({"_name_or_path", "name_or_path", "_commit_hash"})
_NOT_CAUSAL = re.compile(r"For(MaskedLM|TokenClassification|QuestionAnswering|MultipleChoice)$")


def check_folder(folder: Path, part: ModelPart, weights: bool = True) -> list[str]:
    """Look a model folder through. Returns what should be told though it is no fault.

    `weights` False leaves out the weights, for when only the config or the tokenizer is wanted. Raises ModelError for
    a missing or broken config.json, a model type that transformers does not know or that is no causal language model,
    keys or files that could run code, links and shards that lead out of the folder, and weights that are missing, in
    another format or cut short.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise _no_config(folder)
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            "an adapter lies among the model's files, and transformers would put it on unasked",
            where=str(folder),
            do="move adapter_config.json and adapter_model.safetensors to a folder of their own",
        )
    for other in folder.iterdir():
        if other.is_symlink() and not other.is_dir():
            check_inside(other, folder)
    config = read_json(path)
    _check_quantised(config, path)
    notes = [] if part.trust_remote_code else _check_keys(folder, _is_known(config))
    _check_type(config, path, part)
    return notes + (check_weights(folder) if weights else [])


def check_tokenizer(tokenizer: Any, config: Any) -> None:
    """Whether the model has an embedding for every id that the tokenizer can give.

    A model with more embeddings than the tokenizer has tokens is fine: vocabularies are padded to round numbers. So
    are placeholders for images and sound in the tokenizer of a text-only model (gemma-3-1b has one).

    Raises ModelError that names both sizes, and the first token without an embedding.
    """
    size = config.get_text_config().vocab_size
    placeholders = [getattr(tokenizer, f"{kind}_token", None) for kind in ("image", "video", "audio")]
    outside = {token: i for token, i in tokenizer.get_vocab().items() if i >= size and token not in placeholders}
    if outside:
        first = min(outside, key=lambda token: outside[token])
        more = f" and {len(outside) - 1:,} more" if len(outside) > 1 else ""
        raise ModelError(
            f"the tokenizer has ids up to {max(outside.values()):,}, the model embeddings for {size:,} tokens"
            f" (0 to {size - 1:,}): none for {first!r} ({outside[first]:,}){more}",
            where=str(getattr(tokenizer, "name_or_path", "") or "tokenizer"),
            do="use the tokenizer that the model was trained with; after adding tokens, call"
            " model.resize_token_embeddings(len(tokenizer)) and save both",
        )


def check_adapter(folder: Path) -> None:
    """Look a folder in peft's format through: its configs, a tokenizer's with them, and its weights, as `check_folder`
    does a model's.

    Raises ModelError.
    """
    path, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise no_weights(folder, weights.name)
    for file in (path, weights):
        check_inside(file, folder)
    if read_json(path).get("megatron_config"):  # peft then imports the module that `megatron_core` names
        raise ModelError(
            "`megatron_config` makes peft import a module of the adapter's choice",
            where=str(path),
            do="delete the key: only transformers models are loaded here",
        )
    _check_keys(folder, known_type=True)
    check_safetensors(weights)


def _check_keys(folder: Path, known_type: bool) -> list[str]:
    """Raise ModelError for the first key that could run code; return notes on code that will not be run."""
    notes = []
    for path in (folder / name for name in CONFIG_FILES if (folder / name).is_file()):
        config = read_json(path)
        if known_type and config.pop("auto_map", None):
            notes.append(f"{path}: the model brings Python code; it is not run, transformers' own is used")
        if path.name == "tokenizer_config.json":
            named = _file_outside(config, folder)
            config = {key: value for key, value in config.items() if not key.endswith(("_file", "_token"))}
        else:
            named = None
        named = named or _named_code(config, "", _declared(config))
        if named:
            raise ModelError(
                f"`{named[0]}` can make loading run code or open files of the model's choice; found {named[1]!r}",
                where=str(path),
                do="delete the key if the model works without it; or, once you have read its code and trust it:"
                " model.trust_remote_code=true",
            )
    return notes


def _named_code(tree: Any, above: str, known: frozenset[str]) -> tuple[str, Any] | None:
    """The dotted key and the value of the first entry that could name or switch on code, at any depth."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        name = f"{above}.{key}" if above else str(key)
        if isinstance(tree, dict) and _refused(str(key), value, known):
            return name, value
        if found := _named_code(value, name, _declared(value)):
            return found
    return None


def _refused(key: str, value: Any, known: frozenset[str]) -> bool:
    if value is None or value is False or value == {} or value == []:
        return False
    if _IMPLEMENTATION.fullmatch(key):
        return value not in _HARMLESS_IMPLEMENTATIONS
    if key in CODE_KEYS:
        return True
    if key in known or key in _HARMLESS_KEYS:
        return False
    return bool(_NAMES_SOMETHING.search(key)) and _holds_text(value)


def _holds_text(value: Any) -> bool:
    if isinstance(value, (list, dict)):
        return any(map(_holds_text, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str)


def _is_known(config: dict[str, Any]) -> bool:
    """Whether transformers has a class of its own for the model type."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    model_type = config.get("model_type")
    return isinstance(model_type, str) and model_type in CONFIG_MAPPING_NAMES


def _declared(config: Any) -> frozenset[str]:
    """The keys that the config class of a model type declares; none where the type is not known."""
    from transformers import CONFIG_MAPPING

    if not isinstance(config, dict) or not _is_known(config):
        return frozenset()
    declared = CONFIG_MAPPING[config["model_type"]]
    # Config classes are dataclasses in newer versions of transformers, and plain ones before.
    fields = getattr(declared, "__dataclass_fields__", ())
    return frozenset([*fields, *inspect.signature(declared.__init__).parameters, *declared.attribute_map])


def _file_outside(config: dict[str, Any], folder: Path) -> tuple[str, str] | None:
    """A key that names an existing file outside the folder. Older tools left their own machine's paths in
    `special_tokens_map_file` and the like; those lead nowhere here, and pass."""
    for key, value in config.items():
        if key.endswith("_file") and isinstance(value, str) and value:
            path = folder / Path(value).expanduser()
            if path.exists() and not path.resolve().is_relative_to(folder.resolve()):
                return key, value
    return None


def _check_quantised(config: dict[str, Any], path: Path) -> None:
    """Weights in few bits need libraries, and configs of their own that name modules."""
    quantised = config.get("quantization_config") or config.get("compression_config")
    if quantised:
        kind = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise ModelError(
            f"the weights are quantised{f' ({kind})' if kind else ''}",
            where=str(path),
            do="give the model that they were made from: only full weights are loaded so far",
        )


def _check_type(config: dict[str, Any], path: Path, part: ModelPart) -> None:
    """A known type of causal language model, one with a head for rewards too, or one that brings its code and may run
    it."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if part.trust_remote_code and "auto_map" in config:
        return
    if not _is_known(config):
        model_type = config.get("model_type")
        near = did_you_mean(model_type, CONFIG_MAPPING_NAMES) if isinstance(model_type, str) else ""
        raise ModelError(
            f"unknown model type {model_type!r}.{near}" if model_type else "no `model_type`",
            where=str(path),
            do="correct `model_type`; a newer model may need a newer transformers: pip install -U transformers",
        )
    names = config.get("architectures")
    architectures = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    other = bool(architectures) and all(_NOT_CAUSAL.search(name) for name in architectures)
    if other or config["model_type"] not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{(architectures or [config['model_type']])[0]} is not a causal language model",
            where=str(path),
            do="choose one that writes text from left to right, such as a Llama, Qwen, Gemma or GPT-2",
        )


def _no_config(folder: Path) -> ModelError:
    if (folder / "adapter_config.json").is_file():
        return ModelError(
            "an adapter, not a model", where=str(folder), do="give the run folder that it lies in, or its base model"
        )
    inside = sorted(str(path.parent) for path in folder.glob("*/config.json"))
    return ModelError(
        "not a model folder: no config.json",
        where=str(folder),
        do=f"did you mean {inside[0]}?"
        if inside
        else "a model folder holds config.json, model.safetensors, tokenizer.json",
    )
