"""Device memory across processes: handles, their owners' deaths, recycled numbers, and forgeries."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from platform_cpu import CPU_LIBRARY, Error, address, handle, hip, ok, read_device, write_device

SIZE = 10_000

# Owns memory on request: one command per line, one answer per line.
OWNER = """
import sys
from platform_cpu import address, handle, hip, ok, read_device, write_device
pointers = []
for line in sys.stdin:
    command, *arguments = line.split()
    if command == "allocate":
        ok(hip.hipSetDevice(int(arguments[0])))
        pointers.append(address(ok(hip.hipMalloc(int(arguments[1])))))
        answer = len(pointers) - 1
    elif command == "export":
        pointer = pointers[int(arguments[0])] + int(arguments[1])
        answer = bytes(ok(hip.hipIpcGetMemHandle(handle(pointer))).reserved).ljust(64, b"\\0").hex()
    elif command == "write":
        write_device(pointers[int(arguments[0])] + int(arguments[1]), bytes.fromhex(arguments[2]))
        answer = "done"
    elif command == "read":
        answer = read_device(pointers[int(arguments[0])] + int(arguments[1]), int(arguments[2])).hex()
    elif command == "free":
        ok(hip.hipFree(handle(pointers[int(arguments[0])])))
        answer = "done"
    print(answer, flush=True)
"""


class Owner:
    """A process that owns device memory."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, command: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"the owner failed at: {command}"
        return answer

    def allocate(self, size: int = SIZE, device: int = 0) -> int:
        return int(self.ask(f"allocate {device} {size}"))

    def export(self, index: int, offset: int = 0) -> bytes:
        return bytes.fromhex(self.ask(f"export {index} {offset}"))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def close(self) -> None:
        self.kill()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def owner() -> Iterator[Owner]:
    process = Owner()
    yield process
    process.close()


def open_handle(data: bytes, flags: int = 1) -> int:
    return address(ok(hip.hipIpcOpenMemHandle(data, flags)))


def refusal(data: bytes, flags: int = 1) -> object:
    error, pointer = hip.hipIpcOpenMemHandle(data, flags)
    assert pointer is None
    return error


def close_handle(pointer: int) -> None:
    ok(hip.hipIpcCloseMemHandle(handle(pointer)))


def test_both_processes_see_the_same_bytes(owner: Owner) -> None:
    index = owner.allocate()
    pointer = open_handle(owner.export(index))
    owner.ask(f"write {index} 9990 {b'from owner'.hex()}")
    assert read_device(pointer + 9990, 10) == b"from owner"
    write_device(pointer, b"from peer")
    assert bytes.fromhex(owner.ask(f"read {index} 0 9")) == b"from peer"
    close_handle(pointer)
    assert bytes.fromhex(owner.ask(f"read {index} 0 9")) == b"from peer"


def test_an_opened_handle_is_device_memory_of_the_current_device(owner: Owner) -> None:
    data = owner.export(owner.allocate(device=3))
    ok(hip.hipSetDevice(5))
    try:
        pointer = open_handle(data)
    finally:
        ok(hip.hipSetDevice(0))
    attributes = ok(hip.hipPointerGetAttributes(handle(pointer)))
    assert (attributes.type, attributes.device) == (hip.hipMemoryType.hipMemoryTypeDevice, 5)
    base, size = ok(hip.hipMemGetAddressRange(handle(pointer + 77)))
    assert (address(base), size) == (pointer, SIZE)
    result = hip.hipMemset(handle(pointer + 1), 0, SIZE)
    assert result[0] == Error.hipErrorInvalidValue  # one byte too far
    assert hip.hipFree(handle(pointer))[0] == Error.hipErrorInvalidValue
    assert hip.hipIpcGetMemHandle(handle(pointer))[0] == Error.hipErrorInvalidValue  # not ours to export
    close_handle(pointer)
    assert hip.hipMemset(handle(pointer), 0, 1)[0] == Error.hipErrorInvalidValue


def test_a_handle_stands_for_the_whole_allocation(owner: Owner) -> None:
    index = owner.allocate()
    assert owner.export(index, 5000) == owner.export(index)


def test_opening_again_counts(owner: Owner) -> None:
    data = owner.export(owner.allocate())
    first = open_handle(data)
    assert open_handle(data) == first
    close_handle(first)
    write_device(first, b"still open")
    close_handle(first)
    assert hip.hipIpcCloseMemHandle(handle(first))[0] == Error.hipErrorInvalidValue
    again = open_handle(data)
    assert read_device(again, 10) == b"still open"
    close_handle(again)


def test_many_handles_are_told_apart(owner: Owner) -> None:
    pointers = []
    for _ in range(60):
        index = owner.allocate(64)
        owner.ask(f"write {index} 0 {index:08x}")
        pointers.append(open_handle(owner.export(index)))
    assert [read_device(pointer, 4) for pointer in pointers] == [
        index.to_bytes(4, "big") for index in range(60)
    ]
    for pointer in pointers:
        close_handle(pointer)


