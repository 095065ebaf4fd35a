"""The platform: which HIP library this process uses, and the device that this rank drives.

Everything above works against HIP through hip-python, which finds its library by ``ROCM_PATH`` at
the first HIP call. That choice is made here, once per process; there is no test for a platform's name
anywhere else.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hipcomm.core import ffi, lib
from hipcomm.environment import Settings
from hipcomm.errors import InvalidArgument, PlatformError
from hipcomm.installation import PACKAGE

_CODE_OBJECTS = PACKAGE / "code_objects"

# What to try where a HIP call fails, by error code.
_FIXES = {
    2: "free device memory, or lower HIPCOMM_STAGING_BYTES",
    100: "no device is visible; check HIP_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES",
    209: "build the kernels for this device's architecture: AMD_ARCHS in the Makefile",
    303: "the HIP library and the driver do not fit together",
}


class Platform(NamedTuple):
    """A platform that was chosen.

    Attributes:
        name: "amd", "nvidia" or "cpu".
        library: path of its libamdhip64.so.
        reason: why it was chosen, for people.
    """

    name: str
    library: str
    reason: str


_chosen: Platform | None = None


def hip() -> Any:
    """hip-python's ``hip`` module. :func:`choose` comes first."""
    assert _chosen is not None
    from rocm.bindings import hip as module

    return module


def call(function: str, *arguments: Any) -> Any:
    """Call a HIP function by name; its result without the error code.

    Raises:
        PlatformError: the call failed; function, code, name and, where one is known, the fix.
    """
    error, *values = getattr(hip(), function)(*arguments)
    if int(error) != 0:
        fix = _FIXES.get(int(error))
        raise PlatformError(
            f"{function} failed with {error.name} ({int(error)})" + (f": {fix}" if fix else ""),
            call=function,
            code=int(error),
        )
    return values[0] if len(values) == 1 else tuple(values)


def choose(settings: Settings) -> Platform:
    """Choose the platform and bind hip-python to it, at the first call; later calls return the same.

    ``HIPCOMM_PLATFORM=auto`` takes the first of amd, nvidia, cpu that has a device.

    Raises:
        PlatformError: the platform has no library or no device, or this process uses hip-python
            with another one already.
        InvalidArgument: the process was bound to another platform by an earlier call.
    """
    global _chosen  # noqa: PLW0603  one HIP library per process: hip-python cannot be bound twice
    if _chosen is not None:
        if settings.platform not in ("auto", _chosen.name):
            raise InvalidArgument(
                f"HIPCOMM_PLATFORM={settings.platform!r}: this process already runs on {_chosen.name}"
            )
        return _chosen
    platform = _find_automatically() if settings.platform == "auto" else _find(settings.platform)
    _bind(platform)
    _chosen = platform
    return platform


def _find(name: str) -> Platform:
    library = _library(name)
    if library is None:
        raise PlatformError(f"HIPCOMM_PLATFORM={name!r}: no libamdhip64.so found ({_where(name)})")
    devices = _count_devices(library)
    if isinstance(devices, str):
        raise PlatformError(f"HIPCOMM_PLATFORM={name!r}: {library}: {devices}")
    return Platform(name, library, f"HIPCOMM_PLATFORM={name}")


def _find_automatically() -> Platform:
    reasons = []
    for name in ("amd", "nvidia", "cpu"):
        library = _library(name)
        devices = f"no libamdhip64.so ({_where(name)})" if library is None else _count_devices(library)
        if isinstance(devices, int):
            assert library is not None
            reasons.append(f"{name} has {devices} devices")
            return Platform(name, library, "; ".join(reasons))
        reasons.append(f"{name}: {devices}")
    raise PlatformError("no platform has a device: " + "; ".join(reasons))


def _where(name: str) -> str:
    return "looked for ROCm in ROCM_PATH and /opt/rocm" if name == "amd" else "run `make`"


def _library(name: str) -> str | None:
    if name != "amd":
        directory = "cuda" if name == "nvidia" else "cpu"
        path = PACKAGE / "platforms" / directory / "lib" / "libamdhip64.so"
        return str(path) if path.exists() else None
    from rocm.bindings.util.paths import get_library_path

    found = os.fsdecode(get_library_path("amdhip64"))
    return found if Path(found).is_absolute() and Path(found).exists() else None


