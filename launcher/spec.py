"""What is to be started: the command, and each rank's environment."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .cores import threads
from .nodes import Nodes

NOT_FOUND = 127  # exit codes, as a shell has them
NOT_EXECUTABLE = 126


class CommandError(Exception):
    """The program cannot be run.

    Attributes:
        exit_code: 127 if it was not found, 126 if it is not executable.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Options(NamedTuple):
    """What the command line says about a job, save for the program.

    Attributes:
        nproc: the number of ranks, on this node.
        env: variables for all ranks.
        platform: HIPCOMM_PLATFORM for the ranks, or None: as in our own environment.
        cpus: the processors that ranks are bound to, by rank; empty: they are not bound.
        devices: HIPCOMM_DEVICE by rank; empty: as in our own environment.
        tag: whether lines get the prefix ``[rank3]``.
        log_dir: the directory for ``rank3.out`` and ``rank3.err``, or None.
        tee: with a log directory, whether the output is shown as well.
        timeout: seconds that the job may take, or None.
        unwind: seconds for the ranks to end by themselves once one has failed, before SIGTERM.
        grace: seconds between SIGTERM and SIGKILL.
        join_timeout: the longest that ranks may wait for each other to join, in seconds.
        max_restarts: how often the whole job is started again after a rank has failed.
        nodes: where it runs on several.
    """

    nproc: int = 1
    env: Mapping[str, str] = {}
    platform: str | None = None
    cpus: Sequence[frozenset[int]] = ()
    devices: Sequence[str] = ()
    tag: bool = True
    log_dir: Path | None = None
    tee: bool = False
    timeout: float | None = None
    unwind: float = 2.0
    grace: float = 5.0
    join_timeout: float = 60.0
    max_restarts: int = 0
    nodes: Nodes = Nodes()

    @property
    def first_rank(self) -> int:
        """The lowest rank on this node."""
        return self.nodes.rank * self.nproc


class Endpoints(NamedTuple):
    """Where the ranks of one job meet.

    Attributes:
        rendezvous: host:port of our server.
        token: what it wants to be shown.
        job_id: the job's unique name.
        master_port: a free port for servers of the program's own (torchrun's MASTER_PORT).
        restart: how often the job has been started before.
    """

    rendezvous: str
    token: str
    job_id: str
    master_port: int
    restart: int = 0


#: What the launcher sets itself, so that ``--env`` must not.
RESERVED = frozenset(
    {
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "HIPCOMM_RANK",
        "HIPCOMM_LOCAL_RANK",
        "HIPCOMM_LOCAL_SIZE",
        "HIPCOMM_WORLD_SIZE",
        "HIPCOMM_RENDEZVOUS",
        "HIPCOMM_TOKEN",
        "HIPCOMM_JOB_ID",
        "HIPCOMM_RESTART",
    }
)


def parse_devices(text: str) -> list[str]:
    """Parse the devices of ``0,2-3,0000:c1:00.0,GPU-4a…``, in order. Raises ValueError."""
    devices: list[str] = []
    for item in text.split(","):
        bounds = re.fullmatch(r"(\d+)-(\d+)", item)
        if bounds:
            first, last = int(bounds[1]), int(bounds[2])
            if first > last or last - first >= 1024:
                raise ValueError(f"{item!r} is no range of devices")
            devices += map(str, range(first, last + 1))
        elif item.strip() == item and item:
            devices.append(item)
        else:
            raise ValueError(f"{text!r} holds an empty or blank device")
    return devices


def resolve_command(program: Sequence[str], module: bool, path: str | None) -> list[str]:
    """Return the argument vector that runs *program*, its first element a path that can be executed.

    A module (``-m``) and a ``.py`` file run with this interpreter, anything else is looked for in
    *path*. Raises :class:`CommandError`.
    """
    name = program[0]
    if module:
        return [sys.executable, "-m", *program]
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise CommandError(f"{name}: no such file", NOT_FOUND)
        return [sys.executable, *program]
    found = shutil.which(name, path=path)
    if found is None and name in ("python", "python3"):
        found = sys.executable  # no such name in PATH (Debian has no `python`): then ours is meant
    if found is not None:
        return [found, *program[1:]]
    if Path(name).is_dir():
        raise CommandError(f"{name}: is a directory", NOT_EXECUTABLE)
    if "/" in name and Path(name).exists():
        raise CommandError(f"{name}: not executable", NOT_EXECUTABLE)
    raise CommandError(f"{name}: command not found", NOT_FOUND)


def inherited_environment() -> dict[str, str]:
    """Our own environment; within a rank of another job, without the device that is that rank's."""
    inner = "HIPCOMM_RANK" in os.environ
    return {name: value for name, value in os.environ.items() if not (inner and name == "HIPCOMM_DEVICE")}


def rank_environment(local_rank: int, options: Options, endpoints: Endpoints) -> dict[str, str]:
    """Return what is added to our own environment for one rank of this node."""
    rank, nodes = str(options.first_rank + local_rank), options.nodes
    added = {"PYTHONUNBUFFERED": "1"} if not os.environ.get("PYTHONUNBUFFERED") else {}
    added |= {"MASTER_ADDR": nodes.address, "MASTER_PORT": str(endpoints.master_port)}
    added |= threads(options.nproc, os.environ)
    added |= options.env
    if options.platform is not None:
        added["HIPCOMM_PLATFORM"] = options.platform
    if options.devices:
        added["HIPCOMM_DEVICE"] = options.devices[local_rank]
    if nodes.number > 1:
        added["HIPCOMM_LOCAL_SIZE"] = str(options.nproc)
    size = str(options.nproc * nodes.number)
    return added | {
        "RANK": rank,
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": str(options.nproc),
        "HIPCOMM_RANK": rank,
        "HIPCOMM_LOCAL_RANK": str(local_rank),
        "HIPCOMM_WORLD_SIZE": size,
        "HIPCOMM_RENDEZVOUS": endpoints.rendezvous,
        "HIPCOMM_TOKEN": endpoints.token,
        "HIPCOMM_JOB_ID": endpoints.job_id,
        "HIPCOMM_RESTART": str(endpoints.restart),
    }
