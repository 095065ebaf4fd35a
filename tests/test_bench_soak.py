"""The soak of hipcomm-bench: its programmes, its check, and a short run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from harness import PLATFORM

from hipcomm.hip import call
from hipcomm_bench.memory import DeviceMemory, PinnedMemory, dtype_of, enqueue_copy
from hipcomm_bench.programme import MIXED, Programme
from hipcomm_bench.session import Session, begin
from hipcomm_bench.soak import Soak, WrongResult


@pytest.fixture(autouse=True)
def one_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stay on the platform of the other tests."""
    monkeypatch.setenv("HIPCOMM_PLATFORM", PLATFORM)


def make_programme(rank: int = 0, world_size: int = 2, **keywords: Any) -> Programme:
    arguments: dict[str, Any] = {"ops": MIXED, "calls": 40, "largest": 4096, "inputs": 2, **keywords}
    return Programme("a seed", rank, world_size, **arguments)


def test_ranks_make_up_the_same_programme() -> None:
    programmes = [make_programme(rank, 3) for rank in range(3)]
    shapes = [
        [(s.call, s.send_count, s.recv_count, s.root) for s in programme.steps] for programme in programmes
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    assert {step.call.op.name for step in programmes[0].steps} == set(MIXED)
    assert programmes[0].size == programmes[1].size
    assert not np.array_equal(programmes[0].before[0], programmes[1].before[0])
    assert not np.array_equal(programmes[0].before[0], programmes[0].before[1])
    again = make_programme(1, 3)
    assert np.array_equal(again.after[1], programmes[1].after[1])


def test_programmes_buffers_do_not_overlap() -> None:
    programme = make_programme()
    owner = np.zeros(programme.size, int)
    for index, step in enumerate(programme.steps, start=1):
        itemsize = dtype_of(step.call.dtype).itemsize
        for at, count in ((step.send_at, step.send_count), (step.recv_at, step.recv_count)):
            inside = owner[at : at + count * itemsize]
            assert set(inside.tolist()) <= {0, index}
            inside[...] = index


def test_a_wrong_bit_is_found_and_named() -> None:
    programme = make_programme()
    right = programme.after[1].copy()
    assert programme.find_wrong(right, 1) == ""
    assert programme.find_wrong(right, 0) != ""
    index, step = next((i, s) for i, s in enumerate(programme.steps) if s.recv_count and not s.call.in_place)
    right[step.recv_at] ^= 1
    assert (
        programme.find_wrong(right, 1) == f"call {index} ({step.describe()}): 1 of what it receives are wrong"
    )


@pytest.fixture
def session() -> Iterator[Session]:
    """The only rank of a job, in this process."""
    session = begin("uint8", 4096, graph=1)
    yield session
    session.world.close()


@pytest.fixture
def soak(session: Session) -> Iterator[Soak]:
    one = Soak(session, 5, 4096)
    yield one
    one.close()


def test_every_run_is_checked(soak: Soak) -> None:
    told: list[str] = []
    soak.run(5 * 256, told.append)
    assert told[-1].startswith("1280 of 1280 calls exact, ")
    for loaded in soak._loaded:  # from now on something else would be right
        for after in loaded.programme.after:
            after[-1] ^= 1
    with pytest.raises(WrongResult, match=r"rank 0, after 0 calls, (a graph|eager calls): "):
        soak.run(256, told.append)


def test_pinned_memory_is_compared_to_the_last_byte(session: Session) -> None:
    memory, data = PinnedMemory(1000), np.arange(1000).astype(np.uint8)
    device = DeviceMemory(1000)
    device.write(0, data)
    enqueue_copy(memory.address, device.address, 1000, session.stream)
    call("hipStreamSynchronize", session.stream)
    assert memory.holds(data) and memory.holds(data[:999])
    assert np.array_equal(memory.read(1000), data)
    data[999] ^= 1
    assert not memory.holds(data) and memory.holds(data[:999])
    memory.free()
    device.free()


def run_soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hipcomm_bench.soak", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_short_soak_is_exact() -> None:
    result = run_soak("-g", "2", "--calls", "3000", "--seed", "11")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3072 of 3000 calls exact" in result.stdout


def test_a_soak_needs_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIPCOMM_WORLD_SIZE", "2")
    monkeypatch.setenv("HIPCOMM_RANK", "0")
    result = run_soak("--calls", "1")
    assert result.returncode == 2
    assert "all ranks need the same --seed" in result.stderr
