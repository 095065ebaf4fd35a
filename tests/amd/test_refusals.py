"""The GPU in software refuses what it does not know and what would be wrong on the chip.

Each case plants one fault.
"""

from __future__ import annotations

import io
import shutil

import pytest
from assembly import LIBRARY, assemble, launch
from elftools.elf.elffile import ELFFile

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="run `make amd-software`"),
    pytest.mark.skipif(shutil.which("clang-22") is None, reason="no clang-22 to assemble with"),
]

# s[2:3] is the buffer's address, v1 this thread's offset in it, v2 a word of it.
START = """
s_load_dwordx2 s[2:3], s[0:1], 0x0
v_lshlrev_b32_e32 v1, 2, v0
s_waitcnt lgkmcnt(0)
global_load_dword v2, v1, s[2:3]
s_waitcnt vmcnt(0)
"""
END = "\ns_endpgm\n"


def fault_of(body: str, arch: str = "gfx942", **options: object) -> str:
    """What is said of START, the body, and END."""
    return launch(arch, assemble(arch, START + body + END, **options)).fault  # type: ignore[arg-type]


def test_nothing_is_wrong_with_the_rest() -> None:
    outcome = launch(
        "gfx942",
        assemble("gfx942", START + "v_add_u32_e32 v2, 5, v2\nglobal_store_dword v1, v2, s[2:3]" + END),
    )
    assert outcome.fault == ""
    assert outcome.words[:64] == [i * 0x01010101 + 5 for i in range(64)]
    assert outcome.words[64:] == [i * 0x01010101 & 0xFFFFFFFF for i in range(64, 256)]


# v5 becomes a shift's upper half: bits 0 to 4 come from v2, those above from v9, which nothing has written.
UPPER_HALF = "v_mov_b32_e32 v8, v2\nv_lshlrev_b64 v[4:5], 5, v[8:9]\n"

BODIES = {
    "an unknown instruction": ("v_sad_u8 v3, v2, v2, v2", "is not known"),
    "a clamp of what is not known to saturate": ("v_add_i32 v3, v2, v2 clamp", "is not known"),
    "scratch memory": ("scratch_load_dword v3, v1, off", "is not known"),
    "a mode register": ("s_setreg_imm32_b32 hwreg(HW_REG_MODE), 3", "is not known"),
    "LDS out of bounds": ("ds_write_b32 v1, v2", "LDS: 4 bytes at 16"),
    "a misaligned LDS access": ("v_mov_b32_e32 v4, 2\nds_read_b32 v3, v4", "misaligned"),
    "a misaligned atomic": ("v_or_b32_e32 v1, 2, v1\nglobal_atomic_add v1, v2, s[2:3]", "misaligned"),
    "a misaligned system-scope load": (
        "v_mov_b32_e32 v4, 4\nglobal_load_dwordx2 v[6:7], v4, s[2:3] sc0 sc1",
        "misaligned",
    ),
    "a vector register used first": (
        "v_add_u32_e32 v3, v2, v9\nglobal_store_dword v1, v3, s[2:3]",
        "v3 is used, and nothing that was written defines its bits 0xffffffff in lane 0",
    ),
    "a lane used first": (
        "s_mov_b64 exec, 1\nv_mov_b32_e32 v9, 0\ns_mov_b64 exec, -1\nglobal_store_dword v1, v9, s[2:3]",
        "v9 is used, and nothing that was written defines its bits 0xffffffff in lane 1",
    ),
    "a bit that a mask lets through": (
        UPPER_HALF + "v_and_b32_e32 v5, 63, v5\nglobal_store_dword v1, v5, s[2:3]",
        "v5 is used, and nothing that was written defines its bits 0x20 in lane 0",
    ),
    "an address": ("global_load_dword v3, v9, s[2:3]", "v9 is used"),
    "a choice by an undefined mask": (
        "v_cndmask_b32_e64 v3, v1, v2, s[20:21]\nglobal_store_dword v1, v3, s[2:3]",
        "v3 is used",
    ),
    "EXEC from an undefined comparison": (
        "v_cmp_eq_u32_e32 vcc, v2, v9\ns_and_saveexec_b64 s[4:5], vcc",
        "EXEC depends on bits that nothing has written",
    ),
    "EXEC from undefined registers": ("s_mov_b64 exec, s[20:21]", "EXEC depends"),
    "a branch by an undefined comparison": (
        "v_cmp_eq_u32_e32 vcc, v2, v9\ns_cbranch_vccz 0",
        "s106 is used, and nothing that was written defines its bits",
    ),
    "a scalar register used first": ("s_add_u32 s4, s20, 1\ns_load_dword s6, s[4:5], 0x0", "s4 is used"),
    "a scalar comparison": ("s_cmp_eq_u32 s20, 0\ns_cbranch_scc0 0", "SCC is read"),
    "the other half of a loaded register": (
        "global_load_short_d16 v3, v1, s[2:3]\ns_waitcnt vmcnt(0)\nglobal_store_dword v1, v3, s[2:3]",
        "v3 is used, and nothing that was written defines its bits 0xffff0000 in lane 0",
    ),
    "SCC read first": ("s_cselect_b32 s4, 1, 2", "SCC is read"),
    "VCC read first": ("s_cbranch_vccz 0", "s106 is used"),
    "a load used before its wait": (
        "global_load_dword v3, v1, s[2:3]\nv_add_u32_e32 v4, v3, v2",
        "v3 is used before the wait",
    ),
    "a wait for too few loads": (
        "global_load_dword v3, v1, s[2:3]\nglobal_load_dword v4, v1, s[2:3]\n"
        "s_waitcnt vmcnt(1)\nv_add_u32_e32 v5, v4, v2",
        "v4 is used before the wait",
    ),
    "a load's register written before its wait": (
        "global_load_dword v3, v1, s[2:3]\nv_mov_b32_e32 v3, 0",
        "v3 is written",
    ),
    "an LDS load used before its wait": (
        "v_mov_b32_e32 v4, 0\nds_read_b32 v3, v4\ns_waitcnt vmcnt(0)\nv_add_u32_e32 v4, v3, v2",
        "v3 is used before the wait",
    ),
    "a scalar load used before its wait": (
        "s_load_dword s4, s[2:3], 0x0\ns_add_u32 s5, s4, 1",
        "s4 is used before the wait",
    ),
    "scalar loads counted, which return in any order": (
        "s_load_dword s4, s[2:3], 0x0\ns_load_dword s5, s[2:3], 0x4\n"
        "s_waitcnt lgkmcnt(1)\ns_add_u32 s6, s4, 1",
        "s4 is used before the wait",
    ),
    "memory that nobody has allocated": (
        "v_mov_b32_e32 v4, 64\nv_mov_b32_e32 v5, 0\nglobal_load_dword v3, v[4:5], off",
        "nothing is allocated",
    ),
    "an access beyond the end": (
        "v_mov_b32_e32 v4, 0x400\nglobal_load_dword v3, v4, s[2:3]",
        "nothing is allocated",
    ),
    "a store to the arguments": (
        "v_mov_b32_e32 v4, 0\nglobal_store_dword v4, v2, s[0:1]",
        "argument segment",
    ),
    "a register beyond those declared": ("v_mov_b32_e32 v200, 0", "v200"),
    "no end": ("s_nop 0", "runs past its end"),
}


