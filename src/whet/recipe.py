"""The recipe: everything that decides a run, as one typed tree. YAML first, then `a.b=value` from the command line.

No torch here: `whet --help`, `--dry-run` and `whet recipe schema` answer at once. Names are Hugging Face's where it has
one. Every field has a default but `data`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from whet.errors import RecipeError, did_you_mean


class Part(BaseModel):
    """A part of the recipe: unknown keys are errors, values are checked when set."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, use_attribute_docstrings=True)


class ModelPart(Part):
    name: str = "whet-tiny"
    """`whet-tiny` (in the package), a name on the hub, or a folder."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of frozen weights. `auto`: bfloat16 where the processor has fast bfloat16 products, else float32."""
    quantize: Literal["nf4", "int8"] | None = None
    """Load the frozen base in fewer bits."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for a source you have read."""


class DataPart(Part):
    path: str
    """A file or folder (.jsonl .json .csv .parquet .txt), or `hub:NAME[:CONFIG]`. `path#500` samples 500 rows."""
    split: str = "train"
    """Of a hub dataset."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Sample so many rows."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Of each row's loss."""
    columns: dict[str, str] = {}
    """whet's name -> the file's column, e.g. {prompt: question, completion: answer}; `a+b` joins two columns."""


class PreflightPart(Part):
    max_loss_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Stop when more than this share of rows would be cut or dropped."""
    too_long: Literal["cut", "drop", "split"] = "cut"
    """What happens to a row over `max_length`: lose its end, lose it, or (text only) make several rows of it."""
    nothing_to_learn: Literal["stop", "drop"] = "stop"
    """What happens when a row has no learnt token left."""


class LoRAPart(Part):
    kind: Literal["lora"] = "lora"
    r: Annotated[int, Field(ge=1)] = 16
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    """Scale is lora_alpha / r. None: 2 r."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str | list[str] = "all-linear"
    modules_to_save: list[str] | None = None


class FullPart(Part):
    kind: Literal["full"] = "full"


MethodPart = Annotated[LoRAPart | FullPart, Field(discriminator="kind")]


class SFTPart(Part):
    kind: Literal["sft"] = "sft"
    learn: Literal["completions", "everything"] = "completions"
    """Learn assistant turns only, or every token."""


ObjectivePart = Annotated[SFTPart, Field()]


class TrainPart(Part):
    epochs: Annotated[float, Field(gt=0)] = 3
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps; overrides `epochs`."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Rows an optimiser step, over all devices and packs."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: Annotated[float, Field(ge=0)] = 0.03
    """Steps, or a share of all steps when below 1."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """0 switches clipping off."""
    max_length: Annotated[int, Field(ge=2)] = 2048
    """Tokens a row; the model's own limit where that is less."""
    pack_tokens: Annotated[int, Field(ge=16)] | Literal["auto"] = "auto"
    """Tokens computed at once. Changes memory, never the gradient."""
    share_prefixes: bool = True
    gradient_checkpointing: bool = False
    checkpoint_every: Annotated[int, Field(ge=1)] = 200
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    evaluate_every: Annotated[int, Field(ge=1)] | None = None
    """Steps between evaluations on `validation`. None: ten times a run."""
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many evaluations without a better one."""
    load_best: bool = True
    """End with the weights of the best evaluation instead of the last."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the computation; trained parameters are float32 throughout."""
    shuffle: bool = True
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class EnginePart(Part):
    kind: Literal["auto", "plain"] = "auto"


class Recipe(Part):
    model: ModelPart = ModelPart()
    data: list[DataPart]
    validation: Annotated[float, Field(ge=0, lt=1)] | str = 0.1
    """A share of the rows (0: none), or a file."""
    preflight: PreflightPart = PreflightPart()
    method: MethodPart = LoRAPart()
    objective: ObjectivePart = SFTPart()
    train: TrainPart = TrainPart()
    engine: EnginePart = EnginePart()
    evaluate: list[Literal["perplexity"]] = ["perplexity"]
    samples: Annotated[int, Field(ge=0)] = 3
    """Held-out prompts answered before and after, for the report."""
    track: list[str] = []
    """Experiment trackers: tensorboard, wandb, mlflow, trackio, ..."""
    output: str = "runs/{model}-{method}-{time}"
    """The run folder; {model}, {method} and {time} are filled in."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        """`model: NAME`, `data: PATH` and lists of them, `engine: KIND`; a method without a kind is LoRA."""
        if not isinstance(given, dict):
            return given
        given = dict(given)
        if isinstance(given.get("model"), str):
            given["model"] = {"name": given["model"]}
        if isinstance(given.get("engine"), str):
            given["engine"] = {"kind": given["engine"]}
        if isinstance(given.get("method"), str):
            given["method"] = {"kind": given["method"]}
        elif isinstance(given.get("method"), dict):
            given["method"] = {"kind": "lora", **given["method"]}
        if isinstance(given.get("objective"), str):
            given["objective"] = {"kind": given["objective"]}
        data = given.get("data")
        if isinstance(data, (str, dict)):
            data = [data]
        if isinstance(data, list):
            given["data"] = [{"path": source} if isinstance(source, str) else source for source in data]
        return given

    @field_validator("data")
    @classmethod
    def _some_data(cls, data: list[DataPart]) -> list[DataPart]:
        if not data:
            raise ValueError("name at least one file")
        return data


def load_recipe(path: str | Path | None = None, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """A recipe from a YAML file (or none) and `a.b=value` words, later ones winning.

    Raises RecipeError with the file or the word as its place, the key's path, and the nearest known name.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        tree = _read_yaml(Path(path))
    for word in overrides:
        _set(tree, word)
    return check_recipe(tree, where=str(path) if path else "command line")


