"""hipcomm-bench on a device: memory, clocks, contestants, what a rank does with those that fail, the soak.

Everything here runs in a world of one in this process, or through the command; other libraries are played
by stand-ins. The stand-in for NCCL is a real shared library, so that the C calls are.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from harness import PLATFORM

from hipcomm_bench import worker
from hipcomm_bench.clock import Batches, Prepared, Replays
from hipcomm_bench.contestants import CONTESTANTS, Contestant, Unsupported, nccl_api
from hipcomm_bench.contestants.hipcomm import Hipcomm
from hipcomm_bench.contestants.nccl import Nccl
from hipcomm_bench.data import Buffers, count_wrong, fill, lay_out
from hipcomm_bench.launch import run_job
from hipcomm_bench.memory import Buffer, DeviceMemory, copy_on_device, dtype_of
from hipcomm_bench.ops import OPS, Call
from hipcomm_bench.programme import Programme
from hipcomm_bench.results import Job, Options, Row
from hipcomm_bench.session import Session, begin

OPTIONS = Options(
    op="all_reduce",
    dtype="bfloat16",
    redop="sum",
    sizes=[1024, 4096],
    iterations=40,
    warmup=2,
    budget=0.05,
    check=True,
    contestants=["hipcomm"],
    modes=[False, True],
    graph=4,
)


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
def memory(session: Session) -> Iterator[tuple[DeviceMemory, DeviceMemory]]:
    pair = DeviceMemory(8192), DeviceMemory(8192)
    yield pair
    for each in pair:
        each.free()


Pair = tuple[DeviceMemory, DeviceMemory]


# --- memory


def test_device_memory_keeps_what_is_written(memory: Pair) -> None:
    data = np.arange(100, dtype=np.uint8)
    memory[0].write(7, data)
    assert np.array_equal(memory[0].read(7, 100), data)
    assert memory[0].read(0, 8).tolist() == [0] * 8
    memory[0].poison(10, 2)
    assert memory[0].read(8, 6).tolist() == [1, 2, 0xA5, 0xA5, 5, 6]
    copy_on_device(memory[1].address + 3, memory[0].address + 7, 100)
    assert memory[1].read(3, 100).tolist() == memory[0].read(7, 100).tolist()


def test_a_buffer_says_where_it_lies(memory: Pair) -> None:
    buffer = Buffer(memory[0], 64, 10, "bfloat16")
    assert (buffer.address, buffer.nbytes) == (memory[0].address + 64, 20)
    assert buffer.array.__cuda_array_interface__["data"] == (memory[0].address + 64, False)
    assert buffer.array.dtype.name == "bfloat16"
    assert buffer.at(1000).address == 1064


def test_inputs_are_written_and_results_checked_in_device_memory(memory: Pair) -> None:
    call = Call(OPS["all_gather"], "float16", "none", in_place=False)
    buffers = lay_out(call, 2048, 0, 1, memory)
    fill(buffers, call, 0, 1)
    assert count_wrong(buffers, call, 0, 1) == 1024
    copy_on_device(buffers.recv.address, buffers.send.address, 2048)
    assert count_wrong(buffers, call, 0, 1) == 0


# --- clocks


def enqueue(session: Session, memory: Pair, log: list[int]) -> Prepared:
    """Return a call that copies on the session's stream; it counts the host's calls in `log`."""
    from hipcomm.platform import call, hip

    kind = hip().hipMemcpyKind.hipMemcpyDeviceToDevice
    places = [ctypes.c_void_p(each.address) for each in memory]

    def run() -> None:
        log.append(1)
        call("hipMemcpyAsync", places[0], places[1], 64, kind, session.stream)

    return Prepared(run, wait=session.synchronize)


def test_replays_capture_once_and_time_many(session: Session, memory: Pair) -> None:
    assert session.stream is not None
    log: list[int] = []
    clock, prepared = Replays(session.stream, 20), enqueue(session, memory, log)
    assert clock.trial(prepared, 3) >= 0
    assert len(log) == 3
    armed = clock.arm(prepared, 20)
    assert len(log) == 23
    memory[1].write(0, np.full(64, 9, np.uint8))
    samples = clock.take(armed, 5)
    assert len(samples.times) == 5 and len(samples.host) == 1
    assert len(log) == 23 + 20  # the replays call nothing on the host; the host's own time takes a batch
    assert memory[0].read(0, 64).tolist() == [9] * 64
    clock.disarm(armed)


def test_one_replay_does_the_work(session: Session, memory: Pair) -> None:
    assert session.stream is not None
    memory[1].write(0, np.full(64, 8, np.uint8))
    clock, log = Replays(session.stream, 20), []
    clock.once(enqueue(session, memory, log))
    assert len(log) == 1
    assert memory[0].read(0, 64).tolist() == [8] * 64


def test_a_failing_capture_is_ended(session: Session, memory: Pair) -> None:
    assert session.stream is not None
    clock = Replays(session.stream, 20)

    def fail() -> None:
        raise RuntimeError("not in a capture")

    with pytest.raises(RuntimeError, match="not in a capture"):
        clock.arm(Prepared(fail), 4)
    log: list[int] = []
    clock.disarm(clock.arm(enqueue(session, memory, log), 4))  # the stream can be captured again
    assert len(log) == 4


def test_batches_time_the_device_and_the_host(session: Session, memory: Pair) -> None:
    assert session.stream is not None
    log: list[int] = []
    clock, prepared = Batches(session.stream, 20), enqueue(session, memory, log)
    samples = clock.take(clock.arm(prepared, 7), 4)
    assert len(samples.times) == len(samples.host) == 4
    assert len(log) == 7 * 5  # one batch is thrown away
    assert all(time > 0 for time in samples.host)


def test_long_calls_make_small_samples() -> None:
    clock = Replays(1, 20)
    assert [clock.calls(seconds) for seconds in (0.0, 3e-6, 500e-6, 1e-3, 5e-3, 1.0)] == [
        20,
        20,
        20,
        10,
        2,
        1,
    ]


# --- a rank and its contestants


class Copy(Contestant):
    """A library whose all_reduce is right in a world of one."""

    name: ClassVar[str] = "copy"
    platforms: ClassVar[tuple[str, ...]] = ("amd", "nvidia", "cpu")
    version = "1"
    closed: ClassVar[list[str]] = []

    @classmethod
    def why_missing(cls) -> str | None:
        return None

    def __init__(self, session: Session) -> None:
        self.session = session

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        from hipcomm.platform import call as hip_call
        from hipcomm.platform import hip

        kind = hip().hipMemcpyKind.hipMemcpyDefault  # the buffers are in host memory on the CPU platform
        target, source = ctypes.c_void_p(buffers.recv.address), ctypes.c_void_p(buffers.send.address)
        copy = partial(hip_call, "hipMemcpyAsync", target, source, buffers.recv.nbytes, kind)
        return Prepared(partial(copy, self.session.stream), wait=self.session.synchronize)

    def close(self) -> None:
        self.closed.append(self.name)


class NotHere(Copy):
    name = "not-here"

    @classmethod
    def why_missing(cls) -> str | None:
        return "it is not here"


class Elsewhere(Copy):
    name = "elsewhere"
    platforms = ("mars",)


class FailsToStart(Copy):
    name = "fails-to-start"

    def __init__(self, session: Session) -> None:
        raise OSError("no such library\nand a long stack")


class HasNoInPlace(Copy):
    name = "has-no-in-place"

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        if call.in_place:
            raise Unsupported("in place it cannot")
        return super().prepare(call, buffers)


class FailsAtTheCall(Copy):
    name = "fails-at-the-call"

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        def run() -> None:
            raise RuntimeError("expected a divisible size")

        return Prepared(run)


class CannotBeCaptured(Copy):
    name = "cannot-be-captured"

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        return replace(super().prepare(call, buffers), capture=False)


class DoesNothing(Copy):
    name = "does-nothing"

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        return Prepared(lambda: None)


STAND_INS = (
    Copy,
    NotHere,
    Elsewhere,
    FailsToStart,
    HasNoInPlace,
    FailsAtTheCall,
    CannotBeCaptured,
    DoesNothing,
)


def run_rank(options: Options) -> tuple[Job, list[str]]:
    """Run the only rank of a job; what it found and what it said."""
    kept: list[Job] = []
    said: list[str] = []
    worker.run(options, said.append, kept.append)
    return kept[-1], said


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    for kind in STAND_INS:
        monkeypatch.setitem(CONTESTANTS, kind.name, kind)
    Copy.closed.clear()
    yield [kind.name for kind in STAND_INS]


def test_who_cannot_take_part_is_left_out_with_the_reason(stand_ins: list[str]) -> None:
    job, said = run_rank(replace(OPTIONS, contestants=["hipcomm", *stand_ins], progress=True))
    assert job.missing == {
        "not-here": "it is not here",
        "elsewhere": f"it needs the platform mars, this is {job.platform}",
        "fails-to-start": "OSError: no such library",
    }
    assert sorted(job.unsupported) == [
        "cannot-be-captured: its calls cannot be captured into a graph",
        "fails-at-the-call: RuntimeError: expected a divisible size",
        "has-no-in-place: in place it cannot",
    ]
    found = {(row.contestant, row.size, row.in_place): row for row in job.rows}
    for name in ("hipcomm", "copy"):
        for size in (1024, 4096):
            for in_place in (False, True):
                row = found.pop((name, size, in_place))
                assert row.wrong == 0 and row.calls >= 5 * row.batch and row.host_us is not None
                assert 1 <= row.batch <= 4
    for size in (1024, 4096):
        del found["has-no-in-place", size, False]
        assert found.pop(("does-nothing", size, False)).wrong == size // 2
        assert found.pop(("does-nothing", size, True)).wrong == 0  # in a world of one nothing is right
    assert not found
    assert Copy.closed == [
        "does-nothing",
        "cannot-be-captured",
        "fails-at-the-call",
        "has-no-in-place",
        "copy",
    ]
    assert len(job.devices) == 1
    marks = [line for line in said if line.startswith("\x1e")]
    assert marks[0] == "\x1e0 4 1 KiB out-of-place" and len(marks) == 4


@pytest.mark.parametrize("graph", [0, 4])
def test_every_operation_is_measured(graph: int) -> None:
    for op in OPS.values():
        options = replace(OPTIONS, op=op.name, redop="sum" if op.reduces else "none", graph=graph)
        job, _ = run_rank(replace(options, sizes=[1024]))
        assert job.rows or any("hipcomm: this hipcomm has no" in line for line in job.unsupported)
        assert job.wrong() == 0


def test_hipcomm_itself_must_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Hipcomm):
        def prepare(self, call: Call, buffers: Buffers) -> Prepared:
            self._comm.close()
            raise RuntimeError("a bug")

    monkeypatch.setitem(CONTESTANTS, "hipcomm", Broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run_rank(OPTIONS)


def test_figures_survive_the_job_that_found_them(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(ranks=2, rows=[Row("hipcomm", 8, 2, True, 1.0, 2.0, 1.0, 1.0, 5, 0)])
    script = f"import sys; open(sys.argv[-1], 'w').write({json.dumps(asdict(job))!r}); sys.exit(3)"
    launcher = [sys.executable, "-c", script]
    monkeypatch.setattr("hipcomm_bench.launch.hipcomm_run", lambda ranks: (launcher, []))
    found = run_job(OPTIONS, 2, timeout=20)
    assert found.rows == job.rows
    assert found.failure.startswith("exit code 3")


# --- NCCL

FAKE_NCCL = r"""
#include <cstddef>
#include <cstdio>
#include <cstring>
struct Id { char internal[128]; };
static char record[256];
static int async_error = 0;
static const size_t kSizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
#define NOTE(...) snprintf(record, sizeof record, __VA_ARGS__)
extern "C" {
const char* fake_record() { return record; }
void fake_break() { async_error = 6; }
const char* ncclGetErrorString(int code) { return code == 6 ? "remote error" : "bad argument"; }
int ncclGetVersion(int* version) { *version = 22809; return 0; }
int ncclGetUniqueId(Id* id) { memset(id, 7, sizeof *id); return 0; }
int ncclCommInitRank(void** comm, int ranks, Id id, int rank) {
    *comm = (void*)0x1234;
    return ranks == 1 && rank == 0 && id.internal[0] == 7 && id.internal[127] == 7 ? 0 : 4;
}
int ncclCommDestroy(void* comm) { return comm == (void*)0x1234 ? 0 : 4; }
int ncclCommGetAsyncError(void*, int* state) { *state = async_error; return 0; }
int ncclAllReduce(const void* s, void* r, size_t n, int t, int op, void* c, void* stream) {
    NOTE("AllReduce %p %p %zu %d %d %p %p", s, r, n, t, op, c, stream);
    memmove(r, s, n * kSizes[t]);
    return 0;
}
int ncclReduceScatter(const void* s, void* r, size_t n, int t, int op, void* c, void* stream) {
    NOTE("ReduceScatter %p %p %zu %d %d %p %p", s, r, n, t, op, c, stream);
    return 4;
}
int ncclAllGather(const void* s, void* r, size_t n, int t, void* c, void* stream) {
    NOTE("AllGather %p %p %zu %d %p %p", s, r, n, t, c, stream);
    return 0;
}
int ncclBroadcast(const void* s, void* r, size_t n, int t, int root, void* c, void* stream) {
    NOTE("Broadcast %p %p %zu %d root %d %p %p", s, r, n, t, root, c, stream);
    return 0;
}
}
"""


@pytest.fixture(scope="module")
def fake_nccl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("nccl") / "libnccl.so.2"
    command = ["g++", "-x", "c++", "-shared", "-fPIC", "-Wall", "-Werror", "-", "-o", str(library)]
    subprocess.run(command, input=FAKE_NCCL, text=True, check=True, timeout=60)
    return library


@pytest.fixture
def nccl(fake_nccl: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> Nccl:
    monkeypatch.setattr(nccl_api, "candidates", lambda platform: iter(["/no/libnccl.so.2", str(fake_nccl)]))
    return Nccl(session)


@pytest.mark.parametrize(
    "case",
    [
        ("all_reduce", "avg", "AllReduce {send} {recv} 1024 9 4 0x1234 {stream}"),
        ("all_gather", "none", "AllGather {send} {recv} 1024 9 0x1234 {stream}"),
        ("broadcast", "none", "Broadcast {send} {recv} 1024 9 root 0 0x1234 {stream}"),
    ],
)
def test_nccl_gets_what_its_api_wants(
    nccl: Nccl, session: Session, memory: Pair, fake_nccl: Path, case: tuple[str, str, str]
) -> None:
    op, redop, words = case
    buffers = lay_out(Call(OPS[op], "bfloat16", redop, False), 2048, 0, 1, memory)
    prepared = nccl.prepare(Call(OPS[op], "bfloat16", redop, False), buffers)
    prepared.run()
    prepared.wait()
    record = ctypes.CDLL(str(fake_nccl)).fake_record
    record.restype = ctypes.c_char_p
    send, recv, stream = (
        hex(value or 0) for value in (buffers.send.address, buffers.recv.address, session.stream)
    )
    assert record().decode() == words.format(send=send, recv=recv, stream=stream)
    assert nccl.version == "2.28.9"


def test_nccl_errors_and_gaps_are_told(nccl: Nccl, memory: Pair, fake_nccl: Path) -> None:
    call = Call(OPS["reduce_scatter"], "bfloat16", "sum", False)
    with pytest.raises(nccl_api.NcclError, match=r"ncclReduceScatter: bad argument \(4\)"):
        nccl.prepare(call, lay_out(call, 2048, 0, 1, memory)).run()
    call = Call(OPS["all_to_all"], "bfloat16", "none", False)
    with pytest.raises(Unsupported, match=r"NCCL 2\.28\.9 has no ncclAlltoAll"):
        nccl.prepare(call, lay_out(call, 2048, 0, 1, memory))
    nccl.close()
    ctypes.CDLL(str(fake_nccl)).fake_break()
    call = Call(OPS["all_reduce"], "bfloat16", "sum", True)
    with pytest.raises(nccl_api.NcclError, match=r"the communicator: remote error \(6\)"):
        nccl.prepare(call, lay_out(call, 2048, 0, 1, memory)).wait()


def test_without_a_library_nccl_says_what_the_loader_said(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nccl_api, "candidates", lambda platform: iter(["/no/libnccl.so.2"]))
    with pytest.raises(OSError, match=r"rank 0: no NCCL library could be opened: /no/libnccl\.so\.2"):
        Nccl(session)


# --- the soak


def make_programme(rank: int = 0, world_size: int = 2, **keywords: Any) -> Programme:
    arguments: dict[str, Any] = {"ops": list(OPS), "calls": 40, "largest": 4096, "inputs": 2, **keywords}
    return Programme("a seed", rank, world_size, **arguments)


def test_ranks_make_up_the_same_programme() -> None:
    programmes = [make_programme(rank, 3) for rank in range(3)]
    shapes = [
        [(s.call, s.send_count, s.recv_count, s.root) for s in programme.steps] for programme in programmes
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    assert {step.call.op.name for step in programmes[0].steps} == set(OPS)
    assert programmes[0].size == programmes[1].size
    assert not np.array_equal(programmes[0].before[0], programmes[1].before[0])
    assert not np.array_equal(programmes[0].before[0], programmes[0].before[1])
    again = make_programme(1, 3)
    assert np.array_equal(again.after[1], programmes[1].after[1])


def test_programmes_buffers_do_not_overlap() -> None:
    programme = make_programme()
    owner = np.zeros(programme.size, int)
    for index, step in enumerate(programme.steps, start=1):
        itemsize = dtype_of(step.call.dtype).itemsize
        for at, count in ((step.send_at, step.send_count), (step.recv_at, step.recv_count)):
            inside = owner[at : at + count * itemsize]
            assert set(inside.tolist()) <= {0, index}
            inside[...] = index


def test_a_wrong_bit_is_found_and_named() -> None:
    programme = make_programme()
    right = programme.after[1].copy()
    assert programme.find_wrong(right, 1) == ""
    assert programme.find_wrong(right, 0) != ""
    index, step = next((i, s) for i, s in enumerate(programme.steps) if s.recv_count and not s.call.in_place)
    right[step.recv_at] ^= 1
    assert (
        programme.find_wrong(right, 1) == f"call {index} ({step.describe()}): 1 of what it receives are wrong"
    )


def run_soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hipcomm_bench.soak", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_short_soak_is_exact() -> None:
    result = run_soak("-g", "2", "--calls", "3000", "--seed", "11")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3072 of 3000 calls exact" in result.stdout


def test_a_soak_needs_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIPCOMM_WORLD_SIZE", "2")
    monkeypatch.setenv("HIPCOMM_RANK", "0")
    result = run_soak("--calls", "1")
    assert result.returncode == 2
    assert "all ranks need the same --seed" in result.stderr


def test_the_command_replays_graphs_of_all_algorithms(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "hipcomm_bench",
        "-g",
        "2",
        "-b",
        "1K",
        "-e",
        "16K",
        "-f",
        "4",
        "-G",
        "5",
    ]
    command += ["-n", "50", "--budget", "0.02", "--compare", "algorithms,nccl,torch-symm"]
    command += ["--output", str(tmp_path / "r"), "--plot", str(tmp_path / "r.svg")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (job,) = (Job.from_dict(job) for job in json.loads((tmp_path / "r.json").read_text("utf-8"))["jobs"])
    algorithms = ["hipcomm", "hipcomm:one_shot", "hipcomm:two_shot", "hipcomm:pipelined"]
    assert set(job.versions) >= set(algorithms)
    rows = [row for row in job.rows if row.contestant in algorithms]
    assert len(rows) == len(algorithms) * 3 * 2
    assert all(row.wrong == 0 and row.batch <= 5 and row.host_us is not None for row in rows)
    assert (tmp_path / "r.svg").exists()
