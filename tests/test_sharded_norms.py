"""Norms whose rows have owners: sharded residuals, reduce-scatter, and the gather of finished rows."""

from __future__ import annotations

import dataclasses
import itertools

import norm_cases
import numpy as np
import pytest
import quantised_cases
from harness import worlds
from norm_cases import DTYPES, FUSED, KINDS, SCATTERED, MadeNorm, NormCase, draw
from quantised_cases import FORMATS, QuantisedCase, QuantisedRegion
from regions import arena

import hipcomm
from hipcomm import Quantised

HIDDEN = (1, 7, 100, 512, 513, 1000, 2880, 4099, 7168)
everywhere = pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 8))


def calls(comm, rng, seed, count):
    """Sharded all-reduces and reduce-scatters by turns, half of them quantised."""
    shared, formats = np.random.default_rng(seed), tuple(FORMATS)
    chosen = []
    for number in range(count):
        fixed = {"operation": (*FUSED, *SCATTERED)[number % 4], "dtype": DTYPES[number % 3]}
        fixed |= {"layout": "sharded"} if number % 4 < 2 else {}
        if number % 8 >= 3:
            fixed["quantised"] = quantised_cases.draw(shared, formats[(number + seed) % len(formats)])
        hidden = HIDDEN[(number * 4 + seed) % len(HIDDEN)]
        chosen.append(draw(shared, (seed, number), hidden=hidden, kind=KINDS[number % 5], **fixed))
    return norm_cases.run(comm, rng, chosen)


@everywhere
def test_any_call(ranks, world):
    ranks.world(world).run(calls, world, 24)


@pytest.mark.parametrize("world", worlds(16))
def test_many_ranks(ranks, world):
    ranks.world(world).run(calls, world, 8)


def many(comm, rng, seed):
    """Several launches; tiles of 128 rows that straddle ranks."""
    shared = np.random.default_rng(seed)
    drawn = [
        draw(shared, (seed, k), operation=operation, tokens=tokens, hidden=1024, kind="plain", **more)
        for k, (tokens, (operation, more)) in enumerate(
            itertools.product(
                (131, 300),
                (
                    (FUSED[0], {"quantised": QuantisedCase("nvfp4", layout="swizzled"), "layout": "sharded"}),
                    (FUSED[1], {"quantised": QuantisedCase("mxfp4"), "layout": "sharded"}),
                    (SCATTERED[0], {"quantised": QuantisedCase("fp8_per_group_e8m0", group=64)}),
                ),
            )
        )
    ]
    return norm_cases.run(comm, rng, drawn)


@pytest.mark.parametrize("world", worlds(3))
def test_several_launches(ranks, world):
    ranks.world(world, staging_bytes="1M").run(many, 3)


# ---- the two halves --------------------------------------------------------------------------------------


def in_two_halves(comm, rng, seed):
    """Reduce-scatter and gather have the bytes of the sharded all-reduce, in every format and layout."""
    shared, memory = np.random.default_rng(seed), arena()
    asked = [
        dataclasses.replace(quantised_cases.draw(shared, format), layout=layout)
        for format, layouts in FORMATS.items()
        for layout in layouts
    ]
    for number, quantised in enumerate([None, *asked]):
        tokens, hidden = (5, 130, 67)[number % 3], (100, 2880, 513)[number % 3]
        case = NormCase(
            FUSED[number % 2], tokens, hidden, DTYPES[number % 3], seed=(seed, number), quantised=quantised,
            layout="sharded", out="own" if quantised is None or number % 2 else "none", gaps=(0, 3, 5, 7),
        )  # fmt: skip
        whole = MadeNorm(comm, memory, case)
        half = MadeNorm(comm, memory, dataclasses.replace(case, operation=SCATTERED[number % 2]))
        for each in (whole, half):
            each.fill()
            each.call()
        gathered = dataclasses.replace(case, residual=False, residual_out="none")
        other = MadeNorm(comm, memory, gathered)
        other.fill()
        strides = {"part": half.out.stride, "whole": other.out.stride} if half.out else {}
        comm.all_gather_tokens(
            half.out and half.out.address, other.out and other.out.address,
            quantised_part=half.quantised and without_global(half.quantised),
            quantised=other.quantised and without_global(other.quantised),
            shape=case.shape, dtype=case.dtype if half.out else None, row_strides=strides,
        )  # fmt: skip
        comm.synchronize()
        whole.check(with_oracle=True)
        half.check(with_oracle=True)
        if case.out == "own":
            assert (whole.out.get().view(np.uint8) == other.out.get().view(np.uint8)).all(), case
        if quantised is not None:
            for have, want in zip(other.quantised.get(), whole.quantised.get(), strict=True):
                assert (have == want).all(), case
        memory.reset()


def without_global(region: QuantisedRegion) -> Quantised:
    return dataclasses.replace(region.argument(), global_scale=None)


@everywhere
def test_reduce_scatter_and_gather_are_the_all_reduce(ranks, world):
    ranks.world(world).run(in_two_halves, world)


# ---- plans -----------------------------------------------------------------------------------------------


