"""What the tests of the CPU platform share: hip-python bound to it, and code objects made for it.

Importing this module binds hip-python, for the whole process, to the CPU platform's libamdhip64.so.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PLATFORMS = REPOSITORY / "hipcomm" / "platforms"
CPU_PLATFORM = PLATFORMS / "cpu"
CPU_LIBRARY = CPU_PLATFORM / "lib" / "libamdhip64.so"

if os.environ.get("HIPCOMM_PLATFORM", "cpu") != "cpu":
    pytest.skip("hip-python of this process drives another platform", allow_module_level=True)

# hip-python looks for its library at the first call, not when it is imported. ROCM_PATH goes back to what
# it was: a process that a test starts without HIPCOMM_PLATFORM would take this library for AMD's.
with pytest.MonkeyPatch.context() as patch:
    patch.setenv("ROCM_PATH", str(CPU_PLATFORM))
    hip: Any = importlib.import_module("hip").hip
    hip.hipGetDeviceCount()

# For the few functions whose hip-python wrapper cannot pass what they need.
library = ctypes.CDLL(str(CPU_LIBRARY))

Error: Any = hip.hipError_t


def ok(result: tuple[Any, ...]) -> Any:
    """The value, or the values, of a HIP call that has to succeed."""
    error, *values = result
    assert error == Error.hipSuccess, error
    if not values:
        return None
    return values[0] if len(values) == 1 else tuple(values)


def address(pointer: Any) -> int:
    """The address in a pointer object of hip-python; 0 for none."""
    return 0 if pointer is None else int(pointer.as_c_void_p().value or 0)


def handle(value: int | None) -> ctypes.c_void_p:
    """Any value as an opaque handle or a pointer."""
    return ctypes.c_void_p(value)


def write_device(pointer: int, data: bytes) -> None:
    """Copies bytes to the device."""
    ok(hip.hipMemcpy(handle(pointer), data, len(data), hip.hipMemcpyKind.hipMemcpyHostToDevice))


def read_device(pointer: int, size: int) -> bytes:
    """Copies bytes from the device."""
    data = bytearray(size)
    ok(hip.hipMemcpy(data, handle(pointer), size, hip.hipMemcpyKind.hipMemcpyDeviceToHost))
    return bytes(data)


def compile_code_object(source: str, output: Path) -> Path:
    """Compiles C++ with the kernel convention of the CPU platform into a shared object."""
    command = ["g++", "-x", "c++", "-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    command += ["-fvisibility=hidden", f"-I{CPU_PLATFORM}", "-", "-o", str(output)]
    subprocess.run(command, input=source, text=True, check=True, timeout=120)
    return output


def run_python(script: str, *arguments: str, timeout: float = 60, **environment: str) -> str:
    """Runs a script in a process of its own, with hip-python bound to the CPU platform; its output."""
    full = {
        **os.environ,
        "ROCM_PATH": str(CPU_PLATFORM),
        "PYTHONPATH": str(Path(__file__).parent),
        **environment,
    }
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, env=full, capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, result.stderr
    return result.stdout
