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
    operation,
    tokens,
    hidden,
    world,
    arch,
    *,
    dtype="bfloat16",
    algorithm="auto",
    staging=0,
    nbytes=None,
    most_blocks=0,
    whole_packs=False,
    format=0,
):
    """hipcommMakePlan; None where it refuses the request."""
    request, name = ffi.new("hipcommPlanRequest *"), ffi.new("char[]", arch.encode())
    size = oracle.dtype_of(dtype).itemsize
    request.operation, request.dtype = ALL_OPERATIONS[operation], CODES[oracle.dtype_of(dtype)]
    request.bytes = tokens * hidden * size if nbytes is None else nbytes
    request.hidden, request.world, request.arch = hidden, world, name
    request.max_blocks, request.whole_packs, request.format = most_blocks, whole_packs, format
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
    for operation, tokens, hidden, world, algorithm in sizes:
        plan = norm_plan(operation, tokens, hidden, world, arch, algorithm=algorithm)
        name = ALGORITHMS[plan.algorithm]
        assert name in ("one_shot", "two_shot", "staged", "pipelined")
        has_owners = name in ("two_shot", "pipelined")
        owners_norm = arch == "x86_64" and name == "pipelined"
        kernel = "reduce_scatter_norm" if owners_norm else f"all_reduce_norm_{name}"
        kind = "" if name == "staged" or owners_norm else "_any"
        assert kernel_name(plan) == f"hipcomm_{kernel}{kind}_bfloat16"
        rows = -(-tokens // world) if has_owners else tokens
        assert 1 <= plan.rows_per_launch <= rows and plan.blocks >= 1
        assert plan.bytes_per_launch == plan.rows_per_launch * hidden * 2 * (world if has_owners else 1)
        slice_elements = 512 if arch == "x86_64" else 8
        slices = -(-hidden // slice_elements)
        assert plan.shared_bytes <= SHARED_BYTES
        assert plan.kept_slices * slice_elements * 2 < plan.shared_bytes
        assert plan.threads == 1 if arch == "x86_64" else plan.threads % 64 == 0 and plan.threads <= 256
        most = {"one_shot": 2, "two_shot": 2, "pipelined": 4, "staged": 1}[name] if arch != "x86_64" else 1
        assert plan.lane_slices in (1, 2, 4)[: most.bit_length()]
        if arch != "x86_64":  # a partial sum for each piece
            assert -(-slices // (plan.lane_slices * 32)) <= PARTIALS
        if name == "staged" or arch == "x86_64":
            assert plan.blocks <= plan.rows_per_launch


@pytest.mark.parametrize("arch", ARCHS)
def test_simple_rows_have_kernels_of_their_own(arch):
    """Whole packs, one piece of a row for each warp, nothing quantised, and not on the CPU."""
    where = {"hidden": 4096, "world": 4, "arch": arch, "tokens": 4, "whole_packs": True}
    for operation, algorithm in itertools.product(FUSED, ("one_shot", "two_shot", "staged", "pipelined")):
        name = f"all_reduce_norm_{algorithm}"
        if arch == "x86_64" and algorithm == "pipelined":
            name = "reduce_scatter_norm"
        elif algorithm != "staged":
            name += "_any" if arch == "x86_64" else f"_{operation[11:-5]}"
        plan = norm_plan(operation, **where, algorithm=algorithm)
        assert kernel_name(plan) == f"hipcomm_{name}_bfloat16"
        for other in (
            {"whole_packs": False},
            {"format": 1},
            {"hidden": 65536, "dtype": "float32", "most_blocks": 1},
        ):
            plan = norm_plan(operation, **{**where, **other}, algorithm=algorithm)
            assert "_rms_" not in kernel_name(plan) and "_layer_" not in kernel_name(plan)


def pieces_at_once(plan, warp):
    """Of all blocks of a launch."""
    return plan.blocks * plan.threads // warp


@pytest.mark.parametrize("arch,warp", (("sm_90", 32), ("gfx942", 64), ("gfx1100", 32)))
def test_blocks_share_the_rows_of_a_one_shot(arch, warp):
    """As many warps as there are pieces, in large blocks; of few blocks, threads take two slices of a row at
    a time, and rows in turn."""
    for rows, hidden in itertools.product((1, 2, 16, 24), (512, 2880, 7168, 16384)):
        for most in (0, 66, 33, 2):
            plan = norm_plan(FUSED[0], rows, hidden, 2, arch, algorithm="one_shot", most_blocks=most)
            pieces = -(-hidden // (8 * warp * plan.lane_slices))
            if pieces_at_once(plan, warp) < rows * pieces:
                assert (plan.threads, plan.lane_slices) == (256, 2)
                assert plan.blocks == min(most or 128, 128 if arch == "sm_90" else 64)
            assert plan.threads == 256 or plan.blocks == 1
            # one piece of a row, or what is left of it is kept
            assert plan.kept_slices or pieces_at_once(plan, warp) >= pieces


def test_the_local_operation_has_a_thread_for_each_pack_of_few_rows():
    for hidden, threads in ((2880, 384), (4096, 512), (7168, 896), (8192, 1024)):
        few, many = (norm_plan(LOCAL[0], rows, hidden, 1, "sm_90") for rows in (8, 4096))
        assert (few.threads, few.lane_slices, few.blocks, few.kept_slices) == (threads, 1, 8, 0)
        assert many.lane_slices == 2 and many.threads * 2 >= hidden // 8 and many.kept_slices == 0
    long = norm_plan(LOCAL[0], 8, 65536, 1, "sm_90", dtype="float32")
    assert (long.threads, long.lane_slices) == (1024, 4) and long.kept_slices > 0


@pytest.mark.parametrize("arch", ARCHS)
def test_forced_algorithms_are_taken(arch):
    for algorithm in ("one_shot", "two_shot", "staged", "pipelined"):
        plan = norm_plan("all_reduce_rms_norm", 4, 1024, 4, arch, algorithm=algorithm)
        assert ALGORITHMS[plan.algorithm] == algorithm
    assert ALGORITHMS[norm_plan("all_reduce_rms_norm", 4, 1024, 4, arch, algorithm="direct").algorithm] in (
        "one_shot",
        "staged",
    )


def test_larger_calls_take_the_algorithm_of_fewer_bytes():
    gpu, cpu = ("one_shot", "two_shot", "pipelined"), ("staged", "pipelined")
    for arch, order in (("sm_90", gpu), ("gfx942", gpu), ("x86_64", cpu)):
        for world in (2, 4, 8, 16):
            taken = [norm_plan(FUSED[0], 2**n, 4096, world, arch).algorithm for n in range(14)]
            names = [ALGORITHMS[number] for number in taken]
            assert names == sorted(names, key=order.index), (arch, world)
            # with one peer two shots are no fewer bytes than one
            assert set(names) == set(order) - ({"two_shot"} if world == 2 else set())


def test_on_4_amd_gpus_the_change_is_between_16_and_32_rows_of_7168():
    names = [ALGORITHMS[norm_plan(FUSED[0], rows, 7168, 4, "gfx942").algorithm] for rows in (16, 32)]
    assert names == ["one_shot", "two_shot"]


def test_a_world_of_one_and_local_norms_wait_for_nobody():
    for operation, world in ((LOCAL[0], 4), (LOCAL[1], 1), (FUSED[0], 1), (FUSED[1], 1)):
        plan = norm_plan(operation, 100, 7168, world, "sm_90", algorithm="pipelined")
        assert ALGORITHMS[plan.algorithm] == "local" and plan.blocks == 100
        assert kernel_name(plan) == "hipcomm_add_norm_any_bfloat16"


def test_no_rows_no_kernel():
    assert norm_plan(FUSED[0], 0, 7168, 4, "sm_90").kernel == -1


def test_refusals():
    assert norm_plan(FUSED[0], 1, 0, 4, "sm_90") is None
    assert norm_plan(FUSED[0], 1, 65537, 4, "sm_90") is None
    assert norm_plan(FUSED[0], 1, 64, 4, "sm_90", nbytes=129) is None
    assert norm_plan(FUSED[0], 1, 64, 4, "sm_90", dtype="float64") is None
    assert norm_plan(FUSED[0], 1, 65536, 16, "sm_90", dtype="float32", staging=1 << 20).kernel == -1


@pytest.mark.parametrize("hidden", [40000, 65536])
@pytest.mark.parametrize("staging", [1 << 20, 4 << 20])
@pytest.mark.parametrize("most_blocks", [8, 16, 32])
def test_rows_that_are_not_whole_packs_have_room_in_staging_memory(hidden, staging, most_blocks):
    """Their code takes one slice a lane, whatever is planned; what has no thread then is kept there."""
    plan = norm_plan(
        FUSED[0], 64, hidden, 4, "sm_90", algorithm="one_shot", staging=staging, most_blocks=most_blocks
    )
    assert plan is not None and plan.kernel >= 0
    warps = plan.blocks * plan.threads // 32
    if ALGORITHMS[plan.algorithm] == "one_shot" and -(-hidden * 2 // (16 * 32)) > warps:
        assert plan.rows_per_launch * hidden * 2 <= staging // 2
