"""Single instructions against AMD's own pseudocode: the ISA documents', as PyPI's tinygrad carries them.

The instructions are assembled by LLVM, executed by the software GPU on operands that are mostly edge cases,
and evaluated by pseudocode.py. Every vector and scalar instruction that the software GPU knows is tried, or
is in instructions.UNTRIED with the reason.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from random import Random

import pytest
from assembly import LIBRARY, assemble, launch
from exact import Real, Word, real_of, rounded, signed, word
from instructions import (
    BLOCKS,
    IMMEDIATE,
    LITERAL,
    OUT_WORDS,
    THREADS,
    Instruction,
    draw,
    instructions,
    is_immediate,
    number,
    operand,
    scalar_text,
    vector_text,
)
from pseudocode import Evaluation, table_of

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="run `make amd-software`"),
    pytest.mark.skipif(shutil.which("clang-22") is None, reason="no clang-22 to assemble with"),
]
pytest.importorskip("tinygrad", reason="no tinygrad: AMD's pseudocode")

FAMILIES = {"gfx90a": "cdna", "gfx942": "cdna", "gfx950": "cdna", "gfx1201": "rdna4"}


def kinds_of(each: Instruction) -> list[str]:
    return [kind for kind in each.sources if kind != "Bit"]


def expected_vector(family: str, each: Instruction, inputs: list[int], lane: int) -> tuple[Word, int]:
    """The result of the pseudocode and its bit of a mask."""
    values = {f"S{index}": operand(inputs, index, kind) for index, kind in enumerate(kinds_of(each))}
    values["laneId"] = word(lane, 32)
    values["VCC"] = word(inputs[24] << lane, 64)
    values["D0"] = operand(inputs, 2, each.sources[2]) if each.trait == "kAccumulates" else word(0, 64)
    values["SIMM32"] = word(LITERAL, 32)
    evaluation = Evaluation(pseudocode_of(family), values)
    evaluation.run(each.name)
    result = evaluation.values["D0"]
    if each.result == "bool":
        return word(0, 32), result.bits >> lane & 1
    if "D1" in evaluation.values:
        return result, evaluation.values["D1"].bits & 1
    return result, evaluation.values["VCC"].bits >> lane & 1 if "Carried" in each.result else 0


@cache
def pseudocode_of(family: str) -> Callable[[str], str]:
    return (table_of("rdna4") | table_of(family)).__getitem__  # CDNA's refers to what only RDNA's has


def same(kind: str, ours: int, theirs: int, is_zero_unsigned: bool = False) -> bool:
    """Whether bits are the same, or both a NaN of that type."""
    if kind.startswith(("2", "pair ")):
        inner = kind.removeprefix("2").removeprefix("pair ")
        bits = 16 if kind.startswith("2") else 32
        mask = (1 << bits) - 1
        return same(inner, ours & mask, theirs & mask) and same(
            inner, ours >> bits & mask, theirs >> bits & mask
        )
    width = int(re.sub(r"[a-z]+", "", kind))
    ours, theirs = ours & ((1 << width) - 1), theirs & ((1 << width) - 1)
    if kind.startswith("f"):
        one, other = real_of(Word(ours, width, "f")), real_of(Word(theirs, width, "f"))
        if one.nan and other.nan:
            return True
        if is_zero_unsigned and one.number == 0 == other.number:
            return True
    return ours == theirs


@pytest.mark.parametrize("arch", FAMILIES)
def test_vector_instructions(arch: str) -> None:
    family = FAMILIES[arch]
    tried = instructions(arch, scalar=False)
    assert {each.name for each in tried} <= set(table_of(family))
    random = Random(5)
    inputs = [draw(random) for _ in range(THREADS)]
    wrong: list[str] = []
    image = assemble(arch, vector_text(arch, tried))
    flat = [each for thread in inputs for each in thread]
    words = 25 * THREADS + 3 * THREADS * len(tried)
    outcome = launch(arch, image, words=words, threads=THREADS, contents=flat)
    assert outcome.fault == ""
    lanes = 32 if arch == "gfx1201" else 64
    for index, each in enumerate(tried):
        for thread in range(THREADS):
            at = 25 * THREADS + 3 * (THREADS * index + thread)
            low, high, bit = outcome.words[at : at + 3]
            result, mask = expected_vector(family, each, inputs[thread], thread % lanes)
            kind = each.result.removeprefix("Carried<").removesuffix(">")
            is_zero_unsigned = each.name.startswith("v_rndne")  # a sum's, in the document
            ours = high << 32 | low
            is_same = kind == "bool" or same(kind, ours, result.bits, is_zero_unsigned)
            if not is_same or bit != mask:
                sources = [hex(operand(inputs[thread], i, k).bits) for i, k in enumerate(kinds_of(each))]
                wrong.append(f"{each.name} {sources}: {ours:#x} {bit}, not {result.bits:#x} {mask}")
                break
    assert not wrong, "\n".join(wrong)
    assert len(tried) > 200


def expected_scalar(family: str, arch: str, each: Instruction, inputs: list[int]) -> tuple[int, int, int]:
    """The result's registers, SCC, and EXEC."""
    wave = 32 if arch == "gfx1201" else 64
    old = inputs[4] | inputs[5] << 32
    values = {f"S{index}": word(inputs[2 * index] | inputs[2 * index + 1] << 32, 64) for index in range(2)}
    values |= {"D0": word(old, 64), "SCC": word(inputs[6], 1), "EXEC": word(-1, wave)}
    values["SIMM32"] = word(LITERAL, 32)
    if is_immediate(each):
        values["S1" if each.result == "scc" else "S0"] = word(IMMEDIATE, 16)
    evaluation = Evaluation(pseudocode_of(family), values)
    evaluation.run(each.name)
    result = evaluation.values["D0"]
    width = 64 if each.result in ("u64", "i64") else 32
    bits = result.bits if isinstance(result, Word) else rounded(result, "f32").bits
    merged = bits & ((1 << width) - 1) | old >> width << width
    exec_bits = evaluation.values["EXEC"].bits & ((1 << wave) - 1)
    return (old if each.result == "scc" else merged), evaluation.values["SCC"].bits & 1, exec_bits