def _count_devices(library: str) -> int | str:
    """The number of devices, or why there is none. Asked directly: hip-python is not bound yet."""
    try:
        handle = ctypes.CDLL(library)
    except OSError as error:
        return str(error)
    handle.hipInit(0)  # ROCm 7.2 returns error 303 from later calls without it
    count = ctypes.c_int(0)
    code = handle.hipGetDeviceCount(ctypes.byref(count))
    if code != 0 or count.value == 0:
        return f"no device (hipGetDeviceCount returned {code})"
    return count.value


def _bind(platform: Platform) -> None:
    """Make hip-python open the platform's library, and see that it did."""
    saved = os.environ.get("ROCM_PATH")
    if platform.name != "amd":  # hip-python finds ROCm's own by itself
        os.environ["ROCM_PATH"] = str(Path(platform.library).parent.parent)
    try:
        from rocm.bindings import hip as module

        call_init: Any = module.hipInit  # untyped in hip-python
        call_init(0)
    finally:
        if saved is None:
            os.environ.pop("ROCM_PATH", None)
        else:
            os.environ["ROCM_PATH"] = saved
    used = _count_with(module)
    expected = _count_devices(platform.library)
    if used != expected or not _drives(module, platform.library):
        raise PlatformError(
            f"hip-python in this process uses another HIP library than {platform.library}; "
            "call hipcomm before any other use of hip-python, or set HIPCOMM_PLATFORM to match it"
        )


def _count_with(module: Any) -> int | None:
    error, count = module.hipGetDeviceCount()
    return int(count) if int(error) == 0 else None


def _drives(module: Any, library: str) -> bool:
    """Whether the two are one library: the current device set through one shows in the other."""
    handle = ctypes.CDLL(library)
    current = ctypes.c_int(-1)
    error, device = module.hipGetDevice()
    return (
        int(error) == 0
        and handle.hipGetDevice(ctypes.byref(current)) == 0
        and current.value == int(device)
        and _device_name(module, int(device)) == _device_name_with(handle, int(device))
    )


def _device_name(module: Any, device: int) -> str:
    error, properties = module.hipGetDeviceProperties(device)
    return _text(properties.name) if int(error) == 0 else ""


def _device_name_with(handle: ctypes.CDLL, device: int) -> str:
    name = ctypes.create_string_buffer(256)
    return name.value.decode() if handle.hipDeviceGetName(name, 256, device) == 0 else ""


def _text(value: Any) -> str:
    """Text that hip-python returns as bytes, str or its own CStr, up to the first zero."""
    return (value.decode() if isinstance(value, bytes) else str(value)).split("\0")[0]


