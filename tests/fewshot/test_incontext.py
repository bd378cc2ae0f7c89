"""In context: the same log-probabilities as plain transformers on the whole text; calibration by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whet.evaluate.score import Scorer
from whet.evaluate.subject import Subject
from whet.fewshot.incontext import Measured, behind, calibrated, zero
from whet.fewshot.shots import labelled
from whet.models.load import load
from whet.recipe import ModelPart
from whet.rows import Example

LABELS = ["dog", "cat"]


def row(number: int, text: str, label: str) -> Example:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": label}]
    return Example(place=f"rows:{number}", shape="conversation", messages=turns)


@pytest.fixture(scope="module")
def subject(tmp_path_factory, tiny_model, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return Subject.of(load(ModelPart(name=str(folder), dtype="float32")))


def plain(subject: Subject, turns: list[tuple[str, str]], label: str) -> float:
    """log p of the label and the end of its turn, by the model on the whole text alone."""
    said = "".join(f"<|user|>{text}<|end|><|assistant|>{answer}<|end|>" for text, answer in turns[:-1])
    context = "<s>" + said + f"<|user|>{turns[-1][0]}<|end|><|assistant|>"
    ids = subject.tokenizer(context, add_special_tokens=False)["input_ids"]
    answer = subject.tokenizer(label + "<|end|>", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = subject.model(input_ids=torch.tensor([ids + answer])).logits[0].double()
    logps = logits[len(ids) - 1 : -1].log_softmax(-1)
    return float(logps.gather(1, torch.tensor(answer)[:, None]).sum())


def test_labels_behind_demonstrations_are_scored_as_by_plain_transformers(subject):
    shots = [row(1, "it barks", "dog"), row(2, "it purrs", "cat")]
    test = labelled([row(3, "on the mat", "cat"), row(4, "on the rug", "dog")], {})
    scorer = Scorer(subject.model, len(subject.tokenizer))
    for demonstrations in ([], shots):
        found = behind(scorer, subject, test, demonstrations, 128)
        assert found.shots == len(demonstrations)
        turns = [(e.messages[0]["content"], e.messages[1]["content"]) for e in demonstrations]
        for number, asked in enumerate(("on the mat", "on the rug")):
            expected = [plain(subject, [*turns, (asked, "")], label) for label in test.labels]
            np.testing.assert_allclose(found.logps_RL[number], expected, rtol=1e-5)
            neutral = [
                [plain(subject, [*turns, (c, "")], label) for label in test.labels] for c in ("N/A", "[MASK]", "")
            ]
            np.testing.assert_allclose(found.neutral_RCL[number], neutral, rtol=1e-5)


def test_the_last_demonstrations_that_fit_are_kept(subject):
    shots = [row(1, "a long text " * 12, "dog"), row(2, "it purrs", "cat"), row(3, "it barks", "dog")]
    test = labelled([row(4, "on the mat", "cat"), row(5, "the rug " * 4, "dog")], {})
    scorer = Scorer(subject.model, len(subject.tokenizer))
    found = behind(scorer, subject, test, shots, 100)
    kept = behind(scorer, subject, test, shots[1:], 100)
    assert found.shots == kept.shots == 2
    np.testing.assert_allclose(found.logps_RL, kept.logps_RL)
    assert zero(scorer, subject, test).shots == 0


def test_calibration_by_hand():
    """Shares .6 .4 where content-free questions have .8 .2 and .7 .3: .6/.75 against .4/.25, so the other label wins.
    Log-probabilities are of labels among everything, so both are made smaller by the same factor."""
    logps = np.log(np.array([[0.06, 0.04]]))
    neutral = np.log(np.array([[[0.008, 0.002], [0.07, 0.03]]]))
    found = calibrated(Measured(logps, neutral))
    np.testing.assert_allclose(np.exp(found), [[0.6 / 0.75, 0.4 / 0.25]])
    assert found.argmax() == 1
    assert logps.argmax() == 0