@pytest.mark.parametrize("name", BODIES)
def test_body(name: str) -> None:
    body, sentence = BODIES[name]
    end = "\ns_nop 0\n" if name == "no end" else END
    fault = launch("gfx942", assemble("gfx942", START + body + end, lds=16)).fault
    assert sentence in fault, fault
    assert "kernel+0x" in fault, fault  # and where


DEFINED = {
    "a mask that drops what is undefined": (
        UPPER_HALF + "v_and_b32_e32 v5, 31, v5\nglobal_store_dword v1, v5, s[2:3]"
    ),
    "a store of the defined half": ("v_lshlrev_b32_e32 v3, 16, v9\nglobal_store_short v1, v3, s[2:3]"),
    "a register moved and not used": "v_mov_b32_e32 v3, v9\nv_pk_mov_b32 v[4:5], s[20:21], v[8:9]",
    "lanes that are merged away": (
        "s_mov_b64 s[6:7], 0\ns_and_b64 s[4:5], s[20:21], s[6:7]\ns_and_saveexec_b64 s[8:9], s[4:5]"
    ),
    "a register without itself": "v_xor_b32_e32 v3, v9, v9\nglobal_store_dword v1, v3, s[2:3]",
}


@pytest.mark.parametrize("name", DEFINED)
def test_undefined_bits_that_decide_nothing(name: str) -> None:
    assert fault_of(DEFINED[name]) == ""


def test_a_mask_of_undefined_bits_gives_what_is_defined() -> None:
    body = UPPER_HALF + "v_and_b32_e32 v5, 31, v5\nglobal_store_dword v1, v5, s[2:3]"
    words = launch("gfx942", assemble("gfx942", START + body + END)).words
    assert words[:64] == [(i * 0x01010101 & 0xFFFFFFFF) >> 27 for i in range(64)]


