"""Pairs of calls that do not belong together: what rank 0 makes, and what rank 1 does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

WORLD = 2
COUNT = 100


class Call(NamedTuple):
    """One call; *calls* > 1 repeats it, 0 leaves it out."""

    operation: str
    count: int = COUNT  # elements of a part
    dtype: str = "float32"
    op: str = "sum"
    root: int = 0
    rows: int = 1
    calls: int = 1

    def make(self, comm: Any) -> None:
        for _ in range(self.calls):
            getattr(self, f"_{self.operation}", self._plain)(comm)

    def _array(self, parts: int = 1) -> np.ndarray:
        return np.ones(parts * self.count, self.dtype)

    def _plain(self, comm: Any) -> None:
        if self.operation in ("all_reduce", "reduce"):
            rooted = {"root": self.root} if self.operation == "reduce" else {}
            getattr(comm, self.operation)(self._array(), op=self.op, **rooted)
        elif self.operation == "barrier":
            comm.barrier()
        elif self.operation == "broadcast":
            comm.broadcast(self._array(), self.root)
        else:
            raise ValueError(self.operation)

    def _all_gather(self, comm: Any) -> None:
        comm.all_gather(self._array(), self._array(WORLD))

    def _all_gather_rows(self, comm: Any) -> None:
        own = self._array().reshape(self.rows, -1)
        comm.all_gather(own, np.ones((self.rows, own.shape[1] * WORLD), self.dtype), dim=1)

    def _reduce_scatter(self, comm: Any) -> None:
        part = self._array()
        if self.rows == 1:
            comm.reduce_scatter(self._array(WORLD), part, op=self.op)
        else:
            whole = self._array(WORLD).reshape(self.rows, -1)
            comm.reduce_scatter(whole, part.reshape(self.rows, -1), op=self.op, dim=1)

    def _all_to_all(self, comm: Any) -> None:
        comm.all_to_all(self._array(WORLD), self._array(WORLD))

    def _gather(self, comm: Any) -> None:
        comm.gather(self._array(), self._array(WORLD), root=self.root)

    def _scatter(self, comm: Any) -> None:
        comm.scatter(self._array(WORLD), self._array(), root=self.root)

    def _all_gather_v(self, comm: Any) -> None:
        counts = [self.count, self.rows]
        own = np.ones(counts[comm.rank], self.dtype)
        comm.all_gather_v(own, np.ones(sum(counts), self.dtype), counts)

    def _all_to_all_v(self, comm: Any) -> None:
        counts = [5, 5]
        counts[1 - comm.rank] = self.count
        comm.all_to_all(self._array(2), self._array(2), counts, counts)

    def _message(self, comm: Any) -> None:
        (comm.send if comm.rank == 0 else comm.recv)(self._array(), 1 - comm.rank)

    def _norm(self, comm: Any) -> None:
        x = self._array().reshape(self.rows, -1)
        weight = np.ones(x.shape[1], self.dtype) if self.op == "sum" else None
        comm.all_reduce_rms_norm(x, None, weight, 1e-5 * (1 + self.root), np.empty_like(x))


class Mismatch(NamedTuple):
    name: str
    algorithm: str
    ours: Call
    theirs: Call


def _variants(operation: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the other rank does otherwise."""
    if operation == "barrier":
        return
    yield "one more element", {"count": COUNT + 4 if operation in ("all_gather_rows", "norm") else COUNT + 1}
    yield "fewer elements", {"count": COUNT // 2}
    if operation != "norm":
        yield "dtype", {"dtype": "int32"}
        yield "same bytes", {"dtype": "float64", "count": COUNT // 2}
    if operation in ("all_reduce", "reduce", "reduce_scatter", "norm"):  # of a norm: a weight or none
        yield "reduction", {"op": "max"}
    if operation in ("reduce", "broadcast", "gather", "scatter", "norm"):  # of a norm: eps
        yield "root", {"root": 1}
    if operation in ("all_gather_rows", "norm"):
        yield "rows", {"rows": 4}
    if operation == "reduce_scatter":
        yield "dim", {"rows": 10}
    if operation == "all_gather_v":
        yield "another's count", {"rows": 3}


OPERATIONS = (
    "all_reduce",
    "reduce",
    "reduce_scatter",
    "broadcast",
    "all_gather",
    "all_gather_rows",
    "all_to_all",
    "gather",
    "scatter",
    "all_gather_v",
    "all_to_all_v",
    "message",
    "norm",
)


def _call(operation: str, **changes: Any) -> Call:
    rows = 2 if operation in ("all_gather_rows", "norm", "all_gather_v") else 1
    return Call(operation, **{"rows": rows, **changes})


def matrix() -> list[Mismatch]:
    found = [
        Mismatch(f"{operation}: {name}", "auto", _call(operation), _call(operation, **changes))
        for operation in OPERATIONS
        for name, changes in _variants(operation)
    ]
    found += [
        Mismatch(
            f"all_reduce, {algorithm}: {name}", algorithm, _call("all_reduce"), _call("all_reduce", **changes)
        )
        for algorithm in ("one_shot", "two_shot", "pipelined")
        for name, changes in _variants("all_reduce")
    ]
    pairs = [
        ("all_reduce", "reduce"),
        ("all_reduce", "broadcast"),
        ("all_reduce", "all_gather"),
        ("all_gather", "all_to_all"),
        ("gather", "all_gather"),
        ("scatter", "broadcast"),
        ("barrier", "all_reduce"),
        ("reduce_scatter", "all_to_all"),
    ]
    found += [
        Mismatch(f"{ours} and {theirs}, {algorithm}", algorithm, _call(ours), _call(theirs))
        for ours, theirs in pairs
        for algorithm in ("auto", "one_shot")
    ]
    for operation in ("all_reduce", "all_gather", "broadcast", "message"):
        found.append(Mismatch(f"{operation}: nothing", "auto", _call(operation), _call(operation, count=0)))
        found.append(
            Mismatch(f"{operation}: one call more", "auto", _call(operation), _call(operation, calls=2))
        )
        found.append(Mismatch(f"{operation}: no call", "auto", _call(operation), _call(operation, calls=0)))
    return found


# ---- what comes of them: python mismatches.py [check]


def outcome(number: int, check: bool) -> list[list[str]]:
    """The errors of both ranks, threads of this process: of the call, the synchronisation, the close."""
    import threading

    import hipcomm

    mismatch = matrix()[number]
    comms = hipcomm.init_all([0, 1], algorithm=mismatch.algorithm, check=check, timeout=2)
    errors: list[list[str]] = [[], []]

    def work(comm: hipcomm.Communicator) -> None:
        comm.device.use()
        call = mismatch.ours if comm.rank == 0 else mismatch.theirs
        for step in (lambda: call.make(comm), comm.synchronize, comm.close):
            try:
                step()
            except hipcomm.Error as error:
                errors[comm.rank].append(type(error).__name__)

    threads = [threading.Thread(target=work, args=(comm,)) for comm in comms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def main(arguments: list[str]) -> None:
    """Print what each mismatch ends with, a line each: ``silent``, or the names of errors."""
    import functools
    import multiprocessing

    cases = matrix()
    run = functools.partial(outcome, check="check" in arguments)
    with multiprocessing.get_context("fork").Pool(
        2, maxtasksperchild=6
    ) as pool:  # failed ones keep their memory
        for case, errors in zip(cases, pool.imap(run, range(len(cases))), strict=True):
            print("+".join(sorted({*errors[0], *errors[1]})) or "silent", case.name, sep="\t", flush=True)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
