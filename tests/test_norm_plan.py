"""Plans of norms: a pure function of what all ranks know, and every row of every call is in some launch."""

from __future__ import annotations

import itertools

import oracle
import pytest
from plans import ALGORITHMS, ALL_OPERATIONS

from hipcomm.buffers.dtypes import CODES
from hipcomm.core import ffi, lib

ARCHS = ("x86_64", "sm_90", "gfx90a", "gfx942", "gfx1100")
LOCAL, FUSED = ("add_rms_norm", "add_layer_norm"), ("all_reduce_rms_norm", "all_reduce_layer_norm")
SHARED_BYTES = 48 << 10
PARTIALS = 512  # HIPCOMM_ROW_PARTIALS


def norm_plan(
    operation, tokens, hidden, world, arch, *, dtype="bfloat16", algorithm="auto", staging=0, nbytes=None
):
    """hipcommMakePlan; None where it refuses the request."""
    request, name = ffi.new("hipcommPlanRequest *"), ffi.new("char[]", arch.encode())
    size = oracle.dtype_of(dtype).itemsize
    request.operation, request.dtype = ALL_OPERATIONS[operation], CODES[oracle.dtype_of(dtype)]
    request.bytes = tokens * hidden * size if nbytes is None else nbytes
    request.hidden, request.world, request.arch = hidden, world, name
    request.algorithm, request.staging_bytes = ALGORITHMS.index(algorithm), staging
    plan = ffi.new("hipcommPlan *")
    return plan if lib.hipcommMakePlan(request, plan) == lib.hipcommSuccess else None


def kernel_name(plan):
    file, name = ffi.new("const char **"), ffi.new("const char **")
    assert lib.hipcommKernelInfo(plan.kernel, file, name) == lib.hipcommSuccess
    return ffi.string(name[0]).decode()


@pytest.mark.parametrize("arch", ARCHS)
def test_every_row_has_its_place(arch):
    sizes = itertools.product(
        FUSED, (1, 2, 33, 8192), (1, 64, 2880, 7168, 65536), (2, 3, 8, 16), ALGORITHMS[:4]
    )
    sizes = itertools.product(
        FUSED, (1, 2, 33, 8192), (1, 64, 2880, 7168, 65536), (2, 3, 8, 16), ALGORITHMS[:4]
    )
    for operation, tokens, hidden, world, algorithm in sizes:
        plan = norm_plan(operation, tokens, hidden, world, arch, algorithm=algorithm)
        name = ALGORITHMS[plan.algorithm]
        assert name in ("one_shot", "staged", "pipelined")
        assert kernel_name(plan) == f"hipcomm_all_reduce_norm_{name}_{operation[11:-5]}_bfloat16"
        rows = -(-tokens // world) if name == "pipelined" else tokens
        assert 1 <= plan.blocks <= plan.rows_per_launch <= rows
        assert plan.bytes_per_launch == plan.rows_per_launch * hidden * 2 * (
            world if name == "pipelined" else 1
        )
        threads, slice_elements = plan.threads, 512 if arch == "x86_64" else 8
        slices = -(-hidden // slice_elements)
        assert plan.shared_bytes <= SHARED_BYTES
        assert plan.kept_slices * slice_elements * 2 < plan.shared_bytes
        assert threads == 1 if arch == "x86_64" else threads in (64, 128, 256)
        if arch != "x86_64":  # a partial sum for each warp and pass
            assert -(-slices // threads) * threads // 32 <= PARTIALS


@pytest.mark.parametrize("arch", ARCHS)
def test_forced_algorithms_are_taken(arch):
    for algorithm in ("one_shot", "staged", "pipelined"):
        plan = norm_plan("all_reduce_rms_norm", 4, 1024, 4, arch, algorithm=algorithm)
        assert ALGORITHMS[plan.algorithm] == algorithm
    assert ALGORITHMS[norm_plan("all_reduce_rms_norm", 4, 1024, 4, arch, algorithm="two_shot").algorithm] in (
        "one_shot",
        "staged",
        "pipelined",
    )


def test_larger_calls_take_the_algorithm_of_fewer_bytes():
    for arch, first in (("sm_90", "one_shot"), ("gfx942", "one_shot"), ("x86_64", "staged")):
        for world in (2, 4, 8, 16):
            taken = [norm_plan(FUSED[0], 2**n, 4096, world, arch).algorithm for n in range(14)]
            names = [ALGORITHMS[number] for number in taken]
            assert names == sorted(names, key=(first, "pipelined").index), (arch, world)
            assert set(names) == {first, "pipelined"}


def test_on_4_amd_gpus_the_change_is_between_16_and_32_rows_of_7168():
    names = [ALGORITHMS[norm_plan(FUSED[0], rows, 7168, 4, "gfx942").algorithm] for rows in (16, 32)]
    assert names == ["one_shot", "pipelined"]


def test_a_world_of_one_and_local_norms_wait_for_nobody():
    for operation, world in ((LOCAL[0], 4), (LOCAL[1], 1), (FUSED[0], 1), (FUSED[1], 1)):
        plan = norm_plan(operation, 100, 7168, world, "sm_90", algorithm="pipelined")
        assert ALGORITHMS[plan.algorithm] == "local" and plan.blocks == 100
        assert kernel_name(plan) == f"hipcomm_add_norm_{'rms' if 'rms' in operation else 'layer'}_bfloat16"


def test_no_rows_no_kernel():
    assert norm_plan(FUSED[0], 0, 7168, 4, "sm_90").kernel == -1


def test_refusals():
    assert norm_plan(FUSED[0], 1, 0, 4, "sm_90") is None
    assert norm_plan(FUSED[0], 1, 65537, 4, "sm_90") is None
    assert norm_plan(FUSED[0], 1, 64, 4, "sm_90", nbytes=129) is None
    assert norm_plan(FUSED[0], 1, 64, 4, "sm_90", dtype="float64") is None
    assert norm_plan(FUSED[0], 1, 65536, 16, "sm_90", dtype="float32", staging=1 << 20).kernel == -1
