"""Broken exports, each planted between writing and reading back: the gate names the first difference, and nothing is
left behind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from whet.errors import RunError
from whet.methods import METHODS
from whet.models.export import hf
from whet.models.export.formats import export
from whet.models.export.gate import Gate, Reference, check_greedy

Break = Callable[[Path], None]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Break], None]:
    """broken(change): `change(folder)` happens to what was written, before the gate opens it."""

    def plant(change: Break) -> None:
        opened = hf.load

        def load(part: Any, *rest: Any) -> Any:
            change(Path(part.name))
            return opened(part, *rest)

        monkeypatch.setattr(hf, "load", load)

    return plant


def edit_json(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def flip_exponent_bit(weight: torch.Tensor, at: int) -> None:
    """Change the lowest bit of the exponent of one float32 weight: it doubles or halves."""
    weight.detach().view(-1).view(torch.int32)[at] ^= 1 << 23


def middling(weight: torch.Tensor, seed: int) -> int:
    """The place of a weight of ordinary size, neither the largest nor next to nothing."""
    order = weight.detach().abs().view(-1).argsort()
    draw = torch.Generator().manual_seed(seed)
    return int(order[len(order) // 4 + int(torch.randint(len(order) // 2, (), generator=draw))])


def changed_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|end|>", "<|end|>\n"))


def lost_merge(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tree = json.loads(path.read_text())
    tree["model"]["merges"] = tree["model"]["merges"][:4]
    path.write_text(json.dumps(tree))


def lost_stop(folder: Path) -> None:
    edit_json(folder, "generation_config.json", eos_token_id=[1])


def one_weight(folder: Path) -> None:
    edit_weights(folder, lambda weights: flip_exponent_bit(weights["model.layers.1.mlp.down_proj.weight"], 77))


def other_epsilon(folder: Path) -> None:
    edit_json(folder, "config.json", rms_norm_eps=1e-2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed_template, r"chat template: expected .*<\|end\|>' }.*, found .*<\|end\|>\\n' }"),
        (lost_merge, r"tokens of chats, from the \d+\. on: expected \["),
        (lost_stop, r"stop tokens: expected \['1 </s>', '2 <\|end\|>'\], found \['1 </s>'\]"),
        (one_weight, r"weight model\.layers\.1\.mlp\.down_proj\.weight at \[1, 29\]: expected "),
        (other_epsilon, r"logits at prompt \d: expected a difference of at most 1e-04 of the largest, found "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_break_is_named(change: Break, words: str, lora_run: Path, broken: Any, nothing_left: Path) -> None:
    broken(change)
    with pytest.raises(RunError, match=words) as caught:
        export(lora_run, out=nothing_left)
    assert caught.value.where == str(lora_run)
    assert caught.value.what.startswith("the export is not the run: ")


@pytest.mark.parametrize("seed", range(8))
def test_a_merge_that_is_off_by_one_bit_in_one_weight(
    seed: int, lora_run: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Path
) -> None:
    merge = METHODS["lora"].merge
    assert merge is not None

    def off(model: Any) -> Any:
        merged = merge(model)
        name = ["q_proj", "o_proj", "up_proj", "down_proj"][seed % 4]
        layer = merged.model.layers[seed // 4]
        weight = getattr(layer.self_attn if name[0] in "qo" else layer.mlp, name).weight
        flip_exponent_bit(weight, middling(weight, seed))
        return merged

    monkeypatch.setitem(METHODS, "lora", dataclasses.replace(METHODS["lora"], merge=off))
    with pytest.raises(RunError, match=rf"merged layer model\.layers\.{seed // 4}\..*_proj: expected"):
        export(lora_run, out=nothing_left)


@pytest.mark.parametrize("config", [True, False])
def test_resized_embeddings_that_were_not_saved(
    config: bool, full_run: Path, tiny_model: Any, broken: Any, nothing_left: Path
) -> None:
    model = tiny_model(seed=1)
    model.resize_token_embeddings(300)
    model.save_pretrained(full_run / "model")

    def old_size(folder: Path) -> None:
        def cut(weights: dict[str, torch.Tensor]) -> None:
            for name in ("model.embed_tokens.weight", "lm_head.weight"):
                weights[name] = weights[name][:288].clone()

        edit_weights(folder, cut)
        if config:
            edit_json(folder, "config.json", vocab_size=288)

    broken(old_size)
    words = "vocabulary: expected 300, found 288" if config else r"\[288, 32\] in the weights and \[300, 32\]"
    with pytest.raises(RunError, match=words):
        export(full_run, out=nothing_left)


@pytest.mark.parametrize("config", [True, False])
def test_a_head_untied_in_silence(
    config: bool, full_run: Path, tiny_model: Any, broken: Any, nothing_left: Path
) -> None:
    tiny_model(seed=1, tie_word_embeddings=True).save_pretrained(full_run / "model")

    def untie(folder: Path) -> None:
        edit_weights(
            folder, lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"] * 2})
        )
        if config:
            edit_json(folder, "config.json", tie_word_embeddings=False)

    broken(untie)
    with pytest.raises(RunError, match=r"embeddings and head, .*: expected 'tied', found 'two matrices'"):
        export(full_run, out=nothing_left)


def test_a_head_tied_in_silence(full_run: Path, broken: Any, nothing_left: Path) -> None:
    broken(lambda folder: edit_json(folder, "config.json", tie_word_embeddings=True))
    with pytest.raises(RunError, match=r"embeddings and head, by config\.json: expected 'two matrices', found 'tied'"):
        export(full_run, out=nothing_left)


def test_an_adapter_that_lost_a_weight(lora_run: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Path) -> None:
    copy = hf.shutil.copyfile

    def lossy(source: Path, target: Path) -> None:
        copy(source, target)
        if target.suffix == ".safetensors":
            weights = load_file(target)
            weights.pop(min(weights))
            save_file(weights, target)

    monkeypatch.setattr(hf.shutil, "copyfile", lossy)
    with pytest.raises(
        RunError, match=r"opening the files: expected a model that loads, found .* is only in the model"
    ):
        export(lora_run, to="peft", out=nothing_left)


def test_greedy_tokens_may_part_only_where_two_are_equally_likely() -> None:
    answer = list(range(32))
    logits = torch.zeros(34, 40)
    logits[6, [5, 9]] = torch.tensor([2.0, 2.0 - 1e-5])  # two tokens of prompt, so that row 6 chose the sixth of answer
    expected = Reference("", frozenset(), 40, ["a"], [[1, 2]], [], [answer], [logits])
    gate = Gate("run")
    check_greedy(gate, expected, [[*answer[:5], 9, *answer[6:]]], "float32")
    assert gate.checks[0].figure == "0 of 1 prompts x 32 equal; prompt 1 parts at token 6, where two were 5e-06 apart"
    other = [[*answer[:5], 8, *answer[6:]]]
    with pytest.raises(RunError, match="greedy token 6 of prompt 1: expected 5, found 8"):
        check_greedy(gate, expected, other, "float32")
    check_greedy(gate, expected, other, "q8_0")
    assert "where two were 1e+00 apart" in gate.checks[1].figure


def test_not_a_number_is_no_small_difference() -> None:
    with pytest.raises(RunError, match="found nan"):
        Gate("run").at_most("logits", float("nan"), 1.0, "of the largest")


def test_a_disk_that_is_full(lora_run: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Path) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hf.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left on device"):
        export(lora_run, to="peft", out=nothing_left)
