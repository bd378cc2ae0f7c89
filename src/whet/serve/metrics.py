"""What the server counts, in Prometheus' text form (its documentation: exposition formats, version 0.0.4)."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper ends of the buckets that requests fall into."""

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Requests by route and status, the seconds they took, and tokens by model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[Labels, int] = defaultdict(int)
        self._tokens: dict[Labels, int] = defaultdict(int)
        self._seconds: dict[Labels, list[float]] = {}  # counts by bucket, one more for the rest, and their sum

    def request(self, route: str, status: int, seconds: float) -> None:
        with self._lock:
            self._requests[("route", route), ("status", str(status))] += 1
            held = self._seconds.setdefault((("route", route),), [0.0] * (len(SECONDS) + 2))
            held[sum(seconds > end for end in SECONDS)] += 1
            held[-1] += seconds

    def tokens(self, model: str, prompt: int, generated: int) -> None:
        with self._lock:
            self._tokens[("kind", "prompt"), ("model", model)] += prompt
            self._tokens[("kind", "generated"), ("model", model)] += generated

    def text(self, gauges: Mapping[str, tuple[str, int]]) -> str:
        """All of it. `gauges`: what is so at this moment, name to (meaning, value)."""
        with self._lock:
            lines = _family("whet_requests_total", "counter", "Requests answered.", self._requests)
            lines += _family("whet_tokens_total", "counter", "Tokens of prompts and of answers.", self._tokens)
            lines += ["# HELP whet_request_seconds From the request to the end of its answer."]
            lines += ["# TYPE whet_request_seconds histogram"]
            for labels, held in self._seconds.items():
                lines += _histogram(labels, held)
        for name, (meaning, value) in gauges.items():
            lines += _family(name, "gauge", meaning, {(): value})
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, meaning: str, values: Mapping[Labels, int]) -> list[str]:
    head = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    return head + [f"{name}{_labels(labels)} {value}" for labels, value in values.items()]


def _histogram(labels: Labels, held: list[float]) -> list[str]:
    lines, total = [], 0
    for end, count in zip([*map(str, SECONDS), "+Inf"], held, strict=False):
        total += int(count)
        lines.append(f"whet_request_seconds_bucket{_labels((*labels, ('le', end)))} {total}")
    lines.append(f"whet_request_seconds_sum{_labels(labels)} {held[-1]:.6f}")
    return [*lines, f"whet_request_seconds_count{_labels(labels)} {total}"]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    escaped = ((name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
