"""Stream capture and graphs of the CPU platform."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platform_cpu import (
    Error,
    address,
    compile_code_object,
    handle,
    hip,
    library,
    ok,
    read_device,
    write_device,
)

Mode = hip.hipStreamCaptureMode
Status = hip.hipStreamCaptureStatus
NodeType = hip.hipGraphNodeType

SOURCE = """
#include "kernel_abi.h"
struct Append { uint32_t* log; uint32_t value; };

// log[0] counts the entries that follow.
static void append(const Append& a) { a.log[++a.log[0]] = a.value; }

#define KERNEL(name) extern "C" __attribute__((visibility("default"))) \\
    void name(const void* kernarg, const hipcommCpuBlock*) { append(*static_cast<const Append*>(kernarg)); }

extern "C" __attribute__((visibility("default"))) const uint32_t declared_kernargs[];
const uint32_t declared_kernargs[] = {1, 16, 8};
extern "C" __attribute__((visibility("default"))) const uint32_t separate_kernargs[];
const uint32_t separate_kernargs[] = {2, 8, 8, 4, 4};
KERNEL(undeclared)
KERNEL(declared)
KERNEL(separate)
"""


class Append(ctypes.Structure):
    _fields_ = [("log", ctypes.c_uint64), ("value", ctypes.c_uint32)]


class Log:
    """Device memory to which kernels append numbers."""

    def __init__(self, kernels: Any) -> None:
        self.kernels = kernels
        self.pointer = address(ok(hip.hipMalloc(4096)))

    def append(self, value: int, stream: Any, kernel: str = "undeclared") -> Any:
        """Launches a kernel that appends a value; the error code.  Its arguments do not outlive the call."""
        function = ok(hip.hipModuleGetFunction(self.kernels, kernel.encode()))
        arguments = Append(self.pointer, value)
        first = ctypes.addressof(arguments)
        pointers = (ctypes.c_void_p * 2)(first, first + Append.value.offset)
        result = hip.hipModuleLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, pointers, None)[0]
        arguments.log, arguments.value = 0, 0
        return result

    def take(self) -> list[int]:
        """The values appended so far; the log is empty afterwards."""
        words = np.frombuffer(read_device(self.pointer, 4096), np.uint32)
        write_device(self.pointer, bytes(4096))
        return [int(word) for word in words[1 : 1 + words[0]]]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_code_object(SOURCE, tmp_path_factory.mktemp("kernels") / "graph.so")


@pytest.fixture
def log(kernels: Path) -> Iterator[Log]:
    module = ok(hip.hipModuleLoadData(kernels.read_bytes()))
    log = Log(module)
    yield log
    ok(hip.hipFree(handle(log.pointer)))
    hip.hipModuleUnload(module)


@pytest.fixture
def stream() -> Iterator[Any]:
    stream = ok(hip.hipStreamCreate())
    yield stream
    hip.hipStreamDestroy(stream)


def begin(stream: Any, mode: Any = Mode.hipStreamCaptureModeGlobal) -> None:
    ok(hip.hipStreamBeginCapture(stream, mode))


def instantiate(graph: Any) -> Any:
    executable = ok(hip.hipGraphInstantiateWithFlags(graph, 0))
    ok(hip.hipGraphDestroy(graph))
    return executable


def node_types(graph: Any) -> list[Any]:
    """The types of a graph's nodes.  hip-python's hipGraphGetNodes has room for a single one."""
    count = ctypes.c_size_t(0)
    assert library.hipGraphGetNodes(handle(address(graph)), None, ctypes.byref(count)) == 0
    nodes = (ctypes.c_void_p * count.value)()
    assert library.hipGraphGetNodes(handle(address(graph)), nodes, ctypes.byref(count)) == 0
    return [ok(hip.hipGraphNodeGetType(handle(node))) for node in nodes]


def exchange_mode(mode: Any) -> Any:
    """hip-python does not pass this function's argument."""
    value = ctypes.c_int(int(mode))
    assert library.hipThreadExchangeStreamCaptureMode(ctypes.byref(value)) == 0
    return Mode(value.value)


# ---- capture and replay ----


