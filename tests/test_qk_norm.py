"""all_reduce_qk_norm, bit for bit against the oracle: any call, in graphs, among others, refused, failing."""

from __future__ import annotations

import itertools

import cases
import norm_cases
import norm_oracle
import numpy as np
import pytest
from harness import worlds
from norm_cases import DTYPES, KINDS, MadeNorm
from qk_cases import MadeQk, QkCase, draw
from regions import arena

import hipcomm
from hipcomm.hip import call, hip


def make(comm, rng, chosen, burst=6):
    """Make all calls, some of them back to back before their results are checked."""
    memory = arena()
    for begin in range(0, len(chosen), burst):
        made = [MadeQk(comm, memory, case) for case in chosen[begin : begin + burst]]
        for each in made:
            each.fill()
        for each in made:
            cases.skew(rng)
            each.call()
        comm.synchronize()
        for each in made:
            each.check()
        memory.reset()


def any_calls(comm, rng, seed, count):
    shared = np.random.default_rng(seed)
    make(comm, rng, [draw(shared, (seed, number)) for number in range(count)])


@pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 8))
def test_any_call(ranks, world):
    ranks.world(world).run(any_calls, world, 24)


@pytest.mark.parametrize("world", worlds(16))
def test_many_ranks(ranks, world):
    ranks.world(world).run(any_calls, world, 5)


def every_dtype_and_kind(comm, rng):
    chosen = [
        QkCase(19, (1536, 256, 256), dtype, "float32", kind=kind, seed=(7, number), packed=number % 2 == 0)
        for number, (dtype, kind) in enumerate(itertools.product(DTYPES, KINDS))
    ]
    make(comm, rng, chosen)


@pytest.mark.parametrize("world", worlds(3))
def test_every_dtype_and_kind(ranks, world):
    ranks.world(world).run(every_dtype_and_kind)


def long_calls(comm, rng):
    """The longest rows; and more of them than one launch has lines for."""
    rows = comm.plan("all_reduce_qk_norm", 10000 * 12 * 4, "float32", hidden=12).chunk_bytes // (12 * 4)
    chosen = [
        QkCase(2, (65536, 65535, 1), "float32", seed=(8, 0)),
        QkCase(2, (32771, 65536, 0), "float16", outs=("in", "none", "own"), seed=(8, 1)),
        QkCase(10000, (8, 4, 3), "float32", outs=("own", "in", "in"), seed=(8, 2)),
    ]
    assert rows < 10000 or comm.device.arch != "x86_64"
    make(comm, rng, chosen)


@pytest.mark.parametrize("world", worlds(4))
def test_long_rows_and_many_rows(ranks, world):
    ranks.world(world).run(long_calls)


def as_alone(comm, rng):
    """In a world of one it is the local norm of q and of k: this library's own, bit for bit."""
    memory = arena()
    made = MadeQk(comm, memory, QkCase(9, (1536, 256, 0), kind="order", seed=(3,)))
    made.fill()
    made.call()
    for number in (0, 1):
        width, where = made.case.widths[number], {"shape": (9, made.case.widths[number]), "dtype": "bfloat16"}
        out = memory.region(9 * width * 2)
        comm.add_rms_norm(
            made.inputs[number].address,
            None,
            made.weights[number].address,
            made.case.eps,
            out.address,
            **where,
        )
        comm.synchronize()
        assert (out.get(np.dtype(np.uint16)) == made.outputs[number].get().view(np.uint16).reshape(-1)).all()


def test_alone_it_is_the_local_norm(ranks):
    ranks.world(1).run(as_alone)


# ---- in graphs, and among other calls ----------------------------------------------------------------------


def replayed(comm, rng, replays):
    """Eager and captured calls, with other inputs at each replay, some by turns with eager calls."""
    memory, stream = arena(), call("hipStreamCreate")
    chosen = [
        QkCase(tokens, (384, 128, 128), dtype, outs=("own", "own", "own"), kind="order", seed=(9, number))
        for number, (tokens, dtype) in enumerate(zip((1, 20, 5), DTYPES, strict=True))
    ]
    made = [MadeQk(comm, memory, case) for case in chosen]
    for each in made:
        each.fill()
    call("hipStreamBeginCapture", stream, hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal)
    for each in made:
        each.call(stream)
    graph = call("hipStreamEndCapture", stream)
    executable = call("hipGraphInstantiateWithFlags", graph, 0)
    call("hipGraphDestroy", graph)
    for replay in range(replays):
        for each in made:
            each.fill(replay)
        cases.skew(rng)
        if replay % 5 == 4:
            for each in made:
                each.call(stream)
        else:
            call("hipGraphLaunch", executable, stream)
        comm.synchronize(stream=stream)
        for each in made:
            each.check()
    call("hipGraphExecDestroy", executable)
    call("hipStreamDestroy", stream)


