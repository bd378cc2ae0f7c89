"""The same bytes from a Ray cluster, from remote storage's code path, and from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from whet.data.curation.pipeline import curate

WHET = [sys.executable, "-m", "whet"]
STEPS = "seed: 3\nsteps:\n- repair\n- sample: {rows: 3500}\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """4,000 rows, so many that processes are started; every seventh has something to repair."""
    path = tmp_path / "in.jsonl"
    rows = (
        {"prompt": f"question {n}", "completion": "schÃ¶n \r\n" * (n % 7 == 0) + f"answer {n}"} for n in range(4000)
    )
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    (tmp_path / "curate.yaml").write_text(STEPS)
    return path


def test_two_workers_of_a_ray_cluster_give_the_same_files(tmp_path, data):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes(timeout=60)
        for out, words in {"local": [], "ray": ["--ray", cluster.address]}.items():
            command = [*WHET, "data", "run", "curate.yaml", "in.jsonl", f"{out}.parquet", *words]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
            assert done.returncode == 0, done.stderr
    finally:
        cluster.shutdown()
    for kind in ("parquet", "rejects.jsonl"):
        assert (tmp_path / f"local.{kind}").read_bytes() == (tmp_path / f"ray.{kind}").read_bytes()
    local, ray = (json.loads((tmp_path / f"{name}.ledger.json").read_text()) for name in ("local", "ray"))
    assert [step["content"] for step in local["steps"]] == [step["content"] for step in ray["steps"]]


def test_an_address_reads_and_writes_as_a_path_does(tmp_path, data):
    """file:// goes through the same file systems of Arrow as s3:// and gs://."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "more" / "b.rejects.jsonl").write_text("{}\n")
    curate([str(data), str(tmp_path / "more")], ["repair"], tmp_path / "path.jsonl")
    curate([f"file://{data}", f"file://{tmp_path}/more/"], ["repair"], f"file://{tmp_path}/address.jsonl")
    assert (tmp_path / "path.jsonl").read_bytes() == (tmp_path / "address.jsonl").read_bytes()
    assert len((tmp_path / "path.jsonl").read_text().splitlines()) == 4001
    curate(f"file://{tmp_path}/mo*/*.jsonl", ["repair"], tmp_path / "pattern.jsonl")
    assert len((tmp_path / "pattern.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(tmp_path, number):
    with (tmp_path / "in.jsonl").open("w") as file:
        file.writelines(f'{{"text": "row {n} {"x " * 300}"}}\n' for n in range(60_000))
    before = {path.name for path in tmp_path.iterdir()}
    command = [*WHET, "data", "repair", "in.jsonl", "out.jsonl"]
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731 (tests may run with it ignored)
    work = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, preexec_fn=hear)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".whet-*/stage-2")) and time.monotonic() < deadline:
        time.sleep(0.05)  # until it is in the middle of its step
    work.send_signal(number)
    _, said = work.communicate(timeout=60)
    assert work.returncode == 128 + number
    assert b"stopped; nothing was written" in said
    assert {path.name for path in tmp_path.iterdir()} == before


def test_one_step_by_words_and_its_errors(tmp_path, data):
    def whet(*words):
        return subprocess.run([*WHET, "data", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    done = whet("repair", "in.jsonl", "out.jsonl", "unicode=none", "seed=7")
    assert done.returncode == 0
    assert "4,000 rows in out.jsonl" in done.stdout
    ledger = json.loads((tmp_path / "out.ledger.json").read_text())
    assert ledger["seed"] == 7
    assert ledger["steps"][0]["settings"]["unicode"] == "none"
    assert ledger["steps"][0]["reasons"] == {"wrong encoding": 572, "white space": 572}
    again = whet("repair", "in.jsonl", "out.jsonl")
    assert again.returncode == 2
    assert "there is a file already" in again.stderr
    wrong = whet("repair", "in.jsonl", "new.jsonl", "unicod=NFC")
    assert wrong.returncode == 2
    assert "Did you mean 'unicode'" in wrong.stderr
    assert not list(tmp_path.glob("new*"))
    alone = whet("repair", "in.jsonl")
    assert alone.returncode == 2
    assert "an input and an output are needed" in alone.stderr


def test_every_step_is_a_verb():
    from whet.cli.verbs import VERBS
    from whet.data.steps import STEPS

    assert list(VERBS) == list(STEPS)
