"""A wrong element is found wherever it is, though one rank alone asks the oracle."""

from __future__ import annotations

import cases
import numpy as np
import oracle
import pytest
from cases import Case
from checking import Note, problem
from harness import RanksFailed, worlds

WORLD = 3
pytestmark = pytest.mark.skipif(not worlds(WORLD), reason=f"needs {WORLD} devices")


def one_wrong(comm, rng, case, victim, where):
    """Make a call right, and change one byte on the victim: of its result, or of its input, which the call
    must leave alone."""
    memory = cases.arena()
    made = cases.make(comm, memory, case)
    comm.synchronize()
    buffer = getattr(made, where)
    if comm.rank == victim and buffer is not None and buffer.nbytes:
        last = buffer.get(np.dtype(np.uint8))[-1:]
        buffer.put(last ^ 1, buffer.nbytes - 1)
    made.check(comm)


@pytest.mark.parametrize("victim", range(WORLD))
@pytest.mark.parametrize("operation", cases.OPERATIONS)
def test_one_wrong_element(ranks, operation, victim):
    """On the rank that checks (0, of this seed), and on those that do not."""
    root = victim if operation in oracle.ROOTED else 0
    case = Case(operation, 40, "int32", root=root, kind="bits", seed=(90, WORLD * 10))
    ranks.world(WORLD).run(one_wrong, case, WORLD, "recv")  # nobody's: nothing is found
    found = f"on rank 0 in a world of {WORLD}" if victim == 0 else rf"ranks \[{victim}\] have another result"
    with pytest.raises(RanksFailed, match=found):
        ranks.world(WORLD).run(one_wrong, case, victim, "recv")


@pytest.mark.parametrize("victim", range(WORLD))
def test_a_changed_input(ranks, victim):
    case = Case("all_reduce", 40, "int32", kind="bits", seed=(91, WORLD))
    with pytest.raises(RanksFailed, match=f"on rank {victim} .* changed its input"):
        ranks.world(WORLD).run(one_wrong, case, victim, "send")


def test_every_element_counts():
    for dtype in map(oracle.dtype_of, oracle.ALL_DTYPES):
        data = oracle.make_input((92,), 0, 50, dtype, "plain")
        for element in range(data.size):
            wrong = data.copy()
            oracle.bits(wrong)[element] ^= 1
            assert oracle.checksum(wrong) != oracle.checksum(data) or not oracle.difference(wrong, data)


def test_any_nan_is_as_good_as_another():
    for name in set(oracle.FLOATS):
        data = oracle.make_input((93,), 0, 50, oracle.dtype_of(name), "special")
        other = data.copy()
        oracle.bits(other)[np.isnan(data)] ^= 1
        assert np.isnan(other).any() and (oracle.bits(other) != oracle.bits(data)).any()
        assert oracle.checksum(other) == oracle.checksum(data)


@pytest.mark.parametrize(
    ("notes", "word"),
    [
        ([(Note(1),), (Note(1),)], "call 0 was checked by 0 ranks"),
        ([(Note(1, "x", (1, 1)),), (Note(1, "x", (1, 1)),)], "call 0 was checked by 2 ranks"),
        ([(Note(1, "x", (1, 1)),), ()], r"the ranks have checked \[1, 0\] calls"),
        ([(Note(1, "x", (1, 2)),), (Note(1),)], r"x in a world of 2: ranks \[1\]"),
        ([(Note(1, "x", (1, None)),), (Note(1),)], r"x in a world of 2: ranks \[1\]"),
    ],
)
def test_notes_that_do_not_fit(notes, word):
    with pytest.raises(AssertionError, match=word):
        assert not problem(notes), problem(notes)
