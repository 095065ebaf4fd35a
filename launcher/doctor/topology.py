"""Where devices are: what links them, which processors are near; from the system's files and nvidia-smi."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_PCI = Path("/sys/bus/pci/devices")
_KFD = Path("/sys/class/kfd/kfd/topology/nodes")
_LINK_TYPES = {"2": "PCIe", "11": "xGMI"}  # CRAT's numbers of links, of those that join GPUs
_PATIENCE = 30.0  # seconds for nvidia-smi

Matrix = list[list[str]]


def numa_node(pci_bus_id: str) -> int | None:
    """Return the NUMA node of a PCI device; None: there is none, or the system does not say."""
    try:
        node = int((_PCI / pci_bus_id.lower() / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def near_processors(pci_bus_id: str) -> str:
    """Return the processors near a PCI device, as in ``0-31,64-95``; empty: the system does not say."""
    try:
        return (_PCI / pci_bus_id.lower() / "local_cpulist").read_text().strip()
    except OSError:
        return ""


def links(platform: str, bus_ids: Sequence[str]) -> Matrix:
    """Return what links each device to each: ``xGMI``, ``PCIe``; NVIDIA's words (``NV18``, ``PHB``); ``?``.

    Empty where the platform has no links, or the system does not say.
    """
    if platform == "amd":
        return _by_kfd(bus_ids)
    if platform == "nvidia":
        return _by_nvidia_smi(bus_ids)
    return []


def _by_kfd(bus_ids: Sequence[str]) -> Matrix:
    nodes: dict[str, str] = {}  # KFD's number of a GPU, by bus id
    for folder in _KFD.glob("*"):
        said = _properties(folder / "properties")
        if int(said.get("simd_count", "0")):
            place = int(said.get("location_id", "0"))
            bus, slot, function = place >> 8 & 0xFF, place >> 3 & 0x1F, place & 7
            nodes[f"{int(said.get('domain', '0')):04x}:{bus:02x}:{slot:02x}.{function}"] = folder.name
    if not nodes:
        return []
    kinds: dict[tuple[str, str], str] = {}
    for group in ("p2p_links", "io_links"):  # the second are the direct ones, and count where there are both
        for link in _KFD.glob(f"*/{group}/*/properties"):
            said = _properties(link)
            ends = said.get("node_from", ""), said.get("node_to", "")
            kinds[ends] = _LINK_TYPES.get(said.get("type", ""), "?")
    numbers = [nodes.get(bus_id.lower(), "") for bus_id in bus_ids]
    return [["-" if a == b else kinds.get((a, b), "?") for b in numbers] for a in numbers]


def _properties(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


def _by_nvidia_smi(bus_ids: Sequence[str]) -> Matrix:
    said = _nvidia_smi("topo", "-m")
    indices = {}
    for line in _nvidia_smi("--query-gpu=index,pci.bus_id", "--format=csv,noheader").splitlines():
        index, _, bus_id = line.partition(",")
        indices[bus_id.strip().lower()[-12:]] = f"GPU{index.strip()}"  # its domain has 8 digits, ours 4
    rows = [re.sub(r"\x1b\[[0-9;]*m", "", line).split("\t") for line in said.splitlines()]
    heading = next((row for row in rows if "GPU0" in [cell.strip() for cell in row]), [])
    columns = {cell.strip(): number for number, cell in enumerate(heading) if cell.strip()}
    table = {row[0].strip(): [cell.strip() for cell in row] for row in rows if row is not heading}
    names = [indices.get(bus_id.lower()[-12:], "") for bus_id in bus_ids]
    if not any(name and name in table for name in names):
        return []
    return [["-" if a == b else _cell(table.get(a, []), columns.get(b)) for b in names] for a in names]


def _cell(row: list[str], column: int | None) -> str:
    return row[column] if column is not None and column < len(row) else "?"


def _nvidia_smi(*arguments: str) -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
