"""What memory this machine has left, and what a process takes before any weight."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

CUDA_CONTEXT = 500 * 2**20
"""Bytes that CUDA and its libraries take of a device before the first tensor."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`device` is "cuda" or "cpu"; `devices` how many of them; `bytes_each` the memory that one may fill."""

    device: str
    devices: int
    bytes_each: int


def this_machine(devices: int | None = None) -> Machine:
    """The GPUs found, by the memory that is free on the fullest; without any, the processor's memory, which ranks
    share. `devices`: reckon with so many instead, each with as much as one that is here."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        free = min(torch.cuda.mem_get_info(index)[0] for index in range(count))
        return Machine("cuda", devices or count, free)
    return Machine("cpu", devices or 1, _free_bytes() // (devices or 1))


def process_bytes(device: str) -> int:
    """Of a process with whet's libraries imported: what this one holds now, before a model; on CUDA, its context."""
    if device == "cuda":
        return CUDA_CONTEXT
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * os.sysconf("SC_PAGE_SIZE")


def _free_bytes() -> int:
    """Memory that can be had without swapping, and not more than the control group (a container's limit) leaves."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        free = min(free, int(limit) - used) if limit != "max" else free
    except (OSError, ValueError):
        pass
    return free
