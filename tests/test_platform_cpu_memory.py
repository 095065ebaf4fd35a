"""Memory of the CPU platform: allocation, host memory, copies, fills, and an error for every bad argument."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from platform_cpu import Error, address, handle, hip, ok, read_device, run_python, write_device

Kind = hip.hipMemcpyKind
PAGE = mmap.PAGESIZE
UNMAPPED = 0x1000  # below vm.mmap_min_addr: never mapped


def allocate(size: int) -> int:
    return address(ok(hip.hipMalloc(size)))


def free(pointer: int) -> None:
    ok(hip.hipFree(handle(pointer)))


def pattern(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


# ---- allocation ----


def test_memory_is_zero_page_aligned_and_keeps_what_is_written() -> None:
    pointer = allocate(3 * PAGE + 5)
    assert pointer % PAGE == 0
    assert read_device(pointer, 3 * PAGE + 5) == bytes(3 * PAGE + 5)
    data = pattern(3 * PAGE + 5)
    write_device(pointer, data)
    assert read_device(pointer, len(data)) == data
    free(pointer)


def test_memory_is_not_touched_before_it_is_used() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pointer = allocate(1 << 30)
    write_device(pointer + (1 << 29), b"middle")
    assert read_device(pointer + (1 << 29), 6) == b"middle"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 16  # KiB: far below 1 GiB
    free(pointer)


def test_nothing_and_too_much() -> None:
    assert ok(hip.hipMalloc(0)) is None
    ok(hip.hipFree(None))
    for size in (ok(hip.hipDeviceTotalMem(0)) + 1, 1 << 62, (1 << 64) - 1):
        assert hip.hipMalloc(size) == (Error.hipErrorOutOfMemory, None)
        assert hip.hipHostMalloc(size, 0) == (Error.hipErrorOutOfMemory, None)


@pytest.mark.parametrize("flags", [0, 1, 3, 4])
def test_allocation_flags(flags: int) -> None:
    pointer = ok(hip.hipExtMallocWithFlags(4096, flags))
    assert ok(hip.hipPointerGetAttributes(pointer)).allocationFlags == flags
    ok(hip.hipFree(pointer))


def test_wrong_allocation_flags() -> None:
    for flags in (5, 6, 0x10, 0x80000000):
        assert hip.hipExtMallocWithFlags(4096, flags) == (Error.hipErrorInvalidValue, None)
    assert hip.hipExtMallocWithFlags(16, hip.hipMallocSignalMemory)[0] == Error.hipErrorInvalidValue
    ok(hip.hipFree(ok(hip.hipExtMallocWithFlags(8, hip.hipMallocSignalMemory))))


def test_freeing_what_is_not_there_to_free() -> None:
    pointer = allocate(2 * PAGE)
    assert hip.hipFree(handle(pointer + PAGE))[0] == Error.hipErrorInvalidValue  # inside
    free(pointer)
    assert hip.hipFree(handle(pointer))[0] == Error.hipErrorInvalidValue  # again
    host = ok(hip.hipHostMalloc(PAGE, 0))
    assert hip.hipFree(host)[0] == Error.hipErrorInvalidValue
    ok(hip.hipHostFree(host))
    assert hip.hipHostFree(host)[0] == Error.hipErrorInvalidValue
    for garbage in (1, UNMAPPED, 0xDEADBEEF, (1 << 64) - 1):
        assert hip.hipFree(handle(garbage))[0] == Error.hipErrorInvalidValue
        assert hip.hipHostFree(handle(garbage))[0] == Error.hipErrorInvalidValue


def test_memory_info_counts_the_device_that_allocates() -> None:
    free_before, total = ok(hip.hipMemGetInfo())
    pointer = allocate(1 << 20)
    assert ok(hip.hipMemGetInfo()) == (free_before - (1 << 20), total)
    ok(hip.hipSetDevice(1))
    try:
        assert ok(hip.hipMemGetInfo())[1] == total
    finally:
        ok(hip.hipSetDevice(0))
    free(pointer)
    assert ok(hip.hipMemGetInfo()) == (free_before, total)


def test_more_buffers_than_the_soft_limit_of_descriptors() -> None:
    run_python("""
import resource
from platform_cpu import hip, ok
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
buffers = [ok(hip.hipMalloc(64)) for _ in range(300)]
for buffer in buffers:
    ok(hip.hipFree(buffer))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
buffers = []
while (result := hip.hipMalloc(64))[0] == hip.hipError_t.hipSuccess:
    buffers.append(result[1])
