"""What a process holds: many communicators at once, one after the other, and the limits that it meets."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from test_launcher import hipcomm_run, python

PATIENCE = 200.0

STATE = """
import os, threading, numpy as np, hipcomm
def state():
    resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    mappings = sum(1 for _ in open("/proc/self/maps"))
    return len(os.listdir("/proc/self/fd")), threading.active_count(), mappings, resident >> 20
def use(part):
    x = np.full(10, part.rank + 1, "f4")
    part.all_reduce(x)
    assert (x == 3).all()
"""

MANY = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
with hipcomm.init() as comm:
    parts = [comm.split(0) for _ in range(64)]
    for part in parts: use(part)
    for part in parts: part.close()
    print("fine")
"""

ONE_AFTER_THE_OTHER = """
with hipcomm.init() as comm:
    marks = []
    for turn in range({turns}):
        with comm.split(0) as part:
            use(part)
            array = part.empty(100)
            part.all_reduce(array)
        del array
        if turn in ({turns} // 4, {turns} - 1): marks.append(state())
    print(*marks[0], *marks[1])
"""


@pytest.mark.host_arrays
def test_64_communicators_at_once_under_the_usual_limit():
    result = hipcomm_run("-n", 2, "--platform", "cpu", "--no-tag", *python(STATE + MANY))
    assert result.stdout == "fine\n" * 2, result.stderr


@pytest.mark.host_arrays
def test_communicators_one_after_the_other_leave_nothing():
    """A thousand of them by hand, `python -c "..."` with turns=1000; here as many as time allows."""
    code = STATE + ONE_AFTER_THE_OTHER.format(turns=120)
    result = hipcomm_run("-n", 2, "--platform", "cpu", "--no-tag", *python(code))
    assert result.returncode == 0, result.stderr
    for line in result.stdout.splitlines():
        first, last = [int(word) for word in line.split()[:4]], [int(word) for word in line.split()[4:]]
        assert last[:2] == first[:2], (first, last)  # descriptors, threads
        assert last[2] <= first[2] + 8, (first, last)  # mappings
        assert last[3] <= first[3] + 2, (first, last)  # MiB


DROPPED = """
import gc, warnings
with hipcomm.init_all([0, 1]) as comms, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pool = __import__("concurrent.futures").futures.ThreadPoolExecutor(2)
    parts = list(pool.map(lambda comm: comm.split(0), comms))
    del parts
    gc.collect()
    print(*(f"{w.category.__name__} {w.message}" for w in caught), sep="\\n")
"""


@pytest.mark.host_arrays
def test_a_communicator_that_is_dropped_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STATE + DROPPED],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={"HIPCOMM_PLATFORM": "cpu", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    for rank, line in enumerate(sorted(lines)):
        assert line.startswith(f"ResourceWarning <hipcomm.Communicator rank {rank} of 2, "), line
        assert "was dropped without close()" in line


ALONE = """
import resource
import hipcomm
from hipcomm import PlatformError
resource.setrlimit(resource.RLIMIT_{name}, ({limit}, {limit}))
try:
    comms = [hipcomm.init_all([0, 1]) for _ in range(1000)]
except hipcomm.Error as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("name", "limit", "words"),
    [
        ("NOFILE", 60, "the limit (ulimit -n) is 60"),
        ("FSIZE", 1 << 20, f"the limit (ulimit -f, there in KiB) is {1 << 20}"),
        ("AS", 3 << 29, f"the limit (ulimit -v, there in KiB) is {3 << 29}"),
    ],
)
def test_a_limit_is_named(name, limit, words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(name=name, limit=limit)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={"HIPCOMM_PLATFORM": "cpu", "HIPCOMM_JOIN_TIMEOUT": "5", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert done.stdout.startswith("PlatformError "), done.stderr
    assert words in done.stdout


def test_a_soft_limit_of_descriptors_is_raised_where_it_may_be(tmp_path):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2000:
        pytest.skip("the hard limit is as low")
    code = (
        "import resource, hipcomm\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 2000))\n"
        "with hipcomm.init_all([0, 1]) as comms: print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    env = {"HIPCOMM_PLATFORM": "cpu", "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, env=env
    )
    assert done.stdout == "2000\n", done.stderr


def test_a_full_disk_is_named(monkeypatch):
    """Of the endpoint file."""
    from hipcomm.errors import RendezvousError
    from hipcomm.rendezvous import endpoint

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(endpoint.os, "write", full)
    with pytest.raises(RendezvousError, match=r"cannot write the endpoint file .*: No space left on device"):
        endpoint.publish(Path("/tmp") / "hipcomm-test", endpoint.Endpoint("127.0.0.1", 1, "t"))
