"""`whet data toxic-train`, `toxic-test` and `toxic` on the command line, one after another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whet.cli import main


def whet(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["whet", "data", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_train_test_and_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kind, rude, nouns = ["kindly", "lovely", "pleased"], ["rotten", "foul", "vile"], ["soup", "roof", "women", "men"]
    rows = [
        {"text": f"{(rude if n % 2 else kind)[n % 3]} {nouns[n % 4]} {'i' * (n // 12)}", "y": ["fine", "bad"][n % 2]}
        for n in range(240)
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["rows.jsonl", "--text", "text", "--label", "y"]

    assert whet("toxic-train", *columns, "--output", "rude", monkeypatch=monkeypatch) == 2
    assert "--toxic" in capsys.readouterr().err
    assert not Path("rude").exists()
    columns += ["--toxic", "bad"]
    assert whet("toxic-train", *columns, "--output", "rude", "--name", "rude", monkeypatch=monkeypatch) == 0
    assert whet("toxic-test", *columns, "--scorer", "rude", "--by", "group", monkeypatch=monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "240 texts, 120 toxic" in shown
    assert "women" in shown
    assert whet("toxic", "rows.jsonl", "out.jsonl", "scorer=rude", "--quiet", monkeypatch=monkeypatch) == 0
    out = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    right = sum((row["toxic"] == ["rude"]) == (row["y"] == "bad") for row in out)
    assert right > 230
