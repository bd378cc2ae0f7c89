"""Tokenizers as llama.cpp has them: `gpt2` (byte-level BPE, by merges) and `llama` (SentencePiece, by scores).

What is written is read back here into a `tokenizers` pipeline that does what `src/llama-vocab.cpp` of llama.cpp does
with it, so that the gate can compare tokens without llama.cpp: its own regular expressions, its own order of merging,
its own blank before text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from whet.errors import ModelError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""`llama_token_type`."""

_BLANK = "▁"
_BYTES = {f"<0x{byte:02X}>" for byte in range(256)}

# Regular expressions of tokenizer.json, by what llama.cpp calls them. The first is ByteLevel's own (`use_regex`).
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE: dict[str, tuple[list[str], bool]] = {
    "gpt-2": ([_WORDS], False),
    "smollm": ([r"\p{N}", _WORDS], False),
    "qwen2": ([_QWEN2], False),
    "llama-bpe": ([_LLAMA3], True),
    "tekken": ([_TEKKEN], True),
}
"""`tokenizer.ggml.pre` -> the expressions that split a text one after the other, and whether a word that is itself a
token is taken without merging."""


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer. `scores` is of `llama`, `merges` and `pre` of `gpt2`. `stops` are the end
    token and up to two more."""

    model: str
    tokens: list[str]
    types: list[int]
    pre: str
    merges: list[str]
    scores: list[float]
    bos: int | None
    stops: list[int]
    unknown: int | None
    padding: int | None
    add_bos: bool
    add_eos: bool
    add_blank: bool
    template: str


def vocabulary_of(tokenizer: Any, stop_ids: frozenset[int], rows: int) -> Vocabulary:
    """Of a Hugging Face tokenizer for a model with so many rows of embeddings.

    Raises ModelError for a tokenizer that does what llama.cpp cannot.
    """
    tree = json.loads(tokenizer.backend_tokenizer.to_str())
    model = tree["model"]
    if model["type"] != "BPE":
        raise _unknown(f"a tokenizer of {model['type']}")
    for token in tree["added_tokens"]:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise _unknown(f"the token {token['content']!r}, which takes the blanks beside it along")
    by_bytes = not model["byte_fallback"]
    pre = _pre_of(tree) if by_bytes else "default"
    tokens, types = _tokens(tree, rows)
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    ids = list(tokenizer("x").input_ids)
    return Vocabulary(
        model="gpt2" if by_bytes else "llama",
        tokens=tokens,
        types=types,
        pre=pre,
        merges=[" ".join(merge) for merge in merges] if by_bytes else [],
        scores=[] if by_bytes else _scores(tokens, merges),
        bos=tokenizer.bos_token_id,
        stops=_stops(tokenizer, stop_ids),
        unknown=tokenizer.unk_token_id,
        padding=tokenizer.pad_token_id,
        add_bos=tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id,
        add_eos=tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id,
        add_blank=not by_bytes and _adds_blank(tree),
        template=tokenizer.chat_template,
    )


def encoder(vocabulary: Vocabulary) -> Callable[[str, bool], list[int]]:
    """The function (text, whether special tokens are added) -> ids that llama.cpp makes of a vocabulary."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    v = vocabulary
    places: dict[str | None, int] = {token: index for index, token in enumerate(v.tokens)}
    merged = [token for token, kind in zip(v.tokens, v.types, strict=True) if kind in (NORMAL, BYTE, UNKNOWN)]
    ids = {token: number for number, token in enumerate(merged)}  # without gaps, as `tokenizers` wants them
    if v.model == "gpt2":
        expressions, whole_words = PRE[v.pre]
        merges = [(left, right) for left, right in (merge.split(" ") for merge in v.merges)]
        tokenizer = Tokenizer(models.BPE(ids, merges, ignore_merges=whole_words))
        splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in expressions]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    else:
        best_first = sorted(ids, key=lambda token: -v.scores[places[token]])
        merges = [pair for token in best_first for pair in _splits(token, ids)]
        unknown = None if v.unknown is None else v.tokens[v.unknown]
        tokenizer = Tokenizer(models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
        blank = [normalizers.Prepend(_BLANK)] if v.add_blank else []
        tokenizer.normalizer = normalizers.Sequence([*blank, normalizers.Replace(" ", _BLANK)])
    special = [v.tokens[i] for i, kind in enumerate(v.types) if kind in (CONTROL, USER_DEFINED)]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in special])
    back = [places[tokenizer.id_to_token(index)] for index in range(tokenizer.get_vocab_size())]

    def encode(text: str, add_special: bool) -> list[int]:
        body = [back[index] for index in tokenizer.encode(text).ids]
        begin = [v.bos] if add_special and v.add_bos and v.bos is not None else []
        return [*begin, *body, *(v.stops[:1] if add_special and v.add_eos else [])]

    return encode


