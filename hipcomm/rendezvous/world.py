"""The state of one world on the server: who is in, what is being gathered, what has failed.

No sockets and no threads here. A member is a rank number and a function that sends it a frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from hipcomm import _wire as wire
from hipcomm.rendezvous import protocol
from hipcomm.rendezvous.protocol import GatherMessage, ProtocolError


def name_ranks(ranks: Iterable[int]) -> str:
    """Return ``rank 3``, ``ranks 0, 2`` or ``no rank``: for messages."""
    ordered = sorted(ranks)
    if not ordered:
        return "no rank"
    return ("rank " if len(ordered) == 1 else "ranks ") + ", ".join(map(str, ordered))


MAX_CLOSED = 256  # communicators whose closing is remembered
ANNOUNCE_DELAY = 0.05  # seconds in which ranks that leave together do


class Refused(Exception):
    """A JOIN was not accepted. Never leaves the package: it becomes a REFUSED frame."""

    def __init__(self, code: wire.Refusal, text: str, peer: int = wire.NO_PEER) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.peer = peer


class RankStatus(NamedTuple):
    """What the server knows about one rank.

    Attributes:
        rank: the rank.
        state: ``absent``, ``joining``, ``joined``, ``left`` or ``lost``.
        pid: the process that joined, or None.
        waiting: what it is waiting for, or None.
    """

    rank: int
    state: str
    pid: int | None = None
    waiting: str | None = None


class Member:
    """One joined rank.

    Args:
        rank: its rank.
        pid: its process id, as it told us.
        send: sends it a whole frame; never blocks and never raises.
    """

    __slots__ = ("note", "pending", "pid", "rank", "send")

    def __init__(self, rank: int, pid: int, send: Callable[[bytes], None]) -> None:
        self.rank = rank
        self.pid = pid
        self.send = send
        self.note = ""  # the text of its last WAITING frame
        self.pending = 0  # all-gathers under way


class _Gather:
    """One all-gather: the parts that came, until all have come."""

    __slots__ = ("deadline", "failure", "group", "parts", "requests", "tag")

    def __init__(self, group: tuple[int, ...], tag: str) -> None:
        self.group = group
        self.tag = tag
        self.parts: dict[int, bytes] = {}
        self.requests: dict[int, int] = {}
        self.deadline = float("inf")
        self.failure: tuple[wire.Failure, int, str] | None = None

    def missing(self) -> list[int]:
        return [rank for rank in self.group if rank not in self.parts]


class World:
    """The ranks of one communicator, from the first join to the last leave.

    A world gathers members until it is ``formed``; then its members may all-gather. The first
    loss or abort fails it for good.

    Args:
        size: how many ranks it needs.
    """

    def __init__(self, size: int, ranks_per_node: int = 0) -> None:
        self.size = size
        self._ranks_per_node = ranks_per_node  # 0: nobody knows
        self.formed = False
        self.members: dict[int, Member] = {}
        self.join_deadline = float("inf")
        self._rivals: dict[int, int] = {}  # processes that claimed a rank that had joined, by rank
        self._left: set[int] = set()
        self._leaving: dict[str, list[int]] = {}  # ranks that the others are still to be told of, by name
        self._said: dict[str, set[int]] = {}  # ranks that have closed a communicator, by its name
        self._announce_at = float("inf")
        self._lost: set[int] = set()
        self._failure: tuple[int, str] | None = None
        self._gathers: dict[tuple[tuple[int, ...], str, int], _Gather] = {}
        self._at_failure: dict[int, RankStatus] = {}  # what was known when it failed
        self._last_words: dict[int, str] = {}  # what ranks told of themselves since

    @property
    def gathering(self) -> bool:
        """Tell whether ranks may still join."""
        return not self.formed and not self._at_failure

    def join(self, member: Member, deadline: float) -> None:
        """Take *member* in; form the world when it was the last one. Raises :class:`Refused`."""
        if member.rank in self.members:
            other = self.members[member.rank]
            self._rivals[member.rank] = member.pid
            raise Refused(
                wire.Refusal.DUPLICATE_RANK, f"rank {member.rank} has joined already, as process {other.pid}"
            )
        self.members[member.rank] = member
        self.join_deadline = min(self.join_deadline, deadline)
        member.send(protocol.frame(wire.Type.ACCEPTED))
        if len(self.members) == self.size:
            self.formed = True
            self.join_deadline = float("inf")
            welcome = protocol.frame(wire.Type.WELCOME, wire.Welcome(self.size).pack())
            for each in self.members.values():
                each.send(welcome)

    def dissolve(self, code: wire.Refusal, peer: int, text: str) -> None:
        """Refuse all members of a world that did not form, saying who came and who did not."""
        self._remember()
        came = set(self.members)
        missing = name_ranks(set(range(self.size)) - came)
        text = f"{text}: {name_ranks(came)} of {self.size} came; {missing} did not"
        if self._ranks_per_node:
            nodes = sorted({rank // self._ranks_per_node for rank in set(range(self.size)) - came})
            text += f" (of node {', '.join(map(str, nodes))})"
        for rank, rival in self._rivals.items():
            owner = self.members.get(rank)
            if owner is not None:
                text += f"; rank {rank} is process {owner.pid}, and {rival} claimed it too"
        for member in self.members.values():
            member.send(protocol.pack_with_text(wire.Type.REFUSED, wire.Refused(code, peer), text))
        self.members.clear()
        self.join_deadline = float("inf")

    def gather(self, member: Member, message: GatherMessage) -> None:
        """Take one rank's part; answer everybody once all parts are there. Raises ProtocolError."""
        group = message.group or tuple(range(self.size))
        if member.rank not in group or len(set(group)) != len(group) or max(group) >= self.size:
            raise ProtocolError(f"a GATHER of rank {member.rank} for the group {group}")
        if self._failure is not None:
            peer, story = self._failure
            member.send(_failed(message.request, wire.Failure.PEER_LOST, peer, story))
            return
        if member.pending >= wire.MAX_PENDING:
            raise ProtocolError(f"more than {wire.MAX_PENDING} all-gathers at once")
        key = (group, message.tag, message.sequence)
        gather = self._gathers.setdefault(key, _Gather(group, message.tag))
        if member.rank in gather.parts:
            raise ProtocolError(f"a second GATHER {message.tag!r} number {message.sequence}")
        member.pending += 1
        gather.parts[member.rank] = message.data
        gather.requests[member.rank] = message.request
        gather.deadline = min(gather.deadline, time.monotonic() + message.timeout_ms / 1000)
        self._settle(key, gather)

    def _settle(self, key: tuple[tuple[int, ...], str, int], gather: _Gather) -> None:
        """Answer what can be answered now."""
        missing = gather.missing()
        gone = self._left.intersection(missing)
        if gather.failure is None and gone:
            peer = min(gone)
            text = f"{name_ranks(gone)} left the job before all_gather {gather.tag!r}"
            gather.failure = (wire.Failure.PEER_LEFT, peer, text)
        if gather.failure is not None:
            code, peer, text = gather.failure
            self._answer(gather, lambda request: _failed(request, code, peer, text))
        elif not missing:
            parts = [gather.parts[rank] for rank in gather.group]
            self._answer(gather, lambda request: protocol.pack_result(request, parts))
        # A failed one is kept until its last rank has heard of it: all fail, or none.
        if not set(missing) - self._left:
            del self._gathers[key]

    def _answer(self, gather: _Gather, pack: Callable[[int], bytes]) -> None:
        for rank, request in gather.requests.items():
            member = self.members.get(rank)
            gather.parts[rank] = b""
            if member is not None:
                member.pending -= 1
                member.send(pack(request))
        gather.requests.clear()

    def expire(self, now: float) -> None:
        """Do what is due: fail all-gathers whose time is over, for all ranks that take part; and announce."""
        if self._announce_at <= now:
            self._tell_of_leaving()
        for key, gather in list(self._gathers.items()):
            if gather.failure is None and gather.deadline <= now:
                came, missing = name_ranks(gather.parts), gather.missing()
                text = f"all_gather {gather.tag!r} timed out: {came} came; {name_ranks(missing)} did not"
                gather.failure = (wire.Failure.TIMEOUT, missing[0], text)
                self._settle(key, gather)

    def next_deadline(self) -> float:
        """Return when :meth:`expire` (or the join deadline) is due, on the monotonic clock."""
        deadlines = [gather.deadline for gather in self._gathers.values() if gather.failure is None]
        return min([self.join_deadline, self._announce_at, *deadlines])

    def ask(self) -> None:
        """Ask everybody what it is doing; before the world has formed only the server talks of it."""
        for member in self.members.values() if self.formed else ():
            member.send(protocol.frame(wire.Type.ASK))

    def leave(self, rank: int) -> None:
        """Let a rank leave in good order: no failure, except of all-gathers that still need it."""
        del self.members[rank]
        self._left.add(rank)
        self._announce(rank, "")
        for key, gather in list(self._gathers.items()):
            self._settle(key, gather)

    def closing(self, rank: int, name: str) -> None:
        """Pass on that *rank* makes no more calls on a communicator, though it has not left the job."""
        self._announce(rank, name)

    def _announce(self, rank: int, name: str) -> None:
        """Have the others told soon: those that say the same until then need not be, and mostly all do."""
        self._leaving.setdefault(name, []).append(rank)
        self._announce_at = min(self._announce_at, time.monotonic() + ANNOUNCE_DELAY)

    def _tell_of_leaving(self) -> None:
        leaving, self._leaving = self._leaving, {}
        self._announce_at = float("inf")
        if self._failure is not None:
            return
        for name, ranks in leaving.items():
            if len(self._said) >= MAX_CLOSED and name not in self._said:
                del self._said[next(iter(self._said))]  # the oldest: at worst somebody is told in vain
            self._said.setdefault(name, set()).update(ranks)
            for rank in ranks:
                frame = protocol.pack_with_text(wire.Type.PEER_LEFT, wire.Peer(rank, protocol.SUCCESS), name)
                for member in self.members.values():
                    if member.rank not in self._said[name]:
                        member.send(frame)

    def find_missed(self, result: int) -> int | None:
        """The rank whose leaving made another one abort with *result*; None: it was not that, or not one."""
        return min(self._left) if result == protocol.PEER_DIED and len(self._left) == 1 else None

    def is_left_by(self, rank: int) -> bool:
        """Tell whether *rank* has left others behind."""
        return rank in self._left and bool(self.members)

    def lose(self, rank: int, reason: str) -> None:
        """Note that a rank is gone without having left, or left and then failed: all others hear it."""
        self._remember()
        self.members.pop(rank, None)
        self._left.discard(rank)
        self._lost.add(rank)
        event = wire.Peer(rank, protocol.PEER_DIED)
        self._fail(wire.Type.PEER_LOST, event, reason, f"rank {rank} died: {reason}")

    def abort(self, rank: int, result: int, reason: str) -> None:
        """End the job on a rank's behalf: all others hear it, the world has failed."""
        self._remember()
        event = wire.Peer(rank, result)
        self._fail(wire.Type.ABORTED, event, reason, f"rank {rank} aborted the job: {reason}")

    def _fail(self, kind: wire.Type, event: wire.Peer, reason: str, story: str) -> None:
        if self._failure is not None:
            return  # the first failure is the cause; what follows are its consequences
        self._failure = (event.peer, story)  # for those who ask later
        self._gathers.clear()
        self._tell_others(kind, event, reason)

    def _tell_others(self, kind: wire.Type, event: wire.Peer, text: str) -> None:
        frame = protocol.pack_with_text(kind, event, text)
        for member in self.members.values():
            if member.rank != event.peer:
                member.send(frame)

    def _remember(self) -> None:
        """Keep the status of this moment, before a failure ends everybody's waiting."""
        if not self._at_failure:
            self._at_failure = {rank: self._status(rank) for rank in range(self.size)}

    def note(self, member: Member, text: str) -> None:
        """Keep what a rank says that it is waiting for, or was when the world failed."""
        member.note = text
        if self._at_failure:
            self._last_words[member.rank] = text

    def status(self, rank: int) -> RankStatus:
        """Return what is known about *rank*; in a failed world, what it did when the world failed."""
        now = self._status(rank)
        if self._last_words.get(rank):
            return now._replace(waiting=self._last_words[rank])
        before = self._at_failure.get(rank, now)
        return now._replace(waiting=before.waiting) if now.state in ("left", "lost") else before

    def _status(self, rank: int) -> RankStatus:
        member = self.members.get(rank)
        if member is None:
            state = "left" if rank in self._left else "lost" if rank in self._lost else "absent"
            return RankStatus(rank, state)
        waiting = [member.note] if member.note else []
        if not self.formed:
            waiting.append(f"join ({name_ranks(set(range(self.size)) - set(self.members))} missing)")
        for gather in self._gathers.values():
            if rank in gather.requests:
                waiting.append(f"all_gather {gather.tag!r} ({name_ranks(gather.missing())} missing)")
        state = "joined" if self.formed else "joining"
        return RankStatus(rank, state, member.pid, "; ".join(waiting) or None)


def _failed(request: int, code: wire.Failure, peer: int, text: str) -> bytes:
    return protocol.pack_with_text(wire.Type.FAILED, wire.Failed(request, code, peer), text)
