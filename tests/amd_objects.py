"""Reading AMD code objects: metadata, kernel descriptors, disassembly; what to expect of each target."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
from elftools.elf.elffile import ELFFile

CODE_OBJECTS = Path(__file__).resolve().parent.parent / "hipcomm" / "code_objects"
LLVM_VERSIONS = range(25, 19, -1)  # as in the Makefile

NT_AMDGPU_METADATA = 32
BLOCK_THREADS = 512  # hipcomm/abi/limits.h: HIPCOMM_MAX_THREADS
UNIT_BLOCK_THREADS = 256  # HIPCOMM_MAX_UNIT_THREADS
LOCAL_BLOCK_THREADS = 1024  # HIPCOMM_MAX_LOCAL_THREADS


@dataclass(frozen=True)
class Target:
    """An architecture, and how its system-scope accesses look in assembly.

    Registers: a lane of a SIMD has ``register_file`` 32-bit vector registers for all its waves together,
    handed out in multiples of ``granule``; a block's waves are spread over ``simds`` SIMDs.
    """

    name: str
    machine: int  # EF_AMDGPU_MACH of e_flags
    wave: int
    simds: int
    register_file: int
    granule: int
    load_scope: str  # modifiers of a system-scope load
    store_scope: str  # of a store; empty where the memory's type decides alone
    write_back: str | None  # written before a release's wait
    store_wait: str  # what waits for all stores of a wave: a regular expression
    invalidates: tuple[str, ...]  # of an acquire
    barrier: str

    @property
    def waves_per_simd(self) -> int:
        """Waves of one block on one SIMD."""
        return -(-BLOCK_THREADS // self.wave // self.simds)

    @property
    def most_registers(self) -> int:
        """Vector registers that a kernel may use if a block of BLOCK_THREADS is to fit."""
        return self.register_file // self.waves_per_simd // self.granule * self.granule


def _cdna(name: str, machine: int, load: str, store: str, write_back: str, *invalidates: str) -> Target:
    # one register file of 512 for both VGPRs and AGPRs
    return Target(
        name,
        machine,
        wave=64,
        simds=4,
        register_file=512,
        granule=8,
        load_scope=load,
        store_scope=store,
        write_back=write_back,
        store_wait=r"s_waitcnt .*vmcnt\(0\)",
        invalidates=invalidates,
        barrier="s_barrier",
    )


def _gfx12(name: str, machine: int, register_file: int, granule: int) -> Target:
    return Target(
        name,
        machine,
        wave=32,
        simds=4,
        register_file=register_file,
        granule=granule,
        load_scope="scope:SCOPE_SYS",
        store_scope="scope:SCOPE_SYS",
        write_back="global_wb scope:SCOPE_SYS",
        store_wait="s_wait_storecnt(_dscnt)? 0x0",
        invalidates=("global_inv scope:SCOPE_SYS",),
        barrier="s_barrier_signal",
    )


ALL_TARGETS = (
    _cdna("gfx90a", 0x3F, "glc", "", "buffer_wbl2", "buffer_invl2", "buffer_wbinvl1_vol"),
    _cdna("gfx942", 0x4C, "sc0 sc1", "sc0 sc1", "buffer_wbl2 sc0 sc1", "buffer_inv sc0 sc1"),
    _cdna("gfx950", 0x4F, "sc0 sc1", "sc0 sc1", "buffer_wbl2 sc0 sc1", "buffer_inv sc0 sc1"),
    Target(
        "gfx1100",
        0x41,
        wave=32,
        simds=4,  # the compiler's default is WGP mode: a block has the SIMDs of both compute units
        register_file=1536,
        granule=24,
        load_scope="glc",
        store_scope="",
        write_back=None,
        store_wait="s_waitcnt_vscnt null, 0x0",
        invalidates=("buffer_gl1_inv", "buffer_gl0_inv"),
        barrier="s_barrier",
    ),
    _gfx12("gfx1201", 0x4E, register_file=1536, granule=24),
    _gfx12("gfx1250", 0x49, register_file=1024, granule=16),
)
# HIPCOMM_ARCHS: what was built, where that is not everything
_BUILT = os.environ.get("HIPCOMM_ARCHS", "")
TARGETS = tuple(target for target in ALL_TARGETS if not _BUILT or target.name in _BUILT.split(","))


def find_tool(name: str) -> str | None:
    """Path of an LLVM tool that is new enough for all targets."""
    for version in LLVM_VERSIONS:
        path = shutil.which(f"{name}-{version}") or shutil.which(f"/usr/lib/llvm-{version}/bin/{name}")
        if path:
            return path
    return None


def object_path(target: Target, file: str) -> Path:
    """A code object, by its file in hipcommKernelInfo()."""
    return CODE_OBJECTS / target.name / f"{file}.co"


@dataclass(frozen=True)
class CodeObject:
    """What an object's ELF headers, notes and kernel descriptors say."""

    abi_version: int
    flags: int
    target_id: str
    kernels: dict[str, dict[str, Any]]  # by name: the metadata map, keys as in LLVM's guide
    descriptors: dict[str, bytes]  # by kernel name: the 64 bytes of its descriptor


