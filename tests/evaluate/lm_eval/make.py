"""Makes expected.json: what lm-eval 0.4.13 says of these tasks for whet-tiny.

cd tests/evaluate/lm_eval && OTHER_ENV/bin/python make.py       # OTHER_ENV holds lm-eval, transformers and torch
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MODEL = HERE.parents[2] / "src" / "whet" / "models" / "whet-tiny"

with tempfile.TemporaryDirectory() as out:
    command = [
        str(Path(sys.executable).with_name("lm-eval")), "run", "--model", "hf", "--model_args",
        f"pretrained={MODEL},dtype=float32", "--tasks", "simple_questions,simple_words", "--include_path", str(HERE),
        "--log_samples", "--output_path", out, "--batch_size", "4", "--device", "cpu",
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=HERE)
    found = {}
    for file, task in (("task", "simple_questions"), ("words", "simple_words")):
        [samples] = Path(out).glob(f"**/samples_{task}_*.jsonl")
        rows = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda row: row["doc_id"])
        found[file] = {
            "logps": [[float(response[0]) for response in row["filtered_resps"]] for row in rows],
            "acc": [row["acc"] for row in rows],
            "acc_norm": [row.get("acc_norm") for row in rows],
        }
(HERE / "expected.json").write_text(json.dumps(found, indent=1) + "\n")
