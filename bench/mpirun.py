"""The command lines of mpirun: each MPI binds ranks, runs as root and gives way in words of its own."""

from __future__ import annotations

import os
from pathlib import Path

from hipcomm_bench.contestants.base import Launcher
from hipcomm_bench.contestants.mpi import INTEL, MPICH
from hipcomm_bench.machine import usable_cores


def command(launcher: Launcher, ranks: int) -> tuple[list[str], dict[str, str], str]:
    """Return mpirun's command line up to Python's arguments, its environment, and what to tell about it."""
    cores = usable_cores()
    bound = ranks <= cores  # unbound, two spinning ranks may share a core for whole time slices
    environment = {"PATH": f"{Path(launcher.mpirun).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    yields = ""
    if launcher.kind == MPICH:
        options = ["-bind-to", "core" if bound else "none"]
    elif launcher.kind == INTEL:
        options = []
        environment |= {"I_MPI_FABRICS": "shm", "I_MPI_PIN": "on" if bound else "off"}
        if not bound:
            environment["I_MPI_THREAD_YIELD"] = "2"
            yields = "Intel MPI runs with I_MPI_THREAD_YIELD=2"
    else:
        # Open MPI looks for an ssh, which it does not use on one machine
        options = [
            "--mca",
            "plm_rsh_agent",
            "true",
            "--oversubscribe",
            "--bind-to",
            "core" if bound else "none",
        ]
        if os.geteuid() == 0:
            options.insert(0, "--allow-run-as-root")
        if not bound:
            options += ["--mca", "mpi_yield_when_idle", "1"]
            yields = "Open MPI runs with mpi_yield_when_idle 1"
    if bound:
        how = "each bound to a core of its own"
    else:
        how = f"bound to no core. {ranks} ranks on {cores} cores"
        how += f": {yields}, with which waiting ranks give way to the others" if yields else ""
    # mpi4py as the main module ends the whole job when a rank fails.
    line = [launcher.mpirun, *options, "-n", str(ranks), launcher.python, "-m", "mpi4py"]
    return line, environment, f"all contestants share the processes that mpirun started, {how}"
