"""New tokens: added to the tokenizer, with embeddings that begin as the mean of the pieces they replace.

(Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models": a mean keeps the model's distribution
over old tokens nearly as it was, where random rows may take all of it.)
"""

from __future__ import annotations

from typing import Any

import torch

from whet.errors import ModelError


def add_tokens(tokenizer: Any, tokens: list[str]) -> dict[int, list[int]]:
    """Add them to the tokenizer. Returns each new id with the ids of the pieces that stood for it before.

    Raises ModelError for a token that is known already, empty, or named twice.
    """
    known = tokenizer.get_vocab()
    for number, token in enumerate(tokens):
        if not token.strip() or token in known or token in tokens[:number]:
            why = "empty" if not token.strip() else "known already" if token in known else "named twice"
            raise ModelError(f"the token {token!r} is {why}", where="model.new_tokens", do="leave it out")
    pieces = [tokenizer.encode(token, add_special_tokens=False) for token in tokens]
    tokenizer.add_tokens(tokens)
    return dict(zip(tokenizer.convert_tokens_to_ids(tokens), pieces, strict=True))


@torch.no_grad()
def grow(model: Any, size: int, new: dict[int, list[int]]) -> None:
    """Room in embeddings and head for `size` tokens (never less than there is), and the new rows filled. Embeddings
    that are tied stay so."""
    if size > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(size, mean_resizing=False)
    weights = {id(m.weight): m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m}
    for weight_VD in weights.values():
        for token, pieces in new.items():
            weight_VD[token] = weight_VD[pieces].float().mean(0).to(weight_VD.dtype)
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:
        for token, pieces in new.items():
            bias[token] = bias[pieces].mean()
