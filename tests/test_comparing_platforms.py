"""The comparison of platforms (tests/gpu/test_same_bits.py), tried on the CPU platform against itself."""

from __future__ import annotations

import functools

import pytest
from harness import worlds
from same_bits import Outcome, chosen, differences, on_platform

SEED = 71


@functools.cache
def expected_on_cpu() -> list[list[Outcome]]:
    return on_platform("cpu", 2, "auto", SEED, sizes=())


def test_equal_bits_are_equal() -> None:
    """Another algorithm, in other memory."""
    assert differences(expected_on_cpu(), on_platform("cpu", 2, "direct", SEED, sizes=())) == []


def test_one_wrong_bit_is_found_and_named() -> None:
    expected = expected_on_cpu()
    number = next(n for n, (_, images) in enumerate(expected[1]) if len(images[-1]) > 5)
    call, images = expected[1][number]
    last = bytearray(images[-1])
    last[5] ^= 1
    changed = [*expected[1][:number], (call, [*images[:-1], bytes(last)]), *expected[1][number + 1 :]]
    (wrong,) = differences(expected, [expected[0], changed])
    assert wrong.startswith(f"rank 1, buffer {len(images) - 1} of {call}: 1 of {len(last)} bytes")


def test_other_data_give_other_bits() -> None:
    """The images are not all alike, so equality says something."""
    images = [image for _, buffers in expected_on_cpu()[0] for image in buffers if len(image) > 8]
    assert len(set(images)) > 0.9 * len(images)


def test_other_calls_are_not_compared() -> None:
    expected = expected_on_cpu()
    with pytest.raises(AssertionError, match="not the same calls"):
        differences(expected, [list(reversed(rank)) for rank in expected])


@pytest.mark.parametrize("world", worlds(2, 4))
def test_every_collective_is_among_them(world: int) -> None:
    seen = {(case.operation, case.dtype) for case in chosen(world, SEED)}
    assert len({operation for operation, _ in seen}) == 11
    assert len(seen) == 11 * 18