@pytest.mark.parametrize("kernel", ["undeclared", "declared", "separate"])
def test_kernels_are_captured_with_their_arguments_and_replayed_in_order(
    log: Log, stream: Any, kernel: str
) -> None:
    begin(stream)
    for value in range(5):
        assert log.append(value, stream, kernel) == Error.hipSuccess
    assert log_is_untouched(log)
    graph = ok(hip.hipStreamEndCapture(stream))
    assert node_types(graph) == [NodeType.hipGraphNodeTypeKernel] * 5
    executable = instantiate(graph)
    for _ in range(3):
        ok(hip.hipGraphLaunch(executable, stream))
    assert log.take() == [0, 1, 2, 3, 4] * 3
    ok(hip.hipGraphExecDestroy(executable))
    assert hip.hipGraphLaunch(executable, stream)[0] == Error.hipErrorInvalidValue


def log_is_untouched(log: Log) -> bool:
    """Read from another thread's point of view: a copy here would disturb the capture."""
    return ctypes.c_uint32.from_address(log.pointer).value == 0


def test_a_launch_with_extra_is_captured(log: Log, stream: Any) -> None:
    function = ok(hip.hipModuleGetFunction(log.kernels, b"undeclared"))
    begin(stream)
    arguments, size = Append(log.pointer, 9), ctypes.c_size_t(16)
    extra = (ctypes.c_void_p * 5)(1, ctypes.addressof(arguments), 2, ctypes.addressof(size), 3)
    ok(hip.hipModuleLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, None, extra))
    arguments.log = 0
    executable = instantiate(ok(hip.hipStreamEndCapture(stream)))
    ok(hip.hipGraphLaunch(executable, None))
    assert log.take() == [9]
    ok(hip.hipGraphExecDestroy(executable))


def test_copies_fills_and_host_functions(stream: Any) -> None:
    device, other = address(ok(hip.hipMalloc(64))), address(ok(hip.hipMalloc(64)))
    source, target = np.arange(64, dtype=np.uint8), np.zeros(64, np.uint8)
    calls: list[int] = []
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: calls.append(int(target[0])))
    Kind = hip.hipMemcpyKind
    begin(stream)
    ok(hip.hipMemcpyAsync(handle(device), source, 64, Kind.hipMemcpyHostToDevice, stream))
    ok(hip.hipMemsetD32Async(handle(device), 0x01010101, 2, stream))
    ok(hip.hipMemcpyAsync(handle(other), handle(device), 64, Kind.hipMemcpyDeviceToDevice, stream))
    ok(hip.hipMemcpyAsync(target, handle(other), 64, Kind.hipMemcpyDeviceToHost, stream))
    assert library.hipLaunchHostFunc(handle(address(stream)), callback, None) == 0
    graph = ok(hip.hipStreamEndCapture(stream))
    assert not calls and not target.any()
    memcpy, memset, host = (
        NodeType.hipGraphNodeTypeMemcpy,
        NodeType.hipGraphNodeTypeMemset,
        NodeType.hipGraphNodeTypeHost,
    )
    assert node_types(graph) == [memcpy, memset, memcpy, memcpy, host]
    executable = instantiate(graph)
    for replay in range(3):
        source[8:] = replay
        ok(hip.hipGraphLaunch(executable, stream))
        assert target.tolist() == [1] * 8 + [replay] * 56
    assert calls == [1, 1, 1]
    # The memory may be gone at replay: an error, no crash.
    ok(hip.hipFree(handle(device)))
    assert hip.hipGraphLaunch(executable, stream)[0] == Error.hipErrorInvalidValue
    ok(hip.hipGraphExecDestroy(executable))
    ok(hip.hipFree(handle(other)))


def test_a_graph_keeps_the_code_of_an_unloaded_module(log: Log, stream: Any) -> None:
    begin(stream)
    assert log.append(3, stream) == Error.hipSuccess
    executable = instantiate(ok(hip.hipStreamEndCapture(stream)))
    ok(hip.hipModuleUnload(log.kernels))
    ok(hip.hipGraphLaunch(executable, stream))
    assert log.take() == [3]
    ok(hip.hipGraphExecDestroy(executable))


def test_a_graph_inside_a_graph(log: Log, stream: Any) -> None:
    begin(stream)
    log.append(1, stream)
    log.append(2, stream)
    inner = instantiate(ok(hip.hipStreamEndCapture(stream)))
    begin(stream)
    log.append(0, stream)
    ok(hip.hipGraphLaunch(inner, stream))
    log.append(3, stream)
    graph = ok(hip.hipStreamEndCapture(stream))
    kernel, child = NodeType.hipGraphNodeTypeKernel, NodeType.hipGraphNodeTypeGraph
    assert node_types(graph) == [kernel, child, kernel]
    outer = instantiate(graph)
    ok(hip.hipGraphExecDestroy(inner))
    ok(hip.hipGraphLaunch(outer, stream))
    assert log.take() == [0, 1, 2, 3]
    ok(hip.hipGraphExecDestroy(outer))


