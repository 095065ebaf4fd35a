"""Which machine this is: what has to accompany every measurement."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np

# What nvidia-smi is asked for, and what it is called here. It only reads.
_GPU_FIELDS = {
    "index": "GPU",
    "name": "name",
    "pci.bus_id": "PCI",
    "driver_version": "driver",
    "clocks.current.sm": "SM clock",
    "clocks.max.sm": "of at most",
    "clocks.current.memory": "memory clock",
    "power.draw": "power",
    "power.limit": "power limit",
    "temperature.gpu": "degrees C",
}


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


def gpus() -> list[dict[str, str]]:
    """Return name, driver, clocks and power of every NVIDIA GPU; nothing where nvidia-smi is not there."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return [{"nvidia-smi": f"failed: {error}"}]
    return parse_gpus(answer.stdout)


def parse_gpus(table: str) -> list[dict[str, str]]:
    """Return what nvidia-smi answers, a dictionary per GPU."""
    names = list(_GPU_FIELDS.values())
    lines = [[cell.strip() for cell in line.split(",")] for line in table.splitlines() if line.strip()]
    return [dict(zip(names, cells, strict=False)) for cells in lines]


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
