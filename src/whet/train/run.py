"""A run from recipe to result: read, preflight, load, probe, train, measure, save, report.

All that can be wrong with the recipe, the rows or the model is found before the run folder is made.
"""

from __future__ import annotations

import json
import math
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from whet.errors import Interrupted, RecipeError, RunError, TrainingError, WhetError
from whet.methods import METHODS
from whet.models.load import Loaded, quietly
from whet.recipe import PolicyPart, Recipe, load_recipe
from whet.rows import Row
from whet.train.checkpoint import (
    load_checkpoint,
    rows_fingerprint,
    settings_fingerprint,
    steps_saved,
    whole_folder,
)
from whet.train.engine import Engine
from whet.train.evaluator import Evaluator, MakeEvaluator, When, evaluator_of
from whet.train.folder import free_folder, not_written, read_summary, run_folder, write_text
from whet.train.offline import Position, offline
from whet.train.online import held_out as held_out_rewards
from whet.train.online import online
from whet.train.preflight import check, notes
from whet.train.progress import Progress, Silent
from whet.train.reference import frozen, with_reference
from whet.train.report import write_report
from whet.train.rollout import asker_of
from whet.train.runs import is_run
from whet.train.samples import answers, sample_prompts
from whet.train.schedule import Schedule
from whet.train.start import Rows, open_rows, start
from whet.train.track import check_trackers, log_event, start_trackers

