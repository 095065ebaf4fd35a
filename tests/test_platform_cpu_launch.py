"""Modules, functions, launches, streams and events of the CPU platform."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

SOURCE = """
#include <string.h>

#include "kernel_abi.h"

#define EXPORT extern "C" __attribute__((visibility("default")))
#define TABLE(name) EXPORT const uint32_t name##_kernargs[]; const uint32_t name##_kernargs[]

struct Fill { uint32_t* out; uint32_t value; };

// One argument, undeclared: a struct.
EXPORT void fill(const void* kernarg, const hipcommCpuBlock* b) {
    const Fill& a = *static_cast<const Fill*>(kernarg);
    a.out[b->block[0]] = a.value;
}

// Several arguments whose natural alignments leave gaps.
struct Mixed { uint8_t byte; uint64_t* out; uint16_t word; double number; };
TABLE(mixed) = {4, 1, 1, 8, 8, 2, 2, 8, 8};
EXPORT void mixed(const void* kernarg, const hipcommCpuBlock*) {
    const Mixed& a = *static_cast<const Mixed*>(kernarg);
    a.out[0] = a.byte;
    a.out[1] = a.word;
    a.out[2] = static_cast<uint64_t>(a.number);
}

// Appends what a block is told about itself to a record; the argument points to the record's end.
EXPORT void geometry(const void* kernarg, const hipcommCpuBlock* b) {
    uint32_t*& next = **static_cast<uint32_t** const*>(kernarg);
    for (int i = 0; i < 3; ++i) *next++ = b->block[i];
    for (int i = 0; i < 3; ++i) *next++ = b->grid[i];
    for (int i = 0; i < 3; ++i) *next++ = b->block_dim[i];
    *next++ = b->shared_bytes;
    *next++ = b->shared == nullptr ? 0 : 1 + reinterpret_cast<uintptr_t>(b->shared) % 64;
    if (b->shared != nullptr) memset(b->shared, 1, b->shared_bytes);  // links the C library
}

TABLE(nothing) = {0};
EXPORT uint32_t calls;
uint32_t calls = 7;
EXPORT void nothing(const void*, const hipcommCpuBlock*) { ++calls; }

// Waits for a flag that another thread sets.
EXPORT void wait_for(const void* kernarg, const hipcommCpuBlock*) {
    const uint32_t* const flag = *static_cast<uint32_t* const*>(kernarg);
    while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) == 0) {}
}

// Says whether its argument segment is aligned to 16 bytes.
TABLE(alignment) = {1, 16, 16};
EXPORT void alignment(const void* kernarg, const hipcommCpuBlock*) {
    **static_cast<uint32_t* const*>(kernarg) = reinterpret_cast<uintptr_t>(kernarg) % 16 == 0;
}

TABLE(broken) = {3, 8, 8};
EXPORT void broken(const void*, const hipcommCpuBlock*) {}
"""


class Fill(ctypes.Structure):
    _fields_ = [("out", ctypes.c_uint64), ("value", ctypes.c_uint32)]


@pytest.fixture(scope="module")
def code_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_code_object(SOURCE, tmp_path_factory.mktemp("kernels") / "kernels.so")


@pytest.fixture(scope="module")
def module(code_object: Path) -> Any:
    return ok(hip.hipModuleLoadData(code_object.read_bytes()))


def function(module: Any, name: str) -> Any:
    return ok(hip.hipModuleGetFunction(module, name.encode()))


def launch(
    function: Any,
    parameters: list[Any] | None,
    *,
    grid: tuple[int, int, int] = (1, 1, 1),
    block: tuple[int, int, int] = (1, 1, 1),
    shared: int = 0,
    stream: Any = None,
    extra: Any = None,
) -> Any:
    """Launches with pointers to the given ctypes values; the error code."""
    pointers = None
    if parameters is not None:
        pointers = (ctypes.c_void_p * len(parameters))(*[ctypes.addressof(value) for value in parameters])
    return hip.hipModuleLaunchKernel(function, *grid, *block, shared, stream, pointers, extra)[0]


def extra_of(buffer: Any, size: int) -> Any:
    """HIP's `extra` array: a ready argument segment."""
    count = ctypes.c_size_t(size)
    array = (ctypes.c_void_p * 5)(1, ctypes.addressof(buffer), 2, ctypes.addressof(count), 3)
    array.kept = (buffer, count)  # type: ignore[attr-defined]
    return array


# ---- modules ----


