"""Litmus tests of the weak memory: what may be seen is seen, what may not is not.

First the tests of litmus.py, by scope and by instruction. Expected is what LLVM's guide says of these
instructions, and what has been published: relaxed accesses of AMD's GPUs show the weak outcomes of MP, S, LB,
SB, R and 2+2W, and one location is coherent (Alglave et al., ASPLOS 2015; Levine et al., ISSTA 2023).

Then message passing with a loop that polls, as the kernels do. Two blocks of one thread. Words 0 and 64 of
the buffer are data and flag, in lines of their own; the reader leaves what it has seen in word 128.
"""

from __future__ import annotations

import shutil

import pytest
from assembly import LIBRARY, assemble
from litmus import NEVER, OFTEN, WEAK, Level, is_seen, results

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="run `make amd-software`"),
    pytest.mark.skipif(shutil.which("clang-22") is None, reason="no clang-22 to assemble with"),
]
LAUNCHES = 2000

RELAXED = {"MP", "SB", "LB", "S", "R", "2+2W", "IRIW"}  # all but coherence
STALE = {"MP", "SB", "R", "IRIW"}  # what an old copy in a cache can do
STALE_AND_LATE = STALE | {"S", "2+2W"}  # and what stores can that stay in an L2
NOTHING: set[str] = set()
GFX9 = "s_waitcnt vmcnt(0)"
GFX12 = "s_wait_loadcnt 0\ns_wait_storecnt 0"
BOTH, AGENT, GROUP = "sc0 sc1", "sc1", "sc0"
SYSTEM, DEVICE, SE = "scope:SCOPE_SYS", "scope:SCOPE_DEV", "scope:SCOPE_SE"
FENCE_942 = f"buffer_wbl2 sc0 sc1\n{GFX9}\nbuffer_inv sc0 sc1"
FENCE_90A = f"buffer_wbl2\n{GFX9}\nbuffer_invl2\nbuffer_wbinvl1_vol"
FENCE_1201 = f"global_wb {SYSTEM}\n{GFX12}\nglobal_inv {SYSTEM}\ns_wait_loadcnt 0"

# What is seen of the weak outcomes. A fence does not make plain stores visible to all at once: in IRIW a
# reader sees what its own device's L2 has.
LEVELS: dict[str, tuple[str, Level, set[str]]] = {
    "gfx942, agent scope": ("gfx942", Level(AGENT, AGENT), RELAXED),
    "gfx942, agent scope, waits": ("gfx942", Level(AGENT, AGENT, GFX9), NOTHING),
    "gfx942, workgroup scope across blocks, waits": ("gfx942", Level(GROUP, GROUP, GFX9), STALE),
    "gfx942, system scope, two devices": ("gfx942", Level(BOTH, BOTH, "", 2), RELAXED),
    "gfx942, system scope, two devices, waits": ("gfx942", Level(BOTH, BOTH, GFX9, 2), NOTHING),
    "gfx942, agent scope, two devices, waits": ("gfx942", Level(AGENT, AGENT, GFX9, 2), STALE_AND_LATE),
    "gfx942, agent scope, two devices, uncached, waits": (
        "gfx942",
        Level(AGENT, AGENT, GFX9, 2, True),
        NOTHING,
    ),
    "gfx942, loads of agent scope, two devices, waits": ("gfx942", Level(AGENT, BOTH, GFX9, 2), STALE),
    "gfx942, plain, two devices, fences": ("gfx942", Level("", "", FENCE_942, 2), {"IRIW"}),
    "gfx90a, glc": ("gfx90a", Level("glc", ""), RELAXED),
    "gfx90a, glc, waits": ("gfx90a", Level("glc", "", GFX9), NOTHING),
    "gfx90a, no glc, waits": ("gfx90a", Level("", "", GFX9), STALE),
    "gfx90a, glc, two devices, cached, waits": ("gfx90a", Level("glc", "", GFX9, 2), STALE_AND_LATE),
    "gfx90a, glc, two devices, uncached, waits": ("gfx90a", Level("glc", "", GFX9, 2, True), NOTHING),
    "gfx90a, no glc, two devices, uncached, waits": ("gfx90a", Level("", "", GFX9, 2, True), STALE),
    "gfx90a, plain, two devices, fences": ("gfx90a", Level("", "", FENCE_90A, 2), {"IRIW"}),
    "gfx1201, device scope": ("gfx1201", Level(DEVICE, DEVICE), RELAXED),
    "gfx1201, device scope, waits": ("gfx1201", Level(DEVICE, DEVICE, GFX12), NOTHING),
    "gfx1201, CU scope, waits": ("gfx1201", Level("", "", GFX12), STALE),
    "gfx1201, SE scope, waits": ("gfx1201", Level(SE, SE, GFX12), NOTHING),
    "gfx1201, system scope, two devices": ("gfx1201", Level(SYSTEM, SYSTEM, "", 2), RELAXED),
    "gfx1201, system scope, two devices, waits": ("gfx1201", Level(SYSTEM, SYSTEM, GFX12, 2), NOTHING),
    "gfx1201, device scope, two devices, waits": ("gfx1201", Level(DEVICE, DEVICE, GFX12, 2), STALE_AND_LATE),
    "gfx1201, loads of device scope, two devices, waits": ("gfx1201", Level(DEVICE, SYSTEM, GFX12, 2), STALE),
    "gfx1201, plain, two devices, fences": ("gfx1201", Level("", "", FENCE_1201, 2), {"IRIW"}),
}


