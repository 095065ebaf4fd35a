"""Which machine this is: what has to stand beside every measurement."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0))


def describe() -> dict[str, str]:
    """Return processor, cores, memory, how busy the machine is, and the versions of what lies beneath."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "usable cores": str(usable_cores()),
        "memory": _memory(),
        "load average of the last minute": f"{os.getloadavg()[0]:.1f}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _memory() -> str:
    total = _field("/proc/meminfo", "MemTotal")  # such as "24689132 kB"
    return f"{int(total.split()[0]) / 2**20:.0f} GiB" if total else "unknown"


def _field(file: str, name: str) -> str | None:
    """Return the value of the first line ``name: value`` of a file in /proc, or None."""
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