def planned(comm, rng):
    tokens, hidden, world = 64, 4096, comm.world_size
    size = tokens * hidden * 2
    plain = comm.plan("all_reduce_rms_norm", size, "bfloat16", hidden=hidden, residual_layout="sharded")
    assert plain.kernel == "hipcomm_reduce_scatter_norm_bfloat16"
    contributions = (tokens - tokens // world) * hidden * 2
    assert plain.link_bytes == contributions + (world - 1) * tokens // world * hidden * 2
    for format, of_row in (("fp8_per_token", hidden + 16), ("mxfp4", hidden // 2 + hidden // 32)):
        what = {"hidden": hidden, "residual_layout": "sharded", "out": False, "format": format}
        plan = comm.plan("all_reduce_rms_norm", size, "bfloat16", **what)
        assert plan.link_bytes == contributions + (world - 1) * tokens // world * of_row
    replicated = comm.plan("all_reduce_rms_norm", size, "bfloat16", hidden=hidden)
    if comm.device.arch == "x86_64":  # owners norm their rows there too, and send what is made of them
        assert replicated.kernel == plain.kernel
        assert replicated.link_bytes == contributions + (world - 1) * tokens // world * hidden * 4
    scattered = comm.plan("reduce_scatter_layer_norm", size, "bfloat16", hidden=hidden)
    assert scattered.link_bytes == contributions
    own = comm.own_rows(tokens)
    assert len(own) == tokens // world and own.start == comm.rank * tokens // world


@pytest.mark.parametrize("world", worlds(4))
def test_plans_say_what_goes_over_the_links(ranks, world):
    ranks.world(world).run(planned)


# ---- refused ---------------------------------------------------------------------------------------------


def refusals(comm, rng):
    memory = arena()
    x, out, part, codes, scales = (memory.region(6 * 64 * 4).address for _ in range(5))
    where = {"shape": (6, 64), "dtype": "float32"}
    mxfp4, token = (
        Quantised(codes, scales, format, **more)
        for format, more in (("mxfp4", {}), ("fp8_per_token", {"dtype": "float8_e4m3fn"}))
    )
    other = Quantised(out, out + 512, "fp8_per_token", dtype="float8_e4m3fn")
    for text, method, arguments, keywords in (
        ("out and x overlap", "reduce_scatter_rms_norm", (x, None, None, 0, x + 4), {}),
        ("whole and part overlap", "all_gather_tokens", (x + 4, x), {}),
        ("of part and whole one is NULL", "all_gather_tokens", (None, x), {}),
        ("of quantised_part and quantised one is NULL", "all_gather_tokens", (part, x), {"quantised": mxfp4}),
        ("both NULL: there is nothing to write", "all_gather_tokens", (), {"dtype": None}),
        ("are of different formats", "all_gather_tokens", (part, x),
         {"quantised": mxfp4, "quantised_part": other}),
        ("codes and the part's codes overlap", "all_gather_tokens", (part, x),
         {"quantised": token, "quantised_part": token}),
        ("mxfp4 has not a global_scale", "all_gather_tokens", (part, x),
         {"quantised": Quantised(codes, scales, "mxfp4", global_scale=out), "quantised_part": mxfp4}),
    ):  # fmt: skip
        with pytest.raises(hipcomm.InvalidArgument, match=f"rank {comm.rank}: {method}: .*{text}"):
            getattr(comm, method)(*arguments, **{**where, **keywords})
    with pytest.raises(hipcomm.InvalidArgument, match="without whole, shape="):
        comm.all_gather_tokens(quantised=mxfp4, quantised_part=mxfp4)
    with pytest.raises(hipcomm.InvalidArgument, match="-1 is not a number of rows"):
        comm.own_rows(-1)
    comm.barrier()  # nothing was launched: the ranks are still in step


@pytest.mark.parametrize("world", worlds(2))
def test_refusals(ranks, world):
    ranks.world(world).run(refusals)


def arrays(comm, rng):
    shared = np.random.default_rng(4)
    inputs = [shared.standard_normal((7, 64)).astype(np.float32) for _ in range(comm.world_size)]
    residual = shared.standard_normal((7, 64)).astype(np.float32)
    own = slice(comm.own_rows(7).start, comm.own_rows(7).stop)
    out, residual_out = np.empty((7, 64), np.float32), np.empty((own.stop - own.start, 64), np.float32)
    want, v = np.empty_like(out), np.empty_like(out)
    x = inputs[comm.rank]
    comm.all_reduce_rms_norm(x, residual, None, 1e-6, want, v)
    comm.all_reduce_rms_norm(x, residual[own], None, 1e-6, out, residual_out, residual_layout="sharded")
    assert (out == want).all() and (residual_out == v[own]).all()
    again = np.full((7, 64), np.nan, np.float32)
    comm.reduce_scatter_rms_norm(x, residual[own], None, 1e-6, again[own])
    comm.all_gather_tokens(again[own], again)
    assert (again == want).all()
    with pytest.raises(
        hipcomm.InvalidArgument, match=f"residual has 7 rows of 64 float32, x {own.stop - own.start}"
    ):
        comm.all_reduce_rms_norm(x, residual, None, 1e-6, out, residual_layout="sharded")


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(3))
def test_arrays(ranks, world):
    ranks.world(world).run(arrays)


# ---- compared --------------------------------------------------------------------------------------------


def differing(comm, rng):
    x = arena().region(4 * 1024 * 4).address
    quantised = Quantised(x + 4096, x + 8192, "mxfp4") if comm.rank else None
    with pytest.raises(hipcomm.CallMismatch, match=r"another eps, .* bias or output"):
        comm.all_reduce_rms_norm(
            x, None, None, 0, None if comm.rank else x, quantised=quantised, shape=(1, 1024),
            dtype="float32", residual_layout="sharded",
        )  # fmt: skip
        comm.synchronize()


@pytest.mark.parametrize("world", worlds(2))
def test_different_outputs_are_found(own_ranks, world):
    own_ranks.world(world, check=True).run(differing)
    own_ranks.end()
