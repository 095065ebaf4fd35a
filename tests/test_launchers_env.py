"""Ranks under other launchers: their variables are enough, without hipcomm-run and without a server."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid

import pytest
from foreign_variables import clean_environment
from harness import PLATFORM, worlds

PATIENCE = 60.0
WORLD = 3

pytestmark = pytest.mark.skipif(not worlds(WORLD), reason=f"needs {WORLD} devices")

PROGRAM = """
import ctypes, struct
import hipcomm
from hipcomm.hip import call, hip
kind = None
with hipcomm.init() as comm:
    memory = call("hipMalloc", 4)
    address = int(memory.as_c_void_p().value)
    copy = hip().hipMemcpyKind
    data = bytearray(struct.pack("<i", 10 ** comm.rank))
    call("hipMemcpy", ctypes.c_void_p(address), data, 4, copy.hipMemcpyHostToDevice)
    comm.all_reduce(address, address, count=1, dtype="int32")
    comm.synchronize()
    call("hipMemcpy", data, ctypes.c_void_p(address), 4, copy.hipMemcpyDeviceToHost)
    print(comm.rank, comm.world_size, struct.unpack("<i", data)[0])
"""


def torchrun(rank, job):
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(WORLD),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(WORLD),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": job,
    }


def open_mpi(rank, job):
    return {
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_SIZE": str(WORLD),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(WORLD),
        "PMIX_NAMESPACE": job,
    }


def slurm(rank, job):
    return {
        "SLURM_PROCID": str(rank),
        "SLURM_NTASKS": str(WORLD),
        "SLURM_LOCALID": str(rank),
        "SLURM_JOB_ID": job,
        "SLURM_STEP_ID": "0",
    }


def pmi(rank, job):
    """No name of the job: the ranks have one parent, which must do."""
    return {"PMI_RANK": str(rank), "PMI_SIZE": str(WORLD)}


LAUNCHERS = (torchrun, open_mpi, slurm, pmi)


def environment_of(launcher, rank, job):
    clean = clean_environment()
    return {**clean, "HIPCOMM_PLATFORM": PLATFORM, **launcher(rank, job)}


def start(launcher, rank, job):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment_of(launcher, rank, job),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def finish(processes):
    """What each process printed; all of them end, whatever happens."""
    try:
        outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait(PATIENCE)
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [text.strip() for text, _ in outputs]


RESULTS = [f"{rank} {WORLD} 111" for rank in range(WORLD)]


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: launcher.__name__)
def test_under_another_launcher(launcher):
    job = uuid.uuid4().hex
    assert finish([start(launcher, rank, job) for rank in range(WORLD)]) == RESULTS


@pytest.mark.skipif(not shutil.which("mpirun"), reason="needs Open MPI")
def test_under_mpirun(tmp_path):
    """Open MPI's own launcher, where it is installed. It may tear lines: each rank has a file of its own."""
    clean = clean_environment()
    # Open MPI looks for an ssh, which it does not use on one machine
    command = ["mpirun", "--mca", "plm_rsh_agent", "true", "--allow-run-as-root", "--oversubscribe"]
    command += ["-n", str(WORLD)]
    into_file = 'exec "$0" -c "$1" > "$2/$OMPI_COMM_WORLD_RANK"'
    done = subprocess.run(
        [*command, "sh", "-c", into_file, sys.executable, PROGRAM, str(tmp_path)],
        env={**clean, "HIPCOMM_PLATFORM": PLATFORM},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / str(rank)).read_text().strip() for rank in range(WORLD)] == RESULTS


def test_rank_0_comes_last():
    """Whoever is early waits for the server's file to appear."""
    job = uuid.uuid4().hex
    assert finish([start(torchrun, rank, job) for rank in reversed(range(WORLD))]) == RESULTS[::-1]


def test_two_jobs_side_by_side():
    """Told apart by the launcher's name of the job. On GPUs they would share devices: that works too."""
    jobs = [uuid.uuid4().hex for _ in range(2)]
    assert finish([start(torchrun, rank, job) for rank in range(WORLD) for job in jobs]) == sorted(
        RESULTS * 2
    )


def test_alone():
    """No variables at all: a world of one."""

    def nothing(rank, job):
        return {}

    assert finish([start(nothing, 0, "")]) == ["0 1 1"]
