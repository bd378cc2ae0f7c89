"""Train the tagger of names, addresses, places and organisations that the step `personal` uses.

    pip install faker
    python scripts/train_tagger.py [FILE] [--steps 1000]

The sentences are in tagger_phrases.yaml; names of people, towns, countries and jobs come from the lists of Faker (MIT),
with a part of them altered at random, so that the tagger learns how names look besides which there are. Organisations
and addresses are put together; prose without people is the documentation in Python's library. Nothing else is learnt
from. Without FILE it writes the one in the package.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.numpy import save_file
from tagger_sentences import HERE, Lists, Maker

from whet.data.personal import tagger


def encode(text: str, spans: list[tuple[int, int, str]]) -> tuple[list[list[int]], list[int]]:
    """Rows of the table of each token, and its label."""
    matches = list(tagger.TOKEN.finditer(text))
    words = [tagger.EDGE] * tagger.WIDTH + [match.group() for match in matches] + [tagger.EDGE] * tagger.WIDTH
    hashes = np.array([tagger.word_hashes(word) for word in words], np.uint32)
    with np.errstate(over="ignore"):
        pairs = tagger.pair_rows(
            hashes[:, 0], hashes[:, 1], np.full(len(matches), tagger.case_of(text), np.uint32)
        ).tolist()
    labels, rows = [0] * len(matches), []
    for at, match in enumerate(matches):
        inside = next((span for span in spans if span[0] <= match.start() < span[1]), None)
        if inside:
            labels[at] = tagger.LABELS.index(("B-" if match.start() == inside[0] else "I-") + inside[2])
        rows.append(
            [row for place in range(2 * tagger.WIDTH + 1) for row in tagger.word_rows(words[at + place])[place]]
            + pairs[at]
        )
    return rows, labels


class Chain(torch.nn.Module):
    """The CRF that `whet.data.personal.tagger` reads: a sum of rows of a table, and transitions."""

    def __init__(self) -> None:
        super().__init__()
        size = len(tagger.LABELS)
        self.table = torch.nn.EmbeddingBag(tagger.BUCKETS + 1, size, mode="sum", padding_idx=tagger.BUCKETS)
        torch.nn.init.zeros_(self.table.weight)
        self.moves = torch.nn.Parameter(torch.zeros(size, size))
        kinds = [label[2:] for label in tagger.LABELS]
        begun = [
            [label[0] != "I" or kinds[before] == kinds[now] for now, label in enumerate(tagger.LABELS)]
            for before in range(size)
        ]
        self.register_buffer("legal", torch.where(torch.tensor(begun), 0.0, -1e4))

    def loss(self, rows_NF: torch.Tensor, labels_BT: torch.Tensor, sizes_B: torch.Tensor) -> torch.Tensor:
        """Mean over texts of -log p(labels | text); `rows_NF` of all tokens end to end, `labels_BT` padded with O."""
        inside_BT = torch.arange(labels_BT.shape[1]) < sizes_B[:, None]
        scores_BTL = torch.zeros(*labels_BT.shape, len(tagger.LABELS)).masked_scatter(
            inside_BT[..., None], self.table(rows_NF)
        )
        moves = self.moves + self.legal
        gold = scores_BTL.gather(2, labels_BT[..., None])[..., 0].mul(inside_BT).sum(1) + moves[0, labels_BT[:, 0]]
        steps = moves[labels_BT[:, :-1], labels_BT[:, 1:]] * inside_BT[:, 1:]
        last = labels_BT.gather(1, sizes_B[:, None] - 1)[:, 0]
        gold = gold + steps.sum(1) + moves[last, 0]
        alpha = scores_BTL[:, 0] + moves[0]
        for t in range(1, labels_BT.shape[1]):
            through = torch.logsumexp(alpha[:, :, None] + moves, 1) + scores_BTL[:, t]
            alpha = torch.where(inside_BT[:, t, None], through, alpha)
        return (torch.logsumexp(alpha + moves[:, 0], 1) - gold).mean()


def batch(maker: Maker, size: int, dropout: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `loss` takes, of so many new texts. A share of the features is left out, so that none is relied on alone."""
    texts = [encode(*maker.text()) for _ in range(size)]
    texts = [text for text in texts if text[1]]
    width = max(len(row) for rows, _ in texts for row in rows)
    rows = np.array([row + [tagger.BUCKETS] * (width - len(row)) for rows, _ in texts for row in rows])
    rows[np.random.default_rng(maker.choose.getrandbits(32)).random(rows.shape) < dropout] = tagger.BUCKETS
    sizes = torch.tensor([len(labels) for _, labels in texts])
    labels = torch.zeros(len(texts), int(sizes.max()), dtype=torch.long)
    for number, (_, of_text) in enumerate(texts):
        labels[number, : len(of_text)] = torch.tensor(of_text)
    return torch.from_numpy(rows), labels, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tagger of the step `personal`.")
    parser.add_argument("file", nargs="?", default=str(tagger.SHIPPED))
    parser.add_argument("--steps", type=int, default=1000, help="of 256 new texts each")
    args = parser.parse_args()
    phrases = yaml.safe_load((HERE / "tagger_phrases.yaml").read_text(encoding="utf-8"))
    maker, chain = Maker(phrases, Lists(), random.Random(7)), Chain()
    optimizer = torch.optim.Adam(chain.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, args.steps)
    losses = []
    for step in range(1, args.steps + 1):
        loss = chain.loss(*batch(maker, 256, dropout=0.15))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0:
            print(f"step {step}: loss {np.mean(losses[-50:]):.3f} a text", flush=True)
    weights = chain.table.weight.detach()[: tagger.BUCKETS].numpy()
    scale = np.float32(np.quantile(np.abs(weights), 0.99999) / 127)
    small = np.clip(np.rint(weights / scale), -127, 127).astype(np.int8)
    moves = (chain.moves + chain.legal).detach().numpy().astype(np.float32)
    save_file({"weights": small, "scale": scale.reshape(1), "transitions": moves}, args.file)
    print(f"{args.file}: {Path(args.file).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
