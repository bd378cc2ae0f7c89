"""Short real runs of several ways to adapt a model on the user's rows, side by side.

Zero-shot and few-shot train nothing; prefix-tuning, LoRA at two ranks, bottleneck adapters and full fine-tuning are
trained for the same steps on the same rows. Each way's learning rate is the best of three, or of four where the best
lies at an edge, by the training loss of the first seed's last quarter, so that held-out rows choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whet.advise.trial import Result
from whet.advise.verdict import Contender, Interval, over_seeds, recommend
from whet.advise.workers import Workers
from whet.errors import RunError
from whet.methods import METHODS
from whet.recipe import Recipe, check_recipe

SHOTS = 4
STRIDE = 3
"""Between a learning rate that is tried and the next."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Way:
    """A way to adapt: the recipe's method, and the learning rates to try (none: the base as it is)."""

    name: str
    method: dict[str, Any]
    rates: tuple[float, ...] = ()
    shots: int = 0

    @property
    def trains(self) -> bool:
        return bool(self.rates)


_NOTHING = {"kind": "lora", "r": 1}
"""A LoRA that is not trained changes nothing: it carries the base through the engine."""

WAYS_THAT_TRAIN: list[tuple[str, dict[str, Any], float]] = [
    ("prefix", {"kind": "prefix"}, 3e-3),
    ("lora r=4", {"kind": "lora", "r": 4}, 3e-4),
    ("lora r=16", {"kind": "lora", "r": 16}, 3e-4),
    ("bottleneck", {"kind": "bottleneck"}, 3e-4),
    ("full", {"kind": "full"}, 5e-5),
]
"""Name, method, and the learning rate that is usual for a model of a billion parameters."""


def ways_for(recipe: Recipe, parameters: int) -> list[Way]:
    """Those that this recipe can have (a quantized base cannot be trained in full), for a model of so many parameters.

    Smaller models want higher rates: the rates are a third, one and three times the usual one, times
    sqrt(1e9 / parameters). That is a rule of thumb, and which was used is in the table.
    """
    ways = [Way("zero-shot", _NOTHING), Way("few-shot", _NOTHING, shots=SHOTS)]
    for name, method, usual in WAYS_THAT_TRAIN:
        if method["kind"] in METHODS and (METHODS[method["kind"]].facts.quantizes or not recipe.model.quantize):
            middle = usual * (1e9 / max(parameters, 1)) ** 0.5
            ways.append(Way(name, method, tuple(_digit(middle * factor) for factor in (1 / STRIDE, 1, STRIDE))))
    return ways


def _digit(rate: float) -> float:
    return float(f"{rate:.1g}")


@dataclass
class Line:
    """A way, measured. `loss` is in nats a target, `bits` a byte of the targets, `accuracy` a share or None."""

    name: str
    trained: int
    loss: Interval
    bits: Interval
    accuracy: Interval | None
    seconds: Interval
    peak_bytes: Interval
    learning_rate: float | None
    shots: float
    behind: Interval = field(default_factory=lambda: Interval(0.0, 0.0, 0.0))


@dataclass
class Pilot:
    """What a pilot found. `recommended` is a line's name; `best` the one with the lowest held-out loss."""

    lines: list[Line]
    recommended: str
    best: str
    recipe: Recipe
    reason: str
    notes: list[str]
    seeds: int
    steps: int
    held_out: int


def run_pilot(
    recipe: Recipe,
    ways: list[Way],
    seeds: int,
    steps: int,
    say: Say = lambda text: None,
    done: Callable[[int, int], None] = lambda trials, of: None,
) -> Pilot:
    """Run every way with every seed and judge them. `say` is told of what was left out, `done` how far it is.

    Raises RunError where no way could be run, or no row is held out.
    """
    if recipe.validation == 0:
        raise RunError(
            "a pilot measures on held-out rows", where="validation=0", do="set validation=0.1, or name a file"
        )
    total = sum(seeds + max(0, len(way.rates) - 1) if way.trains or way.shots else 1 for way in ways)
    measured: dict[str, list[Result]] = {}
    rates: dict[str, float | None] = {}
    notes: list[str] = []
    at_edge: list[str] = []
    finished = 0

    def tell(unplanned: int) -> None:
        nonlocal finished, total
        finished, total = finished + 1, total + unplanned
        done(finished, total)

    with Workers() as workers:
        for way in ways:
            try:
                found = _measure(workers, recipe, way, seeds, steps, tell)
            except RunError as error:
                notes.append(f"{way.name} is left out: {error.what}")
                say(notes[-1])
                continue
            measured[way.name], rates[way.name] = found.results, found.rate
            if found.at_edge:
                at_edge.append(f"{way.name} ({found.rate:g})")
    _drop_unlike(measured, notes)
    if not measured:
        raise RunError("no way to adapt could be run: " + "; ".join(notes), where="pilot")
    if at_edge:
        notes.append(f"the best learning rate lay at the edge of those tried: {', '.join(at_edge)}")
    notes += _no_better_than_the_commonest(measured)
    return _judge(recipe, ways, measured, rates, notes, seeds, steps)


@dataclass(frozen=True)
class _Measured:
    """Results of all seeds at the way's best learning rate, and whether none beyond it was tried."""

    results: list[Result]
    rate: float | None = None
    at_edge: bool = False


