"""The launch plan, asked without a device: which algorithm, and does it fit into what there is.

Thresholds are read from the tuning table's source, so that the table is compared with what comes out.
"""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path
from typing import NamedTuple

import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_files import RUNS
from plans import ALGORITHMS, NO_LIMIT, OPERATIONS, PACK, REDUCTIONS, Plan, make_plan
from slabs import SLABS

from hipcomm.core import ffi, lib
from hipcomm.plan import TABLE_OF_OPERATIONS as OF

REPOSITORY = Path(__file__).resolve().parent.parent
NATIVE = REPOSITORY / "hipcomm" / "native"
MAX_BLOCKS = SLABS["MAX_BLOCKS"]
TILE_OFFSET = 64  # bytes of shared memory before the tile
LINE, WIDE_LINE = SLABS["LINE_BYTES"], SLABS["WIDE_LINE_BYTES"]
WIDE_LINE_PACKS = SLABS["WIDE_LINE_PACKS"]
MIB = 1 << 20
MESSAGES = [operation for operation in OPERATIONS if OF[operation].bytes == "Message"]
PLANNED = [operation for operation in OPERATIONS if OF[operation].bytes not in ("None", "Message")]
DIRECT = [operation for operation in OPERATIONS if OF[operation].reads or OF[operation].writes]
EXCHANGES = [operation for operation in OPERATIONS if OF[operation].family == "Exchange"]
WORLDS = (2, 3, 4, 5, 8, 9, 16)  # both ends of each class, and odd ones

RING = SLABS["RING_SLOTS"]
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20}
DEVICES = {
    "x86_64": "x86_64",
    "sm_*": "sm_90",
    "gfx90a": "gfx90a:sramecc+:xnack-",
    "gfx11*": "gfx1100",
    "gfx*": "gfx942:sramecc+:xnack-",
}


def _value(text):
    if text.strip() in ("true", "false"):
        return int(text.strip() == "true")
    if text.strip() == "NEVER":
        return 1 << 62
    number, unit = re.fullmatch(r"(\d+) ?(\w*)", text.strip()).groups()
    return int(number) * UNITS[unit]


def _tuning_table():
    """{arch pattern: {field: number, or numbers by world class}} from tuning.c."""
    source = (NATIVE / "tuning.c").read_text()
    shared = re.search(r"#define DERIVED_GPU(.*?[^\\])\n", source, re.DOTALL)[1]
    source = source[source.index("TuningRow rows[]") : source.index("enum { kRows")].replace(
        "DERIVED_GPU", shared + ","
    )
    rows = {}
    for block in source.split(".arch = ")[1:]:
        row = rows[re.match(r'"([^"]+)"', block)[1]] = {}
        for field, list_text, text in re.findall(
            r"(\w+|(?:UP_TO|FROM)\(\w+, \w+\)) = (?:\{([^}]*)\}|([^,{}\"]+)),", block
        ):
            row[field] = [_value(part) for part in list_text.split(",")] if list_text else _value(text)
    return rows


TABLE = _tuning_table()
every_row = pytest.mark.parametrize("pattern", sorted(TABLE))


def arch_of(pattern):
    return DEVICES.get(pattern, pattern.replace("*", "0"))


def world_class(world):
    return next(number for number, most in enumerate((2, 4, 8, 16)) if world <= most)


def thresholds(row, operation, algorithm):
    """By world class; None where the operation has no such algorithm, or it is never chosen."""
    if OF[operation].bytes == "Unknown" or (algorithm == "Direct" and operation not in DIRECT):
        return None
    if algorithm == "Direct" and row.get("staging_uncached"):
        return None
    bound = "FROM" if algorithm == "Direct" else "UP_TO"
    return row.get(f"{bound}({OF[operation].family}, {algorithm})")


