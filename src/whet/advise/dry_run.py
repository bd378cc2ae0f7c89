"""A training step on tensors that have a shape and no memory: how many bytes would be held, and for what.

The model is built from its config on the meta device, the method is put on it, and the engine's own forward and
backward run under torch's FakeTensorMode. Every storage that an operation makes is counted while something holds it.
So the figures follow from the code that trains, whatever the architecture, the method or the precision: there is no
second description of it that could fall behind.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from whet.methods import METHODS, Given
from whet.models.head import CHUNK_BYTES
from whet.models.language_model import LanguageModel, Path, checkpoint_layers
from whet.models.quantize import BLOCK
from whet.recipe import MethodPart, Recipe
from whet.rows import Row
from whet.tokens.pack import Pack, pack_rows

MOST_ROWS = 8
"""Of the pack that is run; more and shorter ones hold the same and take longer to go through."""
FEW_LAYERS = 8
"""A model with more layers, all alike, is run with so many and with half, and the rest is a straight line."""


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes held at the fullest moment of forward and backward, beside weights and the optimiser's moments.

    `gradients` of trained parameters; `activations`, made in forward and kept for backward; `head`, the chunk of logits
    and what is kept of it; `workspace`, what backward (or a layer that is computed again) needs for the moment.
    `passing` is not held: bytes that forward makes and frees again, which leave their mark on the heap.
    """

    gradients: int = 0
    activations: int = 0
    head: int = 0
    workspace: int = 0
    passing: int = 0

    @property
    def total(self) -> int:
        return self.gradients + self.activations + self.head + self.workspace


@dataclass(frozen=True, slots=True)
class Counted:
    """Parameters of a model with a method on it.

    `weight_bytes` are of all parameters and buffers, of them `trained_bytes` of those trained. `linear_weights` are the
    numbers in the frozen matrices that quantization takes (linear layers but the head, of inputs in whole blocks),
    `linear_bytes` their bytes, `largest_linear` the numbers in the largest. `products` are the different shapes of
    linear layers, the method's own too. `layer_bytes` is the largest layer's share, `root_bytes` what is in none.
    """

    parameters: int  # of the model alone
    trained: int
    weight_bytes: int
    trained_bytes: int
    linear_weights: int
    linear_bytes: int
    largest_linear: int
    products: int
    layer_bytes: int
    root_bytes: int


def build(config: Any, method: MethodPart, dtype: torch.dtype) -> tuple[Any, Counted]:
    """The model with the method on it, on the meta device, and its counts. `dtype` is the frozen weights'.

    Raises RecipeError where the method does not fit the model, as training would.
    """
    with torch.device("meta"):
        dtype = torch.float32 if METHODS[method.kind].needs_float32 else dtype
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).train()
        parameters = sum(p.numel() for p in model.parameters())
        model = METHODS[method.kind].apply(model, method, Given(total_steps=1000))
    return model, _count(model, parameters)


def step(config: Any, recipe: Recipe, lengths: list[int], dtype: torch.dtype, compute: torch.dtype) -> Held:
    """What forward and backward of one pack hold. `lengths` are its rows', all but the first token learnt (the most a
    row can hold). `dtype` is the frozen weights', `compute` what products are computed in.

    A model that branches on numbers, as mixtures of experts do, cannot be run on tensors without any; it is estimated.
    """
    pack = pack_rows([_row(length) for length in lengths], sum(lengths), share=False)[0]
    try:
        return _extrapolated(config, recipe, pack, dtype, compute)
    except RuntimeError:
        return _estimated(config, recipe, pack, compute)


