"""A whole rank written from docs/protocol.md: rank 1 of 2, beside one of ours.

    python third_rank.py HOST PORT TOKEN VARIANT

It takes part in everything that test_protocol_third_rank.py's rank 0 does on the host, from the join to the
close, with the HIP library through ctypes. Of hipcomm it uses hipcommGetLayout. It launches no kernels.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

from third_client import ThirdClient

from hipcomm.core import ffi, lib

STAGING = 4 << 20
HIP = ctypes.CDLL(
    str(Path(__file__).resolve().parent.parent / "hipcomm" / "platforms" / "cpu" / "lib" / "libamdhip64.so")
)
PROCESS = os.urandom(8)


class Handle(ctypes.Structure):
    """hipIpcMemHandle_t."""

    _fields_ = [("reserved", ctypes.c_char * 64)]


def hip(name, *arguments):
    error = getattr(HIP, name)(*arguments)
    assert error == 0, f"{name}: {error}"


def device_memory(nbytes, flags=None):
    pointer = ctypes.c_void_p()
    if flags is None:
        hip("hipMalloc", ctypes.byref(pointer), ctypes.c_size_t(nbytes))
    else:
        hip("hipExtMallocWithFlags", ctypes.byref(pointer), ctypes.c_size_t(nbytes), flags)
    return pointer.value, nbytes


def read(address, nbytes):
    data = ctypes.create_string_buffer(nbytes)
    hip("hipMemcpy", data, ctypes.c_void_p(address), ctypes.c_size_t(nbytes), 2)
    return data.raw


def write(address, data):
    hip("hipMemcpy", ctypes.c_void_p(address), data, ctypes.c_size_t(len(data)), 1)
    hip("hipStreamSynchronize", None)


class Communicator:
    """One communicator: its name, its group on the wire, and the exchanges that the page lists."""

    def __init__(self, client, name, group, rank, variant=""):
        self.client, self.name, self.group, self.rank, self.variant = client, name, group, rank, variant
        self.mapped = []

    def gather(self, tag, data=b""):
        parts = self.client.all_gather(f"{self.name}/{tag}".encode(), data, self.group)
        assert len(parts) == 2
        return parts

    def agree(self, tag, data=b""):
        """An exchange with a status; what follows it, by rank."""
        parts = self.gather(tag, struct.pack("<I", 0) + data)
        for part in parts:
            assert struct.unpack_from("<I", part) == (0,), part
        return [part[4:] for part in parts]

    def make(self):
        arch = platform.machine().encode()
        version = b"0.1.0" if self.variant != "another version" else b"0.0.9"
        mine = struct.pack("<QQIII16s32sI32s", STAGING, 60000000, 0, 0, 0, version, arch, 7, b"0000:ff:00.0")
        parts = self.gather("agreement", mine)
        if version != b"0.1.0":
            return False
        assert parts[0][:76] == parts[1][:76]
        layout = ffi.new("hipcommLayout *")
        assert lib.hipcommGetLayout(arch, STAGING, layout) == 0
        if self.variant == "problem":
            self.gather("slabs/handles", struct.pack("<I", 6) + b"rank 1: out of cheese")
            return False
        uncached = 3
        self.slabs = [
            device_memory(layout.control_bytes, uncached),
            device_memory(layout.staging_bytes, uncached if layout.staging_uncached else None),
        ]
        if not self.share("slabs", self.slabs):
            return False
        write(self.slabs[0][0], bytes(layout.control_bytes))
        self.gather("ready")
        return True

    def share(self, tag, areas):
        """Section 5.2."""
        exports = b""
        for address, nbytes in areas:
            base, size, handle = ctypes.c_void_p(), ctypes.c_size_t(), Handle()
            hip("hipMemGetAddressRange", ctypes.byref(base), ctypes.byref(size), ctypes.c_void_p(address))
            hip("hipIpcGetMemHandle", ctypes.byref(handle), base)
            fixed = (os.getpid(), 0, PROCESS, address, nbytes, address - base.value, bytes(handle))
            exports += struct.pack("<Ii8sQQQ64s", *fixed)
        theirs = self.agree(f"{tag}/handles", exports)[1 - self.rank]
        addresses = []
        for index, (_, own_bytes) in enumerate(areas):
            fields = struct.unpack_from("<Ii8sQQQ64s", theirs, index * 104)
            pid, _, _, _, nbytes, offset, raw = fields
            assert pid != os.getpid()
            assert nbytes == own_bytes
            base = ctypes.c_void_p()
            hip("hipIpcOpenMemHandle", ctypes.byref(base), Handle.from_buffer_copy(raw), 1)
            self.mapped.append(base)
            addresses.append(base.value + offset)
        patterns, saved = [os.urandom(16) for _ in areas], []
        for (address, _), pattern in zip(areas, patterns, strict=True):
            saved.append(read(address, 16))
            write(address, pattern)
        told = b"".join(patterns)
        if self.variant == "wrong pattern":
            told = told[:16] + bytes(16)
        theirs = self.agree(f"{tag}/patterns", told)[1 - self.rank]
        for index, address in enumerate(addresses):
            assert read(address, 16) == theirs[16 * index : 16 * index + 16]
        if self.variant == "wrong pattern":
            status = self.gather(f"{tag}/verified", struct.pack("<I", 0))[0]
            assert struct.unpack_from("<I", status) == (2,)
            return False
        self.agree(f"{tag}/verified")
        for (address, _), data in zip(areas, saved, strict=True):
            write(address, data)
        return True

    def region(self, address, nbytes, number):
        self.share("region", [(address, nbytes)])
        numbers = self.agree("region/number", struct.pack("<i", number))
        assert numbers == [struct.pack("<i", number)] * 2

    def unmap(self):
        while self.mapped:
            hip("hipIpcCloseMemHandle", self.mapped.pop())

    def close(self, arenas=()):
        self.client.closing(self.name)
        self.gather("close")
        self.unmap()
        self.gather("unmapped")
        for address, _ in [*self.slabs, *arenas]:
            hip("hipFree", ctypes.c_void_p(address))


def main(host, port, token, variant):
    client = ThirdClient((host, int(port)), token.encode(), 1, 2, patience=60.0)
    assert client.welcome() == 2
    hip("hipSetDevice", 1)
    world = Communicator(client, "hipcomm", (), 1, variant)
    if not world.make():
        client.leave()
        return

    # rank 0: x = comm.empty(1000, "float32"); comm.empty(3 << 20, "uint8"); x.free()
    first, second = device_memory(2 << 20), device_memory(4 << 20)
    for number, (nbytes, arena) in enumerate([(4000, first), (3 << 20, second)]):
        assert world.agree("empty", struct.pack("<Q", nbytes)) == [struct.pack("<Q", nbytes)] * 2
        world.region(*arena, number)
    assert world.gather("free", struct.pack("<Q", 0)) == [struct.pack("<Q", 0)] * 2

    # comm.register(...); comm.deregister(...)
    foreign = device_memory(1 << 20)
    mapped, world.mapped = world.mapped, []
    world.region(foreign[0] + 4096, 8192, 2)
    assert world.agree("deregister", struct.pack("<i", 2)) == [struct.pack("<i", 2)] * 2
    world.unmap()
    world.mapped = mapped
    world.gather("deregistered")
    hip("hipFree", ctypes.c_void_p(foreign[0]))

    # part = comm.split(5, key=-comm.rank); part.close(); comm.split(None)
    parts = world.gather("split", struct.pack("<qqI", 5, -1, 1))
    assert parts == [struct.pack("<qqI", 5, 0, 1), struct.pack("<qqI", 5, -1, 1)]
    part = Communicator(client, "hipcomm.1", (1, 0), 0)
    part.make()
    part.close()
    world.gather("split", struct.pack("<qqI", 0, 0, 0))

    world.close([first, second])
    # rank 0 may have left before us
    assert all(kind == 23 for kind, _ in client.leave())


if __name__ == "__main__":
    main(*sys.argv[1:])
