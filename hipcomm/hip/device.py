"""A rank's device: finding it, and making it current."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from hipcomm.environment import Settings
from hipcomm.errors import InvalidArgument
from hipcomm.hip import call, text

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Device(NamedTuple):
    """The device of a rank.

    Attributes:
        ordinal: HIP's number of it in this process.
        pci_bus_id: what identifies it to other processes.
        arch: gcnArchName, for example "gfx942:sramecc+:xnack-", "sm_90", "x86_64:avx2+".
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

        Memory comes from the current device, and waiting for "the device" waits for that one: in a thread
        that has never called :meth:`use` it would be device 0.
        """
        before = call("hipGetDevice")
        self.use()
        try:
            yield
        finally:
            call("hipSetDevice", before)


class _OnDevice(Protocol):
    device: Device


_Owner = TypeVar("_Owner", bound=_OnDevice)


def with_device(
    method: Callable[Concatenate[_Owner, _Arguments], _Result],
) -> Callable[Concatenate[_Owner, _Arguments], _Result]:
    """Decorate a method so that its object's device is current while it runs; see :meth:`Device.current`.

    Every method that is collective on the host has it: any thread may call those.
    """

    @functools.wraps(method)
    def on_device(self: _Owner, /, *arguments: _Arguments.args, **keywords: _Arguments.kwargs) -> _Result:
        with self.device.current():
            return method(self, *arguments, **keywords)

    return on_device


def open_device(settings: Settings, local_rank: int) -> Device:
    """Make a device current: the one that the settings name, or that of the local rank.

    Args:
        settings: *device* is an ordinal, a PCI bus id, a UUID ("GPU-…" or hexadecimal), or None.
        local_rank: the ordinal where no device is named. Beyond the last device it begins with the first one
            again: each rank may see devices of its own (Slurm's --gpus-per-task, Ray). Ranks that then are on
            the same device are found out when they compare their bus ids.

    Raises:
        InvalidArgument: there is no such device.
        PlatformError: a HIP call failed.
    """
    count = int(call("hipGetDeviceCount"))
    named = f"{settings.name_of('device')}={settings.device!r}"
    index = local_rank % count if settings.device is None else _device_index(settings.device, count, named)
    if not 0 <= index < count:
        raise InvalidArgument(f"{named}: there are {count} devices, 0 to {count - 1}")
    call("hipSetDevice", index)
    properties = call("hipGetDeviceProperties", index)
    return Device(
        ordinal=index,
        pci_bus_id=_pci_bus_id(properties),
        arch=text(properties.gcnArchName),
        name=text(properties.name),
        multiprocessors=int(properties.multiProcessorCount),
        host_is_device=int(properties.maxThreadsPerBlock) == 1,  # a host thread is the processor
    )


def _pci_bus_id(properties: Any) -> str:
    """As hipDeviceGetPCIBusId writes it, whose wrapper in hip-python 10 passes a null buffer."""
    return f"{properties.pciDomainID:04x}:{properties.pciBusID:02x}:{properties.pciDeviceID:02x}.0"


def _device_index(selector: str, count: int, named: str) -> int:
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
    raise InvalidArgument(f"{named}: none of the {count} devices has this id")
