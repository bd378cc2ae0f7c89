"""Preference losses that need no reference: ORPO, SimPO, CPO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whet.objectives import pairs
from whet.objectives.contract import Batch, Loss, Objective
from whet.objectives.dpo import smoothed
from whet.recipe import CPOPart, ORPOPart, SimPOPart

if TYPE_CHECKING:
    import torch


def orpo(batch: Batch, part: ORPOPart) -> Loss:
    """NLL(c) - beta log s(log odds(c) - log odds(r)), where odds(y) = p / (1 - p) and p is the geometric mean of the
    probabilities of y's tokens: Hong et al. 2024, arXiv 2403.07691, equations 4, 6 and 7. NLL is that of the chosen
    answer."""
    from torch.nn.functional import logsigmoid

    chosen_E, rejected_E = _means(batch)
    log_odds_E = (chosen_E - _log_of_rest(chosen_E)) - (rejected_E - _log_of_rest(rejected_E))
    total = pairs.chosen_nll(batch) - part.beta * pairs.mean(logsigmoid(log_odds_E), batch)
    return Loss(total, pairs.compared(batch, part.beta * chosen_E.detach(), part.beta * rejected_E.detach()))


def simpo(batch: Batch, part: SimPOPart) -> Loss:
    """-log s(beta log p(c)/|c| - beta log p(r)/|r| - gamma): Meng et al. 2024, arXiv 2405.14734, equation 6."""
    from torch.nn.functional import logsigmoid

    chosen_E, rejected_E = _means(batch)
    total = pairs.mean(-logsigmoid(part.beta * (chosen_E - rejected_E) - part.gamma), batch)
    return Loss(total, pairs.compared(batch, part.beta * chosen_E.detach(), part.beta * rejected_E.detach()))


def cpo(batch: Batch, part: CPOPart) -> Loss:
    """-log s(beta [log p(c) - log p(r)]) + alpha NLL(c): Xu et al. 2024, arXiv 2401.08417, equations 4 and 5."""
    chosen_E = batch.by_example(batch.logps_N, pairs.CHOSEN)
    rejected_E = batch.by_example(batch.logps_N, pairs.REJECTED)
    total = pairs.mean(smoothed(part.beta * (chosen_E - rejected_E), part.label_smoothing), batch)
    total = total + part.alpha * pairs.chosen_nll(batch)
    return Loss(total, pairs.compared(batch, part.beta * chosen_E.detach(), part.beta * rejected_E.detach()))


def _means(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """log p a target [E] of chosen and of rejected."""
    of_chosen_E, of_rejected_E = pairs.lengths(batch)
    chosen_E = batch.by_example(batch.logps_N, pairs.CHOSEN) / of_chosen_E
    return chosen_E, batch.by_example(batch.logps_N, pairs.REJECTED) / of_rejected_E


def _log_of_rest(logp_E: torch.Tensor) -> torch.Tensor:
    """log(1 - p). Near p = 1 from expm1, which keeps its digits; a p that rounds to 1 counts as the next one below."""
    import torch

    logp_E = logp_E.clamp(max=-1e-7)
    return torch.log(-torch.expm1(logp_E))


ORPO = Objective(pairs.rows_of, pairs.counts, orpo)
SIMPO = Objective(pairs.rows_of, pairs.counts, simpo)
CPO = Objective(pairs.rows_of, pairs.counts, cpo)
