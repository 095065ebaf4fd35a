"""Small programs that drive the NVIDIA platform through hip-python; ``test_platform_cuda.py`` runs each.

One check is one process: ``python platform_cuda_checks.py NAME``. A check fails by an exception; what it
prints is shown in the summary. ROCM_PATH names the platform, as for any hip-python program.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from platform_cuda_support import (
    BLOCK,
    KIND,
    PTX,
    address,
    code,
    do,
    do_name,
    driver,
    fill,
    finishes,
    function,
    hip,
    in_thread,
    launch,
    load,
    malloc,
    native,
    read,
    spinning,
    write,
)

CHECKS: dict[str, Callable[[], None]] = {}


def check(function: Callable[[], None]) -> Callable[[], None]:
    """Add a check under its function's name."""
    CHECKS[function.__name__] = function
    return function


# ---- devices and contexts -------------------------------------------------------------------------------


@check
def properties() -> None:
    """Real numbers, the same from properties and attributes, and no context made by asking."""
    count = do(hip.hipGetDeviceCount())
    lib = native()
    for device in range(count):
        p = do(hip.hipGetDeviceProperties(device))
        assert p.warpSize == 32 and p.maxThreadsPerBlock == 1024
        assert p.gcnArchName == f"sm_{p.major}{p.minor}" and p.multiProcessorCount > 0
        assert p.totalGlobalMem == do(hip.hipDeviceTotalMem(device)) > 1 << 30
        assert p.sharedMemPerBlockOptin >= p.sharedMemPerBlock >= 48 << 10

        def attribute(name: str, device: int = device) -> int:
            number = getattr(hip.hipDeviceAttribute_t, f"hipDeviceAttribute{name}")
            return int(do(hip.hipDeviceGetAttribute(number, device)))

        assert attribute("WarpSize") == 32 and attribute("WallClockRate") == 1000000
        assert attribute("MultiprocessorCount") == p.multiProcessorCount
        assert attribute("L2CacheSize") == p.l2CacheSize > 0 and attribute("ClockRate") == p.clockRate > 0
        assert attribute("PciBusId") == p.pciBusID
        name = ctypes.create_string_buffer(64)
        ordinal = ctypes.c_int(-1)
        assert lib.hipDeviceGetPCIBusId(name, 64, device) == 0
        assert int(name.value.split(b":")[1], 16) == p.pciBusID
        assert lib.hipDeviceGetByPCIBusId(ctypes.byref(ordinal), name) == 0 and ordinal.value == device
        uuid = ctypes.create_string_buffer(16)
        assert lib.hipDeviceGetUuid(uuid, device) == 0 and uuid.raw == bytes(p.uuid.bytes)[:16] != bytes(16)
        flags, active = ctypes.c_uint(), ctypes.c_int(1)
        assert driver().cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active)) == 0
        assert active.value == 0, "asking made a context"
        print(f"{device}: {p.name}, {p.gcnArchName}, {p.multiProcessorCount} SMs, {name.value.decode()}")
    assert code(hip.hipGetDeviceProperties(count)) == 101 and code(hip.hipSetDevice(count)) == 101
    print(f"driver {do(hip.hipDriverGetVersion())}, HIP {do(hip.hipRuntimeGetVersion())}")


@check
def contexts() -> None:
    """Primary contexts, made current when first needed, on each thread."""
    buffer = malloc(4 * BLOCK)  # no hipSetDevice before
    assert do(hip.hipGetDevice()) == 0
    current, primary = ctypes.c_void_p(), ctypes.c_void_p()
    assert driver().cuCtxGetCurrent(ctypes.byref(current)) == 0
    assert driver().cuDevicePrimaryCtxRetain(ctypes.byref(primary), 0) == 0
    assert current.value == primary.value is not None
    kernel = function(load(), "fill")

    def elsewhere() -> list[int]:  # the launch is this thread's first call
        fill(kernel, buffer, 3, BLOCK)
        do(hip.hipDeviceSynchronize())
        return read(buffer, BLOCK)

    assert in_thread(elsewhere) == list(range(3, 3 + BLOCK))
    event = do(hip.hipEventCreate())
    first_calls: dict[str, Callable[[], tuple[Any, ...]]] = {
        "hipMemGetInfo": hip.hipMemGetInfo,
        "hipHostMalloc": lambda: hip.hipHostMalloc(64, 0),
        "hipMemcpy": lambda: hip.hipMemcpy(buffer, bytes(8), 8, KIND),
        "hipMemset": lambda: hip.hipMemset(buffer, 0, 8),
        "hipMemsetAsync": lambda: hip.hipMemsetAsync(buffer, 0, 8, None),
        "hipStreamCreate": hip.hipStreamCreate,
        "hipStreamSynchronize": lambda: hip.hipStreamSynchronize(None),
        "hipEventCreate": hip.hipEventCreate,
        "hipEventRecord": lambda: hip.hipEventRecord(event, None),
        "hipEventSynchronize": lambda: hip.hipEventSynchronize(event),
        "hipDeviceSynchronize": hip.hipDeviceSynchronize,
        "hipModuleLoadData": lambda: hip.hipModuleLoadData(PTX),
        "hipIpcGetMemHandle": lambda: hip.hipIpcGetMemHandle(buffer),
        "hipPointerGetAttributes": lambda: hip.hipPointerGetAttributes(buffer),
        "hipMallocAsync": lambda: hip.hipMallocAsync(64, None),
    }
    for name, call in first_calls.items():
        result = int(in_thread(call)[0])
        assert result == 0, f"{name} as a thread's first call gave {result}"


