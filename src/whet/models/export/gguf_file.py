"""A GGUF file, written and read back through the `gguf` package, one tensor in memory at a time.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whet.errors import MissingExtra, RunError
from whet.models.export.gguf_models import (
    Settings,
    architecture_of,
    laid_out,
    names_of,
    rope_factors,
    settings_of,
    shape_of,
)
from whet.models.export.gguf_tokenizer import Vocabulary

_QUANTIZATION = 2  # version of the block formats, as llama.cpp's GGML_QNT_VERSION
_ROPE_FACTORS = "rope_freqs.weight"
_STOP_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def need_gguf() -> None:
    """Raises MissingExtra where the `gguf` package is not installed."""
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise MissingExtra("gguf", "gguf", "exporting to GGUF") from None


def write(path: Path, model: Any, vocabulary: Vocabulary, name: str, kind: str) -> None:
    """`kind` (f32, f16, bf16, q8_0) is that of matrices; vectors and positions are float32, as llama.cpp wants them,
    and matrices whose rows are no multiple of 32 are f16 where q8_0 was asked for."""
    import gguf

    config = model.config
    known = architecture_of(config)
    writer = gguf.GGUFWriter(path, known.name)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if kind == 'f32' else 'MOSTLY'}_{kind.upper()}"])
    writer.add_quantization_version(_QUANTIZATION)
    for key, value in settings_of(config).items():
        if isinstance(value, float):
            writer.add_float32(f"{known.name}.{key}", value)
        else:
            writer.add_uint32(f"{known.name}.{key}", value)
    if "rope.scaling.factor" in settings_of(config):
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    _add_vocabulary(writer, vocabulary)
    _write_tensors(writer, model, kind)


def read(path: Path) -> File:
    """Raises RunError for a file that is not whole GGUF, or lacks what llama.cpp needs."""
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        values = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        name = str(values["general.architecture"])
        start = f"{name}."
        settings = {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}
        return File(name, settings, _vocabulary(values), tensors)
    except (ValueError, KeyError, IndexError) as error:
        raise RunError(f"not a GGUF file that can be used: {error!r}", where=str(path)) from error


@dataclass(frozen=True)
class File:
    """What a GGUF file says: the architecture's name, its settings, the tokenizer, and the tensors by name, which stay
    on the disk until they are asked for."""

    architecture: str
    settings: Settings
    vocabulary: Vocabulary
    tensors: dict[str, Any]

    def tensor(self, name: str) -> np.ndarray:
        """float32, as llama.cpp has it laid out."""
        import gguf

        found = self.tensors[name]
        shape = tuple(int(size) for size in reversed(found.shape))
        return gguf.quants.dequantize(found.data, found.tensor_type).reshape(shape)

    def kind(self, name: str) -> str:
        """f32, f16, bf16 or q8_0."""
        return str(self.tensors[name].tensor_type.name).lower()


def _write_tensors(writer: Any, model: Any, kind: str) -> None:
    """Names, shapes and types of all come first in the file; then one tensor after the other."""
    import gguf

    config = model.config
    places = names_of(model, architecture_of(config))
    factors = rope_factors(config)
    if factors is not None:
        writer.add_tensor_info(_ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
    kinds = {}
    for own, parameter in model.named_parameters():
        shape = shape_of(own, parameter, config)
        kinds[own] = _kind_of(places[own], shape, kind)
        block, size = gguf.GGML_QUANT_SIZES[kinds[own]]
        count = math.prod(shape) // block * size
        writer.add_tensor_info(places[own], shape, np.dtype(np.float32), count, kinds[own])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for own, parameter in model.named_parameters():
        writer.write_tensor_data(gguf.quants.quantize(laid_out(own, parameter, config), kinds[own]))
    writer.close()


def _kind_of(place: str, shape: tuple[int, ...], kind: str) -> Any:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) < 2 or place.startswith("position_embd"):
        return GGMLQuantizationType.F32
    wanted = GGMLQuantizationType[kind.upper()]
    return wanted if shape[-1] % GGML_QUANT_SIZES[wanted][0] == 0 else GGMLQuantizationType.F16


def _add_vocabulary(writer: Any, v: Vocabulary) -> None:
    writer.add_tokenizer_model(v.model)
    writer.add_tokenizer_pre(v.pre)
    writer.add_token_list(v.tokens)
    writer.add_token_types(v.types)
    if v.merges:
        writer.add_token_merges(v.merges)
    if v.scores:
        writer.add_token_scores(v.scores)
    for key, value in zip(_STOP_KEYS, v.stops, strict=False):
        writer.add_uint32(f"tokenizer.ggml.{key}", value)
    for key, token in (("bos_token_id", v.bos), ("unknown_token_id", v.unknown), ("padding_token_id", v.padding)):
        if token is not None:
            writer.add_uint32(f"tokenizer.ggml.{key}", token)
    writer.add_add_bos_token(v.add_bos)
    writer.add_add_eos_token(v.add_eos)
    writer.add_add_space_prefix(v.add_blank)
    writer.add_chat_template(v.template)


def _vocabulary(values: dict[str, Any]) -> Vocabulary:
    own = {key.removeprefix("tokenizer."): value for key, value in values.items() if key.startswith("tokenizer.")}
    ggml = {key.removeprefix("ggml."): value for key, value in own.items()}
    return Vocabulary(
        model=ggml["model"],
        tokens=ggml["tokens"],
        types=ggml["token_type"],
        pre=ggml["pre"],
        merges=ggml.get("merges", []),
        scores=ggml.get("scores", []),
        bos=ggml.get("bos_token_id"),
        stops=[ggml[key] for key in _STOP_KEYS if key in ggml],
        unknown=ggml.get("unknown_token_id"),
        padding=ggml.get("padding_token_id"),
        add_bos=ggml["add_bos_token"],
        add_eos=ggml["add_eos_token"],
        add_blank=ggml["add_space_prefix"],
        template=own["chat_template"],
    )
