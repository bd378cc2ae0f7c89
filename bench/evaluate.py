"""MMLU, few-shot, beside lm-eval in one run: the same model, the same rows, the same figures?

    python bench/evaluate.py --mmlu mmlu.zip --lm-eval OTHER_ENV/bin/lm-eval --subjects 6
    python bench/evaluate.py --mmlu mmlu.zip --lm-eval OTHER_ENV/bin/lm-eval --model FOLDER --shots 3
    python bench/evaluate.py --pubmedqa ori_pqal.json --lm-eval OTHER_ENV/bin/lm-eval --shots 0

OTHER_ENV holds lm-eval, so that whet's own environment does not. mmlu.zip is the data of Hendrycks et al. as CSV
(data/dev, data/test). Both read the same task files, made here; times are of whole processes. Exits with 1 where a
row's log-probabilities differ by more than 1e-3 nats, or an accuracy differs at all.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import yaml

TOLERANCE = 1e-3  # nats
COLUMNS = ("question", "a", "b", "c", "d", "answer")
LETTERS = ["A", "B", "C", "D"]
TEXT = "{{question.strip()}}\nA. {{a}}\nB. {{b}}\nC. {{c}}\nD. {{d}}\nAnswer:"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmlu", help="mmlu.zip")
    parser.add_argument("--pubmedqa", help="ori_pqal.json: yes, no or maybe, instead of MMLU")
    parser.add_argument("--lm-eval", required=True, help="its command")
    parser.add_argument("--model", default=str(_tiny()), help="a folder; whet-tiny if none")
    parser.add_argument("--subjects", type=int, default=57, help="so many, in order of name")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch-size", default="16", help="lm-eval's")
    parser.add_argument("--ours", nargs=2, metavar=("FOLDER", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        ours(args.model, *map(Path, args.ours))
        return
    with tempfile.TemporaryDirectory(prefix="whet-mmlu-") as name:
        folder = Path(name)
        if args.pubmedqa:
            tasks = write_pubmedqa(Path(args.pubmedqa), folder, args.shots)
        else:
            tasks = write_tasks(Path(args.mmlu), folder, args.subjects, args.shots)
        times: dict[str, list[float]] = {"lm-eval": [], "whet": []}
        for _ in range(args.rounds):
            times["lm-eval"].append(_timed(_lm_eval(args, folder, tasks)))
            command = [sys.executable, __file__, "--lm-eval", "", "--model", args.model]
            times["whet"].append(_timed([*command, "--ours", str(folder), str(folder / "ours.json")]))
        compare(folder, tasks, {side: sorted(found)[len(found) // 2] for side, found in times.items()})


def write_tasks(archive: Path, folder: Path, subjects: int, shots: int) -> list[str]:
    """A task file and two files of rows for each subject; their names."""
    tasks = []
    with zipfile.ZipFile(archive) as found:
        names = sorted(Path(n).stem.removesuffix("_test") for n in found.namelist() if n.endswith("_test.csv"))
        for subject in names[:subjects]:
            for split in ("dev", "test"):
                text = found.read(f"data/{split}/{subject}_{split}.csv").decode()
                rows = [dict(zip(COLUMNS, row, strict=True)) for row in csv.reader(io.StringIO(text))]
                lines = "".join(json.dumps(row) + "\n" for row in rows)
                (folder / f"{subject}.{split}.jsonl").write_text(lines)
            files = {split: str(folder / f"{subject}.{split}.jsonl") for split in ("dev", "test")}
            task = {
                "task": f"local_{subject}", "dataset_path": "json", "dataset_kwargs": {"data_files": files},
                "test_split": "test", "fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"},
                "output_type": "multiple_choice", "doc_to_text": TEXT, "doc_to_choice": LETTERS,
                "doc_to_target": "{{['A', 'B', 'C', 'D'].index(answer)}}", "num_fewshot": shots,
                "description": f"Questions about {subject.replace('_', ' ')}, with answers.\n\n",
                "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            }  # fmt: skip
            (folder / f"{subject}.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
            tasks.append(subject)
    return tasks


def write_pubmedqa(path: Path, folder: Path, shots: int) -> list[str]:
    """The 1,000 labelled questions; demonstrations, where there are any, are the first of them."""
    rows = [
        {"abstract": "\n".join(row["CONTEXTS"]), "question": row["QUESTION"], "answer": row["final_decision"]}
        for row in json.loads(path.read_text(encoding="utf-8")).values()
    ]
    for split, some in (("dev", rows[:shots] or rows[:1]), ("test", rows[shots:])):
        (folder / f"pubmedqa.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    task = {
        "task": "local_pubmedqa", "dataset_path": "json",
        "dataset_kwargs": {"data_files": {s: str(folder / f"pubmedqa.{s}.jsonl") for s in ("dev", "test")}},
        "test_split": "test", "fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"},
        "output_type": "multiple_choice", "doc_to_text": "Abstract: {{abstract}}\nQuestion: {{question}}\nAnswer:",
        "doc_to_choice": ["yes", "no", "maybe"], "doc_to_target": "answer", "num_fewshot": shots,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    (folder / "pubmedqa.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    return ["pubmedqa"]


def ours(model: str, folder: Path, out: Path) -> None:
    """Every task in the folder, and the log-probabilities of every row."""
    import torch

    from whet.evaluate.choice import answer
    from whet.evaluate.score import Scorer
    from whet.evaluate.tasks import read_task
    from whet.models.saved import open_run

    loaded = open_run(model, dtype=torch.float32)
    scorer = Scorer.of(loaded)
    tasks = {path.stem: read_task(path).questions() for path in sorted(folder.glob("*.yaml"))}
    questions = [question for found in tasks.values() for question in found]
    answered = iter(answer(scorer, loaded.tokenizer, questions, ("sum",), cut=True))
    found = {name: [next(answered) for _ in several] for name, several in tasks.items()}
    tree = {
        name: {"logps": [a.logps["sum"].tolist() for a in several], "right": [a.right("sum") for a in several]}
        for name, several in found.items()
    }
    out.write_text(json.dumps(tree))


def compare(folder: Path, tasks: list[str], times: dict[str, float]) -> None:
    """Print both sides, and exit with 1 where they differ."""
    found = json.loads((folder / "ours.json").read_text())
    worst, wrong, rows, hits = 0.0, 0, 0, 0
    for task in tasks:
        [samples] = folder.glob(f"theirs/**/samples_local_{task}_*.jsonl")
        theirs = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda sample: sample["doc_id"])
        wrong += sum(s["acc"] for s in theirs) != sum(found[task]["right"])
        for sample, logps in zip(theirs, found[task]["logps"], strict=True):
            each = [float(response[0]) for response in sample["filtered_resps"]]
            worst = max(worst, *(abs(a - b) for a, b in zip(each, logps, strict=True)))
        rows, hits = rows + len(theirs), hits + sum(found[task]["right"])
    print(f"{len(tasks)} subjects, {rows:,} questions, accuracy {hits / rows:.4f}")
    print(f"largest difference of a log-probability {worst:.1e} nats; subjects whose accuracy differs: {wrong}")
    for side, seconds in times.items():
        print(f"{side:8} {seconds:8.1f} s  {rows / seconds:8.1f} questions a second, whole process")
    print(f"ratio    {times['lm-eval'] / times['whet']:8.2f}")
    sys.exit(worst > TOLERANCE or wrong > 0)


def _lm_eval(args: argparse.Namespace, folder: Path, tasks: list[str]) -> list[str]:
    return [
        args.lm_eval, "run", "--model", "hf", "--model_args", f"pretrained={args.model},dtype=float32",
        "--device", "cpu",
        "--tasks", ",".join(f"local_{task}" for task in tasks), "--include_path", str(folder), "--log_samples",
        "--output_path", str(folder / "theirs"), "--batch_size", args.batch_size,
    ]  # fmt: skip


def _timed(command: list[str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - begin


def _tiny() -> Path:
    return Path(__file__).parents[1] / "src" / "whet" / "models" / "whet-tiny"


if __name__ == "__main__":
    main()
