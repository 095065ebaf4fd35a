"""The instructions that the software GPU knows, operands for them, and kernels that execute them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from random import Random
from typing import NamedTuple

from exact import Word, word
from run import ROOT

SOURCES = ROOT / "hipcomm" / "platforms" / "amd_software"

# Names, as a pattern, and why they are not tried.
UNTRIED = (
    (r"v_(s_)?(rcp|rsq|sqrt)_.*", "approximations: the setting `reciprocal` takes either side"),
    (
        r"v_div_.*",
        "the pseudocode's scaling is not what chips do; quotients are compared by the product's tests",
    ),
    (r"v_(readfirstlane|readlane|writelane)_b32", "lanes: every kernel uses them"),
    (r"v_(accvgpr_.*|pk_mov_b32)", "moves"),
    (r"v_(mad|mac|madmk|madak)_f32", "not in the document: gfx90a's flushing multiply-add"),
    (r"v_cmpx_.*", "v_cmp's comparison, and EXEC as s_and_saveexec has it"),
    (r"v_(bitop3|fma_mix).*", "modifiers are operands; test_modifiers"),
    (
        r"s_(nop|endpgm|branch|cbranch_.*|barrier.*|sleep|setprio|waitcnt.*|wait_.*|clause|delay_alu|sendmsg.*)",
        "control",
    ),
    (r"s_(getpc|setpc|swappc)_.*", "control"),
    (r"s_(bcnt.*quad|getreg.*|setreg.*)", "state"),
)


def reason_against(name: str) -> str:
    return next((reason for pattern, reason in UNTRIED if re.fullmatch(pattern, name)), "")


# ---- what there is -------------------------------------------------------------------------------------


class Instruction(NamedTuple):
    """An instruction of a target.

    Attributes:
        name: LLVM's and the document's.
        result: the type of the result in the software GPU's tables: u32, f16, bool, Carried<u32>, ...
        sources: likewise.
        trait: kAccumulates, kLiteralSecond, ... or nothing.
    """

    form: str
    name: str
    result: str
    sources: tuple[str, ...]
    trait: str


_ROW = re.compile(r"(?:LANES|SCALAR)\d_?\((\w+), (.*)")
_COMPARISONS = {
    "INTEGERS": "lt eq le gt ne ge",
    "FLOATS": "lt eq le gt lg ge o u nge nlg ngt nle neq nlt",
}


@cache
def signatures() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Types of results and sources, and the trait, of what the software GPU's tables have."""
    found: dict[str, tuple[str, tuple[str, ...], str]] = {}
    for file in ("vector.def", "scalar.def", "packed.def"):
        for line in (SOURCES / file).read_text().splitlines():
            row = re.match(r"(?:LANES|SCALAR)(\d)_?\((\w+), (.*)\)", line)
            if row:
                types = row[3].split(", ")
                trait = re.search(r", (k\w+)$", row[3])
                found[row[2]] = (types[0], tuple(types[1 : int(row[1]) + 1]), trait[1] if trait else "")
            row = re.match(r"(HALVES|PAIRS)(\d)\((\w+), (\w+),", line)
            if row:
                kind = ("2" if row[1] == "HALVES" else "pair ") + row[4]
                found[row[3]] = (kind, (kind,) * int(row[2]), "")
            row = re.match(r"COMPARE_(\w+)\((\w+), (\w+)\)", line)
            if row:
                for predicate in _COMPARISONS[row[1]].split():
                    found[f"v_cmp_{predicate}_{row[2]}"] = ("bool", (row[3],) * 2, "")
            row = re.match(r"TEST\((\w+), (\w+),", line)
            if row:
                found[row[1]] = ("scc", (row[2],) * 2, "")
    for half in ("lo", "hi"):
        found[f"v_mbcnt_{half}_u32_b32"] = ("u32", ("u32", "u32"), "")
    return found


_GFX9 = ("gfx90a", "gfx942", "gfx950")


