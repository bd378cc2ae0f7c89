"""Preference objectives and policies through the engine, against plain transformers row by row: the gradient is the
same however rows are cut, shared and ordered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from whet.models.language_model import LanguageModel
from whet.objectives import OBJECTIVES, Batch
from whet.recipe import CPOPart, DPOPart, GRPOPart, KTOPart, ORPOPart, PPOPart, RewardPart, SimPOPart, TrainPart
from whet.rows import Row, given, read_at_end, with_companions
from whet.train.engine import Engine

GRADER = {"type": "length", "max": 3}
PARTS: dict[str, Any] = {
    "dpo": DPOPart(beta=0.3),
    "ipo": DPOPart(beta=0.3, loss="ipo"),
    "orpo": ORPOPart(beta=0.5),
    "simpo": SimPOPart(),
    "cpo": CPOPart(),
    "kto": KTOPart(beta=0.3, undesirable_weight=0.7),
    "reward": RewardPart(center_rewards_coefficient=0.01),
    "grpo": GRPOPart(grader=GRADER, beta=0.1),
    "ppo": PPOPart(grader=GRADER),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "shared": {},
    "flat": {"share_prefixes": False},
    "small packs": {"pack_tokens": 64},
    "a group a pack": {"pack_tokens": 16},
    "a group a pack, flat": {"pack_tokens": 16, "share_prefixes": False},
}


def rows_for(kind: str, seed: int = 0) -> list[Row]:
    """Six units: pairs, labelled answers, or answers; two share their prompt, one pair weighs half, one nothing."""
    draw = np.random.default_rng(seed)
    ids = lambda size: draw.integers(3, 97, size, dtype=np.int32)  # noqa: E731
    prompts = [ids(20), ids(24), ids(5), ids(18), ids(30)]
    prompts.append(prompts[0])
    weights = [1.0, 0.5, 2.0, 1.0, 0.0, 1.0]
    units = []
    for number, (prompt, weight) in enumerate(zip(prompts, weights, strict=True)):
        roles = {"kto": ("good" if number % 2 else "bad", "other"), "grpo": ("",), "ppo": ("",)}
        made = []
        for role in roles.get(kind, ("chosen", "rejected")):
            whole = np.concatenate([prompt, ids(int(draw.integers(1, 12)))])
            row = Row(whole, np.arange(len(whole)) >= len(prompt), weight=weight, role=role, place=f"a:{number}")
            if kind == "reward":
                row = Row(*read_at_end(whole), weight=weight, role=role, place=f"a:{number}")
                made.append(given(row, margin=np.full(1, 0.3 * number, np.float32)))
                continue
            names = {"kto": ["reference"], "dpo": ["reference"], "ipo": ["reference"], "grpo": ["sampled", "reference"]}
            names["ppo"] = ["sampled", "value", "return"]
            mean = -7 if kind == "kto" else -4  # so that kto's z is above 0
            some = {name: draw.normal(mean, 1, row.target_count).astype(np.float32) for name in names.get(kind, [])}
            if kind in ("grpo", "ppo"):
                some["advantage"] = draw.normal(0, 1, row.target_count).astype(np.float32)
            made.append(given(row, **some))
        units.append(Row(**{**{f: getattr(made[0], f) for f in Row.__slots__}, "companions": tuple(made[1:])}))
    return units


def model_for(kind: str, make_model: Any) -> Any:
    if kind != "reward":
        return make_model("llama")
    from transformers import AutoModelForSequenceClassification

    config = make_model("llama").config
    config.num_labels = 1
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").float().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def engine_of(kind: str, model: Any, path: Any = "trie", **settings: Any) -> Engine:
    torch.manual_seed(1)
    part = TrainPart(**{"learning_rate": 1e-2, **settings})
    engine = Engine(LanguageModel(model, path), PARTS[kind], part, Accelerator(cpu=True), torch.float32)
    if engine.language_model.value_head is not None:  # it begins at zero
        with torch.no_grad():
            engine.language_model.value_head.weight.normal_(std=0.1)
    engine.language_model.train()
    return engine


def plainly(kind: str, model: Any, rows: list[Row], head: Any = None) -> tuple[float, dict[str, tuple[float, float]]]:
    """Loss and metrics by transformers' own forward of each row alone; gradients are left in the model."""

    def read(row: Row) -> tuple[torch.Tensor, torch.Tensor | None]:
        ids = torch.from_numpy(row.ids.astype(np.int64))[None]
        if kind == "reward":
            return model(input_ids=ids[:, :-1]).logits[0].float(), None
        out = model(input_ids=ids, output_hidden_states=True)
        at = torch.from_numpy(row.targets[1:])
        logps = out.logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0][at]
        return logps, head(out.hidden_states[-1][0, :-1][at])[:, 0] if head is not None else None

    objective, part = OBJECTIVES[PARTS[kind].kind], PARTS[kind]
    if kind == "kto":
        others = [other for row in rows for other in row.companions]
        with torch.no_grad():
            ratios = [float(read(other)[0].sum()) - float(other.given["reference"].sum()) for other in others]
        z = sum(ratios) / len(rows)
        rows = [
            given(Row(row.ids, row.targets, row.weight, None, row.role, row.place, (), row.given),
                  z=np.full(row.target_count, max(0.0, z), np.float32))
            for row in rows
        ]  # fmt: skip
    flat, owner = with_companions(rows)
    found = [read(row) for row in flat]
    sizes = torch.tensor([row.target_count for row in flat])
    batch = Batch(
        torch.cat([logps for logps, _ in found]), torch.arange(len(flat)).repeat_interleave(sizes),
        torch.tensor([row.weight for row in flat]), tuple(row.role for row in flat), torch.tensor(owner),
        objective.counts(rows, part),
        {name: torch.from_numpy(np.concatenate([row.given[name] for row in flat])) for name in flat[0].given},
        torch.cat([values for _, values in found]) if head is not None else None,
    )  # fmt: skip
    loss = objective.loss(batch, part)
    loss.total.backward()
    return loss.total.item(), loss.metrics


