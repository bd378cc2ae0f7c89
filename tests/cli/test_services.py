"""What the command line lends to steps of curation, against the commands that do the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from whet.cli import main
from whet.cli.services import generate

PROMPTS = ["where is the cat?", "the dog"]


def test_a_lent_model_answers_as_whet_generate_does(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", str(model_folder), *PROMPTS, "--json", "--max-new-tokens", "12"]
    monkeypatch.setattr(sys, "argv", ["whet", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    told = [json.loads(line)["completion"] for line in capsys.readouterr().out.splitlines()]
    long = "the cat sat on the mat " * 40  # more than the model takes
    found = generate([PROMPTS[0], long, PROMPTS[1]], model=str(model_folder), max_new_tokens=12)
    assert found == [told[0], "", told[1]]
    assert all(told)


def test_a_step_gets_it_from_the_command_line(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows.write_text("".join(json.dumps({"prompt": p, "completion": "yes"}) + "\n" for p in PROMPTS))
    settings = ["by=paraphrase", f"model={model_folder}", "max_tokens=12", "temperature=0", "length=[0.01,100]"]
    monkeypatch.setattr(sys, "argv", ["whet", "data", "augment", str(rows), str(out), *settings])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    ledger = json.loads((tmp_path / "out.ledger.json").read_text())["steps"][0]
    assert ledger["notes"]["model"] == {"asked": 2}
    assert ledger["notes"]["made"] + ledger["notes"]["refused"] == 2