def test_instantiation_and_its_errors(log: Log, stream: Any) -> None:
    begin(stream)
    log.append(1, stream)
    graph = ok(hip.hipStreamEndCapture(stream))
    first, _, _ = ok(hip.hipGraphInstantiate(graph, 100))
    second = ok(hip.hipGraphInstantiateWithFlags(graph, 1))
    assert hip.hipGraphInstantiateWithFlags(graph, 1 << 20)[0] == Error.hipErrorInvalidValue
    ok(hip.hipGraphDestroy(graph))
    assert hip.hipGraphDestroy(graph)[0] == Error.hipErrorInvalidValue
    assert hip.hipGraphInstantiateWithFlags(graph, 0)[0] == Error.hipErrorInvalidValue
    for executable in (first, second):
        ok(hip.hipGraphUpload(executable, stream))
        ok(hip.hipGraphLaunch(executable, stream))
        ok(hip.hipGraphExecDestroy(executable))
        assert hip.hipGraphExecDestroy(executable)[0] == Error.hipErrorInvalidValue
    assert log.take() == [1, 1]
    for garbage in (0, 1, 0xDEADBEEF):
        assert hip.hipGraphLaunch(handle(garbage), stream)[0] == Error.hipErrorInvalidValue
        assert hip.hipGraphDestroy(handle(garbage))[0] == Error.hipErrorInvalidValue


def test_an_empty_capture(stream: Any) -> None:
    begin(stream)
    graph = ok(hip.hipStreamEndCapture(stream))
    assert node_types(graph) == []
    executable = instantiate(graph)
    ok(hip.hipGraphLaunch(executable, stream))
    ok(hip.hipGraphExecDestroy(executable))


def test_the_stream_of_each_thread_can_be_captured(log: Log) -> None:
    per_thread = handle(2)
    begin(per_thread)
    log.append(4, per_thread)
    executable = instantiate(ok(hip.hipStreamEndCapture(per_thread)))
    ok(hip.hipGraphLaunch(executable, None))
    assert log.take() == [4]
    ok(hip.hipGraphExecDestroy(executable))


# ---- status ----


def test_status(log: Log, stream: Any) -> None:
    assert ok(hip.hipStreamIsCapturing(stream)) == Status.hipStreamCaptureStatusNone
    assert hip.hipStreamEndCapture(stream) == (Error.hipErrorIllegalState, None)
    identities = set()
    for _ in range(2):
        begin(stream)
        assert (
            hip.hipStreamBeginCapture(stream, Mode.hipStreamCaptureModeGlobal)[0]
            == Error.hipErrorIllegalState
        )
        status, identity = ok(hip.hipStreamGetCaptureInfo(stream))
        assert status == ok(hip.hipStreamIsCapturing(stream)) == Status.hipStreamCaptureStatusActive
        identities.add(identity)
        log.append(1, stream)
        dependencies = ctypes.c_void_p()
        status, same, graph, count = ok(
            hip.hipStreamGetCaptureInfo_v2(stream, handle(ctypes.addressof(dependencies)))
        )
        assert (same, count) == (identity, 1)
        assert hip.hipGraphDestroy(graph)[0] == Error.hipErrorInvalidValue  # still the stream's
        node = ctypes.c_void_p.from_address(dependencies.value or 0)
        assert ok(hip.hipGraphNodeGetType(node)) == NodeType.hipGraphNodeTypeKernel
        ok(hip.hipGraphDestroy(ok(hip.hipStreamEndCapture(stream))))
    assert len(identities) == 2
    assert hip.hipStreamIsCapturing(handle(0xBAD))[0] == Error.hipErrorInvalidHandle


def test_what_cannot_begin() -> None:
    for legacy in (None, handle(1)):
        result = hip.hipStreamBeginCapture(legacy, Mode.hipStreamCaptureModeGlobal)
        assert result[0] == Error.hipErrorStreamCaptureUnsupported
    assert library.hipStreamBeginCapture(handle(0xBAD), 0) == int(Error.hipErrorInvalidHandle)
    assert library.hipStreamBeginCapture(handle(2), 3) == int(Error.hipErrorInvalidValue)


# ---- forks and joins ----


