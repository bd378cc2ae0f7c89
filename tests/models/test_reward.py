"""Reward models: what was trained is what judges, here and in plain libraries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whet.errors import ModelError, RunError
from whet.models.reward import open_reward_model
from whet.models.saved import open_run
from whet.recipe import Recipe, check_recipe
from whet.rows import Row, read_at_end
from whet.train.run import Run, run

PAIRS = [
    {"prompt": f"where is the {animal} {number}?", "chosen": f"the {animal} sat on the mat", "rejected": f"no {number}"}
    for number, animal in enumerate(["cat", "dog", "rug", "mat", "home", "wren"] * 2)
]
PROMPTS = [row["prompt"] for row in PAIRS for _ in range(2)]
ANSWERS = [row[side] for row in PAIRS for side in ("chosen", "rejected")]
METHODS = ["lora", "full"]


@pytest.fixture
def recipe(tmp_path: Path, model_folder: Path) -> Callable[..., Recipe]:
    import json

    data = tmp_path / "pairs.jsonl"
    data.write_text("\n".join(map(json.dumps, PAIRS)))

    def make(method: str, kind: str = "reward", output: str = "run", steps: int = 6) -> Recipe:
        tree = {
            "model": {"name": str(model_folder), "dtype": "float32"}, "data": str(data), "validation": 0,
            "objective": kind, "method": method, "samples": 0, "output": str(tmp_path / output),
            "train": {"batch_size": 4, "max_steps": steps, "learning_rate": 1e-2, "max_length": 96},
        }  # fmt: skip
        return check_recipe(tree, "test")

    return make


def texts(tokenizer: Any) -> list[list[int]]:
    """The ids of each conversation to its answer's end, by transformers' own template."""
    talks = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
    ]
    return [tokenizer.apply_chat_template(talk, tokenize=True, return_dict=False) for talk in talks]


def plain(done: Run, recipe: Recipe) -> list[float]:
    """By transformers and peft alone, all answers in one padded batch."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    result = done.folder / done.summary["result"]
    tokenizer = AutoTokenizer.from_pretrained(result)
    if done.summary["result"] == "adapter":
        torch.manual_seed(11)  # the base has no head: whatever it draws, the adapter's own takes its place
        base = AutoModelForSequenceClassification.from_pretrained(recipe.model.name, num_labels=1, dtype=torch.float32)
        model = PeftModel.from_pretrained(base, result).eval()
    else:
        model = AutoModelForSequenceClassification.from_pretrained(result, dtype=torch.float32).eval()
    model.config.pad_token_id = 1
    rewards = []
    for ids in texts(tokenizer):
        padded = torch.tensor([ids + [1] * 3, [9] * (len(ids) + 3)])
        mask = torch.ones_like(padded)
        mask[0, len(ids) :] = 0
        with torch.no_grad():
            rewards.append(float(model(input_ids=padded, attention_mask=mask).logits[0, 0]))
    return rewards


@pytest.mark.parametrize("method", METHODS)
def test_opened_again_it_gives_the_rewards_that_were_trained(recipe: Callable[..., Recipe], method: str) -> None:
    from whet.models.language_model import LanguageModel, by_row
    from whet.tokens.pack import pack_rows

    done = run(recipe(method), quiet=True)
    done.model.eval()
    trained = LanguageModel(done.model)
    rows = [Row(*read_at_end(np.array(ids, np.int32))) for ids in texts(done.tokenizer)]
    expected = [0.0] * len(rows)
    for pack in pack_rows(rows, 4096):
        with torch.no_grad(), trained.running():
            for index, reward in zip(pack.rows, by_row(trained(pack), [pack]), strict=True):
                expected[index] = float(reward[0])
    torch.manual_seed(7)
    judge = open_reward_model(done.folder)
    found = judge(PROMPTS, ANSWERS)
    assert found == pytest.approx(expected, abs=1e-5)
    chosen, rejected = np.array(found).reshape(-1, 2).T
    assert (chosen > rejected).all()
    assert plain(done, recipe(method)) == pytest.approx(found, abs=1e-4)


