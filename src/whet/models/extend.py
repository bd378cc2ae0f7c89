"""`whet tokens extend`: a model whose vocabulary has a domain's words, which begins about as good as it was.

The rows of new tokens come from the pieces they replace, from counts on the user's texts, and from one forward pass
over some of them. As an input a word should be read as its pieces were: the mean of their mean and the last one, for
the last is where the model had the whole word before it. As an output the word must be foreseen where its first piece
was, and as much less likely than that as the texts say: of n_1 times that the first piece was to be foreseen, the word
now takes n. So its logit should be that of the first piece, plus log(n / n_1). Logits have no bias here, but hidden
states h have a mean; u = S^-1 m / (m' S^-1 m), with m = E[h] and S = E[h h'], is the direction of least variance along
which they are 1 on average, and a head's row of e_1 + log(n / n_1) u does it.

Untied, both are set. Tied, one row e has to be both, and what it gives up is weighed:

    e = argmin |e - e_in|^2 / E|w|^2 + c E[(h'e - h'e_out)^2]
      = e_in + (I + k S)^-1 k S (e_out - e_in),   k = c E|w|^2

which moves e to the output's row in the few directions that hidden states have, and leaves the rest to the input.

Then the new rows alone are fitted on some of the texts (`new_rows.fit_rows`).
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from whet.errors import ModelError, RowError
from whet.models.load import load, quietly
from whet.models.new_rows import fit_rows
from whet.models.vocabulary import grow
from whet.recipe import ModelPart
from whet.tokens.extend import Form, add_merges, add_words, check_form, form_for, learn_merges
from whet.tokens.folder import check_free, whole
from whet.tokens.terms import Splitter, Term, find_terms

SAMPLE = 360
"""Texts that hidden states are taken from and new rows are fitted on; one in six of them is kept to measure on."""
_LONGEST = 512  # tokens of each
_WEIGHT = 0.05  # c above, from whet-tiny on legal and medical texts: half and twice of it are a few thousandths off


@dataclass(frozen=True)
class Extended:
    """What was done.

    `tokens`: new entries as people read them, with ids from `first_id` on; `left_out`: terms that could not be added,
    and why. `tokens_before` and `tokens_after` are of the words in all texts, `bits_before` and `bits_after` bits a
    byte on some of them, which no row was fitted on.
    """

    folder: Path
    form: Form
    terms: list[Term]
    tokens: list[str]
    first_id: int
    left_out: list[tuple[str, str]]
    tokens_before: int
    tokens_after: int
    bits_before: float
    bits_after: float


def extend(
    model: str,
    texts: Iterable[str],
    output: Path | str,
    *,
    add: int = 200,
    terms: Sequence[str] | None = None,
    form: Form | None = None,
    fit: bool = True,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Extended:
    """Add a domain's words to a model's vocabulary, and write the model's folder anew: plain `AutoModelForCausalLM` and
    `whet.train` load it.

    `add` new entries are chosen on `texts`; or `terms` are added, as they are written there. `form`: see
    `whet.tokens.extend`; None: `words` where the tokenizer can take them. `fit` False leaves the new rows as they are
    made from pieces.

    Raises ModelError for a tokenizer that cannot be extended, RowError where the texts hold no term or are empty,
    RunError for an output that exists, StorageError where it cannot be written. Nothing is left behind then.
    """
    folder = check_free(output)
    loaded = load(ModelPart(name=model), torch.float32)
    tokenizer, net = loaded.tokenizer, loaded.model
    splitter = Splitter(tokenizer)
    form = form or form_for(splitter)
    check_form(splitter, form)
    say("counting words")
    counts, sample = _read(splitter, texts, seed)
    found, left_out = _choose(splitter, counts, add if terms is None else None, terms)
    wanted = counts if terms is None else Counter({term.key: term.count for term in found})
    before = {word: splitter.pieces(word) for word in counts}
    say("hidden states of some rows")
    kept, used = sample[::6], [text for number, text in enumerate(sample) if number % 6] or sample
    bits_before = _bits(net, tokenizer, kept)
    stats = _statistics(net, tokenizer, used)
    if form == "words":
        new = add_words(tokenizer, found)
    else:
        known = set(tokenizer.get_vocab())
        new = add_merges(tokenizer, learn_merges(splitter, wanted, known, add if terms is None else None))
    now = Splitter(tokenizer)
    after = {word: now.pieces(word) for word in counts}
    grow(net, max(new) + 1, new)
    _set_rows(net, new, stats, _shares(tokenizer, counts, before, after, new))
    if fit:
        say("fitting the new rows")
        rows = [_ids(net, tokenizer, text) for text in used]
        fit_rows(net, sorted(new), rows, seed, done=_tenths(say))
    bits_after = _bits(net, tokenizer, kept)
    with whole(folder) as beside, quietly():
        net.to(_dtype_of(loaded.folder)).save_pretrained(beside)
        _save_tokenizer(tokenizer, beside, sample)
    first, then = (sum(counts[word] * len(cut[word]) for word in counts) for cut in (before, after))
    made = [now.text(piece) for piece in tokenizer.convert_ids_to_tokens(sorted(new))]
    return Extended(folder, form, found, made, min(new), left_out, first, then, bits_before, bits_after)


def _tenths(say: Callable[[str], None]) -> Callable[[float], None]:
    """Says each tenth of the fit once."""
    told = 0

    def done(share: float) -> None:
        nonlocal told
        if int(share * 10) > told:
            told = int(share * 10)
            say(f"fitting the new rows: {told * 10} %")

    return done


def _read(splitter: Splitter, texts: Iterable[str], seed: int) -> tuple[Counter[str], list[str]]:
    """Words counted, and some texts drawn (reservoir sampling, Vitter 1985), so that texts are read once."""
    draw = random.Random(seed)
    sample: list[str] = []
    counts: Counter[str] = Counter()
    for number, text in enumerate(texts):
        counts.update(splitter.words(text))
        if number < SAMPLE:
            sample.append(text)
        elif (place := draw.randrange(number + 1)) < SAMPLE:
            sample[place] = text
    if not counts:
        raise RowError("no texts to find terms in", where="data")
    draw.shuffle(sample)  # columns take turns in it, and one in six is kept
    return counts, sample


def _choose(
    splitter: Splitter, counts: Counter[str], add: int | None, named: Sequence[str] | None
) -> tuple[list[Term], list[tuple[str, str]]]:
    """The terms to add, and those that cannot be, with the reason."""
    if named is None:
        found = find_terms(splitter, counts)[:add]
        if not found:
            raise RowError("no word of several tokens occurs three times here", where="data", do="give more rows")
        return found, []
    terms: list[Term] = []
    left_out: list[tuple[str, str]] = []
    for name in dict.fromkeys(name.strip() for name in named if name.strip()):
        keys = [key for key in (_key(splitter, f" {name}"), _key(splitter, name)) if key is not None]
        seen = [key for key in keys if counts[key]] or keys[:1]  # behind a blank, as most words are
        new = [Term(key, splitter.text(key), splitter.pieces(key), counts[key]) for key in seen]
        new = [term for term in new if len(term.pieces) > 1]
        if not keys:
            left_out.append((name, "several words to this tokenizer; 'model.new_tokens=[...]' takes such"))
        elif not new:
            left_out.append((name, "one token already"))
        terms.extend(new)
    if not terms:
        raise RowError(
            f"none of the terms can be added: {left_out[0][1] if left_out else 'there is none'}", where="terms"
        )
    return terms, left_out


def _key(splitter: Splitter, text: str) -> str | None:
    """A term as one word of the vocabulary, None where it is several."""
    words = splitter.words(text)
    whole_text = len(words) == 1 and splitter.text(words[0]).strip() == text.strip()
    return words[0] if whole_text else None


@dataclass(frozen=True)
class _Statistics:
    """Of hidden states h [D] that the head gets: mean and E[h h']."""

    mean_D: torch.Tensor
    second_DD: torch.Tensor


def _statistics(net: Any, tokenizer: Any, texts: Sequence[str]) -> _Statistics:
    head = net.get_output_embeddings()
    if head is None:
        raise ModelError("it has no head over its vocabulary", do="give a causal language model")
    size = 0
    width = head.weight.shape[1]
    mean, second = torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)

    def look(module: Any, given: tuple[torch.Tensor, ...]) -> None:
        nonlocal size
        states = given[0].detach().flatten(0, -2).double().cpu()
        mean.add_(states.sum(0))
        second.add_(states.T @ states)
        size += len(states)

    hook = head.register_forward_pre_hook(look)
    try:
        _bits(net, tokenizer, texts)
    finally:
        hook.remove()
    return _Statistics((mean / size).float(), (second / size).float())


