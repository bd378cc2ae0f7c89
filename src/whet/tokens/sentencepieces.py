"""SentencePiece: trained by its own library, written as a pipeline of `tokenizers` that gives the same ids."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from whet.errors import MissingExtra, RecipeError, RowError

if TYPE_CHECKING:
    from whet.tokens.train import Settings

SPACE = "\u2581"
"""Stands for a space in pieces."""
_THREADS = 8  # fixed, for sums of floats depend on how they are shared out


def train_model(
    texts: Iterator[str], settings: Settings, normalizers: list[Any], too_large: Callable[[int], RecipeError]
) -> Any:
    """A SentencePieceProcessor. Texts go in line by line, so that no piece crosses a line's end: a line break is a
    byte, as in Llama's tokenizer. Nothing is cut, no space is added or removed."""
    try:
        import sentencepiece
    except ImportError:
        raise MissingExtra("sentencepiece", "tokens", f"a tokenizer of kind {settings.kind}") from None
    refused: list[BaseException] = []
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts, normalizers, refused),
            model_writer=model,
            model_type="unigram" if settings.kind == "unigram" else "bpe",
            vocab_size=settings.vocab_size,
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=settings.digits_alone,
            max_sentence_length=1_000_000_000,  # in bytes; longer lines would be left out without a word
            max_sentencepiece_length=32,
            required_chars="<>x0123456789ABCDEF",  # else the very text "<0x0A>" could be taken for that byte
            control_symbols=settings.all_special,
            unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1,
            num_threads=_THREADS,
            minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        if refused:
            raise refused[0] from None
        raise _refusal(str(error), settings, too_large) from error
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def _lines(texts: Iterator[str], normalizers: list[Any], refused: list[BaseException]) -> Iterator[str]:
    """Lines that are not blank. What a text raises is kept, for it is lost on its way through the library. NUL ends a
    line too: the library leaves out whole lines that have one."""
    try:
        for text in texts:
            for normalizer in normalizers:
                text = normalizer.normalize_str(text)
            yield from (line for line in re.split("[\n\0]", text) if line)
    except BaseException as error:
        refused.append(error)
        raise


def _refusal(said: str, settings: Settings, too_large: Callable[[int], RecipeError]) -> Exception:
    """What the library says, in whet's words."""
    fills = re.search(r"Vocabulary size too high \(\d+\)\. Please set it to a value <= (\d+)", said)
    least = re.search(r"smaller than required_chars\. \d+ vs (\d+)", said)
    if fills:
        return too_large(int(fills[1]))
    if least:
        return RecipeError(
            f"{settings.vocab_size} is too small for the bytes, special tokens and characters of these texts",
            where="--vocab-size",
            do=f"give more than {least[1]}",
        )
    return RowError(f"sentencepiece cannot train on these texts: {said[:300]}", where="data")


def as_fast(processor: Any, unigram: bool, normalizers: list[Any]) -> Any:
    """The model as a `tokenizers.Tokenizer`.

    Unigram takes the scores. BPE's merges are all pairs of pieces that make a piece, best score first: SentencePiece
    keeps no list of them, it joins whatever two neighbours make the best piece.
    """
    from tokenizers import Tokenizer, decoders, models
    from tokenizers import normalizers as rules

    ids = range(processor.get_piece_size())
    pieces = [processor.id_to_piece(i) for i in ids]
    plain = [not (processor.is_control(i) or processor.is_byte(i) or processor.is_unknown(i)) for i in ids]
    scores = [processor.get_score(i) for i in ids]
    if unigram:
        # Bytes and special tokens are in the same list here; they must never win against the letters of their names.
        lowest = 10 * min(score for score, is_plain in zip(scores, plain, strict=True) if is_plain)
        scored = [
            (piece, score if is_plain else lowest) for piece, score, is_plain in zip(pieces, scores, plain, strict=True)
        ]
        model: Any = models.Unigram(scored, unk_id=0, byte_fallback=True)
    else:
        learnt = {piece: score for piece, score, is_plain in zip(pieces, scores, plain, strict=True) if is_plain}
        model = models.BPE(
            {piece: i for i, piece in enumerate(pieces)}, _merges(learnt), unk_token=pieces[0], byte_fallback=True
        )
    backend = Tokenizer(model)
    backend.normalizer = rules.Sequence([*normalizers, rules.Replace(" ", SPACE)])
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    pairs = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                pairs.append((-score, cut, left, right))
    return [(left, right) for _, _, left, right in sorted(pairs)]