def _measure(
    workers: Workers, recipe: Recipe, way: Way, seeds: int, steps: int, tell: Callable[[int], None]
) -> _Measured:
    """Run a way. Where its best learning rate is the lowest or the highest, one more is tried beyond that, so that a
    rule of thumb that is off by its own stride handicaps nobody."""

    def trial(seed: int, rate: float | None, planned: bool = True) -> Result:
        result = Result(**workers.run(_recipe(recipe, way, rate), seed, steps if way.trains else 0, way.shots))
        tell(0 if planned else 1)
        return result

    first = recipe.train.seed
    if not way.trains:  # without anything random, one seed says all
        return _Measured([trial(first + i, None) for i in range(seeds if way.shots else 1)])
    tried = {rate: trial(first, rate) for rate in way.rates}
    rate = _best(tried)
    if (beyond := _beyond(rate, tried)) is not None:
        tried[beyond] = trial(first, beyond, planned=False)
        rate = _best(tried)
    results = [tried[rate], *(trial(first + i, rate) for i in range(1, seeds))]
    return _Measured(results, rate, at_edge=_beyond(rate, tried) is not None)


def _best(tried: dict[float, Result]) -> float:
    return min(tried, key=lambda rate: tried[rate].training_loss or float("inf"))


def _beyond(rate: float, tried: dict[float, Result]) -> float | None:
    """The rate one stride on where this one is at an edge of those tried, else None."""
    if rate == max(tried):
        return _digit(rate * STRIDE)
    return _digit(rate / STRIDE) if rate == min(tried) else None


def _recipe(recipe: Recipe, way: Way, rate: float | None) -> Recipe:
    """The recipe with the way's method and learning rate."""
    tree = recipe.model_dump(mode="json") | {"method": way.method}
    if rate is not None:
        tree["train"] = tree["train"] | {"learning_rate": rate}
    return check_recipe(tree, where="pilot")


def _drop_unlike(measured: dict[str, list[Result]], notes: list[str]) -> None:
    """Few-shot is comparable only where demonstrations fit, and the targets stay the same tokens."""
    few, zero = measured.get("few-shot"), measured.get("zero-shot")
    if few and zero and any(result.targets != zero[0].targets for result in few):
        del measured["few-shot"]
        notes.append("few-shot is left out: behind demonstrations the answers are other tokens")
    elif few and all(result.shots == 0 for result in few):
        del measured["few-shot"]
        notes.append("few-shot is left out: the model's longest length has no room for a demonstration")


def _no_better_than_the_commonest(measured: dict[str, list[Result]]) -> list[str]:
    """A low loss of few labels may be no more than their shares; then the pilot has shown no skill at all."""
    labelled = [results for results in measured.values() if results[0].hits]
    if not labelled:
        return []
    commonest, count = labelled[0][0].commonest or 0.0, len(labelled[0][0].hits)
    best = max(float(np.mean([np.mean(each.hits) for each in results])) for results in labelled)
    if best > commonest + 2 * (commonest * (1 - commonest) / count) ** 0.5:
        return []
    return [
        f"no way answers more rows rightly than the commonest answer would ({commonest:.0%}) by two standard errors: "
        "what was learnt is how frequent the answers are; take more steps, or a larger model"
    ]


def _judge(
    recipe: Recipe,
    ways: list[Way],
    measured: dict[str, list[Result]],
    rates: dict[str, float | None],
    notes: list[str],
    seeds: int,
    steps: int,
) -> Pilot:
    contenders = [
        Contender(
            name=name,
            cost=max((result.trained for result in results), default=0) or (0.5 if results[0].shots else 0.0),
            logps_SR=np.array([result.logps for result in results]),
            targets_R=np.array(results[0].targets),
        )
        for name, results in measured.items()
    ]
    chosen, behind = recommend(contenders)
    best = min(contenders, key=lambda each: each.loss)
    lines = [line_of(name, results, rates[name], behind[name]) for name, results in measured.items()]
    way = next(way for way in ways if way.name == chosen.name)
    return Pilot(
        lines=lines,
        recommended=chosen.name,
        best=best.name,
        recipe=_recipe(recipe, way, rates[way.name]) if way.trains else _fallback(recipe, ways, contenders, rates),
        reason=_reason(chosen, best, behind[chosen.name]),
        notes=notes,
        seeds=seeds,
        steps=steps,
        held_out=len(best.targets_R),
    )


def line_of(name: str, results: list[Result], rate: float | None, behind: Interval) -> Line:
    """A way's figures over its seeds."""
    size = sum(results[0].bytes)
    bits = [-sum(result.logps) / np.log(2) / max(1, size) for result in results]
    hits = [float(np.mean(result.hits)) for result in results if result.hits]
    return Line(
        name=name,
        trained=results[0].trained,
        loss=over_seeds([result.loss for result in results]),
        bits=over_seeds([float(value) for value in bits]),
        accuracy=over_seeds(hits) if hits else None,
        seconds=over_seeds([result.seconds for result in results]),
        peak_bytes=over_seeds([float(result.peak_bytes) for result in results]),
        learning_rate=rate,
        shots=float(np.mean([result.shots for result in results])),
        behind=behind,
    )


def _fallback(recipe: Recipe, ways: list[Way], contenders: list[Contender], rates: dict[str, float | None]) -> Recipe:
    """Where training gains nothing that can be measured: the recipe of the cheapest good way that trains."""
    training = [each for each in contenders if rates[each.name] is not None]
    if not training:
        return recipe
    name = recommend(training)[0].name
    return _recipe(recipe, next(way for way in ways if way.name == name), rates[name])


def _reason(chosen: Contender, best: Contender, behind: Interval) -> str:
    """Why, in a line."""
    if chosen is best:
        return (
            f"{chosen.name} has the lowest held-out loss ({best.loss:.3f} nats a token), and nothing cheaper reaches it"
        )
    return (
        f"{chosen.name} is the cheapest that is not worse than the best ({best.name}, {best.loss:.3f} nats a token) "
        f"beyond the noise: {behind.mean:+.3f}, 95 % interval {behind.low:+.3f} to {behind.high:+.3f}"
    )
