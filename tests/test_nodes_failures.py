"""Worlds over several nodes whose ranks, nodes and network fail: every survivor says which rank and node."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import namespaces
import pytest
from foreign_variables import clean_environment
from test_nodes import PROGRAM, pytestmark, run  # noqa: F401  the mark: skipped for the same reasons

TIMEOUT = 4.0  # HIPCOMM_TIMEOUT
SLACK = 3.0  # seconds that a loaded machine may need on top
PATIENCE = 60.0
# mpirun ends the survivors once a rank has died: by SIGTERM, which the program ignores, and then by SIGKILL
LAST_WORDS = {4: ["--mca", "odls_base_sigkill_timeout", "15"], 5: ["--with-ft", "ulfm", "--continuous"]}


def fail(directory, ranks, victim, how):
    """Let something happen to a rank or to node 1, and return what each rank has reported, or None."""
    reports = [None] * sum(ranks)
    with namespaces.Namespaces(len(ranks), directory) as nodes:
        task = [sys.executable, PROGRAM, str(directory), "until_it_fails", str(directory), str(victim), how]
        with (directory / "said").open("wb") as said:
            process = subprocess.Popen(
                nodes.mpirun(ranks, task, LAST_WORDS[namespaces.mpi_version()]),
                stdout=said,
                stderr=said,
                env=clean_environment(HIPCOMM_TIMEOUT=str(TIMEOUT)),
            )
        try:
            deadline = time.monotonic() + PATIENCE
            while not all((directory / f"{rank}.running").exists() for rank in range(sum(ranks))):
                assert time.monotonic() < deadline, f"they never began: {(directory / 'said').read_text()}"
                assert process.poll() is None, f"mpirun has ended: {(directory / 'said').read_text()}"
                time.sleep(0.02)
            if how == "cut":
                nodes.cut(1)
            elif how == "node":
                nodes.kill(1)
            gone = {victim} if how in ("killed", "late") else set()
            gone |= set(range(ranks[0], sum(ranks))) if how == "node" else set()
            deadline = time.monotonic() + TIMEOUT + 3 * SLACK
            missing = set(range(sum(ranks))) - gone
            while missing and time.monotonic() < deadline:
                time.sleep(0.02)
                for rank in list(missing):
                    path = directory / str(rank)
                    if path.exists() and path.read_text():
                        reports[rank] = json.loads(path.read_text())
                        missing.remove(rank)
            assert not missing, f"ranks {missing} have said nothing"
        finally:
            for node in range(len(ranks)):
                nodes.kill(node)
            process.wait(PATIENCE)
    return reports


def survivors(reports):
    return [(rank, report) for rank, report in enumerate(reports) if report is not None]


@pytest.mark.parametrize("ranks, victim", [([2, 2], 3), ([2, 2], 0), ([3, 2], 1), ([1, 1, 1, 1], 2)])
def test_a_killed_rank(tmp_path, ranks, victim):
    reports = fail(tmp_path, ranks, victim, "killed")
    node = next(node for node in range(len(ranks)) if victim < sum(ranks[: node + 1]))
    for rank, report in survivors(reports):
        assert report["kind"] == report["again"] == "PeerDied", report
        assert report["peer"] == victim
        assert report["text"].startswith(f"rank {rank} (node "), report
        assert f"rank {victim} (node {node})" in report["text"], report
        assert report["after"] < SLACK and report["closing"] < SLACK, report


def test_a_killed_node(tmp_path):
    """All of its ranks at once, and Open MPI's daemon, whose loss mpirun answers by ending the job."""
    for rank, report in survivors(fail(tmp_path, [2, 2], -1, "node")):
        assert rank < 2 and report["kind"] == "PeerDied", report
        assert report["peer"] in (2, 3) and f"rank {report['peer']} (node 1) died" in report["text"], report
        assert report["after"] < SLACK, report


def test_a_cut_network(tmp_path):
    """Node 1 hears nothing from node 0, where the server is: each of its ranks has its own clock."""
    for rank, report in survivors(fail(tmp_path, [2, 2], -1, "cut")):
        node, other = divmod(rank, 2)[0], 1 - rank // 2
        assert report["kind"] in ("PeerTimeout", "PeerDied"), report
        did_not_come = f"(node {other}), which did not come"
        across = [f"waited {TIMEOUT:g} s for rank {2 * other + local} {did_not_come}" for local in range(2)]
        # a rank may also wait for one of its own node that waits in vain, a second longer
        if node == 1:
            across.append(f"waited {TIMEOUT + 1:g} s for rank {5 - rank} (node 1), which did not come")
        assert any(wait in report["text"] for wait in across), report
        assert TIMEOUT - 0.1 < report["after"] < TIMEOUT + SLACK and report["closing"] < SLACK, report


def test_a_rank_that_does_not_come(tmp_path):
    for rank, report in survivors(fail(tmp_path, [2, 1], 2, "late")):
        assert "waited 4 s for rank 2 (node 1), which did not come" in report["text"], report
        assert report["kind"] == ("PeerTimeout" if report["peer"] == 2 else "PeerDied"), report
        assert rank != 2 and TIMEOUT - 0.1 < report["after"] < TIMEOUT + SLACK, report


def test_a_rank_that_has_left(tmp_path):
    for rank, report in survivors(fail(tmp_path, [2, 2], 1, "leaves")):
        if rank == 1:
            assert report["left"]
        else:
            assert report["kind"] == "PeerDied" and "rank 1 (node 0)" in report["text"], report
            assert "has left" in report["text"] and report["after"] < SLACK, report


def test_a_message_of_another_length(tmp_path):
    options = LAST_WORDS[namespaces.mpi_version()]  # the first that ends must not take the other with it
    reports = run(tmp_path, [1, 1], "mismatched", fails=True, options=options)
    assert any("recv of 11 bytes from rank 0 (node 0), whose message has 10" in str(each) for each in reports)
    assert all("text" in report for report in reports), reports


def test_lost_packets_are_sent_again(tmp_path):
    run(tmp_path, [2, 2], "mixed", 60, 11, lossy=True)
