"""From nothing to a communicator, and how long it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from harness import PLATFORM, worlds

import hipcomm
from hipcomm.join.session import blocks_that_fit

PATIENCE = 60.0


def hipcomm_run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "hipcomm_launcher", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HIPCOMM_PLATFORM": PLATFORM},
    )


@pytest.mark.parametrize("world", worlds(1, 4, 16))
def test_start_up(world):
    """The goal is 1.5 s with 4 ranks on 2 cores; a test on a shared machine can only print the time."""
    started = time.monotonic()
    result = hipcomm_run("-n", str(world), sys.executable, "-c", "import hipcomm; hipcomm.init()")
    print(f"{world} ranks: {time.monotonic() - started:.2f} s")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr == ""


USE_IT = """
import numpy, hipcomm
with hipcomm.init() as comm:
    comm.barrier()
    comm.synchronize()
    print(comm.rank, comm.world_size, comm.platform)
"""


@pytest.mark.parametrize("world", worlds(3))
def test_a_program_runs(world):
    result = hipcomm_run("-n", str(world), "--no-tag", sys.executable, "-c", USE_IT)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [f"{rank} {world} {PLATFORM}" for rank in range(world)]


def test_debug_log_of_a_program_that_has_set_up_none():
    """On standard error: the device memory that the communicator costs, and each call's plan."""
    code = "import hipcomm\nwith hipcomm.init() as comm: comm.barrier()\n"
    env = {**os.environ, "HIPCOMM_PLATFORM": PLATFORM, "HIPCOMM_LOG": "debug"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, env=env
    )
    assert result.returncode == 0, result.stderr
    assert " bytes of device memory\n" in result.stderr
    assert "hipcomm DEBUG: rank 0: barrier of 0 bytes" in result.stderr


def test_importing_is_light():
    """`import hipcomm` loads neither NumPy nor a HIP library: the launcher and the doctor need neither."""
    code = "import sys, hipcomm; print(sorted({'numpy', 'rocm', 'hip', 'cffi', 'click'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert result.stdout.strip() == "[]", result.stderr