@pytest.mark.parametrize("arch", FAMILIES)
def test_scalar_instructions(arch: str) -> None:
    family = FAMILIES[arch]
    tried = instructions(arch, scalar=True)
    assert {each.name for each in tried} <= set(table_of(family))
    random = Random(7)
    inputs = []
    for _ in range(BLOCKS):
        operands = [word_pair(random) for _ in range(3)]
        inputs.append([half for each in operands for half in each] + [random.getrandbits(1), 0])
    flat = [each for block in inputs for each in block]
    words = len(flat) + OUT_WORDS * BLOCKS * len(tried)
    image = assemble(arch, scalar_text(arch, tried), directives="  .amdhsa_system_sgpr_workgroup_id_x 1")
    outcome = launch(
        arch, image, words=words, blocks=BLOCKS, threads=64 if arch != "gfx1201" else 32, contents=flat
    )
    assert outcome.fault == ""
    wrong = []
    for index, each in enumerate(tried):
        for block in range(BLOCKS):
            at = len(flat) + OUT_WORDS * (BLOCKS * index + block)
            low, high, condition, exec_low, exec_high = outcome.words[at : at + OUT_WORDS]
            ours = (high << 32 | low, condition, exec_high << 32 | exec_low)
            theirs = expected_scalar(family, arch, each, inputs[block])
            kind = "f32" if each.result == "f32" else "u64"
            is_same = (
                same(kind, ours[0], theirs[0], each.name.startswith("s_rndne")) and ours[1:] == theirs[1:]
            )
            if not is_same:
                sources = [hex(half) for half in inputs[block]]
                wrong.append(f"{each.name} {sources}: {list(map(hex, ours))}, not {list(map(hex, theirs))}")
                break
    assert not wrong, "\n".join(wrong)
    assert len(tried) > 90


