"""Norms among other calls: in graphs, behind and before other collectives, refused, failing, compared."""

from __future__ import annotations

import contextlib
import ctypes
import platform

import cases
import norm_oracle
import numpy as np
import oracle
import pytest
import quantised_cases
from harness import worlds
from norm_cases import DTYPES, MadeNorm, NormCase, draw
from regions import arena

import hipcomm
from hipcomm.hip import call, hip

ALGORITHMS = ("one_shot", "two_shot", "staged", "pipelined")
with_every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


# ---- graphs ------------------------------------------------------------------------------------------------


def replayed(comm, rng, seed, replays):
    """Eager and captured calls, with other inputs at each replay, some by turns with eager calls."""
    memory, shared = arena(), np.random.default_rng(seed)
    stream = call("hipStreamCreate")
    chosen = [
        draw(shared, (seed, number), dtype=dtype, tokens=3, out="own", residual_out="own", kind="order")
        for number, dtype in enumerate(DTYPES)
    ]
    asked = quantised_cases.draw(shared)
    chosen.append(NormCase("all_reduce_rms_norm", 5, 2880, "bfloat16", seed=(seed, 3), quantised=asked))
    made = [MadeNorm(comm, memory, case) for case in chosen]

    def make_all():
        for each in made:
            each.call(stream)

    for each in made:
        each.fill()
    make_all()
    call("hipStreamBeginCapture", stream, hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal)
    make_all()
    graph = call("hipStreamEndCapture", stream)
    executable = call("hipGraphInstantiateWithFlags", graph, 0)
    call("hipGraphDestroy", graph)
    comm.synchronize(stream=stream)
    for replay in range(replays):
        for each, case in zip(made, chosen, strict=True):
            each.fill(NormCase(**{**vars(case), "seed": (*case.seed, replay)}))
        cases.skew(rng)
        if replay % 5 == 4:
            make_all()
        else:
            call("hipGraphLaunch", executable, stream)
        comm.synchronize(stream=stream)
        for number, each in enumerate(made):
            each.check(with_oracle=(number + replay) % comm.world_size == comm.rank)
    call("hipGraphExecDestroy", executable)
    call("hipStreamDestroy", stream)


