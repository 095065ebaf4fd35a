"""hip-python in fewer words, and three kernels as PTX: what ``platform_cuda_checks.py`` is written in."""

from __future__ import annotations

import ctypes
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hip import hip as bindings

hip: Any = bindings  # whose functions are not annotated

# Three kernels, written by hand so that no compiler is needed:
#   fill(u32* out, u32 value, u32 count)         out[i] = value + i + bias
#   wait_for(u32* flag, u32 value, u32* out)     until *flag == value, for 5 s at most; *out = *flag
#   reverse(u32* data)                           one block, through dynamic shared memory
PTX = b"""
.version 7.0
.target sm_80
.address_size 64

.visible .global .align 4 .u32 bias;
.extern .shared .align 16 .b8 tile[];

.visible .entry fill(.param .u64 out, .param .u32 value, .param .u32 count)
{
    .reg .pred %p;
    .reg .b32 %i, %n, %v, %t;
    .reg .b64 %a, %o;
    mov.u32 %i, %ctaid.x;
    mov.u32 %t, %ntid.x;
    mov.u32 %v, %tid.x;
    mad.lo.u32 %i, %i, %t, %v;
    ld.param.u32 %n, [count];
    setp.ge.u32 %p, %i, %n;
    @%p ret;
    ld.param.u32 %v, [value];
    add.u32 %v, %v, %i;
    ld.global.u32 %t, [bias];
    add.u32 %v, %v, %t;
    ld.param.u64 %a, [out];
    mul.wide.u32 %o, %i, 4;
    add.u64 %a, %a, %o;
    st.global.u32 [%a], %v;
    ret;
}

.visible .entry wait_for(.param .u64 flag, .param .u32 value, .param .u64 out)
{
    .reg .pred %p, %q;
    .reg .b32 %v, %want;
    .reg .b64 %f, %o, %start, %now;
    ld.param.u64 %f, [flag];
    ld.param.u64 %o, [out];
    ld.param.u32 %want, [value];
    mov.u64 %start, %globaltimer;
again:
    ld.relaxed.sys.global.u32 %v, [%f];
    mov.u64 %now, %globaltimer;
    sub.u64 %now, %now, %start;
    setp.ne.u32 %p, %v, %want;
    setp.lt.u64 %q, %now, 5000000000;
    and.pred %p, %p, %q;
    @%p bra again;
    st.global.u32 [%o], %v;
    ret;
}

.visible .entry reverse(.param .u64 data)
{
    .reg .b32 %i, %n, %v, %s;
    .reg .b64 %a, %o;
    ld.param.u64 %a, [data];
    mov.u32 %i, %tid.x;
    mov.u32 %n, %ntid.x;
    mul.wide.u32 %o, %i, 4;
    add.u64 %a, %a, %o;
    ld.global.u32 %v, [%a];
    mov.u32 %s, tile;
    mad.lo.u32 %s, %i, 4, %s;
    st.shared.u32 [%s], %v;
    bar.sync 0;
    sub.u32 %i, %n, %i;
    sub.u32 %i, %i, 1;
    mov.u32 %s, tile;
    mad.lo.u32 %s, %i, 4, %s;
    ld.shared.u32 %v, [%s];
    st.global.u32 [%a], %v;
    ret;
}
\x00"""

BLOCK = 128  # threads in a block
KIND = hip.hipMemcpyKind.hipMemcpyDefault


def do(result: tuple[Any, ...]) -> Any:
    """The values of a call that must succeed: none, one, or a tuple."""
    error, *values = result
    assert int(error) == 0, f"{error.name}: {do_name(error)}"
    return values[0] if len(values) == 1 else tuple(values)


def do_name(error: Any) -> str:
    """What the library says about an error."""
    text = hip.hipGetErrorString(error)
    return str(text[1] if isinstance(text, tuple) else text)


def code(result: tuple[Any, ...]) -> int:
    """The error code of a call that may fail."""
    return int(result[0])


def address(pointer: Any) -> int:
    """A pointer of hip-python as a number."""
    return int(pointer)


def malloc(nbytes: int) -> int:
    """Device memory on the current device."""
    return address(do(hip.hipMalloc(nbytes)))


def write(pointer: int, values: list[int]) -> None:
    """Copy 32-bit words to the device, or to wherever the pointer leads."""
    data = struct.pack(f"={len(values)}I", *values)
    do(hip.hipMemcpy(pointer, data, len(data), KIND))


def read(pointer: int, count: int) -> list[int]:
    """Copy 32-bit words from wherever the pointer leads."""
    data = bytearray(4 * count)
    do(hip.hipMemcpy(data, pointer, len(data), KIND))
    return list(struct.unpack(f"={count}I", data))


def load() -> Any:
    """The three kernels as a module of the current device."""
    return do(hip.hipModuleLoadData(PTX))


def function(module: Any, name: str) -> Any:
    """One of its kernels."""
    return do(hip.hipModuleGetFunction(module, name.encode()))


def launch(
    kernel: Any, arguments: tuple[Any, ...], count: int = 1, stream: Any = None, shared: int = 0
) -> int:
    """Launch `count` threads with packed arguments and `shared` bytes of dynamic memory; the error code."""
    blocks, threads = -(-count // BLOCK), min(count, BLOCK)
    call = hip.hipModuleLaunchKernel
    return code(call(kernel, blocks, 1, 1, threads, 1, 1, shared, stream, None, arguments))


def fill(kernel: Any, out: int, value: int, count: int, stream: Any = None) -> None:
    """out[i] = value + i."""
    arguments = (ctypes.c_void_p(out), ctypes.c_uint(value), ctypes.c_uint(count))
    assert launch(kernel, arguments, count, stream) == 0


def in_thread(body: Callable[[], Any]) -> Any:
    """Run a function on a thread that has never called HIP, for 30 s at most; its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(body()), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "the thread hangs"
    assert results, "the thread raised; see above"
    return results[0]


def finishes(stream: Any, seconds: float) -> bool:
    """Whether the work on a stream ends within a time."""
    deadline = time.monotonic() + seconds
    while code(hip.hipStreamQuery(stream)) == 600:
        if time.monotonic() > deadline:
            return False
    return True


@contextmanager
def spinning(stream: Any) -> Iterator[None]:
    """A kernel of one thread spins on `stream` while the body runs, and has seen the release afterwards."""
    flag = do(hip.hipHostMalloc(8, hip.hipHostMallocMapped))
    words = (ctypes.c_uint * 2).from_address(address(flag))
    words[0] = words[1] = 0
    device_flag = address(do(hip.hipHostGetDevicePointer(flag, 0)))
    kernel = function(load(), "wait_for")
    arguments = (ctypes.c_void_p(device_flag), ctypes.c_uint(7), ctypes.c_void_p(device_flag + 4))
    assert launch(kernel, arguments, stream=stream) == 0
    try:
        yield
    finally:
        words[0] = 7
        do(hip.hipStreamSynchronize(stream))
    assert words[1] == 7, "the kernel gave up waiting"
    do(hip.hipHostFree(flag))


def native() -> ctypes.CDLL:
    """The same library through ctypes, for calls that hip-python wraps in ways of its own."""
    do(hip.hipRuntimeGetVersion())  # from now on it is loaded
    maps = Path("/proc/self/maps").read_text().splitlines()
    return ctypes.CDLL(next(line.split()[-1] for line in maps if line.endswith("/libamdhip64.so")))


def driver() -> ctypes.CDLL:
    """The CUDA driver, as another library of the process would use it."""
    return ctypes.CDLL("libcuda.so.1")