def test_loading_from_memory_and_from_a_file(code_object: Path) -> None:
    image = code_object.read_bytes()
    first, second = ok(hip.hipModuleLoadData(image)), ok(hip.hipModuleLoad(str(code_object).encode()))
    addresses = [address(ok(hip.hipModuleGetGlobal(module, b"calls"))[0]) for module in (first, second)]
    assert addresses[0] != addresses[1]  # each module has variables of its own
    for module in (first, second):
        ok(hip.hipModuleUnload(module))
        assert hip.hipModuleUnload(module)[0] == Error.hipErrorInvalidHandle
        assert hip.hipModuleGetFunction(module, b"fill")[0] == Error.hipErrorInvalidHandle


def test_an_image_that_ends_with_its_page(code_object: Path) -> None:
    """Nothing behind the image may be read: the next page is not there."""
    image = code_object.read_bytes()
    pages = -(-len(image) // mmap.PAGESIZE)
    area = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None)
    end = base + pages * mmap.PAGESIZE
    assert libc.mprotect(ctypes.c_void_p(end), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    ctypes.memmove(end - len(image), image, len(image))
    ok(hip.hipModuleUnload(ok(hip.hipModuleLoadData(handle(end - len(image))))))
    # One byte later, the image runs into that page.
    ctypes.memmove(end - len(image) + 1, image, len(image) - 1)
    assert hip.hipModuleLoadData(handle(end - len(image) + 1))[0] == Error.hipErrorInvalidImage


def test_images_that_are_none(code_object: Path, tmp_path: Path) -> None:
    image = code_object.read_bytes()
    assert hip.hipModuleLoadData(b"neither ELF nor anything else" * 10)[0] == Error.hipErrorInvalidImage
    assert hip.hipModuleLoadData(handle(0x1000))[0] == Error.hipErrorInvalidImage
    assert hip.hipModuleLoadData(None)[0] == Error.hipErrorInvalidValue
    amdgpu = image[:18] + (224).to_bytes(2, "little") + image[20:]
    assert hip.hipModuleLoadData(amdgpu)[0] == Error.hipErrorNoBinaryForGpu
    bundle = b"__CLANG_OFFLOAD_BUNDLE__" + bytes(200)
    assert hip.hipModuleLoadData(bundle)[0] == Error.hipErrorNoBinaryForGpu
    executable = image[:16] + (2).to_bytes(2, "little") + image[18:]
    assert hip.hipModuleLoadData(executable)[0] == Error.hipErrorInvalidImage
    wide = image[:4] + b"\1" + image[5:]  # 32 bits
    assert hip.hipModuleLoadData(wide)[0] == Error.hipErrorInvalidImage
    absurd = image[:40] + (1 << 60).to_bytes(8, "little") + image[48:]  # e_shoff
    assert hip.hipModuleLoadData(absurd)[0] == Error.hipErrorInvalidImage
    assert hip.hipModuleLoad(str(tmp_path / "missing").encode())[0] == Error.hipErrorFileNotFound
    assert hip.hipModuleLoad(str(tmp_path).encode())[0] == Error.hipErrorInvalidImage
    (tmp_path / "short").write_bytes(image[: len(image) // 2])
    assert hip.hipModuleLoad(str(tmp_path / "short").encode())[0] == Error.hipErrorInvalidImage


def test_an_object_with_an_unresolved_symbol(tmp_path: Path) -> None:
    source = (
        'extern "C" void missing(); extern "C" __attribute__((visibility("default"))) void f() { missing(); }'
    )
    path = compile_code_object(source, tmp_path / "unresolved.so")
    assert hip.hipModuleLoad(str(path).encode())[0] == Error.hipErrorSharedObjectInitFailed


def test_functions_that_are_not_there(module: Any) -> None:
    for name in (b"missing", b"", b"malloc", b"calls", b"fill_kernargs"):
        assert hip.hipModuleGetFunction(module, name)[0] == Error.hipErrorNotFound, name
    assert hip.hipModuleGetFunction(module, b"broken")[0] == Error.hipErrorInvalidImage  # a table cut short
    for garbage in (0, 1, 0xDEADBEEF):
        assert hip.hipModuleGetFunction(handle(garbage), b"fill")[0] == Error.hipErrorInvalidHandle


def test_variables(module: Any) -> None:
    pointer, size = ok(hip.hipModuleGetGlobal(module, b"calls"))
    assert size == 4
    assert hip.hipModuleGetGlobal(module, b"fill")[0] == Error.hipErrorNotFound
    assert hip.hipModuleGetGlobal(module, b"missing")[0] == Error.hipErrorNotFound
    before = int.from_bytes(read_device(address(pointer), 4), "little")
    assert launch(function(module, "nothing"), None) == Error.hipSuccess
    assert int.from_bytes(read_device(address(pointer), 4), "little") == before + 1
    write_device(address(pointer), (40).to_bytes(4, "little"))
    ok(hip.hipMemcpyDtoD(pointer, pointer, 4))  # it is device memory
    assert launch(function(module, "nothing"), None) == Error.hipSuccess
    assert int.from_bytes(read_device(address(pointer), 4), "little") == 41
    assert hip.hipFree(pointer)[0] == Error.hipErrorInvalidValue


def test_function_attributes_and_occupancy(module: Any) -> None:
    kernel = function(module, "fill")
    attribute = hip.hipFunction_attribute
    assert ok(hip.hipFuncGetAttribute(attribute.HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel)) == 1
    assert ok(hip.hipFuncGetAttribute(attribute.HIP_FUNC_ATTRIBUTE_NUM_REGS, kernel)) == 0
    assert ok(hip.hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(kernel, 1, 65536)) == 1
    assert ok(hip.hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(kernel, 1, 65537)) == 0
    too_many = hip.hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(kernel, 64, 0)
    assert too_many[0] == Error.hipErrorInvalidValue
    assert (
        hip.hipFuncGetAttribute(attribute.HIP_FUNC_ATTRIBUTE_NUM_REGS, handle(8))[0]
        == Error.hipErrorInvalidHandle
    )


# ---- launches ----


def test_one_undeclared_argument(module: Any) -> None:
    out = address(ok(hip.hipMalloc(64)))
    arguments = Fill(out, 0xABCD)
    assert launch(function(module, "fill"), [arguments], grid=(5, 1, 1)) == Error.hipSuccess
    assert read_device(out, 24) == (0xABCD).to_bytes(4, "little") * 5 + bytes(4)
    arguments.value = 7
    extra = extra_of(arguments, ctypes.sizeof(arguments))
    assert launch(function(module, "fill"), None, grid=(2, 1, 1), extra=extra) == Error.hipSuccess
    assert read_device(out, 12) == (7).to_bytes(4, "little") * 2 + (0xABCD).to_bytes(4, "little")
    ok(hip.hipFree(handle(out)))


def test_declared_arguments_are_packed(module: Any) -> None:
    out = address(ok(hip.hipMalloc(24)))
    values = [ctypes.c_uint8(200), ctypes.c_uint64(out), ctypes.c_uint16(50_000), ctypes.c_double(1e9)]
    assert launch(function(module, "mixed"), values) == Error.hipSuccess
    wanted = b"".join(value.to_bytes(8, "little") for value in (200, 50_000, 10**9))
    assert read_device(out, 24) == wanted
    ok(hip.hipFree(handle(out)))


def test_hip_pythons_own_argument_passing(module: Any) -> None:
    """As hip-python's documentation launches: `extra` as a tuple of ctypes values."""
    out = address(ok(hip.hipMalloc(24)))
    values = (ctypes.c_uint8(1), ctypes.c_void_p(out), ctypes.c_uint16(2), ctypes.c_double(3))
    ok(hip.hipModuleLaunchKernel(function(module, "mixed"), 1, 1, 1, 1, 1, 1, 0, None, None, values))
    assert read_device(out, 24) == b"".join(value.to_bytes(8, "little") for value in (1, 2, 3))
    ok(hip.hipFree(handle(out)))


def test_a_misaligned_segment_is_realigned(module: Any) -> None:
    out = ctypes.c_uint32(99)
    area = (ctypes.c_uint8 * 64)()
    start = -ctypes.addressof(area) % 16 + 8
    segment = (ctypes.c_uint8 * 16).from_buffer(area, start)
    ctypes.memmove(segment, ctypes.byref(ctypes.c_uint64(ctypes.addressof(out))), 8)
    assert launch(function(module, "alignment"), None, extra=extra_of(segment, 16)) == Error.hipSuccess
    assert out.value == 1


@pytest.mark.parametrize("shared", [0, 1, 65536])
def test_geometry(module: Any, shared: int) -> None:
    blocks = [(x, y, z) for z in range(2) for y in range(3) for x in range(4)]
    record = (ctypes.c_uint32 * (11 * len(blocks)))()
    cursor = ctypes.c_uint64(ctypes.addressof(record))
    argument = ctypes.c_uint64(ctypes.addressof(cursor))
    assert launch(function(module, "geometry"), [argument], grid=(4, 3, 2), shared=shared) == Error.hipSuccess
    seen = [tuple(record[start : start + 11]) for start in range(0, len(record), 11)]
    assert seen == [(*block, 4, 3, 2, 1, 1, 1, shared, 1 if shared else 0) for block in blocks]


def test_wrong_launches(module: Any) -> None:
    out = ctypes.c_uint32()
    arguments = Fill(ctypes.addressof(out), 1)
    fill, mixed = function(module, "fill"), function(module, "mixed")
    Invalid = Error.hipErrorInvalidValue
    for grid in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        assert launch(fill, [arguments], grid=grid) == Error.hipErrorInvalidConfiguration
    for block in ((2, 1, 1), (1, 2, 1), (1, 1, 64), (0, 1, 1)):
        assert launch(fill, [arguments], block=block) == Error.hipErrorInvalidConfiguration
    assert launch(fill, [arguments], shared=65537) == Invalid
    assert launch(fill, None) == Invalid
    assert launch(fill, [arguments], extra=extra_of(arguments, 16)) == Invalid  # both forms
    assert launch(mixed, None, extra=extra_of(arguments, 16)) == Invalid  # too short
    assert launch(fill, None, extra=extra_of(arguments, 4097)) == Invalid  # longer than a segment may be
    assert launch(fill, None, extra=(ctypes.c_void_p * 5)(1, 0, 2, 0, 3)) == Invalid
    assert launch(fill, None, extra=(ctypes.c_void_p * 5)(3, 0, 0, 0, 0)) == Invalid
    null = (ctypes.c_void_p * 1)(None)
    assert hip.hipModuleLaunchKernel(fill, 1, 1, 1, 1, 1, 1, 0, None, null, None)[0] == Invalid
    assert launch(fill, [arguments], stream=handle(0xBAD)) == Error.hipErrorInvalidHandle
    for garbage in (0, 1, 0xDEADBEEF, address(fill) + 8, address(fill) + 64):
        assert launch(handle(garbage), [arguments]) == Error.hipErrorInvalidHandle
    assert out.value == 0


def test_a_function_goes_with_its_module(code_object: Path) -> None:
    module = ok(hip.hipModuleLoadData(code_object.read_bytes()))
    kernel = function(module, "nothing")
    assert address(function(module, "nothing")) == address(kernel)
    assert launch(kernel, None) == Error.hipSuccess
    ok(hip.hipModuleUnload(module))
    assert launch(kernel, None) == Error.hipErrorInvalidHandle


def test_a_launch_by_address(module: Any) -> None:
    out = ctypes.c_uint32()
    arguments = Fill(ctypes.addressof(out), 5)
    pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
    one = hip.dim3(1, 1, 1)
    ok(hip.hipLaunchKernel(function(module, "fill"), one, one, pointers, 0, None))
    assert out.value == 5
    assert (
        hip.hipLaunchKernel(handle(64), one, one, pointers, 0, None)[0] == Error.hipErrorInvalidDeviceFunction
    )


def test_nothing_is_locked_while_a_kernel_runs(module: Any) -> None:
    """A kernel that waits for another thread, which makes every kind of call meanwhile."""
    flag = address(ok(hip.hipMalloc(4)))
    argument = ctypes.c_uint64(flag)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(launch(function(module, "wait_for"), [argument])))
    thread.start()
    try:
        other = ok(hip.hipMalloc(100))
        ok(hip.hipMemset(other, 1, 100))
        ok(hip.hipFree(other))
        stream = ok(hip.hipStreamCreate())
        assert launch(function(module, "nothing"), None, stream=stream) == Error.hipSuccess
        ok(hip.hipStreamDestroy(stream))
        ok(hip.hipDeviceSynchronize())
        assert not results
    finally:
        write_device(flag, b"\1\0\0\0")
        thread.join(30)
    assert results == [Error.hipSuccess]


def test_host_functions_run_in_the_calling_thread() -> None:
    seen = []
    callback_type: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    callback = callback_type(lambda data: seen.append((data, threading.get_ident())))
    stream = ok(hip.hipStreamCreate())
    code = library.hipLaunchHostFunc(handle(address(stream)), callback, ctypes.c_void_p(77))
    assert (code, seen) == (0, [(77, threading.get_ident())])
    assert library.hipLaunchHostFunc(handle(address(stream)), None, None) == int(Error.hipErrorInvalidValue)
    ok(hip.hipStreamDestroy(stream))


# ---- streams and events ----


def test_streams() -> None:
    least, greatest = ok(hip.hipDeviceGetStreamPriorityRange())
    assert least > greatest
    stream = ok(hip.hipStreamCreateWithPriority(hip.hipStreamNonBlocking, greatest - 5))
    assert ok(hip.hipStreamGetFlags(stream)) == hip.hipStreamNonBlocking
    assert ok(hip.hipStreamGetPriority(stream)) == greatest
    ok(hip.hipStreamQuery(stream))
    ok(hip.hipStreamSynchronize(stream))
    ok(hip.hipStreamDestroy(stream))
    assert hip.hipStreamDestroy(stream)[0] == Error.hipErrorInvalidHandle
    assert hip.hipStreamCreateWithFlags(2)[0] == Error.hipErrorInvalidValue
    for special in (None, handle(1), handle(2)):  # null, legacy, per thread
        ok(hip.hipStreamSynchronize(special))
        assert hip.hipStreamDestroy(special)[0] == Error.hipErrorInvalidHandle


@pytest.mark.parametrize("garbage", [3, 0xDEADBEEF, (1 << 64) - 1])
def test_garbage_handles(garbage: int) -> None:
    bad = handle(garbage)
    good = ok(hip.hipEventCreate())
    calls: list[Callable[[], Any]] = [
        lambda: hip.hipStreamQuery(bad),
        lambda: hip.hipStreamSynchronize(bad),
        lambda: hip.hipStreamDestroy(bad),
        lambda: hip.hipStreamWaitEvent(bad, good, 0),
        lambda: hip.hipStreamWaitEvent(None, bad, 0),
        lambda: hip.hipEventRecord(good, bad),
        lambda: hip.hipEventRecord(bad, None),
        lambda: hip.hipEventQuery(bad),
        lambda: hip.hipEventSynchronize(bad),
        lambda: hip.hipEventDestroy(bad),
        lambda: hip.hipEventElapsedTime(good, bad),
        lambda: hip.hipModuleUnload(bad),
        lambda: hip.hipMemsetAsync(handle(0x1000), 0, 1, bad),
    ]
    for call in calls:
        assert call()[0] == Error.hipErrorInvalidHandle
    ok(hip.hipEventDestroy(good))


def test_stale_handles_of_streams_stay_stale() -> None:
    stale = ok(hip.hipStreamCreate())
    ok(hip.hipStreamDestroy(stale))
    for _ in range(100):
        ok(hip.hipStreamDestroy(ok(hip.hipStreamCreate())))
    assert hip.hipStreamQuery(stale)[0] == Error.hipErrorInvalidHandle


def test_more_streams_over_time_than_at_once() -> None:
    for _ in range(10_000):
        ok(hip.hipStreamDestroy(ok(hip.hipStreamCreate())))


def test_events_measure_real_time() -> None:
    first, second = ok(hip.hipEventCreate()), ok(hip.hipEventCreate())
    assert hip.hipEventElapsedTime(first, second)[0] == Error.hipErrorInvalidHandle  # not recorded
    ok(hip.hipEventQuery(first))
    begin = time.monotonic_ns()
    ok(hip.hipEventRecord(first, None))
    time.sleep(0.02)
    ok(hip.hipEventRecord(second, None))
    elapsed = ok(hip.hipEventElapsedTime(first, second))
    assert 20 <= elapsed <= (time.monotonic_ns() - begin) / 1e6
    assert ok(hip.hipEventElapsedTime(second, first)) == -elapsed
    ok(hip.hipEventSynchronize(second))
    ok(hip.hipStreamWaitEvent(None, second, 0))
    assert hip.hipStreamWaitEvent(None, second, 8)[0] == Error.hipErrorInvalidValue
    ok(hip.hipEventDestroy(first))
    assert hip.hipEventDestroy(first)[0] == Error.hipErrorInvalidHandle
    ok(hip.hipEventDestroy(second))


def test_event_flags() -> None:
    untimed = ok(hip.hipEventCreateWithFlags(hip.hipEventDisableTiming))
    ok(hip.hipEventRecord(untimed, None))
    assert hip.hipEventElapsedTime(untimed, untimed)[0] == Error.hipErrorInvalidHandle
    ok(hip.hipEventDestroy(untimed))
    assert hip.hipEventCreateWithFlags(0x100)[0] == Error.hipErrorInvalidValue
    assert hip.hipEventCreateWithFlags(hip.hipEventInterprocess | 2)[0] == Error.hipErrorNotSupported


def test_exports_are_hips_functions_alone() -> None:
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", library._name], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    names = [line.split()[-1] for line in symbols.splitlines()]
    assert len(names) > 100
    assert [name for name in names if not name.startswith("hip")] == []