DESCRIPTORS = {
    "other rounding": ({"directives": "  .amdhsa_float_round_mode_32 1"}, "mode bits"),
    "other rounding of float16 and float64": (
        {"directives": "  .amdhsa_float_round_mode_16_64 3"},
        "mode bits",
    ),
    "flushed denormals": ({"directives": "  .amdhsa_float_denorm_mode_32 0"}, "mode bits"),
    "no IEEE mode": ({"directives": "  .amdhsa_ieee_mode 0"}, "IEEE"),
    "scratch memory": ({"directives": "  .amdhsa_private_segment_fixed_size 16"}, "scratch"),
    "a dispatch pointer": ({"directives": "  .amdhsa_user_sgpr_dispatch_ptr 1"}, "dispatch or queue"),
    "a queue pointer": ({"directives": "  .amdhsa_user_sgpr_queue_ptr 1"}, "dispatch or queue"),
    "hidden arguments": (
        {"args": "      - {.size: 4, .offset: 8, .value_kind: hidden_block_count_x}", "kernarg": 16},
        "hidden arguments",
    ),
    "more arguments than given": ({"kernarg": 64}, "64 bytes of arguments, and 8 were given"),
}


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_descriptor(name: str) -> None:
    options, sentence = DESCRIPTORS[name]
    fault = fault_of("", **options)  # type: ignore[arg-type]
    assert sentence in fault, fault


# What writes, what reads, and how many wait states CDNA 3 wants between them.
HAZARDS = {
    "a reciprocal": ("v_rcp_f32_e32 v3, v2", "v_add_f32_e32 v4, v3, v3", 1),
    "a part of a register": (
        "v_add_u32_sdwa v2, v2, v2 dst_sel:WORD_1 dst_unused:UNUSED_PRESERVE src0_sel:DWORD src1_sel:DWORD",
        "v_add_u32_e32 v4, v2, v2",
        1,
    ),
    "a mask": ("v_cmp_eq_u32_e32 vcc, v2, v1", "v_cndmask_b32_e32 v3, v1, v2, vcc", 2),
    "a lane of a register": ("v_add_u32_e32 v3, v2, v2", "v_readfirstlane_b32 s6, v3", 1),
    "EXEC": ("v_cmpx_eq_u32_e32 vcc, v2, v2", "v_readlane_b32 s6, v2, 0", 4),
    "a scalar base": (
        "v_readfirstlane_b32 s6, v2\nv_readfirstlane_b32 s7, v2",
        "global_load_dword v3, v1, s[6:7]",
        5,
    ),
    "a division": ("v_div_scale_f32 v3, vcc, v2, v2, v2", "v_div_fmas_f32 v4, v2, v2, v2", 4),
    "a lane's number": ("v_readfirstlane_b32 s6, v2", "v_readlane_b32 s7, v2, s6", 4),
    "the data of a store": ("global_store_dwordx4 v1, v[4:7], s[2:3]", "v_mov_b32_e32 v5, 0", 2),
}


@pytest.mark.parametrize("name", HAZARDS)
def test_hazard(name: str) -> None:
    writer, reader, states = HAZARDS[name]
    padded = "v_mov_b64_e32 v[4:5], 0\nv_mov_b64_e32 v[6:7], 0\ns_nop 7\n" + writer + "\n"
    enough = f"s_nop {states - 1}\n"
    too_few = f"s_nop {states - 2}\n" if states > 1 else ""
    assert f"needs {states} wait states" in fault_of(padded + too_few + reader)
    assert "wait states" not in fault_of(padded + enough + reader)


def test_hazard_on_one_path_of_two() -> None:
    body = """
    v_cmp_eq_u32_e32 vcc, v2, v1
    s_cbranch_execz .Lfar
    s_nop 1
    .Lfar:
    v_cndmask_b32_e32 v3, v1, v2, vcc
    """
    assert "needs 2 wait states" in fault_of("s_nop 7\n" + body)


def test_another_message() -> None:
    body = "s_sendmsg sendmsg({})\ns_endpgm\n"
    assert launch("gfx1201", assemble("gfx1201", body.format("MSG_DEALLOC_VGPRS"))).fault == ""
    assert (
        "message is not known" in launch("gfx1201", assemble("gfx1201", body.format("MSG_INTERRUPT"))).fault
    )


def test_another_wave_size() -> None:
    body = "s_load_b64 s[2:3], s[0:1], 0x0\ns_wait_kmcnt 0\ns_endpgm\n"
    assert launch("gfx1201", assemble("gfx1201", body)).fault == ""
    image = assemble("gfx1201", body)
    wave64 = bytearray(image)
    wave64[_properties(image) + 1] &= ~0x04  # bit 10: ENABLE_WAVEFRONT_SIZE32
    assert "another wave size" in launch("gfx1201", bytes(wave64)).fault


def _properties(image: bytes) -> int:
    """Where the kernel descriptor's kernel_code_properties are in the file."""
    elf = ELFFile(io.BytesIO(image))
    (symbol,) = elf.get_section_by_name(".dynsym").get_symbol_by_name("kernel.kd")
    section = elf.get_section(symbol["st_shndx"])
    return int(section["sh_offset"] + symbol["st_value"] - section["sh_addr"] + 56)


def test_a_code_object_for_another_target() -> None:
    assert "another architecture" in launch("gfx950", assemble("gfx942", START + END)).fault


def test_a_target_that_is_not_interpreted() -> None:
    assert launch("gfx906", assemble("gfx942", START + END)).fault != ""
