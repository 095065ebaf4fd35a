"""Norms, local and fused with the all-reduce: the oracle's bits, whatever the algorithm."""

from __future__ import annotations

import itertools

import norm_cases
import norm_pairs
import numpy as np
import pytest
from harness import worlds
from norm_cases import DTYPES, FUSED, HIDDEN, KINDS, LOCAL, LONG, NormCase, draw
from regions import arena

ALGORITHMS = ("auto", "one_shot", "two_shot", "staged", "pipelined")
everywhere = pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 8))
with_every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def same_on_all_ranks(results):
    assert all(result == results[0] for result in results), "ranks have different results"


def local_norms(comm, rng, seed):
    """Every dtype and kind of input at every size."""
    shared = np.random.default_rng(seed)
    chosen = []
    for number, hidden in enumerate((*HIDDEN, *LONG) * 3):
        fixed = {"dtype": DTYPES[number % 3], "kind": KINDS[number % 5], "operation": LOCAL[number % 2]}
        chosen.append(draw(shared, (seed, number), hidden=hidden, **fixed))
    return norm_cases.run(comm, rng, chosen)


@pytest.mark.parametrize("world", worlds(1, 2))
def test_local(ranks, world):
    assert len(ranks.world(world).run(local_norms, 1)[0]) == 3 * len(HIDDEN + LONG)


def any_norms(comm, rng, seed, count, fixed):
    shared = np.random.default_rng(seed)
    return norm_cases.run(comm, rng, [draw(shared, (seed, number), **fixed) for number in range(count)])


def pairs(comm, rng, algorithm):
    return norm_cases.run(comm, rng, norm_pairs.cases_for(algorithm, comm.world_size))


@everywhere
@with_every_algorithm
def test_any_call(ranks, algorithm, world):
    group = ranks.world(world, algorithm=algorithm)
    same_on_all_ranks(group.run(any_norms, ALGORITHMS.index(algorithm), 14, {}))
    same_on_all_ranks(group.run(pairs, algorithm))


def test_the_calls_have_every_pair_of_choices():
    """Of dtype, outputs, layout, algorithm, world and what else there is, in some world of the test above."""
    covered = set()
    for algorithm, world in itertools.product(ALGORITHMS, norm_pairs.CHOICES["world"]):
        assert (algorithm in norm_pairs.CHOICES["algorithm"]) and norm_pairs.cases_for(algorithm, world)
    for row in norm_pairs.rows():
        assert norm_pairs.is_possible(row)
        covered |= norm_pairs.pairs_of(row)
    assert norm_pairs.all_pairs() == covered & norm_pairs.all_pairs()
    assert len(norm_pairs.rows()) < 120


def every_dtype_and_kind(comm, rng, seed):
    """Two sums a row, order and roundings that show: with several launches, and several rows a block."""
    shared = np.random.default_rng(seed)
    chosen = [
        draw(
            shared, (seed, number), operation=FUSED[number % 2], dtype=dtype, kind=kind, tokens=9, hidden=2880
        )
        for number, (dtype, kind) in enumerate(itertools.product(DTYPES, KINDS))
    ]
    return norm_cases.run(comm, rng, chosen)


@pytest.mark.parametrize("world", worlds(3))
@with_every_algorithm
def test_every_dtype_and_kind(ranks, algorithm, world):
    same_on_all_ranks(ranks.world(world, algorithm=algorithm).run(every_dtype_and_kind, 11))


@pytest.mark.parametrize("world", worlds(2, 16))
@pytest.mark.parametrize("algorithm", ("one_shot", "two_shot", "pipelined", "staged"))
def test_long_rows(ranks, algorithm, world):
    """Rows that shared memory does not hold, and so many ranks that staging memory holds few of them."""
    group = ranks.world(world, algorithm=algorithm)
    for hidden in LONG if world == 2 else (65536,):
        count = 3 if world == 2 else 1
        same_on_all_ranks(group.run(any_norms, hidden, count, {"hidden": hidden, "tokens": 2}))


@pytest.mark.parametrize("world", worlds(4))
@pytest.mark.parametrize("algorithm", ("staged", "pipelined"))
def test_several_launches(ranks, algorithm, world):
    """A small staging slab: few rows a launch, the last one fewer; owners have different numbers of rows."""
    group = ranks.world(world, algorithm=algorithm, staging_bytes="2M")
    same_on_all_ranks(group.run(any_norms, 21, 4, {"hidden": 4096, "tokens": 67, "kind": "plain"}))


def equals_the_pair(comm, rng):
    """Fused is all_reduce and then the local norm: this library's own, bit for bit."""
    memory = arena()
    shape, dtype = (13, 1536), "bfloat16"
    case = NormCase("all_reduce_rms_norm", *shape, dtype, kind="order", residual_out="own", seed=(5,))
    fused, pair = (norm_cases.MadeNorm(comm, memory, case) for _ in range(2))
    fused.fill()
    pair.fill()
    fused.call()
    comm.all_reduce(pair.x.address, count=shape[0] * shape[1], dtype=dtype)
    comm.add_rms_norm(
        pair.x.address, pair.residual.address, pair.parameters["weight"].address, case.eps, pair.out.address,
        pair.residual_out.address, shape=shape, dtype=dtype,
    )  # fmt: skip
    comm.synchronize()
    for one, other in ((fused.out, pair.out), (fused.residual_out, pair.residual_out)):
        assert (one.get().view(np.uint16) == other.get().view(np.uint16)).all()


@everywhere
def test_equals_all_reduce_and_the_local_norm(ranks, world):
    ranks.world(world).run(equals_the_pair)


def planned(comm, rng):
    return comm.plan("all_reduce_rms_norm", 3 * 2880 * 2, "bfloat16", hidden=2880).algorithm


@pytest.mark.parametrize("world", worlds(2))
@with_every_algorithm
def test_the_algorithm_that_is_asked_for_runs(ranks, algorithm, world):
    """Or the tests above would all be of one."""
    ran = ranks.world(world, algorithm=algorithm).run(planned)
    assert len(set(ran)) == 1 and (algorithm == "auto" or ran[0] == algorithm)
