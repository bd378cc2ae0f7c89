"""How far `whet data select` moves a mixture of real rows towards finance.

    python bench/selection.py --data FOLDER [--keep 0.05] [--target 10] [--smoothing 0]

FOLDER holds the rows by domain (domain/, instruct/). The mixture: contract clauses, medical answers and abstracts,
dialogues, instructions, sums, and TAT-QA's questions on annual reports, but for those on 60 of the reports: they are
the target. Prints the share of financial rows before and after, and the ledger's KL reduction.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from whet.data.curation.pipeline import curate
from whet.data.curation.settings import check_curation

REPORTS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=float, default=0.05)
    parser.add_argument("--target", type=int, help="so many target rows; all by default")
    parser.add_argument("--smoothing", type=float)
    arguments = parser.parse_args()
    planted, target = finance(arguments.data / "domain/finance_tatqa")
    rows = [{"text": text, "domain": "finance"} for text in planted]
    rows += [{"text": text, "domain": domain} for domain, text in others(arguments.data)]
    random.Random(1).shuffle(rows)
    random.Random(2).shuffle(target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "target.jsonl"
        lines = [json.dumps({"text": text}) for text in target[: arguments.target]]
        path.write_text("\n".join(lines), encoding="utf-8")
        settings: dict[str, Any] = {"target": str(path), "keep": arguments.keep}
        if arguments.smoothing is not None:
            settings["smoothing"] = arguments.smoothing
        chosen = curate(rows, check_curation({"columns": ["text"], "steps": [{"select": settings}]}, "bench"))
    kept = chosen.rows or []
    print(f"{len(rows):,} rows, {len(lines)} target rows, {len(kept):,} chosen")
    print(f"financial: {share(rows):.1%} before, {share(kept):.1%} after")
    print(json.dumps(chosen.ledger.steps[0].notes["KL reduction"]))


def share(rows: list[dict[str, Any]]) -> float:
    return sum(row["domain"] == "finance" for row in rows) / len(rows)


def finance(folder: Path) -> tuple[list[str], list[str]]:
    """Questions with their report's text and table: those to plant, and those of the target's reports."""
    texts = []
    for name in ("tatqa_dataset_dev.json", "tatqa_dataset_test_gold.json"):
        for block in json.loads((folder / name).read_text(encoding="utf-8")):
            table = "\n".join(" | ".join(row) for row in block["table"]["table"])
            report = "\n".join(paragraph["text"] for paragraph in block["paragraphs"]) + "\n\n" + table
            texts += [
                (block["table"]["uid"], f"{report}\n\n{q['question']}\n{q['answer']}") for q in block["questions"]
            ]
    reports = sorted({report for report, _ in texts})
    random.Random(0).shuffle(reports)
    wanted = set(reports[:REPORTS])
    return [t for report, t in texts if report not in wanted], [t for report, t in texts if report in wanted]


def others(data: Path) -> Iterator[tuple[str, str]]:
    """Domain and text of every other row."""
    domain, instruct = data / "domain", data / "instruct"
    for row in lines_of(domain / "legal_cuad_clauses/cuad_clauses.jsonl"):
        yield "legal", row["text"]
    for row in lines_of(domain / "medquad/medquad_3000.jsonl"):
        yield "medical", f"{row['question']}\n{row['answer']}"
    for row in json.loads((domain / "medical_pubmedqa/ori_pqal.json").read_text(encoding="utf-8")).values():
        yield "medical", "\n".join([row["QUESTION"], *row["CONTEXTS"], row["LONG_ANSWER"]])
    for row in lines_of(domain / "corporate_dialogsum/dialogsum.train.jsonl"):
        yield "dialogue", f"{row['dialogue']}\n{row['summary']}"
    for row in json.loads((instruct / "alpaca_5000/alpaca_5000.json").read_text(encoding="utf-8")):
        yield "instruct", "\n".join([row["instruction"], row["input"], row["output"]])
    for row in lines_of(instruct / "gsm8k/train.jsonl"):
        yield "maths", f"{row['question']}\n{row['answer']}"
    for row in lines_of(instruct / "dolly_2k/dolly_2k_chat.jsonl"):
        yield "instruct", "\n".join(turn["content"] for turn in row["messages"])


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


if __name__ == "__main__":
    main()