def test_fork_and_join(log: Log, stream: Any) -> None:
    side = ok(hip.hipStreamCreateWithFlags(hip.hipStreamNonBlocking))
    forked, joined = ok(hip.hipEventCreate()), ok(hip.hipEventCreate())
    begin(stream)
    log.append(1, stream)
    ok(hip.hipEventRecord(forked, stream))
    ok(hip.hipStreamWaitEvent(side, forked, 0))
    assert ok(hip.hipStreamIsCapturing(side)) == Status.hipStreamCaptureStatusActive
    log.append(2, side)
    log.append(3, stream)
    ok(hip.hipEventRecord(joined, side))
    ok(hip.hipStreamWaitEvent(stream, joined, 0))
    log.append(4, stream)
    for call in (hip.hipEventQuery, hip.hipEventSynchronize):
        assert call(forked)[0] == Error.hipErrorCapturedEvent
    assert hip.hipEventElapsedTime(forked, joined)[0] == Error.hipErrorCapturedEvent
    graph = ok(hip.hipStreamEndCapture(stream))
    assert ok(hip.hipStreamIsCapturing(side)) == Status.hipStreamCaptureStatusNone
    assert len(node_types(graph)) == 4  # events are edges
    executable = instantiate(graph)
    ok(hip.hipGraphLaunch(executable, stream))
    assert log.take() == [1, 2, 3, 4]
    # The event still stands for its place in a capture that is over, until it is recorded anew.
    assert hip.hipStreamWaitEvent(side, forked, 0)[0] == Error.hipErrorCapturedEvent
    ok(hip.hipEventRecord(forked, side))
    ok(hip.hipEventSynchronize(forked))
    ok(hip.hipGraphExecDestroy(executable))
    ok(hip.hipStreamDestroy(side))


def test_work_that_is_not_joined(log: Log, stream: Any) -> None:
    side, event = ok(hip.hipStreamCreate()), ok(hip.hipEventCreate())
    begin(stream)
    log.append(1, stream)
    ok(hip.hipEventRecord(event, stream))
    ok(hip.hipStreamWaitEvent(side, event, 0))
    log.append(2, side)
    assert hip.hipStreamEndCapture(stream) == (Error.hipErrorStreamCaptureUnjoined, None)
    assert ok(hip.hipStreamIsCapturing(side)) == Status.hipStreamCaptureStatusNone
    assert log.append(3, side) == Error.hipSuccess
    assert log.take() == [3]
    # A fork without work needs no join.
    begin(stream)
    ok(hip.hipEventRecord(event, stream))
    ok(hip.hipStreamWaitEvent(side, event, 0))
    ok(hip.hipGraphDestroy(ok(hip.hipStreamEndCapture(stream))))
    ok(hip.hipStreamDestroy(side))


def test_ending_on_another_stream(stream: Any) -> None:
    side, event = ok(hip.hipStreamCreate()), ok(hip.hipEventCreate())
    begin(stream)
    ok(hip.hipEventRecord(event, stream))
    ok(hip.hipStreamWaitEvent(side, event, 0))
    assert hip.hipStreamEndCapture(side) == (Error.hipErrorStreamCaptureUnmatched, None)
    assert hip.hipStreamEndCapture(stream) == (Error.hipErrorStreamCaptureInvalidated, None)
    ok(hip.hipStreamDestroy(side))


def test_two_captures_do_not_merge(stream: Any) -> None:
    other, event = ok(hip.hipStreamCreate()), ok(hip.hipEventCreate())
    begin(stream)
    begin(other)
    ok(hip.hipEventRecord(event, stream))
    assert hip.hipStreamWaitEvent(other, event, 0)[0] == Error.hipErrorStreamCaptureMerge
    for each in (stream, other):
        assert hip.hipStreamEndCapture(each) == (Error.hipErrorStreamCaptureInvalidated, None)
    ok(hip.hipStreamDestroy(other))


def test_a_captured_stream_does_not_wait_for_work_outside(stream: Any) -> None:
    event, untouched = ok(hip.hipEventCreate()), ok(hip.hipEventCreate())
    ok(hip.hipEventRecord(event, None))
    begin(stream)
    ok(hip.hipStreamWaitEvent(stream, untouched, 0))  # never recorded: nothing to wait for
    assert hip.hipStreamWaitEvent(stream, event, 0)[0] == Error.hipErrorStreamCaptureIsolation
    assert hip.hipStreamEndCapture(stream) == (Error.hipErrorStreamCaptureInvalidated, None)


