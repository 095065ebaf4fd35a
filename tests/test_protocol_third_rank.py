"""A rank of ours and one written from docs/protocol.md (third_rank.py) in one communicator, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hipcomm.rendezvous import Server

TOKEN = "token"
PATIENCE = 120
RANK = """
import ctypes, hipcomm
from hipcomm.hip import call
comm = hipcomm.init()
x = comm.empty(1000, "float32")
y = comm.empty(3 << 20, "uint8")
x.free()
memory = int(call("hipMalloc", 1 << 20).as_c_void_p().value)
comm.register(memory + 512, 8192)
comm.deregister(memory + 512)
part = comm.split(5, key=-comm.rank)
assert (part.rank, part.world_size) == (1, 2)
part.close()
assert comm.split(None) is None
comm.close()
print("closed")
"""


def run(variant):
    """The output of our rank 0, after both have ended."""
    server = Server(2, TOKEN)
    server.start()
    host, port = server.address
    names = {
        "RENDEZVOUS": f"{host}:{port}",
        "TOKEN": TOKEN,
        "RANK": "0",
        "WORLD_SIZE": "2",
        "PLATFORM": "cpu",
    }
    names.update(STAGING_BYTES=str(4 << 20), TIMEOUT="60")
    env = {k: v for k, v in os.environ.items() if not k.startswith("HIPCOMM_")}
    ours = subprocess.Popen(
        [sys.executable, "-c", RANK],
        env={**env, **{f"HIPCOMM_{name}": value for name, value in names.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    third = subprocess.Popen(
        [sys.executable, Path(__file__).parent / "third_rank.py", host, str(port), TOKEN, variant],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = third.communicate(timeout=PATIENCE)[0]
        output = ours.communicate(timeout=PATIENCE)[0]
    finally:
        for process in (ours, third):
            process.kill()
            process.wait()
        server.close()
    assert third.returncode == 0, said + output
    return output


def test_from_the_join_to_the_close():
    assert run("") == "closed\n"


@pytest.mark.parametrize(
    "variant, error",
    [
        ("problem", "hipcomm.errors.PlatformError: rank 1: out of cheese"),
        ("wrong pattern", "hipcomm.errors.PlatformError: rank 0: the mapping of rank 1's staging slab shows"),
        (
            "another version",
            "rank 1 and rank 0 differ in their settings: (version 0.0.9, HIPCOMM_ALGORITHM=auto",
        ),
    ],
)
def test_what_goes_wrong_with_it_is_said_by_ours(variant, error):
    assert error in run(variant)