assert result == (hip.hipError_t.hipErrorOutOfMemory, None)
assert 32 < len(buffers) < 64
ok(hip.hipFree(buffers.pop()))
ok(hip.hipMalloc(64))
""")


def test_threads_allocate_at_once() -> None:
    failures: list[str] = []

    def work(seed: int) -> None:
        data = pattern(5000, seed)
        for _ in range(200):
            pointer = allocate(5000)
            write_device(pointer, data)
            if read_device(pointer, 5000) != data:
                failures.append(f"thread {seed} read other bytes than it wrote")
            free(pointer)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("offset", [4096, 8191])
def test_running_over_the_end_ends_the_process(offset: int) -> None:
    """As on a GPU, where it is a memory fault; a neighbour's memory stays as it is."""
    script = f"""
import ctypes
from platform_cpu import address, hip, ok
buffers = [address(ok(hip.hipMalloc(4096))) for _ in range(8)]
ctypes.memset(min(buffers) + {offset}, 1, 1)
"""
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    result = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    assert result.returncode == -signal.SIGBUS


# ---- what an address is ----


def test_address_range() -> None:
    pointer = allocate(10_000)
    for offset in (0, 1, 9_999):
        base, size = ok(hip.hipMemGetAddressRange(handle(pointer + offset)))
        assert (address(base), size) == (pointer, 10_000)
    for outside in (pointer - 1, pointer + 10_000):
        assert hip.hipMemGetAddressRange(handle(outside))[0] == Error.hipErrorNotFound
    free(pointer)
    assert hip.hipMemGetAddressRange(handle(pointer))[0] == Error.hipErrorNotFound


def test_pointer_attributes() -> None:
    Type = hip.hipMemoryType
    ok(hip.hipSetDevice(4))
    try:
        device = allocate(PAGE)
        host = address(ok(hip.hipHostMalloc(PAGE, hip.hipHostMallocPortable)))
    finally:
        ok(hip.hipSetDevice(0))
    mine = np.zeros(PAGE, np.uint8)

    seen = ok(hip.hipPointerGetAttributes(handle(device + 7)))
    assert (seen.type, seen.device, seen.isManaged) == (Type.hipMemoryTypeDevice, 4, 0)
    assert address(seen.devicePointer) == device + 7
    seen = ok(hip.hipPointerGetAttributes(handle(host)))
    assert (seen.type, seen.device, seen.allocationFlags) == (Type.hipMemoryTypeHost, 4, 1)
    assert address(seen.devicePointer) == address(seen.hostPointer) == host
    seen = ok(hip.hipPointerGetAttributes(mine))
    assert (seen.type, seen.device) == (Type.hipMemoryTypeUnregistered, -2)
    assert hip.hipPointerGetAttributes(None)[0] == Error.hipErrorInvalidValue
    free(device)
    ok(hip.hipHostFree(handle(host)))


# ---- host memory ----


def test_pinned_memory_is_the_same_address_for_the_device() -> None:
    host = address(ok(hip.hipHostMalloc(PAGE, hip.hipHostMallocMapped | hip.hipHostMallocCoherent)))
    assert address(ok(hip.hipHostGetDevicePointer(handle(host + 12), 0))) == host + 12
    assert ok(hip.hipHostGetFlags(handle(host))) == hip.hipHostMallocMapped | hip.hipHostMallocCoherent
    assert hip.hipHostGetDevicePointer(handle(host), 1)[0] == Error.hipErrorInvalidValue
    ctypes.memmove(host, b"seen by the device", 18)
    assert read_device(host, 18) == b"seen by the device"
    ok(hip.hipHostFree(handle(host)))
    assert hip.hipHostGetDevicePointer(handle(host), 0)[0] == Error.hipErrorInvalidValue


def test_wrong_host_flags() -> None:
    both = 0x40000000 | 0x80000000  # coherent and not
    for flags in (8, 0x100, both):
        assert hip.hipHostMalloc(PAGE, flags) == (Error.hipErrorInvalidValue, None)
    memory = np.zeros(PAGE, np.uint8)
    assert hip.hipHostRegister(memory, PAGE, 0x40)[0] == Error.hipErrorInvalidValue


def test_registered_memory() -> None:
    memory = np.zeros(4 * PAGE, np.uint8)
    base = memory.ctypes.data
    ok(hip.hipHostRegister(handle(base + 100), 2 * PAGE, 0))
    assert address(ok(hip.hipHostGetDevicePointer(handle(base + 200), 0))) == base + 200
    for start, size in ((100, 2 * PAGE), (0, 101), (2 * PAGE + 99, 10)):
        result = hip.hipHostRegister(handle(base + start), size, 0)
        assert result[0] == Error.hipErrorHostMemoryAlreadyRegistered
    assert hip.hipHostUnregister(handle(base + 101))[0] == Error.hipErrorHostMemoryNotRegistered
    ok(hip.hipHostUnregister(handle(base + 100)))
    assert hip.hipHostUnregister(handle(base + 100))[0] == Error.hipErrorHostMemoryNotRegistered
    assert hip.hipHostRegister(handle(UNMAPPED), PAGE, 0)[0] == Error.hipErrorInvalidValue
    assert hip.hipHostRegister(memory, 0, 0)[0] == Error.hipErrorInvalidValue


