"""Several nodes without MPI: the carrier nccl with a stand-in library, under hipcomm-run and torchrun."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import namespaces
import pytest
from foreign_variables import clean_environment
from harness import PLATFORM
from test_nodes import PATIENCE, PROGRAM

import hipcomm
from hipcomm.nodes import nccl

SOURCE = Path(__file__).with_name("stand_in_nccl.c")
RUN = str(Path(sys.executable).with_name("hipcomm-run"))
PORT = 29511
MESSAGE = "A CPU job over several nodes is started by mpirun or srun"

PACKAGE = Path(hipcomm.__file__).parent
OBJECTS = PACKAGE / "code_objects"
SOFTWARE_GPU = PACKAGE / "platforms/amd_software/lib/libamdhip64.so"
ARCH = "gfx942"

WHY_NOT = namespaces.why_not() or ("" if PLATFORM == "cpu" else "several nodes are the CPU platform's so far")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A directory with the stand-in as libnccl.so.2."""
    directory = tmp_path_factory.mktemp("nccl")
    flags = ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", directory / "libnccl.so.2", SOURCE], check=True)
    (directory / "librccl.so.1").symlink_to("libnccl.so.2")
    return directory


def environment(library, directory, **added):
    return clean_environment(
        STAND_IN_HIP=str(PACKAGE / "platforms/cpu/lib/libamdhip64.so"),
        LD_LIBRARY_PATH=f"{library}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        STAND_IN_NCCL_DIR=str(directory),
        STAND_IN_NCCL_LOG=str(directory / "log"),
        HIPCOMM_CARRIER="nccl",
        HIPCOMM_TIMEOUT="60",
        HIPCOMM_TOKEN="the same on all nodes",
        **added,
    )


def finish(processes):
    """All of them end, whatever happens; what they said."""
    try:
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait(PATIENCE)
    return outputs


def start(command, env):
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def log_of(directory):
    """What the stand-in has noted."""
    path = directory / "log"
    return path.read_text() if path.exists() else ""


def reports(directory, ranks, outputs):
    found = []
    for rank in ranks:
        path = directory / str(rank)
        assert path.exists(), f"rank {rank} has not reported: {outputs}"
        found.append(json.loads(path.read_text()))
    errors = "\n".join(report["error"] for report in found if "error" in report)
    assert not errors, f"{errors}\n{log_of(directory)[-2000:]}"
    return found


def on_two_nodes(directory, library, *task, survivors=range(4), **added):
    """Run a task in 2 + 2 ranks, started by hipcomm-run on each node; what the ranks have reported."""
    program = [sys.executable, PROGRAM, str(directory), *task]
    with namespaces.Namespaces(2, directory) as nodes:
        processes = []
        for node in range(2):
            where = ["--nnodes", "2", "--node-rank", str(node), "--master-addr", nodes.address(0)]
            command = [RUN, "-n", "2", *where, "--master-port", str(PORT), *program]
            processes.append(start(nodes.inside(node, command), environment(library, directory) | added))
        outputs = finish(processes)
    return reports(directory, survivors, outputs)


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_calls_are_captured_and_replayed(tmp_path, library):
    for rank, report in enumerate(on_two_nodes(tmp_path, library, "captured")):
        assert report["closed"]
        assert report["refused"].startswith(f"rank {rank}: a world over nodes needs"), report
        assert "make it once, with as many elements, before it is captured" in report["refused"]
    assert complaints(tmp_path) == []


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_a_replay_that_is_not_everybody_s_ends_in_time(tmp_path, library):
    found = on_two_nodes(tmp_path, library, "replayed_alone", str(tmp_path), HIPCOMM_TIMEOUT="3")
    for rank, report in enumerate(found[:3]):
        assert report["text"].startswith(f"rank {rank} (node {rank // 2}): "), report
        assert 2.9 < report["after"] < 8, report
    # whose time is over first says so; the others may hear of it before theirs is
    said = [report["text"] for report in found[:3] if report["kind"] == "PeerTimeout"]
    assert any("an exchange between nodes has waited 3 s for rank " in text for text in said), found
    assert all("waited 3 s for rank " in report["text"] for report in found[:3]), found


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_a_killed_rank(tmp_path, library):
    task = ("until_it_fails", str(tmp_path), "3", "killed")
    for rank, report in enumerate(on_two_nodes(tmp_path, library, *task, survivors=range(3))):
        assert report["kind"] == report["again"] == "PeerDied" and report["peer"] == 3, report
        assert report["text"].startswith(f"rank {rank} (node {rank // 2}): "), report
        assert "rank 3 (node 1) died" in report["text"] and report["after"] < 4, report


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_a_world_of_gpus_in_software(tmp_path, library):
    """Device memory that is none of the host's, and AMD's kernels; the carrier that the platform has."""
    needed = SOFTWARE_GPU, OBJECTS / f"{ARCH}/finish_partials_sum.co"
    missing = [path.name for path in needed if not path.exists()]
    if missing and not os.environ.get("CI"):  # there they are always built
        pytest.skip(f"not built: {', '.join(missing)} (`make amd-software amd-kernels`)")
    found = on_two_nodes(
        tmp_path, library, "captured", "200000", "2", HIPCOMM_PLATFORM="amd-software", HIPCOMM_CARRIER="auto",
        HIPCOMM_AMD_SOFTWARE=f"arch={ARCH}", HIPCOMM_CPU_DEVICES="2", STAND_IN_HIP=str(SOFTWARE_GPU),
    )  # fmt: skip
    assert all(report["platform"] == "amd-software" and report["closed"] for report in found)
    assert complaints(tmp_path) == []


