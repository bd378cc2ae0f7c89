"""From hidden states to log-probabilities, without ever holding all logits.

A vocabulary of 150,000 makes the logits of 8,000 targets 4.8 GB in float32; here they exist a chunk at a time. The
head stays a module that is *called*, so that hooks which gather a sharded weight run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES = 24 * 2**20
"""Of float32 logits held at once. Under 32 MiB glibc hands the same memory out again instead of mapping fresh pages."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a model does to its head's output, logits = cap tanh(scale x / cap), and at which temperature they are
    read."""

    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0

    @classmethod
    def of(cls, config: Any) -> Scaling:
        """Read from a configuration, by the names that Cohere, Granite and Gemma use."""
        scale = float(getattr(config, "logit_scale", None) or 1.0)
        if getattr(config, "logits_scaling", None):
            scale /= float(config.logits_scaling)
        return cls(scale, getattr(config, "final_logit_softcapping", None))

    def at(self, temperature: float) -> Scaling:
        """With the logits divided by a temperature at the end."""
        return replace(self, temperature=temperature)


def head_logps(head: nn.Module, hidden_ND: torch.Tensor, target_ids_N: torch.Tensor, scaling: Scaling) -> torch.Tensor:
    """log p(target) [N] float32 of each hidden state. Differentiable in the hidden states and the head's parameters."""
    plain = head.forward

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        if type(head) is nn.Linear:
            return _linear_logps(hidden, head.weight, head.bias, target_ids_N, scaling)
        return _module_logps(plain, hidden, target_ids_N, scaling)

    head.forward = forward  # type: ignore[method-assign]
    try:
        return head(hidden_ND)  # type: ignore[no-any-return]
    finally:
        del head.forward


def head_logits(head: nn.Module, hidden_RD: torch.Tensor, scaling: Scaling) -> torch.Tensor:
    """All logits [R, V] float32 of a few hidden states."""
    return _scaled(head(hidden_RD).float(), scaling)


def _chunk(vocabulary: int) -> int:
    return max(16, CHUNK_BYTES // (4 * vocabulary))


def _module_logps(forward: Any, hidden_ND: torch.Tensor, target_ids_N: torch.Tensor, scaling: Scaling) -> torch.Tensor:
    """For heads that are more than a matrix (a LoRA on the head, say): chunks of plain operations, recomputed."""

    def logps(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = _scaled(forward(hidden).float(), scaling)
        return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)

    size = 256
    parts = zip(hidden_ND.split(size), target_ids_N.split(size), strict=True)
    return torch.cat([checkpoint(logps, h, t, use_reentrant=False) for h, t in parts])


def _scaled(logits: torch.Tensor, scaling: Scaling) -> torch.Tensor:
    if scaling.scale != 1.0:
        logits = logits * scaling.scale
    if scaling.softcap is not None:
        logits = scaling.softcap * torch.tanh(logits / scaling.softcap)
    return logits if scaling.temperature == 1.0 else logits / scaling.temperature


def _linear_logps(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    target_ids_N: torch.Tensor,
    scaling: Scaling,
) -> torch.Tensor:
    if torch.is_autocast_enabled(hidden_ND.device.type):
        dtype = torch.get_autocast_dtype(hidden_ND.device.type)
        hidden_ND, weight_VD = hidden_ND.to(dtype), weight_VD.to(dtype)
        bias_V = bias_V.to(dtype) if bias_V is not None else None
    return _LinearLogps.apply(hidden_ND, weight_VD, bias_V, target_ids_N, scaling)  # type: ignore[no-any-return]


class _LinearLogps(torch.autograd.Function):
    """logps of a linear head, chunk by chunk.

    d logp / d logits = onehot - softmax, so with a frozen weight W the gradient of target n is its incoming gradient
    times (onehot - softmax) W: that row is made in forward and nothing is computed twice. A trained weight needs the
    incoming gradient first, so its chunks are recomputed in backward.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        target_ids_N: torch.Tensor,
        scaling: Scaling,
    ) -> torch.Tensor:
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        frozen = needs_hidden and not (needs_weight or needs_bias)
        jacobian_ND = torch.empty_like(hidden_ND) if frozen else None
        logps_N = torch.empty(len(hidden_ND), dtype=torch.float32, device=hidden_ND.device)
        step = _chunk(len(weight_VD))
        for start in range(0, len(hidden_ND), step):
            part = slice(start, start + step)
            logps_nV, slope = _chunk_logps(hidden_ND[part], weight_VD, bias_V, scaling)
            logps_N[part] = logps_nV.gather(1, target_ids_N[part, None])[:, 0]
            if jacobian_ND is not None:
                jacobian_ND[part] = _logit_gradient(logps_nV, slope, target_ids_N[part]).to(hidden_ND.dtype) @ weight_VD
        ctx.scaling = scaling
        ctx.frozen = frozen
        ctx.save_for_backward(*((jacobian_ND,) if frozen else (hidden_ND, weight_VD, bias_V, target_ids_N)))
        return logps_N

    @staticmethod
    def backward(ctx: Any, grad_N: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        if ctx.frozen:
            (jacobian_ND,) = ctx.saved_tensors
            return jacobian_ND * grad_N[:, None].to(jacobian_ND.dtype), None, None, None, None
        hidden_ND, weight_VD, bias_V, target_ids_N = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_weight else None
        grad_bias = torch.zeros_like(bias_V, dtype=torch.float32) if needs_bias else None
        step = _chunk(len(weight_VD))
        for start in range(0, len(hidden_ND), step):
            part = slice(start, start + step)
            logps_nV, slope = _chunk_logps(hidden_ND[part], weight_VD, bias_V, ctx.scaling)
            gradient_nV = _logit_gradient(logps_nV, slope, target_ids_N[part]).mul_(grad_N[part, None])
            low = gradient_nV.to(hidden_ND.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = low @ weight_VD
            if grad_weight is not None:
                grad_weight += low.T @ hidden_ND[part]
            if grad_bias is not None:
                grad_bias += gradient_nV.sum(0)
        return grad_hidden, _like(grad_weight, weight_VD), _like(grad_bias, bias_V), None, None


def _like(gradient: torch.Tensor | None, parameter: torch.Tensor) -> torch.Tensor | None:
    return None if gradient is None else gradient.to(parameter.dtype)


def _chunk_logps(
    hidden: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor | None, scaling: Scaling
) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Float32 log-probabilities [n, V], and d logits / d (head's output): a number, or [n, V] under a soft cap."""
    logits = nn.functional.linear(hidden, weight_VD, bias_V)
    slope: torch.Tensor | float = scaling.scale / scaling.temperature
    if scaling != Scaling():
        logits = _scaled(logits.float(), scaling)
    if scaling.softcap is not None:
        slope = slope * (1 - (logits * (scaling.temperature / scaling.softcap)).square())
    return logits.log_softmax(1, dtype=torch.float32), slope


def _logit_gradient(logps_nV: torch.Tensor, slope: torch.Tensor | float, targets: torch.Tensor) -> torch.Tensor:
    """d logp(target) / d (head's output) = (onehot - softmax) slope [n, V]; overwrites the log-probabilities."""
    gradient = logps_nV.exp_().neg_()
    gradient[torch.arange(len(targets), device=targets.device), targets] += 1.0
    return gradient if isinstance(slope, float) and slope == 1.0 else gradient.mul_(slope)
