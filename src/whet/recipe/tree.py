"""The recipe and its own parts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from whet.recipe.evaluate import EvaluatePart
from whet.recipe.methods import LoRAPart, MethodPart
from whet.recipe.objectives import ObjectivePart, SFTPart
from whet.recipe.part import Part


class ModelPart(Part):
    name: str = "whet-tiny"
    """`whet-tiny` (in the package), a name on the hub, or a folder."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of frozen weights. `auto`: bfloat16 where the processor has fast bfloat16 products, else float32."""
    quantize: Literal["nf4", "int8"] | None = None
    """Hold the frozen base in 4 bits (NormalFloat) or 8 bits, through bitsandbytes. Not with method=full."""
    new_tokens: list[str] = []
    """Added to the tokenizer; each new embedding begins as the mean of the pieces that it replaces."""
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
    evaluate: EvaluatePart = EvaluatePart()
    """What is measured before, during and after training, beside the held-out perplexity."""
    samples: Annotated[int, Field(ge=0)] = 3
    """Held-out prompts answered before and after, for the report."""
    track: list[str] = []
    """Experiment trackers: tensorboard, wandb, mlflow, trackio, ..."""
    output: str = "runs/{model}-{method}-{time}"
    """The run folder; {model}, {method} and {time} are filled in."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        """`model: NAME`, `data: PATH` and lists of them, `engine: KIND`, `evaluate: METRIC`; a method without a kind is
        LoRA, an objective without one sft."""
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
        elif isinstance(given.get("objective"), dict):
            given["objective"] = {"kind": "sft", **given["objective"]}
        if isinstance(given.get("evaluate"), str):
            given["evaluate"] = [given["evaluate"]]
        data = given.get("data")
        if isinstance(data, (str, dict)):
            data = [data]
        if isinstance(data, list):
            given["data"] = [{"path": source} if isinstance(source, str) else source for source in data]
        if isinstance(given.get("track"), str):
            given["track"] = [given["track"]]
        return given

    @model_validator(mode="after")
    def _quantized_is_frozen(self) -> Recipe:
        if self.model.quantize and self.method.kind == "full":
            raise ValueError(
                f"model.quantize={self.model.quantize} holds the base in whole steps that no gradient can move; "
                "take method=lora, or leave model.quantize out"
            )
        return self

    @field_validator("data")
    @classmethod
    def _some_data(cls, data: list[DataPart]) -> list[DataPart]:
        if not data:
            raise ValueError("name at least one file")
        return data