@pytest.mark.parametrize("world", worlds(1, 3))
def test_graphs(ranks, world):
    ranks.world(world).run(replayed, 20)


def mixed(comm, rng, seed, rounds):
    """Among other collectives back to back: no call takes another's lines for its own."""
    memory, shared, world = arena(), np.random.default_rng(seed), comm.world_size
    for number in range(rounds):
        chosen = [
            MadeQk(comm, memory, draw(shared, (seed, number, 0))),
            cases.Made(comm, memory, cases.random_case(shared, world, (seed, number, 1), "all_reduce")),
            MadeNorm(comm, memory, norm_cases.draw(shared, (seed, number, 2))),
            MadeQk(comm, memory, draw(shared, (seed, number, 3), tokens=3)),
            cases.Made(comm, memory, cases.random_case(shared, world, (seed, number, 4), "all_gather")),
        ]
        for each in chosen:
            each.fill(*([number + 1] if isinstance(each, cases.Made) else []))
        for each in chosen:
            cases.skew(rng)
            each.make(None) if isinstance(each, cases.Made) else each.call()
        comm.synchronize()
        for each in chosen:
            if isinstance(each, MadeNorm):
                each.check(with_oracle=number % world == comm.rank)
            else:
                each.check(*([comm] if isinstance(each, cases.Made) else []))
        memory.reset()


@pytest.mark.parametrize("world", worlds(2, 4))
def test_mixed_with_other_collectives(ranks, world):
    ranks.world(world).run(mixed, 43, 10)


@pytest.mark.parametrize("world", worlds(3))
def test_where_the_epoch_wraps(ranks, world):
    """Lines of a whole turn ago are wiped, and epochs begin anew."""
    for first_epoch in (0xFFFFFFF0, (1 << 22) - 8):
        ranks.world(world, first_epoch=first_epoch).run(any_calls, 12, 24)


# ---- refused -----------------------------------------------------------------------------------------------


def refusals(comm, rng):
    memory = arena()
    q, k, v, q_out, k_out, v_out = (memory.region(4 * 64 * 4).address for _ in range(6))
    where, with_v = {"shape": (4, 64, 32), "dtype": "float32"}, {"shape": (4, 64, 32, 8), "dtype": "float32"}
    good = (q, k, None, None, 1e-6, q_out, k_out)
    wrong = [
        ("none of float16", good, {**where, "dtype": "int32"}),
        ("rows of 65537 elements", good, {**where, "shape": (4, 65537, 32)}),
        ("rows of 0 elements", good, {**where, "shape": (4, 64, 0)}),
        ("eps -1 ", (q, k, None, None, -1, q_out, k_out), where),
        ("eps '1' is not a number", (q, k, None, None, "1", q_out, k_out), where),
        ("q is NULL", (0, k, None, None, 0, q_out, k_out), where),
        ("k is NULL", (q, 0, None, None, 0, q_out, k_out), where),
        ("nothing to write", (q, k, None, None, 0, None, None), where),
        ("of v and v_out one is NULL", good, {**with_v, "v": v, "v_out": 0}),
        ("q_out and q overlap", (q, k, None, None, 0, q + 4, k_out), where),
        ("q_out and k overlap", (q, k, None, None, 0, k, k_out), where),
        ("q_out and k_out overlap", (q, k, None, None, 0, q_out, q_out + 256), where),
        ("v_out and k overlap", good, {**with_v, "v": v, "v_out": k + 64}),
        ("k_out and k_weight overlap", (q, k, None, k_out, 0, q_out, k_out), where),
        ("k_weight is neither", (q, k, None, v, 0, q_out, k_out), {**where, "weight_dtype": "bfloat16"}),
        ("lie 63 apart", good, {**where, "row_strides": {"q": 63}}),
        ("row_strides of x", good, {**where, "row_strides": {"x": 64}}),
        (r"is not \(tokens, q_hidden, k_hidden\)", good, {**where, "shape": (4, 64)}),
        (r"is not \(tokens, q_hidden, k_hidden, v_hidden\)", good, {**where, "v": v, "v_out": v_out}),
        ("needs shape=", good, {"dtype": "float32"}),
    ]
    for text, arguments, keywords in wrong:
        with pytest.raises(hipcomm.InvalidArgument, match=f"rank {comm.rank}: all_reduce_qk_norm: .*{text}"):
            comm.all_reduce_qk_norm(*arguments, **keywords)
    with pytest.raises(hipcomm.InvalidArgument, match="are not rows of hidden"):
        comm.plan("all_reduce_qk_norm", 100, "float32", hidden=96)
    comm.barrier()  # nothing was launched: the ranks are still in step


