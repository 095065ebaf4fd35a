"""The kernels that an architecture has, as the C core will look them up."""

from __future__ import annotations

from pathlib import Path

from hipcomm.core import ffi, lib

_SOURCES = {path.stem for path in Path(__file__).resolve().parent.parent.glob("kernels/*/*.hip")}


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
