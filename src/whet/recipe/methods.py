"""The recipe's `method`: a part a way of adapting a model. Names and defaults are peft's where peft has the method."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from whet.recipe.part import Part

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Names = str | list[str]


class _Targets(Part):
    """What the methods share that sit on a model's modules."""

    target_modules: Names | None = None
    """Modules by the end of their name, a regular expression, or `all-linear`. None: the method's usual ones."""
    modules_to_save: list[str] | None = None
    """Modules trained whole and saved with the adapter."""


class LoRAPart(_Targets):
    kind: Literal["lora"] = "lora"
    r: Count = 16
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    """Scale is lora_alpha / r (rsLoRA: / sqrt r). None: 2 r."""
    lora_dropout: Share = 0.0
    target_modules: Names = "all-linear"
    exclude_modules: Names | None = None
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r)."""
    use_dora: bool = False
    """Learn magnitude and direction of a weight apart."""
    init_lora_weights: Literal[True, "gaussian", "pissa", "pissa_niter_4", "pissa_niter_16", "olora"] = True
    """`pissa`: start from the principal singular vectors of each weight."""
    loraplus_lr_ratio: Annotated[float, Field(ge=1)] = 1.0
    """LoRA+: how many times A's learning rate B gets; 16 is the paper's advice."""
    layers_to_transform: list[int] | None = None
    """Layers by number; None: all."""
    rank_pattern: dict[str, Count] = {}
    """Module's name -> its own r."""
    alpha_pattern: dict[str, Annotated[float, Field(gt=0)]] = {}
    trainable_token_indices: list[Annotated[int, Field(ge=0)]] | None = None
    """Rows of the embeddings that are trained too."""


class AdaLoRAPart(_Targets):
    kind: Literal["adalora"] = "adalora"
    target_r: Count = 8
    """Mean rank that is left at the end."""
    init_r: Count = 12
    lora_alpha: Annotated[float, Field(gt=0)] = 32
    lora_dropout: Share = 0.0
    target_modules: Names = "all-linear"
    tinit: Annotated[float, Field(ge=0)] = 0.1
    """Steps before ranks are cut, or a share of all steps when below 1."""
    tfinal: Annotated[float, Field(ge=0)] = 0.3
    """Steps at the end with the ranks as they are, or a share of all steps when below 1."""
    deltaT: Count = 1
    """Steps between two cuts."""
    beta1: Share = 0.85
    beta2: Share = 0.85
    orth_reg_weight: Annotated[float, Field(ge=0)] = 0.5


class IA3Part(_Targets):
    kind: Literal["ia3"] = "ia3"
    feedforward_modules: Names | None = None


class VeRAPart(_Targets):
    kind: Literal["vera"] = "vera"
    r: Count = 256
    vera_dropout: Share = 0.0
    d_initial: float = 0.1
    projection_prng_key: Annotated[int, Field(ge=0)] = 0
    """Seed of the frozen random matrices."""
    save_projection: bool = True
    """Save them too: megabytes more, and no need to trust that another machine draws the same."""


class OFTPart(_Targets):
    kind: Literal["oft"] = "oft"
    oft_block_size: Count = 32
    """Width of the orthogonal blocks; must divide each weight's inputs."""
    target_modules: Names = "all-linear"
    module_dropout: Share = 0.0
    coft: bool = False
    eps: Annotated[float, Field(gt=0)] = 6e-5
    block_share: bool = False


class BOFTPart(_Targets):
    kind: Literal["boft"] = "boft"
    boft_block_size: Count = 4
    boft_n_butterfly_factor: Count = 1
    target_modules: Names = "all-linear"
    boft_dropout: Share = 0.0


class LNTuningPart(_Targets):
    kind: Literal["ln_tuning"] = "ln_tuning"


class TrainableTokensPart(Part):
    kind: Literal["trainable_tokens"] = "trainable_tokens"
    token_indices: list[Annotated[int, Field(ge=0)]] = []
    """Rows of the embeddings to train. Empty: those of `model.new_tokens`."""


