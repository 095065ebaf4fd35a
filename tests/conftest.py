"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_cuda import build_driver
from harness import PLATFORM, RankPool


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


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 that notes calls."""
    return build_driver(tmp_path_factory.mktemp("fake_cuda"))


@pytest.fixture(scope="module")
def shim_source(tmp_path_factory):
    """Where the ranks build the library in between, each against the HIP library that it uses."""
    return str(tmp_path_factory.mktemp("counting"))


def _world_of(item: Any) -> list[str]:
    """Where a test comes in the order: those that share ranks last, by size, first epoch and algorithm."""
    if "ranks" not in item.fixturenames:
        return []
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return [f"{parameters.get(name, ''):>12}" for name in ("world", "first_epoch", "algorithm")]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "host_arrays: passes NumPy arrays, so it needs the CPU platform")


@pytest.hookimpl(tryfirst=True)  # xdist looks at the groups in the same hook
def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Order the tests by their worlds, since opening one costs more than most tests, and say which of them
    are for one process: those that share ranks, and those with ranks of their own, which wait more than they
    work. On GPUs there is one world at a time."""
    items.sort(key=_world_of)
    for item in items:
        groups = {"ranks", "own_ranks"} & set(item.fixturenames) if PLATFORM == "cpu" else {"all"}
        for group in groups:
            item.add_marker(pytest.mark.xdist_group(group))
    if PLATFORM == "cpu":
        return
    skip = pytest.mark.skip(reason=f"host arrays are not device arrays on {PLATFORM}")
    for item in items:
        if "host_arrays" in item.keywords:
            item.add_marker(skip)