Tell = Callable[[dict[str, Any]], None]
Measure = Callable[[], dict[str, float]]
Learn = Callable[[Schedule, Tell, Measure | None], str | None]


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the figures of summary.json, and the model as trained (None where only read)."""

    folder: Path
    summary: dict[str, Any]
    model: Any = None
    tokenizer: Any = None


def run(
    recipe: Recipe, quiet: bool = False, loaded: Loaded | None = None, make_evaluator: MakeEvaluator | None = None
) -> Run:
    """Train as the recipe says, in a new run folder. `loaded` is used instead of the recipe's model where given;
    `make_evaluator` is asked for what measures the recipe's `evaluate`.

    Raises RecipeError for `method: auto`, which `whet.api.run` resolves first.
    """
    if recipe.method.kind == "auto":
        raise RecipeError(
            "auto is no method yet: it must be resolved first",
            where="method.kind",
            do="whet.train(...) and `whet train` do that; or take the recipe that `whet advise` writes",
        )
    folder = free_folder(recipe)
    return _run(recipe, folder, quiet, loaded, make_evaluator, resumed=False)


def resume(folder: Path | str, quiet: bool = False, make_evaluator: MakeEvaluator | None = None) -> Run:
    """Go on with an unfinished run from its newest checkpoint (from its start where there is none yet).

    Raises RunError for a folder that is no run, and for checkpoints of another model, other rows or other settings.
    """
    folder = Path(folder)
    if not (folder / "recipe.yaml").is_file():
        raise RunError("no run: there is no recipe.yaml", where=str(folder), do="`whet runs` lists the runs")
    if (summary := read_summary(folder)).get("status") == "finished":
        return Run(folder, summary)
    return _run(load_recipe(folder / "recipe.yaml"), folder, quiet, None, make_evaluator, resumed=True)


def _run(
    recipe: Recipe,
    folder: Path,
    quiet: bool,
    loaded: Loaded | None,
    make_evaluator: MakeEvaluator | None,
    resumed: bool,
) -> Run:
    began = time.perf_counter()
    check_trackers(recipe.track)
    evaluator = evaluator_of(recipe, folder, make_evaluator)
    rows = open_rows(recipe, loaded)
    check(rows.prepared.ledger, recipe)
    accelerator = Accelerator(log_with=recipe.track or None, project_dir=str(folder))
    with Silent() if quiet else Progress() as progress:
        started = start(recipe, rows, accelerator, recipe.train.seed, loaded, progress.note)
        fingerprint = {
            "model": started.fingerprint,
            "rows": rows_fingerprint(rows.prepared.train),
            "settings": settings_fingerprint(recipe),
        }
        position = Position(fingerprint)
        tensors: dict[str, torch.Tensor] = {}
        if resumed and (saved := steps_saved(folder)):
            tensors, kept = load_checkpoint(folder, f"step-{saved[-1]}", fingerprint)
            position = Position.of(kept, folder / "checkpoints" / f"step-{saved[-1]}")
        for note in [*started.notes, *notes(rows.prepared.ledger)]:
            progress.note(note)
        with run_folder(folder, recipe, rows.prepared.ledger, position, resumed):
            start_trackers(accelerator, recipe, folder)
            work = _Work(
                recipe, folder, started.engine, rows, position, progress, accelerator, started.parameters, evaluator
            )
            try:
                return work.finish(work.train(tensors), time.perf_counter() - began)
            except (Interrupted, TrainingError):
                if is_run(folder):
                    write_report(folder)  # what there is up to here
                raise


@dataclass
class _Work:
    """The parts of a run under way."""

    recipe: Recipe
    folder: Path
    engine: Engine
    rows: Rows
    position: Position
    progress: Progress
    accelerator: Accelerator
    parameters: int  # of the model before the method was put on
    evaluator: Evaluator | None
    when: When = "before"

    def train(self, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Measure, train from `tensors` on (a checkpoint's, or none), measure again. Returns what summary.json says."""
        model, renderer = self.engine.language_model.model, self.rows.renderer
        asked = 0 if self.engine.language_model.rewards else self.recipe.samples
        prompts = sample_prompts(self.rows.held_out, renderer, asked, self.rows.max_length)
        learn, measure = self._online() if isinstance(self.recipe.objective, PolicyPart) else self._offline()
        before = measure() if measure else None
        before_texts = answers(model, renderer, [ids for ids, _ in prompts])
        schedule = Schedule.of(self.recipe, len(self.rows.prepared.train))
        if before is not None and not self.position.evaluations:
            self.position.evaluations.append((0, before["loss"]))
            self.tell({"step": 0, "epoch": 0.0, "evaluation": before})
        self._evaluate("before", self.position.step == 0)
        set_seed(self.recipe.train.seed)
        if tensors:
            self.engine.load_state(tensors)
        self.progress.start(schedule.total_steps, self.position.step)
        self.when = "during"
        stopped = learn(schedule, *self._evaluating(schedule, measure))
        self.when = "after"
        best = self._take_best()
        after = measure() if measure else None
        self._evaluate("after", at=best)
        texts = answers(model, renderer, [ids for ids, _ in prompts])
        samples = [
            {**told, "before": old, "after": new}
            for (_, told), old, new in zip(prompts, before_texts, texts, strict=True)
        ]
        epochs = round(schedule.epoch_of(self.position.step), 4)
        return {
            "epochs": epochs,
            "before": before,
            "after": after,
            "best_step": best,
            "samples": samples,
            "stopped_because": stopped,
            **({"evaluation": self.evaluator.outcome()} if self.evaluator else {}),
        }

    def _offline(self) -> tuple[Learn, Measure | None]:
        """Learning from rows that are there, and what gives the held-out figures."""
        train, held_out = self.rows.prepared.train, self.rows.prepared.validation
        if self.engine.learning.reference:
            model, method = self.position.fingerprint["model"], self.recipe.method
            train = with_reference(self.engine, train, model, method)
            held_out = with_reference(self.engine, held_out, model, method) if held_out else []

        def learn(schedule: Schedule, tell: Tell, measure: Measure | None) -> str | None:
            return offline(self.engine, train, schedule, self.position, self.folder, tell, measure)

        if not held_out:
            return learn, None
        if self.recipe.objective.kind != "sft":
            return learn, lambda: objective_figures(self.engine, held_out)
        bytes_R = target_bytes(held_out, self.rows.renderer.tokenizer)
        return learn, lambda: held_out_figures(self.engine, held_out, bytes_R)

    def _online(self) -> tuple[Learn, Measure | None]:
        """Learning from sampled answers, and what gives the reward on held-out prompts."""
        part, prepared = self.recipe.objective, self.rows.prepared
        assert isinstance(part, PolicyPart)
        examples = [*self.rows.train, *self.rows.held_out]
        asker = asker_of(self.engine, self.rows.renderer, part, examples)
        reference = frozen(self.engine, self.recipe.method) if part.beta else None

        def learn(schedule: Schedule, tell: Tell, measure: Measure | None) -> str | None:
            to = (self.position, self.folder, tell, self.progress.note, measure)
            return online(self.engine, asker, prepared.train, reference, schedule, *to)

        if not prepared.validation:
            return learn, None
        return learn, lambda: held_out_rewards(asker, prepared.validation, self._keep)

    def _keep(self, samples: list[dict[str, Any]]) -> None:
        """Answers along the way, a line each in samples.jsonl. Afterwards the weights may be those of an earlier step,
        whose answers are there."""
        if self.when == "after":
            return
        step = 0 if self.when == "before" else self.position.step
        lines = [json.dumps({"step": step, **sample}, ensure_ascii=False) for sample in samples]
        self._add("samples.jsonl", "".join(line + "\n" for line in lines))

    def _add(self, name: str, text: str) -> None:
        try:
            with (self.folder / name).open("a", encoding="utf-8", errors="replace") as file:
                file.write(text)
        except OSError as error:
            raise not_written(self.folder, error) from error

    def _evaluating(self, schedule: Schedule, measure: Measure | None) -> tuple[Tell, Measure | None]:
        """`tell` and `measure` of the loop, which also evaluate where the recipe says so. The last step is left to the
        evaluation after training."""
        every = self.recipe.evaluate.every
        if self.evaluator is None or every == 0:
            return self.tell, measure

        def tell(event: dict[str, Any]) -> None:
            self.tell(event)
            if every != "evaluation" and "loss" in event and event["step"] % every == 0:
                during()

        def measured() -> dict[str, float]:
            assert measure is not None
            figures = measure()
            if every == "evaluation":
                during()
            return figures

        def during() -> None:
            if self.position.step < schedule.total_steps:
                self._evaluate("during")

        return tell, measured if measure else None

    def _evaluate(self, when: When, told: bool = True, at: int | None = None) -> None:
        """Measure what `evaluate:` asks for and tell it, as of step `at` or the present one. Once training has begun a
        failure (a judge that is down, say) is noted and ends nothing."""
        if self.evaluator is None:
            return
        devices = [self.engine.device] if self.engine.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):
                figures = self.evaluator(self.engine, self.rows.renderer, self.rows.held_out, when)
        except WhetError as error:
            if when == "before":
                raise
            self.progress.note(f"evaluation at step {self.position.step} failed: {error.where or ''} {error.what}")
            return
        if told:
            step = self.position.step if at is None else at
            epoch = Schedule.of(self.recipe, len(self.rows.prepared.train)).epoch_of(step)
            self.tell({"step": step, "epoch": round(epoch, 4), "metrics": figures})

    def tell(self, event: dict[str, Any]) -> None:
        """To metrics.jsonl, the trackers and the screen."""
        self._add("metrics.jsonl", json.dumps(event) + "\n")
        log_event(self.accelerator, event)
        shown = {"evaluation": self.progress.evaluation, "metrics": self.progress.metrics}
        next((show for key, show in shown.items() if key in event), self.progress.step)(event)

    def finish(self, outcome: dict[str, Any], wall_seconds: float) -> Run:
        """Save the result, the summary and the report."""
        model, tokenizer = self.engine.language_model.model, self.rows.renderer.tokenizer
        method = METHODS[self.recipe.method.kind]
        with quietly(), whole_folder(self.folder / method.result) as temporary:
            method.save(model, temporary)
            tokenizer.save_pretrained(temporary)
        summary = {
            "status": "finished",
            "validation_rows": len(self.rows.prepared.validation),
            **self._figures(),
            **outcome,
            "result": method.result,
            "wall_seconds": round(wall_seconds, 3),
        }
        write_text(self.folder / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False))
        self.accelerator.end_training()
        write_report(self.folder)
        self.progress.summary(summary, self.folder)
        return Run(self.folder, summary, model, tokenizer)

    def _take_best(self) -> int | None:
        """Put the weights of the best evaluation back where the recipe asks for it; the step they are of."""
        best = self.position.best
        if best is None or not self.recipe.train.load_best:
            return best[0] if best else None
        if best[0] != self.position.step:
            tensors, _ = load_checkpoint(self.folder, f"best-{best[0]}", self.position.fingerprint)
            with torch.no_grad():
                for name, parameter in self.engine.trainable.items():
                    parameter.copy_(tensors[f"parameter.{name}"])
        return best[0]

    def _figures(self) -> dict[str, Any]:
        position = self.position
        return {
            "model": {
                "name": self.recipe.model.name,
                "architecture": self.engine.language_model.config.model_type,
                "parameters": self.parameters,
                "trainable_parameters": sum(p.numel() for p in self.engine.trainable.values()),
            },
            "method": self.recipe.method.kind,
            "steps": position.step,
            **{
                key: getattr(position, key) for key in ("seconds", "rows", "tokens", "computed_tokens", "target_tokens")
            },
            "tokens_per_second": position.tokens / position.seconds if position.seconds else None,
            "peak_memory_bytes": peak_memory(self.engine.device),
            "device": str(self.engine.device),
            "dtype": str(self.engine.compute_dtype).removeprefix("torch."),
            "attention": "trie" if self.engine.language_model.shares else "padded",
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("whet", "torch", "transformers", "peft", "accelerate")},
            },
        }


