"""hipcomm-run: processors and threads of ranks, -n auto, spellings; what all commands have in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from test_launcher import SHOW_ENVIRONMENT, hipcomm_run, python

from hipcomm.installation import VERSION
from hipcomm_launcher import cores

SHOW = python("import os; print(sorted(os.sched_getaffinity(0)), os.environ.get('OMP_NUM_THREADS'))")
PROCESSORS = sorted(os.sched_getaffinity(0))


def clean(**variables: str) -> dict[str, str]:
    """Our environment without what says how many threads, or where to run."""
    mine = {n: text for n, text in os.environ.items() if n not in ("OMP_NUM_THREADS", "HIPCOMM_PLATFORM")}
    return {**mine, **variables}


def seen(*arguments, **variables):
    """What SHOW prints in each rank, in no order."""
    result = hipcomm_run("--no-tag", *arguments, *SHOW, env=clean(**variables))
    assert result.returncode == 0, result.stderr
    return sorted(result.stdout.splitlines())


def test_shares_are_equal_and_disjoint():
    assert cores.shares([4, 5, 6, 7, 8], 2) == [{4, 5}, {6, 7}]
    assert cores.shares([0, 8, 1, 9], 4) == [{0}, {8}, {1}, {9}]
    assert cores.shares([3, 4], 3) == []


def test_threads_of_one_core_stay_together(tmp_path, monkeypatch):
    for cpu, package, core in (
        (0, 0, 0),
        (1, 0, 1),
        (2, 1, 0),
        (3, 1, 1),
        (4, 0, 0),
        (5, 0, 1),
        (6, 1, 0),
        (7, 1, 1),
    ):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{package}\n")
        (folder / "core_id").write_text(f"{core}\n")
    monkeypatch.setattr(cores, "_CPUS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    assert cores.usable() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert cores.shares(cores.usable(), 2) == [{0, 4, 1, 5}, {2, 6, 3, 7}]


def test_ranks_on_the_cpu_are_bound_where_processors_suffice():
    ranks = len(PROCESSORS)
    assert seen("-n", ranks, "--platform", "cpu") == sorted(f"[{cpu}] 1" for cpu in PROCESSORS)
    assert seen("-n", ranks + 1, "--platform", "cpu") == [f"{PROCESSORS} 1"] * (ranks + 1)
    assert seen("-n", 1, "--platform", "cpu") == [f"{PROCESSORS} None"]


def test_binding_is_switched():
    ranks = len(PROCESSORS)
    assert seen("-n", ranks, "--no-bind", HIPCOMM_PLATFORM="cpu") == [f"{PROCESSORS} 1"] * ranks
    assert seen("-n", ranks, HIPCOMM_PLATFORM="nvidia") == [f"{PROCESSORS} 1"] * ranks
    assert seen("-n", ranks, "--bind", HIPCOMM_PLATFORM="nvidia") == sorted(
        f"[{cpu}] 1" for cpu in PROCESSORS
    )
    result = hipcomm_run("-n", ranks + 1, "--bind", "true")
    assert result.returncode == 2
    assert f"--bind: {ranks + 1} ranks, but only {ranks} processors" in result.stderr


def test_ranks_are_bound_by_default_only_where_their_devices_are_processors(monkeypatch):
    assert cores.bind_by_default("cpu") and not cores.bind_by_default("amd")
    monkeypatch.setattr(cores, "_GPU_NODES", ("/no/such/node",))
    assert cores.bind_by_default("auto")
    monkeypatch.setattr(cores, "_GPU_NODES", ("/no/such/node", "/dev/null"))
    assert not cores.bind_by_default("auto")


def test_threads_are_a_share_unless_somebody_says_how_many(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(9)))
    assert cores.threads(2, {}) == {"OMP_NUM_THREADS": "4"}
    assert cores.threads(10, {}) == {"OMP_NUM_THREADS": "1"}
    assert cores.threads(1, {}) == {}
    assert cores.threads(2, {"OMP_NUM_THREADS": "7"}) == {}
    assert [line.split()[-1] for line in seen("-n", 2, OMP_NUM_THREADS="7")] == ["7", "7"]
    assert [line.split()[-1] for line in seen("-n", 2, "--env", "OMP_NUM_THREADS=3")] == ["3", "3"]


def test_auto_is_as_many_ranks_as_devices_or_processors():
    assert len(seen("-n", "auto", "--platform", "cpu")) == len(PROCESSORS)
    assert len(seen("-n", "auto", HIPCOMM_PLATFORM="cpu", HIPCOMM_CPU_DEVICES="1")) == 1
    assert len(seen("-n", "auto", "--devices", "0-2", "--platform", "cpu")) == 3


def test_auto_says_why_it_cannot_count(tmp_path):
    result = hipcomm_run("-n", "auto", "--platform", "amd", "true", env=clean(ROCM_PATH=str(tmp_path)))
    assert result.returncode == 1
    assert "hipcomm-run: -n auto: devices cannot be counted: HIPCOMM_PLATFORM='amd': " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["-np", "2"], ["--nproc_per_node", "2"], ["--nproc_per_node=2", "--max_restarts=0"], ["-n2"]],
)
def test_spellings_of_other_launchers(arguments):
    result = hipcomm_run(*arguments, "--no-tag", *SHOW_ENVIRONMENT)
    assert result.returncode == 0, result.stderr
    assert {json.loads(line)["WORLD_SIZE"] for line in result.stdout.splitlines()} == {"2"}


def test_the_programs_own_options_are_left_alone():
    show = [*python("import sys; print(sys.argv[1:])"), "--some_option", "-np", "--version", "-h"]
    result = hipcomm_run("--no-tag", *show)
    assert result.stdout == "['--some_option', '-np', '--version', '-h']\n"


@pytest.mark.parametrize("bad", ["0", "many", "1025", "-1"])
def test_numbers_of_ranks_that_are_none(bad):
    result = hipcomm_run("-n", bad, "true")
    assert result.returncode == 2
    assert "Invalid value for '-n'" in result.stderr


@pytest.mark.parametrize("module", ["hipcomm_launcher", "hipcomm_launcher.doctor.cli", "hipcomm_bench"])
def test_every_command_knows_these(module):

    for option in ("--version", "-h", "--help"):
        done = subprocess.run(
            [sys.executable, "-m", module, option], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        if option == "--version":
            assert done.stdout.split()[0].startswith("hipcomm-") and done.stdout.split()[-1] == VERSION
        else:
            assert "--platform" in done.stdout and "--version" in done.stdout and "-h, --help" in done.stdout
