"""Kernels that a rank of a world over nodes launches for itself: widening, nodes' results, copies in rows."""

from __future__ import annotations

import nodes_oracle
import numpy as np
import oracle
import pytest
from harness import PLATFORM

from hipcomm.buffers.dtypes import CODES
from hipcomm.core import check, ffi, lib
from hipcomm.nodes.layout import Layout
from hipcomm.nodes.local import Elements, Local, Partials, padded
from hipcomm.plan import REDUCTIONS

pytestmark = pytest.mark.skipif(PLATFORM != "cpu", reason="passes host memory")

LAYOUT = Layout.of("aabbc", 2)  # of five ranks on three nodes; this one is on the second
NODES = LAYOUT.num_nodes
COUNTS = (1, 7, 64, 1000, 2500)  # 2500: several tiles of the CPU's loop


def wide_of(dtype):
    return dtype if dtype.kind in "iu" or dtype.itemsize >= 4 else np.dtype("float32")


def address(array, offset=0):
    return array.ctypes.data + offset


def finish(comm, rng, name, op):
    """Partial results of three nodes, of which one's lies elsewhere, at any alignment."""
    dtype, local = oracle.dtype_of(name), Local(comm, LAYOUT)
    wide = wide_of(dtype)
    for number, count in enumerate(COUNTS):
        for kind in oracle.KINDS:
            inputs = [oracle.make_input((number, node), node, count, dtype, kind) for node in range(NODES)]
            nodes = [[node] for node in range(NODES)]
            expected = nodes_oracle.reduce(inputs, op, nodes, 5)
            stride = padded(count * wide.itemsize)
            partials = np.full(NODES * stride + 64, 0xA5, np.uint8)
            for node, each in enumerate(inputs):
                if node != 1:
                    partials[node * stride :][: count * wide.itemsize] = each.astype(wide).view(np.uint8)
            own = np.full(count * wide.itemsize + 8, 0xA5, np.uint8)
            shift = wide.itemsize if number % 2 else 0
            own[shift:][: count * wide.itemsize] = inputs[1].astype(wide).view(np.uint8)
            out = np.full(count + 4, 0x5A, np.uint8).repeat(dtype.itemsize)
            given = Partials(address(own, shift), address(partials), stride)
            place = address(out, 2 * dtype.itemsize)
            local.finish(given, place, count, Elements(CODES[dtype], REDUCTIONS[op]), ffi.NULL)
            got = out.view(dtype)[2 : 2 + count]
            assert oracle.difference(got, expected) == "", (name, op, kind, count)
            ends = np.concatenate([out[: 2 * dtype.itemsize], out[(count + 2) * dtype.itemsize :]])
            assert (ends == 0x5A).all(), "a guard"


@pytest.mark.parametrize("op", oracle.OPERATIONS)
def test_partial_results_are_combined_in_node_order_and_rounded_once(ranks, op):
    world = ranks.world(1)
    for name in oracle.ALL_DTYPES:
        world.run(finish, name, op)


def widen(comm, rng, name):
    dtype, local = oracle.dtype_of(name), Local(comm, LAYOUT)
    for number, count in enumerate(COUNTS):
        elements = oracle.make_input((number,), 0, count + 1, dtype, "bits")[1:]  # not aligned
        out = np.full(count + 2, 7.0, np.float32)
        local.widen(address(elements), address(out, 4), count, CODES[dtype], ffi.NULL)
        assert oracle.difference(out[1:-1], elements.astype(np.float32)) == "", (name, count)
        assert out[0] == out[-1] == 7


def test_elements_are_widened(ranks):
    for name in oracle.ALL_DTYPES:
        if oracle.dtype_of(name).itemsize <= 2 and "float" in name:
            ranks.world(1).run(widen, name)


def refuse_widening(comm, rng):
    code = lib.hipcommCommWiden(comm._comm, ffi.NULL, ffi.NULL, 1, CODES[np.dtype("int8")], ffi.NULL)
    assert code == lib.hipcommInvalidArgument


def test_only_narrow_floats_are_widened(ranks):
    ranks.world(1).run(refuse_widening)


def copy(comm, rng):
    local = Local(comm, LAYOUT)
    for nbytes, rows, gap, other_gap in ((1, 1, 0, 0), (16, 5, 16, 0), (13, 9, 3, 6), (4096, 3, 0, 512)):
        source = rng.integers(0, 256, rows * (nbytes + gap), np.uint8)
        target = np.full(rows * (nbytes + other_gap) + 1, 0xA5, np.uint8)
        strides = nbytes + gap, nbytes + other_gap
        local.copy_rows(
            (address(source), strides[0]), (address(target, 1), strides[1]), nbytes, rows, ffi.NULL
        )
        for row in range(rows):
            got = target[1 + row * strides[1] :]
            assert (got[:nbytes] == source[row * strides[0] :][:nbytes]).all()
            assert (got[nbytes : strides[1]] == 0xA5).all(), "between the rows"
        assert target[0] == 0xA5


def test_rows_are_copied(ranks):
    ranks.world(1).run(copy)


def count_up(comm, rng):
    count = np.zeros(1, np.uint64)
    for expected in (1, 2, 3):
        check(lib.hipcommCommCountUp(comm._comm, ffi.cast("uint64_t *", address(count)), ffi.NULL))
        assert count[0] == expected


def test_the_stream_counts(ranks):
    ranks.world(1).run(count_up)


def partial(comm, rng, name, op, rows, count):
    """A reduce-scatter whose results are float32: combined in rank order, not rounded, not divided."""
    dtype = oracle.dtype_of(name)
    elements = Elements(CODES[dtype], REDUCTIONS[op])
    sent = [
        oracle.make_input((rows, count), rank, rows * comm.world_size * count + 1, dtype, "plain")[1:]
        for rank in range(comm.world_size)
    ]
    with np.errstate(all="ignore"):
        total = sent[0].astype(np.float32)
        for each in sent[1:]:
            total = oracle._combine(total, each.astype(np.float32), op if op != "avg" else "sum")
    expected = total.reshape(rows, comm.world_size, count)[:, comm.rank].reshape(-1)
    out = np.full(expected.size + 2, 7.0, np.float32)
    mine = sent[comm.rank]
    Local(comm, LAYOUT).run(
        lib.hipcommCommReduceScatterPartial, ffi.cast("void *", address(mine)),
        ffi.cast("void *", address(out, 4)), rows, count, *elements, stream=ffi.NULL,
    )  # fmt: skip
    assert oracle.difference(out[1:-1], expected) == "", (name, op, rows, count)
    assert out[0] == out[-1] == 7, "a guard"


@pytest.mark.parametrize("world", [1, 2, 3])
def test_partial_results_of_a_node_are_not_rounded(ranks, world):
    for name in ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2fnuz"):
        for op in ("sum", "avg", "prod"):
            for rows, count in ((1, 1), (1, 7), (3, 64), (2, 1001), (1, 20000)):
                ranks.world(world).run(partial, name, op, rows, count)


def refuse_partial(comm, rng):
    for name, op in (("float32", "sum"), ("bfloat16", "max")):
        elements = CODES[oracle.dtype_of(name)], REDUCTIONS[op]
        code = lib.hipcommCommReduceScatterPartial(comm._comm, ffi.NULL, ffi.NULL, 1, 1, *elements, ffi.NULL)
        assert code == lib.hipcommInvalidArgument, name


def test_what_has_no_partial_results_of_another_type_is_refused(ranks):
    ranks.world(2).run(refuse_partial)
