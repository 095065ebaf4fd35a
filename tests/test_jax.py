"""hipcomm.jax: collectives and norms in JAX programs on the CPU, with the bits of the communicator's."""

from __future__ import annotations

import functools
import re

import numpy as np
import oracle
import pytest
from harness import PLATFORM, worlds

import hipcomm

jax = pytest.importorskip("jax")
WORLD = 2

pytestmark = [
    pytest.mark.host_arrays,
    pytest.mark.skipif(PLATFORM != "cpu" or not worlds(WORLD), reason="JAX is tried on the CPU platform"),
]


@functools.cache
def modules():
    """JAX and hipcomm.jax, imported in a rank's process, never in the tests'."""
    import jax
    import jax.numpy as jnp

    import hipcomm.jax

    return jax, jnp, hipcomm.jax


def values(rank, shape, dtype, seed=0):
    """Small integers, which every dtype holds; others on every rank."""
    numbers = np.random.default_rng([seed, rank]).integers(1, 4, shape)
    return numbers.astype(oracle.dtype_of(dtype) if isinstance(dtype, str) else dtype)


def same(found, expected):
    found = np.asarray(found)
    assert found.dtype == expected.dtype and found.shape == expected.shape, (found.shape, expected.shape)
    assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


# ---- the same bits as the communicator's methods ---------------------------------------------------------