class Device(NamedTuple):
    """The device of a rank.

    Attributes:
        ordinal: HIP's number of it in this process.
        pci_bus_id: what identifies it to other processes.
        arch: gcnArchName, for example "gfx942:sramecc+:xnack-", "sm_90", "x86_64".
        name: for people.
        multiprocessors: compute units, streaming multiprocessors.
        host_is_device: whether host arrays may be passed as they are.
    """

    ordinal: int
    pci_bus_id: str
    arch: str
    name: str
    multiprocessors: int
    host_is_device: bool

    def use(self) -> None:
        """Make the device the calling thread's current one. Raises PlatformError."""
        call("hipSetDevice", self.ordinal)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it the calling thread's current one within a block; then that is current again which was.

        Memory comes from the current device, and who waits for "the device" waits for that one: in a thread
        that has never called :meth:`use` it would be device 0.
        """
        before = call("hipGetDevice")
        self.use()
        try:
            yield
        finally:
            call("hipSetDevice", before)


def open_device(selector: str | None, local_rank: int, share: bool = False) -> Device:
    """Make a device current: the one that HIPCOMM_DEVICE names, or that of the local rank.

    Args:
        selector: an ordinal, a PCI bus id, a UUID ("GPU-…" or hexadecimal), or None.
        local_rank: the ordinal where there is no selector.
        share: begin with the first device again where there are fewer than local ranks.

    Raises:
        InvalidArgument: there is no such device.
        PlatformError: a HIP call failed.
    """
    count = int(call("hipGetDeviceCount"))
    if selector is not None:
        index = _device_index(selector, count)
    else:
        index = local_rank % count if share and count else local_rank
    if not 0 <= index < count:
        wanted = f"local rank {local_rank}" if selector is None else f"HIPCOMM_DEVICE={selector!r}"
        raise InvalidArgument(f"{wanted}: there are {count} devices, 0 to {count - 1}")
    call("hipSetDevice", index)
    properties = call("hipGetDeviceProperties", index)
    return Device(
        ordinal=index,
        pci_bus_id=_pci_bus_id(properties),
        arch=_text(properties.gcnArchName),
        name=_text(properties.name),
        multiprocessors=int(properties.multiProcessorCount),
        host_is_device=int(properties.maxThreadsPerBlock) == 1,  # a host thread is the processor
    )


def _pci_bus_id(properties: Any) -> str:
    """As hipDeviceGetPCIBusId writes it, whose wrapper in hip-python 10 passes a null buffer."""
    return f"{properties.pciDomainID:04x}:{properties.pciBusID:02x}:{properties.pciDeviceID:02x}.0"


def _device_index(selector: str, count: int) -> int:
    if selector.isdecimal():
        return int(selector)
    wanted = selector.lower().removeprefix("gpu-").replace("-", "")
    for index in range(count):
        pci_bus_id = _pci_bus_id(call("hipGetDeviceProperties", index))
        uuid = bytes(call("hipDeviceGetUuid", index).bytes)
        if selector.lower() in (pci_bus_id, pci_bus_id.partition(":")[2]) or wanted in (
            uuid.hex(),
            uuid.decode("latin-1").lower(),  # ROCm fills in text
        ):
            return index
    raise InvalidArgument(f"HIPCOMM_DEVICE={selector!r}: none of the {count} devices has this id")


class Kernels:
    """The loaded code objects of a device's architecture.

    Attributes:
        functions: a cffi array of hipFunction_t, by the core's kernel number.
    """

    def __init__(self, arch: str) -> None:
        """Load all kernels for *arch*. Raises PlatformError where there is no code object for it."""
        directory = _code_object_directory(arch)
        self._modules: dict[str, Any] = {}
        name_of_arch = arch.encode()
        count = lib.hipcommKernelCount()
        self.functions = ffi.new("void *[]", count)
        file, name = ffi.new("char **"), ffi.new("char **")
        for index in range(count):
            if not lib.hipcommKernelIsFor(name_of_arch, index):
                continue
            lib.hipcommKernelInfo(index, file, name)
            module = self._module(directory, ffi.string(file[0]).decode(), arch)
            function = call("hipModuleGetFunction", module, ffi.string(name[0]))
            self.functions[index] = ffi.cast("void *", int(function))

    def _module(self, directory: Path, file: str, arch: str) -> Any:
        if file not in self._modules:
            image = _read_code_object(directory, file, arch)
            self._modules[file] = call("hipModuleLoadData", image)
        return self._modules[file]

    def unload(self) -> None:
        """Unload the modules. Nothing of them may be running."""
        while self._modules:
            call("hipModuleUnload", self._modules.popitem()[1])


def _code_object_directory(arch: str) -> Path:
    """The directory of the architecture's code objects; for NVIDIA the newest PTX that it can run."""
    base = arch.split(":", maxsplit=1)[0]
    if (_CODE_OBJECTS / base).is_dir():
        return _CODE_OBJECTS / base
    built = sorted(path.name for path in _CODE_OBJECTS.glob("*") if path.is_dir())
    if base.startswith("sm_"):
        older = [name for name in built if name.startswith("sm_") and int(name[3:]) <= int(base[3:])]
        if older:
            return _CODE_OBJECTS / max(older, key=lambda name: int(name[3:]))
    raise PlatformError(
        f"no code objects for {base} in {_CODE_OBJECTS}; there are: {', '.join(built) or 'none'}. "
        "Run `make kernels`"
    )


def _read_code_object(directory: Path, file: str, arch: str) -> bytes:
    exact = directory.name == arch.split(":", maxsplit=1)[0]
    for suffix in ("so", "co", "cubin", "ptx") if exact else ("ptx",):  # machine code fits its own chip only
        path = directory / f"{file}.{suffix}"
        if path.exists():
            # PTX is text and has to end in a zero byte
            return path.read_bytes() + (b"\0" if suffix == "ptx" else b"")
    raise PlatformError(f"{directory} has no code object for {file}. Run `make kernels`")
