"""Quantised outputs of norms: the oracle's bytes in every format, whatever the algorithm."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import subprocess
from pathlib import Path

import ml_dtypes
import norm_cases
import numpy as np
import oracle
import pytest
import quantised_cases
from harness import worlds
from norm_cases import DTYPES, FUSED, KINDS, LOCAL, NormCase, draw
from quantised_cases import FORMATS, GROUPS, QuantisedCase
from regions import arena

import hipcomm
from hipcomm import Quantised
from hipcomm.core import ffi, lib

ALGORITHMS = ("one_shot", "two_shot", "staged", "pipelined")
with_every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
HIDDEN = (1, 7, 15, 64, 100, 512, 513, 1000, 2048, 2880, 4099, 7168)


def calls(rng, seed, count, operations):
    """Any calls; formats, dtypes and kinds by turns."""
    formats = tuple(FORMATS)
    for number in range(count):
        yield draw(
            rng,
            (seed, number),
            operation=operations[number % 2],
            dtype=DTYPES[number // 2 % 3],
            hidden=HIDDEN[(number * 5 + seed) % len(HIDDEN)],
            kind=KINDS[number % 5] if number % 3 else "plain",
            quantised=quantised_cases.draw(rng, formats[(number + seed) % len(formats)]),
        )


def local(comm, rng, seed, count):
    return norm_cases.run(comm, rng, list(calls(np.random.default_rng(seed), seed, count, LOCAL)))


@pytest.mark.parametrize("seed", range(3))
def test_local(ranks, seed):
    ranks.world(1).run(local, seed, 96)


def fused(comm, rng, seed, count):
    return norm_cases.run(comm, rng, list(calls(np.random.default_rng(seed), seed, count, FUSED)))


@pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 8))
@with_every_algorithm
def test_fused(ranks, algorithm, world):
    results = ranks.world(world, algorithm=algorithm).run(fused, world, 24)
    assert all(result == results[0] for result in results), "ranks have different results"


def long_rows(comm, rng, seed):
    shared = np.random.default_rng(seed)
    drawn = [
        draw(shared, (seed, k), tokens=2, hidden=hidden, quantised=quantised_cases.draw(shared, format))
        for k, (format, hidden) in enumerate(
            zip(FORMATS, (32771, 65536, 65535, 16384, 65536, 65521), strict=True)
        )
    ]
    return norm_cases.run(comm, rng, drawn)


@pytest.mark.parametrize("world", worlds(2))
@with_every_algorithm
def test_long_rows(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(long_rows, 5)


def many_tokens(comm, rng, seed):
    """Over several tiles of 128 rows and several launches; padding behind the last."""
    shared = np.random.default_rng(seed)
    drawn = [
        draw(shared, (seed, tokens), tokens=tokens, hidden=96, kind="plain", quantised=QuantisedCase(*case))
        for tokens, case in itertools.product(
            (1, 127, 128, 130, 300),
            (
                ("nvfp4", "float8_e4m3fn", None, "swizzled", 3.0),
                ("fp8_per_group_e8m0", "float8_e4m3fnuz", 32),
                ("fp8_per_group", "float8_e4m3fn", 32, "column_major", 1.0, 0, 3),
            ),
        )
    ]
    return norm_cases.run(comm, rng, drawn)


@pytest.mark.parametrize("world", worlds(1, 3))
@pytest.mark.parametrize("algorithm", ("staged", "pipelined"))
def test_many_tokens(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm, staging_bytes="1M").run(many_tokens, 6)


# ---- conversions, each by itself: y is any bits that are wanted ------------------------------------------


def converted(comm, y, case):
    """The bytes that a row y is quantised to: rows of ones have the weight as their norm."""
    memory = arena()
    hidden = y.size
    x, weight = memory.region(y.nbytes), memory.region(y.nbytes)
    x.put(np.ones(hidden, y.dtype))
    weight.put(y)
    region = quantised_cases.QuantisedRegion(memory, case, 1, hidden)
    region.poison()
    where = {"shape": (1, hidden), "dtype": y.dtype.name, "weight_offset": -0.0}  # +0 would take zeros' sign
    comm.add_rms_norm(x.address, None, weight.address, 0, quantised=region.argument(), **where)
    comm.synchronize()
    made = region.get()
    problem = quantised_cases.difference(case, made, y.reshape(1, hidden))
    assert not problem, f"{case}, {y.dtype}: {problem}"
    return made


def every_number(comm, rng):
    bits = np.arange(65536, dtype=np.uint16)
    for dtype, fp8 in itertools.product(("float16", "bfloat16"), quantised_cases.FNUZ):
        y = bits.view(oracle.dtype_of(dtype))
        ((codes,), _) = converted(comm, y, QuantisedCase("fp8_given_scale", fp8))
        own = oracle.dtype_of(fp8)
        nan = np.isnan(y)
        # what ml_dtypes makes of a NaN, and of what is in reach
        (nan_code,) = {int(code) & 0x7F for code in np.array([np.nan], np.float32).astype(own).view(np.uint8)}
        assert set(codes[nan].tolist()) == {nan_code | (0x80 if fp8.endswith("fnuz") else 0)}
        assert np.isnan(codes[nan].view(own)).all() and not np.isnan(codes[~nan].view(own)).any()
        limit = float(ml_dtypes.finfo(own).max)
        inside = ~nan & (np.abs(y.astype(np.float32)) <= limit)
        assert (codes[inside] == y[inside].astype(np.float32).astype(own).view(np.uint8)).all()
        assert set(np.abs(codes[~nan & ~inside].view(own).astype(np.float32)).tolist()) == {limit}
        shuffled = np.random.default_rng(3).permutation(y)
        ordered = y[np.argsort(np.abs(np.where(nan, 0, y).astype(np.float32)), kind="stable")]
        for row, format in itertools.product((shuffled, ordered), FORMATS):
            for group, layout in itertools.product(GROUPS if "group" in format else (None,), FORMATS[format]):
                converted(comm, row, QuantisedCase(format, fp8, group, layout, 0.7))
    any_bits = np.random.default_rng(4).integers(0, 1 << 32, 65536, dtype=np.uint32).view(np.float32)
    for format in FORMATS:
        group = 64 if "group" in format else None
        converted(
            comm, np.where(np.isnan(any_bits), np.float32(0), any_bits), QuantisedCase(format, group=group)
        )


def test_every_number(ranks):
    ranks.world(1).run(every_number)


# ---- refused ---------------------------------------------------------------------------------------------


def refusals(comm, rng):
    memory = arena()
    x, out, codes, scales, other = (memory.region(4 * 64 * 4).address for _ in range(5))
    fp8 = {"dtype": "float8_e4m3fn"}
    good = Quantised(codes, scales, "fp8_per_token", **fp8)
    wrong = [
        ("is no hipcomm.Quantised", 1),
        ("format 'fp9' is none of fp8_given_scale,", Quantised(codes, scales, "fp9")),
        ("format 'none' is none of", Quantised(codes, scales, "none")),
        ("layout 'x' is none of row_major,", Quantised(codes, scales, "mxfp4", layout="x")),
        ("needs dtype=, float8_e4m3fn or", Quantised(codes, scales, "fp8_per_token")),
        (
            "codes of dtype float8_e5m2: those of fp8_per_token are float8_e4m3fn or float8_e4m3fnuz",
            Quantised(codes, scales, "fp8_per_token", dtype="float8_e5m2"),
        ),
        ("in groups of 0: they are of 32, 64", Quantised(codes, scales, "fp8_per_group", **fp8)),
        ("in groups of 48: they are of 32, 64", Quantised(codes, scales, "fp8_per_group", group=48, **fp8)),
        ("in groups of 1024: they are of 32", Quantised(codes, scales, "fp8_per_group_e8m0", 1024, **fp8)),
        ("groups of 16: its groups cannot be chosen", Quantised(codes, scales, "mxfp4", group=16)),
        ("group -1 is not a number", Quantised(codes, scales, "mxfp4", group=-1)),
        ("scales of mxfp4 are not swizzled", Quantised(codes, scales, "mxfp4", layout="swizzled")),
        (
            "scales of nvfp4 are not packed",
            Quantised(codes, scales, "nvfp4", layout="packed", global_scale=other),
        ),
        (
            "fp8_per_group_e8m0 are not row_major",
            Quantised(codes, scales, "fp8_per_group_e8m0", group=32, layout="row_major", **fp8),
        ),
        ("codes is NULL", Quantised(0, scales, "mxfp4")),
        ("scales is NULL", Quantised(codes, 0, "mxfp4")),
        ("nvfp4 needs a global_scale", Quantised(codes, scales, "nvfp4")),
        ("mxfp4 has not a global_scale", Quantised(codes, scales, "mxfp4", global_scale=other)),
        ("scales at .*: they are aligned to 4 bytes", Quantised(codes, scales + 2, "fp8_per_token", **fp8)),
        (
            "scales at .*: they are aligned to 4",
            Quantised(codes, scales + 1, "nvfp4", layout="swizzled", global_scale=other),
        ),
        ("global_scale at .*: it is aligned to 4", Quantised(codes, scales, "nvfp4", global_scale=other + 1)),
        (
            "codes: rows of 64 bytes lie 63 apart",
            Quantised(codes, scales, "fp8_per_token", codes_stride=63, **fp8),
        ),
        (
            "scales_stride 3 is less than 4 tokens",
            Quantised(
                codes, scales, "fp8_per_group", group=32, layout="column_major", scales_stride=3, **fp8
            ),
        ),
        ("only column_major scales have one", Quantised(codes, scales, "mxfp4", scales_stride=4)),
        ("codes and x overlap", Quantised(x, scales, "mxfp4")),
        ("codes and out overlap", Quantised(out + 4 * 64 * 4 - 1, scales, "mxfp4")),
        ("codes and scales overlap", Quantised(codes, codes + 4, "mxfp4")),
        ("codes and global_scale overlap", Quantised(codes, scales, "nvfp4", global_scale=codes)),
        ("scales and x overlap", Quantised(codes, x, "mxfp4")),
        ("scales and out overlap", Quantised(codes, out, "fp8_given_scale", **fp8)),
        ("scales and global_scale overlap", Quantised(codes, scales, "nvfp4", global_scale=scales)),
        ("global_scale and out overlap", Quantised(codes, scales, "nvfp4", global_scale=out)),
    ]
    for text, quantised in wrong:
        with pytest.raises(hipcomm.InvalidArgument, match=f"rank {comm.rank}: all_reduce_rms_norm: .*{text}"):
            comm.all_reduce_rms_norm(
                x, None, None, 0, out, quantised=quantised, shape=(4, 64), dtype="float32"
            )
    with pytest.raises(hipcomm.InvalidArgument, match="codes and weight overlap"):
        comm.add_rms_norm(x, None, codes, 0, out, quantised=good, shape=(4, 64), dtype="float32")
    with pytest.raises(hipcomm.InvalidArgument, match="quantised are all NULL: there is nothing"):
        comm.add_rms_norm(x, None, None, 0, shape=(4, 64), dtype="float32")
    plan = comm.plan("all_reduce_rms_norm", 4 * 64 * 4, "float32", hidden=64, format="mxfp4")
    assert plan.kernel.endswith("_float32")
    with pytest.raises(hipcomm.InvalidArgument, match="format 'x' is none of fp8_given"):
        comm.plan("all_reduce_rms_norm", 4 * 64 * 4, "float32", hidden=64, format="x")
    comm.barrier()  # nothing was launched: the ranks are still in step


@pytest.mark.parametrize("world", worlds(2))
def test_refusals(ranks, world):
    ranks.world(world).run(refusals)


# ---- arrays ----------------------------------------------------------------------------------------------


def arrays(comm, rng):
    shared = np.random.default_rng(2)
    x = shared.standard_normal((6, 100)).astype(np.float32)
    y = np.empty_like(x)
    comm.add_rms_norm(x, None, None, 1e-6, y)
    fnuz, fn = (np.dtype(each) for each in (ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e4m3fn))
    global_scale = np.array([0.3], np.float32)
    padded = np.zeros((6, 128), fn)[:, :100]
    for case, codes, scales, more in (
        (
            QuantisedCase("fp8_per_token", "float8_e4m3fnuz"),
            np.empty((6, 100), fnuz),
            np.empty(6, np.float32),
            {},
        ),
        (QuantisedCase("fp8_per_token"), padded, np.empty((6, 1), np.float32), {}),
        (QuantisedCase("fp8_per_group", group=32), np.empty((6, 100), fn), np.empty((6, 4), np.float32), {}),
        (
            QuantisedCase("fp8_per_group", group=32, layout="column_major", more=2),
            np.empty((6, 100), fn),
            np.full(4 * 8 * 4, quantised_cases.POISON, np.uint8).view(np.float32).reshape(4, 8),
            {},
        ),
        (
            QuantisedCase("fp8_per_group_e8m0", group=32),
            np.empty((6, 100), fn),
            np.empty((1, 8), np.int32),
            {},
        ),
        (QuantisedCase("mxfp4"), np.empty((6, 50), np.uint8), np.empty((6, 4), ml_dtypes.float8_e8m0fnu), {}),
        (
            QuantisedCase("nvfp4", layout="swizzled", scale=0.3),
            np.empty((6, 50), np.uint8),
            np.empty((128, 8), np.uint8),
            {"global_scale": global_scale},
        ),
        (QuantisedCase("fp8_given_scale", scale=0.3), np.empty((6, 100), fn), global_scale, {}),
    ):
        quantised = Quantised(codes, scales, case.format, group=case.group, layout=case.layout, **more)
        comm.all_reduce_rms_norm(x / np.float32(comm.world_size), None, None, 1e-6, quantised=quantised)
        written = np.ascontiguousarray(scales).reshape(-1).view(np.uint8)
        made = np.ascontiguousarray(codes).view(np.uint8), written[:0] if "given" in case.format else written
        assert not quantised_cases.difference(case, made, y), case
    for text, codes, scales, format in (
        (
            "codes are 6 rows of 99 bytes; mxfp4 of 6 rows of 100 elements takes 6 of 50",
            np.empty((6, 99), np.uint8),
            np.empty((6, 4), np.uint8),
            "mxfp4",
        ),
        ("codes of mxfp4 are uint8", np.empty((6, 50), np.int8), np.empty((6, 4), np.uint8), "mxfp4"),
        (
            "scales have 25 bytes; mxfp4 of 6 rows of 100 elements takes 24",
            np.empty((6, 50), np.uint8),
            np.empty(25, np.uint8),
            "mxfp4",
        ),
        (
            "scales of dtype float32: those of mxfp4 are uint8 or float8_e8m0fnu",
            np.empty((6, 50), np.uint8),
            np.empty((6, 4), np.float32),
            "mxfp4",
        ),
        (
            "codes of dtype uint8: those of fp8_per_token",
            np.empty((6, 100), np.uint8),
            np.empty(6, np.float32),
            "fp8_per_token",
        ),
        ("scales is not one float32", np.empty((6, 100), fn), np.empty(2, np.float32), "fp8_given_scale"),
    ):
        with pytest.raises(hipcomm.InvalidArgument, match=text):
            comm.add_rms_norm(x, None, None, 0, quantised=Quantised(codes, scales, format))


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(1, 2))
def test_arrays(ranks, world):
    ranks.world(world).run(arrays)


# ---- among other calls -----------------------------------------------------------------------------------


def equals_the_local_norm(comm, rng):
    """The same codes from the fused call as from all_reduce and the local one."""
    memory = arena()
    asked = QuantisedCase("fp8_per_group", group=128)
    case = NormCase("all_reduce_rms_norm", 13, 1536, "bfloat16", kind="order", seed=(5,), quantised=asked)
    one, two = (norm_cases.MadeNorm(comm, memory, case) for _ in range(2))
    one.fill()
    two.fill()
    one.call()
    where = {"shape": case.shape, "dtype": case.dtype}
    comm.all_reduce(two.x.address, count=13 * 1536, dtype=case.dtype)
    weight = two.parameters["weight"].address
    comm.add_rms_norm(
        two.x.address, two.residual.address, weight, case.eps, quantised=two.quantised.argument(), **where
    )
    comm.synchronize()
    for have, want in zip(one.quantised.get(), two.quantised.get(), strict=True):
        assert (have == want).all()


@pytest.mark.parametrize("world", worlds(1, 2, 4))
def test_equals_all_reduce_and_the_local_norm(ranks, world):
    ranks.world(world).run(equals_the_local_norm)


# ---- from C ----------------------------------------------------------------------------------------------


def from_c(comm, rng, library):
    c = ctypes.CDLL(library)
    sizes = (ctypes.c_uint64 * 2)()
    at = [ctypes.byref(sizes, 8 * k) for k in range(2)]
    assert c.quantised_bytes(ctypes.c_size_t(7), ctypes.c_size_t(100), ctypes.c_size_t(32), *at) == 0
    assert list(sizes) == [100, 7 * 4 * 4]
    assert c.quantised_bytes(ctypes.c_size_t(7), ctypes.c_size_t(100), ctypes.c_size_t(33), *at) == 1
    memory = arena()
    asked = QuantisedCase("fp8_per_group", group=32, layout="column_major")
    case = NormCase("all_reduce_rms_norm", 7, 100, residual=False, weight="none", quantised=asked, out="none")
    made = norm_cases.MadeNorm(comm, memory, dataclasses.replace(case, residual_out="none"))
    made.fill()
    handle = ctypes.c_void_p(int(ffi.cast("uintptr_t", comm._comm)))
    arguments = [handle, made.x.address, 7, 100, made.quantised.codes.address, made.quantised.scales.address]
    arguments = [handle, *(ctypes.c_size_t(value) for value in arguments[1:])]
    assert c.quantised_norm(*arguments, ctypes.c_size_t(8)) == lib.hipcommInvalidArgument
    assert c.quantised_norm(*arguments, ctypes.c_size_t(0)) == lib.hipcommSuccess
    comm.synchronize()
    made.check(with_oracle=True)


@pytest.mark.parametrize("world", worlds(2))
def test_from_c(ranks, world, tmp_path):
    library, core = tmp_path / "call.so", hipcomm.get_library()
    source = Path(__file__).with_name("quantised_call.c")
    command = [
        "cc",
        "-std=c99",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        f"-I{hipcomm.get_include()}",
        "-o",
        library,
    ]
    subprocess.run([*command, source, core, f"-Wl,-rpath,{Path(core).parent}"], check=True, timeout=60)
    ranks.world(world).run(from_c, str(library))
