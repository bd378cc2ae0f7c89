"""Pre-train whet-tiny, the model in the package: text in, `model.safetensors` and a card out.

    python scripts/pretrain_tiny.py --prose FOLDER --work FOLDER --steps 3000
    python scripts/pretrain_tiny.py --prose FOLDER --work FOLDER --export src/whet/models/whet-tiny

FOLDER holds one folder a source (see SOURCES), each with plain `.txt` files, paragraphs a line each. The first call
trains the tokenizer, packs the text and trains the model; it writes a checkpoint every few minutes and, called again,
goes on from it. The second writes the weights in bfloat16 with tokenizer, template and card.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# Public domain or CC0 only: what is trained here ships with the package.
SOURCES = ("classic_books", "gutenberg_nltk", "inaugural", "state_union", "us_gov_web")
UNSEEN = ("onestop_english", "tinystories_sample")
"""Measured where they are there, never trained on."""
END, START_OF_TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = [END, START_OF_TURN, END_OF_TURN, "<|tool|>", "<|spare_1|>", "<|spare_2|>", "<|spare_3|>", "<|spare_4|>"]
CHAT_TEMPLATE = (
    "{%- if tools %}{{ '<|im_start|>system\nTools:\n' }}{%- for tool in tools %}{{ tool | tojson + '\n' }}{%- endfor %}"
    "{{ '<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.role == 'assistant' %}{% generation %}"
    "{{- message.content or '' }}"
    "{%- for call in message.tool_calls or [] %}{{ '<|tool|>' + (call.function | tojson) }}{%- endfor %}"
    "{{- '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{%- else %}{{ message.content + '<|im_end|>\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
VOCABULARY = 4096
HELD_OUT = 25  # one document in so many; of a source with few files, that share of each file's end
CHAT_SHARE = 0.08  # of the training documents, shown as turns, so that the markers of the template mean something


def documents(prose: Path) -> tuple[list[str], list[str]]:
    """(training, held-out) documents of all sources."""
    parts = [split_source(prose, source) for source in SOURCES]
    return [text for part in parts for text in part[0]], [text for part in parts for text in part[1]]


def held_out_by_source(prose: Path) -> dict[str, list[str]]:
    return {source: split_source(prose, source)[1] for source in SOURCES}


def split_source(prose: Path, source: str) -> tuple[list[str], list[str]]:
    """(training, held-out) documents. Whole books are held out, so that no sentence of theirs was seen."""
    training, held_out = [], []
    files = sorted((prose / source).glob("*.txt"))
    if not files:
        raise SystemExit(f"no .txt files in {prose / source}")
    for index, path in enumerate(files):
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        if len(files) < HELD_OUT:
            cut = text.rfind("\n\n", 0, len(text) - len(text) // HELD_OUT)
            training.append(text[:cut])
            held_out.append(text[cut:].strip())
        else:
            (held_out if index % HELD_OUT == HELD_OUT // 2 else training).append(text)
    return training, held_out


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE: all 256 bytes are in the alphabet, so no text is unknown. Digits stand alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((line for text in texts for line in text.split("\n")), trainer)
    return tokenizer


def as_turns(paragraphs: list[str]) -> str:
    """Paragraph after paragraph as user and assistant in turn, in the model's own template."""
    roles = ("user", "assistant")
    return "".join(f"{START_OF_TURN}{roles[i % 2]}\n{text}{END_OF_TURN}\n" for i, text in enumerate(paragraphs))


def to_ids(texts: list[str], tokenizer: Tokenizer, chat_share: float, seed: int = 0) -> np.ndarray:
    """All documents as one uint16 stream, split into pieces of some paragraphs, shuffled, an end token after each."""
    pieces, choose = [], random.Random(seed)
    for text in texts:
        paragraphs = [p for p in text.split("\n\n") if p.strip()] if "\n\n" in text else text.split("\n")
        while paragraphs:
            is_chat = choose.random() < chat_share
            count = choose.choice((2, 4)) if is_chat else 60
            part, paragraphs = paragraphs[:count], paragraphs[count:]
            pieces.append(as_turns(part) if is_chat and len(part) % 2 == 0 else "\n\n".join(part))
    if chat_share:
        choose.shuffle(pieces)
    end = tokenizer.token_to_id(END)
    return np.concatenate(
        [np.array([*encoding.ids, end], dtype=np.uint16) for encoding in tokenizer.encode_batch_fast(pieces)]
    )


