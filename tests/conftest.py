"""Fixtures of the tests that need ranks: which worlds there are, and a pool of processes."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator

import pytest
from harness import PLATFORM, RankPool

ALGORITHMS = ("one_shot", "two_shot", "pipelined")


@functools.cache
def device_count() -> int:
    """How many devices the platform has. Asked in a process of its own: this one stays free of HIP."""
    code = "from hipcomm.environment import Settings; from hipcomm.platform import call, choose; "
    code += "choose(Settings.read()); print(int(call('hipGetDeviceCount')))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return int(asked.stdout)


def worlds(*sizes: int) -> tuple[int, ...]:
    """Those of the world sizes for which the platform has devices."""
    most = 16 if PLATFORM == "cpu" else device_count()
    return tuple(size for size in sizes if size <= most)


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankPool]:
    """Processes that form worlds, shared by all tests of the session."""
    pool = RankPool()
    yield pool
    pool.close()


@pytest.fixture
def own_ranks() -> Iterator[RankPool]:
    """Processes for one test only, which may do to them what it likes."""
    pool = RankPool()
    yield pool
    pool.end()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "host_arrays: passes NumPy arrays, so it runs on the CPU platform only")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if PLATFORM == "cpu":
        return
    skip = pytest.mark.skip(reason=f"host arrays are not device arrays on {PLATFORM}")
    for item in items:
        if "host_arrays" in item.keywords:
            item.add_marker(skip)
