"""What the HIP library says: the platform that is chosen, its devices, their kernels, who reaches whom.

``python -m hipcomm_launcher.doctor.probe`` writes each section, as a line of JSON, as soon as it is known:
what was found before a crash is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from hipcomm.environment import Settings
from hipcomm.errors import Error
from hipcomm.hip import call
from hipcomm.hip.device import Device, open_device
from hipcomm.hip.kernels import Kernels
from hipcomm.hip.platform import choose

from .findings import Problem, Section


def examine(settings: Settings) -> Iterator[Section]:
    """Look at platform, devices, code objects and peer access, in this order."""
    try:
        platform = choose(settings)
        runtime, driver = call("hipRuntimeGetVersion"), call("hipDriverGetVersion")
    except Error as error:
        yield Section("platform", [], [Problem(str(error), "HIPCOMM_PLATFORM=cpu runs without a GPU")])
        return
    facts = [
        f"{platform.name}, because {platform.reason}",
        f"HIP library {platform.library}, version {runtime}, driver {driver}",
    ]
    yield Section("platform", facts, [])
    devices = [
        open_device(settings._replace(device=str(ordinal)), 0)
        for ordinal in range(int(call("hipGetDeviceCount")))
    ]
    yield Section("devices", [_describe(device) for device in devices], [])
    yield _code_objects(devices)
    yield _peer_access(len(devices))


def _describe(device: Device) -> str:
    device.use()
    free, total = call("hipMemGetInfo")
    memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    what = f"{device.name}, {device.arch}, {device.multiprocessors} multiprocessors"
    return f"{device.ordinal}: {what}, {device.pci_bus_id}, {memory}"


def _code_objects(devices: list[Device]) -> Section:
    """Load the kernels on one device of each architecture: those that are there need not fit."""
    facts, problems = [], []
    for arch, device in {device.arch: device for device in reversed(devices)}.items():
        device.use()
        try:
            kernels = Kernels(arch)
            facts.append(f"{arch}: {len(kernels.functions)} kernels load")
            kernels.unload()
        except Error as error:
            fix = "build hipcomm with clang 20 or newer: `make kernels`, or `pip install .`"
            problems.append(Problem(f"{arch}: {error}", fix))
    return Section("code objects", facts, problems)


def _peer_access(count: int) -> Section:
    reached = [
        [device == peer or bool(call("hipDeviceCanAccessPeer", device, peer)) for peer in range(count)]
        for device in range(count)
    ]
    width = len(str(count - 1)) + 1
    facts = [" " * width + "".join(f"{peer:{width}}" for peer in range(count))]
    for device, row in enumerate(reached):
        marks = ("-" if device == peer else "+" if yes else "." for peer, yes in enumerate(row))
        facts.append(f"{device:{width}}" + "".join(f"{mark:>{width}}" for mark in marks))
    unreached = [
        f"{device} to {peer}" for device, row in enumerate(reached) for peer, yes in enumerate(row) if not yes
    ]
    problems = []
    if unreached:
        what = f"no peer access from device {', '.join(unreached)}"
        fix = "choose others with hipcomm-run --devices; where AMD GPUs meet over PCIe, boot with iommu=pt"
        problems.append(Problem(what, fix))
    return Section("peer access (+: the row's device reaches the column's)", facts, problems)


def main() -> None:
    """Write what is found to standard output."""
    for section in examine(Settings.read()):
        sys.stdout.write(section.to_json() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