class BottleneckPart(Part):
    kind: Literal["bottleneck"] = "bottleneck"
    variant: Literal["houlsby", "pfeiffer", "parallel"] = "pfeiffer"
    """Houlsby: two a layer, after attention and feed-forward; Pfeiffer: one a layer; parallel: beside the latter."""
    reduction_factor: Annotated[float, Field(gt=0)] = 16
    """Model's width / the adapter's."""
    non_linearity: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    scaling: Annotated[float, Field(gt=0)] = 1.0
    """Of what the adapter adds; He et al. take 4 for the parallel one."""


class _Virtual(Part):
    num_virtual_tokens: Count = 20
    """They stand before every row and take room of the model's longest length."""


class PrefixPart(_Virtual):
    kind: Literal["prefix"] = "prefix"
    prefix_projection: bool = False
    """Make the prefix by a small network while training; what is saved is the prefix alone."""
    encoder_hidden_size: Count | None = None
    """Of that network. None: the model's width."""


class PromptPart(_Virtual):
    kind: Literal["prompt"] = "prompt"
    prompt_tuning_init_text: str | None = None
    """Begin from the embeddings of this text. None: from those of random tokens."""


class PTuningPart(_Virtual):
    kind: Literal["p_tuning"] = "p_tuning"
    encoder_reparameterization_type: Literal["MLP", "LSTM"] = "MLP"
    encoder_hidden_size: Count | None = None
    encoder_num_layers: Count = 2
    encoder_dropout: Share = 0.0


class FullPart(Part):
    kind: Literal["full"] = "full"
    trainable: list[str] | None = None
    """Parts to train, the rest stays frozen: `layers.20-` (layer 20 and on), `layers.0-3`, `lm_head`, `embed_tokens`,
    any piece of a parameter's name. None: everything."""
    layerwise_lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each layer learns at this share of the rate of the layer above it."""


class InContextPart(Part):
    kind: Literal["in_context"] = "in_context"
    """Nothing is trained: `whet prompt` makes such runs."""
    shots: Annotated[int, Field(ge=0)] = 8
    """Demonstrations before a question. 0: zero-shot."""
    choose: Literal["random", "diverse", "nearest", "mmr"] = "random"
    """Random and diverse ones are the same for all questions; nearest and mmr (near, and unlike each other) are not."""
    similarity: Literal["bm25", "embeddings"] = "bm25"
    """By words, or by the model's own hidden states."""
    balanced: bool = False
    """As many of each label as can be."""
    order: Literal["auto", "random", "nearest-last", "nearest-first"] = "auto"
    """auto: the nearest last where they are chosen by the question, else random."""
    mmr_lambda: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of diverse and mmr: 1 looks at relevance alone, 0 at diversity alone."""
    instruction: str = ""
    template: str = "{{ prompt }}"
    """Jinja: a user's turn from the row's columns."""
    labels: list[str] = []
    """The answers that there are. Empty: those of the rows."""
    calibrate: bool = False
    """Divide the labels' shares by those for content-free questions."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _orders_that_there_are(self) -> InContextPart:
        if self.order.startswith("nearest") and self.choose in ("random", "diverse"):
            raise ValueError(f"order={self.order} hangs on the question, and choose={self.choose} shows all the same")
        return self


class AutoPart(Part):
    kind: Literal["auto"] = "auto"
    pilot: bool = True
    """Choose by short runs on the rows; false: by memory and number of rows alone."""


MethodPart = Annotated[
    LoRAPart
    | FullPart
    | AdaLoRAPart
    | IA3Part
    | VeRAPart
    | OFTPart
    | BOFTPart
    | LNTuningPart
    | TrainableTokensPart
    | BottleneckPart
    | PrefixPart
    | PromptPart
    | PTuningPart
    | InContextPart
    | AutoPart,
    Field(discriminator="kind"),
]
