"""Litmus tests of the weak memory: what may be seen is seen from some seed, what may not from none.

Two blocks of one thread. Words 0 and 64 of the buffer are data and flag, in lines of their own; the reader
leaves what it has seen in word 128.
"""

from __future__ import annotations

import shutil

import pytest
from assembly import LIBRARY, assemble, launch

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="run `make amd-software`"),
    pytest.mark.skipif(shutil.which("clang-22") is None, reason="no clang-22 to assemble with"),
]
SEEDS = range(1, 65)

# s4 becomes the number of the block; the flag is 7 once it is set. Before, word 0 is 0, and word 64 is not 7.
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
    """What the reader has seen of the data, over all seeds."""
    defaults = {"store": "", "release": "", "acquire": "", "load": "", "early": ""}
    text = MESSAGE.format(**(defaults | parts))
    image = assemble("gfx942", text, directives="  .amdhsa_system_sgpr_workgroup_id_x 1")
    outcomes = [launch("gfx942", image, blocks=2, threads=1, settings=f",seed={seed}") for seed in SEEDS]
    assert {outcome.fault for outcome in outcomes} == {""}
    return {outcome.words[128] for outcome in outcomes}


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
