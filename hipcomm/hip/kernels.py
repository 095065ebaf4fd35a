"""The kernels: finding and loading the code objects of a device's architecture."""

from __future__ import annotations

import threading
import zlib
from pathlib import Path
from typing import Any

from hipcomm.core import ffi, lib
from hipcomm.errors import PlatformError
from hipcomm.hip import call
from hipcomm.hip.device import Device
from hipcomm.installation import PACKAGE, how_to_get_code_objects

_CODE_OBJECTS = PACKAGE / "code_objects"


_loaded: dict[tuple[str, int], Kernels] = {}
_loading = threading.Lock()


def kernels_of(device: Device) -> Kernels:
    """The kernels of a device, which is current: loaded once in a process, for all of its communicators.

    They stay loaded: a graph that holds some may outlive its communicator.

    Raises:
        PlatformError: there is no code object for its architecture, or HIP cannot load it.
    """
    key = (device.arch, -1 if device.host_is_device else device.ordinal)  # on GPUs a module is one device's
    with _loading:
        if key not in _loaded:
            _loaded[key] = Kernels(device.arch)
        return _loaded[key]


class Kernels:
    """The loaded code objects of a device's architecture. Made by :func:`kernels_of`.

    Attributes:
        functions: a cffi array of hipFunction_t, by the core's kernel number.
    """

    def __init__(self, arch: str) -> None:
        """Load all kernels for *arch*; where one cannot be loaded none is."""
        directory = _code_object_directory(arch)
        self._modules: dict[str, Any] = {}
        name_of_arch = arch.encode()
        count = lib.hipcommKernelCount()
        self.functions = ffi.new("void *[]", count)
        file, name = ffi.new("char **"), ffi.new("char **")
        try:
            for index in range(count):
                if not lib.hipcommKernelIsFor(name_of_arch, index):
                    continue
                lib.hipcommKernelInfo(index, file, name)
                module = self._module(directory, ffi.string(file[0]).decode(), arch)
                function = call("hipModuleGetFunction", module, ffi.string(name[0]))
                self.functions[index] = ffi.cast("void *", int(function))
        except BaseException:
            while self._modules:
                call("hipModuleUnload", self._modules.popitem()[1])
            raise

    def _module(self, directory: Path, file: str, arch: str) -> Any:
        if file not in self._modules:
            image = _read_code_object(directory, file, arch)
            self._modules[file] = call("hipModuleLoadData", image)
        return self._modules[file]


def _code_object_directory(arch: str) -> Path:
    """The directory of the architecture's code objects; for NVIDIA the newest PTX that it can run.

    Objects for a feature that the device has come first: ``x86_64_avx2`` for ``x86_64:avx2+``.
    """
    base, *features = arch.split(":")
    for name in (*(f"{base}_{feature[:-1]}" for feature in features if feature.endswith("+")), base):
        if (_CODE_OBJECTS / name).is_dir():
            return _CODE_OBJECTS / name
    built = sorted(path.name for path in _CODE_OBJECTS.glob("*") if path.is_dir())
    if base.startswith("sm_"):
        older = [name for name in built if name.startswith("sm_") and int(name[3:]) <= int(base[3:])]
        if older:
            return _CODE_OBJECTS / max(older, key=lambda name: int(name[3:]))
    raise PlatformError(
        f"no code objects for {base} in {_CODE_OBJECTS}; there are: {', '.join(built) or 'none'}. "
        f"To get them {how_to_get_code_objects()}"
    )


def _read_code_object(directory: Path, file: str, arch: str) -> bytes:
    base = arch.split(":", maxsplit=1)[0]
    exact = directory.name == base or directory.name.startswith(base + "_")
    text = ("ptx", "ptx.gz")  # a checkout's, a wheel's
    for suffix in ("so", "co", "cubin", *text) if exact else text:  # machine code fits its own chip only
        path = directory / f"{file}.{suffix}"
        if path.exists():
            image = path.read_bytes()
            if suffix == "ptx.gz":
                image = zlib.decompress(image, wbits=zlib.MAX_WBITS | 16)  # 16: gzip's format
            # PTX is text and has to end in a zero byte
            return image + b"\0" if suffix in text else image
    raise PlatformError(f"{directory} has no code object for {file}. To get it {how_to_get_code_objects()}")
