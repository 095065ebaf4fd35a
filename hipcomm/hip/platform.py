"""The platform: which HIP library this process uses.

Everything above works against HIP through hip-python, which finds its library by ``ROCM_PATH`` at
the first HIP call. That choice is made here, once per process; there is no test for a platform's name
anywhere else.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any, NamedTuple

from hipcomm._tables import PLATFORMS
from hipcomm.environment import Settings
from hipcomm.errors import InvalidArgument, PlatformError
from hipcomm.hip import bind, text
from hipcomm.installation import PACKAGE

_DIRECTORIES = {name: directory for name, directory, _ in PLATFORMS}
_AUTOMATIC = [name for name, _, is_automatic in PLATFORMS if is_automatic]


class Platform(NamedTuple):
    """A platform that was chosen.

    Attributes:
        name: one of ``hipcomm.environment.PLATFORMS``, except "auto".
        library: path of its libamdhip64.so.
        reason: why it was chosen, for people.
    """

    name: str
    library: str
    reason: str


_chosen: Platform | None = None


def choose(settings: Settings) -> Platform:
    """Choose the platform and bind hip-python to it, at the first call; later calls return the same.

    ``HIPCOMM_PLATFORM=auto`` takes the first of amd, nvidia, cpu that has a device; never amd-software, an
    AMD GPU in software, for tests.

    Raises:
        PlatformError: the platform has no library or no device, or this process uses hip-python
            with another one already.
        InvalidArgument: the process was bound to another platform by an earlier call.
    """
    global _chosen  # noqa: PLW0603  one HIP library per process: hip-python cannot be bound twice
    if _chosen is not None:
        if settings.platform not in ("auto", _chosen.name):
            raise InvalidArgument(
                f"{settings.name_of('platform')}={settings.platform!r}: "
                f"this process already runs on {_chosen.name}"
            )
        return _chosen
    platform = (
        _find_automatically()
        if settings.platform == "auto"
        else _find(settings.platform, settings.name_of("platform"))
    )
    _bind(platform)
    _chosen = platform
    return platform


def _find(name: str, asked_by: str) -> Platform:
    library = _library(name)
    if library is None:
        raise PlatformError(f"{asked_by}={name!r}: no libamdhip64.so found ({_where(name)})")
    devices = _count_devices(library)
    if isinstance(devices, str):
        raise PlatformError(f"{asked_by}={name!r}: {library}: {devices}")
    return Platform(name, library, f"{asked_by}={name}")


def _find_automatically() -> Platform:
    reasons = []
    for name in _AUTOMATIC:
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
    if _DIRECTORIES[name]:
        path = PACKAGE / "platforms" / _DIRECTORIES[name] / "lib" / "libamdhip64.so"
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
    bind(module)


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
    return text(properties.name) if int(error) == 0 else ""


def _device_name_with(handle: ctypes.CDLL, device: int) -> str:
    name = ctypes.create_string_buffer(256)
    return name.value.decode() if handle.hipDeviceGetName(name, 256, device) == 0 else ""