@pytest.mark.parametrize("kind", PARTS)
def test_a_step_equals_plain_transformers_row_by_row(make_model, gradients, assert_same, kind: str) -> None:
    rows, model = rows_for(kind), model_for(kind, make_model)
    plain = engine_of(kind, model).language_model
    loss, metrics = plainly(kind, model, rows, plain.value_head)
    expected = gradients(plain)
    assert kind != "kto" or metrics["divergence"][0] > 0, "z must be there to be seen"
    for name, setting in SETTINGS.items():
        for order in (rows, rows[::-1]):
            engine = engine_of(kind, model, **setting)
            seen = engine.forward_backward(order)
            assert seen.loss == pytest.approx(loss, rel=1e-4, abs=1e-6), name
            assert_same(gradients(engine.language_model), expected, 5e-5)
            assert seen.metrics == pytest.approx(
                {key: value / count for key, (value, count) in metrics.items() if count}, rel=1e-3, abs=1e-5
            )


@pytest.mark.parametrize("kind", ["dpo", "kto", "grpo"])
def test_so_does_one_on_padded_batches(make_model, gradients, assert_same, kind: str) -> None:
    rows, model = rows_for(kind), make_model("falcon")
    loss, _ = plainly(kind, model, rows)
    expected = gradients(model)
    for limit in (2048, 100):
        seen = engine_of(kind, model, "padded", pack_tokens=limit).forward_backward(rows)
        assert seen.loss == pytest.approx(loss, rel=1e-4, abs=1e-6)
        assert_same(gradients(model), expected, 5e-5)


def test_companions_are_counted_as_tokens_and_not_as_rows(make_model) -> None:
    rows = rows_for("dpo")
    flat, _ = with_companions(rows)
    seen = engine_of("dpo", make_model("llama")).forward_backward(rows)
    assert (seen.rows, seen.tokens) == (6, sum(map(len, flat)))
    assert seen.target_tokens == sum(row.target_count for row in flat)
    assert seen.computed_tokens < sum(len(row) - 1 for row in flat), "prompts are stored once"


@pytest.mark.parametrize("kind", PARTS)
def test_measuring_is_the_loss_and_leaves_nothing(make_model, gradients, kind: str) -> None:
    rows, model = rows_for(kind), model_for(kind, make_model)
    engine = engine_of(kind, model)
    expected, metrics = plainly(kind, model, rows, engine.language_model.value_head)
    gradients(engine.language_model)
    before = engine.state()
    figures = engine.measure(rows)
    assert figures["loss"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert figures.keys() == {"loss", *(name for name, (_, count) in metrics.items() if count)}
    assert all(parameter.grad is None for parameter in engine.trainable.values())
    after = engine.state()
    assert all(torch.equal(after[name], before[name]) for name in before.keys() | after.keys())
    assert engine.language_model.training


def test_measuring_between_two_halves_of_a_step_changes_nothing(make_model, gradients, assert_same) -> None:
    model, rows = make_model("gpt2", attn_pdrop=0.2), rows_for("dpo")
    found = []
    for measured in (False, True):
        engine = engine_of("dpo", model)
        torch.manual_seed(0)
        engine.forward_backward(rows[:3])
        if measured:
            engine.measure(rows)
        engine.forward_backward(rows[3:])
        found.append(gradients(model))
    assert_same(*found)