# ---- copies ----


def test_copies_in_every_direction() -> None:
    data = pattern(70_001)
    first, second = allocate(70_001), allocate(70_001)
    back = bytearray(70_001)
    ok(hip.hipMemcpyHtoD(handle(first), data, len(data)))
    ok(hip.hipMemcpyDtoD(handle(second), handle(first), len(data)))
    ok(hip.hipMemcpyDtoH(back, handle(second), len(data)))
    assert bytes(back) == data
    other = bytearray(70_001)
    ok(hip.hipMemcpy(other, back, len(data), Kind.hipMemcpyHostToHost))
    assert bytes(other) == data
    ok(hip.hipMemcpyPeer(handle(first), 0, handle(second), 1, 10))
    ok(hip.hipMemcpy(handle(first + 3), handle(first), 1000, Kind.hipMemcpyDefault))  # overlapping
    assert read_device(first, 1003) == data[:3] + data[:1000]
    free(first)
    free(second)


@pytest.mark.parametrize(
    "offset,size", [(0, 4097), (4096, 1), (1, 4096), (0, 1 << 40), (4095, (1 << 64) - 1)]
)
def test_copies_past_the_end_of_an_allocation(offset: int, size: int) -> None:
    pointer = allocate(4096)
    host = np.zeros(8192, np.uint8)
    for kind in (Kind.hipMemcpyHostToDevice, Kind.hipMemcpyDefault):
        result = hip.hipMemcpy(handle(pointer + offset), host, size, kind)
        assert result[0] == Error.hipErrorInvalidValue
    result = hip.hipMemcpy(host, handle(pointer + offset), size, Kind.hipMemcpyDeviceToHost)
    assert result[0] == Error.hipErrorInvalidValue
    assert hip.hipMemset(handle(pointer + offset), 1, size)[0] == Error.hipErrorInvalidValue
    free(pointer)


def test_copies_from_and_to_unmapped_memory() -> None:
    pointer = allocate(PAGE)
    freed = allocate(1 << 30)
    free(freed)
    gone = freed + (1 << 29)  # in the middle, where no other mapping comes to lie so soon
    for bad in (0, UNMAPPED, gone, 1 << 63, (1 << 64) - 8):
        for kind in Kind:
            assert hip.hipMemcpy(handle(pointer), handle(bad), 64, kind)[0] == Error.hipErrorInvalidValue
            assert hip.hipMemcpy(handle(bad), handle(pointer), 64, kind)[0] == Error.hipErrorInvalidValue
            result = hip.hipMemcpyAsync(handle(bad), handle(pointer), 64, kind, None)
            assert result[0] == Error.hipErrorInvalidValue
        assert hip.hipMemset(handle(bad), 0, 8)[0] == Error.hipErrorInvalidValue
    free(pointer)


