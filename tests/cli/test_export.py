"""`whet export` as it is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def whet(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "whet", *map(str, words)], capture_output=True, text=True, check=False)


def test_an_export_shows_its_checks_and_what_to_run_next(lora_run: Path, tmp_path: Path) -> None:
    done = whet("export", lora_run, "--to", "hf", "--out", tmp_path / "hf", "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    for name in ("merged layers", "chat template", "stop tokens", "weights", "logits", "greedy tokens"):
        assert name in done.stdout
    assert done.stdout.rstrip().endswith(f"Next: whet chat {tmp_path / 'hf'}")
    again = whet("export", lora_run, "--out", tmp_path / "hf")
    assert again.returncode == 2
    assert again.stderr.splitlines()[0] == f"error: --out {tmp_path / 'hf'}: it is not empty"


def test_bad_input_leaves_nothing_behind(lora_run: Path, tmp_path: Path) -> None:
    (lora_run / "adapter" / "adapter_config.json").unlink()
    done = whet("export", lora_run, "--to", "gguf", "--out", tmp_path / "new" / "out")
    assert done.returncode == 2
    assert "the run has made nothing yet" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()
