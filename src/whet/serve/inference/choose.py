"""The next token of each row, by the settings of its own request."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from whet.models.draw import Draw
from whet.serve.inference.choice import Choice, Top


class Choose:
    """Rows of a decoder and the answers that they write. Called with their logits; an answer that asked for
    log-probabilities gets them, and one whose logits are no numbers a fault and token 0."""

    def __init__(self) -> None:
        self.choices: dict[int, Choice] = {}

    def __call__(self, logits_RV: torch.Tensor, rows: Sequence[int]) -> list[int]:
        choices = [self.choices[row] for row in rows]
        logits_RV = logits_RV.float()
        broken_R = ~logits_RV.amax(-1).isfinite()  # NaN is the highest of all
        if bool(broken_R.any()):
            for place in broken_R.nonzero()[:, 0].tolist():
                choices[place].fault = "the model gives no numbers (NaN); check its weights with `whet selftest`"
            logits_RV = logits_RV.masked_fill(broken_R[:, None], 0.0)
        tokens = self._chosen(_adjusted(logits_RV, choices), rows, choices)
        if any(choice.sampling.top_logprobs is not None for choice in choices):
            _keep_logps(logits_RV, choices, tokens)
        return tokens

    def _chosen(self, logits_RV: torch.Tensor, rows: Sequence[int], choices: Sequence[Choice]) -> list[int]:
        alike: dict[tuple[float, float], list[int]] = {}
        for place, choice in enumerate(choices):
            alike.setdefault((choice.sampling.temperature, choice.sampling.top_p), []).append(place)
        tokens = [0] * len(rows)
        for (temperature, top_p), places in alike.items():
            numbers = {place: choices[place].random for place in places}
            found = Draw(temperature, top_p, numbers=numbers)(
                logits_RV if len(alike) == 1 else logits_RV[places], places
            )
            for place, token in zip(places, found, strict=True):
                tokens[place] = token
        return tokens


def _adjusted(logits_RV: torch.Tensor, choices: Sequence[Choice]) -> torch.Tensor:
    """With biases and penalties: a token that came c times loses c frequency_penalty + presence_penalty (OpenAI's
    documentation of the two)."""
    if not any(choice.sampling.adjusts for choice in choices):
        return logits_RV
    logits_RV = logits_RV.clone()
    for place, choice in enumerate(choices):
        changes = dict(choice.sampling.logit_bias)
        for token, count in choice.counts.items():
            lost = count * choice.sampling.frequency_penalty + choice.sampling.presence_penalty
            changes[token] = changes.get(token, 0.0) - lost
        if changes:
            logits_RV[place, list(changes)] += torch.tensor(list(changes.values()), device=logits_RV.device)
    return logits_RV


def _keep_logps(logits_RV: torch.Tensor, choices: Sequence[Choice], tokens: Sequence[int]) -> None:
    places = [place for place, choice in enumerate(choices) if choice.sampling.top_logprobs is not None]
    logps_RV = logits_RV[places].log_softmax(-1)
    asked = [choices[place].sampling.top_logprobs or 0 for place in places]
    tops = likeliest(logps_RV, max(asked))
    chosen = logps_RV[range(len(places)), [tokens[place] for place in places]].tolist()
    for place, logp, top, count in zip(places, chosen, tops, asked, strict=True):
        choices[place].logps.append((logp, top[:count]))


def likeliest(logps_RV: torch.Tensor, count: int) -> list[Top]:
    """The likeliest tokens of each row, with their log-probabilities."""
    if not count:
        return [[] for _ in logps_RV]
    top = logps_RV.topk(min(count, logps_RV.shape[-1]), dim=-1)
    return [list(zip(*pair, strict=True)) for pair in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
