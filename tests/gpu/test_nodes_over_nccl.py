"""A world over two nodes of GPUs, with the real NCCL: two jobs of one machine that each name another host.

So NCCL goes over its sockets, and hipcomm over NCCL. Calls are made eagerly, captured and replayed; the
program is that of the tests on the CPU platform.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from foreign_variables import clean_environment
from harness import device_count

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 240.0
PORT = 29541


@pytest.mark.parametrize("local", (1, 2), ids=("1+1", "2+2"))
def test_calls_over_nccl(tmp_path: Path, local: int) -> None:
    devices = device_count("nvidia")
    if devices == 0:
        pytest.skip("needs an NVIDIA GPU")
    shared = devices < 2 * local
    if shared and local > 1:
        pytest.skip("NCCL takes no two ranks of one host on one GPU")
    processes = []
    for node in range(2):
        mine = range(local) if shared else range(node * local, (node + 1) * local)
        environment = clean_environment(
            HIPCOMM_PLATFORM="nvidia",
            HIPCOMM_TOKEN="the same on both",
            HIPCOMM_TIMEOUT="60",
            HIPCOMM_SHARE_DEVICES=str(int(shared)),
            NODES_TEST_HOST=f"node{node}",
            NCCL_HOSTID=f"node{node}",
            NCCL_SOCKET_IFNAME="lo",
            CUDA_VISIBLE_DEVICES=",".join(str(device % devices) for device in mine if device < devices)
            or "0",
        )
        where = ["--nnodes", "2", "--node-rank", str(node), "--master-addr", "127.0.0.1"]
        program = [sys.executable, str(ROOT / "nodes_program.py"), str(tmp_path), "captured"]
        command = [sys.executable, "-m", "hipcomm_launcher", "-n", str(local), *where]
        command += ["--master-port", str(PORT + 2 * local), *program]
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait(PATIENCE)
    for rank in range(2 * local):
        assert (tmp_path / str(rank)).exists(), outputs
        report = json.loads((tmp_path / str(rank)).read_text())
        assert "error" not in report, f"{report['error']}\n{outputs}"
        assert report["platform"] == "nvidia" and report["closed"]
        assert report["nodes"] == [list(range(local)), list(range(local, 2 * local))]