def test_a_handle_is_refused_in_its_own_process() -> None:
    pointer = ok(hip.hipMalloc(64))
    data = bytes(ok(hip.hipIpcGetMemHandle(pointer)).reserved)
    assert refusal(data) == Error.hipErrorInvalidContext
    ok(hip.hipFree(pointer))
    assert refusal(data) == Error.hipErrorInvalidHandle


def test_what_cannot_be_exported() -> None:
    host = ok(hip.hipHostMalloc(64, 0))
    freed = ok(hip.hipMalloc(64))
    ok(hip.hipFree(freed))
    for pointer in (host, freed, None, handle(0x1000), bytearray(64)):
        assert hip.hipIpcGetMemHandle(pointer)[0] == Error.hipErrorInvalidValue
    ok(hip.hipHostFree(host))


def test_wrong_flags_and_garbage(owner: Owner) -> None:
    data = owner.export(owner.allocate())
    assert refusal(data, 2) == Error.hipErrorInvalidValue
    assert refusal(data, 0x80000001) == Error.hipErrorInvalidValue
    assert refusal(bytes(64)) == Error.hipErrorInvalidHandle
    assert refusal(bytes(range(64))) == Error.hipErrorInvalidHandle
    close_handle(open_handle(data, 0))


def test_closing_what_was_not_opened() -> None:
    pointer = ok(hip.hipMalloc(64))
    for other in (pointer, None, handle(0x1000)):
        assert hip.hipIpcCloseMemHandle(other)[0] == Error.hipErrorInvalidValue
    ok(hip.hipFree(pointer))


def test_a_handle_goes_with_its_owner_and_open_memory_stays(owner: Owner) -> None:
    opened, unopened = owner.export(owner.allocate()), owner.export(owner.allocate())
    pointer = open_handle(opened)
    owner.ask(f"write 0 0 {b'last words'.hex()}")
    owner.kill()
    assert read_device(pointer, 10) == b"last words"
    assert refusal(unopened) == Error.hipErrorInvalidHandle
    assert refusal(opened) == Error.hipErrorInvalidHandle
    close_handle(pointer)


def test_a_freed_allocation_is_gone_and_its_number_recycled(owner: Owner) -> None:
    index = owner.allocate()
    stale = owner.export(index)
    owner.ask(f"free {index}")
    assert refusal(stale) == Error.hipErrorInvalidHandle
    fresh = owner.export(owner.allocate())
    # The same process and the same descriptor number, another allocation.
    assert stale[8:16] == fresh[8:16]
    assert refusal(stale) == Error.hipErrorInvalidHandle
    close_handle(open_handle(fresh))


@pytest.mark.parametrize("field", range(6))
def test_every_field_is_verified(owner: Owner, field: int) -> None:
    """Process, descriptor, id, inode, file system, size: a handle with any of them wrong opens nothing."""
    layout = struct.Struct("=8s2i4Q")
    data = owner.export(owner.allocate())
    magic, *fields = layout.unpack_from(data)
    fields[field] += 1 << 20 if field == 0 else 8192
    assert refusal(layout.pack(magic, *fields) + data[layout.size :]) == Error.hipErrorInvalidHandle


def test_a_recycled_process_number_is_refused(owner: Owner) -> None:
    """Another process with the number of a dead owner may have any file under the descriptor's number."""
    impostor = Owner()
    try:
        data = owner.export(owner.allocate())
        impostor.allocate()
        forged = data[:8] + struct.pack("=i", impostor.process.pid) + data[12:]
        assert refusal(forged) == Error.hipErrorInvalidHandle
    finally:
        impostor.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_told_so(owner: Owner) -> None:
    data = owner.export(owner.allocate())
    script = f"""
import ctypes, os, struct
library = ctypes.CDLL({str(CPU_LIBRARY)!r})
class Handle(ctypes.Structure):
    _fields_ = [("reserved", ctypes.c_char * 64)]
handle = Handle.from_buffer_copy(bytes.fromhex({data.hex()!r}))
os.setgid(65534)
os.setuid(65534)
pointer = ctypes.c_void_p()
print(library.hipIpcOpenMemHandle(ctypes.byref(pointer), handle, 1), pointer.value)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert result.stdout.split() == [str(int(Error.hipErrorOperatingSystem)), "None"], result.stderr


def test_memory_is_released_when_everybody_has_let_go(owner: Owner) -> None:
    index = owner.allocate()
    data = owner.export(index)
    (identity,) = struct.unpack_from("=Q", data, 16)
    name = f"hipcomm-{identity:016x}"
    pointer = open_handle(data)
    assert holds(owner.process.pid, name) and holds(os.getpid(), name)
    owner.ask(f"free {index}")
    assert not holds(owner.process.pid, name) and holds(os.getpid(), name)
    close_handle(pointer)
    assert not holds(os.getpid(), name)


def open_descriptors(process: Path) -> list[str]:
    """The descriptor numbers of a process, without the one that lists them."""
    return [entry.name for entry in (process / "fd").iterdir() if entry.is_symlink()]


def holds(process: int, name: str) -> bool:
    """Does a process map the memory file, or have it open?"""
    directory = Path("/proc") / str(process)
    links = [str((directory / "fd" / number).readlink()) for number in open_descriptors(directory)]
    return name in (directory / "maps").read_text() or any(name in link for link in links)
