"""Wrong arguments of the calls whose buffers are cut into parts: refused before anything is launched."""

from __future__ import annotations

import numpy as np
import pytest
from harness import worlds
from test_arguments import WORLD, refused, still_works

pytestmark = [
    pytest.mark.host_arrays,
    pytest.mark.skipif(not worlds(WORLD), reason=f"needs {WORLD} devices"),
]


def wrong_calls(comm):
    """(operation, what the message must have, the call)"""
    a, b, c = np.zeros(10, np.float32), np.zeros(20, np.float32), np.zeros(20, np.float32)
    flat, wide = np.zeros((2, 3), np.float32), np.zeros((2, 5), np.float32)
    strided, read_only = np.zeros(40, np.float32)[::2], np.zeros(10, np.float32)
    read_only.flags.writeable = False
    address, own = b.ctypes.data, comm.rank
    many = np.empty((2**62, 0), np.uint8)  # times a world of four that is 0 in 64 bits
    yield "reduce_scatter", ["rows are not possible"], lambda: comm.reduce_scatter(many, many, dim=1)
    yield "all_gather_rows", ["rows are not possible"], lambda: comm.all_gather(many, many, dim=1)
    for operation in ("reduce_scatter", "all_to_all", "gather", "scatter", "reduce"):
        call = getattr(comm, operation)
        to_all = {"root": own} if operation in ("gather", "scatter", "reduce") else {}
        yield operation, ["read-only"], lambda f=call, k=to_all: f(b, read_only, **k)
        yield operation, ["contiguous"], lambda f=call, k=to_all: f(strided, a, **k)
        yield operation, ["dtype int16"], lambda f=call, k=to_all: f(a.astype("i2"), a.astype("i2"), **k)
        yield operation, ["sendbuf"], lambda f=call, k=to_all: f("text", a, **k)
        for count in (-1, 1.5, True, "10"):
            wrong = {"count": count, "dtype": "float32"} | to_all
            yield operation, [f"count {count!r}"], lambda f=call, k=wrong: f(address, address + 4096, **k)
        if to_all:
            for root in (WORLD, -1, 0.0, None, True):
                yield operation, [f"root {root!r}"], lambda f=call, r=root: f(a, b, root=r)
    yield "reduce_scatter", ["sendbuf must have 2 times"], lambda: comm.reduce_scatter(a, c[:9])
    yield "scatter", ["sendbuf must have 2 times"], lambda: comm.scatter(a, c[:9], own)
    yield "gather", ["recvbuf must have 2 times"], lambda: comm.gather(a, c[:19], own)
    yield "all_to_all", ["19 of"], lambda: comm.all_to_all(b, c[:19])
    yield "all_to_all", ["not a multiple of 2"], lambda: comm.all_to_all(b[:19], c[:19])
    yield "reduce", ["float64"], lambda: comm.reduce(a, np.zeros(10), root=own)
    yield "reduce", ["'mean'"], lambda: comm.reduce(a, op="mean")
    yield "reduce_scatter", ["overlap"], lambda: comm.reduce_scatter(b, b[5:15])
    yield "all_to_all", ["overlap"], lambda: comm.all_to_all(b, b)
    yield "gather", ["overlap"], lambda: comm.gather(b[5:15], b, own)
    yield "scatter", ["overlap"], lambda: comm.scatter(b, b[5:15], own)
    for dim in (2, -3, 1.0, True, None):
        yield "all_gather", [f"dim {dim!r}"], lambda d=dim: comm.all_gather(flat, wide, d)
    yield "all_gather", ["(2, 3)", "(2, 5)", "(2, 6)"], lambda: comm.all_gather(flat, wide, 1)
    yield "reduce_scatter", ["(2, 5)", "(2, 6)"], lambda: comm.reduce_scatter(wide, flat, dim=1)
    for counts in ((1,), (1, 2, 3), (-1, 2), (1.5, 2), 3, None):
        yield "all_to_all", [f"{counts!r}"], lambda n=counts: comm.all_to_all(b, c, (1, 1), n)
        yield "all_gather_v", [f"{counts!r}"], lambda n=counts: comm.all_gather_v(a, c, n)
    yield "all_to_all", ["the counts need 30"], lambda: comm.all_to_all(b, c, (15, 15), (1, 1))
    yield "all_gather_v", ["the counts need 30"], lambda: comm.all_gather_v(b, c, (15, 15))


def one_rank_calls_wrongly(comm, rng):
    number = 0
    for number, (operation, parts, call) in enumerate(wrong_calls(comm)):
        if number // 3 % WORLD == comm.rank:
            refused(comm, *parts, operation=operation, call=call)
        still_works(comm)
    return number


def test_wrong_parts(ranks):
    assert min(ranks.world(WORLD).run(one_rank_calls_wrongly)) > 60
