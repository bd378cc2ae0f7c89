"""Direct preference optimisation, and its published forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whet.objectives import pairs
from whet.objectives.contract import Batch, Loss, Objective
from whet.recipe import DPOPart

if TYPE_CHECKING:
    import torch


def loss(batch: Batch, part: DPOPart) -> Loss:
    """The mean over pairs of a function of the margin between chosen c and rejected r.

    With h(y) = log p(y|x) - log p_ref(y|x), summed over the answer's tokens, d = h(c) - h(r), e = label_smoothing:

        sigmoid       -(1-e) log s(beta d) - e log s(-beta d)               Rafailov et al. 2023, arXiv 2305.18290;
                                                                            with e Mitchell 2023 (conservative DPO)
        robust        [-(1-e) log s(beta d) + e log s(-beta d)] / (1-2e)    Chowdhury et al. 2024, arXiv 2403.00409
        hinge         max(0, 1 - beta d)                                    Zhao et al. 2023, arXiv 2305.10425
        ipo           (d' - 1/(2 beta))^2                                   Azar et al. 2023, arXiv 2310.12036
        sigmoid_norm  -log s(beta d')                                       Meng et al. 2024, arXiv 2405.14734, 4.2

    where d' is made of h(y)/|y|, the mean over the answer's tokens: for ipo its authors say so.
    """
    import torch

    ratio_N = batch.logps_N - batch.given["reference"]
    chosen_E, rejected_E = batch.by_example(ratio_N, pairs.CHOSEN), batch.by_example(ratio_N, pairs.REJECTED)
    rewards = part.beta * chosen_E.detach(), part.beta * rejected_E.detach()
    if part.loss in ("ipo", "sigmoid_norm"):
        of_chosen_E, of_rejected_E = pairs.lengths(batch)
        chosen_E, rejected_E = chosen_E / of_chosen_E, rejected_E / of_rejected_E
    margin_E = chosen_E - rejected_E
    if part.loss == "ipo":
        losses_E = (margin_E - 1 / (2 * part.beta)) ** 2
    elif part.loss == "hinge":
        losses_E = torch.relu(1 - part.beta * margin_E)
    else:
        losses_E = smoothed(part.beta * margin_E, part.label_smoothing, unbiased=part.loss == "robust")
    return Loss(pairs.mean(losses_E, batch), pairs.compared(batch, *rewards))


def smoothed(logits_E: torch.Tensor, label_smoothing: float, unbiased: bool = False) -> torch.Tensor:
    """-log s(logits) where a share of the labels is thought to be the wrong way round. `unbiased`: what it would be on
    the true labels, in expectation."""
    from torch.nn.functional import logsigmoid

    right_E, wrong_E, share = -logsigmoid(logits_E), -logsigmoid(-logits_E), label_smoothing
    if unbiased:
        return ((1 - share) * right_E - share * wrong_E) / (1 - 2 * share)
    return (1 - share) * right_E + share * wrong_E


DPO = Objective(pairs.rows_of, pairs.counts, loss, reference=True)
