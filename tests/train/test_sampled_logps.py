"""What answers are drawn with is what the engine says of them: else the ratio of a policy's loss is wrong at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from whet.methods import METHODS, Given
from whet.models.generate import sample
from whet.models.language_model import LanguageModel
from whet.models.probe import probe, takes_tries
from whet.recipe import GRPOPart, LoRAPart, PPOPart, TrainPart
from whet.rows import Row
from whet.train.engine import Engine

GRADER = {"type": "length", "max": 3}


def louder(model: Any) -> Any:
    """The model with a head that does something that no configuration tells: its logits are 1.3 times as large."""
    own = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        out = own(*args, **kwargs)
        out.logits = out.logits * 1.3
        return out

    model.forward = forward
    return model


def model_of(make_model: Callable[..., Any], kind: str) -> Any:
    if kind == "louder":
        return louder(make_model("llama"))
    if kind == "llama with lora":
        adapted = METHODS["lora"].apply(make_model("llama"), LoRAPart(r=4), Given())
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(5))
        return adapted
    return make_model(kind)


def engine_of(model: Any, path: Any, part: Any = None, **settings: Any) -> Engine:
    part = part or GRPOPart(grader=GRADER)
    return Engine(LanguageModel(model, path), part, TrainPart(**settings), Accelerator(cpu=True), torch.float32)


PATHS = {
    "llama": "trie", "llama with lora": "trie", "gemma2": "trie", "granite": "trie", "falcon": "padded",
    "louder": "logits",
}  # fmt: skip


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("kind", PATHS)
def test_log_probabilities_of_sampling_are_the_engines(
    make_model, tiny_tokenizer, kind: str, temperature: float
) -> None:
    model = model_of(make_model, kind)
    path = probe(model, 97).path
    assert (path, takes_tries(model)) == (PATHS[kind], path == "trie")
    draw = np.random.default_rng(0)
    stem = draw.integers(6, 97, 20).tolist()
    prompts = [stem, stem, [*stem, 9, 8], draw.integers(6, 97, 3).tolist(), [7]]
    answers = sample(
        model, tiny_tokenizer(), prompts, stop_ids=range(11, 17), max_new_tokens=12, temperature=temperature,
        seed=3, batch_size=3, logps=True,
    )  # fmt: skip
    assert len({answer.stopped for answer in answers}) == 2, "some answers end, some are cut"
    rows = [
        Row(np.array([*prompt, *answer.ids], np.int32), np.arange(len(prompt) + len(answer.ids)) >= len(prompt))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    engine = engine_of(model, path)
    with engine.at_temperature(temperature):
        found = engine.scores(rows)
    for answer, scores in zip(answers, found, strict=True):
        assert len(answer.logps) == len(answer.ids)
        assert scores.tolist() == pytest.approx(answer.logps, abs=1e-4)
    apart = max(float((a - b).abs().max()) for a, b in zip(engine.scores(rows), found, strict=True))
    assert (apart > 1e-2) == (temperature != 1.0), "the temperature is put back, and makes a difference"


@pytest.mark.parametrize("path", ["trie", "padded", "logits"])
def test_values_are_the_value_heads_whatever_the_temperature(make_model, make_rows, path: str) -> None:
    model, rows = make_model("llama").eval(), make_rows()
    model = louder(model) if path == "logits" else model
    engine = engine_of(model, path, PPOPart(grader=GRADER), pack_tokens=64)
    head = engine.language_model.value_head
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
    with engine.at_temperature(0.7):
        found, logps = engine.values(rows), engine.scores(rows)
    for row, values, own in zip(rows, found, logps, strict=True):
        ids, at = torch.from_numpy(row.ids.astype(np.int64))[None], torch.from_numpy(row.targets[1:])
        with torch.no_grad():
            out = model(ids, output_hidden_states=True)
        torch.testing.assert_close(values, head(out.hidden_states[-1][0, :-1])[at, 0].detach(), rtol=1e-4, atol=1e-4)
        expected = (out.logits[0, :-1] / 0.7).log_softmax(-1).gather(1, ids[0, 1:, None])[at, 0]
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)


def test_log_probabilities_at_a_temperature_have_its_gradient(make_model, make_rows, gradients, assert_same) -> None:
    """On all three paths, the gradient of the log-probabilities' sum against the model's own logits over 0.7."""
    model, rows = make_model("gemma2"), make_rows()[:3]
    for row in rows:
        ids = torch.from_numpy(row.ids.astype(np.int64))[None]
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1] / 0.7
        logps = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        logps[torch.from_numpy(row.targets[1:])].sum().backward()
    expected = gradients(model)
    for path in ("trie", "padded", "logits"):
        engine = engine_of(model, path, share_prefixes=path == "trie")
        with engine.at_temperature(0.7), engine.language_model.running():
            for pack in engine.packs(rows):
                engine.language_model(pack).sum().backward()
        assert_same(gradients(model), expected, 1e-4)