@check
def foreign_context() -> None:
    """A context that another library made current is used, and hipGetDevice follows it."""
    last = do(hip.hipGetDeviceCount()) - 1
    context, current = ctypes.c_void_p(), ctypes.c_void_p()
    assert driver().cuDevicePrimaryCtxRetain(ctypes.byref(context), last) == 0
    assert driver().cuCtxSetCurrent(context) == 0
    assert do(hip.hipGetDevice()) == last
    buffer = malloc(4)
    write(buffer, [5])
    attributes = do(hip.hipPointerGetAttributes(buffer))
    assert attributes.device == last and int(attributes.type) == 2
    do(hip.hipSetDevice(last))
    assert driver().cuCtxGetCurrent(ctypes.byref(current)) == 0 and current.value == context.value


@check
def reset() -> None:
    """hipDeviceReset frees everything, and the device works again on the same thread."""
    before = do(hip.hipMemGetInfo())[0]
    malloc(1 << 30)
    do(hip.hipDeviceReset())
    assert do(hip.hipMemGetInfo())[0] >= before - (64 << 20)
    buffer = malloc(8)
    write(buffer, [1, 2])
    assert read(buffer, 2) == [1, 2]


# ---- memory ---------------------------------------------------------------------------------------------


@check
def memory() -> None:
    """Every kind of allocation, copies, fills, and what a pointer is."""
    for flags in (0, 1, 3):  # ordinary, fine-grained, uncached
        pointer = address(do(hip.hipExtMallocWithFlags(4096, flags)))
        write(pointer + 8, [flags, 9])
        assert read(pointer + 8, 2) == [flags, 9]
        do(hip.hipFree(pointer))
    nbytes = 3 << 20
    buffer = malloc(nbytes)
    base, size = do(hip.hipMemGetAddressRange(buffer + 12345))
    assert address(base) == buffer and size >= nbytes
    do(hip.hipMemset(buffer, 0x1AB, 64))
    do(hip.hipMemsetD16(buffer + 4, 0x1234, 2))
    do(hip.hipMemsetD32(buffer + 8, 0x56789ABC, 1))
    assert read(buffer, 4) == [0xABABABAB, 0x12341234, 0x56789ABC, 0xABABABAB]
    other = malloc(nbytes)
    do(hip.hipMemcpy(other, buffer, 64, hip.hipMemcpyKind.hipMemcpyDeviceToDevice))
    assert read(other, 3) == [0xABABABAB, 0x12341234, 0x56789ABC]
    stream = do(hip.hipStreamCreate())
    do(hip.hipMemsetAsync(other, 0, nbytes, stream))
    do(hip.hipMemcpyAsync(other + 4, buffer, 4, KIND, stream))
    do(hip.hipStreamSynchronize(stream))
    assert read(other, 3) == [0, 0xABABABAB, 0]
    pooled = address(do(hip.hipMallocAsync(1024, stream)))
    do(hip.hipMemsetAsync(pooled, 1, 1024, stream))
    do(hip.hipFreeAsync(pooled, stream))
    do(hip.hipStreamSynchronize(stream))
    free, total = do(hip.hipMemGetInfo())
    assert 0 < free < total

    attributes = do(hip.hipPointerGetAttributes(buffer + 4))
    assert int(attributes.type) == 2 and attributes.device == 0
    unknown = ctypes.create_string_buffer(8)
    assert int(do(hip.hipPointerGetAttributes(ctypes.addressof(unknown))).type) == 0

    do(hip.hipFree(buffer))
    assert code(hip.hipFree(buffer)) != 0, "a double free was accepted"
    assert code(hip.hipMalloc(1 << 50)) == 2 and code(hip.hipExtMallocWithFlags(64, 77)) == 1
    assert code(hip.hipGetLastError()) == 1 and code(hip.hipGetLastError()) == 0


