"""Advice before anything is spent: what fits the memory, what the rows look like, and which method is good enough.

dry_run.py   a step on tensors without memory: what it would hold       memory.py   peak memory by part, on 1..N devices
machine.py   what memory there is                                       fit.py      which ways fit it
signs.py     how far the rows lie from what the model knows
trial.py     one way, one seed, measured      workers.py  trials in processes of their own
pilot.py     all ways side by side            verdict.py  intervals, and the rule that chooses
advice.py    all of it together               page.py     report.html
"""

from __future__ import annotations

from whet.advise.advice import Advice, advise, choose

__all__ = ["Advice", "advise", "choose"]