@pytest.mark.parametrize("name", LEVELS)
def test_level(name: str) -> None:
    arch, level, expected = LEVELS[name]
    seen = {test for test in WEAK if is_seen(arch, level, test, OFTEN if test in expected else NEVER)}
    assert seen == expected


# s4 becomes the number of the block; the flag is 7 once it is set. Before, both are 0.
MESSAGE = """
s_mov_b32 s4, s2
s_load_dwordx2 s[2:3], s[0:1], 0x0
v_mov_b32_e32 v1, 0
v_mov_b32_e32 v2, 7
s_waitcnt lgkmcnt(0)
s_cmp_eq_u32 s4, 0
s_cbranch_scc0 .Lreader
global_store_dword v1, v2, s[2:3] {store}
{release}
global_store_dword v1, v2, s[2:3] offset:256 sc0 sc1
s_endpgm
.Lreader:
{early}
.Lpoll:
s_sleep 0
global_load_dword v3, v1, s[2:3] offset:256 sc0 sc1
s_waitcnt vmcnt(0)
v_readfirstlane_b32 s5, v3
s_cmp_eq_u32 s5, 7
s_cbranch_scc0 .Lpoll
{acquire}
global_load_dword v4, v1, s[2:3] {load}
s_waitcnt vmcnt(0)
global_store_dword v1, v4, s[2:3] offset:512
s_endpgm
"""
RELEASE = "buffer_wbl2 sc0 sc1\ns_waitcnt vmcnt(0)"
ACQUIRE = "buffer_inv sc0 sc1"
EARLY = "global_load_dword v5, v1, s[2:3]\ns_waitcnt vmcnt(0)"  # may leave a line in the reader's L1


def seen(**parts: str) -> set[int]:
    """What the reader has seen of the data."""
    defaults = {"store": "", "release": "", "acquire": "", "load": "", "early": ""}
    text = MESSAGE.format(**(defaults | parts))
    image = assemble("gfx942", text, directives="  .amdhsa_system_sgpr_workgroup_id_x 1")
    outcomes = results("gfx942", image, blocks=2, threads=1, words=range(128, 129), launches=LAUNCHES)
    return {word for (word,) in outcomes}


def test_message_passing() -> None:
    assert seen(store="sc0 sc1", release=RELEASE, acquire=ACQUIRE, load="sc0 sc1", early=EARLY) == {7}
    assert seen(release=RELEASE, acquire=ACQUIRE, early=EARLY) == {7}


def test_message_without_a_release() -> None:
    assert 0 in seen(store="sc0 sc1", acquire=ACQUIRE, load="sc0 sc1")


def test_message_without_the_wait_for_the_write_back() -> None:
    assert 0 in seen(release="buffer_wbl2 sc0 sc1", acquire=ACQUIRE)


def test_message_without_an_acquire() -> None:
    assert 0 in seen(store="sc0 sc1", release=RELEASE, early=EARLY)


def test_message_without_an_acquire_past_the_caches() -> None:
    assert seen(store="sc0 sc1", release=RELEASE, load="sc0 sc1", early=EARLY) == {7}
