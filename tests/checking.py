"""Who compares a call's results with the oracle: one rank, another one for each call.

It works out what every rank must have, compares its own result element by element, and notes the checksums of
the others'; each rank notes the checksum of what it has. The notes go to the test's process with the reply
(:mod:`rank_worker`), where :func:`problem` compares them: so a wrong element is found wherever it is, and
the oracle runs once for a call, not once on every rank.

HIPCOMM_TEST_ORACLE=all has each rank compare its own result, which says the elements that are wrong.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import oracle
from oracle import Array

_ALL = os.environ.get("HIPCOMM_TEST_ORACLE") == "all"


class Note(NamedTuple):
    """One rank's word on one call: its result's checksum, None if it receives nothing; of the rank that
    checks, also what the call was and what each rank's checksum must be."""

    got: int | None
    call: str = ""
    expected: tuple[int | None, ...] = ()


_world: Any = None  # the communicator whose ranks' notes are compared
_notes: list[Note] = []


def begin(comm: Any) -> None:
    """From now on calls of *comm*, and of no other communicator, are noted."""
    global _world  # noqa: PLW0603  a process is one rank of one world
    _world = comm
    _notes.clear()


def take() -> tuple[Note, ...]:
    """The notes since the last time."""
    taken = tuple(_notes)
    _notes.clear()
    return taken


def check(comm: Any, case: Any, got: Array | None) -> None:
    """Compare this rank's result of a call with the oracle, or note it. *case* is a :class:`cases.Case`.

    Raises AssertionError where this rank sees that it is wrong.
    """
    world = comm.world_size
    noted = comm is _world and not _ALL
    if noted and comm.rank != sum(case.seed) % world:
        _notes.append(Note(None if got is None else oracle.checksum(case.comparable(got))))
        return
    expected = case.results(world)
    own = expected[comm.rank]
    assert (got is None) == (own is None), f"{case}: rank {comm.rank} got {got} instead of {own}"
    if got is not None:
        difference = oracle.difference(case.comparable(got), case.comparable(own))
        assert not difference, f"{case} on rank {comm.rank} in a world of {world}: {difference}"
    if noted:
        sums = {
            id(each): None if each is None else oracle.checksum(case.comparable(each)) for each in expected
        }
        _notes.append(Note(sums[id(own)], str(case), tuple(sums[id(each)] for each in expected)))


def problem(notes: list[tuple[Note, ...]]) -> str:
    """What is wrong, going by the notes of all ranks; empty if nothing is."""
    if len({len(each) for each in notes}) > 1:
        return f"the ranks have checked {[len(each) for each in notes]} calls"
    for number, call in enumerate(zip(*notes, strict=True)):
        words = [note for note in call if note.expected]
        if len(words) != 1:
            return f"call {number} was checked by {len(words)} ranks: {words}"
        expected = words[0].expected
        wrong = [rank for rank, note in enumerate(call) if note.got != expected[rank]]
        if wrong:
            return (
                f"{words[0].call} in a world of {len(call)}: ranks {wrong} have another result than the "
                "oracle; HIPCOMM_TEST_ORACLE=all says in which elements"
            )
    return ""
