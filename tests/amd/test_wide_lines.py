"""Wider lines: which flags in data hold on the memory model, and which do not.

Eight threads of one block write 16 bytes each, those of another poll for the flags and keep what came with
them. The model promises that an access of up to 8 aligned bytes is not torn, and nothing of wider ones or of
the lanes of one instruction. So a flag in every 8 bytes is sound (NCCL's LL, with 16-byte accesses), one in
16 bytes or one for a wave's 128 bytes (LL128) is not: docs/amd.md, section 9.
"""

from __future__ import annotations

import shutil
import sys

import pytest
from assembly import LIBRARY, assemble
from litmus import results
from run import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from plans import make_plan

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="run `make amd-software`"),
    pytest.mark.skipif(shutil.which("clang-22") is None, reason="no clang-22 to assemble with"),
]
LAUNCHES = 1500
THREADS, DATA, FLAG = 8, 5, 7
KEPT = 128  # the word from which the reader keeps four words of each thread

# Which of a thread's four words are flags, and of which thread.
LAYOUTS = {
    "a flag in every 8 bytes": dict.fromkeys(range(THREADS), (1, 3)),
    "a flag in every 16 bytes": dict.fromkeys(range(THREADS), (3,)),
    "a flag in 128 bytes": {THREADS - 1: (3,)},
}


def kernel(arch: str, flags: dict[int, tuple[int, ...]]) -> bytes:
    """Block 0 writes, block 1 reads. Registers v4 to v7 are a thread's four words."""
    is_gfx12 = arch == "gfx1201"
    scope = {"gfx90a": ("", " glc"), "gfx1201": (" scope:SCOPE_SYS",) * 2}.get(arch, (" sc0 sc1",) * 2)
    wide = "b128" if is_gfx12 else "dwordx4"
    wait = "s_wait_loadcnt 0" if is_gfx12 else "s_waitcnt vmcnt(0)"
    lines = [f"s_mov_b32 s4, {'ttmp9' if is_gfx12 else 's2'}"]
    lines += [f"s_load_{'b64' if is_gfx12 else 'dwordx2'} s[2:3], s[0:1], 0x0", "v_lshlrev_b32_e32 v1, 4, v0"]
    lines += ["s_wait_kmcnt 0" if is_gfx12 else "s_waitcnt lgkmcnt(0)", "s_cmp_eq_u32 s4, 1"]
    lines.append("s_cbranch_scc1 .Lreader")
    lines += [f"v_mov_b32_e32 v{4 + word}, {DATA}" for word in range(4)]
    for thread, words in flags.items():
        for word in words:
            lines += [f"s_mov_b32 s5, {FLAG}", f"v_writelane_b32 v{4 + word}, s5, {thread}"]
    lines += [
        "s_nop 4",
        f"global_store_{wide} v1, v[4:7], s[2:3]{scope[0]}",
        "s_endpgm",
        ".Lreader:",
        "s_sleep 0",
    ]
    lines += [f"global_load_{wide} v[4:7], v1, s[2:3]{scope[1]}", wait]
    for thread, words in flags.items():
        for word in words:
            lines += [f"v_readlane_b32 s5, v{4 + word}, {thread}", f"s_cmp_lg_u32 s5, {FLAG}"]
            lines.append("s_cbranch_scc1 .Lreader")
    lines += [f"global_store_{wide} v1, v[4:7], s[2:3] offset:{4 * KEPT}", "s_endpgm"]
    return assemble(arch, "\n".join(lines), directives="  .amdhsa_system_sgpr_workgroup_id_x 1")


def is_torn(arch: str, layout: str) -> bool:
    """Whether flags have come without their data, in some launch."""
    flags = LAYOUTS[layout]
    words = range(KEPT, KEPT + 4 * THREADS)
    wanted = tuple(
        FLAG if word in flags.get(thread, ()) else DATA for thread in range(THREADS) for word in range(4)
    )
    image = kernel(arch, flags)
    return results(arch, image, blocks=2, threads=THREADS, words=words, launches=LAUNCHES, uncached=True) != {
        wanted
    }


@pytest.mark.parametrize("arch", ("gfx90a", "gfx942", "gfx1201"))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(layout: str, arch: str) -> None:
    assert is_torn(arch, layout) == (layout != "a flag in every 8 bytes")


@pytest.mark.parametrize("arch", ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201"))
def test_no_amd_gpu_gets_lines_with_a_flag_in_16_bytes(arch: str) -> None:
    """A part of a line is one 64-bit word, and no plan has wide lines."""
    header = (ROOT / "kernels" / "arch" / "amdgcn.h").read_text()
    assert "constexpr uint32_t kPartBytes = 8;" in header
    for world in (2, 4, 8):
        plans = [make_plan("all_reduce", 16 << shift, world, arch) for shift in range(20)]
        assert {plan.unit_bytes for plan in plans} == {0, 16}  # of lines: a pack in four words
        assert all(plan.line_packs <= 1 for plan in plans)