def word_pair(random: Random) -> tuple[int, int]:
    """An operand of 64 bits, whose lower half is one of 32."""
    if random.random() < 0.3:
        wide = number(random, "w64")
        return wide & 0xFFFFFFFF, wide >> 32
    return number(random, random.choice(("w32", "f32"))), number(random, "w32")


# ---- what modifiers do ---------------------------------------------------------------------------------

# Lanes have i * 0x01010101 in v2 and v4, and 0x3C003800 + i in v3, and its lower half in v5. What
# becomes v4, and the result by Python.
MODIFIED: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "saturated difference": ("v_sub_u32_e64 v4, v2, v3 clamp", lambda a, b: max(a - b, 0)),
    "saturated difference, reversed": ("v_subrev_u32_e64 v4, v2, v3 clamp", lambda a, b: max(b - a, 0)),
    "saturated sum": ("v_add_u32_e64 v4, v2, v3 clamp", lambda a, b: min(a + b, 0xFFFFFFFF)),
    "clamped float": ("v_add_f32_e64 v4, 1.0, v2 clamp", lambda a, b: float_bits(min(1, 1 + number_of(a)))),
    "mixed": ("v_fma_mix_f32 v4, v3, v3, 1.0 op_sel:[0,1,0] op_sel_hi:[1,1,0]",
              lambda a, b: float_bits(1 + product_of(b))),
    "mixed, to the lower half": ("v_fma_mixlo_f16 v4, v3, -v3, 1.0 op_sel:[0,1,0] op_sel_hi:[1,1,0]",
                                 lambda a, b: a & 0xFFFF0000 | half_bits(1 - product_of(b))),
    "mixed, to the upper half": ("v_fma_mixhi_f16 v4, v3, |v3|, 1.0 op_sel:[0,1,0] op_sel_hi:[1,1,0]",
                                 lambda a, b: a & 0xFFFF | half_bits(1 + product_of(b)) << 16),
}  # fmt: skip
BIT_TABLE = 0xCA  # (a & b) | (~a & c)


def product_of(bits: int) -> Fraction:
    """Of the two halves, as float16."""
    low, high = (signed(real_of(Word(half, 16, "f"))) for half in (bits & 0xFFFF, bits >> 16))
    return low * high


def number_of(bits: int) -> Fraction:
    return signed(real_of(Word(bits, 32, "f")))


def half_bits(value: Fraction) -> int:
    return rounded(Real(value < 0, abs(value)), "f16").bits


def float_bits(value: Fraction) -> int:
    return rounded(Real(value < 0, abs(Fraction(value))), "f32").bits


@pytest.mark.parametrize("name", MODIFIED)
def test_modifiers(name: str) -> None:
    statement, wanted = MODIFIED[name]
    assert run_modified("gfx942", statement) == [wanted(a, b) for a, b in operands_of_lanes()]


def test_bit_operation() -> None:
    found = run_modified("gfx950", f"v_bitop3_b32 v4, v2, v3, v5 bitop3:{BIT_TABLE:#x}")
    assert found == [(a & b) | (~a & (b & 0xFFFF)) for a, b in operands_of_lanes()]


def operands_of_lanes() -> list[tuple[int, int]]:
    return [(i * 0x01010101, 0x3C003800 + i) for i in range(64)]


def run_modified(arch: str, statement: str) -> list[int]:
    body = f"""
    s_load_dwordx2 s[2:3], s[0:1], 0x0
    v_lshlrev_b32_e32 v1, 2, v0
    v_add_u32_e32 v3, 0x3C003800, v0
    v_and_b32_e32 v5, 0xFFFF, v3
    s_waitcnt lgkmcnt(0)
    global_load_dword v2, v1, s[2:3]
    s_waitcnt vmcnt(0)
    v_mov_b32_e32 v4, v2
    s_nop 4
    {statement}
    s_nop 4
    global_store_dword v1, v4, s[2:3]
    s_endpgm
    """
    outcome = launch(arch, assemble(arch, body))
    assert outcome.fault == ""
    return outcome.words[:64]
