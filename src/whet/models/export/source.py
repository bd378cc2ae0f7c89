"""What is to be exported, and to which targets it can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from whet.errors import RecipeError, RunError
from whet.methods import METHODS
from whet.models.export.gate import Gate, Reference
from whet.models.in_context.prompt import Prompt, read_prompt
from whet.models.saved import result_of
from whet.models.weights import read_json
from whet.recipe import ModelPart, load_recipe

Target = Literal["hf", "peft", "gguf", "ollama", "vllm"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
GGUFType = Literal["f32", "f16", "bf16", "q8_0"]


@dataclass(frozen=True)
class Source:
    """`adapter` is its folder, None for a whole model; `part` is the model that holds the weights, or that the adapter
    lies on; `kind` is the method's. `run` says whether there is a run around it."""

    name: str
    part: ModelPart
    kind: str
    adapter: Path | None
    run: bool

    @property
    def title(self) -> str:
        """The last part of its name, for what others list models by."""
        return Path(self.name).expanduser().resolve().name


@dataclass
class Work:
    """An export under way. `model` (float32) and `tokenizer` are the run's, as `open_run` gives them; `folder` is the
    temporary one. Who has written the model sets it to None, so that there is room for the one that is read back."""

    source: Source
    folder: Path
    gate: Gate
    reference: Reference
    model: Any
    tokenizer: Any
    notes: list[str] = field(default_factory=list)


def source_of(run: Path | str) -> Source:
    """A run's result, or a model by folder or name. Raises RunError for a run that is not finished, and for a
    prompt that is not the same for all questions."""
    folder = Path(run).expanduser()
    if not (folder / "recipe.yaml").is_file():
        return Source(str(run), ModelPart(name=str(run)), "full", None, run=False)
    recipe = load_recipe(folder / "recipe.yaml")
    result = result_of(folder)
    if result.name == "prompt":
        _check_same_for_all(read_prompt(result), folder)
        return Source(str(run), recipe.model, recipe.method.kind, None, run=True)
    if result.name == "model":
        return Source(str(run), ModelPart(name=str(result)), recipe.method.kind, None, run=True)
    return Source(str(run), recipe.model, recipe.method.kind, result, run=True)


def check_wish(source: Source, to: Target, merge: bool, dtype: DType | None, gguf_type: GGUFType | None) -> None:
    """Raise RunError for a target that this method's result cannot be, RecipeError for an option that means nothing."""
    if dtype is not None and (to not in ("hf", "vllm") or not merge):
        raise RecipeError(f"--dtype is of hf and merged vllm, not of {to}", where="--dtype", do="leave it out")
    if gguf_type is not None and to not in ("gguf", "ollama"):
        raise RecipeError(f"--gguf-type is of gguf and ollama, not of {to}", where="--gguf-type", do="leave it out")
    if not merge and to != "vllm":
        why = "an adapter's folder is --to peft" if to == "hf" else f"{to} has one form only"
        raise RecipeError(f"--no-merge is of vllm: {why}", where="--no-merge", do="leave it out")
    if source.adapter is None:
        if to == "peft" or not merge:
            raise RunError("a whole model, without an adapter", where=source.name, do="export it --to hf")
        return
    as_adapter = to == "peft" or not merge
    if as_adapter and not _is_pefts(source.adapter):
        raise RunError(
            f"the adapter of {source.kind} is not one that peft can read",
            where=str(source.adapter),
            do="hand over this folder itself; whet reads it" + (", or export --to hf" if _merges(source) else ""),
        )
    if not as_adapter and not _merges(source):
        takes = "--to peft" if _is_pefts(source.adapter) else f"its own folder, {source.adapter}"
        raise RunError(
            f"{source.kind} cannot be merged into the weights, so it cannot be exported to {to}",
            where=source.name,
            do=f"what it can be handed over as is {takes}",
        )
    if to == "vllm" and not merge:
        _check_vllm(source, read_json(source.adapter / "adapter_config.json"))


def _check_same_for_all(prompt: Prompt, run: Path) -> None:
    """A prompt run is exported as its base with a chat template that writes the prompt; what hangs on the question, or
    on columns of rows, no chat template can write."""
    if prompt.by_question:
        raise RunError(
            f"choose={prompt.part.choose} shows each question demonstrations of its own, which no chat template can",
            where=str(run),
            do="make the prompt with --choose diverse or random; whet itself asks with this one",
        )
    if prompt.around is None:
        raise RunError(
            f"its template is filled from rows, which no chat template can: {prompt.part.template[:60]!r}",
            where=str(run),
            do="make the prompt with a template that has texts around {{ prompt }} and nothing else",
        )


def _merges(source: Source) -> bool:
    return METHODS[source.kind].merge is not None


def _is_pefts(adapter: Path) -> bool:
    path = adapter / "adapter_config.json"
    return path.is_file() and "peft_type" in read_json(path)


def _check_vllm(source: Source, config: dict[str, Any]) -> None:
    """vLLM serves plain LoRA only (its `PEFTHelper` refuses the rest)."""
    unfit = [key for key in ("use_dora", "modules_to_save", "trainable_token_indices") if config.get(key)]
    if config["peft_type"] != "LORA" or unfit:
        what = f"{unfit[0]} of a LoRA" if unfit else str(config["peft_type"])
        raise RunError(f"vLLM cannot serve {what} beside its base", where=source.name, do="leave out --no-merge")