def build_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=320,
        intermediate_size=880,
        num_hidden_layers=5,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        initializer_range=0.02,
    )
    return LlamaForCausalLM(config)


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=2e-2, weight_decay=0.02, momentum=0.95, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def rate(progress: float) -> float:
    """Share of the peak learning rate: short warm-up, plateau, then linear to a hundredth over the last half."""
    if progress < 0.01:
        return max(progress / 0.01, 0.01)
    return 1.0 if progress < 0.5 else max(0.01, (1 - progress) / 0.5)


@torch.no_grad()
def bits_per_byte(model: LlamaForCausalLM, ids: np.ndarray, size: int, window: int = 512) -> float:
    """Summed loss of the tokens, in bits, over the bytes of the text. Windows do not overlap: an upper bound."""
    model.eval()
    total = 0.0
    blocks = [ids[i : i + window + 1] for i in range(0, len(ids) - 1, window)]
    for start in range(0, len(blocks), 16):
        group = blocks[start : start + 16]
        for length in {len(block) for block in group}:
            batch = torch.from_numpy(np.stack([b for b in group if len(b) == length]).astype(np.int64))
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=batch[:, :-1]).logits
            total += torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"
            ).item()
    model.train()
    return total / math.log(2) / size


def prepare(prose: Path, work: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Tokenizer, training and held-out streams, made once and kept in `work`."""
    if not (work / "ready.json").exists():
        work.mkdir(parents=True, exist_ok=True)
        training, held_out = documents(prose)
        tokenizer = train_tokenizer(training)
        tokenizer.save(str(work / "tokenizer.json"))
        np.save(work / "train.npy", to_ids(training, tokenizer, CHAT_SHARE))
        np.save(work / "held_out.npy", to_ids(held_out, tokenizer, 0.0))
        sizes = {"train": sum(len(t.encode()) for t in training), "held_out": sum(len(t.encode()) for t in held_out)}
        (work / "ready.json").write_text(json.dumps(sizes))
    sizes = json.loads((work / "ready.json").read_text())
    return np.load(work / "train.npy"), np.load(work / "held_out.npy"), sizes["held_out"]


def batch_at(ids: np.ndarray, step: int, rows: int, length: int) -> torch.Tensor:
    """The rows of a step, [rows, length + 1]: windows of the stream in an order shuffled anew each epoch."""
    windows = (len(ids) - 1) // length
    order_of = lambda epoch: np.random.default_rng(epoch).permutation(windows)  # noqa: E731
    places = range(step * rows, (step + 1) * rows)
    orders = {epoch: order_of(epoch) for epoch in {p // windows for p in places}}
    starts = [int(orders[p // windows][p % windows]) * length for p in places]
    return torch.from_numpy(np.stack([ids[s : s + length + 1] for s in starts]).astype(np.int64))


def train(prose: Path, work: Path, steps: int, rows: int, length: int) -> None:
    """Train up to `steps` in all, over as many calls as it takes. A later call may name another number of steps."""
    ids, held_out, held_out_bytes = prepare(prose, work)
    first_part = len(held_out) // 8
    model = build_model()
    hidden_of = torch.compile(model.model, dynamic=False)
    opts = optimizers(model)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in opts]
    step, history = 0, []
    if (work / "checkpoint.pt").exists():
        saved = torch.load(work / "checkpoint.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(opts, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        step, history = saved["step"], saved["history"]
    while step < steps:
        for optimizer, peak in zip(opts, peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * rate(step / steps)
        batch = batch_at(ids, step, rows, length)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.lm_head(hidden_of(input_ids=batch[:, :-1]).last_hidden_state)
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in opts:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        if step % 10 == 0:
            history.append((step, round(loss.item(), 4)))
            print(f"{time.strftime('%H:%M:%S')} step {step} loss {loss.item():.4f}", flush=True)
        if step % 100 == 0 or step == steps:
            value = bits_per_byte(model, held_out[:first_part], held_out_bytes // 8)
            print(f"step {step} held-out bits a byte, first eighth: {value:.4f}", flush=True)
            state = {
                "model": model.state_dict(),
                "optimizers": [o.state_dict() for o in opts],
                "step": step,
                "history": history,
            }
            torch.save(state, work / "checkpoint.tmp")
            os.replace(work / "checkpoint.tmp", work / "checkpoint.pt")
    print(f"held-out bits a byte, all of it: {bits_per_byte(model, held_out, held_out_bytes):.4f}")


def export(prose: Path, work: Path, folder: Path) -> None:
    """Write the model folder: weights in bfloat16, tokenizer with its template, card with figures measured now."""
    _, held_out, held_out_bytes = prepare(prose, work)
    saved = torch.load(work / "checkpoint.pt", weights_only=True)
    model = build_model()
    model.load_state_dict(saved["model"])
    model = model.to(torch.bfloat16)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(work / "tokenizer.json")),
        eos_token=END,
        pad_token=END,
        additional_special_tokens=SPECIAL[1:],
        clean_up_tokenization_spaces=False,
        model_max_length=model.config.max_position_embeddings,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    model.generation_config = GenerationConfig(
        eos_token_id=[SPECIAL.index(END), SPECIAL.index(END_OF_TURN)], pad_token_id=SPECIAL.index(END)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    stream = Tokenizer.from_file(str(work / "tokenizer.json"))

    def measured(texts: list[str]) -> float:
        return round(bits_per_byte(model, to_ids(texts, stream, 0.0), sum(len(text.encode()) for text in texts)), 3)

    elsewhere = {name: [path.read_text()[:500_000] for path in (prose / name).glob("*.txt")] for name in UNSEEN}
    figures = {
        "parameters": model.num_parameters(),
        "steps": saved["step"],
        "bits_per_byte": round(bits_per_byte(model, held_out, held_out_bytes), 3),
        "held_out_bytes": held_out_bytes,
        "by_source": {source: measured(texts) for source, texts in held_out_by_source(prose).items()},
        "unseen_kinds": {name: measured(texts) for name, texts in elsewhere.items() if texts},
    }
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    (folder / "README.md").write_text(card(figures))
    print(json.dumps(figures, indent=1))


def card(figures: dict[str, Any]) -> str:
    """The model card: the text beside this script, with the figures filled in."""
    kinds = {**figures["by_source"], **{f"{k} (a kind not trained on)": v for k, v in figures["unseen_kinds"].items()}}
    text = (Path(__file__).parent / "whet_tiny_card.md").read_text(encoding="utf-8")
    return text.format(
        parameters=figures["parameters"],
        vocabulary=VOCABULARY,
        steps=figures["steps"],
        million_tokens=figures["steps"] * 8192 / 1e6,
        chat_share=CHAT_SHARE,
        held_out_megabytes=figures["held_out_bytes"] / 1e6,
        bits_per_byte=figures["bits_per_byte"],
        rows="\n".join(f"| {kind} | {value:.2f} |" for kind, value in kinds.items()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prose", type=Path, required=True, help="folder with a folder of .txt files a source")
    parser.add_argument("--work", type=Path, required=True, help="where tokenizer, streams and checkpoint are kept")
    parser.add_argument("--steps", type=int, default=3000, help="of rows x length tokens")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--export", type=Path, help="write the model folder from the checkpoint and stop")
    args = parser.parse_args()
    if args.export:
        export(args.prose, args.work, args.export)
    else:
        train(args.prose, args.work, args.steps, args.rows, args.length)


if __name__ == "__main__":
    main()
