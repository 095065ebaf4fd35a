"""The CPU platform's code objects: which form of them a process takes; and how long its waits spin."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest
from platform_cpu import hip, ok

from hipcomm.hip import kernels as loading

PROCESSOR = platform.machine()
on_x86_64 = pytest.mark.skipif(PROCESSOR != "x86_64", reason="only there is more than one form")


def processor_has(flag: str) -> bool:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return flag in flags.split()


@on_x86_64
def test_the_device_says_whether_the_processor_has_avx2() -> None:
    name = ok(hip.hipGetDeviceProperties(0)).gcnArchName
    assert name == "x86_64" + (":avx2+" if processor_has("avx2") else "")


@pytest.mark.parametrize(
    ("arch", "built", "taken"),
    [
        ("x86_64:avx2+", ("x86_64", "x86_64_avx2"), "x86_64_avx2"),
        ("x86_64:avx2+", ("x86_64",), "x86_64"),
        ("x86_64", ("x86_64", "x86_64_avx2"), "x86_64"),
        ("gfx942:sramecc+:xnack-", ("gfx942", "gfx942_xnack"), "gfx942"),
        ("sm_90", ("sm_80", "sm_90", "sm_100"), "sm_90"),
        ("sm_89", ("sm_80", "sm_90"), "sm_80"),
    ],
)
def test_the_form_is_the_best_that_runs(
    arch: str, built: tuple[str, ...], taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in built:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(loading, "_CODE_OBJECTS", tmp_path)
    assert loading._code_object_directory(arch).name == taken


@on_x86_64
@pytest.mark.parametrize(("form", "wide"), [("x86_64", False), ("x86_64_avx2", True)])
def test_forms_have_the_instructions_that_their_names_say(form: str, wide: bool, tmp_path: Path) -> None:
    built = tmp_path / form / "all_gather_pipelined.so"
    root = Path(__file__).resolve().parent.parent
    subprocess.run(["make", "-s", f"OBJECTS={tmp_path}", built], cwd=root, check=True, timeout=120)
    code = subprocess.run(
        ["objdump", "-d", built], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "\tpause" in code
    assert ("%ymm" in code or "\tvmov" in code) == wide


def test_waits_keep_spinning_unless_somebody_wants_the_core(tmp_path: Path) -> None:
    """A rank with a core of its own spins however late its peers are; one that shares its core gives it away
    at once; and learns again when peers come in time."""
    if PROCESSOR != "x86_64":
        pytest.skip("kernels/arch/cpu.h is for x86-64")
    binary = tmp_path / "patience"
    source = Path(__file__).parent / "patience.cpp"
    subprocess.run(["g++", "-std=c++20", "-O1", "-Wno-psabi", "-o", binary, source], check=True, timeout=60)
    told = subprocess.run([binary], capture_output=True, text=True, check=True, timeout=60).stdout
    patience = {who: int(turns) for who, turns in (line.rsplit(" ", 1) for line in told.splitlines())}
    assert patience["nobody"] == 64
    assert patience["somebody"] <= 4
    assert patience["shared, peers in time"] == 64
