"""hipcomm-bench and MPI: which mpirun it is, its command line, who shares a job; one that is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_bench import OPTIONS

from hipcomm_bench import mpirun
from hipcomm_bench.contestants import mpi
from hipcomm_bench.contestants.base import Launcher
from hipcomm_bench.launch import divide
from hipcomm_bench.results import Job

VERSIONS = {
    "mpirun (Open MPI) 4.1.4\n\nReport bugs": mpi.OPEN_MPI,
    "prterun (OpenRTE) 5.0.11": mpi.OPEN_MPI,
    "HYDRA build details:\n    Version:    5.0.2": mpi.MPICH,
    "Intel(R) MPI Library for Linux* OS, Version 2021.18.1 Build 20260626 (id: b44796a)": mpi.INTEL,
    "mpirun 3": "",
}


def a_program(path: Path, says: str) -> Path:
    """An mpirun that says its version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("says", VERSIONS)
def test_an_mpirun_is_told_by_what_it_says(says: str, tmp_path: Path) -> None:
    assert mpi.flavour(str(a_program(tmp_path / "mpirun", says))) == VERSIONS[says]
    assert mpi.flavour(str(tmp_path / "none")) == ""


def test_another_mpis_mpirun_is_not_open_mpis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_program(tmp_path / "bin" / "mpirun", "HYDRA build details:")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    assert mpi.OpenMpi.why_missing() == "mpirun is MPICH, not Open MPI"
    assert mpi.Mpich.why_missing() == (
        "build/mpi/mpich is not there: python -m hipcomm_bench.mpi_venvs mpich"
    )
    a_program(tmp_path / "build" / "mpi" / "mpich" / "bin" / "mpirun", "HYDRA")
    assert mpi.Mpich.why_missing() is None
    programs = tmp_path / "build" / "mpi" / "mpich" / "bin"
    assert mpi.Mpich.launcher() == Launcher("MPICH", str(programs / "mpirun"), str(programs / "python"))


@pytest.mark.parametrize("cores", [1, 64])
def test_each_mpirun_binds_in_its_own_words(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpirun, "usable_cores", lambda: cores)
    lines = {}
    for kind in (mpi.OPEN_MPI, mpi.MPICH, mpi.INTEL):
        line, environment, note = mpirun.command(Launcher(kind, "/x/mpirun", "/x/python"), 4)
        assert line[0] == "/x/mpirun" and line[-5:] == ["-n", "4", "/x/python", "-m", "mpi4py"]
        assert environment["PATH"].startswith(f"/x{os.pathsep}")
        assert ("a core of its own" in note) == (cores == 64)
        lines[kind] = line[1:-5], environment
    bound = "core" if cores == 64 else "none"
    assert "--bind-to" in lines[mpi.OPEN_MPI][0] and bound in lines[mpi.OPEN_MPI][0]
    assert ("mpi_yield_when_idle" in lines[mpi.OPEN_MPI][0]) == (cores == 1)
    assert lines[mpi.MPICH][0] == ["-bind-to", bound]
    assert lines[mpi.INTEL][1]["I_MPI_PIN"] == ("on" if cores == 64 else "off")


def test_a_second_mpi_gets_a_job_with_hipcomm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    options = replace(
        OPTIONS, contestants=["hipcomm", "openmpi", "gloo", "mpich", "hipcomm-symm", "intel-mpi"]
    )
    ((launcher, alone),) = divide(options)
    assert launcher is None and alone.contestants == options.contestants
    assert set(alone.absent) == {"openmpi", "mpich", "intel-mpi"}
    for name in ("mpich", "intel-mpi"):
        a_program(tmp_path / "build" / "mpi" / name / "bin" / "mpirun", "")
    (first, one), (second, two) = divide(options)
    assert first is not None and first.kind == mpi.MPICH
    assert one.contestants == ["hipcomm", "openmpi", "gloo", "mpich", "hipcomm-symm"]
    assert list(one.absent) == ["openmpi"] and "mpirun is not installed" in one.absent["openmpi"]
    assert second is not None and second.kind == mpi.INTEL
    assert two.contestants == ["hipcomm", "hipcomm-symm", "intel-mpi"]


INSTALLED = [
    kind for kind in (mpi.OpenMpi, mpi.OpenMpi5, mpi.Mpich, mpi.IntelMpi) if kind.why_missing() is None
]


@pytest.mark.skipif(not INSTALLED, reason="no MPI is installed (python -m hipcomm_bench.mpi_venvs)")
@pytest.mark.parametrize("op", ["all_reduce", "gather", "all_to_all_v", "fused"])
def test_an_mpi_takes_part(op: str, tmp_path: Path) -> None:
    name = INSTALLED[0].name
    which = ["fused", "--tokens", "3", "--hidden", "100"] if op == "fused" else [op, "-b", "1K", "-e", "1K"]
    if op == "fused":
        name = {"openmpi": "openmpi+numpy", "openmpi5": "openmpi5+numpy"}.get(name, "")
        if not name:
            pytest.skip("fused has only Open MPI")
    command = [sys.executable, "-m", "hipcomm_bench", *which, "-g", "2", "-n", "5", "--budget", "0.01"]
    command += ["--compare", name, "--output", str(tmp_path / "r")]
    environment = {**os.environ, "HIPCOMM_PLATFORM": "cpu"}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (job,) = (Job.from_dict(job) for job in json.loads((tmp_path / "r.json").read_text("utf-8"))["jobs"])
    assert {row.contestant for row in job.rows} == {"hipcomm", name}
    assert all(row.wrong == 0 for row in job.rows)
    assert job.launcher.startswith("mpirun ")
