"""The kernels that an architecture has, as the C core will look them up."""

from __future__ import annotations

from hipcomm.core import ffi, lib


def kernels_by_file(arch: str) -> dict[str, set[str]]:
    """Names of the kernels, by the file that holds them."""
    files: dict[str, set[str]] = {}
    file, name = ffi.new("const char **"), ffi.new("const char **")
    for index in range(lib.hipcommKernelCount()):
        if not lib.hipcommKernelIsFor(arch.encode(), index):
            continue
        assert lib.hipcommKernelInfo(index, file, name) == lib.hipcommSuccess
        files.setdefault(ffi.string(file[0]).decode(), set()).add(ffi.string(name[0]).decode())
    return files