@pytest.mark.parametrize("world", worlds(1, 3))
@with_every_algorithm
def test_graphs(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(replayed, 31, 30)


# ---- other collectives -------------------------------------------------------------------------------------


def mixed(comm, rng, seed, rounds):
    """Norms and other collectives back to back: no call takes another's lines or staging for its own."""
    memory, shared = arena(), np.random.default_rng(seed)
    for number in range(rounds):
        chosen = [
            cases.Made(
                comm, memory, cases.random_case(shared, comm.world_size, (seed, number, 0), "all_reduce")
            ),
            MadeNorm(comm, memory, draw(shared, (seed, number, 1))),
            cases.Made(
                comm, memory, cases.random_case(shared, comm.world_size, (seed, number, 2), "all_gather")
            ),
            MadeNorm(comm, memory, draw(shared, (seed, number, 3), quantised=quantised_cases.draw(shared))),
        ]
        for each in chosen:
            each.fill(*([number + 1] if isinstance(each, cases.Made) else []))
        for each in chosen:
            cases.skew(rng)
            each.call() if isinstance(each, MadeNorm) else each.make(None)
        comm.synchronize()
        for each in chosen:
            if isinstance(each, MadeNorm):
                each.check(with_oracle=number % comm.world_size == comm.rank)
            else:
                each.check(comm)
        memory.reset()


@pytest.mark.parametrize("world", worlds(2, 4))
def test_mixed_with_other_collectives(ranks, world):
    ranks.world(world).run(mixed, 41, 12)


# ---- refused -----------------------------------------------------------------------------------------------


def refusals(comm, rng):
    shape = (4, 64)
    memory = arena()
    x, other, out = (memory.region(4 * 64 * 4).address for _ in range(3))
    where = {"shape": shape, "dtype": "float32"}
    wrong = [
        ("none of float16", (x, None, None, 1e-6, out), {**where, "dtype": "float64"}),
        ("hidden is 1 to 65536", (x, None, None, 1e-6, out), {**where, "shape": (4, 65537)}),
        ("hidden is 1 to 65536", (x, None, None, 1e-6, out), {**where, "shape": (4, 0)}),
        ("eps -1 ", (x, None, None, -1, out), where),
        ("eps nan", (x, None, None, float("nan"), out), where),
        (r"eps 1e\+39", (x, None, None, 1e39, out), where),
        ("is not a number", (x, None, None, "1", out), where),
        ("weight_offset inf", (x, None, None, 0, out), {**where, "weight_offset": float("inf")}),
        ("weight is neither", (x, None, other, 0, out), {**where, "weight_dtype": "bfloat16"}),
        ("nothing to write", (x, None, None, 0, None), where),
        ("x is NULL", (0, None, None, 0, out), where),
        ("out and x overlap", (x, None, None, 0, x + 4), where),
        ("out and residual_out overlap", (x, other, None, 0, out, out), where),
        ("out and weight overlap", (x, None, out, 0, out), where),
        ("lie 63 apart", (x, None, None, 0, out), {**where, "row_strides": {"x": 63}}),
        ("row_strides of y", (x, None, None, 0, out), {**where, "row_strides": {"y": 64}}),
        ("needs shape=", (x, None, None, 0, out), {"dtype": "float32"}),
        ("1 is no hipcomm.Quantised", (x, None, None, 0, out), {**where, "quantised": 1}),
        ("none of replicated, sharded", (x, None, None, 0, out), {**where, "residual_layout": "rows"}),
    ]
    for text, arguments, keywords in wrong:
        with pytest.raises(hipcomm.InvalidArgument, match=f"rank {comm.rank}: all_reduce_rms_norm: .*{text}"):
            comm.all_reduce_rms_norm(*arguments, **keywords)
    with pytest.raises(hipcomm.InvalidArgument, match="are not rows of hidden"):
        comm.plan("all_reduce_rms_norm", 100, "float32", hidden=64)
    plan = comm.plan("all_reduce_rms_norm", 4 * 64 * 4, "float32", hidden=64)
    assert plan.kernel.endswith("_float32") and plan.grid >= 1
    comm.barrier()  # nothing was launched: the ranks are still in step


@pytest.mark.parametrize("world", worlds(2))
def test_refusals(ranks, world):
    ranks.world(world).run(refusals)


def too_small(comm, rng):
    x = arena().region(65536 * 4).address
    with pytest.raises(hipcomm.InvalidArgument, match="not one row of 65536 elements fits"):
        comm.all_reduce_rms_norm(x, None, None, 0, x, shape=(1, 65536), dtype="float32")


@pytest.mark.parametrize("world", worlds(16))
def test_a_staging_slab_without_room_for_a_row(ranks, world):
    ranks.world(world, algorithm="pipelined", staging_bytes="1M").run(too_small)


# ---- arrays ------------------------------------------------------------------------------------------------


def arrays(comm, rng):
    """Arrays with strides, of more dimensions, symmetric ones; what has another shape is refused."""
    shared = np.random.default_rng(1)
    inputs = [shared.standard_normal((6, 100)).astype(np.float32) for _ in range(comm.world_size)]
    residual, weight = inputs[0] * 2, shared.standard_normal(64).astype(np.float32)
    x = inputs[comm.rank][:, 3:67]  # rows of 64, 100 apart
    out, residual_out = np.empty((2, 3, 64), np.float32), np.empty((6, 70), np.float32)[:, :64]
    comm.all_reduce_rms_norm(x, residual[:, :64], weight, 1e-6, out, residual_out)
    v = norm_oracle.add_residual(oracle.reduce([each[:, 3:67] for each in inputs], "sum"), residual[:, :64])
    assert (residual_out == v).all()
    assert (out.reshape(6, 64) == norm_oracle.rms_norm(v, weight, 1e-6)).all()
    symmetric = comm.empty((6, 64), "float32")
    np.asarray(symmetric)[:] = x
    comm.all_reduce_layer_norm(symmetric, None, None, None, 1e-5, symmetric)
    summed = oracle.reduce([each[:, 3:67] for each in inputs], "sum")
    assert (np.asarray(symmetric) == norm_oracle.layer_norm(summed, None, None, 1e-5)).all()
    for text, arguments in (
        ("out has 6 rows of 70 float32, x 6 of 64", (x, None, None, 0, np.empty((6, 70), np.float32))),
        (
            "out has 6 rows of 64 float16, x 6 of 64 float32",
            (x, None, None, 0, np.empty((6, 64), np.float16)),
        ),
        ("weight has 63 elements, a row 64", (x, None, weight[:63], 0, out)),
        ("is no rows", (x[:, ::2], None, None, 0, out)),
        ("without dimensions", (np.empty((), np.float32), None, None, 0, out)),
    ):
        with pytest.raises(hipcomm.InvalidArgument, match=text):
            comm.add_rms_norm(*arguments)


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(3))
def test_arrays(ranks, world):
    ranks.world(world).run(arrays)


