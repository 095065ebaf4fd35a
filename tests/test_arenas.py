"""The bookkeeping of symmetric memory: cuts never overlap, and what is given back is whole again."""

from __future__ import annotations

import numpy as np
import pytest

from hipcomm.memory.arenas import GRANULE, SMALLEST_ARENA, Arenas, Cut, arena_size


@pytest.mark.parametrize(
    ("nbytes", "size"),
    [
        (0, SMALLEST_ARENA),
        (SMALLEST_ARENA, SMALLEST_ARENA),
        (SMALLEST_ARENA + 1, 2 * SMALLEST_ARENA),
        (5 << 20, 8 << 20),
        (1 << 30, 1 << 30),
    ],
)
def test_arenas_are_powers_of_two(nbytes, size):
    assert arena_size(nbytes) == size


def test_first_fit():
    arenas = Arenas()
    assert arenas.cut(1) is None
    arenas.add(0, 4 * GRANULE)
    arenas.add(1, 4 * GRANULE)
    first = arenas.cut(1)
    assert first == Cut(0, 0, GRANULE)
    assert arenas.cut(3 * GRANULE + 1) == Cut(1, 0, 4 * GRANULE)
    assert arenas.cut(3 * GRANULE) == Cut(0, GRANULE, 3 * GRANULE)
    assert arenas.cut(0) is None
    arenas.give_back(first)
    assert arenas.cut(0) == Cut(0, 0, GRANULE)


def test_random_cuts_are_disjoint_and_join_again():
    rng = np.random.default_rng(1)
    arenas = Arenas()
    sizes = {number: (number + 1) * 64 * GRANULE for number in range(3)}
    for number, nbytes in sizes.items():
        arenas.add(number, nbytes)
    held: list[Cut] = []
    refused = 0
    for _ in range(3000):
        if held and rng.random() < 0.5:
            arenas.give_back(held.pop(int(rng.integers(len(held)))))
            continue
        nbytes = int(rng.integers(0, 40 * GRANULE))
        cut = arenas.cut(nbytes)
        if cut is None:
            refused += 1
            continue
        assert cut.nbytes >= max(nbytes, 1) and cut.nbytes - nbytes <= GRANULE
        assert cut.offset % GRANULE == 0 and cut.offset + cut.nbytes <= sizes[cut.arena]
        for other in held:
            apart = cut.offset >= other.offset + other.nbytes or other.offset >= cut.offset + cut.nbytes
            assert cut.arena != other.arena or apart
        held.append(cut)
    assert refused > 10
    for cut in held:
        arenas.give_back(cut)
    assert arenas.empty() == [0, 1, 2]
    assert arenas.cut(sizes[2]) == Cut(2, 0, sizes[2])
    arenas.remove(1)
    assert arenas.empty() == [0]