def test_the_types_that_calls_return_have_public_names():
    assert all(getattr(hipcomm, name).__name__ == name for name in hipcomm.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Session'"):
        _ = hipcomm.Session


@pytest.mark.parametrize("world", worlds(2))
def test_ranks_that_disagree_all_fail_alike(world):
    """Settings that must be equal and are not: every rank raises, none waits."""
    code = (
        "import os, hipcomm\n"
        "try: hipcomm.init(algorithm=['auto', 'two_shot'][int(os.environ['RANK']) == 1])\n"
        "except hipcomm.InvalidArgument as error: print(error)\n"
    )
    result = hipcomm_run("-n", str(world), "--no-tag", sys.executable, "-c", code)
    lines = result.stdout.splitlines()
    assert len(lines) == world, result.stderr
    for line in lines:
        assert "HIPCOMM_ALGORITHM=two_shot" in line
        assert "HIPCOMM_ALGORITHM=auto" in line
        assert "rank 1" in line


@pytest.mark.skipif(PLATFORM != "cpu", reason="needs 17 devices")
def test_seventeen_ranks_are_refused():
    code = "import hipcomm\ntry: hipcomm.init()\nexcept hipcomm.InvalidArgument as error: print(error)\n"
    result = hipcomm_run(
        "-n", "17", "--env", "HIPCOMM_CPU_DEVICES=17", "--no-tag", sys.executable, "-c", code
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 17, result.stderr
    assert all("HIPCOMM_WORLD_SIZE='17': hipcomm joins 16 ranks at most" in line for line in lines)


@pytest.mark.parametrize("world", worlds(2))
@pytest.mark.parametrize("status", (0, 3))
def test_a_program_may_exit_inside_with(world, status):
    """sys.exit(0) ends the job in good order, also for ranks that are late; any other status fails it."""
    code = (
        "import sys, time, hipcomm\n"
        "with hipcomm.init() as comm:\n"
        f"    if comm.rank == 0: sys.exit({status})\n"
        "    time.sleep(0.3)\n"
        "    sys.exit()\n"
    )
    assert hipcomm_run("-n", str(world), "--no-tag", sys.executable, "-c", code).returncode == status


@pytest.mark.parametrize("world", worlds(2))
def test_two_ranks_on_one_device_are_refused(world):
    code = (
        "import os, hipcomm\n"
        "os.environ['HIPCOMM_DEVICE'] = '0'\n"
        "try: hipcomm.init()\n"
        "except hipcomm.InvalidArgument as error: print(error)\n"
    )
    result = hipcomm_run("-n", str(world), "--no-tag", sys.executable, "-c", code)
    lines = result.stdout.splitlines()
    assert len(lines) == world, result.stderr
    assert all("ranks 0 and 1 are on the same device" in line and "HIPCOMM_DEVICE" in line for line in lines)


@pytest.mark.skipif(PLATFORM != "cpu", reason="GPUs that ranks see are real")
@pytest.mark.parametrize(("visible", "fails"), [(("0", "1"), False), (("1", "1"), True)])
def test_ranks_that_each_see_one_device(visible, fails):
    """Everybody's is number 0, and its bus id tells whether they are one."""
    code = (
        "import os, hipcomm, numpy as np\n"
        f"os.environ['HIP_VISIBLE_DEVICES'] = {visible!r}[int(os.environ['HIPCOMM_RANK'])]\n"
        "with hipcomm.init() as comm:\n"
        "    x = np.full(3, comm.rank + 1)\n"
        "    comm.all_reduce(x)\n"
        "    print(comm.device.ordinal, x)\n"
    )
    settings = ("--env", "HIPCOMM_CPU_DEVICES=1")
    result = hipcomm_run("-n", "2", *settings, "--no-tag", sys.executable, "-c", code)
    if fails:
        assert "ranks 0 and 1 are on the same device, c001:02:00.0" in result.stderr
    else:
        assert result.stdout.splitlines() == ["0 [3 3 3]"] * 2, result.stderr


def test_ranks_share_devices_if_asked_to():
    """Three ranks, two devices: the third begins again with the first one; both kernels have to fit on it."""
    code = (
        "import hipcomm, numpy as np\n"
        "with hipcomm.init() as comm:\n"
        "    x = comm.array_module.full(100_003, comm.rank + 1, 'int32')\n"
        "    comm.all_reduce(x)\n"
        "    comm.synchronize()\n"
        "    print(comm.device.ordinal, int(x.min()), int(x.max()))\n"
    )
    settings = ("--env", "HIPCOMM_CPU_DEVICES=2", "--env", "HIPCOMM_SHARE_DEVICES=1")
    result = hipcomm_run("-n", "3", *settings, "--no-tag", sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
    if PLATFORM == "cpu":
        assert sorted(result.stdout.splitlines()) == ["0 6 6", "0 6 6", "1 6 6"]
    assert [line.split()[1:] for line in result.stdout.splitlines()] == [["6", "6"]] * 3


def test_blocks_of_ranks_that_share_a_device_fit_on_it_together():
    assert blocks_that_fit([132, 132], [b"a", b"b"]) == 132
    assert blocks_that_fit([132, 132, 132], [b"a", b"b", b"a"]) == 66
    assert blocks_that_fit([110, 304, 304, 304], [b"a", b"b", b"b", b"b"]) == 101
    assert blocks_that_fit([1, 1, 1], [b"a", b"a", b"a"]) == 1


def test_one_rank_that_would_share_and_one_that_would_not_are_told():
    code = (
        "import os, hipcomm\n"
        "try: hipcomm.init(share_devices=os.environ['HIPCOMM_RANK'] == '1')\n"
        "except hipcomm.Error as error: print(error)\n"
    )
    result = hipcomm_run("-n", "2", "--env", "HIPCOMM_DEVICE=0", "--no-tag", sys.executable, "-c", code)
    assert result.stdout.count("differ in their settings") == 2, result.stdout + result.stderr


@pytest.mark.parametrize("world", worlds(2))
def test_a_job_that_is_all_said_by_keyword(world):
    """Ranks that no launcher has started; rank 0 hosts the server."""
    code = (
        "import sys, hipcomm\n"
        "rank, job = int(sys.argv[1]), sys.argv[2]\n"
        f"settings = dict(rank=rank, world_size={world}, job_id=job, platform='{PLATFORM}')\n"
        "with hipcomm.init(**settings, timeout=20, algorithm='one_shot') as comm:\n"
        "    comm.barrier()\n"
        "    comm.synchronize()\n"
        "    print(comm.rank, comm.world_size, comm.plan('all_reduce', 1 << 20).algorithm)\n"
    )
    environment = {name: text for name, text in os.environ.items() if not name.startswith("HIPCOMM_")}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), f"keywords-{os.getpid()}"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(world)
    ]
    said = [process.communicate(timeout=PATIENCE)[0] for process in ranks]
    assert said == [f"{rank} {world} one_shot\n" for rank in range(world)]