@functools.cache
def read_object(path: Path) -> CodeObject:
    """Parse a code object.

    Raises:
        OSError, AssertionError: it is missing, or not an AMD code object.
    """
    with path.open("rb") as file:
        elf = ELFFile(file)
        notes = [
            note["n_desc"]
            for section in elf.iter_sections("SHT_NOTE")
            for note in section.iter_notes()
            if note["n_name"] == "AMDGPU" and note["n_type"] in (NT_AMDGPU_METADATA, "NT_AMDGPU_METADATA")
        ]
        assert len(notes) == 1, f"{path}: {len(notes)} metadata notes"
        metadata = msgpack.unpackb(notes[0])
        kernels = {kernel[".name"]: kernel for kernel in metadata["amdhsa.kernels"]}
        symbols = elf.get_section_by_name(".dynsym")
        descriptors = {}
        for name, kernel in kernels.items():
            (symbol,) = symbols.get_symbol_by_name(kernel[".symbol"])
            section = elf.get_section(symbol["st_shndx"])
            start = symbol["st_value"] - section["sh_addr"]
            descriptors[name] = section.data()[start : start + 64]
        return CodeObject(
            elf["e_ident"]["EI_ABIVERSION"],
            elf["e_flags"],
            metadata["amdhsa.target"],
            kernels,
            descriptors,
        )


@dataclass
class Program:
    """One kernel's instructions, operands and modifiers separated by one blank, and where branches lead."""

    text: list[str]
    targets: dict[int, int]  # position of a branch: position of the instruction that it leads to

    def successors(self, position: int) -> list[int]:
        """Positions of the instructions that may follow."""
        opcode = self.text[position].split()[0]
        following = [] if opcode in ("s_branch", "s_endpgm") else [position + 1]
        return following + ([self.targets[position]] if position in self.targets else [])


COMMENT = re.compile(r"// ([0-9A-F]+):[^<]*(?:<\w+(?:\+0x([0-9a-f]+))?>)?")


@functools.cache
def disassemble(path: Path) -> dict[str, Program]:
    """The kernels of an object, by name.

    Raises:
        subprocess.CalledProcessError: llvm-objdump does not know the target.
    """
    tool = find_tool("llvm-objdump")
    assert tool is not None
    command = [tool, "-d", "--no-show-raw-insn", "--no-leading-addr", str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    kernels = {}
    for part in output.split("\n<")[1:]:
        name, *lines = part.splitlines()
        text: list[str] = []
        positions: dict[int, int] = {}
        branches: dict[int, int] = {}
        for line in lines:
            comment = COMMENT.search(line)
            if comment is None:
                continue
            positions[int(comment[1], 16)] = len(text)
            if line.startswith(("\ts_branch", "\ts_cbranch")):
                branches[len(text)] = int(comment[2] or "0", 16)
            text.append(" ".join(line.split("//")[0].split()))
        start = next(iter(positions))
        targets = {position: positions[start + offset] for position, offset in branches.items()}
        kernels[name.rstrip(">:")] = Program(text, targets)
    return kernels
