"""hipcomm-bench on symmetric memory: the contestant hipcomm-symm, in one process and as a job."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from harness import PLATFORM, worlds

from hipcomm_bench.contestants.hipcomm import Hipcomm, HipcommSymmetric
from hipcomm_bench.data import count_wrong, fill, lay_out
from hipcomm_bench.memory import DeviceMemory
from hipcomm_bench.ops import OPS, Call
from hipcomm_bench.results import Job
from hipcomm_bench.session import Session, begin

Pair = tuple[DeviceMemory, DeviceMemory]


@pytest.fixture(autouse=True)
def one_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stay on the platform of the other tests in this process, and do not find another one."""
    monkeypatch.setenv("HIPCOMM_PLATFORM", PLATFORM)


@pytest.fixture
def session() -> Iterator[Session]:
    session = begin("bfloat16", 4096, graph=1)
    yield session
    session.world.close()


@pytest.fixture
def memory(session: Session) -> Iterator[Pair]:
    pair = DeviceMemory(8192), DeviceMemory(8192)
    yield pair
    for each in pair:
        each.free()


SYMMETRIC_CALLS = [
    (op, in_place)
    for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
    for in_place in (False, True)
    if (op, in_place) != ("all_to_all", True)  # there is none
]


@pytest.mark.parametrize(("op", "in_place"), SYMMETRIC_CALLS)
def test_calls_are_made_in_symmetric_memory(session: Session, memory: Pair, op: str, in_place: bool) -> None:
    contestant = HipcommSymmetric(session)
    call = Call(OPS[op], "bfloat16", "sum" if OPS[op].reduces else "none", in_place)
    buffers = lay_out(call, 2048, 0, 1, memory)
    fill(buffers, call, 0, 1)
    prepared = contestant.prepare(call, buffers)
    assert isinstance(prepared.run, partial)
    spans = [range(whole.data_ptr, whole.data_ptr + whole.nbytes) for whole in contestant._whole]
    assert prepared.run.args and all(
        any(array.address in span for span in spans) for array in prepared.run.args
    )
    prepared.load()
    prepared.run()
    prepared.wait()
    prepared.store()
    assert count_wrong(buffers, call, 0, 1) == 0
    contestant.close()


@pytest.mark.skipif(not worlds(2), reason="needs 2 devices")
@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_the_command_measures_symmetric_memory(op: str, tmp_path: Path) -> None:
    """From 1 MiB on all ranks work in each other's buffers, with the right results in both modes."""
    command = [sys.executable, "-m", "hipcomm_bench", op, "-g", "2", "-b", "1M", "-e", "1M", "-n", "5"]
    command += ["--budget", "0.01", "--compare", "hipcomm-symm", "--output", str(tmp_path / "r")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (job,) = (Job.from_dict(job) for job in json.loads((tmp_path / "r.json").read_text("utf-8"))["jobs"])
    rows = [row for row in job.rows if row.contestant == "hipcomm-symm"]
    assert [row.wrong for row in rows] == [0] * (1 if op == "all_to_all" else 2)


@pytest.mark.parametrize(
    ("host_is_device", "rank", "calls"),
    [
        (False, 1, ["group", ("send", "s", 2), ("recv", "r", 0), "end"]),
        (True, 2, [("send", "s", 0), ("recv", "r", 1)]),
        (True, 1, [("recv", "r", 0), ("send", "s", 2)]),
    ],
)
def test_sends_and_receives_do_not_wait_for_each_other(host_is_device: bool, rank: int, calls: list) -> None:
    made: list[object] = []

    class Comm:
        world_size = 3

        def send(self, buffer: str, dest: int) -> None:
            made.append(("send", buffer, dest))

        def recv(self, buffer: str, source: int) -> None:
            made.append(("recv", buffer, source))

        @contextmanager
        def group(self) -> Iterator[None]:
            made.append("group")
            yield
            made.append("end")

    contestant = Hipcomm.__new__(Hipcomm)
    contestant._comm, contestant._host_is_device = Comm(), host_is_device
    contestant._comm.rank = rank
    contestant._exchange("s", "r", {})()
    assert made == calls