def operations(comm, x, op):
    """(what hipcomm.jax makes of x, what the communicator's method makes of it)."""
    _, _, hj = modules()
    world = comm.world_size
    yield lambda v: hj.all_reduce(v, comm, op), lambda out: comm.all_reduce(x, out, op), x.shape
    for dim in range(-1 if x.ndim > 1 else 0, x.ndim):
        axis = dim % x.ndim
        whole = (*x.shape[:axis], x.shape[axis] * world, *x.shape[axis + 1 :])
        yield (
            lambda v, dim=dim: hj.all_gather(v, comm, dim),
            lambda out, dim=dim: comm.all_gather(x, out, dim),
            whole,
        )
        part = (*x.shape[:axis], x.shape[axis] // world, *x.shape[axis + 1 :])
        yield (
            lambda v, dim=dim: hj.reduce_scatter(v, comm, op, dim),
            lambda out, dim=dim: comm.reduce_scatter(x, out, op, dim),
            part,
        )
    yield lambda v: hj.all_to_all(v, comm), lambda out: comm.all_to_all(x, out), x.shape


def every_operation(comm, rng):
    jax, jnp, _ = modules()
    world = comm.world_size
    for number, name in enumerate(oracle.DTYPES):
        dtype = oracle.dtype_of(name)
        with jax.enable_x64(dtype.itemsize == 8):
            # compiling takes long: all dimensions with the first dtypes only
            x = values(comm.rank, (2 * world, 3 * world, world)[: 3 if number < 2 else 1], name, number)
            for traced, method, shape in operations(comm, x, ("sum", "max", "avg", "prod")[number % 4]):
                expected = np.full(shape, 7).astype(dtype)
                method(expected)
                same(traced(jnp.asarray(x)), expected)
                if number < 2:
                    same(jax.jit(traced)(x), expected)


@pytest.mark.parametrize("world", worlds(2, 3))
def test_every_operation_and_dtype(ranks, world):
    ranks.world(world).run(every_operation)


def in_a_loop(comm, rng):
    """200 calls, among them direct ones, and other numbers in every one."""
    jax, jnp, hj = modules()
    step = jax.jit(lambda v, k: hj.all_reduce(v * k, comm))
    total = sum(values(rank, 1000, "float32") for rank in range(comm.world_size))
    x = jnp.asarray(values(comm.rank, 1000, "float32"))
    for k in range(200):
        found = step(x, k) if k % 3 else hj.all_reduce(x * k, comm)
        assert (np.asarray(found) == total * k).all(), k
        if k % 20 == 0:
            direct = np.full(5, comm.rank, np.float32)
            comm.all_reduce(direct)
            assert (direct == sum(range(comm.world_size))).all()
    later = [hj.all_reduce(x * k, comm) for k in range(50)]  # none is waited for
    for k, found in enumerate(later):
        assert (np.asarray(found) == total * k).all(), k


@pytest.mark.parametrize("world", worlds(1, 2, 3, 4))
def test_two_hundred_calls(ranks, world):
    ranks.world(world).run(in_a_loop)


# ---- transformations -------------------------------------------------------------------------------------


def transformed(comm, rng):
    jax, jnp, hj = modules()
    world, rank = comm.world_size, comm.rank
    everyone = [values(r, (5, 2 * world, 3), "float32") for r in range(world)]
    x, total = jnp.asarray(everyone[rank]), sum(everyone)

    def reduce(v):
        return hj.all_reduce(v, comm)

    for axis in range(3):  # a batch anywhere
        same(jax.vmap(reduce, axis, axis)(x), total)
        same(jax.jit(jax.vmap(jax.vmap(reduce, 0), axis, axis))(x), total)
    gathered = np.concatenate(everyone, 1)
    same(jax.vmap(lambda v: hj.all_gather(v, comm))(x), gathered)
    same(jax.vmap(lambda v: hj.all_gather(v, comm), 2, 2)(x), np.concatenate(everyone, 0))
    same(jax.vmap(jax.vmap(lambda v: hj.all_gather(v, comm, -1)))(x), np.concatenate(everyone, 2))
    part = total[:, 2 * rank : 2 * rank + 2]
    same(jax.vmap(lambda v: hj.reduce_scatter(v, comm))(x), part)
    same(jax.vmap(lambda v: hj.reduce_scatter(v, comm, dim=1), 2, 2)(x), part)
    exchanged = np.concatenate([each[:, 2 * rank : 2 * rank + 2] for each in everyone], 1)
    same(jax.vmap(lambda v: hj.all_to_all(v, comm))(x), exchanged)

    # loops: a call in each turn, on what the one before has made
    def turn(carry, v):
        carry = reduce(carry + v) % 7
        return carry, carry

    expected, rows = [np.zeros((2 * world, 3), np.float32)] * world, []
    for k in range(5):
        expected = [sum(expected[r] + everyone[r][k] for r in range(world)) % 7] * world
        rows.append(expected[0])
    last, stacked = jax.jit(lambda v: jax.lax.scan(turn, jnp.zeros((2 * world, 3), "float32"), v))(x)
    same(last, rows[-1])
    same(stacked, np.stack(rows))
    looped = jax.jit(lambda v, n: jax.lax.fori_loop(0, n, lambda k, c: reduce(c + k) % 5, v))
    expected = everyone
    for k in range(9):
        expected = [sum(each + k for each in expected) % 5] * world
    same(looped(x, 9), expected[0].astype(np.float32))
    branch = jax.jit(lambda v, p: jax.lax.cond(p, reduce, lambda w: hj.all_reduce(w, comm, "max"), v))
    same(branch(x, True), total)
    same(branch(x, False), functools.reduce(np.maximum, everyone))

    donated = jax.jit(lambda v: (reduce(v), reduce(v + 1)), donate_argnums=0)
    for _ in range(20):
        first, second = donated(jnp.array(everyone[rank]))
        same(first, total)
        same(second, total + world)
    in_place = jax.jit(lambda v: reduce(v) * 1, donate_argnums=0)
    for _ in range(20):
        same(in_place(jnp.array(everyone[rank])), total)
    same(jax.jit(jax.checkpoint(reduce))(x), total)


@pytest.mark.parametrize("world", worlds(2, 3))
def test_transformations(ranks, world):
    ranks.world(world).run(transformed)


def order(comm, rng):
    """Calls that do not depend on each other; which has its input first differs between the ranks."""
    jax, jnp, hj = modules()

    def after(turns, v):
        return jax.lax.fori_loop(0, turns, lambda _, c: jnp.sort(c)[::-1], v)

    @jax.jit
    def program(turns, a, b, c):
        first = hj.all_reduce(after(turns[0], a), comm)
        second = hj.all_reduce(after(turns[1], b), comm, "max")
        third = hj.all_gather(after(turns[2], c), comm)
        return third, second, first

    world, rank = comm.world_size, comm.rank
    for k in range(30):
        turns = [600 if (k + rank + i) % 3 == 0 else 0 for i in range(3)]
        a, b, c = (jnp.full(size, rank + k, "float32") for size in (3000, 3000, 3000))
        third, second, first = program(turns, a, b, c)
        same(first, np.full(3000, sum(r + k for r in range(world)), np.float32))
        same(second, np.full(3000, world - 1 + k, np.float32))
        same(third, np.repeat(np.arange(world) + k, 3000).astype(np.float32))


def tokens(comm, rng):
    """XLA is told of the order: the token that a call makes is what the next one takes."""
    jax, jnp, hj = modules()

    def program(a, b):
        return hj.all_reduce(a, comm), hj.all_gather(b, comm), hj.all_reduce(b, comm, "max")

    text = jax.jit(program).lower(jnp.ones(3), jnp.ones(4)).as_text()
    calls = re.findall(r"(%\w+):2 = stablehlo.custom_call @hipcomm_call\((\S+),", text)
    taken = re.search(r"@main\((%\w+): !stablehlo.token", text)[1]
    for made, first in calls:
        assert first == taken, text
        taken = f"{made}#0"
    assert len(calls) == 3 and f"return {taken}, " in text


def test_calls_hand_on_a_token(ranks):
    ranks.world(1).run(tokens)


@pytest.mark.parametrize("world", worlds(2))
def test_independent_calls_have_one_order(ranks, world):
    ranks.world(world).run(order)


# ---- gradients -------------------------------------------------------------------------------------------


def gradients(comm, rng):
    jax, jnp, hj = modules()
    world, rank = comm.world_size, comm.rank
    shape = (2 * world, 3)
    xs = [values(r, shape, "float32") for r in range(world)]
    weights = [values(r, shape, "float32", 1) for r in range(world)]
    x, weight = jnp.asarray(xs[rank]), jnp.asarray(weights[rank])
    all_weights = sum(weights)

    def loss(f, weight=weight):
        return lambda v: (f(v) * weight).sum()

    for transform in (lambda f: f, jax.jit):
        grad = transform(jax.grad(loss(lambda v: hj.all_reduce(v, comm))))
        same(grad(x), all_weights)
        same(
            transform(jax.grad(loss(lambda v: hj.all_reduce(v, comm) ** 2)))(x),
            sum(2 * sum(xs) * w for w in weights),
        )
        if world in (1, 2, 4):  # exact
            same(
                transform(jax.grad(loss(lambda v: hj.all_reduce(v, comm, "avg"))))(x),
                all_weights / np.float32(world),
            )
        whole = jnp.concatenate([weight] * world)
        expected = np.concatenate([all_weights] * world)[: 2 * world]
        same(transform(jax.grad(loss(lambda v: hj.all_gather(v, comm), whole)))(x), expected)
        part = weight[:2]
        same(
            transform(jax.grad(loss(lambda v: hj.reduce_scatter(v, comm), part)))(x),
            np.concatenate([w[:2] for w in weights]),
        )
        same(
            transform(jax.grad(loss(lambda v: hj.all_to_all(v, comm))))(x),
            np.concatenate([w[2 * rank : 2 * rank + 2] for w in weights]),
        )
    same(
        jax.vmap(jax.grad(lambda v: (hj.all_reduce(v, comm) * weight[0]).sum()))(x),
        np.stack([sum(w[0] for w in weights)] * 2 * world),
    )

    def scanned(v):
        return jax.lax.scan(lambda c, row: (hj.all_reduce(c + row, comm), None), jnp.zeros(3, "float32"), v)[
            0
        ].sum()

    # row k is summed over the ranks once for every turn from k on, and so is the cotangent
    turns = np.array([world ** (2 * world - k) for k in range(2 * world)], np.float32)
    same(jax.jit(jax.grad(scanned))(x), np.repeat(turns[:, None], 3, 1))
    remat = jax.grad(jax.checkpoint(loss(lambda v: hj.all_reduce(v, comm) ** 2)))
    same(jax.jit(remat)(x), sum(2 * sum(xs) * w for w in weights))
    for wrong in (lambda v: hj.all_reduce(v, comm, "max"), lambda v: hj.reduce_scatter(v, comm, "prod")):
        with pytest.raises(NotImplementedError, match="no gradient"):
            jax.grad(lambda v, wrong=wrong: wrong(v).sum())(x)
    counts = jax.grad(lambda v, n: (hj.all_reduce(n, comm) * v).sum())(x, jnp.ones(shape, "int32"))
    same(counts, np.full(shape, world, np.float32))
    half = jax.grad(lambda v: hj.all_reduce(v, comm).astype("float32").sum())(x.astype("bfloat16"))
    same(half, np.full(shape, world).astype(oracle.dtype_of("bfloat16")))


@pytest.mark.parametrize("world", worlds(2))
def test_gradients(ranks, world):
    ranks.world(world).run(gradients)


# ---- norms -----------------------------------------------------------------------------------------------


def norms(comm, rng):
    jax, _, hj = modules()
    shape, eps = (2, 5, 24), 1e-5
    for name in ("float32", "bfloat16", "float16"):
        dtype = oracle.dtype_of(name)
        x = rng.standard_normal(shape).astype(dtype)
        shared = np.random.default_rng(5)
        residual = shared.standard_normal(shape).astype(dtype)
        weight, bias = shared.standard_normal(24).astype(dtype), shared.standard_normal(24).astype(np.float32)
        for kind in ("add_rms_norm", "add_layer_norm", "all_reduce_rms_norm", "all_reduce_layer_norm"):
            every = (
                (residual, weight, bias),
                (None, weight, None),
                (residual, None, None),
                (None, None, bias),
            )
            for given in every if name == "bfloat16" else every[:1]:
                parameters = given[:2] if "rms" in kind else given
                expected = np.full((2, *shape), 7).astype(dtype)
                getattr(comm, kind)(x, *parameters, eps, *expected, weight_offset=0.5)

                def traced(x, *parameters, kind=kind):
                    return getattr(hj, kind)(x, *parameters, eps, comm, weight_offset=0.5)

                found = (traced if name == "float32" else jax.jit(traced))(x, *parameters)
                same(found[0], expected[0])
                same(found[1], expected[1])
                if name != "bfloat16":
                    continue
                batched = (0, 0 if given[0] is not None else None, *(None for _ in parameters[1:]))
                for axes, out in zip(jax.vmap(traced, batched)(x, *parameters), expected, strict=True):
                    same(axes, out)
    gradient_of_norms(comm, shape, eps)


def gradient_of_norms(comm, shape, eps):
    """Beside those of the same norms written in JAX alone, in float64."""
    jax, jnp, hj = modules()
    world, rank = comm.world_size, comm.rank
    rngs = [np.random.default_rng([3, r]) for r in range(world)]
    xs = [g.standard_normal(shape).astype(np.float32) for g in rngs]
    shared = np.random.default_rng(6)
    residual, scale = (shared.standard_normal(shape).astype(np.float32) for _ in range(2))
    weight, bias = (shared.standard_normal(shape[-1]).astype(np.float32) for _ in range(2))

    def plain(x, residual, weight, bias, is_layer):
        v = x + residual
        d = v - v.mean(-1, keepdims=True) if is_layer else v
        return d / jnp.sqrt((d * d).mean(-1, keepdims=True) + eps) * weight + bias, v

    def loss(out, v):
        return (out * scale).sum() + (v * v).sum()

    for is_layer in (False, True):
        offset = bias if is_layer else np.zeros_like(bias)
        with jax.enable_x64(True):
            wide = [
                jnp.asarray(a, "float64")
                for a in (sum(x.astype(np.float64) for x in xs), residual, weight, offset)
            ]
            expected = jax.grad(lambda *a, i=is_layer: loss(*plain(*a, i)), (0, 1, 2, 3))(*wide)
        if is_layer:
            found = jax.jit(
                jax.grad(lambda *a: loss(*hj.all_reduce_layer_norm(*a, eps, comm)), (0, 1, 2, 3))
            )(xs[rank], residual, weight, bias)
        else:
            found = jax.grad(lambda *a: loss(*hj.all_reduce_rms_norm(*a, eps, comm)), (0, 1, 2))(
                xs[rank], residual, weight
            )
        factors = (world, 1, 1, 1)  # of x all ranks' losses count
        for one, other, factor in zip(found, expected, factors, strict=False):
            np.testing.assert_allclose(np.asarray(one), np.asarray(other) * factor, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("world", worlds(2))
def test_norms(ranks, world):
    ranks.world(world).run(norms)


# ---- refusals and failures -------------------------------------------------------------------------------


def refusals(comm, rng):
    jax, jnp, hj = modules()
    x = jnp.ones((3, 4))
    for call, words in (
        (lambda v: hj.all_reduce(v, comm, "mean"), "'mean' is none of"),
        (lambda v: hj.all_reduce(v.astype("int16"), comm), "int16 is not supported"),
        (lambda v: hj.all_reduce(v > 1, comm), "bool is not supported"),
        (lambda v: hj.all_gather(v, comm, 2), "dim 2"),
        (lambda v: hj.all_gather(v, comm, True), "dim True"),
        (lambda v: hj.reduce_scatter(v, comm), "3 elements along dimension 0"),
        (lambda v: hj.all_to_all(v, comm), "not a multiple of 2"),
        (lambda v: hj.all_reduce_rms_norm(v, v[:1], None, 0.0, comm), "residual has shape"),
        (lambda v: hj.all_reduce_rms_norm(v, None, v[0, :3], 0.0, comm), "weight has shape"),
        (lambda v: hj.add_rms_norm(v, None, None, -1.0, comm), "eps -1.0"),
        (lambda v: hj.add_rms_norm(v.astype("int32"), None, None, 0.0, comm), "int32"),
    ):
        for transform in (lambda f: f, jax.jit):
            with pytest.raises(hipcomm.InvalidArgument, match=rf"rank {comm.rank}: jax\.\w+: .*{words}"):
                transform(call)(x)
    with pytest.raises(NotImplementedError, match="batch of weights"):
        jax.vmap(lambda w: hj.add_rms_norm(x, None, w, 0.0, comm)[0])(jnp.ones((2, 4)))
    program = jax.jit(lambda v: hj.all_reduce(v, comm))
    text = program.lower(x).compile().as_text() + program.lower(x).as_text()
    assert "hipcomm_call" in text and str(comm.handle) not in text and f"{comm.handle:x}" not in text
    # the communicator's methods say where to go
    for wrong in (comm.all_reduce, lambda v: comm.all_reduce(np.ones(12, np.float32), v)):
        with pytest.raises(hipcomm.InvalidArgument, match=r"hipcomm\.jax"):
            wrong(x)
        with pytest.raises(hipcomm.InvalidArgument, match=r"hipcomm\.jax"):
            jax.jit(wrong)(x)
    comm.barrier()


def test_refusals(ranks):
    ranks.world(WORLD).run(refusals)


def closed(comm, rng):
    jax, jnp, hj = modules()
    part = comm.split(0)
    x = jnp.full(5, comm.rank, "float32")
    program, other = (jax.jit(lambda v, c=c: hj.all_reduce(v, c)) for c in (part, comm))
    same(program(x), np.full(5, 1, np.float32))
    part.close()
    later = comm.split(0)  # perhaps where the first one was
    same(other(x), np.full(5, 1, np.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="is closed"):
        program(x).block_until_ready()
    with pytest.raises(hipcomm.InvalidArgument, match="closed"):
        hj.all_reduce(x, part)
    later.close()


def test_a_program_outlives_its_communicator(own_ranks):
    own_ranks.world(WORLD).run(closed)


def lost(comm, rng):
    import os

    jax, jnp, hj = modules()
    program = jax.jit(lambda v: hj.all_reduce(v, comm) + 1)
    x = jnp.ones(5)
    same(program(x), np.full(5, 3, np.float32))
    if comm.rank == 1:
        os._exit(3)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"rank 0: all_reduce .*rank 1"):
        for _ in range(3):
            program(x).block_until_ready()
    with pytest.raises(hipcomm.PeerDied):
        comm.barrier()
    comm.close()


def test_a_lost_rank_raises(own_ranks):
    world = own_ranks.world(WORLD)
    for rank in range(WORLD):
        world.start(rank, lost)
    assert world.finish(0, 60).error is None


def late(comm, rng):
    import time

    jax, jnp, hj = modules()
    x = jnp.ones(5)
    program = jax.jit(lambda v: hj.all_reduce(v, comm) + 1).lower(x).compile()
    comm.split(None)  # compiling takes the ranks longer or less long
    if comm.rank == 1:
        time.sleep(4)
    with pytest.raises(jax.errors.JaxRuntimeError, match=(r"waited 2\S* s for rank 1", "rank 0")[comm.rank]):
        jax.block_until_ready(program(x))
    begin = time.monotonic()
    comm.close()  # of a failure that only JAX has heard of: it does not wait for the others
    assert time.monotonic() - begin < 5


def test_a_late_rank_raises(own_ranks):
    world = own_ranks.world(WORLD, timeout=2)
    for rank in range(WORLD):
        world.start(rank, late)
    replies = [world.finish(rank, 60) for rank in range(WORLD)]
    assert [reply.error for reply in replies] == [None] * WORLD, "".join(str(r.error) for r in replies)
