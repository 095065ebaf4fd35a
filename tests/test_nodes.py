"""Worlds over several nodes: network namespaces on this machine, Open MPI over TCP between them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import namespaces
import pytest
from foreign_variables import clean_environment
from harness import PLATFORM

pytestmark = [
    pytest.mark.skipif(bool(namespaces.why_not()), reason=namespaces.why_not()),
    pytest.mark.skipif(PLATFORM != "cpu", reason="several nodes are the CPU platform's so far"),
]

PROGRAM = str(Path(__file__).with_name("nodes_program.py"))
PATIENCE = 240.0
LAYOUTS = ([2, 2], [3, 3], [3, 2], [1, 1, 1, 1])


# A task of srun --mpi=pmix: MPI finds its ranks by PMIx, as under mpirun; the other variables are Slurm's.
AS_SRUN = """
export SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_PROCID=$OMPI_COMM_WORLD_RANK
export SLURM_LOCALID=$OMPI_COMM_WORLD_LOCAL_RANK
export SLURM_NTASKS=$OMPI_COMM_WORLD_SIZE SLURM_STEP_NUM_TASKS=$OMPI_COMM_WORLD_SIZE
export SLURM_NNODES=2 SLURM_STEP_NUM_NODES=2 SLURM_NODEID=9
for name in $(env | sed -n 's/^\\(OMPI_[A-Za-z_]*\\)=.*/\\1/p'); do
    case $name in OMPI_MCA_*) ;; *) unset $name ;; esac
done
test -z "$OMPI_COMM_WORLD_RANK" || exit 9
exec "$@"
"""


def run(directory, ranks, *task, options=(), fails=False, lossy=False, wrapper=()):
    """Run a task of nodes_program.py in every rank, and return what each has reported.

    *fails*: so mpirun may end with an error. *lossy*: the network loses packets.
    """
    with namespaces.Namespaces(len(ranks), directory) as nodes:
        problem = nodes.lose_packets() if lossy else ""
        if problem:
            pytest.skip(problem)
        program = [*wrapper, sys.executable, PROGRAM, str(directory), *map(str, task)]
        command = nodes.mpirun(ranks, program, options)
        environment = clean_environment(HIPCOMM_TIMEOUT="60")
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
        assert not lossy or nodes.lost_packets() > 0
    reports = {}
    for rank in range(sum(ranks)):
        path = directory / str(rank)
        assert path.exists(), f"rank {rank} has not reported: {done.stdout}{done.stderr}"
        reports[rank] = json.loads(path.read_text())
    errors = "".join(
        f"---- rank {r} ----\n{report['error']}" for r, report in reports.items() if "error" in report
    )
    assert not errors, f"\n{errors}{done.stderr}"
    assert done.returncode == 0 or fails, done.stderr
    return [reports[rank] for rank in range(sum(ranks))]


@pytest.mark.parametrize("ranks", LAYOUTS, ids=lambda ranks: "+".join(map(str, ranks)))
def test_every_operation(tmp_path, ranks):
    """Every dtype and reduction; then counts, messages, parts of the world, memory and norms."""
    reports = run(tmp_path, ranks, "everything", 250, 20261201)
    expected, begin = [], 0
    for count in ranks:
        expected.append(list(range(begin, begin + count)))
        begin += count
    assert all(report["nodes"] == expected and report["closed"] for report in reports)


def test_ranks_dealt_out_to_the_nodes_in_turn(tmp_path):
    """Not the numbers that the launcher gives decide on the order, but which ranks are on which node."""
    reports = run(tmp_path, [2, 2], "mixed", 60, 3, options=["--map-by", "node"])
    assert all(report["nodes"] == [[0, 2], [1, 3]] for report in reports)


def test_tasks_of_srun(tmp_path):
    wrapper = ["sh", "-c", AS_SRUN, "sh"]
    reports = run(tmp_path, [2, 2], "mixed", 20, 5, wrapper=wrapper)
    assert all(report["nodes"] == [[0, 1], [2, 3]] for report in reports)


def test_what_cannot_be_done_is_refused_by_name(tmp_path):
    for rank, said in enumerate(run(tmp_path, [2, 1], "refused")):
        for name in ("plan", "register"):
            assert said[name].startswith(f"rank {rank}: {name}: a world over nodes cannot do this"), said
        assert "a world over nodes can only do 'replicated'" in said["sharded"]
        assert "cannot be captured" in said["capture"]
        assert said["root"] == f"rank {rank}: broadcast: root 99 is not below 3 ranks"
        assert said["self"] == f"rank {rank}: send: dest {rank} is this rank itself"
        assert "op 'xor' is none of" in said["op"]
        assert "must have as many" in said["sizes"]
        assert said["overlap"] == f"rank {rank}: all_reduce: sendbuf and recvbuf overlap"


def test_what_a_hop_costs(tmp_path):
    """The bench's mode for nodes: a row for each size, with four figures."""
    options = ["--smallest", "1024", "--largest", "70000", "--factor", "64", "--budget", "0.05"]
    with namespaces.Namespaces(2, tmp_path) as nodes:
        command = nodes.mpirun([2, 2], [sys.executable, "-m", "hipcomm_bench.nodes", *options])
        environment = clean_environment(HIPCOMM_PLATFORM="cpu")
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == ["bytes", "1024", "65536"], done.stdout
    assert all(int(figure) > 0 for row in rows[1:] for figure in row[1:]) and len(rows[1]) == 5
    link = re.search(r"an exchange: (\d+) µs for 8 bytes, then ([\d.]+) GB/s out of a node", done.stdout)
    assert link and int(link[1]) > 0 and float(link[2]) > 0, done.stdout
