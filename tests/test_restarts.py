"""Going on after a failure: the whole job again, or a new communicator in the processes that are left."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import pytest
from harness import PLATFORM, worlds
from test_launcher import hipcomm_run, python

PATIENCE = 60.0
WORLD = 3

ATTEMPTS = """
import os, sys, time
# One write: the launcher unbuffers Python, and may end a rank between the words of a print.
names = ("HIPCOMM_RESTART", "HIPCOMM_TOKEN", "HIPCOMM_JOB_ID")
sys.stdout.write(" ".join(os.environ[name] for name in names) + "\\n")
if os.environ["RANK"] == "1" and int(os.environ["HIPCOMM_RESTART"]) < {bad}: sys.exit(3)
time.sleep({sleep})
"""


@pytest.mark.parametrize(("bad", "code", "attempts"), [(0, 0, 1), (2, 0, 3), (9, 3, 4)])
def test_the_whole_job_is_started_again(bad, code, attempts, tmp_path):
    options = ("--max-restarts", 3, "--no-tag", "--log-dir", tmp_path, "--tee")
    result = hipcomm_run("-n", 2, *options, *python(ATTEMPTS.format(bad=bad, sleep=0)))
    assert result.returncode == code
    told = {tuple(line.split()) for line in result.stdout.splitlines()}  # the same on both ranks
    assert sorted(restart for restart, _, _ in told) == [str(number) for number in range(attempts)]
    assert len({token for _, token, _ in told}) == len({job for _, _, job in told}) == attempts
    assert result.stderr.count("rank 1 exited with code 3") == min(bad, attempts)
    assert [f"restart {number} of 3" in result.stderr for number in range(1, 5)] == [
        number < attempts for number in range(1, 5)
    ]
    assert len((tmp_path / "rank1.out").read_text().splitlines()) == attempts


def test_the_time_of_all_attempts_is_limited():
    code = ATTEMPTS.format(bad=0, sleep=0.7) + "sys.exit(5)"
    result = hipcomm_run("--timeout", 1.8, "--max-restarts", 9, *python(code))
    assert result.returncode == 124
    assert "the job did not end within 1.8 s" in result.stderr
    assert "restart 1 of 9" in result.stderr
    assert "restart 3 of 9" not in result.stderr


def test_a_job_that_was_asked_to_end_is_not_started_again():
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    result = hipcomm_run("--max-restarts", 3, *python(code))
    assert result.returncode == 128 + 15
    assert "restart" not in result.stderr


# What makes a collective of a job fail with all of its processes alive.
FAILURES = {
    "time-out": "if comm.rank == 1: time.sleep(1.5)\nelse: call()",
    "exception": "comm.abort(ValueError('bad')) if comm.rank == 1 else call()",
    "other algorithm": "call(1 << 20 if comm.rank == 1 else 4)",
    "interrupt": (
        "signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))\n"
        "if comm.rank == 1: signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
        "if comm.rank == 2: time.sleep(1.5)\n"
        "call()"
    ),
    "closed early": "comm.close() if comm.rank == 1 else call()",
}

GO_ON = """
import os, signal, time, hipcomm, numpy as np
def call(count=4):
    x = np.ones(count, 'f4')
    comm.all_reduce(x)
    assert x[0] == comm.world_size
for attempt in range(2):
    comm = hipcomm.init()
    try:
        call()  # the others' failure may end it already
        {failure}
        call()
        raise SystemExit('no failure')
    except (hipcomm.Error, KeyboardInterrupt) as error:
        said = type(error).__name__
    comm.close()
    with hipcomm.init() as comm:
        call()
        print(comm.rank, said)
"""


@pytest.mark.host_arrays
@pytest.mark.parametrize("failure", FAILURES)
def test_survivors_go_on_in_the_same_processes(failure):
    code = GO_ON.format(failure=FAILURES[failure].replace("\n", "\n" + " " * 8))
    options = ("--platform", "cpu", "--env", "HIPCOMM_TIMEOUT=0.7", "--no-tag")
    result = hipcomm_run("-n", WORLD, *options, *python(code))
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2 * WORLD, result.stdout


WITHOUT_ONE = """
import os, signal, sys, hipcomm, numpy as np
rank, job = int(sys.argv[1]), sys.argv[2]
comm = hipcomm.init(rank=rank, world_size=3, job_id=job)
x = np.ones(4, 'f4')
try:
    comm.all_reduce(x)  # the victim may be through, and gone, before a third rank has come
    if rank == {victim}: {end}
    comm.all_reduce(x)
    raise SystemExit('no failure')
except hipcomm.PeerDied as error:
    assert error.peer == {victim}, error
comm.close()
rank -= rank > {victim}
with hipcomm.init(rank=rank, world_size=2, job_id=job + '.1') as comm:
    x[:] = 1
    comm.all_reduce(x)
    print(x[0])
"""

ENDS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGSEGV": "os.kill(os.getpid(), signal.SIGSEGV)",
    "exit code": "os._exit(3)",
    "exception": "raise ValueError",
    "end": "sys.exit()",
}


@pytest.mark.host_arrays
@pytest.mark.skipif(not worlds(WORLD), reason=f"needs {WORLD} devices")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("victim", [0, 1])  # rank 0 hosts the server
def test_those_who_are_left_go_on(end, victim):
    job = uuid.uuid4().hex
    code = WITHOUT_ONE.format(victim=victim, end=ENDS[end])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), job],
            env={**os.environ, "HIPCOMM_PLATFORM": PLATFORM, "HIPCOMM_TIMEOUT": "20"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD)
    ]
    try:
        outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait(PATIENCE)
    for rank, (out, errors) in enumerate(outputs):
        assert rank == victim or (processes[rank].returncode == 0 and out == "2.0\n"), errors