@torch.no_grad()
def _bits(net: Any, tokenizer: Any, texts: Sequence[str]) -> float:
    """Bits a byte of the texts, each as `_ids` has it."""
    nats, size = 0.0, 0
    for text in texts:
        row = torch.tensor([_ids(net, tokenizer, text)], device=net.device)
        if row.shape[1] > 1:
            logps = torch.log_softmax(net(input_ids=row, use_cache=False).logits[0, :-1].float(), -1)
            nats -= float(logps.gather(1, row[0, 1:, None]).sum())
            size += len(tokenizer.decode(row[0, 1:], clean_up_tokenization_spaces=False).encode())
    return nats / math.log(2) / max(1, size)


def _ids(net: Any, tokenizer: Any, text: str) -> list[int]:
    """A text's ids behind the token that begins or ends one, cut after so many tokens."""
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    longest = min(_LONGEST, getattr(net.config.get_text_config(), "max_position_embeddings", _LONGEST))
    return [first or 0, *tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]][:longest]


def _shares(
    tokenizer: Any, counts: Counter[str], before: Any, after: Any, new: dict[int, list[int]]
) -> dict[int, float]:
    """log(n / n_1) of each new token: how often it is now, against its first piece before."""
    old_counts: Counter[str] = Counter()
    new_counts: Counter[str] = Counter()
    for word, count in counts.items():
        for pieces, into in ((before[word], old_counts), (after[word], new_counts)):
            for piece in pieces:
                into[piece] += count
    names = dict(zip(new, tokenizer.convert_ids_to_tokens(list(new)), strict=True))
    firsts = {token: tokenizer.convert_ids_to_tokens(pieces[0]) for token, pieces in new.items()}
    return {token: math.log((new_counts[names[token]] + 0.5) / (old_counts[firsts[token]] + 1)) for token in new}


