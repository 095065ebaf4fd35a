"""What a stuck job is doing: asked by SIGUSR1, by hipcomm-doctor --job, and at a time-out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

PATIENCE = 60.0

STUCK = """
import sys, time, numpy as np, hipcomm
def wait_for_ever():
    time.sleep(600)
def step(comm):
    x = np.ones(10, 'f4')
    comm.all_reduce(x)
    print('up', flush=True)
    if comm.rank == 1: wait_for_ever()
    comm.all_reduce(x)
with hipcomm.init(timeout=300) as comm:
    step(comm)
"""

pytestmark = pytest.mark.host_arrays


def start(tmp_path, *options):
    program = tmp_path / "stuck.py"
    program.write_text(STUCK)
    (tmp_path / "runtime").mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "hipcomm_launcher",
        "-n",
        "2",
        "--platform",
        "cpu",
        *options,
        str(program),
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "runtime")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(2):
        assert "up" in process.stdout.readline()
    return process


def assert_it_says_what_they_do(text, tmp_path):
    program = re.escape(str(tmp_path / "stuck.py"))
    assert re.search(r"rank 0: running\n +process \d+\n", text), text
    assert re.search(r"hipcomm: waiting in all_reduce \(call 2, \w+\) for rank 1, for [\d.]+ s", text), text
    assert re.search(rf"main thread: {program}:10 in step, in hipcomm's all_reduce", text), text
    assert re.search(rf"main thread: {program}:4 in wait_for_ever", text), text


def test_sigusr1_and_the_doctor(tmp_path):
    process = start(tmp_path)
    try:
        time.sleep(0.5)
        process.send_signal(signal.SIGUSR1)
        deadline, text = time.monotonic() + PATIENCE, ""
        while "wait_for_ever" not in text and time.monotonic() < deadline:
            text += process.stderr.readline()
        text += "".join(process.stderr.readline() for _ in range(1) if "in step" not in text)
        assert text.startswith("hipcomm-run: what the ranks are doing"), text
        assert_it_says_what_they_do(text, tmp_path)
        doctor = [sys.executable, "-m", "hipcomm_launcher.doctor.cli", "--job", str(process.pid)]
        asked = subprocess.run(doctor, capture_output=True, text=True, timeout=PATIENCE)
        assert_it_says_what_they_do(asked.stdout, tmp_path)
        assert list((tmp_path / "runtime" / "hipcomm").iterdir()) == []
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM


def test_at_a_time_out(tmp_path):
    process = start(tmp_path, "--timeout", "15")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 124
    assert "the job did not end within 15 s" in errors
    assert_it_says_what_they_do(errors, tmp_path)


def test_a_program_that_is_no_hipcomm_run_is_not_signalled():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        doctor = [sys.executable, "-m", "hipcomm_launcher.doctor.cli", "--job", str(process.pid)]
        asked = subprocess.run(doctor, capture_output=True, text=True, timeout=PATIENCE)
        process.stdin.write(b"\n")
    assert asked.returncode == 1
    assert f"process {process.pid} is no hipcomm-run" in asked.stderr
    assert process.returncode == 0
