"""Embeddings against one text at a time, and steps that compare by meaning, from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from whet.cli import app
from whet.models.embed import embed


def test_a_batch_is_its_texts_alone(model_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    texts = ["the cat sat on the mat", "dog", "the dog ran home and sat on the rug by the mat"]
    found = embed(model, tokenizer, texts)
    for text, vector in zip(texts, found, strict=True):
        with torch.no_grad():
            out = model(torch.tensor([tokenizer(text)["input_ids"]]), output_hidden_states=True)
        mean = out.hidden_states[-1][0].mean(0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert np.linalg.norm(embed(model, tokenizer, [""])[0]) == pytest.approx(1)


def test_steps_by_meaning_take_a_model(tmp_path, model_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = ["the cat sat on the mat today", "the dog ran home by the rug", "one more cat on the mat at home"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    words = ["data", "duplicates", "in.jsonl", "out.jsonl", "meaning=0.01", "--embed", str(model_folder)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    [entry] = json.loads((tmp_path / "out.ledger.json").read_text())["steps"]
    assert entry["reasons"] == {"same meaning": 3 - entry["rows_out"]}
    assert entry["dropped"] >= 1
