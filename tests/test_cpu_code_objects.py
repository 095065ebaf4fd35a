"""The CPU platform's code objects: which of its two forms a kernel runs in."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import hipcomm

OBJECTS = Path(hipcomm.__file__).parent / "code_objects" / platform.machine()
IRELATIVE = 37  # R_X86_64_IRELATIVE: the loader puts there what the resolver at the addend returns


def processor_has(flag: str) -> bool:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return flag in flags.split()


@pytest.mark.parametrize("file", ("all_reduce_pipelined", "reduce_pipelined", "barrier"))
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
