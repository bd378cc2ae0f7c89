"""Folders for llama.cpp and Ollama: a GGUF file, and a Modelfile beside it. The gate reads both back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from whet.errors import RunError
from whet.methods.lora import is_tied
from whet.models.export import gate as gates
from whet.models.export import gguf_file
from whet.models.export.gguf_models import architecture_of, check_config, config_with, laid_back, laid_out, names_of
from whet.models.export.gguf_tokenizer import encoder, vocabulary_of
from whet.models.export.ollama import modelfile_of, read_modelfile, rendered_for_ollama
from whet.models.export.source import GGUFType, Source, Target, Work
from whet.models.load import load_config

_PRECISION = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "q8_0": "q8_0"}


def check_source(source: Source) -> None:
    """Before anything is loaded: is the `gguf` package there, and does llama.cpp know such a model?

    Raises MissingExtra, ModelError.
    """
    gguf_file.need_gguf()
    check_config(load_config(source.part))


def write_gguf(work: Work, kind: GGUFType) -> Path:
    """`model-<kind>.gguf`, read back and compared. The model is let go of."""
    path = work.folder / f"model-{kind}.gguf"
    work.notes += check_config(work.model.config)
    rows = work.reference.vocabulary
    vocabulary = vocabulary_of(work.tokenizer, work.reference.stop_ids, rows)
    gguf_file.write(path, work.model, vocabulary, work.source.title, kind)
    _check(work, path, kind)
    return path


def write_ollama(work: Work, kind: GGUFType) -> None:
    """The same with a Modelfile."""
    add_bos = vocabulary_of(work.tokenizer, work.reference.stop_ids, work.reference.vocabulary).add_bos
    modelfile = modelfile_of(work.tokenizer, work.reference.stop_ids, add_bos)
    path = write_gguf(work, kind)
    (work.folder / "Modelfile").write_text(modelfile.written(path.name), encoding="utf-8")
    _check_modelfile(work, add_bos)
    work.notes += modelfile.notes


def next_command(to: Target, source: Source, folder: Path) -> str:
    """What runs the exported model."""
    if to == "ollama":
        return f"ollama create {source.title.lower()} -f {folder / 'Modelfile'}"
    return f"llama-cli -m {next(folder.glob('*.gguf'))}"


def _check(work: Work, path: Path, kind: GGUFType) -> None:
    gate, expected = work.gate, work.reference
    try:
        file = gguf_file.read(path)
    except RunError as error:
        raise gate.differs("opening the file", "GGUF", error.what) from error
    gate.equal("chat template", expected.template, file.vocabulary.template, f"{len(expected.template):,} characters")
    gates.check_encoding(gate, expected, encoder(file.vocabulary))
    gates.check_stops(gate, expected.stop_ids, file.vocabulary.stops, work.tokenizer)
    gates.check_vocabulary(gate, expected, len(file.tensor("token_embd.weight")), len(work.tokenizer))
    gate.equal("tokens, one a row", len(file.vocabulary.tokens), expected.vocabulary, f"{expected.vocabulary:,}")
    tied = is_tied(work.model)
    words = {True: "tied", False: "two matrices"}
    gate.equal("embeddings and head", words[tied], words["output.weight" not in file.tensors], words[tied])
    model = _model_of(file, work, gate)
    work.model = None
    gates.check_answers(gate, expected, model, work.tokenizer, _PRECISION[kind])


def _model_of(file: gguf_file.File, work: Work, gate: gates.Gate) -> Any:
    """A transformers model with the file's settings and weights, each of which has been compared with the run's."""
    config = config_with(work.model.config, file.settings)
    known = architecture_of(config)
    gate.equal("architecture", known.name, file.architecture, known.name)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    wanted = dict(work.model.named_parameters())
    places = names_of(model, known)
    count = 0
    for name, parameter in model.named_parameters():
        if places[name] not in file.tensors:
            raise gate.differs(f"weight {name}", places[name], "no such tensor in the file")
        found = file.tensor(places[name])
        _check_weight(gate, name, laid_out(name, wanted[name], config), found, file.kind(places[name]))
        parameter.data = laid_back(name, found, config)
        count += found.size
    gate.checks.append(gates.Check("weights", f"{count:,} within half a step of their type"))
    return model


def _check_weight(gate: gates.Gate, name: str, expected: np.ndarray, found: np.ndarray, kind: str) -> None:
    """Whether each weight, as llama.cpp has it laid out, is the nearest that its type can hold."""
    if expected.shape != found.shape:
        raise gate.differs(f"weight {name}", list(expected.shape), list(found.shape))
    excess = np.abs(found - expected) - _half_a_step(expected, kind)
    if not float(excess.max()) <= 0:
        at = np.unravel_index(np.nan_to_num(excess, nan=np.inf).argmax(), excess.shape)
        place = [int(index) for index in at]
        raise gate.differs(f"weight {name} at {place} of its {kind} matrix", float(expected[at]), float(found[at]))


def _half_a_step(weight: np.ndarray, kind: str) -> np.ndarray:
    """By how much rounding to the nearest may move each weight.

    float16 has 11 significant bits and no steps below 2^-24, bfloat16 has 8. q8_0 holds blocks of 32 in steps of a
    127th of the largest, and that step in float16.
    """
    size = np.abs(weight)
    if kind == "q8_0":
        largest = size.reshape(-1, 32).max(1, keepdims=True).repeat(32, axis=1).reshape(size.shape)
        return largest * (0.5 / 127 + 2**-11) + 127 * 2**-25  # type: ignore[no-any-return]
    if kind == "f16":
        return size * 2**-11 + 2**-25  # type: ignore[no-any-return]
    return size * (2**-8 if kind == "bf16" else 0.0)  # type: ignore[no-any-return]


def _check_modelfile(work: Work, add_bos: bool) -> None:
    """What the Modelfile says: its stop tokens, and that its template renders conversations as the run's does."""
    read = read_modelfile((work.folder / "Modelfile").read_text(encoding="utf-8"))
    stops = work.tokenizer.convert_ids_to_tokens(sorted(work.reference.stop_ids))
    work.gate.equal("Modelfile: stops", sorted(stops), sorted(read.stops), ", ".join(read.stops))
    wanted = rendered_for_ollama(work.tokenizer, add_bos)
    found = [read.render(chat) for chat, _ in wanted]
    for (_, text), other in zip(wanted, found, strict=True):
        if text != other:
            work.gate.equal("Modelfile: rendered chats", text, other, "")
    work.gate.equal("Modelfile: rendered chats", len(wanted), len(found), f"{len(found)} equal")
