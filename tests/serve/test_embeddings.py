"""Embeddings by the `openai` client, which asks for base64 and reads it."""

from __future__ import annotations

from typing import Any

import numpy as np

from whet.models.embed import embed

TEXTS = ["the cat sat on the mat", "home", "and the dog lay on the rug"]


def test_vectors_are_those_of_the_model(server: Any, alone: Any) -> None:
    for name in ("tiny", "law", "falcon"):
        expected = embed(alone[name].model, alone[name].tokenizer, TEXTS)
        ids = [alone[name].tokenizer(text).input_ids for text in TEXTS]
        by_default = server.client.embeddings.create(model=name, input=TEXTS)
        by_floats = server.client.embeddings.create(model=name, input=TEXTS, encoding_format="float")
        by_ids = server.client.embeddings.create(model=name, input=ids)
        for found in (by_default, by_floats, by_ids):
            np.testing.assert_allclose([one.embedding for one in found.data], expected, atol=1e-5)
            assert [one.index for one in found.data] == [0, 1, 2]
            assert found.usage.prompt_tokens == sum(map(len, ids))
        raw = server.client.embeddings.with_raw_response.create(model=name, input="home")
        assert isinstance(raw.http_response.json()["data"][0]["embedding"], str), "base64 was asked for"