@check
def host_memory() -> None:
    """Pinned memory that a kernel writes and the host reads, allocated and registered."""
    kernel = function(load(), "fill")
    pinned = do(hip.hipHostMalloc(4 * BLOCK, hip.hipHostMallocMapped | hip.hipHostMallocPortable))
    mapped = address(do(hip.hipHostGetDevicePointer(pinned, 0)))
    fill(kernel, mapped, 11, BLOCK)
    do(hip.hipDeviceSynchronize())
    assert list((ctypes.c_uint * BLOCK).from_address(address(pinned))) == list(range(11, 11 + BLOCK))
    assert int(do(hip.hipPointerGetAttributes(address(pinned) + 4)).type) == 1
    do(hip.hipHostFree(pinned))
    plain = ctypes.create_string_buffer(1 << 16)
    page = (ctypes.addressof(plain) + 4095) & ~4095
    do(hip.hipHostRegister(page, 4096, hip.hipHostRegisterMapped))
    assert code(hip.hipHostRegister(page, 4096, 0)) == 712
    fill(kernel, address(do(hip.hipHostGetDevicePointer(page, 0))), 21, BLOCK)
    do(hip.hipDeviceSynchronize())
    assert list((ctypes.c_uint * BLOCK).from_address(page)) == list(range(21, 21 + BLOCK))
    do(hip.hipHostUnregister(page))
    assert code(hip.hipHostUnregister(page)) == 713


# ---- modules and launches -------------------------------------------------------------------------------


@check
def modules() -> None:
    """PTX and what is wrong with it, globals, function attributes, occupancy."""
    module = load()
    kernel = function(module, "fill")
    pointer, nbytes = do(hip.hipModuleGetGlobal(module, b"bias"))
    assert nbytes == 4
    write(address(pointer), [1000])
    buffer = malloc(4 * BLOCK)
    fill(kernel, buffer, 1, BLOCK)
    assert read(buffer, BLOCK) == list(range(1001, 1001 + BLOCK))
    assert code(hip.hipModuleGetFunction(module, b"missing")) == 500
    assert code(hip.hipModuleGetGlobal(module, b"missing")) == 500
    most = hip.hipFunction_attribute.HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK
    assert do(hip.hipFuncGetAttribute(most, kernel)) == 1024
    registers = do(hip.hipFuncGetAttribute(hip.hipFunction_attribute.HIP_FUNC_ATTRIBUTE_NUM_REGS, kernel))
    assert 0 < registers <= 64
    assert do(hip.hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(kernel, BLOCK, 0)) >= 8
    bad = PTX.replace(b"bar.sync 0;", b"bar.sunk 0;")
    error = hip.hipModuleLoadData(bad)[0]
    assert int(error) == 218 and "bar" in do_name(error), do_name(error)
    print(do_name(error).splitlines()[0])
    assert code(hip.hipModuleLoadData(bytes(4096))) in (200, 209, 218, 300)
    do(hip.hipModuleUnload(module))


