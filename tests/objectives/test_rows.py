"""The rows that preference objectives and policies make of examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from whet.errors import RowError
from whet.objectives import OBJECTIVES
from whet.recipe import DPOPart, GRPOPart, KTOPart, RewardPart
from whet.rows import Example, Row, given, with_companions
from whet.tokens.template import Renderer

ASKED = [{"role": "user", "content": "the cat"}]
GRPO = GRPOPart(grader={"type": "length", "max": 3})


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def renderer(tiny_tokenizer: Callable[[], Any]) -> Renderer:
    return Renderer(tiny_tokenizer())


def pair(place: str = "a:1", **fields: Any) -> Example:
    return Example(place, "preference", **{"prompt": ASKED, "chosen": said("sat"), "rejected": said("lay"), **fields})


def label(place: str, answer: str, good: bool, prompt: str = "the cat", **fields: Any) -> Example:
    asked = [{"role": "user", "content": prompt}]
    return Example(place, "label", prompt=asked, chosen=said(answer), label=good, **fields)


def learnt(renderer: Renderer, row: Row) -> str:
    return str(renderer.tokenizer.decode(row.ids[row.targets]))


def test_a_pair_is_a_chosen_row_and_its_companion(renderer: Renderer) -> None:
    earlier = [*ASKED, *said("where?"), {"role": "user", "content": "on the mat"}]
    example = pair(prompt=earlier, weight=0.5, group="pets")
    (row,) = OBJECTIVES["dpo"].rows(example, renderer, DPOPart())
    (other,) = row.companions
    assert [(one.role, one.weight, one.group, one.place) for one in (row, other)] == [
        ("chosen", 0.5, "pets", "a:1"), ("rejected", 0.5, "pets", "a:1"),
    ]  # fmt: skip
    assert (learnt(renderer, row), learnt(renderer, other)) == ("sat<|end|>", "lay<|end|>")
    start = int(row.targets.argmax())
    assert row.ids[:start].tolist() == other.ids[:start].tolist() == renderer.prompt(earlier, None, "")
    assert not other.companions


def test_pairs_are_counted_by_weight_and_targets_of_chosen_alone(renderer: Renderer) -> None:
    examples = [pair(weight=2.0, rejected=said("lay on the rug")), pair("a:2", weight=0.5)]
    rows = [row for unit in OBJECTIVES["dpo"].rows_of(examples, renderer, DPOPart()) for row in unit]
    size = rows[0].target_count
    assert rows[0].companions[0].target_count > size
    assert OBJECTIVES["orpo"].counts(rows, DPOPart()) == {"pairs": 2.5, "chosen_targets": 2.5 * size}


@pytest.mark.parametrize("kind", ["dpo", "orpo", "simpo", "cpo", "reward", "kto", "grpo", "ppo"])
def test_rows_of_another_shape_are_named(renderer: Renderer, kind: str) -> None:
    part = RewardPart() if kind == "reward" else KTOPart() if kind == "kto" else DPOPart()
    with pytest.raises(RowError, match=r"^a:7: .*'text'"):
        OBJECTIVES[kind].rows(Example("a:7", "text", text="the cat"), renderer, part)


def test_ktos_companion_is_the_next_rows_answer_to_this_prompt(renderer: Renderer) -> None:
    examples = [
        label("a:1", "sat", True, weight=2.0), label("a:2", "lay", False, "the dog"), label("a:3", "ran", True),
    ]  # fmt: skip
    units = OBJECTIVES["kto"].rows_of(examples, renderer, KTOPart())
    rows = [row for unit in units for row in unit]
    assert [(row.role, learnt(renderer, row)) for row in rows] == [
        ("good", "sat<|end|>"), ("bad", "lay<|end|>"), ("good", "ran<|end|>"),
    ]  # fmt: skip
    others = [other for row in rows for other in row.companions]
    assert [(other.role, learnt(renderer, other)) for other in others] == [
        ("other", "lay<|end|>"), ("other", "ran<|end|>"), ("other", "sat<|end|>"),
    ]  # fmt: skip
    for row, other in zip(rows, others, strict=True):
        assert row.ids[: row.targets.argmax()].tolist() == other.ids[: other.targets.argmax()].tolist()
    assert OBJECTIVES["kto"].counts(rows, KTOPart()) == {"answers": 4.0}


@pytest.mark.parametrize("good", [True, False])
def test_kto_of_one_label_is_refused(renderer: Renderer, good: bool) -> None:
    examples = [label("a:1", "sat", good), label("a:2", "lay", good)]
    rows = [row for unit in OBJECTIVES["kto"].rows_of(examples, renderer, KTOPart()) for row in unit]
    assert OBJECTIVES["kto"].check is not None
    with pytest.raises(RowError, match=rf"^a:1: all 2 answers are {'good' if good else 'bad'}"):
        OBJECTIVES["kto"].check(rows, KTOPart())
    OBJECTIVES["kto"].check([*rows, *OBJECTIVES["kto"].rows(label("a:3", "ran", not good), renderer, KTOPart())],
                            KTOPart())  # fmt: skip


@pytest.mark.parametrize(("shift", "z"), [(0.5, 2.0), (-0.5, 0.0)])
def test_ktos_z_is_the_mean_log_ratio_of_the_companions_and_never_negative(shift: float, z: float) -> None:
    """Two companions of 3 and 5 targets, each target `shift` nats likelier than by the reference: (1.5 + 2.5) / 2."""

    def row(role: str, targets: int, *companions: Row) -> Row:
        made = Row(np.zeros(targets + 1, np.int32), np.arange(targets + 1) > 0, role=role, companions=companions)
        return given(made, reference=np.full(targets, -1.0, np.float32))

    asked: list[Row] = []

    def scores(rows: Any) -> list[torch.Tensor]:
        asked.extend(rows)
        return [torch.full((one.target_count,), -1.0 + shift) for one in rows]

    before = OBJECTIVES["kto"].before
    assert before is not None
    made = before([row("good", 2, row("other", 3)), row("bad", 4, row("other", 5))], scores, KTOPart())
    assert [one.role for one in asked] == ["other", "other"]
    assert [(one.role, one.companions) for one in made] == [("good", ()), ("bad", ())]
    assert [one.given["z"].tolist() for one in made] == [[z] * 2, [z] * 4]
    assert all("reference" in one.given for one in made)


def test_a_reward_is_read_where_the_answer_ends(renderer: Renderer) -> None:
    (row,) = OBJECTIVES["reward"].rows(pair(extra={"margin": "0.5"}), renderer, RewardPart())
    decode = renderer.tokenizer.decode
    for one, text in zip((row, *row.companions), ("sat", "lay"), strict=True):
        assert decode(one.ids[:-1]) == f"<s><|user|>the cat<|end|><|assistant|>{text}<|end|>"
        assert np.flatnonzero(one.targets).tolist() == [len(one) - 1]
        assert one.given["margin"].tolist() == [0.5]
    (row,) = OBJECTIVES["reward"].rows(pair(), renderer, RewardPart())
    assert row.given["margin"].tolist() == [0.0]


@pytest.mark.parametrize("margin", ["much", float("nan"), float("inf"), [1], {}])
def test_a_margin_that_is_no_number_is_named(renderer: Renderer, margin: Any) -> None:
    with pytest.raises(RowError, match=r"^a:1: `margin` is"):
        OBJECTIVES["reward"].rows(pair(extra={"margin": margin}), renderer, RewardPart())


def test_a_template_that_writes_on_after_the_answer_does_not_move_the_reward(
    tiny_tokenizer: Callable[[], Any],
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("'<|end|>'", "'<|end|>\n'")
    renderer = Renderer(tokenizer)
    (row,) = OBJECTIVES["reward"].rows(pair(), renderer, RewardPart())
    assert tokenizer.decode(row.ids[:-1]).endswith("<|assistant|>sat<|end|>")


def test_a_policys_row_is_the_prompt_and_what_follows_it(renderer: Renderer) -> None:
    example = Example("a:1", "prompt", prompt=ASKED, weight=0.5, group="pets", extra={"answer": "sat"})
    (row,) = OBJECTIVES["grpo"].rows(example, renderer, GRPO)
    assert renderer.tokenizer.decode(row.ids[:-1]) == "<s><|user|>the cat<|end|><|assistant|>"
    assert np.flatnonzero(row.targets).tolist() == [len(row) - 1]
    assert (row.weight, row.group, row.place, row.companions) == (0.5, "pets", "a:1", ())


def test_companions_are_counted_and_known_by_their_row(renderer: Renderer) -> None:
    rows = [row for unit in OBJECTIVES["dpo"].rows_of([pair(), pair("a:2")], renderer, DPOPart()) for row in unit]
    flat, owner = with_companions([*rows, Row(rows[0].ids, rows[0].targets)])
    assert [row.role for row in flat] == ["chosen", "rejected", "chosen", "rejected", ""]
    assert owner == [0, 0, 1, 1, 2]
    assert not any(row.companions for row in flat)
