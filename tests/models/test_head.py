"""The chunked head against log_softmax over all logits at once, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whet.models import head as head_module
from whet.models.head import Scaling, head_logps

N, WIDTH, VOCABULARY = 53, 12, 70
SCALINGS = [Scaling(), Scaling(scale=0.3), Scaling(softcap=2.5), Scaling(scale=1.7, softcap=2.5)]


@pytest.fixture(params=[16, 24, 10_000], ids=["chunks of 16", "chunks of 24", "one chunk"])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "CHUNK_BYTES", request.param * VOCABULARY * 4)


def given(bias: bool = False, trained: bool = True) -> tuple[nn.Linear, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(head, hidden states, targets, incoming gradient of the logps)."""
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, VOCABULARY, bias=bias).requires_grad_(trained)
    targets = torch.randint(VOCABULARY, (N,))
    targets[1] = targets[0]  # one token may be the target of several
    return head, torch.randn(N, WIDTH, requires_grad=True), targets, torch.randn(N)


def plain(forward, hidden: torch.Tensor, targets: torch.Tensor, scaling: Scaling) -> torch.Tensor:
    logits = forward(hidden) * scaling.scale
    if scaling.softcap:
        logits = scaling.softcap * torch.tanh(logits / scaling.softcap)
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]


def compare(head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor, grad: torch.Tensor, scaling: Scaling) -> None:
    """Values, and gradients of the hidden states and of every trained parameter of the head."""
    leaves = {"hidden": hidden, **{n: p for n, p in head.named_parameters() if p.requires_grad}}
    logps = head_logps(head, hidden, targets, scaling)
    assert logps.dtype == torch.float32
    found = torch.autograd.grad(logps, list(leaves.values()), grad)
    exact_hidden = hidden.detach().double().requires_grad_()
    head.double()
    exact = plain(head, exact_hidden, targets, scaling)
    exact_leaves = [exact_hidden, *(p for p in head.parameters() if p.requires_grad)]
    expected = torch.autograd.grad(exact, exact_leaves, grad.double())
    torch.testing.assert_close(logps.double(), exact, rtol=1e-5, atol=1e-5)
    for name, a, b in zip(leaves, found, expected, strict=True):
        assert float((a - b).abs().max()) <= 1e-5 * float(b.abs().max()), name


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_a_linear_head_equals_log_softmax(trained: bool, bias: bool, scaling: Scaling) -> None:
    compare(*given(bias, trained), scaling)


@pytest.mark.usefixtures("_chunks")
def test_a_bias_alone_may_be_trained() -> None:
    head, *rest = given(bias=True)
    head.weight.requires_grad_(False)
    compare(head, *rest, Scaling(softcap=2.5))


@pytest.mark.usefixtures("_chunks")
def test_a_tied_weight_gets_the_gradients_of_both_its_uses() -> None:
    head, _, targets, grad = given()
    ids = torch.randint(VOCABULARY, (N,))
    logps = head_logps(head, torch.tanh(head.weight[ids]), targets, Scaling())
    (found,) = torch.autograd.grad(logps, [head.weight], grad)
    weight = head.weight.detach().double().requires_grad_()
    exact = plain(lambda hidden: hidden @ weight.T, torch.tanh(weight[ids]), targets, Scaling())
    (expected,) = torch.autograd.grad(exact, [weight], grad.double())
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("scaling", [Scaling(), Scaling(scale=0.3, softcap=2.5)])
def test_a_head_with_lora_equals_log_softmax(scaling: Scaling) -> None:
    from peft.tuners.lora import LoraConfig
    from peft.tuners.lora.layer import Linear

    head, hidden, targets, grad = given(trained=False)
    adapted = Linear(head, "default", LoraConfig(), r=3, lora_alpha=6, init_lora_weights=False)
    times = 300 // N + 1  # more than one piece of 256
    hidden = hidden.detach().repeat(times, 1).requires_grad_()
    compare(adapted, hidden, targets.repeat(times), grad.repeat(times), scaling)
    assert any(p.requires_grad for p in adapted.parameters())


@pytest.mark.parametrize("trained", [False, True])
def test_the_head_is_called_so_hooks_run_once_each_way(trained: bool) -> None:
    """Hooks before and after the call are where sharding gathers the weight and lets go of it."""
    head, hidden, targets, grad = given(trained=trained)
    calls: list[str] = []
    head.register_forward_pre_hook(lambda *given: calls.append("before"))
    head.register_forward_hook(lambda *given: calls.append("after"))
    head.register_full_backward_hook(lambda *given: calls.append("backward"))
    head_logps(head, hidden, targets, Scaling()).backward(grad)
    assert calls == ["before", "after", "backward"]
    torch.testing.assert_close(head(hidden), hidden @ head.weight.T)  # and afterwards it is a plain head again


def test_bfloat16_sums_in_float32() -> None:
    """Products are rounded, the softmax is not: errors are those of one rounding of the logits."""
    head, hidden, targets, grad = given(trained=True)
    with torch.autocast("cpu", torch.bfloat16):
        logps = head_logps(head, hidden, targets, Scaling())
        found = torch.autograd.grad(logps, [hidden, head.weight], grad)
    exact = plain(head, hidden, targets, Scaling())
    expected = torch.autograd.grad(exact, [hidden, head.weight], grad)
    torch.testing.assert_close(logps, exact, rtol=0, atol=0.02)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert float((a - b).norm() / b.norm()) < 0.01


def test_no_gradient_is_kept_where_none_is_asked() -> None:
    head, hidden, targets, _ = given()
    with torch.no_grad():
        logps = head_logps(head, hidden, targets, Scaling())
    assert not logps.requires_grad
    torch.testing.assert_close(logps, plain(head, hidden, targets, Scaling()).detach())


def test_scaling_is_read_by_the_names_that_models_use(make_model) -> None:
    assert Scaling.of(make_model("llama").config) == Scaling()
    assert Scaling.of(make_model("cohere").config) == Scaling(scale=0.25)
    assert Scaling.of(make_model("granite").config) == Scaling(scale=1 / 3)
    assert Scaling.of(make_model("gemma2").config) == Scaling(softcap=4.0)