def instructions(arch: str, *, scalar: bool) -> list[Instruction]:
    """Those of a target that are tried."""
    file = "gfx12.def" if arch == "gfx1201" else "gfx9.def"
    targets = {
        "kGfx12": ("gfx1201",),
        "kGfx9": ("gfx90a", "gfx942", "gfx950"),
        "kGfx94": ("gfx942", "gfx950"),
    }
    found: dict[str, Instruction] = {}
    for row in re.findall(r"ENCODING\((\w+), \w+, (\w+), (\w+), (\w+)\)", (SOURCES / file).read_text()):
        form, target, name, operation = row
        if arch not in targets.get(target, (target[1:].lower(),)) or (form[0] == "S") != scalar:
            continue
        if form in ("SMEM",) or reason_against(name) or name in found:
            continue
        found[name] = Instruction(form, name, *signatures()[operation])
    return list(found.values())


# ---- operands ------------------------------------------------------------------------------------------

_EDGES = {
    "w32": (
        0, 1, 2, 3, 31, 32, 33, 0x7FFFFF, 0x800000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0x80000001,
        0xFFFFFFFF, 0xFFFFFFFE, 0x0C0C0706, 0x00010203,
    ),
    "w64": (
        0, 1, 63, 64, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 2,
    ),
    "w16": (
        0, 1, 15, 16, 17, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0xFFFE,
    ),
    "f16": (
        0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x3800, 0x3C00, 0xBC00, 0x3E00, 0x4100, 0x7BFF, 0xFBFF, 0x7C00,
        0xFC00, 0x7E00, 0x7D01, 0xFE00,
    ),
    "f32": (
        0, 0x80000000, 1, 0x80000001, 0x7FFFFF, 0x800000, 0x3F000000, 0x3EFFFFFF, 0x3F800000, 0xBF800000,
        0x3FC00000, 0x40200000, 0x4B000001, 0x4F000000, 0x4F800000, 0xCF000000, 0x477FEFFF, 0x477FF000,
        0x33000000, 0x33000001, 0x38801000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000,
        0x7F800001, 0xFFC00001,
    ),
    "f64": (
        0, 1 << 63, 1, 0x3FE0000000000000, 0x3FF0000000000000, 0xBFF8000000000000, 0x4004000000000000,
        0x41DFFFFFFFC00000, 0x41E0000000000000, 0x41F0000000000000, 0xC1E0000000200000, 0x47EFFFFFF0000000,
        0x47EFFFFFEFFFFFFF, 0x36A0000000000000, 0x3690000000000000, 0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000,
        0xFFF0000000000000, 0x7FF8000000000000, 0x7FF0000000000001,
    ),
}  # fmt: skip
_REGISTERS = {"w64": 0, "f64": 2, "w32": 4, "f32": 5, "f16": 6, "w16": 7}  # of a source, from its first one
_PER_SOURCE, _FIRST_SOURCE, _CHOICE = 8, 2, 29
LITERAL = 0x40490FDB
THREADS = 128


def register_of(kind: str) -> str:
    """Which of a source's registers has operands of this type."""
    kind = kind.removeprefix("2")
    if kind.startswith("pair ") or kind in ("u64", "i64"):
        return "w64"
    return {"u32": "w32", "i32": "w32", "u16": "w16", "i16": "w16"}.get(kind, kind)


def number(random: Random, register: str) -> int:
    """An operand: an edge case, or random bits, with exponents near each other for floats."""
    bits = {"w64": 64, "f64": 64, "w32": 32, "f32": 32}.get(register, 16)
    if random.random() < 0.5:
        return random.choice(_EDGES[register])
    value = random.getrandbits(bits)
    if register == "f32" and random.random() < 0.7:
        value = value & 0x80FFFFFF | 0x3F000000 | random.getrandbits(2) << 23
    if register == "f64" and random.random() < 0.7:
        value = value & 0x800FFFFFFFFFFFFF | (1020 + random.getrandbits(3)) << 52
    return value


def draw(random: Random) -> list[int]:
    """One thread's registers: three sources of every type, and the choice."""
    words: list[int] = []
    for _ in range(3):
        wide = number(random, "w64")
        if random.random() < 0.5:  # for packed float32
            wide = number(random, "f32") << 32 | number(random, "f32")
        double = number(random, "f64")
        words += [wide & 0xFFFFFFFF, wide >> 32, double & 0xFFFFFFFF, double >> 32]
        words += [number(random, "w32"), number(random, "f32")]
        words += [number(random, each) << 16 | number(random, each) for each in ("f16", "w16")]
    return [*words, random.getrandbits(1)]


