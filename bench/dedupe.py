"""Near-duplicates side by side with datatrove's MinHash pipeline: rows a second, recall and precision, peak memory.

    python bench/dedupe.py                        # 200,000 rows of about 1 kB, both sides
    python bench/dedupe.py --rows 20000 --rounds 2
    python bench/dedupe.py --gigabytes 2          # whet alone on a file of this size: peak memory of its processes

Rows are made up: 5-word runs are theirs alone, and about a fifth of the rows are copies of others in which words were
changed, such that the Jaccard of their 5-grams is anything from 0.7 to 1. Both sides read the same JSONL files and
write what they keep, each in processes of its own, in turns. datatrove runs with its defaults (5-grams, 14 bands of 8,
xxhash) in its local executor, a task a core. What is true is found by brute force: sets of 5-tuples of words, for every
pair of a family of copies, and for a sample of pairs of other rows. Where others use the machine too, the ratio by
processor time is the one that holds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

THRESHOLD, NGRAM, WORDS = 0.8, 5, 155
SIDES = ("whet", "datatrove")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--gigabytes", type=float, help="measure whet's peak memory on a file of this size instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where the files are made; a temporary one by default")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        RUN[arguments.side](Path(arguments.folder))
        return
    if arguments.gigabytes:
        arguments.rows, arguments.sides = int(arguments.gigabytes * 1e9 / 1040), ["whet"]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = compare(arguments, Path(folder))
    print(json.dumps(result, indent=1)) if arguments.json else show(result)


def compare(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the rows, run the sides in turns, judge what they kept."""
    families = make(arguments.rows, arguments.seed, folder / "in")
    size = sum(file.stat().st_size for file in (folder / "in").iterdir())
    result: dict[str, Any] = {"rows": arguments.rows, "megabytes": round(size / 1e6), "cores": CORES, "sides": {}}
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in arguments.sides}
    peaks: dict[str, int] = {}
    for number in range(arguments.rounds):
        for side in arguments.sides if number % 2 == 0 else reversed(arguments.sides):
            print(f"round {number + 1}: {side}", file=sys.stderr, flush=True)
            *took, peak = measured(side, folder)
            seconds[side].append((took[0], took[1]))
            peaks[side] = max(peak, peaks.get(side, 0))
    judge = None if arguments.gigabytes else Judge(families, folder / "in", arguments.seed)
    for side in arguments.sides:
        speed, speed_of_cores = (arguments.rows / statistics.median(took) for took in zip(*seconds[side], strict=True))
        of_side = {"rows_per_second": round(speed, 1), "rows_per_processor_second": round(speed_of_cores, 1)}
        of_side["peak_bytes"] = peaks[side]
        result["sides"][side] = of_side | (judge.verdict(kept(folder / side)) if judge else {})
    if len(arguments.sides) == 2:
        for name, of in (("ratio", "rows_per_second"), ("ratio_of_processors", "rows_per_processor_second")):
            result[name] = round(result["sides"][SIDES[0]][of] / result["sides"][SIDES[1]][of], 1)
    return result


def make(rows: int, seed: int, folder: Path) -> list[list[int]]:
    """Write the rows, a file a core; the families: numbers of an original and of its copies."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = np.array(["".join(rng.choice(letters, size)) for size in rng.integers(2, 10, 30_000)])
    often = 1 / np.arange(1, len(vocabulary) + 1) ** 0.7  # natural text is steeper, but then rows need not differ
    upto = np.cumsum(often / often.sum())
    order = rng.permutation(rows)  # row numbers of what is made, in the order of making
    families: list[list[int]] = []
    files = [(folder / f"{number:03}.jsonl").open("w") for number in range(CORES)]
    at = 0
    while at < rows:
        words = upto.searchsorted(rng.random(int(WORDS * rng.uniform(0.8, 1.25))), side="right")
        words = np.minimum(words, len(vocabulary) - 1)
        size = min(1 + (int(rng.integers(1, 4)) if rng.random() < 0.125 else 0), rows - at)
        family = order[at : at + size].tolist()
        for place, number in enumerate(family):
            of_row = words if place == 0 else changed(words, rng.uniform(0.7, 1.0), rng, len(vocabulary))
            line = json.dumps({"number": number, "text": " ".join(vocabulary[of_row])})
            files[number % CORES].write(line + "\n")
        if size > 1:
            families.append(family)
        at += size
    for file in files:
        file.close()
    return families


def changed(words: np.ndarray, jaccard: float, rng: np.random.Generator, vocabulary: int) -> np.ndarray:
    """The words with k of them replaced; each takes up to NGRAM of n n-grams: J = (n - 5k) / (n + 5k)."""
    count = round((len(words) - NGRAM + 1) * (1 - jaccard) / (1 + jaccard) / NGRAM)
    copy = words.copy()
    copy[rng.choice(len(words), count, replace=False)] = rng.integers(0, vocabulary, count)
    return copy


def measured(side: str, folder: Path) -> tuple[float, float, int]:
    """(seconds, seconds of processors, peak bytes) of one side: of its process with all of its children."""
    import psutil

    begin, used = time.perf_counter(), processor_seconds()
    with (folder / f"{side}.log").open("a") as log:
        child = subprocess.Popen(
            [sys.executable, __file__, "--side", side, "--folder", str(folder)], stdout=log, stderr=log
        )
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        root = psutil.Process(child.pid)
        while not done.wait(0.1):
            total = 0
            for process in [root, *root.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = child.wait()
    done.set()
    watcher.join()
    if code:
        raise SystemExit(f"{side} failed:\n" + (folder / f"{side}.log").read_text()[-3000:])
    return time.perf_counter() - begin, processor_seconds() - used, peak


def processor_seconds() -> float:
    """Of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_whet(folder: Path) -> None:
    """The command, as anybody would give it."""
    from whet.cli.data import one_step

    (folder / "whet").mkdir(exist_ok=True)
    one_step("duplicates", [f"{folder}/in/*.jsonl", f"{folder}/whet/out.jsonl"], None, None, True, False)


