"""The kernels that an architecture has, as the C core will look them up."""

from __future__ import annotations

import re
from pathlib import Path

from hipcomm.core import ffi, lib

_REPOSITORY = Path(__file__).resolve().parent.parent
_SOURCES = {path.stem: path for path in _REPOSITORY.glob("kernels/*/*.hip")}
_ARGUMENTS = dict(
    re.findall(
        r"X\((\w+), \w+, [A-Z]\w*, (\w+), \w+, __VA_ARGS__\)",
        (_REPOSITORY / "hipcomm/abi/kernels.def").read_text(),
    )
)


def _runs() -> dict[tuple[str, str], str]:
    abi = _REPOSITORY / "hipcomm" / "abi"
    python = dict(re.findall(r"X\((\w+), (\w+), \d+, ", (abi / "operations.def").read_text()))
    python |= re.findall(r"X\((\w+), (\w+), \d+, ", (abi / "algorithms.def").read_text())
    rows = re.findall(
        r"X\(([A-Z]\w*), ([A-Z]\w*), (\w+), \w+, __VA_ARGS__\)", (abi / "kernels.def").read_text()
    )
    return {(python[operation], python[algorithm]): kernel for operation, algorithm, kernel in rows}


# The kernel that runs an operation by an algorithm: HIPCOMM_RUNS of kernels.def.
RUNS = _runs()

# The kernel files in each folder of kernels/.
ROOMS = {
    room: {file for file, path in _SOURCES.items() if path.parent.name == room}
    for room in {path.parent.name for path in _SOURCES.values()}
}


def files_with(text: str) -> set[str]:
    """The kernel files that have a text in them."""
    return {file for file, path in _SOURCES.items() if text in path.read_text()}


def arguments_of(name: str) -> str:
    """The struct that a kernel is launched with, by hipcomm/abi/kernels.def."""
    kernels = [kernel for kernel in _ARGUMENTS if f"{name}_".startswith(f"hipcomm_{kernel}_")]
    return _ARGUMENTS[max(kernels, key=len)]


def source_of(file: str) -> str:
    """The kernel file that a code object is compiled from: <file>_<reduction> from <file>."""
    return file if file in _SOURCES else file.rpartition("_")[0]


def kernels_by_file(arch: str) -> dict[str, set[str]]:
    """Names of the kernels, by the code object that holds them."""
    files: dict[str, set[str]] = {}
    file, name = ffi.new("const char **"), ffi.new("const char **")
    for index in range(lib.hipcommKernelCount()):
        if not lib.hipcommKernelIsFor(arch.encode(), index):
            continue
        assert lib.hipcommKernelInfo(index, file, name) == lib.hipcommSuccess
        files.setdefault(ffi.string(file[0]).decode(), set()).add(ffi.string(name[0]).decode())
    return files
