"""New words in a tokenizer's own vocabulary, so that all other text keeps its tokens.

`add_tokens` would match a term anywhere, inside longer words too, before the text is split, and would take the blank
before it away from the word. So terms become entries of the vocabulary itself, in one of two ways:

    words    the entry is the whole word, taken before any merge (`ignore_merges`); unigram: a piece whose score is just
             above that of the pieces it replaces
    merges   BPE goes on: more merges at the end of the list, learnt on the texts. Every program that knows BPE can do
             this, at the price of entries for the parts on the way to a word

Either way a text without the new words is cut as it was. Merges at the end apply when all the old ones are done.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Literal

from whet.errors import ModelError
from whet.tokens.terms import Splitter, Term

Form = Literal["words", "merges"]

_ABOVE = 1e-3  # nats, so that a new piece wins against the very pieces it replaces and nothing else


def form_for(splitter: Splitter) -> Form:
    """`words` where the tokenizer can take them without cutting anything else in another way."""
    if splitter.kind == "Unigram":
        return "words"
    return "words" if splitter.by_bytes and not _cut_otherwise(splitter) else "merges"


def check_form(splitter: Splitter, form: Form) -> None:
    """Raises ModelError for a form that this tokenizer cannot have."""
    where = f"--form {form}"
    if form == "merges" and splitter.kind == "Unigram":
        raise ModelError("a unigram tokenizer has no merges", where=where, do="leave --form out")
    if form == "words" and form_for(splitter) == "merges":
        why = "it does not split text into words" if not splitter.by_bytes else "old words would be cut otherwise"
        raise ModelError(f"this tokenizer cannot take words whole: {why}", where=where, do="--form merges")


def _cut_otherwise(splitter: Splitter) -> bool:
    """Whether some entry of the vocabulary is not what its own letters are merged to, so that it would be used for the
    first time if words were taken whole."""
    model = json.loads(splitter.backend.to_str())["model"]
    if model.get("ignore_merges"):
        return False
    return any(
        splitter.pieces(piece) != (piece,)
        for piece in model["vocab"]
        if piece not in splitter.bytes.added and splitter.words(splitter.text(piece)) == [piece]
    )


def learn_merges(
    splitter: Splitter, counts: Counter[str], known: set[str], most: int | None = None
) -> list[tuple[str, str]]:
    """Byte-pair encoding gone on (Sennrich et al. 2016) from the pieces that words have now: the most frequent pair of
    neighbours is joined, again and again, until there are `most` new entries; None: until each word is one piece."""
    words = {word: list(splitter.pieces(word)) for word in counts}
    pairs: Counter[tuple[str, str]] = Counter()
    places: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def count(word: str, sign: int) -> None:
        for pair in zip(words[word], words[word][1:], strict=False):
            pairs[pair] += sign * counts[word]
            places[pair].add(word)

    for word in words:
        count(word, 1)
    merges: list[tuple[str, str]] = []
    made: set[str] = set()
    while pairs and (most is None or len(made) < most):
        pair = max(pairs, key=lambda pair: (pairs[pair], pair))
        if pairs[pair] <= 0:
            break
        merges.append(pair)
        made |= {"".join(pair)} - known
        for word in places.pop(pair):
            count(word, -1)
            words[word] = _joined(words[word], pair)
            count(word, 1)
        del pairs[pair]
    return merges


def _joined(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    at = 0
    while at < len(pieces):
        both = tuple(pieces[at : at + 2]) == pair
        joined.append("".join(pair) if both else pieces[at])
        at += 2 if both else 1
    return joined


def add_words(tokenizer: Any, terms: Sequence[Term]) -> dict[int, list[int]]:
    """Add terms to the vocabulary as whole words. Returns each new id with the ids of the pieces it replaces."""
    splitter = Splitter(tokenizer)
    tree = _tree(tokenizer)
    vocab = tree["model"]["vocab"]
    pieces = {term.key: term.pieces for term in terms}
    old = tokenizer.get_vocab()
    if splitter.kind == "BPE":
        vocab.update({key: len(vocab) + number for number, key in enumerate(pieces)})
        tree["model"]["ignore_merges"] = True
    else:
        scores = dict(map(tuple, vocab))
        vocab.extend([key, sum(scores[piece] for piece in cut) + _ABOVE] for key, cut in pieces.items())
    _put(tokenizer, tree)
    return {tokenizer.convert_tokens_to_ids(key): [old[piece] for piece in cut] for key, cut in pieces.items()}


def add_merges(tokenizer: Any, merges: Sequence[tuple[str, str]]) -> dict[int, list[int]]:
    """Add merges at the end of BPE's list, and what they make to the vocabulary. Returns as `add_words` does."""
    splitter = Splitter(tokenizer)
    tree = _tree(tokenizer)
    vocab = tree["model"]["vocab"]
    old = dict(vocab)
    made = [piece for piece in dict.fromkeys("".join(pair) for pair in merges) if piece not in vocab]
    cut = {piece: splitter.pieces(piece) for piece in made}
    vocab.update({piece: len(vocab) + number for number, piece in enumerate(made)})
    as_lists = not tree["model"]["merges"] or isinstance(tree["model"]["merges"][0], list)
    tree["model"]["merges"].extend([list(pair) if as_lists else " ".join(pair) for pair in merges])
    _put(tokenizer, tree)
    return {vocab[piece]: [old[part] for part in parts] for piece, parts in cut.items()}


def _tree(tokenizer: Any) -> dict[str, Any]:
    """tokenizer.json as a tree, in which the added tokens are entries of the model's vocabulary too: they would be
    numbered anew behind a vocabulary that grows."""
    tree: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    model = tree["model"]
    listed = isinstance(model["vocab"], list)
    known = {piece for piece, _ in model["vocab"]} if listed else set(model["vocab"])
    beyond = sorted((token["id"], token["content"]) for token in tree["added_tokens"] if token["content"] not in known)
    size = len(known)
    if [number for number, _ in beyond] != list(range(size, size + len(beyond))):
        raise ModelError(
            f"its added tokens do not follow the {size:,} of the vocabulary without a gap: new ones have no place",
            where="tokenizer.json",
            do="add the terms as 'model.new_tokens=[...]'",
        )
    if listed:
        lowest = 10 * min(score for _, score in model["vocab"])
        model["vocab"].extend([content, lowest] for _, content in beyond)
    else:
        model["vocab"].update({content: number for number, content in beyond})
    return tree


def _put(tokenizer: Any, tree: dict[str, Any]) -> None:
    from tokenizers import Tokenizer

    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(tree, ensure_ascii=False))
