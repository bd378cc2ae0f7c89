"""Attention over a trie against one that is slow and obvious: a dense mask, float64, autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_mask
from transformers import AttentionInterface

from whet.models.attention import NAME, QUERY_BLOCK, Trie, attention_of, trie_attention
from whet.tokens.pack import Segment

WIDTH = 8
DEEP = (Segment(0, 9, -1), Segment(9, 14, 0), Segment(14, 31, 1), Segment(31, 32, 1), Segment(32, 40, 0),
        Segment(40, 57, -1), Segment(57, 60, 5))  # fmt: skip
LONG = (Segment(0, QUERY_BLOCK + 5, -1), Segment(QUERY_BLOCK + 5, 2 * QUERY_BLOCK + 9, 0))
CASES = [
    pytest.param(DEEP, 4, 4, None, None, id="plain"),
    pytest.param(DEEP, 6, 2, None, None, id="grouped queries"),
    pytest.param(DEEP, 4, 2, 6, None, id="window"),
    pytest.param(DEEP, 4, 2, None, 2.0, id="soft cap"),
    pytest.param(DEEP, 4, 1, 11, 2.0, id="window and soft cap"),
    pytest.param(LONG, 2, 1, None, None, id="more than a block of queries"),
    pytest.param(LONG, 2, 2, QUERY_BLOCK - 20, None, id="more than a block, window"),
]


def seen(segments: tuple[Segment, ...], window: int | None) -> torch.Tensor:
    """[T, T]: whether q sees k, token by token: k is in q's line, not after it, and less than `window` before it."""
    size = segments[-1].stop
    out = torch.zeros(size, size, dtype=torch.bool)
    for index, segment in enumerate(segments):
        line: list[int] = []
        above = index
        while above >= 0:
            line = [*range(segments[above].start, segments[above].stop), *line]
            above = segments[above].parent
        for q in range(segment.start, segment.stop):
            before = line[: line.index(q) + 1]
            out[q, before[-window:] if window is not None else before] = True
    return out


def slow(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sees: torch.Tensor, scale: float, cap: float | None
) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).mT * scale
    scores = cap * torch.tanh(scores / cap) if cap else scores
    probability = scores.masked_fill(~sees, float("-inf")).softmax(-1)
    return (probability @ value.repeat_interleave(groups, 1)).transpose(1, 2)


def tensors(size: int, heads: int, groups: int, value_width: int = WIDTH) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = [(heads, WIDTH), (groups, WIDTH), (groups, value_width)]
    return [torch.randn(1, head, size, width, generator=draw) for head, width in shapes]


def with_gradients(attend, given: list[torch.Tensor]) -> list[torch.Tensor]:
    """The output and the gradients of query, key and value under a fixed random gradient of the output."""
    leaves = [tensor.clone().requires_grad_() for tensor in given]
    out = attend(*leaves)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype))
    return [out.detach().double(), *(leaf.grad.double() for leaf in leaves)]


@pytest.mark.parametrize(("segments", "heads", "groups", "window", "cap"), CASES)
@pytest.mark.parametrize("scale", [None, 0.7])
def test_segments_equal_a_dense_mask_forward_and_backward(segments, heads, groups, window, cap, scale) -> None:
    given = tensors(segments[-1].stop, heads, groups)
    found = with_gradients(
        lambda q, k, v: trie_attention(
            torch.nn.Module(), q, k, v, None, scaling=scale, sliding_window=window, softcap=cap, trie=Trie(segments)
        )[0],
        given,
    )
    sees = seen(segments, window)
    expected = with_gradients(
        lambda q, k, v: slow(q, k, v, sees, scale or WIDTH**-0.5, cap), [tensor.double() for tensor in given]
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6)


