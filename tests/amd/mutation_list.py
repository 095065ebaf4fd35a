"""The mutations: what is taken out of the kernels, and the calls in which it should be missed."""

from __future__ import annotations

from typing import NamedTuple


class Scenario(NamedTuple):
    """Calls that explore.py makes.

    Attributes:
        kernels: the code objects that they run.
        arguments: explore.py's.
        calls: from each seed, if they take long, and none with delay=each; 0: as many as usual.
    """

    kernels: tuple[str, ...]
    arguments: tuple[str, ...]
    calls: int = 0


SCENARIOS = {
    "two_shot": Scenario(("all_reduce_two_shot_sum",), ("all_reduce", "two_shot", "--count", "500")),
    "one_shot": Scenario(("all_reduce_one_shot_sum",), ("all_reduce", "one_shot", "--count", "300")),
    "staged": Scenario(("all_reduce_staged_sum",), ("all_reduce", "staged", "--count", "500")),
    "broadcast, pipelined": Scenario(("broadcast_pipelined",), ("broadcast", "pipelined", "--count", "1000")),
    "send, long": Scenario(("send", "recv"), ("send", "--count", "20000", "--batch", "4")),
    "send, cached staging": Scenario(
        ("send", "recv"), ("send", "--count", "20000", "--batch", "4", "--cached-staging")
    ),
    "staged, cached staging": Scenario(
        ("all_reduce_staged_sum",), ("all_reduce", "staged", "--count", "500", "--cached-staging")
    ),
    "broadcast, cached staging": Scenario(
        ("broadcast_pipelined",), ("broadcast", "pipelined", "--count", "1000", "--cached-staging")
    ),
    "exchange, wipe": Scenario(
        ("exchange",),
        ("all_to_all", "one_shot", "--count", "9000", "--dtype", "uint8", "--batch", "2", "--wipe"),
    ),
    "direct": Scenario(("all_gather_direct",), ("all_gather", "direct", "--count", "1001", "--registered")),
    "direct reduction, unaligned": Scenario(  # read with plain loads
        ("all_reduce_direct_sum",),
        ("all_reduce", "direct", "--count", "500", "--registered", "--offset", "4"),
    ),
    "send, ring": Scenario(("send", "recv"), ("send", "--count", "500000", "--batch", "2"), calls=8),
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

STORE = POLL.replace(
    "uint64_t load_relaxed(const uint64_t* p)", "void store_relaxed(uint64_t* p, uint64_t v)"
).replace(
    "return __scoped_atomic_load_n((const GLOBAL(uint64_t)*)p,",
    "__scoped_atomic_store_n((GLOBAL(uint64_t)*)p, v,",
)
STAGED_LOAD = (
    "    const uint64_t low = __scoped_atomic_load_n(words, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);\n"
    "    const uint64_t high = __scoped_atomic_load_n(words + 1, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);\n"
)
STAGED_STORE = (
    "    __scoped_atomic_store_n(words, uint64_t(pack[1]) << 32 | pack[0], __ATOMIC_RELAXED,\n"
    "                            __MEMORY_SCOPE_SYSTEM);\n"
    "    __scoped_atomic_store_n(words + 1, uint64_t(pack[3]) << 32 | pack[2], __ATOMIC_RELAXED,\n"
    "                            __MEMORY_SCOPE_SYSTEM);\n"
)
ACQUIRE = "    });\n    acquire_system();\n"
SYSTEM_ACQUIRE = "__scoped_atomic_thread_fence(__ATOMIC_ACQUIRE, __MEMORY_SCOPE_SYSTEM)"
SEND, RECV = "kernels/messages/send.hip", "kernels/messages/recv.hip"
DIRECT = "kernels/direct/rank_buffers.h"
MEETING = "    signal_peers(launch, 0, 0);\n    if (wait_for_peers(launch, 0, 0)) return;\n"
WRITTEN_THROUGH = "what is sent is written through, and `block_barrier()` has waited for it"

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
    Mutation(
        "poll-scope-gfx1201",
        "system scope of polls and of line loads: CU scope",
        ((GPU, POLL, POLL.replace("SCOPE_SYSTEM", "SCOPE_WVFRNT")),),
        ("one_shot",),
        arch="gfx1201",
    ),
    Mutation(
        "store-scope",
        "system scope of line and signal stores: device scope",
        ((GPU, STORE, STORE.replace("SCOPE_SYSTEM", "SCOPE_DEVICE")),),
        ("one_shot", "staged"),
        why="the control slab is uncached: the L2 keeps no store to it",
    ),
    Mutation(
        "staged-store-scope",
        "system scope of stores to staging memory: device scope",
        ((AMD, STAGED_STORE, STAGED_STORE.replace("SCOPE_SYSTEM", "SCOPE_DEVICE")),),
        ("staged",),
        why="the signal's release writes the L2 back",
    ),
    Mutation(
        "staged-store-scope-and-release",
        "the same, and the release",
        (
            (AMD, STAGED_STORE, STAGED_STORE.replace("SCOPE_SYSTEM", "SCOPE_DEVICE")),
            (AMD, SYSTEM_RELEASE, "    wait_for_memory();\n"),
        ),
        ("staged",),
    ),
    Mutation(
        "staged-load-scope",
        "system scope of loads from staging memory: workgroup scope",
        ((AMD, STAGED_LOAD, STAGED_LOAD.replace("SCOPE_SYSTEM", "SCOPE_WRKGRP")),),
        ("staged",),
        why="the acquire behind the poll invalidates the L1, and a peer's write the L2's line",
    ),
    Mutation(
        "staged-load-scope-and-acquire",
        "the same, and the acquire",
        (
            (AMD, STAGED_LOAD, STAGED_LOAD.replace("SCOPE_SYSTEM", "SCOPE_WRKGRP")),
            (SIGNAL, ACQUIRE, "    });\n"),
        ),
        ("staged",),
    ),
    Mutation(
        "parity",
        "the second copy of lines, signals and staging memory",
        (("kernels/launch/launch.h", "return epoch & 1;", "return 0;"),),
        ("one_shot",),
    ),
    Mutation(
        "parity-staged",
        "the same",
        (("kernels/launch/launch.h", "return epoch & 1;", "return 0;"),),
        ("staged",),
    ),
    Mutation(
        "wipe-meeting",
        "the meeting of all ranks behind the wipe of old flags",
        (("kernels/launch/epoch.h", MEETING, "    return;\n"),),
        ("exchange, wipe",),
        settings="cus=4",
    ),
    Mutation(
        "entry",
        "the wait at a direct kernel's entry: it begins before its peers have entered",
        ((DIRECT, "        wait_for_signal(launch, peer, kEntered, 1);\n", ""),),
        ("direct reduction",),
    ),
    Mutation(
        "exit",
        "the wait at a direct kernel's exit",
        ((DIRECT, "    if (wait_for_peers(launch, kLeaving, 1)) return;\n", "    return;\n"),),
        ("direct reduction",),
    ),
    Mutation(
        "arrived-release",
        "the release of ARRIVED, in send",
        ((SEND, "        store_release(arrived_words(", "        store_relaxed(arrived_words("),),
        ("send, long",),
        why=WRITTEN_THROUGH,
    ),
    Mutation(
        "arrived-release-gfx90a",
        "the same, with staging memory cached",
        ((SEND, "        store_release(arrived_words(", "        store_relaxed(arrived_words("),),
        ("send, cached staging",),
        arch="gfx90a",
    ),
    Mutation(
        "arrived-barrier",
        "the barrier before ARRIVED, in send",
        ((SEND, "    block_barrier(); /* the stores of all threads come before the one release */\n", ""),),
        ("send, long",),
    ),
    Mutation(
        "arrived-acquire",
        "the acquire behind the poll of ARRIVED, in recv",
        ((RECV, "        });\n        acquire_system();\n", "        });\n"),),
        ("send, long",),
        why="the loads that follow are of system scope",
    ),
    Mutation(
        "chunk-barrier",
        "the barrier behind the poll of ARRIVED, in recv",
        ((RECV, "    block_barrier(); /* the acquire of one thread comes before the loads of all */\n", ""),),
        ("send, long",),
    ),
    Mutation(
        "taken-barrier",
        "the barrier before TAKEN, in recv",
        ((RECV, "    block_barrier(); /* the loads of all threads come before the cell is free */\n", ""),),
        ("send, ring",),
        settings="cus=64",
    ),
    Mutation(
        "taken-release",
        "the release of TAKEN, in recv",
        ((RECV, "        store_release(taken_words(", "        store_relaxed(taken_words("),),
        ("send, ring",),
        why="it tells of loads, whose values have been used",
        settings="cus=64",
    ),
    Mutation(
        "taken-acquire",
        "the acquire behind the poll of TAKEN, in send",
        ((SEND, "        });\n        acquire_system();\n", "        });\n"),),
        ("send, ring",),
        why="only stores follow, and none is issued before the poll's load is complete",
        settings="cus=64",
    ),
    Mutation(
        "room-barrier",
        "the barrier behind the poll of TAKEN, in send",
        (
            (
                SEND,
                "        acquire_system();\n    }\n    block_barrier();\n",
                "        acquire_system();\n    }\n",
            ),
        ),
        ("send, ring",),
        settings="cus=64",
    ),
    Mutation(
        "cached-staging-pcie",
        "uncached staging memory on gfx90a over PCIe",
        (),
        ("broadcast, cached staging",),
        arch="gfx90a",
        settings="link=pcie",
    ),
    Mutation(
        "cached-staging-xgmi",
        "the same over xGMI",
        (),
        ("broadcast, cached staging",),
        why="a peer's write invalidates the owner's line, and the signal's release writes the peer's L2 back",
        arch="gfx90a",
    ),
    Mutation(
        "cached-staging-gfx11",
        "uncached staging memory on gfx11: gfx90a's kernels without what gfx11 has no instruction for, the "
        "L2's write-back and invalidation, and without probes",
        (
            (AMD, SYSTEM_RELEASE, "    wait_for_memory();\n"),
            (GPU, SYSTEM_ACQUIRE, SYSTEM_ACQUIRE.replace("SCOPE_SYSTEM", "SCOPE_DEVICE")),
        ),
        ("staged, cached staging",),
        arch="gfx90a",
        settings="link=pcie",
    ),
    Mutation(
        "release-gfx1201",
        "the write-back: the fence of `release_system()`",
        ((AMD, SYSTEM_RELEASE, "    wait_for_memory();\n"),),
        ("direct",),
        arch="gfx1201",
    ),
    Mutation(
        "acquire-gfx1201",
        "the acquire behind the poll",
        ((SIGNAL, ACQUIRE, "    });\n"),),
        ("direct reduction",),
        arch="gfx1201",
    ),
    Mutation(
        "signal-barrier-gfx1201",
        "the barrier of `signal_peers()`",
        ((SIGNAL, "    block_barrier(); /* the stores of all threads come before the one release */\n", ""),),
        ("staged",),
        arch="gfx1201",
    ),
    Mutation(
        "barrier-acquire-gfx1201",
        "the acquire fence of `block_barrier()`",
        ((AMD, BARRIER_ACQUIRE, "    __builtin_amdgcn_s_barrier();\n"),),
        ("direct reduction, unaligned",),
        arch="gfx1201",
    ),
    Mutation(
        "wipe-fence",
        "the fence behind the wipe",
        (
            (
                "kernels/launch/epoch.h",
                "    fence_system(); /* before the signal, and anything else that this block sends */\n",
                "",
            ),
        ),
        ("exchange, wipe",),
        why="`block_barrier()` has waited for the wipe, and the signal releases",
        settings="cus=4",
    ),
    Mutation(
        "end-barrier",
        "the barrier of `end_launch()`",
        (
            (
                "kernels/launch/epoch.h",
                "    block_barrier(); /* thread 0 of a fast warp must not advance the word before a slow "
                "warp reads it */\n",
                "",
            ),
        ),
        ("staged",),
        why="`block_barrier()` of `begin_launch()` has waited for the load of the word",
    ),
)