def _extrapolated(config: Any, recipe: Recipe, pack: Pack, dtype: torch.dtype, compute: torch.dtype) -> Held:
    layers = _layers(config)
    if layers <= FEW_LAYERS or not _alike(config):
        return _step(config, recipe, pack, dtype, compute)
    more = _step(_shallow(config, FEW_LAYERS), recipe, pack, dtype, compute)
    less = _step(_shallow(config, FEW_LAYERS // 2), recipe, pack, dtype, compute)
    times = (layers - FEW_LAYERS) / (FEW_LAYERS - FEW_LAYERS // 2)
    parts = {f.name: (getattr(more, f.name), getattr(less, f.name)) for f in fields(Held)}
    return Held(**{name: round(a + times * (a - b)) for name, (a, b) in parts.items()})


def _estimated(config: Any, recipe: Recipe, pack: Pack, compute: torch.dtype) -> Held:
    """Inputs of a layer's products, norms and activations, as the engine reckons when it sizes packs on a GPU."""
    text = config.get_text_config()
    width, inner = int(text.hidden_size), int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size)
    inner *= int(getattr(text, "num_experts_per_tok", None) or 1)
    kept = 2 * width if recipe.train.gradient_checkpointing else 14 * width + 4 * inner
    activations = pack.computed_tokens * _layers(config) * kept * compute.itemsize
    return Held(activations=activations, head=4 * CHUNK_BYTES, passing=2 * activations)


def _step(config: Any, recipe: Recipe, pack: Pack, dtype: torch.dtype, compute: torch.dtype) -> Held:
    try:
        return _run(config, recipe, pack, dtype, compute, "trie")
    except (NotImplementedError, TypeError):  # what the probe would send to the padded path
        return _run(config, recipe, pack, dtype, compute, "padded")


def _run(config: Any, recipe: Recipe, pack: Pack, dtype: torch.dtype, compute: torch.dtype, path: Path) -> Held:
    model, _ = build(config, recipe.method, dtype)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        _without_memory(model)
        if recipe.train.gradient_checkpointing:
            checkpoint_layers(model, preserve_rng_state=False)  # such tensors have no random state
        language_model = LanguageModel(model, path)
        pack = _on(fake, pack)
        with _Live(model) as live, language_model.running(compute), live.phases(language_model):
            total = -language_model(pack).sum()  # what an objective adds to it is a number a target
            live.phase = "workspace"
            total.backward()
        held: Held = live.held()
    return held


_PARTS = ("gradients", "activations", "head", "workspace")


class _Live(TorchDispatchMode):
    """Counts the storages that operations make while they are held, and keeps the counts of the fullest moment."""

    def __init__(self, model: Any):
        super().__init__()
        self.phase = "activations"
        self._held: dict[int, tuple[str, int]] = {}  # storage -> its part, bytes
        self._now = dict.fromkeys(_PARTS, 0)
        self._at_peak = dict(self._now)
        self._passing = 0
        self._given = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._held or key in self._given:
            return
        size = storage.nbytes()
        self._held[key] = (self.phase, size)
        self._now[self.phase] += size
        weakref.finalize(storage, self._drop, key)
        if sum(self._now.values()) > sum(self._at_peak.values()):
            self._at_peak = dict(self._now)

    def _drop(self, key: int) -> None:
        part, size = self._held.pop(key)
        self._now[part] -= size
        if self.phase != "workspace":
            self._passing += size

    def held(self) -> Held:
        """The parts at the fullest moment."""
        return Held(**self._at_peak, passing=self._passing)

    def _is_gradient(self, parameter: Any) -> None:
        key = parameter.grad.untyped_storage()._cdata
        part, size = self._held[key]
        self._held[key] = ("gradients", size)
        self._now[part] -= size
        self._now["gradients"] += size

    @contextmanager
    def phases(self, language_model: LanguageModel) -> Iterator[None]:
        """Within it, what the head makes counts as the head's, and what is added to a parameter as its gradient."""
        head = language_model._inner[2]
        with ExitStack() as stack:
            for parameter in language_model.parameters():
                if parameter.requires_grad:
                    hook = parameter.register_post_accumulate_grad_hook(self._is_gradient)
                    stack.callback(hook.remove)
            stack.callback(head.register_forward_pre_hook(lambda *_: setattr(self, "phase", "head")).remove)
            stack.callback(head.register_forward_hook(lambda *_: setattr(self, "phase", "activations")).remove)
            yield


def _without_memory(model: Any) -> None:
    """Give every parameter and buffer of a meta model a stand-in of the running FakeTensorMode; tied ones stay tied."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                made[id(parameter)] = torch.nn.Parameter(empty, requires_grad=parameter.requires_grad)
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _on(fake: FakeTensorMode, pack: Pack) -> Pack:
    values = {f.name: getattr(pack, f.name) for f in fields(Pack)}
    return Pack(**{k: fake.from_tensor(v) if isinstance(v, torch.Tensor) else v for k, v in values.items()})


def _row(length: int) -> Row:
    """One token more than is computed: nothing is predicted from the last."""
    return Row(np.zeros(length + 1, dtype=np.int32), np.arange(length + 1) > 0)


def _count(model: Any, parameters: int) -> Counted:
    weights = list(model.parameters())
    trained = [p for p in weights if p.requires_grad]
    head = model.get_output_embeddings()
    linear = [
        module.weight
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
        and module is not head
        and not module.weight.requires_grad
        and module.in_features % BLOCK == 0
    ]
    layers: dict[str, int] = {}
    for name, p in model.named_parameters():
        pieces = name.split(".")
        at = next((i for i, piece in enumerate(pieces) if piece.isdigit()), None)
        key = ".".join(pieces[: at + 1]) if at is not None else ""
        layers[key] = layers.get(key, 0) + _bytes(p)
    root = layers.pop("", 0)
    return Counted(
        parameters=parameters,
        trained=sum(p.numel() for p in trained),
        weight_bytes=sum(map(_bytes, (*weights, *model.buffers()))),
        trained_bytes=sum(map(_bytes, trained)),
        linear_weights=sum(w.numel() for w in linear),
        linear_bytes=sum(map(_bytes, linear)),
        largest_linear=max((w.numel() for w in linear), default=0),
        products=len({tuple(m.weight.shape) for m in model.modules() if isinstance(m, torch.nn.Linear)}),
        layer_bytes=max(layers.values(), default=0),
        root_bytes=root,
    )


def _bytes(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())


def _layers(config: Any) -> int:
    return int(config.get_text_config().num_hidden_layers)


def _alike(config: Any) -> bool:
    """Whether layers come in groups of half of FEW_LAYERS that are all of one size and kind."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    groups: dict[int, list[tuple[Any, ...]]] = {}
    for name, p in model.named_parameters():
        number = next((int(piece) for piece in name.split(".") if piece.isdigit()), None)
        if number is not None:
            groups.setdefault(number, []).append((name.replace(f".{number}.", "."), tuple(p.shape)))
    kinds = getattr(config.get_text_config(), "layer_types", None) or [None] * len(groups)
    each = [(kinds[number], groups[number]) for number in sorted(groups)]
    size = FEW_LAYERS // 2
    return len(each) == _layers(config) and all(one == each[i % size] for i, one in enumerate(each))


def _shallow(config: Any, layers: int) -> Any:
    short = copy.deepcopy(config)
    text = short.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    return short