def xxhash64(text: str) -> int:
    """What datatrove's own function does with xxhash 3; version 4 takes bytes alone."""
    import xxhash

    return int(xxhash.xxh64_intdigest(text.encode()))


def run_datatrove(folder: Path) -> None:
    """The four stages of its example, minhash_deduplication.py, on this machine."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    work, config = folder / f"datatrove-{time.time_ns()}", MinhashConfig()
    signature = MinhashDedupSignature(str(work / "signatures"), config)
    signature._hash_func = xxhash64
    reader = JsonlReader(str(folder / "in"))
    stages: list[tuple[list[Any], int]] = [
        ([reader, signature], CORES),
        ([MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"), config=config)], config.num_buckets),
        ([MinhashDedupCluster(str(work / "buckets"), str(work / "remove"), config=config)], 1),
        ([reader, MinhashDedupFilter(str(work / "remove")),
          JsonlWriter(str(folder / "datatrove"), "${rank}.jsonl", compression=None)], CORES),
    ]  # fmt: skip
    for number, (pipeline, tasks) in enumerate(stages):
        LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=CORES, logging_dir=str(work / f"log-{number}"), start_method="fork"
        ).run()


RUN = {"whet": run_whet, "datatrove": run_datatrove}


def kept(folder: Path) -> set[int]:
    """Numbers of the rows that a side wrote."""
    files = [file for file in folder.glob("*.jsonl") if "rejects" not in file.name]
    found = (json.loads(line) for file in files for line in file.open())
    return {int(row["number"] if "number" in row else row["metadata"]["number"]) for row in found}


class Judge:
    """What is near what, by brute force."""

    def __init__(self, families: list[list[int]], folder: Path, seed: int) -> None:
        rng = np.random.default_rng(seed)
        wanted = {number for family in families for number in family}
        sets, others = {}, []
        for row in rows_of(folder):
            if row["number"] in wanted:
                sets[row["number"]] = shingles(row["text"])
            elif len(others) < 2000:
                others.append(shingles(row["text"]))
        self.near, self.apart = [], 0
        for family in families:
            for a, b in combinations(family, 2):
                if similarity(sets[a], sets[b]) >= THRESHOLD:
                    self.near.append((a, b))
                else:
                    self.apart += 1
        self.with_partner = {number for pair in self.near for number in pair}
        drawn = rng.integers(0, len(others), (100_000, 2)).tolist() if others else []
        self.strangers = max((similarity(others[a], others[b]) for a, b in drawn if a != b), default=0.0)
        self.all = wanted | {row["number"] for row in rows_of(folder)}

    def verdict(self, kept: set[int]) -> dict[str, Any]:
        """Recall: of pairs at or over the threshold, those of which not both were kept. Precision: of rows that were
        dropped, those that are at or over the threshold with another one."""
        dropped = self.all - kept
        found = sum(a in dropped or b in dropped for a, b in self.near)
        return {
            "dropped": len(dropped), "recall": round(found / max(len(self.near), 1), 4),
            "precision": round(len(dropped & self.with_partner) / max(len(dropped), 1), 4),
            "pairs_near": len(self.near), "pairs_of_families_apart": self.apart,
            "highest_jaccard_of_100000_other_pairs": round(self.strangers, 3),
        }  # fmt: skip


def rows_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all files."""
    return (json.loads(line) for file in sorted(folder.iterdir()) for line in file.open())


def shingles(text: str) -> set[tuple[str, ...]]:
    """The plain way."""
    words = text.split()
    return set(zip(*(words[k:] for k in range(NGRAM)), strict=False))


def similarity(a: set[Any], b: set[Any]) -> float:
    """Jaccard."""
    return len(a & b) / len(a | b)


def show(result: dict[str, Any]) -> None:
    """For the terminal."""
    print(f"{result['rows']:,} rows, {result['megabytes']:,} MB, {result['cores']} cores")
    for side, figures in result["sides"].items():
        line = f"{side:10} {figures['rows_per_second']:>10,.0f} rows/s"
        line += f"   {figures['rows_per_processor_second']:>10,.0f} rows a second of a processor"
        line += f"   peak {figures['peak_bytes'] / 1e9:.2f} GB"
        if "recall" in figures:
            line += f"   recall {figures['recall']:.4f}   precision {figures['precision']:.4f}"
            line += f"   ({figures['pairs_near']:,} pairs near, {figures['dropped']:,} rows dropped)"
        print(line)
    if "ratio" in result:
        print(f"{result['ratio']} times datatrove's rows a second; {result['ratio_of_processors']} by processor time")


if __name__ == "__main__":
    main()
