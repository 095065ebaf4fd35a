"""Small AMD kernels from text, assembled with LLVM and launched on the GPU in software.

The HIP library reads its settings once and keeps a fault to the end of the process, so every launch has
a process of its own.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARY = ROOT / "hipcomm" / "platforms" / "amd_software" / "lib" / "libamdhip64.so"

# A kernel of one argument: the address of a buffer, in s[0:1] through the argument segment's pointer.
_TEMPLATE = """
.amdgcn_target "amdgcn-amd-amdhsa--{arch}"
.amdhsa_code_object_version 5
.text
.globl kernel
.p2align 8
.type kernel,@function
kernel:
{body}
.Lend:
.size kernel, .Lend-kernel
.rodata
.p2align 6
.amdhsa_kernel kernel
  .amdhsa_user_sgpr_kernarg_segment_ptr 1
  .amdhsa_next_free_vgpr {vgprs}
  .amdhsa_next_free_sgpr 64
  .amdhsa_kernarg_size {kernarg}
  .amdhsa_group_segment_fixed_size {lds}
{directives}
.end_amdhsa_kernel
.amdgpu_metadata
---
amdhsa.version: [1, 2]
amdhsa.kernels:
  - .name: kernel
    .symbol: kernel.kd
    .kernarg_segment_size: {kernarg}
    .kernarg_segment_align: 8
    .group_segment_fixed_size: {lds}
    .private_segment_fixed_size: 0
    .wavefront_size: {wave}
    .sgpr_count: 64
    .vgpr_count: {vgprs}
    .max_flat_workgroup_size: 1024
    .args:
      - {{.size: 8, .offset: 0, .value_kind: global_buffer, .address_space: global}}
{args}
...
.end_amdgpu_metadata
"""


def assemble(
    arch: str, body: str, *, directives: str = "", args: str = "", kernarg: int = 8, lds: int = 0
) -> bytes:
    """A code object with one kernel. Raises CalledProcessError where the text is no assembly."""
    if "denorm_mode_32" not in directives:
        directives += "\n  .amdhsa_float_denorm_mode_32 3\n"
    if arch.startswith("gfx9"):
        directives += "\n  .amdhsa_accum_offset 32\n"
    wave = 32 if arch.startswith("gfx1") else 64
    if wave == 32:
        directives += "\n  .amdhsa_wavefront_size32 1\n"
    text = _TEMPLATE.format(
        arch=arch, body=body, directives=directives, args=args, kernarg=kernarg, lds=lds, wave=wave, vgprs=32
    )
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "k.s"), Path(folder, "k.co")
        source.write_text(text)
        command = [
            "clang-22",
            "-target",
            "amdgcn-amd-amdhsa",
            f"-mcpu={arch}",
            "-nogpulib",
            "-o",
            str(output),
            str(source),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        return output.read_bytes()


class Outcome(NamedTuple):
    """What became of a launch.

    Attributes:
        fault: what HIP says of it, or an empty text.
        words: the buffer afterwards.
    """

    fault: str
    words: list[int]


def launch(
    arch: str,
    image: bytes,
    *,
    words: int = 256,
    blocks: int = 1,
    threads: int = 64,
    settings: str = "",
    contents: list[int] | None = None,
) -> Outcome:
    """Launch the kernel on a buffer of words, in a process of its own.

    Words have the contents at first; those beyond them, i * 0x01010101.
    """
    with multiprocessing.get_context("fork").Pool(1) as pool:
        request = (f"arch={arch}{settings}", image, words, blocks, threads, contents or [])
        return pool.apply_async(_launch, request).get(timeout=100)


def _launch(
    settings: str, image: bytes, words: int, blocks: int, threads: int, contents: list[int]
) -> Outcome:
    os.environ["HIPCOMM_AMD_SOFTWARE"] = settings
    gpu = Gpu()
    buffer = gpu.allocate(4 * words)
    memory = (ctypes.c_uint32 * words).from_address(int(buffer.value or 0))
    for index in range(words):
        memory[index] = contents[index] if index < len(contents) else index * 0x01010101 & 0xFFFFFFFF
    fault, function = gpu.function(image)
    if not fault:
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(buffer))
        fault = gpu.call(
            "hipModuleLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, None, parameters, None
        )
    return Outcome(fault, list(memory))


class Gpu:
    """The HIP library of the software GPU, loaded into this process."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(LIBRARY))
        self.library.hipGetErrorString.restype = ctypes.c_char_p

    def call(self, name: str, *arguments: object) -> str:
        """Call a HIP function; what it says of its error, or an empty text."""
        code = getattr(self.library, name)(*arguments)
        return "" if code == 0 else str(self.library.hipGetErrorString(code).decode())

    def allocate(self, nbytes: int, *, uncached: bool = False) -> ctypes.c_void_p:
        pointer = ctypes.c_void_p()
        flags = 3 if uncached else 0  # hipDeviceMallocUncached
        fault = self.call("hipExtMallocWithFlags", ctypes.byref(pointer), ctypes.c_size_t(nbytes), flags)
        assert fault == ""
        return pointer

    def function(self, image: bytes) -> tuple[str, ctypes.c_void_p]:
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        fault = self.call("hipModuleLoadData", ctypes.byref(module), image)
        return fault or self.call("hipModuleGetFunction", ctypes.byref(function), module, b"kernel"), function
