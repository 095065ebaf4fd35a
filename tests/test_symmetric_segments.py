"""The bookkeeping of symmetric memory: cuts never overlap, and what is given back is whole again."""

from __future__ import annotations

import numpy as np
import pytest

from hipcomm.segments import GRANULE, SMALLEST_SEGMENT, Cut, Segments, segment_size


@pytest.mark.parametrize(
    ("nbytes", "size"),
    [
        (0, SMALLEST_SEGMENT),
        (SMALLEST_SEGMENT, SMALLEST_SEGMENT),
        (SMALLEST_SEGMENT + 1, 2 * SMALLEST_SEGMENT),
        (5 << 20, 8 << 20),
        (1 << 30, 1 << 30),
    ],
)
def test_segments_are_powers_of_two(nbytes, size):
    assert segment_size(nbytes) == size


def test_first_fit():
    segments = Segments()
    assert segments.cut(1) is None
    segments.add(0, 4 * GRANULE)
    segments.add(1, 4 * GRANULE)
    first = segments.cut(1)
    assert first == Cut(0, 0, GRANULE)
    assert segments.cut(3 * GRANULE + 1) == Cut(1, 0, 4 * GRANULE)
    assert segments.cut(3 * GRANULE) == Cut(0, GRANULE, 3 * GRANULE)
    assert segments.cut(0) is None
    segments.give_back(first)
    assert segments.cut(0) == Cut(0, 0, GRANULE)


def test_random_cuts_are_disjoint_and_join_again():
    rng = np.random.default_rng(1)
    segments = Segments()
    sizes = {number: (number + 1) * 64 * GRANULE for number in range(3)}
    for number, nbytes in sizes.items():
        segments.add(number, nbytes)
    held: list[Cut] = []
    refused = 0
    for _ in range(3000):
        if held and rng.random() < 0.5:
            segments.give_back(held.pop(int(rng.integers(len(held)))))
            continue
        nbytes = int(rng.integers(0, 40 * GRANULE))
        cut = segments.cut(nbytes)
        if cut is None:
            refused += 1
            continue
        assert cut.nbytes >= max(nbytes, 1) and cut.nbytes - nbytes <= GRANULE
        assert cut.offset % GRANULE == 0 and cut.offset + cut.nbytes <= sizes[cut.segment]
        for other in held:
            apart = cut.offset >= other.offset + other.nbytes or other.offset >= cut.offset + cut.nbytes
            assert cut.segment != other.segment or apart
        held.append(cut)
    assert refused > 10
    for cut in held:
        segments.give_back(cut)
    assert segments.empty() == [0, 1, 2]
    assert segments.cut(sizes[2]) == Cut(2, 0, sizes[2])
    segments.remove(1)
    assert segments.empty() == [0]
