"""The AMD code objects, as built: metadata, registers, and the instructions that the protocol rests on.

docs/amd.md says why each of these instructions is needed. No AMD GPU is involved: the objects are read.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterator

import pytest

pytest.importorskip("hipcomm.core", reason="hipcomm is not built")

from amd_objects import (
    ALL_TARGETS,
    BLOCK_THREADS,
    CODE_OBJECTS,
    LOCAL_BLOCK_THREADS,
    TARGETS,
    UNIT_BLOCK_THREADS,
    CodeObject,
    Program,
    Target,
    disassemble,
    find_tool,
    object_path,
    read_object,
)
from kernel_files import ROOMS, RUNS, arguments_of, files_with, kernels_by_file, source_of

# .ci/run sets CI: there the objects are always built, and what is missing fails the tests.
IN_CI = bool(os.environ.get("CI"))

if not (IN_CI or any((CODE_OBJECTS / target.name).is_dir() for target in TARGETS)):
    pytest.skip(
        "no AMD code objects: make builds them where there is clang 20 or newer (Debian: clang-22 lld-22)",
        allow_module_level=True,
    )

needs_objdump = pytest.mark.skipif(
    not IN_CI and find_tool("llvm-objdump") is None,
    reason="no llvm-objdump that knows all targets (Debian: llvm-22)",
)
# those of a target in one process, which disassembles its objects once
on_every_target = pytest.mark.parametrize(
    "target", [pytest.param(t, marks=pytest.mark.xdist_group(t.name), id=t.name) for t in TARGETS]
)

# Bytes of the structs that kernels are launched with (kernel_args.h, norm_args.h), which begin with
# hipcommKernelArgs; and where their tables are: the mapped slabs, and the segments' offsets and lengths
ARGUMENT_BYTES = {
    "hipcommKernelArgs": 400,
    "hipcommSegmentArgs": 952,
    "hipcommCheckArgs": 672,
    "hipcommNormArgs": 616,
    "hipcommGatherArgs": 624,
    "hipcommQkNormArgs": 568,
    "hipcommPartialsArgs": 424,
    "hipcommRowsArgs": 424,
}
TABLE_OFFSETS = {128, 256} | {440, 448, 456, 464}

# Kernels whose rows may be quantised, and the places where they store the codes of eight elements, at most:
# with a given scale, and with one that is made
MAY_QUANTISE = ("_any_", "_norm_staged_", "_reduce_scatter_norm_")
MOST_STORES_OF_CODES = 2

# Scalars that may be kept in lanes of a vector register, which is no memory access: the kernels for 8-bit
# floats, and norms that may quantise, have the conditions of many conversions to keep.
SCALARS_ALLOWED = (
    ("_float8", 16),
    *((part, 40) for part in MAY_QUANTISE),
    ("_norm_", 14),
    ("hipcomm_reduce_pipelined_", 4),
)


def spills_allowed(key: str, name: str) -> int:
    if key != ".sgpr_spill_count":
        return 0
    return next((most for part, most in SCALARS_ALLOWED if part in name), 0)


# By what rooms of kernels/ are for, and what else is like them.
SIGNALLING = {  # apart from the signals with which the wipe of old flags ends (launch/epoch.h)
    *ROOMS["direct"],
    *ROOMS["staged"],
    *ROOMS["messages"],
    *("all_reduce_norm_pipelined", "all_reduce_norm_staged", "reduce_scatter_norm", "all_gather_tokens"),
    *("barrier", "broadcast_one_shot", "exchange", "reduce_one_shot"),
}
OWN_RESULTS = {"reduce_scatter_direct"}  # reads what peers have, and writes what is this rank's own
STAGING = ROOMS["staged"] | ROOMS["direct"] | {"exchange"}  # payload of peers is moved with system scope
READING = STAGING | {"recv"}
WRITING = STAGING - OWN_RESULTS | {"send"}
WITHOUT_EPOCH = ROOMS["messages"]
LOCAL = {kernel for (_, algorithm), kernel in RUNS.items() if algorithm == "local"}  # have no peers,
LOCAL |= ROOMS["nodes"]  # nor have these
IN_UNITS = files_with("HIPCOMM_MAX_UNIT_THREADS")
ALONE = files_with("HIPCOMM_MAX_LOCAL_THREADS")

FILES = kernels_by_file("gfx942")  # of all AMD targets


def objects(target: Target) -> Iterator[tuple[str, CodeObject]]:
    """(kernel file, one of its code objects)"""
    for file in FILES:
        yield source_of(file), read_object(object_path(target, file))


def failures(problems: list[str]) -> str:
    return f"{len(problems)} problems, the first of them:\n" + "\n".join(problems[:10])


# ---- metadata ------------------------------------------------------------------------------------------


@on_every_target
def test_all_kernels_are_present(target: Target) -> None:
    for file, kernels in FILES.items():
        assert set(read_object(object_path(target, file)).kernels) == kernels, file


@on_every_target
def test_objects_are_for_the_target(target: Target) -> None:
    for file, code in objects(target):
        assert code.abi_version == 3, f"{file}: not code object version 5"
        assert code.flags & 0xFF == target.machine, file
        assert code.target_id == f"amdgcn-amd-amdhsa--{target.name}", file
        # xnack and sramecc: unsupported (0) or any (1), never one setting that a machine may not have
        assert code.flags >> 8 & 3 in (0, 1) and code.flags >> 10 & 3 in (0, 1), file


@on_every_target
def test_nothing_spills(target: Target) -> None:
    problems = []
    for _, code in objects(target):
        for name, kernel in code.kernels.items():
            for key in (".private_segment_fixed_size", ".sgpr_spill_count", ".vgpr_spill_count"):
                if kernel[key] > spills_allowed(key, name):
                    problems.append(f"{name}: {key} {kernel[key]}")
            if kernel.get(".uses_dynamic_stack", False):
                problems.append(f"{name}: dynamic stack")
    assert not problems, failures(problems)


@on_every_target
def test_a_block_fits_the_registers(target: Target) -> None:
    for file, code in objects(target):
        for name, kernel in code.kernels.items():
            assert kernel[".wavefront_size"] == target.wave, name
            threads = (
                UNIT_BLOCK_THREADS
                if file in IN_UNITS
                else LOCAL_BLOCK_THREADS
                if file in ALONE
                else BLOCK_THREADS
            )
            assert kernel[".max_flat_workgroup_size"] == threads, name
            most = target.most_registers // max(1, threads // BLOCK_THREADS)
            assert 0 < kernel[".vgpr_count"] <= most, name  # with AGPRs, where there are any


@on_every_target
def test_arguments_are_one_struct(target: Target) -> None:
    """The C core passes the struct and nothing else: a hidden argument would be garbage."""
    for _, code in objects(target):
        for name, kernel in code.kernels.items():
            size = ARGUMENT_BYTES[arguments_of(name)]
            assert kernel[".kernarg_segment_size"] == size, name
            assert [argument[".value_kind"] for argument in kernel[".args"]] == ["by_value"], name
            assert kernel[".args"][0][".offset"] == 0, name
            assert kernel[".args"][0][".size"] == size, name
            assert kernel[".group_segment_fixed_size"] == 0, name  # the launch says how much LDS


@on_every_target
def test_floats_round_to_even_and_keep_denormals(target: Target) -> None:
    for _, code in objects(target):
        for name, descriptor in code.descriptors.items():
            resources = int.from_bytes(descriptor[48:52], "little")  # COMPUTE_PGM_RSRC1
            assert resources >> 12 & 0xF == 0, f"{name}: rounding mode"
            assert resources >> 16 & 0xF == 0xF, f"{name}: denormal mode"


def test_register_formula() -> None:
    """Both ends of it, worked out by hand: 512 threads are 8 waves of 64, or 16 of 32, on 4 SIMDs."""
    most = {target.name: target.most_registers for target in ALL_TARGETS}  # nothing built is read
    assert most["gfx90a"] == most["gfx942"] == most["gfx950"] == 512 // 2
    assert most["gfx1100"] == most["gfx1201"] == 1536 // 4
    assert most["gfx1250"] == 1024 // 4


# ---- instructions --------------------------------------------------------------------------------------

VECTOR_MEMORY = re.compile(r"(global|flat|buffer|scratch)_(load|store|atomic)_")
STORE = re.compile(r"(global|flat|buffer|scratch)_store_")
STORE_64 = re.compile(r"global_store_(dwordx2|b64) ")
LOAD_64 = re.compile(r"global_load_(dwordx2|b64) ")
OFFSET = re.compile(r"offset:(-?\d+)")
BRANCH = re.compile(r"s_(cbranch|branch|setpc|endpgm)")


def programs(target: Target, without: set[str] = LOCAL) -> Iterator[tuple[str, str, Program]]:
    """(kernel file, kernel, program)"""
    for file in FILES:
        if source_of(file) in without:
            continue
        kernels = disassemble(object_path(target, file))
        assert set(kernels) == FILES[file]
        for name, program in kernels.items():
            yield source_of(file), name, program


def all_instructions(target: Target, without: set[str] = LOCAL) -> Iterator[tuple[str, str, list[str]]]:
    """(kernel file, kernel, instructions)"""
    for file, name, program in programs(target, without):
        yield file, name, program.text


def has_scope(instruction: str, scope: str) -> bool:
    modifiers = instruction.split()
    return all(modifier in modifiers for modifier in scope.split())


@needs_objdump
@on_every_target
def test_words_of_peers_go_past_the_caches(target: Target) -> None:
    """User data moves in 16-, 4- and 1-byte accesses; what is 8 bytes wide is a word of a line, a signal or
    staged data, all of which peers read or write meanwhile. The exceptions are a pointer from the kernel's
    arguments, and the codes of eight elements."""
    problems = []
    for _, name, instructions in all_instructions(target):
        unscoped: list[str] = []
        for instruction in instructions:
            if STORE_64.match(instruction) and not has_scope(instruction, target.store_scope):
                unscoped.append(instruction)
            if LOAD_64.match(instruction) and not has_scope(instruction, target.load_scope):
                offset = OFFSET.search(instruction)
                if offset is None or int(offset[1]) not in TABLE_OFFSETS:
                    problems.append(f"{name}: {instruction}")
        if len(unscoped) > MOST_STORES_OF_CODES * any(part in name for part in MAY_QUANTISE):
            problems += [f"{name}: {instruction}" for instruction in unscoped]
    assert not problems, failures(problems)


@needs_objdump
@on_every_target
def test_staged_data_goes_past_the_caches(target: Target) -> None:
    """A pack of staging memory is two such words, and several packs are in flight: were they 16 bytes wide,
    and so without a scope, the test above would not see them, but these would be missing."""
    for file, name, instructions in all_instructions(target):
        loads = sum(1 for i in instructions if LOAD_64.match(i) and has_scope(i, target.load_scope))
        stores = sum(1 for i in instructions if STORE_64.match(i) and has_scope(i, target.store_scope))
        if file in READING:
            assert loads >= 8, f"{name}: {loads} loads"
        if file in WRITING:
            assert stores >= 8, f"{name}: {stores} stores"
        elif file != "barrier":  # lines of four words
            assert loads >= 4 and stores >= 4, f"{name}: {loads} loads, {stores} stores"


def releases(target: Target, instructions: list[str]) -> Iterator[tuple[int, bool]]:
    """System-scope write-backs: position, and whether a wait comes before the next memory access."""
    for position, instruction in enumerate(instructions):
        if instruction != target.write_back:
            continue
        for following in instructions[position + 1 :]:
            if re.match(target.store_wait, following):
                yield position, True
                break
            if VECTOR_MEMORY.match(following) or BRANCH.match(following):
                yield position, False
                break


@needs_objdump
@on_every_target
def test_a_release_waits_for_its_write_back(target: Target) -> None:
    """clang 22.1 drops this wait on gfx9 (llvm/llvm-project#178316); kernels/arch/amdgcn.h puts it back."""
    problems = []
    for file, name, instructions in all_instructions(target):
        if target.write_back is not None:
            found = list(releases(target, instructions))
            # one for the fault record, one for the wipe's signals, one for the kernel's own
            assert len(found) >= 1 + (file not in WITHOUT_EPOCH) + (file in SIGNALLING), name
            problems += [f"{name}: at {position}" for position, waited in found if not waited]
    assert not problems, failures(problems)


def reached(target: Target, program: Program, starts: Collection[int], blocked_by: str) -> set[int]:
    """Positions that some path from one of `starts` leads to before the next barrier. Paths end at
    instructions that match `blocked_by`; a barrier is reached, and ends them too."""
    found: set[int] = set()
    todo = list(starts)
    while todo:
        position = todo.pop()
        if position in starts or program.text[position].split()[0] != target.barrier:
            for following in program.successors(position):
                if following not in found and not re.match(blocked_by, program.text[following]):
                    found.add(following)
                    todo.append(following)
    return found


def is_no_access(instruction: str) -> bool:
    return not VECTOR_MEMORY.match(instruction)


def signal_releases(target: Target, text: list[str]) -> set[int]:
    """Write-backs that a signal follows: an 8-byte word, where the fault record has 4 bytes. The scrub's
    is a fence, with an invalidate behind it; a line may follow."""
    accesses = [(i, instruction) for i, instruction in enumerate(text) if VECTOR_MEMORY.match(instruction)]
    following = {
        i: next((t for at, t in accesses if at > i), "") for i, t in enumerate(text) if t == target.write_back
    }
    fences = {
        i for i in following if target.invalidates[0] in itertools.takewhile(is_no_access, text[i + 1 :])
    }
    return {i for i, instruction in following.items() if STORE_64.match(instruction)} - fences


@needs_objdump
@on_every_target
def test_stores_are_complete_when_one_wave_signals(target: Target) -> None:
    """One wave signals for all waves of its block, so at the barrier in front of a release the stores of
    every wave must be complete."""
    problems = []
    for file, name, program in programs(target):
        text = program.text
        stores = {i for i, instruction in enumerate(text) if STORE.match(instruction)}
        barriers = [i for i, instruction in enumerate(text) if instruction.split()[0] == target.barrier]
        assert stores and barriers, name
        unfinished = reached(target, program, stores, blocked_by=target.store_wait)
        if target.write_back is None:  # a release shows as nothing but its wait: scrub, and signal
            waited = [i for i in barriers if re.match(target.store_wait, text[i - 1])]
            assert len(waited) >= (2 if file in STAGING - OWN_RESULTS else 1), name
            continue
        releases_of_signals = signal_releases(target, text)
        assert releases_of_signals, name
        for barrier in barriers:
            released = reached(target, program, [barrier], blocked_by="never")
            if barrier in unfinished and released & releases_of_signals:
                problems.append(f"{name}: at {barrier}")
    assert not problems, failures(problems)


@needs_objdump
@on_every_target
def test_an_acquire_invalidates(target: Target) -> None:
    """Whoever has waited for a signal drops the copies that the caches hold. Every kernel with an epoch has
    two more such places, in the wipe of old flags (kernels/launch/epoch.h): a fence, and a wait."""
    first, *rest = target.invalidates
    for file, name, instructions in all_instructions(target):
        places = [i for i, instruction in enumerate(instructions) if instruction == first]
        expected = (file in SIGNALLING) + 2 * (file not in WITHOUT_EPOCH)
        assert len(places) >= expected, f"{name}: {len(places)} places"
        for i in places:
            assert instructions[i + 1 : i + 1 + len(rest)] == rest, f"{name}: at {i}"


@needs_objdump
@on_every_target
def test_flat_instructions_move_no_data(target: Target) -> None:
    """An access whose address space the compiler does not know occupies LDS and memory path both. Left are
    the word that says that the block has failed, and the fault record."""
    problems = []
    for _, name, instructions in all_instructions(target, without=set()):
        for instruction in instructions:
            assert not instruction.startswith(("scratch_", "s_swappc", "s_setpc")), f"{name}: {instruction}"
            opcode = instruction.split()[0]
            if opcode.startswith("flat_load") and opcode not in ("flat_load_dword", "flat_load_b32"):
                problems.append(f"{name}: {instruction}")
            if opcode.startswith("flat_store") and not opcode.endswith(
                ("_dword", "_b32", "_dwordx2", "_b64")
            ):
                problems.append(f"{name}: {instruction}")
            if opcode.startswith("flat_atomic"):
                problems.append(f"{name}: {instruction}")
    assert not problems, failures(problems)


@needs_objdump
@on_every_target
def test_waits_read_the_constant_clock(target: Target) -> None:
    """The clock that hipDeviceAttributeWallClockRate tells the rate of, not the shader's own."""
    for _, name, instructions in all_instructions(target):
        text = "\n".join(instructions)
        assert ("s_memrealtime" in text) != ("sendmsg(MSG_RTN_GET_REALTIME)" in text), name
        assert not re.search(r"\b(s_memtime|s_get_shader_cycles)|SHADER_CYCLES", text), name
