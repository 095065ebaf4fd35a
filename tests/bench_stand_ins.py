"""Stand-ins for the libraries that hipcomm-bench measures: NCCL in C++, torch played by NumPy."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

from hipcomm_bench.memory import DeviceMemory, dtype_of

FAKE_NCCL = r"""
#include <cstddef>
#include <cstdio>
#include <cstring>
struct Id { char internal[128]; };
static char record[1024];
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
int ncclReduce(const void* s, void* r, size_t n, int t, int op, int root, void* c, void* stream) {
    NOTE("Reduce %p %p %zu %d %d %d %p %p", s, r, n, t, op, root, c, stream);
    return 0;
}
static int calls = 0;
static char* end() { return record + strlen(record); }
int ncclGroupStart() { calls = 0; record[0] = 0; return 0; }
int ncclGroupEnd() { sprintf(end(), "Group %d", calls); return 0; }
int ncclSend(const void* s, size_t n, int t, int peer, void*, void*) {
    ++calls;
    sprintf(end(), "Send %p %zu %d %d ", s, n, t, peer);
    return 0;
}
int ncclRecv(void* r, size_t n, int t, int peer, void*, void*) {
    ++calls;
    sprintf(end(), "Recv %p %zu %d %d ", r, n, t, peer);
    return 0;
}
int ncclBroadcast(const void* s, void* r, size_t n, int t, int root, void* c, void* stream) {
    NOTE("Broadcast %p %p %zu %d root %d %p %p", s, r, n, t, root, c, stream);
    return 0;
}
}
"""


class FakeTensor:
    """One-dimensional; NumPy's memory, torch's methods."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def view(self, dtype: Any) -> FakeTensor:
        return FakeTensor(self.array.view(dtype))

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)

    def __getitem__(self, part: slice) -> FakeTensor:
        return FakeTensor(self.array[part])

    def chunk(self, count: int) -> list[FakeTensor]:
        return [FakeTensor(each) for each in np.split(self.array, count)]

    def copy_(self, source: FakeTensor) -> None:
        self.array[...] = source.array


class FakeHandle:
    """What rendezvous returns, in a world of one."""

    def __init__(self, whole: FakeTensor) -> None:
        self.whole, self.barriers = whole, 0

    def barrier(self, channel: int) -> None:
        assert channel == 0
        self.barriers += 1

    def get_buffer(self, peer: int, sizes: tuple[int], dtype: Any, storage_offset: int = 0) -> FakeTensor:
        assert peer == 0
        return self.whole.view(dtype)[storage_offset : storage_offset + sizes[0]]


def fake_torch(log: list[Any]) -> dict[str, Any]:
    """Return modules for sys.modules that do what torch does in a world of one; `log` takes notes."""

    def tensor_at(flat: Any, device: str) -> FakeTensor:
        log.append(("tensor on", device))
        shape, (address, _) = flat.__cuda_array_interface__["shape"], flat.__cuda_array_interface__["data"]
        return FakeTensor(np.frombuffer((ctypes.c_uint8 * shape[0]).from_address(address), np.uint8))

    def on_device(memory: DeviceMemory, count: int, dtype: Any) -> FakeTensor:
        there = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(memory.address)
        return FakeTensor(np.frombuffer(there, dtype))

    def reduce_to(out: FakeTensor, source: FakeTensor, redop: str, group: str) -> None:
        assert (redop, group) == ("sum", "the group")
        out.copy_(source)

    operators = SimpleNamespace(
        one_shot_all_reduce_out=lambda source, redop, group, out: reduce_to(out, source, redop, group),
        two_shot_all_reduce_=lambda source, redop, group: reduce_to(source, source, redop, group),
    )
    group = SimpleNamespace(WORLD=SimpleNamespace(group_name="the group"))
    distributed = SimpleNamespace(
        TCPStore=lambda *_, **__: SimpleNamespace(port=1),
        init_process_group=lambda backend, **_: log.append(("init", backend)),
        destroy_process_group=lambda: log.append("destroy"),
        group=group,
    )
    symmetric = SimpleNamespace(
        empty=lambda count, dtype, device: on_device(DeviceMemory(count * dtype.itemsize), count, dtype),
        rendezvous=lambda tensor, name: FakeHandle(tensor),
    )
    cuda = SimpleNamespace(
        set_device=lambda index: log.append(("device", index)),
        ExternalStream=lambda stream, device: stream,
        set_stream=lambda stream: log.append(("stream", stream)),
    )
    torch = SimpleNamespace(
        __version__="2.x",
        bfloat16=dtype_of("bfloat16"),
        as_tensor=tensor_at,
        cuda=cuda,
        ops=SimpleNamespace(symm_mem=operators),
    )
    return {
        "torch": torch,
        "torch.distributed": distributed,
        "torch.distributed._symmetric_memory": symmetric,
    }
