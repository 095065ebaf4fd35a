"""The CPU platform's code objects: which of its two forms a kernel runs in; and how long its waits spin."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import hipcomm

OBJECTS = Path(hipcomm.__file__).parent / "code_objects" / platform.machine()
IRELATIVE = 37  # R_X86_64_IRELATIVE: the loader puts there what the resolver at the addend returns


def processor_has(flag: str) -> bool:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return flag in flags.split()


@pytest.mark.parametrize("file", ("all_reduce_pipelined", "all_reduce_staged", "reduce_pipelined", "barrier"))
def test_avx2_form_runs_where_the_processor_has_it(file: str) -> None:
    """Once it did not, and nothing showed it: "arch=haswell" means Intel's Haswell and no other processor."""
    if platform.machine() != "x86_64":
        pytest.skip("kernels have two forms on x86-64 only")
    path = OBJECTS / f"{file}.so"
    library = ctypes.CDLL(str(path))
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        symbols = [s for s in elf.get_section_by_name(".symtab").iter_symbols() if s.name]
        slots = [
            relocation["r_offset"]
            for section in elf.iter_sections("SHT_RELA")
            for relocation in section.iter_relocations()
            if relocation["r_info_type"] == IRELATIVE
        ]
    public = next(s for s in symbols if s["st_info"]["bind"] == "STB_GLOBAL" and s.name[:8] == "hipcomm_")
    entry = ctypes.cast(getattr(library, public.name), ctypes.c_void_p).value
    assert entry is not None
    base = entry - public["st_value"]
    names = {s["st_value"]: s.name for s in symbols if s["st_info"]["type"] == "STT_FUNC"}
    chosen = [names[ctypes.c_uint64.from_address(base + slot).value - base] for slot in slots]
    assert chosen
    form = ".avx2" if processor_has("avx2") else ".default"
    assert [name for name in chosen if not name.endswith(form)] == []


def test_waits_keep_spinning_unless_somebody_wants_the_core(tmp_path: Path) -> None:
    """A rank with a core of its own spins however late its peers are; one that shares its core gives it away
    at once; and learns again when peers come in time."""
    if platform.machine() != "x86_64":
        pytest.skip("kernels/arch/cpu.h is for x86-64")
    binary = tmp_path / "patience"
    source = Path(__file__).parent / "patience.cpp"
    subprocess.run(["g++", "-std=c++20", "-O1", "-Wno-psabi", "-o", binary, source], check=True, timeout=60)
    told = subprocess.run([binary], capture_output=True, text=True, check=True, timeout=60).stdout
    patience = {who: int(turns) for who, turns in (line.rsplit(" ", 1) for line in told.splitlines())}
    assert patience["nobody"] == 64
    assert patience["somebody"] <= 4
    assert patience["shared, peers in time"] == 64