def test_external_event_records_are_nodes(log: Log, stream: Any) -> None:
    first, second = ok(hip.hipEventCreate()), ok(hip.hipEventCreate())
    begin(stream)
    ok(hip.hipEventRecordWithFlags(first, stream, 1))
    log.append(1, stream)
    ok(hip.hipEventRecordWithFlags(second, stream, 1))
    graph = ok(hip.hipStreamEndCapture(stream))
    record, kernel = NodeType.hipGraphNodeTypeEventRecord, NodeType.hipGraphNodeTypeKernel
    assert node_types(graph) == [record, kernel, record]
    executable = instantiate(graph)
    ok(hip.hipGraphLaunch(executable, stream))
    assert ok(hip.hipEventElapsedTime(first, second)) > 0
    ok(hip.hipEventDestroy(second))
    assert hip.hipGraphLaunch(executable, stream)[0] == Error.hipErrorInvalidHandle
    ok(hip.hipGraphExecDestroy(executable))


# ---- what may not be captured ----


def waiting_calls(stream: Any) -> dict[str, tuple[Callable[[], Any], Any]]:
    host = np.zeros(8, np.uint8)
    Unsupported, Implicit = Error.hipErrorStreamCaptureUnsupported, Error.hipErrorStreamCaptureImplicit
    return {
        "stream synchronize": (lambda: hip.hipStreamSynchronize(stream), Unsupported),
        "stream query": (lambda: hip.hipStreamQuery(stream), Unsupported),
        "device synchronize": (hip.hipDeviceSynchronize, Unsupported),
        "malloc": (lambda: hip.hipMalloc(8), Unsupported),
        "free": (lambda: hip.hipFree(None), Unsupported),
        "host malloc": (lambda: hip.hipHostMalloc(8, 0), Unsupported),
        "malloc async": (lambda: hip.hipMallocAsync(8, stream), Unsupported),
        "memcpy": (lambda: hip.hipMemcpy(host, host, 8, hip.hipMemcpyKind.hipMemcpyDefault), Implicit),
        "null stream synchronize": (lambda: hip.hipStreamSynchronize(None), Implicit),
        "null stream event": (lambda: hip.hipEventRecord(ok(hip.hipEventCreate()), None), Implicit),
    }


@pytest.mark.parametrize("name", list(waiting_calls(None)))
def test_calls_that_wait_invalidate_the_capture(log: Log, stream: Any, name: str) -> None:
    call, error = waiting_calls(stream)[name]
    begin(stream)
    log.append(1, stream)
    assert call()[0] == error
    assert ok(hip.hipStreamIsCapturing(stream)) == Status.hipStreamCaptureStatusInvalidated
    assert log.append(2, stream) == Error.hipErrorStreamCaptureInvalidated
    assert hip.hipStreamEndCapture(stream) == (Error.hipErrorStreamCaptureInvalidated, None)
    assert ok(hip.hipStreamIsCapturing(stream)) == Status.hipStreamCaptureStatusNone
    assert log.append(3, stream) == Error.hipSuccess
    assert log.take() == [3]


def test_launches_on_the_null_stream(log: Log, stream: Any) -> None:
    begin(stream)
    assert log.append(1, None) == Error.hipErrorStreamCaptureImplicit
    assert hip.hipStreamEndCapture(stream)[0] == Error.hipErrorStreamCaptureInvalidated
    # A stream that does not block has nothing to do with the null stream, nor has one of another device.
    free = ok(hip.hipStreamCreateWithFlags(hip.hipStreamNonBlocking))
    ok(hip.hipSetDevice(1))
    try:
        other = ok(hip.hipStreamCreate())
    finally:
        ok(hip.hipSetDevice(0))
    for each in (free, other):
        begin(each, Mode.hipStreamCaptureModeThreadLocal)
        assert log.append(2, None) == Error.hipSuccess
        ok(hip.hipGraphDestroy(ok(hip.hipStreamEndCapture(each))))
        ok(hip.hipStreamDestroy(each))
    assert log.take() == [2, 2]


def test_other_streams_go_on_during_a_capture(log: Log, stream: Any) -> None:
    other = ok(hip.hipStreamCreate())
    begin(stream)
    assert log.append(1, stream) == Error.hipSuccess
    assert log.append(2, other) == Error.hipSuccess
    ok(hip.hipStreamSynchronize(other))
    executable = instantiate(ok(hip.hipStreamEndCapture(stream)))
    assert log.take() == [2]
    ok(hip.hipGraphLaunch(executable, other))
    assert log.take() == [1]
    ok(hip.hipGraphExecDestroy(executable))
    ok(hip.hipStreamDestroy(other))


