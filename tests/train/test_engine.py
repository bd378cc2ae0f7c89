"""The engine's four primitives against plain transformers and torch: one step, its update, scores, and going on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from whet.methods import METHODS, Given
from whet.models.language_model import LanguageModel
from whet.models.probe import probe
from whet.recipe import FullPart, LoRAPart, SFTPart, TrainPart
from whet.rows import Row
from whet.train.engine import Engine

ARCHITECTURES = ["llama", "qwen3", "mistral", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "cohere", "granite", "phi"]
SETTINGS: dict[str, dict[str, Any]] = {
    "shared": {},
    "flat": {"share_prefixes": False},
    "several packs": {"pack_tokens": 50},
    "several packs, flat": {"pack_tokens": 50, "share_prefixes": False},
    "checkpointed": {"gradient_checkpointing": True},
    "checkpointed, several packs": {"gradient_checkpointing": True, "pack_tokens": 50},
}


def adapted(model: Any, method: str = "lora", **changes: Any) -> Any:
    """The model with what a method trains; LoRA's B is not zero, as it would be at the start."""
    part = LoRAPart(r=4, **changes) if method == "lora" else FullPart()
    model = METHODS[method].apply(model, part, Given())
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2, generator=draw)
    return model


def engine_of(model: Any, path: Any = "trie", kind: type[LanguageModel] = LanguageModel, **settings: Any) -> Engine:
    part = TrainPart(**{"learning_rate": 1e-2, **settings})
    if part.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()
    engine = Engine(kind(model, path), SFTPart(), part, Accelerator(cpu=True), torch.float32)
    engine.language_model.train()
    return engine


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "falcon"])
def test_a_step_equals_plain_transformers_on_padded_rows(
    make_model, make_rows, plain_step, gradients, assert_same, architecture: str, method: str
) -> None:
    """Loss and every gradient to 1e-5, whatever is shared, cut or recomputed."""
    model, rows = make_model(architecture), make_rows()
    path = probe(model, 97).path
    assert path == ("padded" if architecture == "falcon" else "trie")
    model = adapted(model, method)
    loss, expected = plain_step(model, rows)
    for name, setting in SETTINGS.items():
        seen = engine_of(model, path, **setting).forward_backward(rows)
        assert seen.loss == pytest.approx(loss, rel=1e-5), name
        assert_same(gradients(model), expected)


def test_a_step_counts_what_it_saw(make_model, make_rows) -> None:
    rows = make_rows()
    tokens, targets = sum(map(len, rows)), sum(row.target_count for row in rows)
    shared = engine_of(make_model("llama")).forward_backward(rows)
    flat = engine_of(make_model("llama"), share_prefixes=False).forward_backward(rows)
    assert (shared.rows, shared.tokens, shared.target_tokens) == (7, tokens, targets)
    # what no target needs is not computed: each row's last token; and shared, what is there twice
    assert (flat.computed_tokens, flat.target_tokens) == (tokens - 7, targets)
    assert shared.computed_tokens == (12 + 3) + 20 + 18 + 6 + 14 + 1 + 29


def test_a_second_call_adds_to_the_gradient(make_model, make_rows, gradients, assert_same) -> None:
    model, rows = make_model("llama"), make_rows()
    engine = engine_of(model)
    engine.forward_backward(rows)
    once = gradients(model)
    engine.forward_backward(rows)
    engine.forward_backward(rows)
    assert_same(gradients(model), {name: 2 * gradient for name, gradient in once.items()})


def test_rows_that_weigh_nothing_or_teach_nothing_change_nothing(make_model, make_rows, gradients) -> None:
    model, rows = make_model("llama"), make_rows()
    nothing = [Row(row.ids, row.targets, weight=0.0) for row in rows]
    assert engine_of(model).forward_backward(nothing).loss == 0.0
    assert all(not gradient.any() for gradient in gradients(model).values())
    silent = [Row(row.ids, np.zeros(len(row), bool)) for row in rows]
    seen = engine_of(model).forward_backward(silent)
    assert (seen.loss, seen.computed_tokens, seen.target_tokens) == (0.0, 0, 0)
    assert gradients(model) == {}


class Small(LanguageModel):
    """A model on a device whose memory runs out over `limit` tokens, after the first `fitting` packs."""

    limit, fitting = 70, 0

    def forward(self, pack):
        if pack.computed_tokens > self.limit and self.fitting <= 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.fitting -= 1
        return super().forward(pack)


@pytest.mark.parametrize(("pack_tokens", "fitting", "told"), [(260, 0, ["130", "65"]), (130, 1, ["65"])])
def test_out_of_memory_halves_the_packs_and_repeats_the_step(
    make_model, make_rows, plain_step, gradients, assert_same, pack_tokens: int, fitting: int, told: list[str]
) -> None:
    """In the second case, the pack before has left its gradient when memory runs out."""
    model, rows = make_model("llama"), make_rows()
    loss, expected = plain_step(model, rows)
    engine = engine_of(model, kind=Small, pack_tokens=pack_tokens, share_prefixes=False)
    warnings: list[str] = []
    engine.warn, engine.language_model.fitting = warnings.append, fitting
    seen = engine.forward_backward(rows)
    assert engine.pack_tokens == 65
    assert [size in warning for size, warning in zip(told, warnings, strict=True)] == [True] * len(told)
    assert seen.loss == pytest.approx(loss, rel=1e-5)
    assert_same(gradients(model), expected)


