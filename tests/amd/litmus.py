"""Litmus tests: small programs of a few threads, each of a block of its own, on one device or on two.

test_litmus.py says what is expected of them.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from assembly import Gpu, assemble

NEVER, OFTEN = 120, 9600  # launches in which an outcome must not come, and in which it must

# Threads; each a list of W(rite) or R(ead), place, value. Then the outcome that no interleaving has: values
# read, thread by thread, and the last values of x and y where they matter (-1: any).
WEAK: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "MP": (("Wx1 Wy1", "Ry Rx"), (1, 0)),
    "SB": (("Wx1 Ry", "Wy1 Rx"), (0, 0)),
    "LB": (("Rx Wy1", "Ry Wx1"), (1, 1)),
    "S": (("Wx2 Wy1", "Ry Wx1"), (1, 2, -1)),
    "R": (("Wx1 Wy1", "Wy2 Rx"), (0, -1, 2)),
    "2+2W": (("Wx1 Wy2", "Wy1 Wx2"), (1, 1)),
    "IRIW": (("Wx1", "Wy1", "Rx Ry", "Ry Rx"), (1, 0, 1, 0)),
    "CoRR": (("Wx1", "Rx Rx"), (1, 0)),
    "CoWR": (("Wx1 Rx", "Wx2"), (0,)),
}
_WITH_LAST = {"S", "R", "2+2W"}
_OFFSETS = {"x": 0, "y": 256}
_RESULTS = 512  # bytes; each thread has lines of its own


class Level(NamedTuple):
    """How memory is accessed.

    Attributes:
        load, store: modifiers of the accesses.
        between: what comes between two operations of a thread.
        devices: how many; threads are on them in turn.
        uncached: the page's type.
    """

    load: str
    store: str
    between: str = ""
    devices: int = 1
    uncached: bool = False


def program(arch: str, level: Level, threads: tuple[str, ...], first: int) -> bytes:
    """The kernel of one device: block b is thread first + b * devices."""
    is_gfx12 = arch == "gfx1201"
    load, store = (f"global_{kind}_{'b32' if is_gfx12 else 'dword'}" for kind in ("load", "store"))
    wait = "s_wait_loadcnt 0\ns_wait_storecnt 0" if is_gfx12 else "s_waitcnt vmcnt(0)"
    lines = [f"s_mov_b32 s4, {'ttmp9' if is_gfx12 else 's2'}"]
    lines += ["s_load_b64 s[2:3], s[0:1], 0x0", "s_wait_kmcnt 0"] if is_gfx12 else [
        "s_load_dwordx2 s[2:3], s[0:1], 0x0", "s_waitcnt lgkmcnt(0)"
    ]  # fmt: skip
    lines.append("v_mov_b32_e32 v1, 0")
    mine = threads[first :: level.devices]
    for block in range(len(mine) - 1):
        lines += [f"s_cmp_eq_u32 s4, {block}", f"s_cbranch_scc1 .Lthread{block}"]
    for block in reversed(range(len(mine))):
        lines += [f".Lthread{block}:"]
        reads = 0
        for index, operation in enumerate(mine[block].split()):
            if index:
                lines.append(level.between)
            data = ", v2" if operation[0] == "W" else ""
            place = f"v1{data}, s[2:3] offset:{_OFFSETS[operation[1]]}"
            if operation[0] == "W":
                lines += [f"v_mov_b32_e32 v2, {operation[2]}", f"{store} {place} {level.store}"]
            else:
                lines.append(f"{load} v{4 + reads}, {place} {level.load}")
                reads += 1
        lines.append(wait)
        thread = first + block * level.devices
        for read in range(reads):
            lines.append(f"{store} v1, v{4 + read}, s[2:3] offset:{_RESULTS + 128 * thread + 4 * read}")
        lines.append("s_endpgm")
    return assemble(arch, "\n".join(lines), directives="  .amdhsa_system_sgpr_workgroup_id_x 1")


def is_seen(arch: str, level: Level, name: str, launches: int, seed: int = 1) -> bool:
    """Whether the weak outcome is. What is random differs between launches."""
    threads, weak = WEAK[name]
    devices = level.devices if len(threads) > 1 else 1
    images = [program(arch, level, threads, device) for device in range(devices)]
    settings = f"arch={arch},seed={seed}" + (f",together={devices}" if devices > 1 else "")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        request = (settings, images, level.uncached, threads, weak, name in _WITH_LAST, launches)
        return pool.apply_async(_is_seen, request).get(timeout=200)


def _is_seen(
    settings: str,
    images: list[bytes],
    uncached: bool,
    threads: tuple[str, ...],
    weak: tuple[int, ...],
    with_last: bool,
    launches: int,
) -> bool:
    os.environ["HIPCOMM_AMD_SOFTWARE"] = settings
    os.environ["HIPCOMM_CPU_DEVICES"] = str(len(images))
    gpu = Gpu()
    buffer = gpu.allocate(4096, uncached=uncached)
    words = (ctypes.c_uint32 * 1024).from_address(int(buffer.value or 0))
    with ThreadPoolExecutor(len(images)) as pool:
        functions = list(pool.map(lambda device: prepare(gpu, device, images[device]), range(len(images))))
        blocks = [len(threads[device :: len(images)]) for device in range(len(images))]
        for _ in range(launches):
            ctypes.memset(words, 0, 4096)
            faults = list(
                pool.map(lambda d: launch_on(gpu, d, functions[d], buffer, blocks[d]), range(len(images)))
            )
            assert faults == [""] * len(images), faults
            outcome = [*outcomes(words, threads), *((words[0], words[64]) if with_last else ())]
            if all(wanted in (-1, seen) for wanted, seen in zip(weak, outcome, strict=True)):
                return True
    return False


def outcomes(words: ctypes.Array[ctypes.c_uint32], threads: tuple[str, ...]) -> Iterator[int]:
    for thread, operations in enumerate(threads):
        for read in range(operations.count("R")):
            yield words[(_RESULTS + 128 * thread) // 4 + read]


def prepare(gpu: Gpu, device: int, image: bytes) -> ctypes.c_void_p:
    assert gpu.call("hipSetDevice", device) == ""
    fault, function = gpu.function(image)
    assert fault == ""
    return function


def launch_on(
    gpu: Gpu, device: int, function: ctypes.c_void_p, buffer: ctypes.c_void_p, blocks: int, threads: int = 1
) -> str:
    """Launch and wait; the fault, or an empty text."""
    parameters = (ctypes.c_void_p * 1)(ctypes.addressof(buffer))
    return gpu.call("hipSetDevice", device) or gpu.call(
        "hipModuleLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, None, parameters, None
    )


def results(
    arch: str, image: bytes, *, blocks: int, threads: int, words: range, launches: int, uncached: bool = False
) -> set[tuple[int, ...]]:
    """What launches of a kernel leave in some words of the buffer, which is wiped before each."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        request = (f"arch={arch},seed=1", image, blocks, threads, words, launches, uncached)
        return pool.apply_async(_results, request).get(timeout=200)


def _results(
    settings: str, image: bytes, blocks: int, threads: int, words: range, launches: int, uncached: bool
) -> set[tuple[int, ...]]:
    os.environ["HIPCOMM_AMD_SOFTWARE"] = settings
    gpu = Gpu()
    buffer = gpu.allocate(4096, uncached=uncached)
    memory = (ctypes.c_uint32 * 1024).from_address(int(buffer.value or 0))
    function = prepare(gpu, 0, image)
    found = set()
    for _ in range(launches):
        ctypes.memset(memory, 0, 4096)
        fault = launch_on(gpu, 0, function, buffer, blocks, threads)
        assert fault == "", fault
        found.add(tuple(memory[word] for word in words))
    return found
