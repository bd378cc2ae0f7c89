"""Peak memory of a run before it is started, by part, on one device or on several.

    weights       frozen ones as they are held (in 4 or 8 bits where quantized), trained ones in float32
    gradients     of trained parameters, float32
    optimizer     AdamW's two moments of each trained parameter, float32
    activations   what forward keeps for backward, of one pack
    head          the chunk of logits and what is kept of it
    workspace     what backward, a layer computed again, or a gathered layer needs for the moment
    holes         what the C library's heap holds between tensors (on the CPU)
    checkpoint    the copy of trained parameters and moments that is written to disk (in the processor's memory)
    file          pages of the weights' file that stay mapped beside their quantized copy (on the CPU); the system takes
                  them back when it runs short
    kernels       what the library of products keeps for each shape that it has met (bfloat16 on the CPU)
    process       Python and its libraries, or CUDA's context

A run has three moments of which the fullest counts: a `step` (forward and backward, after the first update), the
`update`, and a `checkpoint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from whet.advise.dry_run import Counted, Held, build, step
from whet.models.load import frozen_dtype
from whet.recipe import Recipe

PARTS = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "head",
    "workspace",
    "holes",
    "checkpoint",
    "file",
    "kernels",
    "process",
)

SHARDINGS = ("plain", "zero1", "zero2", "zero3", "fsdp")
"""How several devices share a model. `plain` keeps all of it on each (DDP)."""

HOLES_KEPT, HOLES_PASSING = 0.375, 0.0625
"""Bytes of holes for each byte of activations, and for each byte that forward makes and frees again. glibc's aligned
allocation asks the heap for the size and up to 96 bytes, so the hole that one tensor leaves often has no room for
another of the same size, and the heap grows past it. Measured on nine runs (`bench/memory.py`); pages of their own for
every tensor (MALLOC_MMAP_THRESHOLD_=1048576) make them go away."""

KERNEL_BYTES, MOST_KERNELS = 10**6, 1024
"""oneDNN keeps a compiled kernel for each shape of a bfloat16 product, up to 1,024 of them, of about a megabyte with
what PyTorch keeps beside it (measured: 20 and 60 steps of rows of different lengths, with the caches and without). A
product has three shapes a size of pack: forward, and the gradients of its input and its weight."""

BITS_AND_BYTES = {"nf4": (0.5, 64), "int8": (1.0, 0)}
"""Bytes a weight, and weights that share one float32 scale (0: a row does). Dettmers et al. 2023, arXiv 2305.14314,
section 3, without its double quantization; Dettmers et al. 2022, arXiv 2208.07339."""


@dataclass(frozen=True)
class Forecast:
    """Bytes of one device by part at the fullest moment of a run, and which moment that is."""

    parts: dict[str, int]
    moment: str
    counted: Counted
    tokens: int
    """Computed tokens of the pack."""

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def largest_pack(self, room: int) -> int:
        """About how many tokens a pack (so also a row) may have in `room` bytes: activations, workspace and holes grow
        with them, the rest does not. 0 where the rest alone is too much."""
        growing = sum(self.parts.get(name, 0) for name in ("activations", "workspace", "holes"))
        left = room - (self.total - growing)
        return max(0, int(self.tokens * left / growing)) if growing else self.tokens


def forecast(
    recipe: Recipe,
    config: Any,
    lengths: Sequence[int],
    process: int,
    device: str = "cpu",
    devices: int = 1,
    sharding: str = "plain",
    sizes: int = 1,
) -> Forecast:
    """The peak of one device. `lengths` are the computed tokens of the rows of the fullest pack, `process` the bytes
    before any weight, `sizes` how many different sizes packs have. Raises what `dry_run.build` raises."""
    dtype = frozen_dtype(recipe.model, device)
    compute = dtype if recipe.train.dtype == "auto" else getattr(torch, recipe.train.dtype)
    _, counted = build(config, recipe.method, dtype)
    held = step(config, recipe, list(lengths), dtype, compute)
    return put_together(recipe, counted, held, sum(lengths), process, device, devices, sharding, compute, sizes)


def put_together(
    recipe: Recipe,
    counted: Counted,
    held: Held,
    tokens: int,
    process: int,
    device: str = "cpu",
    devices: int = 1,
    sharding: str = "plain",
    compute: torch.dtype = torch.bfloat16,
    sizes: int = 1,
) -> Forecast:
    """The parts of each moment from what was counted, as ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054, section 5)
    divides them: stage 1 the optimiser, 2 gradients too, 3 (as FSDP) weights too, gathered a layer at a time."""
    stage = {"plain": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp": 3}[sharding] if devices > 1 else 0
    weights, gathered = weight_bytes(recipe, counted), 0
    workspace = held.workspace
    holes = round(HOLES_KEPT * held.activations + HOLES_PASSING * held.passing) if device == "cpu" else 0
    if recipe.model.quantize:
        workspace += counted.largest_linear * compute.itemsize  # a matrix is dequantized when it is multiplied
    if stage == 3:
        # The layer at work, the next one on its way, and what is in no layer (embeddings, head) stay whole.
        share = weights / counted.weight_bytes
        gathered = round(min(counted.root_bytes + 2 * counted.layer_bytes, counted.weight_bytes) * share)
        weights = -(-weights // devices)
    gradients, kept = counted.trained_bytes, held.gradients
    if stage >= 2:
        gradients, kept = (-(-size // devices) for size in (gradients, kept))
    elif devices > 1:
        kept = 2 * gradients  # DDP's buckets are a second copy, and all there from the first step on
        gradients = kept
    optimizer = 2 * counted.trained_bytes // (devices if stage else 1)
    fixed = {"weights": weights, "optimizer": optimizer, "process": process}
    if recipe.model.quantize and device == "cpu":
        fixed["file"] = counted.linear_bytes  # the embeddings, which stay as they were read, keep all of it mapped
    if device == "cpu" and compute == torch.bfloat16:
        fixed["kernels"] = KERNEL_BYTES * min(MOST_KERNELS, 3 * counted.products * sizes)
    moments = {
        "step": fixed | {"gradients": kept, "activations": held.activations, "head": held.head,
                         "workspace": workspace + gathered, "holes": holes},
        "update": fixed | {"gradients": gradients},
    }  # fmt: skip
    if device == "cpu":
        moments["checkpoint"] = fixed | {"checkpoint": 3 * counted.trained_bytes // (devices if stage else 1)}
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    return Forecast({k: moments[moment][k] for k in PARTS if k in moments[moment]}, moment, counted, tokens)


def weight_bytes(recipe: Recipe, counted: Counted) -> int:
    """Of all weights as they are held."""
    if recipe.model.quantize is None:
        return counted.weight_bytes
    size, shared = BITS_AND_BYTES[recipe.model.quantize]
    scales = 4 * counted.linear_weights // shared if shared else 0
    return counted.weight_bytes - counted.linear_bytes + round(size * counted.linear_weights) + scales
