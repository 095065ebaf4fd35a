"""hipcomm-doctor on links and NUMA nodes, from files and programs of machines that are not here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hipcomm_launcher.doctor import probe, topology

# Two GPUs with xGMI, a third over PCIe, and a processor, which is a node too. KFD's numbers are not HIP's.
GPUS = {"1": 0x0300, "2": 0x8300, "3": 0xC100}
LINKS = [
    ("1", "io_links", "2", 11),
    ("2", "io_links", "1", 11),
    ("1", "p2p_links", "2", 2),
    ("1", "p2p_links", "3", 2),
    ("3", "p2p_links", "1", 2),
    ("0", "io_links", "1", 2),
]
BUS_IDS = ["0000:83:00.0", "0000:03:00.0", "0000:C1:00.0", "0000:ff:00.0"]

# What nvidia-smi topo -m says of three GPUs and a network card; its heading is underlined.
TOPO = (
    "\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\n"
    "GPU0\t X \tNV18\tSYS\tPIX\t0-55\t0\t\tN/A\n"
    "GPU1\tNV18\t X \tPHB\tSYS\t0-55\t0\t\tN/A\n"
    "GPU2\tSYS\tPHB\t X \tSYS\t56-111\t1\t\tN/A\n"
    "NIC0\tPIX\tSYS\tSYS\t X \n\nLegend:\n\n  X    = Self\n"
)
INDICES = "0, 00000000:04:00.0\n1, 00000000:05:00.0\n2, 00000000:C4:00.0\n"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_amd_links_are_kfds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "0" / "properties", "cpu_cores_count 64\nsimd_count 0\n")
    for node, place in GPUS.items():
        write(tmp_path / node / "properties", f"simd_count 416\nlocation_id {place}\ndomain 0\n")
    for number, (source, group, target, kind) in enumerate(LINKS):
        text = f"type {kind}\nnode_from {source}\nnode_to {target}\nweight 15\n"
        write(tmp_path / source / group / str(number) / "properties", text)
    monkeypatch.setattr(topology, "_KFD", tmp_path)
    assert topology.links("amd", BUS_IDS) == [
        ["-", "xGMI", "?", "?"],
        ["xGMI", "-", "PCIe", "?"],
        ["?", "PCIe", "-", "?"],
        ["?", "?", "?", "-"],
    ]
    monkeypatch.setattr(topology, "_KFD", tmp_path / "none")
    assert topology.links("amd", BUS_IDS) == []


def test_nvidia_links_are_nvidia_smis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "topo", TOPO)
    write(tmp_path / "indices", INDICES)
    program = f'#!/bin/sh\ncase "$1" in topo) cat {tmp_path}/topo;; *) cat {tmp_path}/indices;; esac\n'
    write(tmp_path / "nvidia-smi", program)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    seen = ["0000:05:00.0", "0000:c4:00.0", "0000:04:00.0", "0000:77:00.0"]
    assert topology.links("nvidia", seen) == [
        ["-", "PHB", "NV18", "?"],
        ["PHB", "-", "SYS", "?"],
        ["NV18", "SYS", "-", "?"],
        ["?", "?", "?", "-"],
    ]
    assert topology.links("nvidia", ["0000:77:00.0"]) == []
    write(tmp_path / "nvidia-smi", "#!/bin/sh\nexit 9\n")
    assert topology.links("nvidia", seen) == []
    assert topology.links("cpu", seen) == []


def test_numa_nodes_are_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "0000:c4:00.0" / "numa_node", "1\n")
    write(tmp_path / "0000:c4:00.0" / "local_cpulist", "56-111\n")
    write(tmp_path / "0000:c5:00.0" / "numa_node", "-1\n")
    monkeypatch.setattr(topology, "_PCI", tmp_path)
    assert topology.numa_node("0000:C4:00.0") == 1
    assert topology.near_processors("0000:C4:00.0") == "56-111"
    assert topology.numa_node("0000:c5:00.0") is None
    assert (topology.numa_node("none"), topology.near_processors("none")) == (None, "")


def a_device(ordinal: int, free: float, name: str = "H200", node: int | None = None) -> dict[str, object]:
    return {
        "ordinal": ordinal,
        "name": name,
        "arch": "sm_90",
        "multiprocessors": 132,
        "pci_bus_id": f"0000:0{ordinal}:00.0",
        "free_bytes": int(free * 2**30),
        "total_bytes": 140 << 30,
        "numa_node": node,
        "near_processors": "" if node is None else f"{node}-",
    }


def test_equal_devices_share_a_line() -> None:
    devices = [a_device(0, 139.5, node=0), a_device(1, 100, "H100", node=1), a_device(2, 12, node=0)]
    devices += [a_device(3, 139.5, node=0)]
    section = probe._devices(devices)
    assert section.facts == [
        "0,2-3: H200, sm_90, 132 multiprocessors, 0000:00:00.0, 0000:02:00.0, 0000:03:00.0,"
        " 12.0 to 139.5 of 140.0 GiB free",
        "1: H100, sm_90, 132 multiprocessors, 0000:01:00.0, 100.0 of 140.0 GiB free",
        "NUMA node 0, processors 0-: devices 0,2-3",
        "NUMA node 1, processors 1-: devices 1",
    ]
    assert section.data == {"devices": devices}
    nine = probe._devices([a_device(ordinal, 1) for ordinal in range(9)])
    assert "132 multiprocessors, 0000:00:00.0 to 0000:08:00.0, 1.0 of" in nine.facts[0]
    assert probe._devices([a_device(0, 1)]).facts == [
        "0: H200, sm_90, 132 multiprocessors, 0000:00:00.0, 1.0 of 140.0 GiB free"
    ]


def test_tables_are_aligned() -> None:
    assert probe._matrix([["-", "NV18"], ["NV18", "-"]]) == ["     0    1", "0    - NV18", "1 NV18    -"]