def operand(inputs: list[int], source: int, kind: str) -> Word:
    at = source * _PER_SOURCE + _REGISTERS[register_of(kind)]
    wide = register_of(kind) in ("w64", "f64")
    return word(inputs[at] | (inputs[at + 1] << 32 if wide else 0), 64 if wide else 32)


# ---- the kernels ---------------------------------------------------------------------------------------


class Dialect(NamedTuple):
    """How a family is written."""

    mask: Callable[[int], str]
    load_pointer: str
    wait: str
    load: str
    store: str
    exec: str
    move_exec: str
    block: str


def dialect(arch: str) -> Dialect:
    if arch == "gfx1201":
        return Dialect(
            lambda s: f"s{s}", "s_load_b64", "s_wait_kmcnt 0\ns_wait_loadcnt 0", "global_load_b32",
            "global_store_b32", "exec_lo", "s_mov_b32", "ttmp9",
        )  # fmt: skip
    return Dialect(
        lambda s: f"s[{s}:{s + 1}]", "s_load_dwordx2", "s_waitcnt vmcnt(0) lgkmcnt(0)", "global_load_dword",
        "global_store_dword", "exec", "s_mov_b64", "s2",
    )  # fmt: skip


def vector_text(arch: str, tried: list[Instruction]) -> str:
    """A kernel that executes them and stores two words of each result, and its bit of a mask."""
    d = dialect(arch)
    lines = [f"{d.load_pointer} s[2:3], s[0:1], 0x0", f"v_mul_u32_u24_e32 v1, {4 * 25}, v0", d.wait]
    lines += [
        f"{d.load} v{_FIRST_SOURCE + index if index < 24 else _CHOICE}, v1, s[2:3] offset:{4 * index}"
        for index in range(25)
    ]
    lines += [d.wait, f"v_cmp_eq_u32_e64 {d.mask(10)}, 1, v{_CHOICE}", "v_mul_u32_u24_e32 v1, 12, v0"]
    add = "v_add_nc_u32_e32" if arch == "gfx1201" else "v_add_u32_e32"
    lines += [
        f"v_mov_b32_e32 v30, {100 * THREADS}",
        f"{add} v1, v30, v1",
        f"v_mov_b32_e32 v30, {12 * THREADS}",
    ]
    for each in tried:
        lines += ["v_mov_b32_e32 v26, 0", "v_mov_b32_e32 v27, 0", "v_mov_b32_e32 v28, 0"]
        if each.trait == "kAccumulates":
            accumulator = registers(each, 2)
            lines += [f"v_mov_b32_e32 v{26 + index}, v{one}" for index, one in enumerate(accumulator)]
        lines += [statement(arch, each), "s_nop 4"]
        if each.result == "bool" or each.result.startswith("Carried"):
            lines.append(f"v_cndmask_b32_e64 v28, 0, 1, {d.mask(12)}")
        lines += [f"{d.store} v1, v{26 + index}, s[2:3] offset:{4 * index}" for index in range(3)]
        lines += [d.wait, *(["s_wait_storecnt 0"] if arch == "gfx1201" else []), f"{add} v1, v30, v1"]
    return "\n".join([*lines, "s_endpgm"])


def registers(each: Instruction, source: int) -> list[int]:
    register = register_of(each.sources[source])
    first = _FIRST_SOURCE + source * _PER_SOURCE + _REGISTERS[register]
    return [first, first + 1] if register in ("w64", "f64") else [first]


