"""GGUF files against a real llama.cpp: are its tokens, logits and greedy tokens those of the run?

    python bench/llama_cpp_check.py --llama-python OTHER_ENV/bin/python
    python bench/llama_cpp_check.py --llama-python OTHER_ENV/bin/python --run runs/mine --types f16 q8_0

OTHER_ENV holds llama-cpp-python and numpy, so that whet's own environment does not. Without --run a short LoRA run of
whet-tiny is trained, and models with random weights are made of every architecture that is exported. llama.cpp computes
on the CPU with its cache in float32. Exits with 1 where tokens differ, or anything does in f32.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 200  # of the quickstart data, whose tokens are compared
GREEDY = 32
FLOAT32 = 2e-3  # of the largest logit: llama.cpp looks GELU up in a table of float16; without GELU it is 1e-6
SENTENCEPIECE = ("mistral", "gemma", "gemma2", "gemma3_text")
TINY = {
    "vocab_size": 4096, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": 0,
    "pad_token_id": 0,
}  # fmt: skip
WINDOW = {"sliding_window": 24, "query_pre_attn_scalar": 32}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "qwen3": TINY,
    "qwen2": TINY | {"tie_word_embeddings": True},
    "llama": TINY | {"rope_parameters": LLAMA3, "attention_bias": True},
    "mistral": TINY | {"sliding_window": None},
    "gemma": TINY,
    "gemma2": TINY | WINDOW,
    "gemma3_text": TINY | WINDOW,
    "gpt2": TINY,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-python", help="the interpreter that has llama_cpp")
    parser.add_argument("--run", help="check this run instead")
    parser.add_argument("--types", nargs="+", default=["f32", "f16", "bf16", "q8_0"])
    parser.add_argument("--answer", nargs=2, metavar=("REQUEST", "ANSWER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.answer:
        answer(*map(Path, args.answer))
        return
    print(f"{'model':14} {'type':5} {'tokens equal':>16} {'logits':>9} {'greedy tokens equal':>20} {'gap':>9}")
    with tempfile.TemporaryDirectory(prefix="whet-gguf-") as folder:
        runs = [args.run] if args.run else [lora_run(Path(folder)), *random_models(Path(folder))]
        failed = sum(not check(run, kind, args.llama_python, Path(folder)) for run in runs for kind in args.types)
    sys.exit(1 if failed else 0)


def lora_run(folder: Path) -> str:
    """LoRA on whet-tiny, trained for 20 steps."""
    words = ["data=quickstart#400", "train.max_steps=20", "train.learning_rate=1e-3", "samples=1"]
    run = folder / "lora"
    subprocess.run([sys.executable, "-m", "whet", "train", "--quiet", *words, f"output={run}"], check=True)
    return str(run)


def random_models(folder: Path) -> list[str]:
    """Folders of models with random weights, each with the kind of tokenizer that its family has."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from whet.models.load import quietly

    texts = [message["content"] for chat in chats() for message in chat]
    places = []
    for kind, settings in MODELS.items():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)  # wide enough for every part to be heard
        place = folder / kind
        with quietly():
            model.save_pretrained(place)
        tokenizer(kind, texts).save_pretrained(place)
        places.append(str(place))
    return places


