"""One model, real rows with labels: zero-shot, in context, calibrated, few-shot tuned, tuned on all of them.

    python bench/adaptation.py --data FOLDER [--model NAME] [--k 16] [--seeds 3] [--test 200] [--sets cuad phrasebank]

FOLDER holds domain/medical_pubmedqa (yes, no, maybe), domain/legal_cuad_clauses (does the clause do this?) and
domain/finance_phrasebank (sentiment; sentences that all annotators agree on). Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from whet.fewshot.page import HEADER, table
from whet.fewshot.run import fewshot
from whet.recipe import DataPart

SETS = ("pubmedqa", "cuad", "phrasebank")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="whet-tiny")
    parser.add_argument("--k", type=int, nargs="+", default=[16])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    arguments = parser.parse_args()
    print(f"| rows | {' | '.join(HEADER)} |\n|{'---|' * (len(HEADER) + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.sets:
            found = fewshot(
                arguments.model, rows_of(name, arguments.data / "domain", Path(folder)), k=arguments.k,
                seeds=arguments.seeds, test=arguments.test, all_rows=True,
                done=lambda what, trials, of, name=name: print(f"{name}: {trials}/{of} {what}", file=sys.stderr),
            )  # fmt: skip
            print(f"| **{name}**: the commonest label alone | | {found.commonest:.3f} |{' |' * (len(HEADER) - 2)}")
            for line in table(found)[1]:
                print(f"| {name} | {' | '.join(line)} |", flush=True)


def rows_of(name: str, domain: Path, folder: Path) -> DataPart:
    """Prompt and label of each row."""
    if name == "pubmedqa":
        columns = {"prompt": "CONTEXTS+QUESTION", "completion": "final_decision"}
        return DataPart(path=str(domain / "medical_pubmedqa/ori_pqal.json"), columns=columns)
    if name == "cuad":
        columns = {"prompt": "text+task", "completion": "label"}
        return DataPart(path=str(domain / "legal_cuad_clauses/cuad_clauses.jsonl"), columns=columns, limit=2000)
    lines = (domain / "finance_phrasebank/Sentences_AllAgree.txt").read_text(encoding="latin-1").splitlines()
    pairs = [line.rpartition("@") for line in lines if line.strip()]
    path = folder / "phrasebank.jsonl"
    rows = [json.dumps({"prompt": sentence.strip(), "completion": label.strip()}) for sentence, _, label in pairs]
    path.write_text("\n".join(rows), encoding="utf-8")
    return DataPart(path=str(path))


if __name__ == "__main__":
    main()