def test_copies_at_the_edge_of_mapped_memory_and_into_read_only_memory() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    area = mmap.mmap(-1, 2 * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    assert libc.mprotect(ctypes.c_void_p(base + PAGE), ctypes.c_size_t(PAGE), 0) == 0
    pointer = allocate(PAGE)
    to_host, to_device = Kind.hipMemcpyDeviceToHost, Kind.hipMemcpyHostToDevice
    try:
        ok(hip.hipMemcpy(handle(base + PAGE - 64), handle(pointer), 64, to_host))
        assert (
            hip.hipMemcpy(handle(base + PAGE - 63), handle(pointer), 64, to_host)[0]
            == Error.hipErrorInvalidValue
        )
        assert (
            hip.hipMemcpy(handle(pointer), handle(base + PAGE - 63), 64, to_device)[0]
            == Error.hipErrorInvalidValue
        )
        assert libc.mprotect(ctypes.c_void_p(base + PAGE), ctypes.c_size_t(PAGE), mmap.PROT_READ) == 0
        ok(hip.hipMemcpy(handle(pointer), handle(base + PAGE - 63), 64, to_device))
        assert (
            hip.hipMemcpy(handle(base + PAGE), handle(pointer), 64, to_host)[0] == Error.hipErrorInvalidValue
        )
    finally:
        assert (
            libc.mprotect(
                ctypes.c_void_p(base + PAGE), ctypes.c_size_t(PAGE), mmap.PROT_READ | mmap.PROT_WRITE
            )
            == 0
        )
        free(pointer)


def test_copies_on_a_kernel_that_cannot_probe(tmp_path: Path) -> None:
    """Before Linux 5.14 madvise() knows no MADV_POPULATE; the process's memory map answers instead."""
    source = "#include <errno.h>\nint madvise() { errno = EINVAL; return -1; }"
    shim = tmp_path / "shim.so"
    compiler = ["gcc", "-x", "c", "-shared", "-fPIC", "-fno-builtin", "-", "-o", str(shim)]
    subprocess.run(compiler, input=source, text=True, check=True, timeout=60)
    script = """
import mmap
from platform_cpu import Error, handle, hip, ok
kind = hip.hipMemcpyKind.hipMemcpyDefault
device = ok(hip.hipMalloc(1 << 20))
source, target = bytes(range(256)) * 4096, bytearray(1 << 20)
ok(hip.hipMemcpy(device, source, 1 << 20, kind))
ok(hip.hipMemcpy(target, device, 1 << 20, kind))
assert bytes(target) == source
constant = mmap.mmap(-1, 4096, prot=mmap.PROT_READ)
ok(hip.hipMemcpy(device, constant, 4096, kind))
assert hip.hipMemcpy(constant, device, 4096, kind)[0] == Error.hipErrorInvalidValue
for bad in (0x1000, 1 << 46, (1 << 64) - 4096):
    assert hip.hipMemcpy(device, handle(bad), 8, kind)[0] == Error.hipErrorInvalidValue
    assert hip.hipMemcpy(handle(bad), device, 8, kind)[0] == Error.hipErrorInvalidValue
"""
    run_python(script, LD_PRELOAD=str(shim))


def test_a_truncated_file_is_no_source() -> None:
    """Touching such a page raises SIGBUS; the copy has to say so instead."""
    descriptor = os.memfd_create("truncated")
    os.ftruncate(descriptor, 2 * PAGE)
    area = mmap.mmap(descriptor, 2 * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    os.ftruncate(descriptor, PAGE)
    pointer = allocate(PAGE)
    result = hip.hipMemcpy(handle(pointer), handle(base + PAGE), 64, Kind.hipMemcpyHostToDevice)
    assert result[0] == Error.hipErrorInvalidValue
    free(pointer)
    os.close(descriptor)


def test_directions_that_do_not_fit() -> None:
    host = np.zeros(64, np.uint8)
    other = np.zeros(64, np.uint8)
    device = allocate(64)
    for dst, src, kind in (
        (host, other, Kind.hipMemcpyHostToDevice),
        (host, other, Kind.hipMemcpyDeviceToHost),
        (host, handle(device), Kind.hipMemcpyDeviceToDevice),
        (handle(device), host, Kind.hipMemcpyDeviceToHost),
    ):
        assert hip.hipMemcpy(dst, src, 64, kind)[0] == Error.hipErrorInvalidValue
    free(device)


def test_copying_nothing() -> None:
    ok(hip.hipMemcpy(handle(0), handle(0), 0, Kind.hipMemcpyDefault))
    ok(hip.hipMemset(handle(0), 1, 0))


# ---- fills ----


def test_fills() -> None:
    pointer = allocate(64)
    ok(hip.hipMemset(handle(pointer), 0x1FF, 64))  # the low byte counts
    assert read_device(pointer, 64) == b"\xff" * 64
    ok(hip.hipMemsetD8(handle(pointer + 1), 0x11, 3))
    ok(hip.hipMemsetD16(handle(pointer + 4), 0x2233, 2))
    ok(hip.hipMemsetD32Async(handle(pointer + 8), 0x44556677, 2, None))
    wanted = b"\xff\x11\x11\x11" + b"\x33\x22" * 2 + b"\x77\x66\x55\x44" * 2 + b"\xff" * 48
    assert read_device(pointer, 64) == wanted
    assert hip.hipMemsetD32(handle(pointer + 1), 0, 1)[0] == Error.hipErrorInvalidValue  # not aligned
    assert hip.hipMemsetD32(handle(pointer), 0, 1 << 62)[0] == Error.hipErrorInvalidValue
    assert hip.hipMemset(np.zeros(64, np.uint8), 0, 64)[0] == Error.hipErrorInvalidValue  # not the device's
    free(pointer)


def test_stream_ordered_allocation() -> None:
    stream = ok(hip.hipStreamCreate())
    pointer = ok(hip.hipMallocAsync(100, stream))
    ok(hip.hipMemsetAsync(pointer, 5, 100, stream))
    assert read_device(address(pointer), 100) == b"\5" * 100
    ok(hip.hipFreeAsync(pointer, stream))
    assert hip.hipFreeAsync(pointer, stream)[0] == Error.hipErrorInvalidValue
    assert hip.hipMallocAsync(100, handle(0xBAD))[0] == Error.hipErrorInvalidHandle
    ok(hip.hipStreamDestroy(stream))