def statement(arch: str, each: Instruction) -> str:
    d = dialect(arch)
    texts = []
    for source, kind in enumerate(each.sources):
        if kind == "Bit":
            texts.append(d.mask(10))
            continue
        numbers = registers(each, source)
        texts.append(f"v[{numbers[0]}:{numbers[1]}]" if len(numbers) == 2 else f"v{numbers[0]}")
    if each.trait == "kAccumulates":
        texts = texts[:2]
    if each.trait in ("kLiteralSecond", "kLiteralThird"):
        at = 1 if each.trait == "kLiteralSecond" else 2
        texts = [*texts[:at], hex(LITERAL), *texts[at:2]]
    result = each.result.removeprefix("Carried<").removesuffix(">")
    wide = register_of(result) in ("w64", "f64") if result != "bool" else False
    destination = "v[26:27]" if wide else "v26"
    if each.result == "bool":
        destination = d.mask(12)
    if each.result.startswith("Carried"):
        destination += ", " + d.mask(12)
    encoded = each.name + (
        "_e64" if each.form == "VOPC" or "Bit" in each.sources or "Carried" in each.result else ""
    )
    if each.form == "VOP3":
        encoded = each.name
    return f"{encoded} {destination}, {', '.join(texts)}"


# ---- scalar instructions -------------------------------------------------------------------------------

BLOCKS = 48  # each with operands of its own
IMMEDIATE = 0x8123
_SCALAR_WORDS = (
    8  # of a block's operands: two sources, what the result's registers hold, the condition, unused
)
OUT_WORDS = 5  # two of the result, the condition, two of EXEC


def scalar_text(arch: str, tried: list[Instruction]) -> str:
    """A kernel whose blocks execute them, and store the result, SCC and EXEC."""
    d = dialect(arch)
    is_wide = arch != "gfx1201"
    lines = [
        f"s_mov_b32 s4, {d.block}", f"{d.load_pointer} s[2:3], s[0:1], 0x0", d.wait, "s_lshl_b32 s5, s4, 5",
        "s_add_u32 s6, s2, s5", "s_addc_u32 s7, s3, 0",
        f"s_load_{'dwordx8' if is_wide else 'b256'} s[16:23], s[6:7], 0x0",
        f"s_mul_i32 s5, s4, {4 * OUT_WORDS}", f"s_add_u32 s5, s5, {32 * BLOCKS}", d.wait, "s_mov_b32 s29, 0",
    ]  # fmt: skip
    for each in tried:
        lines += ["s_mov_b64 s[24:25], s[20:21]", "s_cmp_lg_u32 s22, 0", scalar_statement(each)]
        lines += ["s_cselect_b32 s27, 1, 0", f"{d.move_exec} s{'[28:29]' if is_wide else '28'}, {d.exec}"]
        lines += [f"{d.move_exec} {d.exec}, -1", "v_mov_b32_e32 v1, s5"]
        for index, register in enumerate((24, 25, 27, 28, 29)):
            lines += [f"v_mov_b32_e32 v{2 + index}, s{register}", "s_nop 4"]
            lines.append(f"{d.store} v1, v{2 + index}, s[2:3] offset:{4 * index}")
        lines += [d.wait, *([] if is_wide else ["s_wait_storecnt 0"])]
        lines.append(f"s_add_u32 s5, s5, {4 * OUT_WORDS * BLOCKS}")
    return "\n".join([*lines, "s_endpgm"])


def pair(first: int, kind: str) -> str:
    return f"s[{first}:{first + 1}]" if kind in ("u64", "i64") else f"s{first}"


def is_immediate(each: Instruction) -> bool:
    return re.match("s_(mov|cmov|cmp|add|mul)k_", each.name) is not None


def scalar_statement(each: Instruction) -> str:
    sources = [pair(16 + 2 * index, kind) for index, kind in enumerate(each.sources)]
    if is_immediate(each):
        return f"{each.name} {'s16' if each.result == 'scc' else 's24'}, {IMMEDIATE:#x}"
    if each.result == "scc":
        return f"{each.name} {', '.join(sources)}"
    if each.trait == "kAccumulates":
        sources = sources[:2] if len(sources) == 3 else sources[:1]
    if each.trait in ("kLiteralSecond", "kLiteralThird"):
        at = 1 if each.trait == "kLiteralSecond" else 2
        sources = [*sources[:at], hex(LITERAL), *sources[at:2]]
    return f"{each.name} {pair(24, each.result)}, {', '.join(sources)}"
