"""The mutations: what is taken out of the kernels, and the calls in which it should be missed."""

from __future__ import annotations

from typing import NamedTuple


class Scenario(NamedTuple):
    """Calls that explore.py makes.

    Attributes:
        kernels: the code objects that they run.
        arguments: explore.py's.
    """

    kernels: tuple[str, ...]
    arguments: tuple[str, ...]


SCENARIOS = {
    "two_shot": Scenario(("all_reduce_two_shot_sum",), ("all_reduce", "two_shot", "--count", "500")),
    "one_shot": Scenario(("all_reduce_one_shot_sum",), ("all_reduce", "one_shot", "--count", "300")),
    "staged": Scenario(("all_reduce_staged_sum",), ("all_reduce", "staged", "--count", "500")),
    "broadcast, pipelined": Scenario(("broadcast_pipelined",), ("broadcast", "pipelined", "--count", "1000")),
    "send, long": Scenario(("send", "recv"), ("send", "--count", "20000", "--batch", "4")),
    "direct": Scenario(("all_gather_direct",), ("all_gather", "direct", "--count", "1001", "--registered")),
    "direct reduction": Scenario(
        ("all_reduce_direct_sum",), ("all_reduce", "direct", "--count", "1001", "--registered")
    ),
}


class Mutation(NamedTuple):
    """A change of the kernels.

    Attributes:
        name: short.
        what: what is no longer there.
        changes: file, the text in it that is there once, and what replaces it.
        scenarios: in which it is looked for, one after the other.
        why: why it is not found; empty: it has to be.
        arch: the target.
        settings: of the software GPU, more than usual.
    """

    name: str
    what: str
    changes: tuple[tuple[str, str, str], ...]
    scenarios: tuple[str, ...]
    why: str = ""
    arch: str = "gfx942"
    settings: str = ""


AMD = "kernels/arch/amdgcn.h"
GPU = "kernels/arch/gpu.h"
SIGNAL = "kernels/launch/signal.h"
BARRIER_RELEASE = '    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");\n'
BARRIER_ACQUIRE = (
    '    __builtin_amdgcn_s_barrier();\n    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");\n'
)
SYSTEM_RELEASE = '    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "");\n    wait_for_memory();\n'

POLL = (
    "DEVICE uint64_t load_relaxed(const uint64_t* p) {\n"
    "    return __scoped_atomic_load_n((const GLOBAL(uint64_t)*)p, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);"
)

MUTATIONS = (
    Mutation(
        "barrier-wait",
        "the stores of all waves, before one wave's signal: `wait_for_memory()` of `block_barrier()`",
        ((AMD, BARRIER_RELEASE + "    wait_for_memory();\n", BARRIER_RELEASE),),
        ("staged", "send, long"),
    ),
    Mutation(
        "barrier-wait-gfx90a",
        "the same",
        ((AMD, BARRIER_RELEASE + "    wait_for_memory();\n", BARRIER_RELEASE),),
        ("broadcast, pipelined",),
        arch="gfx90a",
    ),
    Mutation(
        "barrier-release",
        "stores to LDS, before the barrier: the release fence of `block_barrier()`",
        ((AMD, BARRIER_RELEASE, ""),),
        ("two_shot",),
    ),
    Mutation(
        "barrier-acquire",
        "the acquire fence of `block_barrier()`",
        ((AMD, BARRIER_ACQUIRE, "    __builtin_amdgcn_s_barrier();\n"),),
        ("two_shot", "staged"),
        why="the waves of a block share their L1; it only forbids the compiler to move loads",
    ),
    Mutation(
        "barrier",
        "the `s_barrier` of `block_barrier()`",
        ((AMD, "    __builtin_amdgcn_s_barrier();\n", ""),),
        ("two_shot",),
    ),
    Mutation(
        "release",
        "the write-back: the fence of `release_system()`",
        ((AMD, SYSTEM_RELEASE, "    wait_for_memory();\n"),),
        ("direct",),
    ),
    Mutation(
        "release-wait",
        "the wait for the write-back, which clang 22.1 loses",
        ((AMD, SYSTEM_RELEASE, SYSTEM_RELEASE.replace("    wait_for_memory();\n", "")),),
        ("direct", "send, long"),
    ),
    Mutation(
        "signal-release",
        "the release of a signal",
        ((SIGNAL, "    store_release(signal_slot(", "    store_relaxed(signal_slot("),),
        ("direct",),
    ),
    Mutation(
        "signal-barrier",
        "the barrier of `signal_peers()`: one wave signals for all",
        ((SIGNAL, "    block_barrier(); /* the stores of all threads come before the one release */\n", ""),),
        ("staged",),
    ),
    Mutation(
        "wait-barrier",
        "the barrier of `wait_for_peers()`: one wave waits for all",
        (
            (
                SIGNAL,
                "    block_barrier(); /* the acquires of a few threads come before the loads of all */\n",
                "",
            ),
        ),
        ("staged",),
    ),
    Mutation(
        "acquire",
        "the acquire behind the poll",
        ((SIGNAL, "    });\n    acquire_system();\n", "    });\n"),),
        ("direct reduction",),
    ),
    Mutation(
        "poll-scope",
        "system scope of polls and of line loads: workgroup scope",
        ((GPU, POLL, POLL.replace("SCOPE_SYSTEM", "SCOPE_WRKGRP")),),
        ("one_shot",),
    ),
    Mutation(
        "poll-scope-device",
        "the same: device scope",
        ((GPU, POLL, POLL.replace("SCOPE_SYSTEM", "SCOPE_DEVICE")),),
        ("one_shot", "staged"),
        why="the control slab is uncached: nothing that the L2 has could be old",
    ),
)
