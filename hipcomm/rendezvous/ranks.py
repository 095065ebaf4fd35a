"""The ranks of one communicator, as its control plane sees them.

A process joins the job once, through one rendezvous client. Every communicator that it makes then, the
first one and those split off from it, uses a :class:`Ranks`: a group of the job's ranks with their own
numbers, whose exchanges cannot be mistaken for another group's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from hipcomm import _wire as wire
from hipcomm.core import class_of, lib, result_of
from hipcomm.errors import Error, PlatformError, RendezvousError
from hipcomm.rendezvous import Client

Layout = TypeVar(
    "Layout",
    wire.Agreement,
    wire.Allocation,
    wire.Export,
    wire.Free,
    wire.Node,
    wire.Pattern,
    wire.Region,
    wire.Split,
    wire.Status,
)


class _Job:
    """The client that several groups share; the last one to leave closes it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._lock = threading.Lock()
        self._users = 0
        self._has_failed = False

    def enter(self) -> None:
        with self._lock:
            self._users += 1

    def leave(self, has_failed: bool) -> None:
        with self._lock:
            self._users -= 1
            self._has_failed |= has_failed
            is_last = self._users == 0
        if is_last:
            self.client.close(waits=not self._has_failed)


class Ranks:
    """A group of the job's ranks, this process's among them. Safe to use from any thread.

    Attributes:
        rank: this rank's number in the group.
        world_size: the number of ranks in the group.
        members: the job's number of each of them.
    """

    def __init__(self, job: _Job, members: Sequence[int], name: str, timeout: float) -> None:
        """Not for users: see :meth:`of_job` and :meth:`subgroup`."""
        self.members = tuple(members)
        self.rank = self.members.index(job.client.rank)
        self.world_size = len(self.members)
        self._job = job
        self._name = name
        self._timeout = timeout
        self._subgroups = 0
        self._is_member = True
        self._callbacks: list[Callable[[int | None, str, int], object]] = []
        self._leave_callbacks: list[Callable[[int, str], object]] = []
        self._ask_callbacks: list[Callable[[], str]] = []
        job.enter()

    @classmethod
    def of_job(cls, client: Client, timeout: float) -> Ranks:
        """All ranks of the job that *client* has joined.

        Args:
            client: becomes this group's, which closes it.
            timeout: how long an exchange waits for the others, in seconds.
        """
        return cls(_Job(client), range(client.world_size), wire.NAME, timeout)

    def subgroup(self, members: Sequence[int]) -> Ranks:
        """A group of some of this group's ranks, by their numbers here, in their new order.

        Every rank of this group calls it the same number of times, so that names agree; those who are to
        be together pass the same members. A rank that is to be in no group calls :meth:`skip_subgroup`.
        """
        self._subgroups += 1
        everybody = [self.members[member] for member in members]
        return Ranks(self._job, everybody, f"{self._name}.{self._subgroups}", self._timeout)

    def skip_subgroup(self) -> None:
        """Take part in the naming of subgroups, and in none of them."""
        self._subgroups += 1

    # ---- exchanges -------------------------------------------------------------------------------------

    def all_gather(self, tag: str, data: bytes, timeout: float | None = None) -> list[bytes]:
        """Give *data* to all ranks of the group and return what each gave, by its number here.

        Raises:
            RendezvousError: a time-out, naming who did not come; or the server is lost.
            PeerDied: a rank of the job died or aborted.
        """
        patience = self._timeout if timeout is None else timeout
        return self._job.client.all_gather(f"{self._name}/{tag}", data, patience, self.members)

    def give(self, tag: str, data: bytes, timeout: float) -> None:
        """Take part in an :meth:`all_gather` without waiting for the others. Never raises."""
        self._job.client.give(f"{self._name}/{tag}", data, timeout, self.members)

    def agree(
        self, tag: str, problem: str, data: bytes = b"", error: type[Error] = PlatformError
    ) -> list[bytes]:
        """:meth:`all_gather`, unless some rank has a problem: then all of them raise the first one.

        Args:
            tag: names the exchange.
            problem: what went wrong here; empty if nothing.
            data: what the others want to know.
            error: what the problem is to be raised as.

        Raises:
            Error: of that type, the problem of the first rank that has one, the same on all ranks.
        """
        result = result_of(error) or lib.hipcommPlatformError if problem else lib.hipcommSuccess
        mine = wire.Status(result).pack() + (problem.encode(errors="replace") if problem else data)
        gathered = self.all_gather(tag, mine)
        size = wire.Status.size()
        for status, message in zip(
            unpack_each(wire.Status, [message[:size] for message in gathered]), gathered, strict=True
        ):
            if status.result:
                raise class_of(status.result)(message[size:].decode(errors="replace"))
        return [message[size:] for message in gathered]

    # ---- failure and the end -----------------------------------------------------------------------------

    @property
    def has_failed(self) -> bool:
        """Whether the job has failed: a rank is lost, or the server."""
        return self._job.client.failure is not None

    def on_failure(self, callback: Callable[[int | None, str, int], object]) -> None:
        """Call ``callback(peer, reason, result)`` once when the job fails; as :meth:`Client.on_failure`.

        *peer* is the lost rank's number in this group; None where it is not in it, or not known.
        """

        def translated(peer: int | None, reason: str, result: int) -> None:
            callback(self.members.index(peer) if peer in self.members else None, reason, result)

        self._callbacks.append(translated)
        self._job.client.on_failure(translated)

    def on_leave(self, callback: Callable[[int], object]) -> None:
        """Call ``callback(peer)`` for each rank that closes or leaves; as :meth:`Client.on_leave`."""

        def translated(peer: int, name: str) -> None:
            if peer in self.members and name in ("", self._name):
                callback(self.members.index(peer))

        self._leave_callbacks.append(translated)
        self._job.client.on_leave(translated)

    def on_ask(self, describe: Callable[[], str]) -> None:
        """Have what *describe* says told to the launcher when it asks; as :meth:`Client.on_ask`."""

        def named() -> str:
            what = describe()
            return f"{self._name}: {what}" if what else ""

        self._ask_callbacks.append(named)
        self._job.client.on_ask(named)

    def has_left(self, peer: int | None) -> bool:
        """Whether the group's rank *peer* has left the job in good order."""
        return peer is not None and self.members[peer] in self._job.client.left

    def closing(self) -> None:
        """Tell the others that this rank makes no more calls: what it had to send is there."""
        self._job.client.closing(self._name)

    def waiting(self, text: str) -> None:
        """Tell the launcher, for its summary, what this rank is waiting for."""
        self._job.client.waiting(text)

    def abort(self, reason: str, result: int = 0) -> None:
        """Tell all ranks of the job that this one ends it; as :meth:`Client.abort`."""
        self._job.client.abort(reason, result)

    @property
    def number_in_job(self) -> int:
        """The job's number of this rank."""
        return self.members[self.rank]

    def leave_job(self) -> None:
        """Leave the job, whatever groups there still are. Idempotent."""
        self._job.client.close()

    def leave(self, has_failed: bool = False) -> None:
        """Take leave of the group; with the last group this process leaves the job. Idempotent.

        Args:
            has_failed: the communicator has failed here: nobody is waited for.
        """
        if self._is_member:
            self._is_member = False
            # the client lives as long as the job, and would keep what the callbacks refer to
            callbacks: list[Callable[..., object]] = [*self._callbacks, *self._leave_callbacks]
            callbacks += self._ask_callbacks
            self._job.client.forget(callbacks, f"{self._name}/")
            self._job.leave(has_failed)


def unpack_each(layout: type[Layout], gathered: Sequence[bytes]) -> list[Layout]:
    """Read one structure from what each rank has given. Raises RendezvousError where it is another size."""
    return [row[0] for row in unpack_rows(layout, gathered, 1)]


def unpack_rows(layout: type[Layout], gathered: Sequence[bytes], count: int) -> list[list[Layout]]:
    """Read *count* structures from what each rank has given. Raises RendezvousError as above."""
    size = layout.size()
    for rank, message in enumerate(gathered):
        if len(message) != count * size:
            raise RendezvousError(
                f"rank {rank} has sent {len(message)} bytes, not {count} x {layout.__name__} of {size}"
            )
    return [[layout.unpack(message, i * size) for i in range(count)] for message in gathered]
