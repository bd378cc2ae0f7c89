"""LanguageModel against transformers' own forward, one row at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from whet.models.language_model import LanguageModel, by_row, rectangle
from whet.rows import Row
from whet.tokens.pack import pack_rows

TRIE = ["llama", "qwen3", "mistral", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "cohere", "granite", "phi"]
PADDED = ["falcon", "bloom", "gpt_oss"]


def separate(model, rows: list[Row]) -> list[torch.Tensor]:
    """log p of each row's targets, by the model's own forward and all of its logits."""
    out = []
    for row in rows:
        ids = torch.from_numpy(row.ids).long()
        logps = model(input_ids=ids[None], use_cache=False).logits[0, :-1].float().log_softmax(-1)
        out.append(logps.gather(1, ids[1:, None])[:, 0][torch.from_numpy(row.targets[1:])])
    return out


def scored(language_model: LanguageModel, rows: list[Row], pack_tokens: int = 10_000, **how) -> list[torch.Tensor]:
    """The same by packs, in the rows' order."""
    shares = language_model.shares
    packs = pack_rows(rows, pack_tokens, **{"share": shares, "padded": not shares, **how})
    with language_model.running():
        logps_N = torch.cat([language_model(pack) for pack in packs])
    found = dict(zip([i for pack in packs for i in pack.rows], by_row(logps_N, packs), strict=True))
    return [found[index] for index in range(len(rows))]


@pytest.mark.parametrize(
    ("architecture", "path"),
    [*((name, "trie") for name in TRIE), *((name, path) for name in [*TRIE, *PADDED] for path in ("padded", "logits"))],
)
def test_every_path_gives_the_models_own_numbers(make_model, make_rows, architecture: str, path) -> None:
    model, rows = make_model(architecture), make_rows()
    with torch.no_grad():
        found, expected = scored(LanguageModel(model, path), rows), separate(model, rows)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("how", [{"share": False}, {"pack_tokens": 1}, {"pack_tokens": 70}])
def test_however_rows_are_packed(make_model, make_rows, how: dict) -> None:
    model, rows = make_model("mistral"), make_rows()
    with torch.no_grad():
        found, expected = scored(LanguageModel(model), rows, **how), separate(model, rows)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)


def test_a_model_with_lora_and_an_adapter_on_the_head(make_model, make_rows) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj", "lm_head"], init_lora_weights=False)
    model, rows = get_peft_model(make_model("llama"), config), make_rows()
    with torch.no_grad():
        found, expected = scored(LanguageModel(model), rows), separate(model, rows)
        with model.disable_adapter():
            base = separate(model, rows)
    for a, b, c in zip(found, expected, base, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)
        assert float((a - c).abs().max()) > 0.01


def test_bfloat16_is_near_float32(make_model, make_rows) -> None:
    """Autocast of float32 weights, and bfloat16 weights under it, as training runs frozen bases."""
    rows = make_rows()
    for dtype in (torch.float32, torch.bfloat16):
        model = make_model("llama").to(dtype)
        packs = pack_rows(rows, 10_000)
        language_model = LanguageModel(model)
        with torch.no_grad():
            with language_model.running(torch.bfloat16):
                found = torch.cat([language_model(pack) for pack in packs])
            expected = torch.cat([separate(make_model("llama"), rows)[i] for pack in packs for i in pack.rows])
        assert found.dtype == torch.float32
        assert 1e-6 < float((found - expected).abs().max()) < 0.3


def test_running_leaves_the_model_as_it_was(make_model) -> None:
    model = get_peft_model(make_model("llama"), LoraConfig(r=2, target_modules="all-linear"))
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    with LanguageModel(model).running(torch.bfloat16):
        assert model.config._attn_implementation == "whet_trie"
        assert torch.is_autocast_enabled("cpu")
        assert not layer.cast_input_dtype_enabled
    assert model.config._attn_implementation == "eager"
    assert not torch.is_autocast_enabled("cpu")
    assert layer.cast_input_dtype_enabled


def test_the_head_runs_inside_the_models_call(make_model, make_rows) -> None:
    """One call of the root, one of the head within it: where sharding's hooks gather weights."""
    model, rows = make_model("llama"), make_rows()
    language_model = LanguageModel(model)
    calls: list[str] = []
    language_model.register_forward_pre_hook(lambda *given: calls.append("root"))
    model.lm_head.register_forward_pre_hook(lambda *given: calls.append("head"))
    language_model.register_forward_hook(lambda *given: calls.append("end"))
    (pack,) = pack_rows(rows, 10_000)
    with language_model.running():
        language_model(pack)
    assert calls == ["root", "head", "end"]


def test_parameters_are_listed_once(make_model) -> None:
    model = make_model("llama")
    names = [name for name, _ in LanguageModel(model).named_parameters(remove_duplicate=False)]
    assert names == [f"model.{name}" for name, _ in model.named_parameters(remove_duplicate=False)]


def test_rectangle_lays_rows_side_by_side() -> None:
    ids = [np.array([5, 6, 7, 8], np.int32), np.array([9, 3], np.int32), np.array([4, 4, 4], np.int32)]
    (pack,) = pack_rows([Row(row, np.arange(len(row)) > 0) for row in ids], 100, padded=True)
    ids_RL, mask_RL, places = rectangle(pack)
    # a row ends one token before its last target, and the shortest come first
    assert ids_RL.tolist() == [[9, 0, 0], [4, 4, 0], [5, 6, 7]]
    assert mask_RL.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert ids_RL.flatten()[places].tolist() == pack.ids_T.tolist() == [9, 4, 4, 5, 6, 7]


def test_rectangle_refuses_a_pack_that_shares(make_rows) -> None:
    with pytest.raises(ValueError, match="share=False"):
        rectangle(pack_rows(make_rows(), 10_000)[0])


def test_by_row_splits_in_the_order_of_packs(make_rows) -> None:
    rows = make_rows()
    packs = pack_rows(rows, 60)
    assert len(packs) > 2
    counted = by_row(torch.arange(sum(row.target_count for row in rows)), packs)
    order = [index for pack in packs for index in pack.rows]
    assert [len(part) for part in counted] == [rows[index].target_count for index in order]
    assert torch.cat(counted).tolist() == list(range(len(torch.cat(counted))))
