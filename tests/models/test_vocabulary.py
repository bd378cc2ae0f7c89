"""New tokens: how they begin, and that they survive training, saving and loading, with tied and untied embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from whet.errors import ModelError
from whet.models.load import load
from whet.models.saved import open_run
from whet.recipe import ModelPart, check_recipe
from whet.train.run import run

NEW = ["mat mat", "the cat"]


@pytest.fixture
def folder(model_folder: Path, tiny_model: Any, request: Any) -> Path:
    tiny_model(tie_word_embeddings=request.param).save_pretrained(model_folder)
    return model_folder


@pytest.mark.parametrize("folder", [False, True], indirect=True, ids=["untied", "tied"])
def test_they_begin_as_the_mean_of_their_pieces_and_nothing_else_changes(folder: Path) -> None:
    plain = load(ModelPart(name=str(folder), dtype="float32"))
    grown = load(ModelPart(name=str(folder), dtype="float32", new_tokens=NEW))
    size = plain.model.get_input_embeddings().num_embeddings
    for get in ("get_input_embeddings", "get_output_embeddings"):
        before, after = (getattr(one.model, get)().weight for one in (plain, grown))
        for token in NEW:
            (new,) = grown.tokenizer.encode(token, add_special_tokens=False)
            pieces = plain.tokenizer.encode(token, add_special_tokens=False)
            assert len(pieces) > 1
            assert torch.allclose(after[new], before[pieces].mean(0))
        assert torch.equal(after[: len(plain.tokenizer)], before[: len(plain.tokenizer)])
    tied = grown.model.get_input_embeddings().weight is grown.model.get_output_embeddings().weight
    assert tied == plain.model.config.tie_word_embeddings
    assert grown.model.config.vocab_size == max(size, len(grown.tokenizer))


@pytest.mark.parametrize("folder", [False, True], indirect=True, ids=["untied", "tied"])
@pytest.mark.parametrize("method", ["full", "lora", "trainable_tokens"])
def test_they_survive_training_saving_and_loading(folder: Path, rows: Path, tmp_path: Path, method: str) -> None:
    settings: dict[str, Any] = {
        "model": {"name": str(folder), "new_tokens": NEW, "dtype": "float32"}, "data": str(rows), "validation": 0.2,
        "method": method, "samples": 0, "output": str(tmp_path / "run"),
        "train": {"max_steps": 6, "batch_size": 8, "learning_rate": 1e-2, "max_length": 64},
    }  # fmt: skip
    done = run(check_recipe(settings, "test"), quiet=True)
    assert done.summary["after"]["loss"] < done.summary["before"]["loss"]
    again = open_run(done.folder)
    ids = again.tokenizer.encode("the cat sat on the mat mat", add_special_tokens=False)
    assert set(again.tokenizer.convert_tokens_to_ids(NEW)) <= set(ids)
    with torch.no_grad():
        found, expected = (model(torch.tensor([ids])).logits for model in (again.model, done.model.eval()))
    assert torch.allclose(found, expected, atol=1e-5)
    start = load(ModelPart(name=str(folder), dtype="float32", new_tokens=NEW))
    token = start.tokenizer.convert_tokens_to_ids(NEW[1])
    trained = again.model.get_input_embeddings()(torch.tensor([token]))
    assert not torch.allclose(trained, start.model.get_input_embeddings()(torch.tensor([token])), atol=1e-4)
    assert json.loads((done.folder / "summary.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(("tokens", "said"), [(["the"], "known already"), ([" "], "empty"), (["a b", "a b"], "twice")])
def test_tokens_that_are_none(model_folder: Path, tokens: list[str], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load(ModelPart(name=str(model_folder), new_tokens=tokens))
