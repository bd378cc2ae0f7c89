"""Every method: no change at the start where it promises that, loss falls, packs equal peft's own forward, and what is
saved or merged answers alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import BOFTConfig, get_peft_model

from whet.errors import RecipeError
from whet.methods import METHODS, Given
from whet.methods.full import layer_of
from whet.models.probe import probe
from whet.recipe import FullPart, LoRAPart

from .conftest import SETTINGS, part_of

VIRTUAL = {"prefix", "prefix_projection", "prompt", "p_tuning"}
ADAPTERS = [name for name in SETTINGS if name != "full"]


def apart(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    return max(float((x.detach() - y.detach()).abs().max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - VIRTUAL))
def test_no_change_at_the_start(make_model: Any, make_rows: Any, put_on: Any, score: Any, name: str) -> None:
    before = score(make_model("llama"), make_rows())
    assert apart(score(put_on(make_model("llama"), name), make_rows()), before) < 2e-5


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_loss_falls_and_all_else_stays(make_model: Any, make_rows: Any, put_on: Any, engine_of: Any, name: str) -> None:
    model = put_on(make_model("llama"), name)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    engine = engine_of(model, name)
    losses = []
    for _ in range(20):
        losses.append(engine.forward_backward(make_rows()).loss)
        engine.optim_step(2e-2 if name != "full" else 2e-3)
    assert losses[-1] < losses[0] - 0.02
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    assert all(p.dtype == torch.float32 for p in engine.trainable.values())


@pytest.fixture
def trained(make_model: Any, make_rows: Any, put_on: Any, engine_of: Any) -> Callable[..., Any]:
    """A model that a few steps have taken away from where it began."""

    def make(name: str, architecture: str = "llama") -> Any:
        model = put_on(make_model(architecture), name, steps=12)
        engine = engine_of(model, name)
        for _ in range(12):
            engine.forward_backward(make_rows())
            engine.optim_step(2e-2)
        return model.eval()

    return make


@pytest.mark.parametrize("name", ADAPTERS)
def test_packs_equal_the_forward_of_peft(trained: Any, make_rows: Any, engine_of: Any, score: Any, name: str) -> None:
    model = trained(name)
    with torch.no_grad():
        expected = score(model, make_rows())
    assert probe(model, 97).path == "trie"
    assert apart(engine_of(model, name).scores(make_rows()), expected) < 2e-5


@pytest.mark.parametrize("name", ADAPTERS)
def test_saved_loaded_merged_switched_off(
    trained: Any, make_model: Any, make_rows: Any, score: Any, name: str, tmp_path: Path
) -> None:
    from peft import PeftModel

    method = METHODS[SETTINGS[name]["kind"]]
    model, rows = trained(name), make_rows()
    expected, before = score(model, rows), score(make_model("llama"), rows)
    assert apart(expected, before) > 1e-2
    with method.base(model):
        if name not in VIRTUAL:  # peft's forward goes to the base by itself
            assert apart(score(model, rows), before) < 2e-5
    assert apart(score(model, rows), expected) == 0
    method.save(model, tmp_path)
    assert method.load is not None
    again = method.load(make_model("llama"), tmp_path)
    assert apart(score(again, rows), expected) < 2e-5
    plain = PeftModel.from_pretrained(make_model("llama"), str(tmp_path))
    assert apart(score(plain, rows), expected) < 2e-5
    if method.merge is not None:
        merged = method.merge(again)
        assert not any("lora" in n or "adapter" in n for n, _ in merged.named_parameters())
        assert apart(score(merged, rows), expected) < 5e-5


def test_what_peft_made_loads_here(make_model: Any, make_rows: Any, score: Any, tmp_path: Path) -> None:
    from peft import LoraConfig, PrefixTuningConfig, get_peft_model

    configs = {
        "lora": LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=["q_proj", "down_proj"], init_lora_weights=False),
        "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    }
    for kind, config in configs.items():
        theirs = get_peft_model(make_model("llama"), config)
        theirs.save_pretrained(tmp_path / kind, save_embedding_layers=False)
        load = METHODS[kind].load
        assert load is not None
        assert apart(score(load(make_model("llama"), tmp_path / kind), make_rows()), score(theirs, make_rows())) < 1e-5


def test_permutations_of_boft_are_those_of_peft(make_model: Any, put_on: Any) -> None:
    expected = dict(get_peft_model(make_model("llama"), BOFTConfig(target_modules="all-linear")).named_buffers())
    found = dict(put_on(make_model("llama"), "boft").named_buffers())
    permutations = [name for name in expected if name.endswith("boft_P")]
    assert permutations
    assert all(torch.equal(found[name], expected[name]) for name in permutations)


def test_layerwise_decay_by_hand() -> None:
    part, rate = FullPart(layerwise_lr_decay=0.5), METHODS["full"].rate
    assert rate("model.layers.3.mlp.up_proj.weight", part, 4) == 1
    assert rate("model.layers.0.mlp.up_proj.weight", part, 4) == 0.125
    assert rate("model.embed_tokens.weight", part, 4) == 0.0625
    assert rate("transformer.h.2.attn.c_attn.weight", part, 4) == 0.5
    assert rate("transformer.wte.weight", part, 4) == 0.0625
    assert rate("lm_head.weight", part, 4) == 1
    assert layer_of("gpt_neox.layers.11.attention.dense.bias") == 11


def test_lora_plus_has_the_rates_of_peft(make_model: Any, put_on: Any, engine_of: Any) -> None:
    from peft.optimizers import create_loraplus_optimizer

    model = put_on(make_model("llama"), "lora", loraplus_lr_ratio=16)
    part = LoRAPart(loraplus_lr_ratio=16)
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16)
    expected = {id(p): group["lr"] for group in theirs.param_groups for p in group["params"]}
    ours = {id(p): 1e-3 * METHODS["lora"].rate(n, part, 2) for n, p in model.named_parameters() if p.requires_grad}
    assert ours == pytest.approx(expected)


@pytest.mark.parametrize(
    ("patterns", "trained"),
    [
        (["layers.1-"], {"layers.1."}),
        (["layers.0"], {"layers.0."}),
        (["layers.0-1", "norm"], {"layers.", "norm"}),
        (["lm_head"], {"lm_head"}),
        (["embed_tokens"], {"embed_tokens"}),
    ],
)
def test_parts_of_the_model(make_model: Any, patterns: list[str], trained: set[str]) -> None:
    model = METHODS["full"].apply(make_model("llama"), FullPart(trainable=patterns), Given())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == any(piece in name for piece in trained), name


def test_a_tied_head_is_trained_by_either_name(make_model: Any) -> None:
    model = make_model("llama", tie_word_embeddings=True)
    METHODS["full"].apply(model, FullPart(trainable=["lm_head"]), Given())
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["model.embed_tokens.weight"]


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("lora", {"target_modules": ["quary"]}, "the model's modules are down_proj, embed_tokens, gate_proj"),
        ("lora", {"target_modules": "["}, "unterminated character set"),
        ("lora", {"r": 33}, "a rank of 33 in a model of width 32"),
        ("lora", {"rank_pattern": {"q_proj": 64}}, "a rank of 64"),
        ("lora", {"modules_to_save": ["head"]}, "no module is called 'head'"),
        ("adalora", {"target_r": 6}, "leaves nothing to cut of init_r=6"),
        ("adalora", {"tinit": 5, "tfinal": 15}, "of 20 steps, 5 come before ranks are cut and 15 after"),
        ("oft", {"oft_block_size": 7}, "peft cannot put oft"),
        ("trainable_tokens", {"token_indices": []}, "no token to train"),
        ("full", {"trainable": ["layers.7"]}, "known are layers.0 to layers.1"),
    ],
)
def test_settings_that_do_not_fit(make_model: Any, put_on: Any, name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        put_on(make_model("llama"), name, **changes)
    assert said in str(caught.value)


def test_new_tokens_need_a_method_that_trains_embeddings(make_model: Any) -> None:
    for name in ("ia3", "prefix", "adalora"):
        with pytest.raises(RecipeError, match="new tokens would stay as they begin"):
            METHODS[name].apply(make_model("llama"), part_of(name), Given(total_steps=20, new_token_ids=(90,)))


def test_ranks_are_cut_and_resumed_as_peft_does_it(
    make_model: Any, make_rows: Any, put_on: Any, engine_of: Any
) -> None:
    """AdaLoRA against a plain loop of peft's own parts: loss with its penalty, AdamW, `update_and_allocate`."""
    from peft import get_peft_model_state_dict

    rows = [row for row in make_rows() if row.target_count][:1]
    ids = torch.from_numpy(rows[0].ids).long()[None]
    labels = torch.where(torch.from_numpy(rows[0].targets)[None], ids, -100)
    theirs = put_on(make_model("llama"), "adalora", steps=16)
    trainable = [p for p in theirs.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2, weight_decay=0.0)
    for step in range(1, 17):
        theirs(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        theirs.base_model.update_and_allocate(step)
        optimizer.zero_grad()

    def run(engine: Any, steps: int) -> Any:
        for _ in range(steps):
            engine.forward_backward(rows)
            engine.optim_step(1e-2)
        return engine

    settings = {"max_grad_norm": 0}
    ours = put_on(make_model("llama"), "adalora", steps=16)
    whole = run(engine_of(ours, "adalora", **settings), 16)
    state = whole.state()
    expected, found = (get_peft_model_state_dict(m, save_embedding_layers=False) for m in (theirs, ours))
    assert expected.keys() == found.keys()
    assert sum(p.shape[0] for n, p in found.items() if "lora_A" in n) <= 3 * 14, "ranks are cut to the budget"
    for name in expected:
        assert torch.allclose(expected[name], found[name], atol=2e-4), name
    half = run(engine_of(put_on(make_model("llama"), "adalora", steps=16), "adalora", **settings), 9)
    again = engine_of(put_on(make_model("llama"), "adalora", steps=16), "adalora", **settings)
    again.load_state(half.state())
    resumed = run(again, 7).state()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in state.items())