def test_what_no_smaller_pack_can_hold_is_raised(make_model, make_rows) -> None:
    engine = engine_of(make_model("llama"), kind=Small, pack_tokens=100)
    engine.language_model.limit = 10
    with pytest.raises(torch.OutOfMemoryError):
        engine.forward_backward(make_rows())


def test_other_errors_are_not_taken_for_memory(make_model, make_rows) -> None:
    class Broken(LanguageModel):
        def forward(self, pack):
            raise RuntimeError("shape '[3]' is invalid")

    engine = engine_of(make_model("llama"), kind=Broken)
    with pytest.raises(RuntimeError, match="shape"):
        engine.forward_backward(make_rows())
    assert engine.pack_tokens == 2048


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.1, 1e6])
def test_optim_step_equals_clipping_and_adamw_by_hand(make_model, max_grad_norm: float) -> None:
    """Given gradients, since Adam makes large steps of the rounding in gradients that are almost zero."""
    settings = {"weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6}
    model, twin = make_model("gpt2"), make_model("gpt2")
    engine = engine_of(model, max_grad_norm=max_grad_norm, **settings)
    matrices = [p for p in twin.parameters() if p.ndim > 1]
    vectors = [p for p in twin.parameters() if p.ndim == 1]  # biases and gains do not decay
    plain = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.8, 0.95), eps=1e-6, foreach=False,
    )  # fmt: skip
    torch.manual_seed(0)
    for step in range(4):
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        norm = engine.optim_step(0.01 * (step + 1))
        expected = torch.nn.utils.clip_grad_norm_(twin.parameters(), max_grad_norm or float("inf"))
        assert norm == pytest.approx(float(expected), rel=1e-6)
        for group in plain.param_groups:
            group["lr"] = 0.01 * (step + 1)
        plain.step()
        assert all(p.grad is None for p in model.parameters())
    for (name, a), (_, b) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


def test_a_gradient_that_is_not_finite_updates_nothing(make_model, make_rows) -> None:
    model, rows = make_model("llama"), make_rows()
    engine = engine_of(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    engine.forward_backward(rows)
    model.lm_head.weight.grad[0, 0] = float("nan")
    assert not np.isfinite(engine.optim_step(0.1))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("setting", ["shared", "several packs", "flat"])
def test_scores_come_in_the_rows_order_without_dropout(make_model, make_rows, setting: str) -> None:
    rows = [*make_rows(), Row(np.arange(5, dtype=np.int32), np.zeros(5, bool))]
    model = make_model("gpt2", resid_pdrop=0.3, attn_pdrop=0.3)
    done: list[int] = []
    scores = engine_of(model, **SETTINGS[setting]).scores(rows, done.append)
    assert model.training
    assert sum(done) == 7
    model.eval()
    for row, found in zip(rows, scores, strict=True):
        ids = torch.from_numpy(row.ids).long()
        logps = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        torch.testing.assert_close(found, logps[torch.from_numpy(row.targets[1:])].detach(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_going_on_from_a_state_is_bit_for_bit(make_model, make_rows, method: str) -> None:
    """Weights, moments and the random numbers of dropout: 3 + 3 steps are 6 steps."""

    def fresh() -> Engine:
        torch.manual_seed(3)
        dropout = {"lora_dropout": 0.2} if method == "lora" else {}
        return engine_of(adapted(make_model("gpt2", attn_pdrop=0.1, resid_pdrop=0.1), method, **dropout))

    def steps(engine: Engine) -> list[float]:
        losses = []
        for _ in range(3):
            losses.append(engine.forward_backward(make_rows()).loss)
            engine.optim_step(1e-2)
        return losses

    engine = fresh()
    steps(engine)
    halfway = engine.state()
    expected = steps(engine)
    resumed = fresh()
    torch.manual_seed(99)
    resumed.load_state(halfway)
    assert steps(resumed) == expected
    a, b = engine.state(), resumed.state()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(name.startswith("optimizer.exp_avg_sq.") for name in a)


def test_a_state_is_a_copy_and_an_early_one_has_no_moments(make_model, make_rows) -> None:
    engine = engine_of(make_model("llama"))
    start = engine.state()
    kept = {name: tensor.clone() for name, tensor in start.items()}
    engine.forward_backward(make_rows())
    engine.optim_step(1e-2)
    assert all(torch.equal(start[name], kept[name]) for name in kept)
    engine.load_state(start)
    assert engine.state().keys() == start.keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in engine.state().items())


def test_a_state_of_another_model_is_refused(make_model) -> None:
    state = engine_of(make_model("llama")).state()
    with pytest.raises(KeyError):
        engine_of(make_model("gpt2")).load_state(state)
    with pytest.raises(RuntimeError):
        engine_of(make_model("llama", hidden_size=64)).load_state(state)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_bfloat16_trains_float32_parameters(make_model, make_rows, plain_step, gradients, method: str) -> None:
    model, rows = adapted(make_model("llama"), method), make_rows()
    loss, expected = plain_step(model, rows)
    if method == "lora":
        for parameter in model.parameters():
            parameter.data = parameter.data if parameter.requires_grad else parameter.data.bfloat16()
    engine = Engine(LanguageModel(model), SFTPart(), TrainPart(), Accelerator(cpu=True), torch.bfloat16)
    assert engine.forward_backward(rows).loss == pytest.approx(loss, rel=0.02)
    found = gradients(model)
    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    whole = lambda taken: torch.cat([taken[name].flatten() for name in sorted(taken)])  # noqa: E731
    cosine = torch.nn.functional.cosine_similarity(whole(found), whole(expected), dim=0)
    assert float(cosine) > 0.995
