"""hipcomm-bench on a device: memory, clocks, contestants, what a rank does with those that fail, the soak.

Everything here runs in a world of one in this process, or through the command; other libraries are played
by stand-ins. The stand-in for NCCL is a real shared library, so that the C calls are.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from bench_stand_ins import FAKE_NCCL, fake_torch
from harness import PLATFORM

from hipcomm_bench import worker
from hipcomm_bench.clock import Batches, Prepared, Replays
from hipcomm_bench.contestants import CONTESTANTS, Contestant, Unsupported, nccl_api
from hipcomm_bench.contestants.hipcomm import Hipcomm
from hipcomm_bench.contestants.nccl import Nccl
from hipcomm_bench.contestants.torch_symm import TorchSymmOneShot, TorchSymmTwoShot
from hipcomm_bench.data import Buffers, count_wrong, fill, lay_out
from hipcomm_bench.memory import Buffer, DeviceMemory, copy_on_device
from hipcomm_bench.ops import OPS, Call
from hipcomm_bench.results import Job, Options
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


def test_multicast_stays_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCCL_NVLS_ENABLE", raising=False)
    monkeypatch.setenv("TORCH_SYMM_MEM_DISABLE_MULTICAST", "0")
    begin("uint8", 64, graph=None).world.close()
    assert os.environ["NCCL_NVLS_ENABLE"] == "0"
    assert os.environ["TORCH_SYMM_MEM_DISABLE_MULTICAST"] == "0"


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
    from hipcomm.hip import call, hip

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


def test_samples_are_times_per_call(monkeypatch: pytest.MonkeyPatch) -> None:
    milliseconds = iter([80.0, 40.0, 80.0, 40.0])  # between two events of a device that is not there
    now = iter(range(0, 10**12, 8000))
    fake = SimpleNamespace(hipStreamCaptureMode=SimpleNamespace(hipStreamCaptureModeThreadLocal=1))
    monkeypatch.setattr("hipcomm_bench.clock.hip", lambda: fake)
    monkeypatch.setattr("hipcomm_bench.clock._now", lambda: next(now))
    monkeypatch.setattr(
        "hipcomm_bench.clock.call",
        lambda name, *_: next(milliseconds) if name == "hipEventElapsedTime" else None,
    )
    prepared = Prepared(lambda: None)
    for clock, host in ((Replays(1, 20), [2e-6]), (Batches(1, 20), [2e-6, 2e-6])):
        samples = clock.take(clock.arm(prepared, 4), 2)  # type: ignore[attr-defined]
        assert samples.times == pytest.approx([20e-3, 10e-3])
        assert samples.host == pytest.approx(host)


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
        from hipcomm.hip import call as hip_call
        from hipcomm.hip import hip

        kind = hip().hipMemcpyKind.hipMemcpyDefault  # the buffers are in host memory on the CPU platform
        target, source = ctypes.c_void_p(buffers.recv.address), ctypes.c_void_p(buffers.send.address)
        copy = partial(hip_call, "hipMemcpyAsync", target, source, buffers.recv.nbytes, kind)
        return Prepared(partial(copy, self.session.stream), wait=self.session.synchronize)

    def close(self) -> None:
        self.closed.append(self.name)


class HasItsOwnBuffers(Copy):
    """Works on memory of its own, to and from which the data has to be brought."""

    name = "has-its-own-buffers"

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        from hipcomm.hip import call as hip_call
        from hipcomm.hip import hip

        own = DeviceMemory(4096), DeviceMemory(4096)  # kept alive by `copy` below
        kind = hip().hipMemcpyKind.hipMemcpyDefault

        def copy(target: Any, source: Any) -> None:
            places = ctypes.c_void_p(target.address), ctypes.c_void_p(source.address)
            hip_call("hipMemcpyAsync", *places, buffers.recv.nbytes, kind, self.session.stream)

        return Prepared(
            partial(copy, own[1], own[0]),
            load=partial(copy, own[0], buffers.send),
            store=lambda: (copy(buffers.recv, own[1]), self.session.synchronize()),
            wait=self.session.synchronize,
        )


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
    HasItsOwnBuffers,
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
    for name in ("hipcomm", "copy", "has-its-own-buffers"):
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
        "has-its-own-buffers",
        "copy",
    ]
    assert len(job.devices) == 1
    marks = [line for line in said if line.startswith("\x1e")]
    assert marks[0] == "\x1e0 4 1 KiB out-of-place" and len(marks) == 4


@pytest.mark.parametrize("graph", [0, 4])
def test_every_operation_is_measured(graph: int) -> None:
    for op in OPS.values():
        options = replace(OPTIONS, op=op.name, redop="sum" if op.reduces else "none", graph=graph)
        job, _ = run_rank(replace(options, sizes=[1024 * op.moves]))
        assert job.rows or op.name == "send_recv"  # which a world of one has not
        assert job.wrong() == 0


def test_hipcomm_itself_must_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Hipcomm):
        def prepare(self, call: Call, buffers: Buffers) -> Prepared:
            self._comm.close()
            raise RuntimeError("a bug")

    monkeypatch.setitem(CONTESTANTS, "hipcomm", Broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run_rank(OPTIONS)


# --- NCCL


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


@pytest.mark.host_arrays
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


@pytest.mark.host_arrays
@pytest.mark.parametrize(
    ("op", "words"),
    [
        ("reduce", "Reduce {send} {recv} 1536 7 1 2 0x1234 {stream}"),
        ("gather", "Send {send} 512 7 2 Group 1"),
        ("scatter", "Recv {recv} 512 7 2 Group 1"),
        ("send_recv", "Send {send} 1536 7 2 Recv {recv} 1536 7 0 Group 2"),
        (
            "all_gather_v",
            "Send {send} 512 7 0 Send {send} 512 7 1 Send {send} 512 7 2 "
            "Recv {recv} 256 7 0 Recv {recv+1024} 512 7 1 Recv {recv+3072} 768 7 2 Group 6",
        ),
        (
            "all_to_all_v",
            "Send {send} 512 7 0 Send {send+2048} 768 7 1 Send {send+5120} 256 7 2 "
            "Recv {recv} 512 7 0 Recv {recv+2048} 768 7 1 Recv {recv+5120} 256 7 2 Group 6",
        ),
    ],
)
def test_what_nccl_lacks_is_made_of_sends_and_receives(
    nccl: Nccl, memory: Pair, fake_nccl: Path, op: str, words: str
) -> None:
    nccl._session = replace(nccl._session, world=SimpleNamespace(rank=1, size=3))  # type: ignore[arg-type]
    call = Call(OPS[op], "float32", "prod", False, root=2)
    buffers = lay_out(call, 6144, 1, 3, memory)
    nccl.prepare(call, buffers).run()
    record = ctypes.CDLL(str(fake_nccl)).fake_record
    record.restype = ctypes.c_char_p
    send, recv = buffers.send.address, buffers.recv.address
    places = {
        f"{{{name}{'+' + str(offset) if offset else ''}}}": hex(base + offset)
        for name, base in (("send", send), ("recv", recv))
        for offset in (0, 1024, 2048, 3072, 5120)
    }
    places["{stream}"] = hex(nccl._session.stream or 0)
    for name, text in places.items():
        words = words.replace(name, text)
    assert record().decode() == words


@pytest.mark.host_arrays
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


# --- torch symmetric memory, played by NumPy


@pytest.mark.host_arrays
def test_torch_symmetric_memory(session: Session, memory: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []
    for name, module in fake_torch(log).items():
        monkeypatch.setitem(sys.modules, name, module)
    # the CPU platform's memory, as if it were a GPU's
    on_gpu = replace(session, platform="nvidia", device=session.device._replace(host_is_device=False))
    one_shot, two_shot = TorchSymmOneShot(on_gpu), TorchSymmTwoShot(on_gpu)
    assert log == [("init", "nccl"), *[("device", 0), ("stream", session.stream)] * 2]

    def wrong(contestant: Contestant, op: str, redop: str, in_place: bool) -> int:
        call = Call(OPS[op], "bfloat16", redop, in_place)
        buffers = lay_out(call, 2048, 0, 1, memory)
        fill(buffers, call, 0, 1)
        prepared = contestant.prepare(call, buffers)
        prepared.load()
        memory[0].poison(0, 8192)  # the call shall not read it any more
        prepared.run()
        prepared.store()
        return count_wrong(buffers, call, 0, 1)

    assert wrong(one_shot, "all_reduce", "sum", False) == 0
    assert wrong(one_shot, "all_gather", "none", False) == 0
    assert wrong(one_shot, "all_to_all", "none", False) == 0
    assert wrong(two_shot, "all_reduce", "sum", True) == 0
    for contestant, op, redop, in_place, reason in (
        (one_shot, "all_reduce", "max", False, "has no max"),
        (one_shot, "all_reduce", "sum", True, "one-shot has no in-place all_reduce"),
        (one_shot, "reduce_scatter", "sum", False, "no reduce_scatter"),
        (two_shot, "all_reduce", "sum", False, "no out-of-place two-shot"),
        (two_shot, "all_gather", "none", False, "no two-shot all_gather"),
    ):
        with pytest.raises(Unsupported, match=reason):
            wrong(contestant, op, redop, in_place)
    two_shot.close()
    assert log[-1] != "destroy"
    one_shot.close()
    assert log[-1] == "destroy"


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
    algorithms = ["hipcomm", "hipcomm:one_shot", "hipcomm:two_shot", "hipcomm:staged", "hipcomm:pipelined"]
    assert set(job.versions) >= set(algorithms)
    rows = [row for row in job.rows if row.contestant in algorithms]
    assert len(rows) == len(algorithms) * 3 * 2
    assert all(row.wrong == 0 and row.batch <= 5 and row.host_us is not None for row in rows)
    assert (tmp_path / "r.svg").exists()