def complaints(directory):
    return [line for line in log_of(directory).splitlines() if not line.startswith("group of ")]


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
@pytest.mark.parametrize("launcher", ["hipcomm-run", "torchrun"])
def test_the_stand_in_moves_the_bytes(tmp_path, library, launcher):
    program = [sys.executable, PROGRAM, str(tmp_path), "everything", "100", "8"]
    with namespaces.Namespaces(2, tmp_path) as nodes:
        processes = []
        for node in range(2):
            if launcher == "hipcomm-run":
                where = ["--nnodes", "2", "--node-rank", str(node), "--master-addr", nodes.address(0)]
                command = [RUN, "-n", "2", *where, "--master-port", str(PORT), *program]
                processes.append(start(nodes.inside(node, command), environment(library, tmp_path)))
                continue
            for local in range(2):
                variables = {
                    "RANK": str(2 * node + local),
                    "WORLD_SIZE": "4",
                    "LOCAL_RANK": str(local),
                    "LOCAL_WORLD_SIZE": "2",
                    "MASTER_ADDR": nodes.address(0),
                    "MASTER_PORT": str(PORT),
                }
                env = environment(library, tmp_path, **variables)
                processes.append(start(nodes.inside(node, program), env))
        outputs = finish(processes)
    assert all(report["closed"] for report in reports(tmp_path, range(4), outputs))
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    assert complaints(tmp_path) == []
    # all that an exchange sends and receives is one group: with one rank of the other node, with both
    sizes = {int(line.rsplit(" ", 1)[1]) for line in log_of(tmp_path).splitlines()}
    assert 2 in sizes and max(sizes) > 2, sizes


def refusal(*arguments, **env):
    command = [RUN, "-n", "2", *arguments, "true"]
    done = subprocess.run(
        command, env=clean_environment(**env), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2
    return " ".join(done.stderr.split())


def test_who_does_not_come_is_named_with_the_node(tmp_path):
    where = [
        "--nnodes",
        "2",
        "--node-rank",
        "0",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        str(PORT + 1),
    ]
    program = [sys.executable, "-c", "import hipcomm; hipcomm.init(platform='cpu')"]
    env = clean_environment(HIPCOMM_TOKEN="t", HIPCOMM_CARRIER="nccl", HIPCOMM_JOIN_TIMEOUT="1")
    done = subprocess.run(
        [RUN, "-n", "2", "--platform", "cpu", *where, *program],
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    said = "ranks 0, 1 of 4 came; ranks 2, 3 did not (of node 1) [said on "
    assert done.returncode != 0 and said in done.stderr, done.stderr


NODES = ("--nnodes", "2", "--platform", "cpu")
NCCL = {"HIPCOMM_CARRIER": "nccl"}


@pytest.mark.parametrize(
    "arguments, env, message",
    [
        (NODES, {}, MESSAGE),
        (NODES, NCCL, "--nnodes 2 needs --node-rank, 0 to 1"),
        ((*NODES, "--node-rank", "2"), NCCL, "--nnodes 2 needs --node-rank, 0 to 1"),
        ((*NODES, "--node-rank", "1"), NCCL, "--nnodes needs --master-addr"),
        ((*NODES, "--node-rank", "1", "--master-addr", "a"), NCCL, "--nnodes needs HIPCOMM_TOKEN"),
        (("--node-rank", "1"), {}, "--node-rank and --master-addr need --nnodes"),
    ],
)
def test_hipcomm_run_says_what_is_missing(arguments, env, message):
    assert message in refusal(*arguments, **env)


def test_what_the_ranks_of_a_node_are_told():
    where = ["--nnodes", "3", "--node-rank", "2", "--master-addr", "10.0.0.1", "--master-port", "4000"]
    done = subprocess.run(
        [RUN, "-n", "2", "--platform", "cpu", *where, "--dry-run", "true"],
        env=clean_environment(HIPCOMM_TOKEN="t", **NCCL),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for local, line in enumerate(lines):
        for word in (
            f"RANK={4 + local}",
            f"LOCAL_RANK={local}",
            "WORLD_SIZE=6",
            "LOCAL_WORLD_SIZE=2",
            f"HIPCOMM_RANK={4 + local}",
            "HIPCOMM_LOCAL_SIZE=2",
            "HIPCOMM_WORLD_SIZE=6",
            "MASTER_ADDR=10.0.0.1",
        ):
            assert word in line.split(), line
    assert len(lines) == 2 and "HIPCOMM_TOKEN='<hidden>'" in lines[0]


def test_a_library_that_does_not_let_go_is_not_waited_for(monkeypatch, caplog):
    """NCCL waits for graphs that have its calls in them, and close() waited with it: on an H200, for ever."""
    released = threading.Event()
    carrier = object.__new__(nccl.NcclCarrier)
    carrier.name, carrier._lock, carrier._is_over = "nccl", threading.Lock(), False
    carrier._comms = [ctypes.c_void_p(1)]
    carrier._library = SimpleNamespace(ncclCommAbort=lambda comm: released.wait(60))
    monkeypatch.setattr(nccl, "_MOST_CLOSING", 0.05)
    monkeypatch.setattr(logging.getLogger("hipcomm"), "propagate", True)
    with caplog.at_level(logging.WARNING, "hipcomm"):
        carrier.close()
    assert not released.is_set()
    assert "destroy the graphs that calls of a world over nodes have been captured in" in caplog.text
    released.set()
