"""Folders as transformers, peft and vLLM read them, and the gate's checks of what is read back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from whet.errors import ModelError, RunError, WhetError
from whet.methods import METHODS
from whet.methods.lora import is_tied
from whet.models.export import gate as gates
from whet.models.export.source import DType, Source, Work
from whet.models.load import find, load, load_config, read_tokenizer
from whet.models.saved import open_run
from whet.models.weights import read_json
from whet.recipe import ModelPart
from whet.tokens.template import Renderer

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM's --max-lora-rank takes


def write_model(work: Work, dtype: DType) -> None:
    """The whole model in Hugging Face's format, read back and compared."""
    kind = _dtype(dtype, work.source)
    _set_stops(work.model, work.tokenizer, work.reference.stop_ids)
    work.model.to(kind).save_pretrained(work.folder)
    work.tokenizer.save_pretrained(work.folder)
    tied = is_tied(work.model)
    precision = str(kind).removeprefix("torch.")
    try:
        opened = load(ModelPart(name=str(work.folder)), torch.float32)
    except ModelError as error:
        raise _not_opened(work, error) from error
    gates.check_tokenizer(work.gate, work.reference, opened.tokenizer)
    gates.check_stops(work.gate, work.reference.stop_ids, _stops(work.folder), work.tokenizer)
    embeddings = opened.model.get_input_embeddings().num_embeddings
    gates.check_vocabulary(work.gate, work.reference, embeddings, len(opened.tokenizer))
    _check_tied(work, opened.model, tied)
    _check_weights(work, opened.model, precision)
    work.model = None
    gates.check_answers(work.gate, work.reference, opened.model, opened.tokenizer, precision)


def write_adapter(work: Work) -> None:
    """The adapter in peft's format with its tokenizer, read back on its base and compared."""
    source = work.source
    assert source.adapter is not None
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(source.adapter / name, work.folder / name)
    work.tokenizer.save_pretrained(work.folder)
    work.model = None  # before the base is loaded a second time
    base = open_run(source.name, base=True, dtype=torch.float32, whole=True).model
    embeddings = base.get_input_embeddings().weight.shape[0]
    load_adapter = METHODS[source.kind].load
    assert load_adapter is not None
    try:
        tokenizer = read_tokenizer(work.folder, source.part, base.config)
        model = load_adapter(base, work.folder)  # PeftModel.from_pretrained, and no weight may lack its place
    except WhetError as error:
        raise _not_opened(work, error) from error
    gates.check_tokenizer(work.gate, work.reference, tokenizer)
    gates.check_stops(work.gate, work.reference.stop_ids, Renderer(tokenizer).stop_ids, tokenizer)
    gates.check_vocabulary(work.gate, work.reference, embeddings, len(tokenizer))
    gates.check_answers(work.gate, work.reference, model, tokenizer, "float32")
    if embeddings > _vocabulary(source):
        work.notes.append(
            f"the base has no rows for the new tokens: resize it to {embeddings:,} before the adapter is put on"
        )


def load_adapter_code(source: Source, folder: Path, embeddings: int) -> str:
    """A line of Python that loads an exported adapter on its base; `embeddings` are the rows it was trained with."""
    base = f"AutoModelForCausalLM.from_pretrained({_base(source)!r})"
    if embeddings <= _vocabulary(source):
        return f"PeftModel.from_pretrained({base}, {str(folder)!r})"
    return (
        f"base = {base}; base.resize_token_embeddings({embeddings}); "
        f"model = PeftModel.from_pretrained(base, {str(folder)!r})"
    )


def serve_adapter_command(source: Source, folder: Path) -> str:
    """vLLM's command for a base with an adapter beside it; its rank must be one of those that vLLM knows."""
    config = read_json(folder / "adapter_config.json")
    rank = max([config["r"], *config.get("rank_pattern", {}).values()])
    limit = next((size for size in _LORA_RANKS if size >= rank), rank)
    name = source.title
    return (
        f"vllm serve {_base(source)} --enable-lora --max-lora-rank {limit} --lora-modules {name}={folder}"
        f" --chat-template {folder / 'chat_template.jinja'}"
    )


def _base(source: Source) -> str:
    """What others load the base by: a name on the hub, or a folder."""
    folder = find(source.part, weights=False)
    return source.part.name if "snapshots" in folder.parts else str(folder)


def _vocabulary(source: Source) -> int:
    """Rows of embeddings that the base's files have."""
    return int(load_config(source.part).get_text_config().vocab_size)


def _dtype(dtype: DType, source: Source) -> torch.dtype:
    """As asked for; auto: what config.json of the model, or of the adapter's base, says of its weights."""
    if dtype != "auto":
        return getattr(torch, dtype)  # type: ignore[no-any-return]
    said = load_config(source.part).dtype
    return said if said in (torch.bfloat16, torch.float16) else torch.float32


def _set_stops(model: Any, tokenizer: Any, stop_ids: frozenset[int]) -> None:
    """What `generate` and vLLM stop at, in generation_config.json. The model's own settings of sampling are kept."""
    config = model.generation_config
    config.eos_token_id = sorted(stop_ids)
    if config.bos_token_id is None:
        config.bos_token_id = tokenizer.bos_token_id
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    if any(getattr(config, name, None) not in (None, 1.0) for name in ("temperature", "top_p", "top_k", "min_p")):
        config.do_sample = True  # settings of sampling without it are not saved by transformers, but refused


def _stops(folder: Path) -> list[int]:
    found = read_json(folder / "generation_config.json").get("eos_token_id")
    return found if isinstance(found, list) else [] if found is None else [found]


def _check_tied(work: Work, opened: Any, tied: bool) -> None:
    """Config, files and the opened model say the same of head and embeddings."""
    config = bool(opened.config.get_text_config().tie_word_embeddings)
    words = {True: "tied", False: "two matrices"}
    work.gate.equal("embeddings and head, by config.json", words[tied], words[config], words[config])
    work.gate.equal("embeddings and head, opened", words[tied], words[is_tied(opened)], words[config])


def _check_weights(work: Work, opened: Any, precision: str) -> None:
    """Every weight is bit for bit the run's, rounded to the precision. `work.model` has been rounded already."""
    wanted, found = (dict(model.named_parameters()) for model in (work.model, opened))
    work.gate.equal("weights, by name", sorted(wanted), sorted(found), f"{len(found)} tensors")
    for name, tensor in wanted.items():
        expected = tensor.detach().float()
        other = found[name].detach()
        if expected.shape != other.shape:
            raise work.gate.differs(f"weight {name}", list(expected.shape), list(other.shape))
        if not torch.equal(expected, other):
            at = tuple((expected != other).nonzero()[0].tolist())
            raise work.gate.differs(f"weight {name} at {list(at)}", float(expected[at]), float(other[at]))
    work.gate.checks.append(gates.Check("weights", f"{sum(p.numel() for p in found.values()):,} equal in {precision}"))


def _not_opened(work: Work, error: WhetError) -> RunError:
    return work.gate.differs("opening the files", "a model that loads", error.what)
