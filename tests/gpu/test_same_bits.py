"""Every collective leaves the same bits on GPUs as on the CPU platform, which is the oracle."""

from __future__ import annotations

import functools

import pytest
from harness import SHARED, device_count
from same_bits import Outcome, differences, on_platform

from hipcomm.environment import ALGORITHMS

SEED = 71


@functools.cache
def oracle_of(world: int) -> list[list[Outcome]]:
    """What the CPU platform says; it does not depend on the algorithm."""
    return on_platform("cpu", world, "auto", SEED)


@pytest.mark.parametrize("world", (2, 4))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("platform", ("nvidia", "amd"))
def test_same_bits(platform: str, algorithm: str, world: int) -> None:
    devices = device_count(platform)
    if devices < (1 if SHARED == "1" else world):
        pytest.skip(f"needs {world} GPUs of the platform {platform}, found {devices}")
    wrong = differences(oracle_of(world), on_platform(platform, world, algorithm, SEED))
    assert not wrong, f"{len(wrong)} buffers differ:\n" + "\n".join(wrong[:20])