def check_recipe(tree: dict[str, Any], where: str) -> Recipe:
    """The typed recipe of a plain tree, or a RecipeError that names the first fault and how many more there are."""
    unknown = [key for key in tree if key not in Recipe.model_fields]
    if "data" not in tree and not unknown:
        raise RecipeError("no data named", where=where, do="add data=my.jsonl, or `data: my.jsonl` in the recipe")
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        key, known = _place(first["loc"])
        if first["type"] == "extra_forbidden":
            name = str(first["loc"][-1])
            raise RecipeError(
                f"unknown key `{key}`.{did_you_mean(name, known)}{more}",
                where=where,
                do=f"known there: {', '.join(known)}",
            ) from None
        found = first.get("input")
        raise RecipeError(
            f"`{key}`: {_plain(first)}; found {found!r}{more}", where=where, do="`whet recipe schema` lists every key"
        ) from None


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe, resolved, as YAML that `load_recipe` reads back to an equal one."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the recipe, for people to read."""

    key: str
    kind: str
    default: str
    meaning: str


def settings(part: type[BaseModel] = Recipe, prefix: str = "") -> list[Setting]:
    """Every key that a recipe may have, depth first."""
    found = []
    for name, described in part.model_fields.items():
        below = _parts_in(described.annotation)
        for inner in below:
            found.extend(settings(inner, f"{prefix}{name}."))
        if not below:
            default = (
                "(must be given)"
                if described.is_required()
                else yaml.safe_dump(described.default, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
            )
            kind = _kind_of(described.annotation)
            found.append(Setting(prefix + name, kind, default, described.description or ""))
    return found


def _kind_of(annotation: Any) -> str:
    """A type as a reader of YAML would say it."""
    if get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(dict.fromkeys(_kind_of(choice) for choice in get_args(annotation)))
    if get_origin(annotation) is Annotated:
        return _kind_of(get_args(annotation)[0])
    if get_origin(annotation) in (list, dict):
        return f"{get_origin(annotation).__name__} of {_kind_of(get_args(annotation)[-1])}"
    words = {str: "text", int: "whole number", float: "number", bool: "true | false", type(None): "null"}
    return words.get(annotation, str(annotation))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError("no such recipe", where=str(path), do="check the path, or give model=... data=...") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(f"not YAML: {getattr(error, 'problem', None) or error}", where=where) from None
    if not isinstance(tree, dict):
        raise RecipeError("a recipe is keys and values", where=str(path), do="see recipes/quickstart/recipe.yaml")
    return tree


def _set(tree: dict[str, Any], word: str) -> None:
    """Put `a.b=value` into the tree; the value is read as YAML."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise RecipeError(f"{word!r} is neither a recipe nor `key=value`", where="command line")
    try:
        parsed = yaml.safe_load(value) if value else None
    except yaml.YAMLError:
        parsed = value
    # PyYAML keeps YAML 1.1, where "#" ends a value after a blank only and "a: b" is a mapping; a path stays a path.
    if isinstance(parsed, dict) and not value.lstrip().startswith("{"):
        parsed = value
    *parents, last = key.split(".")
    for parent in parents:
        below = tree.get(parent)
        if isinstance(below, str):  # a short form, e.g. `model: NAME` and then model.dtype=...
            below = {"path" if parent == "data" else "name" if parent == "model" else "kind": below}
        elif not isinstance(below, dict):
            below = {}
        tree[parent] = below
        tree = below
    tree[last] = parsed


def _place(location: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """A dotted key and the names known beside it, from pydantic's location of a fault.

    Pydantic's location also names the branches of unions (`lora`, `constrained-float`); those are not keys.
    """
    part: type[BaseModel] = Recipe
    below: list[type[BaseModel]] = []
    words: list[str] = []
    for index, step in enumerate(location):
        named = [p for p in below if "kind" in p.model_fields and p.model_fields["kind"].default == step]
        if named:
            part, below = named[0], []
        elif isinstance(step, int):
            words.append(str(step))
        else:
            if len(below) == 1:
                part, below = below[0], []
            if step in part.model_fields:
                below = _parts_in(part.model_fields[step].annotation)
                words.append(step)
            elif index == len(location) - 1 and "-" not in step and "[" not in step and step not in ("str", "int"):
                words.append(step)
    return ".".join(words), list(part.model_fields)


def _parts_in(annotation: Any) -> list[type[BaseModel]]:
    """The parts that a field's type is made of: itself, its items, or the branches of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for inner in get_args(annotation) for part in _parts_in(inner)]


def _plain(fault: Any) -> str:
    """Pydantic's message in words that need no knowledge of pydantic."""
    if fault["type"] == "union_tag_invalid":
        return f"kind must be one of {fault['ctx']['expected_tags']}"
    return str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