def in_thread(call: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join(30)
    return results[0]


@pytest.mark.parametrize(
    "capture_mode,own_thread,other_thread",
    [
        (Mode.hipStreamCaptureModeGlobal, False, False),
        (Mode.hipStreamCaptureModeThreadLocal, False, True),
        (Mode.hipStreamCaptureModeRelaxed, True, True),
    ],
)
def test_who_may_allocate(stream: Any, capture_mode: Any, own_thread: bool, other_thread: bool) -> None:
    for run, allowed in ((lambda call: call(), own_thread), (in_thread, other_thread)):
        begin(stream, capture_mode)
        error, pointer = run(lambda: hip.hipMalloc(64))
        wanted = Error.hipSuccess if allowed else Error.hipErrorStreamCaptureUnsupported
        assert error == wanted
        error, graph = hip.hipStreamEndCapture(stream)
        assert error == (Error.hipSuccess if allowed else Error.hipErrorStreamCaptureInvalidated)
        ok(hip.hipFree(pointer))
        if graph is not None:
            ok(hip.hipGraphDestroy(graph))


def test_a_thread_may_relax_its_mode(stream: Any) -> None:
    begin(stream)
    assert exchange_mode(Mode.hipStreamCaptureModeRelaxed) == Mode.hipStreamCaptureModeGlobal
    try:
        pointer = ok(hip.hipMalloc(64))
        ok(hip.hipFree(pointer))
    finally:
        assert exchange_mode(Mode.hipStreamCaptureModeGlobal) == Mode.hipStreamCaptureModeRelaxed
    ok(hip.hipGraphDestroy(ok(hip.hipStreamEndCapture(stream))))
    assert library.hipThreadExchangeStreamCaptureMode(ctypes.byref(ctypes.c_int(5))) == 1


def test_the_thread_that_ends_a_capture(stream: Any) -> None:
    for mode in (Mode.hipStreamCaptureModeGlobal, Mode.hipStreamCaptureModeThreadLocal):
        begin(stream, mode)
        assert in_thread(lambda: hip.hipStreamEndCapture(stream)) == (
            Error.hipErrorStreamCaptureWrongThread,
            None,
        )
        ok(hip.hipGraphDestroy(ok(hip.hipStreamEndCapture(stream))))
    begin(stream, Mode.hipStreamCaptureModeRelaxed)
    ok(hip.hipGraphDestroy(ok(in_thread(lambda: hip.hipStreamEndCapture(stream)))))


def test_destroying_a_stream_ends_its_part(log: Log, stream: Any) -> None:
    origin = ok(hip.hipStreamCreate())
    begin(origin)
    log.append(1, origin)
    ok(hip.hipStreamDestroy(origin))
    ok(hip.hipDeviceSynchronize())  # nothing is being captured any more
    side, event = ok(hip.hipStreamCreate()), ok(hip.hipEventCreate())
    begin(stream)
    ok(hip.hipEventRecord(event, stream))
    ok(hip.hipStreamWaitEvent(side, event, 0))
    ok(hip.hipStreamDestroy(side))
    assert hip.hipStreamEndCapture(stream) == (Error.hipErrorStreamCaptureInvalidated, None)


def test_threads_capture_and_replay_at_once(kernels: Path) -> None:
    module = ok(hip.hipModuleLoadData(kernels.read_bytes()))
    failures: list[list[int]] = []

    def work(seed: int) -> None:
        log, stream = Log(module), ok(hip.hipStreamCreateWithFlags(hip.hipStreamNonBlocking))
        for _ in range(100):
            begin(stream, Mode.hipStreamCaptureModeRelaxed)
            for value in range(5):
                log.append(seed + value, stream)
            executable = instantiate(ok(hip.hipStreamEndCapture(stream)))
            ok(hip.hipGraphLaunch(executable, stream))
            ok(hip.hipGraphExecDestroy(executable))
            words = (ctypes.c_uint32 * 6).from_address(log.pointer)
            if list(words) != [5, *range(seed, seed + 5)]:
                failures.append(list(words))
            words[0] = 0
        finished.append(seed)

    finished: list[int] = []
    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert sorted(finished) == [0, 100, 200, 300]
    ok(hip.hipModuleUnload(module))
