"""What the HIP library says: the platform that is chosen, its devices, their kernels, who reaches whom.

``python -m hipcomm_launcher.doctor.probe`` writes each section, as a line of JSON, as soon as it is known:
what was found before a crash is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from hipcomm.environment import Settings
from hipcomm.errors import Error
from hipcomm.hip import call
from hipcomm.hip.device import Device, open_device
from hipcomm.hip.kernels import kernels_of
from hipcomm.hip.platform import choose
from hipcomm.installation import how_to_get_code_objects

from . import topology
from .findings import Problem, Section

_PLACES = 8  # bus ids that fit in a line; --json has all


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
    yield _devices([_describe(device) for device in devices])
    yield _code_objects(devices)
    yield _peer_access(len(devices))
    links = topology.links(platform.name, [device.pci_bus_id for device in devices])
    if links and len(devices) > 1:
        yield Section("links", _matrix(links), [], {"links": links})


def _describe(device: Device) -> dict[str, Any]:
    device.use()
    free, total = call("hipMemGetInfo")
    return {
        "ordinal": device.ordinal,
        "name": device.name.removesuffix(f" {device.ordinal}"),  # the CPU platform numbers its devices
        "arch": device.arch,
        "multiprocessors": device.multiprocessors,
        "pci_bus_id": device.pci_bus_id,
        "free_bytes": int(free),
        "total_bytes": int(total),
        "numa_node": topology.numa_node(device.pci_bus_id),
        "near_processors": topology.near_processors(device.pci_bus_id),
    }


def _devices(found: list[dict[str, Any]]) -> Section:
    """Describe devices, equal ones in one line; and the NUMA nodes, where there are any."""
    kinds: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    nodes: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for device in found:
        what = f"{device['name']}, {device['arch']}, {device['multiprocessors']} multiprocessors"
        kinds.setdefault((what, device["total_bytes"] >> 30), []).append(device)
        if device["numa_node"] is not None:
            nodes.setdefault((device["numa_node"], device["near_processors"]), []).append(device)
    facts = []
    for (what, _), alike in kinds.items():
        free = sorted({f"{device['free_bytes'] / 2**30:.1f}" for device in alike}, key=float)
        memory = " to ".join(free[:1] + free[1:][-1:]) + f" of {alike[0]['total_bytes'] / 2**30:.1f} GiB free"
        places = [device["pci_bus_id"] for device in alike]
        where = ", ".join(places) if len(places) <= _PLACES else f"{places[0]} to {places[-1]}"
        facts.append(f"{_numbers(alike)}: {what}, {where}, {memory}")
    for (node, processors), near in sorted(nodes.items()):
        facts.append(f"NUMA node {node}, processors {processors}: devices {_numbers(near)}")
    return Section("devices", facts, [], {"devices": found})


def _numbers(devices: list[dict[str, Any]]) -> str:
    """Return the devices' numbers, as in ``0-3,6``."""
    runs: list[list[int]] = []
    for ordinal in (device["ordinal"] for device in devices):
        if runs and runs[-1][-1] + 1 == ordinal:
            runs[-1].append(ordinal)
        else:
            runs.append([ordinal])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _matrix(cells: list[list[str]]) -> list[str]:
    """Return a table with the devices' numbers above and beside it."""
    heads = [str(number) for number in range(len(cells))]
    width = max(len(cell) for cell in (*heads, *(cell for row in cells for cell in row))) + 1
    side = len(heads[-1])
    lines = [" " * side + "".join(f"{head:>{width}}" for head in heads)]
    return lines + [
        f"{head:>{side}}" + "".join(f"{cell:>{width}}" for cell in row)
        for head, row in zip(heads, cells, strict=True)
    ]


def _code_objects(devices: list[Device]) -> Section:
    """Load the kernels on one device of each architecture: those that are there need not fit."""
    facts, problems = [], []
    for arch, device in {device.arch: device for device in reversed(devices)}.items():
        device.use()
        try:
            facts.append(f"{arch}: {len(kernels_of(device).functions)} kernels load")
        except Error as error:
            problems.append(Problem(f"{arch}: {error}", how_to_get_code_objects()))
    return Section("code objects", facts, problems)


def _peer_access(count: int) -> Section:
    reached = [
        [device == peer or bool(call("hipDeviceCanAccessPeer", device, peer)) for peer in range(count)]
        for device in range(count)
    ]
    facts = _matrix(
        [
            ["-" if device == peer else "+" if yes else "." for peer, yes in enumerate(row)]
            for device, row in enumerate(reached)
        ]
    )
    unreached = [
        f"{device} to {peer}" for device, row in enumerate(reached) for peer, yes in enumerate(row) if not yes
    ]
    problems = []
    if unreached:
        what = f"no peer access from device {', '.join(unreached)}"
        fix = "choose others with hipcomm-run --devices; where AMD GPUs meet over PCIe, boot with iommu=pt"
        problems.append(Problem(what, fix))
    return Section(
        "peer access (+: the row's device reaches the column's)", facts, problems, {"reached": reached}
    )


def main() -> None:
    """Write what is found to standard output."""
    for section in examine(Settings.read()):
        sys.stdout.write(section.to_json() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
