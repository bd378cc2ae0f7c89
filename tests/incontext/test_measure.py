"""Labels scored behind demonstrations, beside transformers' own forward on each whole row; calibration by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from whet.errors import ModelError, RecipeError
from whet.evaluate.calibrate import calibrated
from whet.evaluate.score import Scorer
from whet.incontext.measure import measure
from whet.rows import Example
from whet.tokens.template import Renderer

LABELS = ["good", "bad"]


def row(question: str, answer: str = "good", system: str | None = None) -> Example:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Example(question, "conversation", [*([{"role": "system", "content": system}] if system else []), *turns])


@pytest.fixture
def asked(tiny_model: Callable[..., Any], tiny_tokenizer: Callable[[], Any]) -> tuple[Any, Renderer, Scorer]:
    model, tokenizer = tiny_model(max_position_embeddings=256), tiny_tokenizer()
    return model, Renderer(tokenizer), Scorer(model, len(tokenizer))


def by_hand(model: Any, renderer: Renderer, turns: list[dict[str, str]], label: str) -> float:
    """log p of the label and the end of its turn, by the model's own logits."""
    prompt = renderer.prompt(turns)
    text = renderer.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = renderer.tokenizer(text + label + "<|end|>", add_special_tokens=False)["input_ids"]
    logps = model(torch.tensor([ids])).logits[0].log_softmax(1)
    return float(sum(logps[at - 1, ids[at]] for at in range(len(prompt), len(ids))).detach())


def test_labels_behind_demonstrations_are_scored_as_plain_transformers_scores_them(asked: Any) -> None:
    model, renderer, scorer = asked
    shown = [row("the cat sat"), row("it ran", "bad", system="not shown")]
    rows = [row("the mat", system="say"), row("the rug")]
    found = measure(scorer, renderer, rows, LABELS, shown, calibrate=True)
    for number, example in enumerate(rows):
        system = example.messages[:-2]
        before = [*shown[0].messages, *shown[1].messages[1:]]
        for place, label in enumerate(LABELS):
            expected = by_hand(model, renderer, [*system, *before, example.messages[-2]], label)
            assert found.logps_RL[number, place] == pytest.approx(expected, abs=1e-4)
            for at, text in enumerate(("N/A", "[MASK]", "")):
                expected = by_hand(model, renderer, [*system, *before, {"role": "user", "content": text}], label)
                assert found.neutral_RCL[number, at, place] == pytest.approx(expected, abs=1e-4)
    assert found.shots_R.tolist() == [2, 2]


def test_calibration_by_hand() -> None:
    logps = np.log([[0.06, 0.02]])  # shares 3/4 and 1/4
    neutral = np.log([[[0.9, 0.1], [0.08, 0.02]]])  # shares .9 .1 and .8 .2: means .85 .15
    assert np.exp(calibrated(logps, neutral)) == pytest.approx(np.array([[0.75 / 0.85, 0.25 / 0.15]]))


def test_demonstrations_by_question(asked: Any) -> None:
    _, renderer, scorer = asked
    one, other = row("the cat"), row("a dog", "bad")
    rows = [row("the mat"), row("the rug")]
    choose = lambda example: [one] if "mat" in str(example.messages) else [other]  # noqa: E731
    mixed = measure(scorer, renderer, rows, LABELS, choose, calibrate=True)
    first = measure(scorer, renderer, rows[:1], LABELS, [one], calibrate=True)
    last = measure(scorer, renderer, rows[1:], LABELS, [other], calibrate=True)
    assert mixed.scores() == pytest.approx(np.concatenate([first.scores(), last.scores()]), abs=1e-5)


def test_too_many_demonstrations_are_named_or_counted(asked: Any) -> None:
    _, renderer, scorer = asked
    shown = [row(f"the cat sat on the mat and the dog lay {n}") for n in range(9)]
    rows = [row("the rug"), row("then they all went home and the dog lay on the rug, and the cat sat on the mat; then")]
    with pytest.raises(ModelError, match=r"9 demonstrations .* 2 of 2 rows") as raised:
        measure(scorer, renderer, rows, LABELS, shown, max_length=120)
    found = measure(scorer, renderer, rows, LABELS, shown, max_length=120, too_long="fewer")
    assert f"{found.shots_R.min()} fit before every question" in str(raised.value)
    assert 0 < found.shots_R[1] <= found.shots_R[0] < 9
    for number, shots in enumerate(found.shots_R):  # as many of the last ones as can be
        measure(scorer, renderer, [rows[number]], LABELS, shown[9 - shots :], max_length=120)
        with pytest.raises(ModelError):
            measure(scorer, renderer, [rows[number]], LABELS, shown[8 - shots :], max_length=120)
        alone = measure(scorer, renderer, [rows[number]], LABELS, shown[9 - shots :])
        assert found.logps_RL[number] == pytest.approx(alone.logps_RL[0], abs=1e-5)
    with pytest.raises(ModelError, match="alone"):
        measure(scorer, renderer, rows, LABELS, shown, max_length=5, too_long="fewer")


def test_one_label_is_no_choice(asked: Any) -> None:
    _, renderer, scorer = asked
    with pytest.raises(RecipeError, match="1 of them different"):
        measure(scorer, renderer, [row("a")], ["good", "good"])
