"""A byte-level BPE tokenizer with the special tokens of several families, and rows shown as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SPECIAL = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|end|>", "<|return|>", "<start_of_turn>",
    "<end_of_turn>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|user|>", "<|assistant|>",
    "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>",
    "<|END_RESPONSE|>", "<|turn>", "<turn|>",
]  # fmt: skip
# Line breaks and blanks run into each other and into words, so that merges cross the borders of turns.
CORPUS = [
    "Answer: yes. Answer: no.\n\n\nhello there \n  hello the\n\nanswer user assistant\n  yes",
    "1 + 1 = 2, été",
] * 4


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Any]:
    """Makes the tokenizer with a given chat template; keywords go to PreTrainedTokenizerFast."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    text = tokenizer.to_str()

    def make(template: str | None = None, **settings: Any) -> Any:
        settings = {"bos_token": "<s>", "eos_token": "</s>", **settings}
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text), chat_template=template, **settings)

    return make


@pytest.fixture(scope="session")
def shown() -> Callable[..., str]:
    """A rendered row as text, its learnt tokens between « and »."""

    def show(tokenizer: Any, rendered: Any) -> str:
        pieces, learnt = [], rendered.targets
        begin = 0
        for end in range(1, len(rendered.ids) + 1):
            if end == len(rendered.ids) or learnt[end] != learnt[begin]:
                piece = tokenizer.decode(rendered.ids[begin:end])
                pieces.append(f"«{piece}»" if learnt[begin] else piece)
                begin = end
        return "".join(pieces)

    return show