def test_rewards_do_not_depend_on_what_is_judged_beside(recipe: Callable[..., Recipe]) -> None:
    judge = open_reward_model(run(recipe("lora"), quiet=True).folder)
    together = judge(PROMPTS, ANSWERS)
    assert [judge([prompt], [answer])[0] for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)] == pytest.approx(
        together, abs=1e-5
    )
    turns = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    assert judge(turns, ANSWERS) == together
    assert judge([], []) == []


def test_what_is_too_long_has_no_reward_and_the_others_keep_theirs(recipe: Callable[..., Recipe]) -> None:
    """The tiny model takes 128 tokens; letters that no merge joins are one each."""
    judge = open_reward_model(run(recipe("full"), quiet=True).folder)
    size = len(texts(judge.renderer.tokenizer)[1]) - len(ANSWERS[1])
    around = len(judge.renderer.tokenizer(ANSWERS[1]).input_ids)
    room = 128 - (size + len(ANSWERS[1]) - around)
    rewards = judge([PROMPTS[1]] * 3, ["Q" * room, "Q" * (room + 1), ANSWERS[1]])
    assert np.isfinite(rewards).tolist() == [True, False, True]
    assert rewards[2] == pytest.approx(judge([PROMPTS[1]], [ANSWERS[1]])[0], abs=1e-5)


def test_a_classifier_of_several_labels_or_another_kind_of_head_is_refused(tmp_path: Path, tiny_tokenizer: Any) -> None:
    from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

    small = {"vocab_size": 288, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 48, "pad_token_id": 0}  # fmt: skip
    for model, fault in (
        (LlamaForSequenceClassification(LlamaConfig(**small, num_labels=3)), r"score.weight is \[3, 32\]"),
        (BertForSequenceClassification(BertConfig(**small, num_labels=1)), "no head for rewards"),
    ):
        folder = tmp_path / type(model).__name__
        model.save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        with pytest.raises(ModelError, match=fault):
            open_reward_model(folder)


def test_another_tokenizer_and_template_than_the_policys(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """whet-tiny judges texts by its own tokens; nothing of the policy's is looked at."""
    tree = recipe("lora", steps=2).model_dump() | {"output": str(tmp_path / "other")}
    tree["model"] |= {"name": "whet-tiny"}
    judge = open_reward_model(run(check_recipe(tree, "test"), quiet=True).folder)
    policy = open_reward_model(run(recipe("lora", steps=2), quiet=True).folder)
    assert len(judge.renderer.tokenizer) != len(policy.renderer.tokenizer)
    rewards = judge(PROMPTS, ANSWERS)
    assert np.isfinite(rewards).all()
    assert len(set(rewards)) > len(rewards) // 2


@pytest.mark.parametrize("method", METHODS)
def test_a_policy_is_no_judge_and_a_judge_no_policy(
    recipe: Callable[..., Recipe], model_folder: Path, method: str
) -> None:
    judge = run(recipe(method, steps=1), quiet=True).folder
    policy = run(recipe(method, "dpo", "policy", steps=1), quiet=True).folder
    with pytest.raises(RunError, match="a run of objective dpo, not a reward model") as caught:
        open_reward_model(policy)
    assert caught.value.exit_code == 2
    with pytest.raises(RunError, match="a reward model") as caught:
        open_run(judge)
    assert caught.value.exit_code == 2
    with pytest.raises(ModelError, match="no reward model") as none:
        open_reward_model(model_folder)
    assert none.value.exit_code == 2
    if method == "full":
        with pytest.raises(ModelError, match="writes no answers") as none:
            open_run(judge / "model")
        assert none.value.exit_code == 2
        found = open_reward_model(judge / "model")(PROMPTS, ANSWERS)  # in bfloat16, where that is fast
        assert found == pytest.approx(open_reward_model(judge)(PROMPTS, ANSWERS), abs=0.2)
    else:
        with pytest.raises((ModelError, RunError)) as either:
            open_reward_model(judge / "adapter")
        assert either.value.exit_code == 2
