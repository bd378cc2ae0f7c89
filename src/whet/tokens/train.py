"""A tokenizer of one's own: byte-level BPE, or SentencePiece's unigram and BPE, as a fast Hugging Face tokenizer.

Byte-level BPE (Sennrich et al. 2016, over bytes as GPT-2 has it) is trained by `tokenizers`, the other two by
`sentencepiece` (Kudo 2018; Kudo & Richardson 2018) and written in the fast form, which gives the same ids. All know
every byte, so that no text is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from whet.errors import RecipeError, RowError
from whet.tokens.folder import check_free, whole
from whet.tokens.plain import CHATML_TEMPLATE

Kind = Literal["bpe", "unigram", "sentencepiece-bpe"]
Normalizer = Literal["nfc", "none", "nfkc", "nfkc-lower"]

CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
"""What `CHATML_TEMPLATE` is written with."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a tokenizer is trained to be.

    `vocab_size` counts everything, special tokens and bytes too. `digits_alone`: every digit its own token, so that
    numbers have one spelling; False: as the kind does it, runs of digits included. `pad` None: as `eos`.
    `chat_template` (Jinja) is kept with the tokenizer; None: ChatML, whose two tokens are added to the special ones;
    "": none at all.
    """

    kind: Kind = "bpe"
    vocab_size: int = 32_000
    normalizer: Normalizer = "nfc"
    digits_alone: bool = True
    bos: str | None = None
    eos: str = "<|endoftext|>"
    pad: str | None = None
    special: tuple[str, ...] = ()
    chat_template: str | None = None

    @property
    def all_special(self) -> list[str]:
        """Every special token once, in the order of their ids."""
        chat = CHAT_TOKENS if self.chat_template is None else ()
        named = [token for token in (self.eos, self.bos, self.pad) if token]
        return list(dict.fromkeys([*named, *chat, *self.special]))


def train_tokenizer(
    texts: Iterable[str], output: Path | str | None = None, settings: Settings | None = None, **changes: Any
) -> Any:
    """Train on texts, which are read once, and write the tokenizer's folder: tokenizer.json and
    tokenizer_config.json, which `AutoTokenizer` loads. Returns the transformers tokenizer.

    `changes` are fields of `Settings`. The same texts in the same order give the same tokenizer. Raises RecipeError for
    a setting out of range (a vocabulary that is too small for bytes and special tokens, or larger than the texts can
    fill, with the number that they can), RowError for an empty corpus and for half a character, RunError for an output
    that exists, MissingExtra without `sentencepiece`.
    """
    settings = settings or Settings(**changes)
    _check(settings)
    folder = check_free(output) if output is not None else None
    backend = _TRAINERS[settings.kind](_checked(texts), settings)
    tokenizer = _as_transformers(backend, settings)
    if folder is not None:
        with whole(folder) as beside:
            tokenizer.save_pretrained(beside)
    return tokenizer


def _check(settings: Settings) -> None:
    for name, kind in (("kind", Kind), ("normalizer", Normalizer)):
        if getattr(settings, name) not in get_args(kind):
            raise RecipeError(f"{getattr(settings, name)!r} is none of {', '.join(get_args(kind))}", where=f"--{name}")
    special = settings.all_special
    if any(not token.strip() for token in special):
        raise RecipeError("a special token without a visible character", where="--special")
    least = 256 + len(special) + (settings.kind != "bpe") + 1
    if settings.vocab_size < least:
        raise RecipeError(
            f"{settings.vocab_size} is too small: 256 bytes and {len(special)} special tokens leave nothing to learn",
            where="--vocab-size",
            do=f"give at least {least}; a few thousand is usual for one domain, 32,000 or more for a language",
        )


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """The texts. Raises RowError where there is none, and for a lone surrogate."""
    number = 0
    for number, text in enumerate(texts, 1):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RowError(
                f"half of a character ({error.object[error.start]!a}, a lone surrogate)",
                where=f"text {number}",
                do="mend the text's encoding, or remove the character",
            ) from None
        yield text
    if number == 0:
        raise RowError("no texts: nothing to train a tokenizer on", where="data")


def _normalizers(settings: Settings) -> list[Any]:
    from tokenizers import normalizers

    rules: dict[Normalizer, list[Any]] = {
        "none": [], "nfc": [normalizers.NFC()], "nfkc": [normalizers.NFKC()],
        "nfkc-lower": [normalizers.NFKC(), normalizers.Lowercase()],
    }  # fmt: skip
    return rules[settings.normalizer]


def _byte_level(texts: Iterator[str], settings: Settings) -> Any:
    """Words as GPT-2 splits them, digits apart as in SmolLM: both are forms that other programs (llama.cpp) know."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    rules = _normalizers(settings)
    if rules:
        backend.normalizer = rules[0] if len(rules) == 1 else normalizers.Sequence(rules)
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if settings.digits_alone else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*digits, by_bytes]) if digits else by_bytes
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=settings.all_special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() < settings.vocab_size:
        raise _too_large(settings, backend.get_vocab_size())
    return backend


def _sentencepiece(texts: Iterator[str], settings: Settings) -> Any:
    from whet.tokens.sentencepieces import as_fast, train_model

    processor = train_model(texts, settings, _normalizers(settings), lambda fills: _too_large(settings, fills))
    return as_fast(processor, settings.kind == "unigram", _normalizers(settings))


_TRAINERS: dict[Kind, Callable[[Iterator[str], Settings], Any]] = {
    "bpe": _byte_level, "unigram": _sentencepiece, "sentencepiece-bpe": _sentencepiece,
}  # fmt: skip


def _too_large(settings: Settings, fills: int) -> RecipeError:
    return RecipeError(
        f"{settings.vocab_size:,} is more than these texts can fill",
        where="--vocab-size",
        do=f"give {fills:,} or less, or more text",
    )


def _as_transformers(backend: Any, settings: Settings) -> Any:
    from tokenizers import AddedToken, processors
    from transformers import PreTrainedTokenizerFast

    special = settings.all_special
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if settings.bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{settings.bos} $A",
            pair=f"{settings.bos} $A {settings.bos}:1 $B:1",
            special_tokens=[(settings.bos, backend.token_to_id(settings.bos))],
        )
    named = {settings.bos, settings.eos, settings.pad}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=settings.bos,
        eos_token=settings.eos,
        pad_token=settings.pad or settings.eos,
        additional_special_tokens=[token for token in special if token not in named],
        clean_up_tokenization_spaces=False,
    )
    template = CHATML_TEMPLATE if settings.chat_template is None else settings.chat_template
    if template:
        tokenizer.chat_template = template
    return tokenizer