def expected_algorithm(row, operation, world, nbytes, registered=False):
    """In registered memory direct, if the message is as long as its threshold; else the first algorithm
    whose threshold it does not exceed. A message of exactly the threshold takes that algorithm."""
    smallest = thresholds(row, operation, "Direct")
    if registered and smallest and nbytes >= smallest[world_class(world)]:
        return "direct"
    for algorithm, name in (("OneShot", "one_shot"), ("Staged", "staged"), ("TwoShot", "two_shot")):
        largest = thresholds(row, operation, algorithm)
        if largest and nbytes <= largest[world_class(world)]:
            return name
    return "pipelined"


def interesting_sizes(row):
    """Around every threshold that a message can reach, and powers of two."""
    edges = {edge for value in row.values() if isinstance(value, list) for edge in value}
    edges |= {1 << shift for shift in range(37)}
    sizes = {edge + more for edge in edges for more in (-17, -16, -1, 0, 1, 15, 16, 17)}
    return sorted(size for size in sizes if 0 < size < 1 << 56)


def test_the_table_was_read():
    assert set(TABLE) == set(DEVICES), "a new row: add a device of its to DEVICES"
    for row in TABLE.values():
        assert {"max_blocks", "threads", "line_capacity", "staging_bytes"} <= set(row)
        assert row["threads"] in (1, 512)  # kernels/launch/launch.h: eighths of a block are whole waves
        assert all(len(value) == 4 for value in row.values() if isinstance(value, list))


@every_row
def test_every_operation_has_its_thresholds(pattern):
    """A row that forgets one would never take that algorithm."""
    row = TABLE[pattern]
    for operation in PLANNED:
        if operation != "all_to_all_v":
            assert thresholds(row, operation, "OneShot"), operation
        if operation in DIRECT:
            assert bool(thresholds(row, operation, "Direct")) != bool(row.get("staging_uncached")), operation
    assert thresholds(row, "all_reduce", "TwoShot")


@pytest.mark.parametrize("world", WORLDS)
def test_small_all_reduces_are_staged_where_ranks_share_a_memory(world):
    """And nowhere else: over links it is faster to write than to read."""
    for pattern, row in TABLE.items():
        plans = [make_plan("all_reduce", 1 << shift, world, arch_of(pattern)) for shift in range(37)]
        chosen = {plan.algorithm for plan in plans}
        assert ("staged" in chosen) == (row["threads"] == 1), pattern
    for nbytes in (4, 1 << 10, 4 << 10):
        assert make_plan("all_reduce", nbytes, world, "x86_64").algorithm == "staged"
    for nbytes in (64 << 10, 1 << 20):
        assert make_plan("all_reduce", nbytes, world, "x86_64").algorithm == "pipelined"


@every_row
@pytest.mark.parametrize("world", WORLDS)
def test_thresholds_are_inclusive(pattern, world):
    row = TABLE[pattern]
    for operation, registered in itertools.product(PLANNED, (False, True)):
        for nbytes in interesting_sizes(row):
            plan = make_plan(operation, nbytes, world, arch_of(pattern), registered=registered)
            expected = expected_algorithm(row, operation, world, nbytes, registered)
            assert plan.algorithm == expected, (operation, nbytes, registered)


@every_row
def test_a_message_of_a_threshold_takes_one_launch(pattern):
    """The flag-in-data algorithms are chosen only for what fits into their lines at once, staged for what
    fits into the staging slab."""
    row = TABLE[pattern]
    for world, operation in itertools.product(WORLDS, PLANNED):
        for algorithm in ("OneShot", "TwoShot", "Staged"):
            largest = thresholds(row, operation, algorithm)
            if largest:
                nbytes = largest[world_class(world)]
                plan = make_plan(operation, nbytes, world, arch_of(pattern))
                assert nbytes <= plan.bytes_per_launch, (operation, world)


class Request(NamedTuple):
    """What a plan is asked for."""

    pattern: str
    operation: str
    nbytes: int
    world: int
    algorithm: str = "auto"
    max_blocks: int = 0
    staging_bytes: int = 0
    registered: bool = False
    dtype: str = "float32"

    def plan(self):
        return make_plan(
            self.operation,
            self.nbytes,
            self.world,
            arch_of(self.pattern),
            algorithm=self.algorithm,
            max_blocks=self.max_blocks,
            staging_bytes=self.staging_bytes,
            registered=self.registered,
            dtype=self.dtype,
        )