def test_values_may_be_of_another_width() -> None:
    given = tensors(60, 4, 2, value_width=5)
    found = with_gradients(lambda q, k, v: trie_attention(torch.nn.Module(), q, k, v, None, trie=Trie(DEEP))[0], given)
    sees = seen(DEEP, None)
    expected = with_gradients(lambda q, k, v: slow(q, k, v, sees, WIDTH**-0.5, None), [t.double() for t in given])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(("segments", "heads", "groups", "window", "cap"), CASES)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_kernel_for_cuda_run_plainly_gives_the_same(segments, heads, groups, window, cap) -> None:
    """FlexAttention has no backward on CPU; its gradients follow from the mask, which is compared bit by bit."""
    query, key, value = tensors(segments[-1].stop, heads, groups)
    trie = Trie(segments, kernel="flex")
    with torch.no_grad():
        out, _ = trie_attention(
            torch.nn.Module(), query, key, value, None, sliding_window=window, softcap=cap, trie=trie
        )
    sees = seen(segments, window)
    torch.testing.assert_close(out, slow(query, key, value, sees, WIDTH**-0.5, cap), rtol=1e-4, atol=2e-6)
    size = segments[-1].stop
    mask = create_mask(trie.block_mask(window, query.device).mask_mod, None, None, size, size, device="cpu")
    assert torch.equal(mask[0, 0], sees)


def test_the_mask_for_cuda_on_many_tries() -> None:
    draw = np.random.default_rng(0)
    for _ in range(60):
        path: list[int] = []
        segments: list[Segment] = []
        for index in range(int(draw.integers(1, 12))):
            path = path[: int(draw.integers(0, len(path) + 1))]
            start = segments[-1].stop if segments else 0
            segments.append(Segment(start, start + int(draw.integers(1, 5)), path[-1] if path else -1))
            path.append(index)
        window = int(draw.integers(1, 12)) if draw.random() < 0.5 else None
        size = segments[-1].stop
        block = Trie(tuple(segments), kernel="flex").block_mask(window, torch.device("cpu"))
        mask = create_mask(block.mask_mod, None, None, size, size, device="cpu")
        assert torch.equal(mask[0, 0], seen(tuple(segments), window))


@pytest.mark.parametrize("kernel", ["segments", "flex"])
def test_dropout_drops_whatever_the_kernel(kernel: str) -> None:
    """Its mean over many draws is attention without it, and single draws are not."""
    query, key, value = tensors(60, 2, 1)
    torch.manual_seed(0)
    attend = lambda: trie_attention(torch.nn.Module(), query, key, value, None, dropout=0.2, trie=Trie(DEEP, kernel))[0]  # noqa: E731
    expected = slow(query, key, value, seen(DEEP, None), WIDTH**-0.5, None)
    first = attend()
    assert float((first - expected).abs().max()) > 0.1
    mean = torch.stack([first, *(attend() for _ in range(99))]).mean(0)
    assert float((mean - expected).abs().mean()) < 0.15 * float((first - expected).abs().mean())


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_mixed_precision_as_autocast_leaves_it(softcap: float | None) -> None:
    """Rotary positions make float32 of queries and keys; values stay bfloat16."""
    query, key, value = tensors(60, 4, 2)
    value = value.bfloat16()
    leaves = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = trie_attention(torch.nn.Module(), *leaves, None, softcap=softcap, trie=Trie(DEEP))
        out.float().square().sum().backward()
    exact = [tensor.clone().requires_grad_() for tensor in (query, key, value.float())]
    expected = slow(*exact, seen(DEEP, None), WIDTH**-0.5, softcap)
    expected.square().sum().backward()
    torch.testing.assert_close(out.float(), expected, rtol=0.03, atol=0.03)
    for leaf, other in zip(leaves, exact, strict=True):
        assert float((leaf.grad.float() - other.grad).norm() / other.grad.norm()) < 0.02


@pytest.mark.parametrize("refused", [{"s_aux": torch.zeros(2)}, {"trie": None}])
def test_what_is_not_computed_is_refused(refused: dict) -> None:
    query, key, value = tensors(60, 2, 2)
    with pytest.raises(NotImplementedError):
        trie_attention(torch.nn.Module(), query, key, value, None, **({"trie": Trie(DEEP)} | refused))


def test_two_way_attention_is_refused() -> None:
    module = torch.nn.Module()
    module.is_causal = False
    with pytest.raises(NotImplementedError):
        trie_attention(module, *tensors(60, 2, 2), None, trie=Trie(DEEP))


def test_attention_of_puts_the_old_implementation_back(make_model) -> None:
    model = make_model("llama")
    assert AttentionInterface()[NAME] is trie_attention

    def interrupted() -> None:
        with attention_of(model, NAME):
            assert model.model.layers[0].self_attn.config._attn_implementation == NAME
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        interrupted()
    assert model.config._attn_implementation == "eager"