# ---- failures ----------------------------------------------------------------------------------------------


def alone(comm, rng):
    if comm.rank == 0:
        return None
    x = arena().region(4096 * 4).address
    try:
        comm.all_reduce_rms_norm(x, None, None, 0, x, shape=(1, 4096), dtype="float32")
        comm.synchronize()
    except hipcomm.PeerTimeout as error:
        return str(error)
    raise AssertionError("nobody came, and nothing was said")


@pytest.mark.parametrize("world", worlds(3))
@with_every_algorithm
def test_a_peer_that_does_not_come(own_ranks, algorithm, world):
    texts = own_ranks.world(world, algorithm=algorithm, timeout=0.7).run(alone)
    for text in texts[1:]:
        assert f"all_reduce_rms_norm (call 1, {algorithm})" in text
    own_ranks.end()


def differing(comm, rng, hidden):
    x = arena().region(4096 * 4).address
    shape = (4096 // hidden[comm.rank], hidden[comm.rank])
    with pytest.raises(
        hipcomm.CallMismatch, match=r"all_reduce_rms_norm\(count 4096 in rows of 1024, .*rows of 2048"
    ):
        comm.all_reduce_rms_norm(x, None, None, 0, x, shape=shape, dtype="float32")
        comm.synchronize()


@pytest.mark.parametrize("world", worlds(2))
def test_rows_of_different_lengths_are_found(own_ranks, world):
    own_ranks.world(world, check=True).run(differing, (1024, 2048))
    own_ranks.end()


# ---- the thread's floating-point state --------------------------------------------------------------------


@contextlib.contextmanager
def rounding_up_without_denormals():
    """The thread rounds upward and flushes denormals; yields what reads that state."""
    libm = ctypes.CDLL("libm.so.6")
    before, changed = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)  # fenv_t
    libm.fegetenv(before)

    def control() -> int:
        libm.fegetenv(changed)
        return int.from_bytes(changed[28:32], "little") & ~0x3F  # mxcsr, less the exceptions that happened

    state = control() | 0x4000 | 0x8040
    changed[28:32] = state.to_bytes(4, "little")
    libm.fesetenv(changed)
    try:
        yield control
    finally:
        libm.fesetenv(before)


def in_another_state(comm, rng):
    case = NormCase("add_rms_norm", 4, 1000, "float32", kind="special", eps=1e-30, seed=(9,))
    made = MadeNorm(comm, arena(), case)
    made.fill()
    with rounding_up_without_denormals() as control:
        before = control()
        made.call()
        after = control()
    assert before == after and before & 0x4000, "the kernel has changed the caller's state"
    made.check(with_oracle=True)


@pytest.mark.host_arrays
@pytest.mark.skipif(platform.machine() != "x86_64", reason="mxcsr is x86's")
def test_the_callers_floating_point_state_does_not_matter(ranks):
    ranks.world(1).run(in_another_state)