def check_fits(request):
    """All that a kernel takes for granted: capacities, and something to do for every block.

    A block without work would leave an epoch without having heard from its peers.
    """
    row, plan = TABLE[request.pattern], request.plan()
    assert 1 <= plan.blocks <= min(row["max_blocks"], request.max_blocks or MAX_BLOCKS, MAX_BLOCKS)
    assert 1 <= plan.threads <= row["threads"]
    assert plan.shared_bytes <= (48 if row["threads"] > 1 else 64) * 1024
    if plan.algorithm == "direct":
        check_direct(request, plan)
    elif plan.algorithm == "pipelined":
        check_staging(request, row, plan)
    elif plan.unit_bytes:
        check_units(request, row, plan)
    elif plan.algorithm == "staged":
        check_staged(request, row, plan)
    else:
        check_lines(request, row, plan)


def check_direct(request, plan):
    assert plan.bytes_per_launch == NO_LIMIT
    assert plan.shared_bytes >= TILE_OFFSET + 2 * SLABS["MAX_RANKS"] * 8  # rank_buffers.h: two of every rank
    packs = -(-request.nbytes // PACK)
    if request.operation in ("all_reduce", "broadcast"):  # in shards, one for each rank
        packs = -(-packs // request.world)
    assert (plan.blocks - 1) * plan.threads < packs


@every_row
@pytest.mark.parametrize("operation", ("reduce_scatter", "all_gather", "all_to_all"))
@pytest.mark.parametrize("world", (2, 3, 4, 8, 9, 16))
def test_parts_of_a_message_take_one_step_or_several(pattern, operation, world):
    """As measured: a block takes little in one step, for there is nothing to overlap, and more in several;
    none of them is smaller than a chunk has to be, unless the staging slab is too small for that."""
    row = TABLE[pattern]
    blocks, smallest = row["pipelined_blocks"], row["min_chunk"]
    one_step = blocks * max(smallest, row.get("max_one_step", 0) // world)
    sizes = [one_step * times // 4 for times in (4, 5, 6, 8, 9, 10, 12, 16, 20, 64, 400)] + [
        1088 << 10,
        5 << 19,
    ]
    for nbytes in sizes:
        plan = make_plan(operation, nbytes, world, arch_of(pattern), algorithm="pipelined")
        chunk, chunks = plan.chunk_packs * PACK, -(-(nbytes // PACK) // plan.chunk_packs)
        steps = -(-chunks // plan.blocks)
        possible = max(1, nbytes // (blocks * smallest))
        room = row["staging_bytes"] // 2 // (plan.blocks * cells_of(operation, world) * RING)
        if nbytes == one_step and "max_one_step" in row and room >= chunk:
            assert steps == 1
        if nbytes >= blocks * smallest:
            assert chunk >= min(smallest, room // PACK * PACK)
            assert steps >= min(row["min_part_steps"], possible) or nbytes * world <= blocks * row.get(
                "max_one_step", 0
            )
        if nbytes > one_step:
            assert chunk <= max(row["max_part_chunk"], 2 * smallest)


def cells_of(operation, world):
    """Cells of a chunk each in a block's slot: areas of a slot, cells of an area."""
    areas = {"all_reduce": 2, "reduce": 2}.get(operation, 1)
    return areas * (1 if operation == "broadcast" else world)


def check_staging(request, row, plan):
    assert plan.bytes_per_launch == NO_LIMIT
    world, packs = request.world, -(-request.nbytes // PACK)
    if request.operation == "reduce":
        packs = -(-packs // world)
    cell_packs = -(-plan.chunk_packs // world) if request.operation == "all_reduce" else plan.chunk_packs
    cells = cells_of(request.operation, world)
    per_parity = (request.staging_bytes or row["staging_bytes"]) // 2
    slots = RING
    if request.operation != "all_to_all_v":  # whose longest part no rank knows
        assert (plan.blocks - 1) * plan.chunk_packs < packs
        slots = min(RING, -(-packs // (plan.blocks * plan.chunk_packs)))
    assert slots * plan.blocks * cells * cell_packs * PACK <= per_parity


def check_units(request, row, plan):
    """A thread takes a unit of all ranks' messages: 3 words of data in 4 where parts hold 3, else a pack."""
    whole = 12 if row["part_words"] == 3 else PACK
    assert plan.unit_bytes == (2 * whole if whole == 12 and request.dtype in ("float64", "int64") else whole)
    assert plan.bytes_per_launch % PACK == plan.bytes_per_launch % plan.unit_bytes == 0
    assert plan.bytes_per_launch > 0
    units = -(-min(request.nbytes, plan.bytes_per_launch) // plan.unit_bytes)
    line = LINE if plan.unit_bytes != 12 else 16
    assert units * request.world * line <= row["line_capacity"] * LINE
    assert plan.threads <= SLABS["MAX_UNIT_THREADS"]
    assert (plan.blocks - 1) * plan.threads < units
    if plan.blocks * plan.threads < units:
        assert plan.blocks == min(request.max_blocks or row["max_blocks"], row["max_blocks"])
        assert plan.threads == min(SLABS["MAX_UNIT_THREADS"], row["threads"])
    assert plan.shared_bytes == TILE_OFFSET
    assert plan.line_packs == plan.tile_shift == 0


def check_staged(request, row, plan):
    """A launch's message lies in staging memory as a whole, a chunk for each block."""
    assert plan.bytes_per_launch == plan.blocks * plan.chunk_packs * PACK
    assert plan.bytes_per_launch <= (request.staging_bytes or row["staging_bytes"]) // 2
    packs = -(-min(request.nbytes, plan.bytes_per_launch) // PACK)
    assert (plan.blocks - 1) * plan.chunk_packs < packs
    assert plan.blocks <= row["pipelined_blocks"]
    assert plan.blocks == 1 or packs * PACK > (plan.blocks - 1) * row["min_chunk"]


def check_lines(request, row, plan):
    assert plan.bytes_per_launch >= PACK
    assert plan.bytes_per_launch % PACK == 0
    world, packs = request.world, -(-min(request.nbytes, plan.bytes_per_launch) // PACK)
    assert plan.line_packs in (1, WIDE_LINE_PACKS)
    of_rank = -(-packs // plan.line_packs)  # lines
    of_shard = -(-of_rank // world)
    lines = {"broadcast": of_rank}.get(request.operation, of_rank * world)
    if plan.algorithm == "two_shot":
        lines = 2 * of_shard * world
    assert lines * (LINE if plan.line_packs == 1 else WIDE_LINE) <= row["line_capacity"] * LINE
    if request.operation in ("all_reduce", "reduce_scatter", "reduce"):
        tile = 1 << plan.tile_shift
        of_a_rank, tiles = (of_rank, world) if plan.algorithm == "one_shot" else (of_shard, world + 1)
        assert TILE_OFFSET + tiles * tile * plan.line_packs * PACK <= plan.shared_bytes
        assert (plan.blocks - 1) * tile < of_a_rank
    else:
        assert (plan.blocks - 1) * plan.threads < packs * world


def can_be_forced(asked):
    """Whether the operation has the algorithm that is asked for."""
    if asked.algorithm == "direct":
        can_be_reached = not TABLE[asked.pattern].get("staging_uncached")
        return asked.registered and asked.operation in DIRECT and can_be_reached
    if asked.algorithm in ("two_shot", "staged"):
        return asked.operation == "all_reduce"
    return asked.algorithm != "auto" and asked.operation != "all_to_all_v"


@settings(max_examples=2500, deadline=None, database=None, derandomize=True)
@given(
    asked=st.builds(
        Request,
        pattern=st.sampled_from(sorted(TABLE)),
        operation=st.sampled_from(PLANNED),
        nbytes=st.one_of(st.integers(1, 1 << 12), st.integers(1, 1 << 20), st.integers(1, 1 << 40)),
        world=st.integers(2, 16),
        algorithm=st.sampled_from(
            [algorithm for algorithm in ALGORITHMS if algorithm not in ("copy", "local")]
        ),
        max_blocks=st.one_of(st.just(0), st.integers(1, 400)),
        staging_bytes=st.sampled_from((0, 2 * MIB, 4 * MIB, 32 * MIB, 1024 * MIB)),
        registered=st.booleans(),
        dtype=st.sampled_from(("float32", "bfloat16", "int8", "float64", "int64", "float8_e4m3fn")),
    )
)
def test_plans_fit(asked):
    if can_be_forced(asked):
        assert asked.plan().algorithm == asked.algorithm
    check_fits(asked)


@every_row
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("operation", ("all_reduce", "reduce_scatter"))
def test_one_shot_reductions_move_units_up_to_their_threshold(pattern, world, operation):
    row = TABLE[pattern]
    largest = row["units"][world_class(world)]
    for nbytes in (1, 1 << 10, min(largest, 1 << 30), min(largest, 1 << 30) + 1):
        plan = Request(pattern, operation, nbytes, world, algorithm="one_shot").plan()
        assert bool(plan.unit_bytes) == (nbytes <= largest), nbytes
        assert plan.line_packs == (0 if nbytes <= largest else WIDE_LINE_PACKS), nbytes


@every_row
@pytest.mark.parametrize("world", (2, 3, 8, 16))
def test_plans_fit_around_thresholds(pattern, world):
    row = TABLE[pattern]
    for operation, registered in itertools.product(PLANNED, (False, True)):
        for nbytes in interesting_sizes(row):
            check_fits(Request(pattern, operation, nbytes, world, registered=registered))


def slot_bytes(world):
    """The longest message that a slot of a channel can hold: whole groups of 64 lines."""
    return SLABS["CHANNEL_SLOT_LINES"](world) * PACK


@every_row
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("algorithm", ("auto", "one_shot", "two_shot", "staged", "pipelined"))
def test_plans_of_messages(pattern, world, algorithm):
    """Both ends have the same plan; it fits into the channel; the threshold is inclusive."""
    row = TABLE[pattern]
    longest = row["UP_TO(Send, OneShot)"][world_class(world)]
    assert longest <= slot_bytes(world)
    edges = (longest, slot_bytes(world))
    for nbytes in (0, *interesting_sizes(row), *(edge + more for edge in edges for more in (-1, 0, 1))):
        for max_blocks in (0, 1, 7):
            plan, other = (
                make_plan(end, nbytes, world, arch_of(pattern), algorithm=algorithm, max_blocks=max_blocks)
                for end in MESSAGES
            )
            assert plan._replace(kernel=0) == other._replace(kernel=0)
            assert kernel_name(plan)[1] == "hipcomm_send" and kernel_name(other)[1] == "hipcomm_recv"
            expected = "one_shot" if nbytes <= longest else "pipelined"
            if algorithm == "pipelined" or (algorithm == "one_shot" and nbytes <= slot_bytes(world)):
                expected = algorithm
            assert plan.algorithm == expected, nbytes
            assert 1 <= plan.blocks <= min(row["max_blocks"], max_blocks or MAX_BLOCKS)
            assert plan.threads == row["threads"] and plan.bytes_per_launch == NO_LIMIT
            assert bool(plan.chunk_packs) == (plan.algorithm == "pipelined")
            staging = SLABS["CHANNEL_STAGING_BYTES"] // world
            assert plan.blocks * SLABS["CHANNEL_RING"] * plan.chunk_packs * PACK <= staging


def kernel_name(plan):
    file, name = ffi.new("char **"), ffi.new("char **")
    assert lib.hipcommKernelInfo(plan.kernel, file, name) == lib.hipcommSuccess
    return ffi.string(file[0]).decode(), ffi.string(name[0]).decode()


@pytest.mark.parametrize("algorithm", ("one_shot", "two_shot", "staged", "pipelined"))
def test_the_kernel_is_that_of_the_call(algorithm):
    for dtype in oracle.DTYPES:
        for op in oracle.OPERATIONS:
            plan = make_plan("all_reduce", 100, 4, "sm_90", dtype=dtype, op=op, algorithm=algorithm)
            reduction = "sum" if op == "avg" else op
            file = f"all_reduce_{algorithm}"
            assert kernel_name(plan) == (f"{file}_{reduction}", f"hipcomm_{file}_{reduction}_{dtype}")
            for operation in ("all_gather", "broadcast"):
                plan = make_plan(operation, 100, 4, "sm_90", dtype=dtype, op=op, algorithm=algorithm)
                # there is no two-shot, and no staged
                chosen = "pipelined" if algorithm == "pipelined" else "one_shot"
                assert kernel_name(plan) == (f"{operation}_{chosen}", f"hipcomm_{operation}_{chosen}")
            for operation in ("reduce_scatter", "reduce"):
                plan = make_plan(operation, 100, 4, "sm_90", dtype=dtype, op=op, algorithm="pipelined")
                assert kernel_name(plan)[1] == f"hipcomm_reduce_pipelined_{reduction}_{dtype}"
            for operation in ("all_reduce", "reduce_scatter"):
                plan = make_plan(operation, 1 << 30, 4, "gfx942", dtype=dtype, op=op, registered=True)
                assert kernel_name(plan)[1] == f"hipcomm_{operation}_direct_{reduction}_{dtype}"
    for operation in EXCHANGES:
        plan = make_plan(operation, 100, 4, "sm_90", algorithm=algorithm)
        in_turns = algorithm == "pipelined" and operation != "all_to_all_v"
        file = "exchange_pipelined" if in_turns else "exchange"
        assert kernel_name(plan) == (file, f"hipcomm_{file}")
    for operation in DIRECT:
        plan = make_plan(operation, 1 << 30, 4, "gfx942", registered=True)
        assert kernel_name(plan)[0] == RUNS[operation, "direct"] + ("_sum" if OF[operation].reduces else "")


def test_every_kernel_has_its_own_name():
    count = lib.hipcommKernelCount()
    names = {kernel_name(Plan("", index, *[0] * (len(Plan._fields) - 2))) for index in range(count)}
    assert len(names) == count
    for index in (-1, count):
        assert (
            lib.hipcommKernelInfo(index, ffi.new("char **"), ffi.new("char **")) == lib.hipcommInvalidArgument
        )


@every_row
def test_nothing_to_do(pattern):
    for operation in PLANNED:
        for world in range(1, 17):
            nothing = make_plan(operation, 0, world, arch_of(pattern))
            # of an all_to_all_v with no bytes here, other ranks may have some
            assert (nothing.kernel == -1) == (operation != "all_to_all_v" or world == 1)
        alone = make_plan(operation, 1000, 1, arch_of(pattern))
        assert (alone.algorithm, alone.kernel) == ("copy", -1)


@every_row
def test_a_barrier_has_one_block(pattern):
    for world in WORLDS:
        plan = make_plan("barrier", 0, world, arch_of(pattern))
        assert (plan.blocks, kernel_name(plan)) == (1, ("barrier", "hipcomm_barrier"))
    assert make_plan("barrier", 0, 1, arch_of(pattern)).kernel == -1


@every_row
@pytest.mark.parametrize("world", WORLDS)
def test_what_goes_as_lines_fits_into_them(pattern, world):
    """A pair of all_to_all with counts decides by its own bytes; in others the plan has decided for all."""
    row = TABLE[pattern]
    lines = make_plan("all_to_all_v", 0, world, arch_of(pattern)).line_bytes
    assert 0 < lines <= row["UP_TO(Exchange, OneShot)"][world_class(world)]
    assert lines // PACK * world <= row["line_capacity"]
    for nbytes in interesting_sizes(row):
        plan = make_plan("all_to_all", nbytes, world, arch_of(pattern))
        assert (nbytes <= plan.line_bytes) == (plan.algorithm == "one_shot"), nbytes


def test_a_pure_function():
    """The same answer whatever was asked before."""
    rng = random.Random(51)
    requests = [
        (rng.choice(list(OPERATIONS)), rng.randrange(1 << rng.randrange(30)), rng.randrange(1, 17), arch)
        for arch in DEVICES.values()
        for _ in range(300)
    ]
    first = {request: make_plan(*request) for request in requests}
    rng.shuffle(requests)
    assert all(make_plan(*request) == first[request] for request in requests)


def test_features_of_an_architecture_do_not_matter():
    for nbytes in (1, 1000, 10**6, 10**9):
        plain = make_plan("all_reduce", nbytes, 8, "gfx942")
        assert make_plan("all_reduce", nbytes, 8, "gfx942:sramecc+:xnack-") == plain
        assert make_plan("all_reduce", nbytes, 8, "something new") == plain


def refusals():
    right = {"operation": 0, "dtype": 0, "op": 0, "bytes": 8, "world": 2, "arch": "sm_90", "algorithm": 0}
    right["staging_bytes"] = 0
    for field, values in {
        "operation": (-1, len(OPERATIONS)),
        "dtype": (-1, lib.hipcommNumDataTypes),
        "op": (-1, len(REDUCTIONS)),
        "world": (-1, 0, 17),
        "arch": (None,),
        "algorithm": (-1, len(ALGORITHMS)),
        "bytes": (1 << 56, (1 << 64) - 1),
        "staging_bytes": ((64 << 30) + 1, (1 << 64) - 1),
    }.items():
        for value in values:
            yield {**right, field: value}


@pytest.mark.parametrize("fields", list(refusals()), ids=str)
def test_wrong_requests_are_refused(fields):
    request = ffi.new("hipcommPlanRequest *")
    name = ffi.NULL if fields["arch"] is None else ffi.new("char[]", fields["arch"].encode())
    request.arch, request.bytes, request.world = name, fields["bytes"], fields["world"]
    request.staging_bytes = fields["staging_bytes"]
    for field in ("operation", "dtype", "op", "algorithm"):
        # an enum in C holds any int; cffi stores one that has no name only through a cast
        setattr(request, field, int(ffi.cast("unsigned int", fields[field])))
    assert lib.hipcommMakePlan(request, ffi.new("hipcommPlan *")) == lib.hipcommInvalidArgument


def test_the_longest_message_and_the_most_staging_memory():
    for operation in OPERATIONS:
        for algorithm in ALGORITHMS:
            plan = make_plan(
                operation, (1 << 56) - 1, 16, "x86_64", algorithm=algorithm, staging_bytes=64 << 30
            )
            assert plan.bytes_per_launch > 0
            assert plan.blocks > 0


def test_hardly_any_staging_memory():
    """Less than a communicator can have: a plan is asked for without one, too."""
    for algorithm in ("staged", "pipelined"):
        assert make_plan("all_reduce", 1000, 2, "x86_64", algorithm=algorithm, staging_bytes=1).chunk_packs


def test_null_is_refused():
    assert lib.hipcommMakePlan(ffi.NULL, ffi.new("hipcommPlan *")) == lib.hipcommInvalidArgument
    assert lib.hipcommMakePlan(ffi.new("hipcommPlanRequest *"), ffi.NULL) == lib.hipcommInvalidArgument


@every_row
def test_the_layout_holds_what_the_kernels_use(pattern):
    row = TABLE[pattern]
    layout = ffi.new("hipcommLayout *")
    for staging_bytes in (0, 1, 2 * MIB, 2 * MIB + 1, 100 * MIB):
        assert lib.hipcommGetLayout(arch_of(pattern).encode(), staging_bytes, layout) == lib.hipcommSuccess
        assert layout.control_bytes >= SLABS["LINES_OFFSET"] + 2 * row["line_capacity"] * LINE
        assert layout.control_bytes % (2 * MIB) == layout.staging_bytes % (2 * MIB) == 0
        assert (
            layout.staging_bytes >= (staging_bytes or row["staging_bytes"]) + SLABS["CHANNEL_STAGING_BYTES"]
        )
        assert layout.max_blocks == row["max_blocks"] <= MAX_BLOCKS
    lib.hipcommGetLayout(arch_of(pattern).encode(), 0, layout)
    assert layout.control_bytes + layout.staging_bytes <= 64 * MIB  # what a communicator may cost