def tokenizer(kind: str, texts: list[str]) -> Any:
    """whet-tiny's for qwen3, else one trained on these texts, with whet-tiny's template."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from whet.models.export.gguf_tokenizer import PRE
    from whet.models.load import find
    from whet.recipe import ModelPart

    tiny = AutoTokenizer.from_pretrained(find(ModelPart(name="whet-tiny")))
    if kind == "qwen3":
        return tiny
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    sentencepiece = kind in SENTENCEPIECE
    train = Tokenizer(models.BPE())
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)]
    if sentencepiece:
        train.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=[*special, "<unk>", *bytes_of])
    else:
        (expression,) = PRE[{"qwen2": "qwen2", "llama": "llama-bpe"}.get(kind, "gpt-2")][0]
        words = [pre_tokenizers.Split(Regex(expression), "isolated")] if kind in ("qwen2", "llama") else []
        by_byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not words)
        train.pre_tokenizer = pre_tokenizers.Sequence([*words, by_byte])
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=special, initial_alphabet=alphabet)
    train.train_from_iterator(texts, trainer)
    tree = json.loads(train.to_str())["model"]
    made = Tokenizer(models.BPE(tree["vocab"], [tuple(pair) for pair in tree["merges"]], ignore_merges=kind == "llama"))
    made.pre_tokenizer, made.decoder = train.pre_tokenizer, decoders.ByteLevel()
    if sentencepiece:  # every way to put a piece together merges, the first learnt first: so do pieces with scores
        pieces = dict.fromkeys("".join(pair) for pair in tree["merges"])
        known = tree["vocab"]
        pairs = [(piece[:at], piece[at:]) for piece in pieces for at in range(1, len(piece))]
        pairs = [(left, right) for left, right in pairs if left in known and right in known]
        made = Tokenizer(models.BPE(known, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        blank = [normalizers.Prepend("▁")] if kind == "mistral" else []
        made.normalizer = normalizers.Sequence([*blank, normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=special[0], pad_token=special[0], chat_template=tiny.chat_template
    )


def chats() -> list[Any]:
    """Conversations of the quickstart data."""
    from whet.data.read import read
    from whet.recipe import DataPart

    return [example.messages for example in read([DataPart(path=f"quickstart#{ROWS}")], "sft")]


def check(run: str, kind: str, python: str, folder: Path) -> bool:
    """Export a run, ask llama.cpp, print a line. True where all that must be equal is."""
    import torch

    import whet
    from whet.models.export.gate import TEXTS, look

    place = folder / f"{Path(run).name}-{kind}"
    whet.export(run, to="gguf", out=place, gguf_type=kind)
    opened = whet.open_run(run, dtype=torch.float32)
    expected = look(opened.model, opened.tokenizer)
    talks = chats()
    texts = [opened.tokenizer.apply_chat_template(chat, tokenize=False) for chat in talks]
    texts = [*expected.chats, *texts, *(message["content"] for chat in talks for message in chat)]
    request = {
        "model": str(next(place.glob("*.gguf"))),
        "texts": texts,
        "special": TEXTS,
        "prompts": expected.prompts,
        "rows": [prompt + said for prompt, said in zip(expected.prompts, expected.answers, strict=True)],
    }
    found = asked(request, python, folder)
    wanted = [opened.tokenizer(text, add_special_tokens=False).input_ids for text in texts] + expected.text_ids
    same = sum(one == other for one, other in zip(wanted, found["ids"], strict=True))
    logits = max(
        float(np.abs(other - one.numpy()).max() / np.abs(one.numpy()).max())
        for one, other in zip(expected.logits, found["logits"], strict=True)
    )
    pairs = list(zip(expected.answers, found["answers"], strict=True))
    greedy = [next((i for i in range(GREEDY) if one[i] != other[i]), GREEDY) for one, other in pairs]
    gap = max((parting_gap(expected, number, *pair) for number, pair in enumerate(pairs)), default=0.0)
    tokens, said = f"{same} of {len(wanted)}", " ".join(map(str, greedy))
    print(f"{Path(run).name:14} {kind:5} {tokens:>16} {logits:9.1e} {said:>20} {gap:9.1e}", flush=True)
    return same == len(wanted) and (kind != "f32" or (logits < FLOAT32 and min(greedy) == GREEDY))


def parting_gap(expected: Any, number: int, wanted: list[int], found: list[int]) -> float:
    """How much likelier the run has its own token than llama.cpp's where two answers part, as a share of the largest
    logit; 0 where they do not."""
    place = next((i for i in range(GREEDY) if wanted[i] != found[i]), None)
    if place is None:
        return 0.0
    logits = expected.logits[number]
    row = logits[len(expected.prompts[number]) + place - 1]
    return float((row[wanted[place]] - row[found[place]]) / logits.abs().max())


def asked(request: dict[str, Any], python: str, folder: Path) -> dict[str, Any]:
    """What llama.cpp answers, in its own interpreter."""
    ask, told = folder / "request.json", folder / "answer.npz"
    ask.write_text(json.dumps(request), encoding="utf-8")
    subprocess.run([python, __file__, "--answer", ask, told], check=True)
    with np.load(told, allow_pickle=False) as arrays:
        rest = json.loads(str(arrays["json"]))
        return {**rest, "logits": [arrays[f"logits{i}"] for i in range(len(request["rows"]))]}


def answer(ask: Path, told: Path) -> None:
    """llama.cpp's side: tokens of each text, logits [L, V] of each row of ids, greedy tokens after each prompt."""
    from llama_cpp import Llama

    request = json.loads(ask.read_text(encoding="utf-8"))
    exact = {"type_k": 0, "type_v": 0}  # float32
    llama = Llama(request["model"], n_ctx=256, n_batch=256, logits_all=True, n_threads=1, verbose=False, **exact)
    ids = [llama.tokenize(text.encode(), add_bos=False, special=True) for text in request["texts"]]
    ids += [llama.tokenize(text.encode(), add_bos=True, special=True) for text in request["special"]]
    arrays, answers = {}, []
    for number, row in enumerate(request["rows"]):
        llama.reset()
        llama.eval(row)
        arrays[f"logits{number}"] = np.array(llama.scores[: len(row)])
    for prompt in request["prompts"]:
        llama.reset()
        llama.eval(prompt)
        said: list[int] = []
        while len(said) < GREEDY:
            said.append(int(llama.scores[llama.n_tokens - 1].argmax()))
            llama.eval(said[-1:])
        answers.append(said)
    np.savez(told, json=json.dumps({"ids": ids, "answers": answers}), **arrays)


if __name__ == "__main__":
    main()
