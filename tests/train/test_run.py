"""Whole runs: what they leave behind, and that stopping, killing and resuming change nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from whet.api import train
from whet.errors import Interrupted, PreflightError, RunError, TrainingError
from whet.train.checkpoint import steps_saved
from whet.train.offline import Position, _check_explosion
from whet.train.run import resume, run


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def result(folder: Path) -> dict[str, torch.Tensor]:
    adapter = folder / "adapter" / "adapter_model.safetensors"
    return load_file(adapter if adapter.exists() else folder / "model" / "model.safetensors")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_leaves_everything_later_commands_read(recipe_of: Any) -> None:
    done = run(recipe_of(), quiet=True)
    events = lines(done.folder)
    assert {path.name for path in done.folder.iterdir()} == {
        "recipe.yaml", "preflight.json", "metrics.jsonl", "summary.json", "checkpoints", "adapter", "report.html",
    }  # fmt: skip
    steps = [event for event in events if "loss" in event]
    assert [event["step"] for event in steps] == list(range(1, 13))  # 24 rows, 4 a step, twice
    assert sum(event["rows"] for event in steps) == 48
    assert events[0]["step"] == 0
    assert done.summary["before"]["loss"] == events[0]["evaluation"]["loss"]
    assert done.summary["after"]["loss"] < done.summary["before"]["loss"]
    assert done.summary["status"] == "finished"
    assert steps_saved(done.folder)[-1] == 12


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_result_loads_with_plain_libraries_and_gives_the_same_logits(recipe_of: Any, method: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = recipe_of(method=method)
    done = run(recipe, quiet=True)
    if method == "lora":
        base = AutoModelForCausalLM.from_pretrained(recipe.model.name, dtype=torch.float32)
        loaded = PeftModel.from_pretrained(base, done.folder / "adapter")
    else:
        loaded = AutoModelForCausalLM.from_pretrained(done.folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(done.folder / done.summary["result"])
    ids = tokenizer("the cat sat on the", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids).logits, done.model.eval()(ids).logits)
    assert tokenizer.chat_template == done.tokenizer.chat_template


def test_figures_before_training_are_those_of_plain_transformers(recipe_of: Any) -> None:
    from transformers import AutoModelForCausalLM

    from whet.data import read, split
    from whet.tokens.template import Renderer

    recipe = recipe_of()
    done = run(recipe, quiet=True)
    model = AutoModelForCausalLM.from_pretrained(recipe.model.name, dtype=torch.float64)
    _, held_out = split(read(recipe.data), 0.2, 0)
    total, targets, size = 0.0, 0, 0
    for example in held_out:
        (rendered,) = Renderer(done.tokenizer).conversation(example.messages)
        labels = torch.where(torch.from_numpy(rendered.targets), torch.from_numpy(rendered.ids).long(), -100)
        learnt = int(rendered.targets.sum())
        ids = torch.from_numpy(rendered.ids).long()[None]
        total += model(input_ids=ids, labels=labels[None]).loss.item() * learnt
        targets += learnt
        size += len(example.messages[-1]["content"])
    assert done.summary["before"]["loss"] == pytest.approx(total / targets, rel=1e-5)
    assert done.summary["before"]["perplexity"] == pytest.approx(torch.tensor(total / targets).exp().item(), rel=1e-5)
    assert done.summary["before"]["bits_per_byte"] == pytest.approx(total / 0.6931471805599453 / size, rel=1e-5)


def test_neither_packs_nor_shared_prefixes_change_a_run(recipe_of: Any) -> None:
    plain = run(recipe_of("plain", share_prefixes=False, pack_tokens=4096), quiet=True)
    small = run(recipe_of("small", pack_tokens=64), quiet=True)
    for a, b in zip(lines(plain.folder), lines(small.folder), strict=True):
        if "loss" in a:
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
            assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)


class _Stop(Exception):
    pass


@pytest.mark.parametrize("method", [{"kind": "lora", "lora_dropout": 0.2}, "full"], ids=["lora", "full"])
def test_resumed_in_the_middle_of_an_epoch_is_uninterrupted_bit_for_bit(
    recipe_of: Any, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(recipe_of("whole", method), quiet=True)
    from whet.train.engine import Engine

    real, taken = Engine.optim_step, []

    def optim_step(self: Engine, rate: float) -> float:
        taken.append(rate)
        if len(taken) == 8:  # after the checkpoint of step 6, in the second epoch
            raise _Stop
        return real(self, rate)

    monkeypatch.setattr(Engine, "optim_step", optim_step)
    with pytest.raises(_Stop):
        run(recipe_of("broken", method), quiet=True)
    monkeypatch.undo()
    folder = whole.folder.parent / "broken"
    assert steps_saved(folder)[-1] == 6
    again = resume(folder, quiet=True)
    assert_same(result(again.folder), result(whole.folder))
    kept = ("step", "loss", "grad_norm", "evaluation")
    strip = lambda event: {key: event[key] for key in kept if key in event}  # noqa: E731
    assert [strip(event) for event in lines(folder)] == [strip(event) for event in lines(whole.folder)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_names_the_way_on(recipe_of: Any, number: int) -> None:
    from whet.train.engine import Engine

    whole = run(recipe_of("whole"), quiet=True)
    real = Engine.optim_step
    steps = []

    def optim_step(self: Engine, rate: float) -> float:
        steps.append(rate)
        if len(steps) == 5:
            os.kill(os.getpid(), number)
        return real(self, rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "optim_step", optim_step)
        with pytest.raises(Interrupted) as stopped:
            run(recipe_of("stopped"), quiet=True)
    assert stopped.value.exit_code == 128 + number
    assert "--resume" in str(stopped.value)
    folder = whole.folder.parent / "stopped"
    assert steps_saved(folder)[-1] == 5
    assert_same(result(resume(folder, quiet=True).folder), result(whole.folder))


def test_kill_9_at_random_moments_loses_nothing(recipe_of: Any, tmp_path: Path) -> None:
    """Three kills here; bench/kill.py does ten and more."""
    whole = run(recipe_of("whole"), quiet=True)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((whole.folder / "recipe.yaml").read_text().replace(str(whole.folder), str(tmp_path / "killed")))
    folder = tmp_path / "killed"
    draw = random.Random(0)
    command = [sys.executable, "-m", "whet", "train", str(recipe), "--quiet"]
    alike = {**os.environ, "OMP_NUM_THREADS": "1"}  # as many threads as here: sums are the same only in the same order
    for _ in range(3):
        process = subprocess.Popen(command, env=alike)
        wait_for(folder / "metrics.jsonl", process)
        time.sleep(draw.random() * 0.4)
        process.kill()
        process.wait()
        command = [sys.executable, "-m", "whet", "train", "--resume", str(folder), "--quiet"]
    subprocess.run(command, check=True, env=alike)
    assert_same(result(folder), result(whole.folder))


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.poll() is None and not (path.exists() and path.stat().st_mtime_ns > before):
        time.sleep(0.01)


OVERSHOOT = {"learning_rate": 3.0, "lr_scheduler_type": "constant", "warmup_steps": 0, "max_grad_norm": 0}


def test_the_best_evaluation_is_what_is_saved(recipe_of: Any) -> None:
    done = run(recipe_of(**OVERSHOOT, evaluate_every=1, max_steps=2), quiet=True)
    first, last = (e["evaluation"]["loss"] for e in lines(done.folder) if "evaluation" in e and e["step"])
    assert first < last, "the settings of this test are to overshoot"
    assert done.summary["best_step"] == 1
    assert done.summary["after"]["loss"] == pytest.approx(first, rel=1e-6)


def test_early_stopping_says_why(recipe_of: Any) -> None:
    done = run(recipe_of(**OVERSHOOT, evaluate_every=1, early_stopping_patience=1), quiet=True)
    assert done.summary["steps"] == 2
    assert "early_stopping_patience" in done.summary["stopped_because"]


def test_a_loss_that_is_no_number_is_named_and_stopped(recipe_of: Any) -> None:
    with pytest.raises(TrainingError, match=r"(?s)is nan at step 2; rows of the step: .*rows\.jsonl:.*learning_rate"):
        run(recipe_of(**{**OVERSHOOT, "learning_rate": 1e38}), quiet=True)


def test_a_loss_that_explodes_is_named_and_stopped() -> None:
    """Smoothed by 0.95 from 1.0: after n losses of 21 it is 21 - 20 * 0.95^n, over 4 = 3 * 1 + 1 from n = 4 on."""
    position = Position({})
    for loss in (1.0, 21.0, 21.0, 21.0):
        _check_explosion(loss, position)
    assert position.smooth_loss == pytest.approx(21 - 20 * 0.95**3)
    with pytest.raises(TrainingError, match=r"explodes(?s:.*)learning_rate"):
        _check_explosion(21.0, position)


def test_a_folder_with_another_run_is_left_alone(recipe_of: Any) -> None:
    done = run(recipe_of(max_steps=1), quiet=True)
    before = (done.folder / "summary.json").read_bytes()
    with pytest.raises(RunError, match="not empty"):
        run(recipe_of(), quiet=True)
    assert (done.folder / "summary.json").read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(recipe_of: Any, tiny_model: Any) -> None:
    recipe = recipe_of(max_steps=3)
    done = run(recipe, quiet=True)
    (done.folder / "summary.json").unlink()
    tiny_model(seed=7).save_pretrained(recipe.model.name)
    with pytest.raises(RunError, match="another model"):
        resume(done.folder, quiet=True)


def test_nothing_is_made_when_preflight_refuses(recipe_of: Any, rows: Path) -> None:
    with rows.open("a") as file:
        long = [{"role": "user", "content": "the cat " * 200}, {"role": "assistant", "content": "sat"}]
        file.write("\n" + json.dumps({"messages": long}))
    with pytest.raises(PreflightError, match=r"rows\.jsonl:31"):
        run(recipe_of(), quiet=True)
    assert not (rows.parent / "run").exists()


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(recipe_of: Any, tmp_path: Path) -> None:
    """The operating system refuses files over a size that the first checkpoint's optimiser state exceeds."""
    recipe = tmp_path / "recipe.yaml"
    whole = run(recipe_of("whole"), quiet=True)
    size = (whole.folder / "checkpoints" / "step-12" / "tensors.safetensors").stat().st_size
    folder = tmp_path / "full-disk"
    recipe.write_text((whole.folder / "recipe.yaml").read_text().replace(str(whole.folder), str(folder)))
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size - 1}, {size - 1}))\n"
        f"sys.argv = ['whet', 'train', {str(recipe)!r}, '--quiet']\n"
        "from whet.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "--resume" in done.stderr
    whole_ones = [path.name for path in (folder / "checkpoints").iterdir()]
    assert whole_ones == ["best-2"], "the weights alone fit; what did not is not there in part"
    assert_same(result(resume(folder, quiet=True).folder), result(whole.folder))


def test_from_python(model_folder: Path, rows: Path, tmp_path: Path) -> None:
    import whet

    loaded = whet.load(str(model_folder))
    done = train(
        loaded, str(rows), quiet=True, method=whet.LoRA(r=2), samples=0, output=str(tmp_path / "python"),
        train={"max_steps": 2, "max_length": 96},
    )  # fmt: skip
    assert done.summary["steps"] == 2
    assert done.model is not None
    config = json.loads((done.folder / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 2
    assert config["lora_alpha"] == 4


def test_trackers_get_every_event(recipe_of: Any) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = recipe_of(max_steps=3)
    recipe.track = ["tensorboard"]
    done = run(recipe, quiet=True)
    events = EventAccumulator(str(done.folder / done.folder.name))
    events.Reload()
    told = [e["loss"] for e in lines(done.folder) if "loss" in e]
    assert [scalar.value for scalar in events.Scalars("train/loss")] == pytest.approx(told)
    assert "evaluation/perplexity" in events.Tags()["scalars"]