@check
def launches() -> None:
    """Arguments both ways, dynamic shared memory beyond 48 KiB, and launches that cannot be."""
    module = load()
    kernel = function(module, "fill")
    count = 5 * BLOCK + 3
    buffer = malloc(4 * count)
    fill(kernel, buffer, 1, count)  # `extra`
    assert read(buffer, count) == list(range(1, 1 + count))
    out, value, number = ctypes.c_void_p(buffer), ctypes.c_uint(50), ctypes.c_uint(count)
    params = (ctypes.c_void_p * 3)(*(ctypes.addressof(argument) for argument in (out, value, number)))
    lib = native()
    handle = ctypes.c_void_p(address(kernel))
    blocks = -(-count // BLOCK)
    assert lib.hipModuleLaunchKernel(handle, blocks, 1, 1, BLOCK, 1, 1, 0, None, params, None) == 0
    assert read(buffer, count) == list(range(50, 50 + count))

    reverse = function(module, "reverse")
    write(buffer, list(range(BLOCK)))
    assert launch(reverse, (ctypes.c_void_p(buffer),), BLOCK, shared=4 * BLOCK) == 0
    assert read(buffer, BLOCK) == list(range(BLOCK))[::-1]
    large = 96 << 10
    assert launch(reverse, (ctypes.c_void_p(buffer),), BLOCK, shared=large) == 1
    setting = hip.hipFuncAttribute.hipFuncAttributeMaxDynamicSharedMemorySize
    do(hip.hipFuncSetAttribute(address(reverse), setting, large))
    assert launch(reverse, (ctypes.c_void_p(buffer),), BLOCK, shared=large) == 0
    assert read(buffer, BLOCK) == list(range(BLOCK))

    assert lib.hipModuleLaunchKernel(handle, 1, 1, 1, 2048, 1, 1, 0, None, params, None) != 0
    assert lib.hipModuleLaunchKernel(handle, 0, 1, 1, 1, 1, 1, 0, None, params, None) != 0
    assert lib.hipModuleLaunchKernel(None, 1, 1, 1, 1, 1, 1, 0, None, params, None) == 400
    do(hip.hipDeviceSynchronize())  # none of which harmed the context


@check
def first_launch_beside_a_spinning_kernel() -> None:
    """A kernel that never ran starts while another one spins: its code was loaded before."""
    kernel = function(load(), "fill")
    buffer = malloc(4 * BLOCK)
    spinner = do(hip.hipStreamCreateWithFlags(hip.hipStreamNonBlocking))
    stream = do(hip.hipStreamCreateWithFlags(hip.hipStreamNonBlocking))
    with spinning(spinner):
        fill(kernel, buffer, 1, BLOCK, stream)
        assert finishes(stream, 3), "the launch waited for the spinning kernel"
        assert code(hip.hipStreamQuery(spinner)) == 600
    assert read(buffer, BLOCK) == list(range(1, 1 + BLOCK))


@check
def bad_kernel() -> None:
    """A kernel that writes through a wild pointer is reported, not fatal to the process."""
    fill(function(load(), "fill"), 0x10, 1, 1)
    assert code(hip.hipDeviceSynchronize()) == 700
    assert code(hip.hipMalloc(64)) == 700  # CUDA's errors of this kind stay
    assert hip.hipError_t.hipErrorIllegalAddress.name == "hipErrorIllegalAddress"


@check
def launch_cost() -> None:
    """Host time of a launch through this library and through the driver itself; printed, not judged."""
    kernel = ctypes.c_void_p(address(function(load(), "fill")))
    out, value, number = ctypes.c_void_p(malloc(512)), ctypes.c_uint(0), ctypes.c_uint(BLOCK)
    params = (ctypes.c_void_p * 3)(*(ctypes.addressof(argument) for argument in (out, value, number)))
    none, one, block = ctypes.c_void_p(), ctypes.c_uint(1), ctypes.c_uint(BLOCK)
    zero = ctypes.c_uint(0)
    arguments = (kernel, one, one, one, block, one, one, zero, none, params, none)
    calls = 2000
    best = {}
    for name, entry in {"this": native().hipModuleLaunchKernel, "driver": driver().cuLaunchKernel}.items():
        times = []
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(calls):
                entry(*arguments)
            times.append((time.perf_counter() - start) / calls)
            do(hip.hipDeviceSynchronize())
        best[name] = min(times) * 1e6
    print(f"one launch through ctypes: {best['this']:.2f} us, through the driver {best['driver']:.2f} us")


# ---- streams, events, graphs ----------------------------------------------------------------------------


@check
def streams_and_events() -> None:
    """Order between streams, "not ready", times, priorities, host functions."""
    kernel = function(load(), "fill")
    buffer = malloc(4 * BLOCK)
    first = do(hip.hipStreamCreateWithFlags(hip.hipStreamNonBlocking))
    least, greatest = do(hip.hipDeviceGetStreamPriorityRange())
    second = do(hip.hipStreamCreateWithPriority(hip.hipStreamNonBlocking, greatest))
    assert least >= greatest == do(hip.hipStreamGetPriority(second))
    assert do(hip.hipStreamGetFlags(second)) == 1 and do(hip.hipStreamGetDevice(second)) == 0
    ready = do(hip.hipEventCreateWithFlags(hip.hipEventDisableTiming))
    write(buffer, [0])
    with spinning(first):
        do(hip.hipEventRecord(ready, first))
        do(hip.hipStreamWaitEvent(second, ready, 0))
        fill(kernel, buffer, 5, BLOCK, second)
        assert code(hip.hipEventQuery(ready)) == 600 == code(hip.hipStreamQuery(second))
        assert code(hip.hipGetLastError()) == 0
    do(hip.hipEventSynchronize(ready))
    assert finishes(second, 10) and read(buffer, BLOCK) == list(range(5, 5 + BLOCK))

    start, stop = do(hip.hipEventCreate()), do(hip.hipEventCreate())
    do(hip.hipEventRecord(start, first))
    with spinning(first):
        time.sleep(0.05)
    do(hip.hipEventRecord(stop, first))
    do(hip.hipEventSynchronize(stop))
    elapsed = do(hip.hipEventElapsedTime(start, stop))
    assert elapsed >= 49, elapsed  # ms; two clocks
    assert code(hip.hipEventElapsedTime(ready, stop)) == 400  # made without times

    seen: list[int] = []
    host_function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(seen.append)
    lib = native()
    assert lib.hipLaunchHostFunc(ctypes.c_void_p(address(first)), host_function, ctypes.c_void_p(42)) == 0
    do(hip.hipStreamSynchronize(first))
    assert seen == [42]
    fill(kernel, buffer, 6, BLOCK, 2)  # hipStreamPerThread
    do(hip.hipStreamSynchronize(2))
    fill(kernel, buffer, 7, BLOCK, 1)  # hipStreamLegacy
    do(hip.hipStreamSynchronize(1))
    assert read(buffer, 1) == [7]
    for stream in (first, second):
        do(hip.hipStreamDestroy(stream))
    for event in (ready, start, stop):
        do(hip.hipEventDestroy(event))


@check
def graphs() -> None:
    """Capture across two streams, replay with changing memory, and what may not be captured."""
    kernel = function(load(), "fill")
    source, target = malloc(4 * BLOCK), malloc(8 * BLOCK)
    main = do(hip.hipStreamCreateWithFlags(hip.hipStreamNonBlocking))
    side = do(hip.hipStreamCreateWithFlags(hip.hipStreamNonBlocking))
    fork, join = do(hip.hipEventCreate()), do(hip.hipEventCreate())
    status = hip.hipStreamCaptureStatus
    assert do(hip.hipStreamIsCapturing(main)) == status.hipStreamCaptureStatusNone
    do(hip.hipStreamBeginCapture(main, hip.hipStreamCaptureMode.hipStreamCaptureModeThreadLocal))
    assert do(hip.hipStreamIsCapturing(main)) == status.hipStreamCaptureStatusActive
    do(hip.hipMemcpyAsync(target, source, 4 * BLOCK, KIND, main))
    do(hip.hipEventRecord(fork, main))
    do(hip.hipStreamWaitEvent(side, fork, 0))
    fill(kernel, target + 4 * BLOCK, 9, BLOCK, side)
    do(hip.hipEventRecord(join, side))
    do(hip.hipStreamWaitEvent(main, join, 0))
    do(hip.hipMemsetAsync(target, 0xFF, 4, main))
    graph = do(hip.hipStreamEndCapture(main))
    counted = ctypes.c_size_t()
    lib = native()
    assert lib.hipGraphGetNodes(ctypes.c_void_p(address(graph)), None, ctypes.byref(counted)) == 0
    assert counted.value == 3
    handle = ctypes.c_void_p()
    log = ctypes.create_string_buffer(b"x" * 16)
    assert lib.hipGraphInstantiate(ctypes.byref(handle), ctypes.c_void_p(address(graph)), None, log, 16) == 0
    assert log.raw[:16] == bytes(16)
    do(hip.hipGraphDestroy(graph))
    for replay in range(200):
        write(source, [replay + i for i in range(BLOCK)])
        write(target, [0] * (2 * BLOCK))
        do(hip.hipGraphLaunch(handle.value, main))
        do(hip.hipStreamSynchronize(main))
        expected = [0xFFFFFFFF, *range(replay + 1, replay + BLOCK), *range(9, 9 + BLOCK)]
        assert read(target, 2 * BLOCK) == expected, replay
    do(hip.hipGraphExecDestroy(handle.value))

    do(hip.hipStreamBeginCapture(main, hip.hipStreamCaptureMode.hipStreamCaptureModeGlobal))
    assert code(hip.hipStreamSynchronize(main)) == 900
    assert code(hip.hipStreamEndCapture(main)) == 901
    fill(kernel, target, 1, BLOCK, main)
    do(hip.hipStreamSynchronize(main))
    assert read(target, 1) == [1]


# ---- between processes and devices ----------------------------------------------------------------------


class Handle(ctypes.Structure):
    """hipIpcMemHandle_t, which travels by value."""

    _fields_ = (("reserved", ctypes.c_char * 64),)


def share_with_a_process(peer_device: int) -> None:
    """Export an allocation, let another process fill half of it from its device, and look."""
    module = load()
    small = malloc(1024)  # two allocations that the driver may put into one block
    buffer = malloc(1024)
    assert small != buffer
    write(buffer, [77] * 256)
    handle = do(hip.hipIpcGetMemHandle(buffer))
    text = bytes(ctypes.string_at(address(handle), 64)).hex()
    own = ctypes.c_void_p()
    exported = Handle.from_buffer_copy(bytes.fromhex(text))
    refused = native().hipIpcOpenMemHandle(ctypes.byref(own), exported, 1)
    assert refused != 0, "a handle was opened by the process that made it"
    command = [sys.executable, __file__, "ipc_peer", text, str(peer_device)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    do(hip.hipDeviceSynchronize())
    assert read(buffer, 256) == [77] * 128 + list(range(500, 628))
    interior = code(hip.hipIpcGetMemHandle(buffer + 512))
    print(f"opening in the same process gives {refused}; exporting an interior pointer gives {interior}")
    do(hip.hipModuleUnload(module))


def ipc_peer(text: str, device: int) -> None:
    """The other process: map the memory, check the pattern, fill the second half, unmap."""
    do(hip.hipSetDevice(device))
    pointer = ctypes.c_void_p()
    kernel = function(load(), "fill")
    handle = Handle.from_buffer_copy(bytes.fromhex(text))
    assert native().hipIpcOpenMemHandle(ctypes.byref(pointer), handle, 1) == 0
    mapped = pointer.value
    assert mapped is not None and read(mapped, 256) == [77] * 256
    fill(kernel, mapped + 512, 500, 128)
    do(hip.hipDeviceSynchronize())
    do(hip.hipIpcCloseMemHandle(mapped))
    assert code(hip.hipIpcCloseMemHandle(mapped)) != 0, "a mapping was closed twice"
    garbage = Handle.from_buffer_copy(bytes(64))
    assert native().hipIpcOpenMemHandle(ctypes.byref(pointer), garbage, 1) != 0


@check
def ipc_on_one_device() -> None:
    """Memory of one process in another, both on device 0."""
    share_with_a_process(0)


@check
def two_devices_ipc() -> None:
    """Memory on device 0 mapped by a process on device 1."""
    share_with_a_process(1)


@check
def two_devices_peers() -> None:
    """Peer access, copies between devices, and a thread per device."""
    lib = native()
    can = ctypes.c_int()
    assert lib.hipDeviceCanAccessPeer(ctypes.byref(can), 0, 1) == 0
    on_zero = malloc(4 * BLOCK)
    write(on_zero, list(range(BLOCK)))
    do(hip.hipSetDevice(1))
    on_one = malloc(4 * BLOCK)
    do(hip.hipMemcpyPeer(on_one, 1, on_zero, 0, 4 * BLOCK))
    assert read(on_one, BLOCK) == list(range(BLOCK))
    do(hip.hipMemset(on_one, 0, 4 * BLOCK))
    do(hip.hipMemcpy(on_one, on_zero, 4 * BLOCK, KIND))
    assert read(on_one, BLOCK) == list(range(BLOCK))
    assert in_thread(lambda: do(hip.hipGetDevice())) == 0 and do(hip.hipGetDevice()) == 1
    print(f"device 0 {'can' if can.value else 'cannot'} access device 1")
    if can.value:
        do(hip.hipDeviceEnablePeerAccess(0, 0))
        assert code(hip.hipDeviceEnablePeerAccess(0, 0)) == 704
        fill(function(load(), "fill"), on_zero, 300, BLOCK)
        do(hip.hipDeviceSynchronize())
        assert read(on_zero, BLOCK) == list(range(300, 300 + BLOCK))
        do(hip.hipDeviceDisablePeerAccess(0))
        assert code(hip.hipDeviceDisablePeerAccess(0)) == 705
        value = ctypes.c_int(-1)
        assert lib.hipDeviceGetP2PAttribute(ctypes.byref(value), 1, 1, 0) == 0 and value.value == 1


if __name__ == "__main__":
    if sys.argv[1] == "ipc_peer":
        ipc_peer(sys.argv[2], int(sys.argv[3]))
    else:
        CHECKS[sys.argv[1]]()