def held_out_figures(engine: Engine, rows: Sequence[Row], bytes_R: Sequence[int]) -> dict[str, float]:
    """Loss (nats a target, every target alike), perplexity = exp(loss), and bits a byte of the targets' text."""
    total = sum(float(logps.sum()) for logps in engine.scores(rows))
    targets = sum(row.target_count for row in rows)
    loss = -total / targets
    figures = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    size = sum(bytes_R)
    return {**figures, "bits_per_byte": -total / math.log(2) / size} if size else figures


def objective_figures(engine: Engine, rows: Sequence[Row]) -> dict[str, float]:
    """The objective's loss and metrics, and the perplexity of the answers that it wants: exp of nats a target."""
    figures = engine.measure(rows)
    nats = next((figures.pop(name) for name in ("chosen_nats", "good_nats") if name in figures), None)
    return figures if nats is None else {**figures, "perplexity": math.exp(min(nats, 700.0))}


def target_bytes(rows: Sequence[Row], tokenizer: Any) -> list[int]:
    """Bytes of UTF-8 in the text of each row's targets, special tokens left out."""
    texts = tokenizer.batch_decode([row.ids[1:][row.targets[1:]].tolist() for row in rows], skip_special_tokens=True)
    return [len(text.encode()) for text in texts]


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device's memory on CUDA, else the most that this process ever held."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