def _tokens(tree: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """A token and its type for every row of the embeddings; rows that no token has are unused."""
    tokens, types = [f"[PAD{row}]" for row in range(rows)], [UNUSED] * rows
    unknown = tree["model"].get("unk_token")
    for token, index in tree["model"]["vocab"].items():
        if index < rows:
            by_byte = tree["model"]["byte_fallback"] and token in _BYTES
            tokens[index], types[index] = token, BYTE if by_byte else UNKNOWN if token == unknown else NORMAL
    for token in tree["added_tokens"]:
        index = token["id"]
        if index < rows and types[index] != UNKNOWN:
            tokens[index], types[index] = token["content"], CONTROL if token["special"] else USER_DEFINED
    return tokens, types


def _stops(tokenizer: Any, stop_ids: frozenset[int]) -> list[int]:
    """The tokenizer's end token first. GGUF has places for three: `eos`, `eot` and `eom`."""
    first = [tokenizer.eos_token_id] if tokenizer.eos_token_id in stop_ids else []
    stops = first + sorted(stop_ids - set(first))
    if len(stops) > 3:
        raise _unknown(f"{len(stops)} tokens that end an answer")
    return stops


def _pre_of(tree: dict[str, Any]) -> str:
    """llama.cpp's name of how a byte-level tokenizer splits text into words.

    Raises ModelError where it has none, or merges what this tokenizer takes whole. NFC is let pass: llama.cpp leaves it
    out, and nearly all text is in it already.
    """
    normalizer = (tree["normalizer"] or {"type": "NFC"})["type"]
    if normalizer != "NFC":
        raise _unknown(f"the normalizer {normalizer}")
    found = _expressions(tree["pre_tokenizer"])
    for name, (expressions, whole_words) in PRE.items():
        if found == expressions:
            if tree["model"].get("ignore_merges") and not whole_words:
                raise _unknown("words that are tokens are taken whole (ignore_merges)")
            return name
    raise _unknown(f"a pre-tokenizer that splits by {found}")


def _expressions(step: dict[str, Any] | None) -> list[str]:
    """The regular expressions of a pre-tokenizer, one after the other."""
    if step is None:
        return []
    kind = step["type"]
    if kind == "Sequence":
        return [expression for part in step["pretokenizers"] for expression in _expressions(part)]
    if kind == "Digits" and step["individual_digits"]:
        return [r"\p{N}"]
    if kind == "Split" and step["behavior"] == "Isolated" and not step["invert"] and "Regex" in step["pattern"]:
        return [step["pattern"]["Regex"]]
    if kind == "ByteLevel" and not step["add_prefix_space"]:
        return [_WORDS] if step["use_regex"] else []
    raise _unknown(f"the pre-tokenizer {kind}")


def _adds_blank(tree: dict[str, Any]) -> bool:
    """Whether a SentencePiece tokenizer puts a blank before text. Raises ModelError for steps that it does not have."""
    adds, normalizer, before = False, tree["normalizer"], tree["pre_tokenizer"]
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    for step in steps:
        if step["type"] == "Prepend" and step["prepend"] == _BLANK:
            adds = True
        elif step["type"] != "Replace" or step["pattern"] != {"String": " "} or step["content"] != _BLANK:
            raise _unknown(f"the normalizer {step['type']}")
    if before is not None and before["type"] == "Metaspace":
        return adds or before["prepend_scheme"] != "never"
    return adds


def _scores(tokens: list[str], merges: list[tuple[str, ...]]) -> list[float]:
    """SentencePiece's score of every token: the earlier it is merged, the higher.

    Raises ModelError where the merges are not those of scores: all ways to put a token together, best token first.
    """
    rank: dict[str, int] = {}
    for left, right in merges:
        rank.setdefault(left + right, len(rank))
    listed = set(merges)
    known = {token: index for index, token in enumerate(tokens)}
    for token in rank:
        if astray := next((pair for pair in _splits(token, known) if pair not in listed), None):
            raise _unknown(f"merges that are not SentencePiece's ({astray[0]!r} and {astray[1]!r} do not merge)")
    return [-float(rank.get(token, len(rank))) for token in tokens]


def _splits(token: str, known: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to put a token together from two others."""
    pairs = ((token[:at], token[at:]) for at in range(1, len(token)))
    return [(left, right) for left, right in pairs if left in known and right in known]


def _unknown(what: str) -> ModelError:
    return ModelError(
        f"llama.cpp would not split text as this tokenizer does: {what}",
        where="--to gguf",
        do="export it --to hf, which every tokenizer survives",
    )