@torch.no_grad()
def _set_rows(net: Any, new: dict[int, list[int]], stats: _Statistics, shares: dict[int, float]) -> None:
    """The rows of new tokens, as the head of this file says."""
    inputs, head = net.get_input_embeddings().weight, net.get_output_embeddings().weight
    tied = inputs.data_ptr() == head.data_ptr()
    identity = torch.eye(len(stats.mean_D))
    floor = 1e-3 * stats.second_DD.diagonal().mean()
    direction = torch.linalg.solve(stats.second_DD + floor * identity, stats.mean_D)
    direction = direction / (direction @ stats.mean_D)
    weighed = _WEIGHT * head.float().square().sum(1).mean().cpu() * stats.second_DD
    towards_output = torch.linalg.solve(identity + weighed, weighed)
    for token, pieces in new.items():
        as_input = (inputs[pieces].float().mean(0) + inputs[pieces[-1]].float()) / 2
        as_output = head[pieces[0]].float() + (shares[token] * direction).to(head.device)
        if tied:
            as_input = as_output = as_input + towards_output.to(head.device) @ (as_output - as_input)
        inputs[token], head[token] = as_input.to(inputs.dtype), as_output.to(head.dtype)
    bias = getattr(net.get_output_embeddings(), "bias", None)
    if bias is not None:
        for token, pieces in new.items():
            bias[token] = bias[pieces[0]]


def _dtype_of(folder: Path) -> torch.dtype:
    """What the weights on the disk are in: float32 holds both of the shorter ones, so the old rows stay bit for bit."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name, torch.float32)


def _save_tokenizer(tokenizer: Any, folder: Path, sample: Sequence[str]) -> None:
    """Save it, and load it as anyone would. Some classes of transformers build their pipeline anew and lose what is new
    in it; then the general class is named, which takes tokenizer.json as it is."""
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(folder)
    wanted = [tokenizer(text, verbose=False)["input_ids"] for text in sample]
    for general in (False, True):
        if general:
            path = folder / "tokenizer_config.json"
            named = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
            path.write_text(json.dumps(named, indent=2, ensure_ascii=False), encoding="utf-8")
            tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        again = AutoTokenizer.from_pretrained(folder)
        if [again(text, verbose=False)["input_ids"] for text in sample] == wanted:
            return
    raise ModelError(
        "the extended tokenizer, saved and loaded, cuts text otherwise",
        where=str(getattr(tokenizer, "name_or_path", "") or "tokenizer"),
        do="try the other --form, or add the terms as 'model.new_tokens=[...]'",
    )
