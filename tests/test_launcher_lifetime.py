"""Nothing of a job outlives it, however hipcomm-run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE = 60.0

# Each rank has a child in its session, one in a process group of its own, one in a session of its own,
# and an orphan (its parent has ended) in a session of its own. All note their process ids.
FAMILY = """
import os, signal, subprocess, sys, time
here, rank = os.environ["HERE"], os.environ["RANK"]
sleep = "import os, time; open(os.environ['HERE'] + '/' + str(os.getpid()), 'w'); time.sleep(120)"
child = [sys.executable, "-c", sleep]
subprocess.Popen(child)
subprocess.Popen(child, preexec_fn=os.setpgrp)
subprocess.Popen(child, start_new_session=True)
orphan = f"import subprocess; subprocess.Popen({child!r}, start_new_session=True)"
subprocess.run([sys.executable, "-c", orphan])
open(here + "/" + str(os.getpid()), "w")
"""
FAMILY_SIZE = 5


def start(tmp_path, code, *options, ranks=2):
    here = tmp_path / "pids"
    here.mkdir()
    arguments = ["-n", str(ranks), "--env", f"HERE={here}", *options, sys.executable, "-c", code]
    # under nohup SIGHUP is ignored, and a job that is started there ignores it too, as it should
    return here, subprocess.Popen(
        ["env", "--default-signal=HUP", sys.executable, "-m", "hipcomm_launcher", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def pids(here, count):
    wait_until(lambda: len(list(here.iterdir())) == count)
    return [int(path.name) for path in here.iterdir()]


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def family(tmp_path):
    """Starts a job whose ranks sleep; whatever a failing test leaves behind is killed."""
    started = []

    def start_family(code="time.sleep(120)", *options):
        here, process = start(tmp_path, FAMILY + code, *options)
        started.append((here, process))
        return process, pids(here, 2 * FAMILY_SIZE)

    yield start_family
    for here, process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)
        for path in here.iterdir():
            if alive(path.name):
                os.kill(int(path.name), signal.SIGKILL)


def test_killed_launcher_takes_everybody_with_it(family):
    process, members = family()
    guardians = [pid for pid in children(process.pid) if pid not in members]
    assert len(guardians) == 1
    os.kill(guardians[0], signal.SIGTERM)  # it does not end before its work is done
    process.kill()
    wait_until(lambda: not any(map(alive, members)))
    wait_until(lambda: not alive(guardians[0]))


def test_guardian_has_the_environment_that_the_interpreter_needs(tmp_path):
    """A python with a shared library outside the system's folders is found by LD_LIBRARY_PATH alone."""
    needy = tmp_path / "python"
    needy.write_text(f'#!/bin/sh\n[ -n "$LD_LIBRARY_PATH" ] && exec {sys.executable} "$@"\n')
    needy.chmod(0o755)
    code = f"import sys; sys.executable = {str(needy)!r}; from hipcomm_launcher.cli import main; main()"
    command = [sys.executable, "-c", code, "sh", "-c", "echo; sleep 60"]
    env = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        family = children(process.pid)
        assert len(family) == 2
        time.sleep(0.5)  # a guardian that lacks something ends at once
        complete = all(map(alive, family))
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert complete


def test_killed_launcher_and_guardian_take_the_ranks_with_them(family):
    """Without the guardian the kernel still kills the ranks themselves."""
    process, members = family()
    ranks = [pid for pid in children(process.pid) if pid in members]
    assert len(ranks) == 2
    for guardian in set(children(process.pid)) - set(ranks):
        os.kill(guardian, signal.SIGKILL)
    process.kill()
    wait_until(lambda: not any(map(alive, ranks)))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_the_job(number, code, family):
    process, members = family()
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert f"hipcomm-run: stopped by {number.name}\n" in errors
    assert not any(map(alive, members))


def test_second_interrupt_kills_at_once(family):
    process, members = family(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(120)",
        "--grace",
        "100",
    )
    ready = [process.stdout.readline() for _ in range(2)]
    assert sorted(ready) == ["[rank0] ready\n", "[rank1] ready\n"]
    process.send_signal(signal.SIGINT)
    ranks = [pid for pid in children(process.pid) if pid in members]
    others = set(members) - set(ranks)
    wait_until(lambda: not any(map(alive, others)))  # SIGTERM has arrived
    assert process.poll() is None
    assert all(map(alive, ranks))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert not any(map(alive, members))


@pytest.mark.parametrize(("code", "result"), [("sys.exit(0)", 0), ("sys.exit(5)", 5)])
def test_what_ranks_leave_behind_ends_with_the_job(code, result, family, tmp_path):
    gate = "while not os.path.exists(here + '/../go'): time.sleep(0.01)\n"
    process, members = family(gate + code)
    (tmp_path / "go").touch()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == result
    assert not any(map(alive, members))


def test_strangers_are_left_alone(family):
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        process, members = family()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert not any(map(alive, members))
        assert alive(stranger.pid)
        stranger.kill()


def test_nested_jobs_end_with_the_outer_one(tmp_path):
    """Down to a child that only the inner job's guardian can find: it must outlive the inner job."""
    note = "import os, time; open(os.environ['HERE'] + '/' + str(os.getpid()), 'w'); "
    child = [sys.executable, "-c", note + "time.sleep(120)"]
    spawn = f"import subprocess; subprocess.Popen({child!r}, start_new_session=True); "
    inner = [sys.executable, "-m", "hipcomm_launcher", "-n", "2"]
    inner += [sys.executable, "-c", note + spawn + "time.sleep(120)"]
    here, process = start(tmp_path, f"import subprocess, sys; sys.exit(subprocess.call({inner!r}))", ranks=1)
    try:
        members = pids(here, 4)
        process.kill()
        wait_until(lambda: not any(map(alive, members)))
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def test_nothing_of_ours_is_left_after_a_good_end(tmp_path):
    """Neither the guardian nor a zombie, and the output pipes are closed."""
    _, process = start(tmp_path, "import os; print(os.environ['HIPCOMM_JOB_ID'])")
    output, _ = process.communicate(timeout=PATIENCE)
    job_id = output.split()[-1].encode()
    assert process.returncode == 0

    def mentions(pid, name):
        try:
            return job_id in Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            return False

    everybody = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    assert [pid for pid in everybody if mentions(pid, "cmdline") or mentions(pid, "environ")] == []


def test_ctrl_z_stops_the_ranks_and_their_children_until_the_job_goes_on(family):
    process, members = family()

    def state(pid):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    for _ in range(2):
        process.send_signal(signal.SIGTSTP)
        wait_until(lambda: all(state(pid) == "T" for pid in [process.pid, *members]))
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: all(state(pid) == "S" for pid in [process.pid, *members]))
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    wait_until(lambda: not any(map(alive, members)))


def test_the_time_that_a_job_is_stopped_does_not_count(tmp_path):
    _, process = start(tmp_path, "import time; print('up'); time.sleep(1.2)", "--timeout", "2", ranks=1)
    process.stdout.readline()
    process.send_signal(signal.SIGTSTP)
    time.sleep(2)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
