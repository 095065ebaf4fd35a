"""The system beneath: versions, limits, and whether this user may use the GPUs' device nodes."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

import hipcomm

from .findings import Problem, Section

_MIB = 1 << 20
_LEAST_LOCKED = 1 * _MIB  # the status page and what the HIP runtime itself pins

# What a process opens to use the GPUs, and who may.
_NODES = {
    "/dev/kfd": "add the user to the groups render and video; in a container, --device=/dev/kfd",
    "/dev/nvidiactl": "in a container, run it with --gpus all",
}


def examine() -> Section:
    """Look at the system."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    facts = [
        f"hipcomm {hipcomm.__version__} in {Path(hipcomm.get_library()).parent.parent}",
        f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {platform.machine()}",
        f"processors usable: {len(os.sched_getaffinity(0))}",
        f"memory that may be locked (ulimit -l): {_size(limit)}",
        f"/dev/shm: {_shared_memory()} (hipcomm does not use it; Open MPI and NCCL do)",
    ]
    problems = []
    if limit != resource.RLIM_INFINITY and limit < _LEAST_LOCKED:
        what = f"only {_size(limit)} may be locked: pinned host memory may be refused"
        problems.append(
            Problem(what, "ulimit -l unlimited; in a container, --ulimit memlock=-1; else limits.conf")
        )
    for node, fix in _NODES.items():
        if Path(node).exists():
            usable = os.access(node, os.R_OK | os.W_OK)
            facts.append(f"{node}: {'usable' if usable else 'not usable'}")
            if not usable:
                problems.append(Problem(f"this user may not open {node}, so no GPU is found", fix))
    return Section("machine", facts, problems)


def _size(nbytes: int) -> str:
    return "unlimited" if nbytes == resource.RLIM_INFINITY else f"{nbytes / _MIB:g} MiB"


def _shared_memory() -> str:
    try:
        stat = os.statvfs("/dev/shm")
    except OSError as error:
        return f"none ({error.strerror})"
    return f"{stat.f_bavail * stat.f_frsize // _MIB} of {stat.f_blocks * stat.f_frsize // _MIB} MiB free"