@pytest.mark.parametrize("world", worlds(2))
def test_refusals(ranks, world):
    ranks.world(world).run(refusals)


def plans(comm, rng):
    plan = comm.plan("all_reduce_qk_norm", 37 * 1792 * 2, "bfloat16", hidden=1792)
    assert plan.kernel == "hipcomm_all_reduce_qk_norm_bfloat16"
    assert plan.link_bytes == 37 * 16 * (comm.world_size - 1)
    assert (plan.algorithm, plan.chunks) == ("one_shot", 1) and plan.grid >= 1
    assert comm.plan("all_reduce_qk_norm", 0, "bfloat16", hidden=1792).algorithm == "none"
    return plan


@pytest.mark.parametrize("world", worlds(1, 4))
def test_plan(ranks, world):
    assert len(set(ranks.world(world).run(plans))) == 1


# ---- arrays ------------------------------------------------------------------------------------------------


def arrays(comm, rng):
    """Columns of one array, in place; weights of two dtypes; what has another shape is refused."""
    whole = [
        np.random.default_rng([5, r]).standard_normal((6, 100)).astype(np.float16)
        for r in range(comm.world_size)
    ]
    rank, mine = comm.rank, whole[comm.rank].copy()
    q_weight, k_weight = np.linspace(-1, 2, 64, dtype=np.float32), np.linspace(0, 2, 20, dtype=np.float16)
    k_out, v_out = np.empty((2, 3, 20), np.float16), np.empty((6, 30), np.float16)[:, 3:19]
    q, k, v = mine[:, :64], mine[:, 64:84], mine[:, 84:]
    comm.all_reduce_qk_norm(q, k, q_weight, k_weight, 1e-6, q, k_out, v=v, v_out=v_out)
    expected = [
        norm_oracle.qk_norm([each[:, a:b] for each in whole], rank, weight, 1e-6)
        for a, b, weight in ((0, 64, q_weight), (64, 84, k_weight))
    ]
    assert (q == expected[0]).all() and (k_out.reshape(6, 20) == expected[1]).all()
    assert (v_out == whole[rank][:, 84:]).all() and (mine[:, 64:] == whole[rank][:, 64:]).all()
    for text, arguments, more in (
        ("k has 5 rows of 20 float16, q 6 of 20", (q, k[:5], None, None, 0, q, k_out), {}),
        ("q_out has 6 rows of 20 float16, q 6 of 64", (q, k, None, None, 0, k_out, k), {}),
        ("k has 6 rows of 64 float32", (q, q.astype(np.float32), None, None, 0, q, None), {}),
        ("q_weight has 63 elements, a row 64", (q, k, q_weight[1:], None, 0, q, k_out), {}),
        (
            "v_out has 6 rows of 16 float16, v 6 of 20",
            (q, k, None, None, 0, q, k_out),
            {"v": k, "v_out": v_out},
        ),
        ("shape= and dtype= go with", (q, k, None, None, 0, q, k_out), {"dtype": "float16"}),
    ):
        with pytest.raises(hipcomm.InvalidArgument, match=text):
            comm.all_reduce_qk_norm(*arguments, **more)


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(3))
def test_arrays(ranks, world):
    ranks.world(world).run(arrays)


# ---- failures ----------------------------------------------------------------------------------------------


def one_call(comm, widths, tokens=2):
    made = MadeQk(comm, arena(), QkCase(tokens, widths, "float32"))
    made.fill()
    made.call()
    comm.synchronize()


def alone(comm, rng):
    if comm.rank == 0:
        return None
    try:
        one_call(comm, (128, 64, 0), tokens=40)
    except hipcomm.PeerTimeout as error:
        return str(error)
    raise AssertionError("nobody came, and nothing was said")


@pytest.mark.parametrize("world", worlds(3))
def test_a_peer_that_does_not_come(own_ranks, world):
    for text in own_ranks.world(world, timeout=0.7).run(alone)[1:]:
        assert "all_reduce_qk_norm (call 1, one_shot)" in text
    own_ranks.end()


def differing(comm, rng, widths):
    with pytest.raises(hipcomm.CallMismatch, match="all_reduce_qk_norm"):
        one_call(comm, widths[comm.rank])


@pytest.mark.parametrize("check", (False, True))
@pytest.mark.parametrize("world", worlds(2))
@pytest.mark.parametrize("widths", (((96, 64, 0), (128, 32, 0)), ((96, 64, 0), (96, 32, 0))))
def test_rows_of_different_lengths_are_found(own_ranks, widths, world, check):
    own_ranks.world(world, check=check, timeout=5).run(differing, widths)
    own_ranks.end()
