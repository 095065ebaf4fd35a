"""The rendezvous client of one rank: all-gather of bytes, abort, and word of peers that are lost.

One reader thread owns the receiving side; any thread may send. The wait for a WELCOME is in
``joining.py``, the way to a server without our launcher in ``endpoint.py``.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from hipcomm import _wire as wire
from hipcomm.errors import Error, InvalidArgument, PeerDied, RendezvousError
from hipcomm.forking import belongs_to_this_process
from hipcomm.rendezvous import endpoint, joining, protocol
from hipcomm.rendezvous.endpoint import Endpoint, file_path, publish, withdraw
from hipcomm.rendezvous.protocol import Frame, ProtocolError
from hipcomm.waiting import wait
from hipcomm.whereabouts import whereabouts

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing itself from Python 3.11 on

    from hipcomm.environment import Identity, Settings
    from hipcomm.rendezvous.server import Server

    FailureCallback = Callable[[int | None, str, int], object]
    LeaveCallback = Callable[[int, str], object]
    AskCallback = Callable[[], str]

SEND_TIMEOUT = 5.0  # seconds for the server to take a frame
QUICK_TIMEOUT = 1.0  # the same for frames that must not hold up the caller


class _Request:
    """One of this rank's all-gathers that is under way."""

    __slots__ = ("done", "error", "parts")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.parts: list[bytes] | None = None
        self.error: Error | None = None


class Hosted:
    """The server that this process runs because nobody else does."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def close(self, patience: float) -> None:
        """End the server once everybody has left; wait for that for *patience* seconds at most."""
        if self.server.wait_until_empty(patience):
            self.server.close()
        else:
            self.server.close_when_empty()
            _left_behind.add(self.server)


class _Published(Hosted):
    """Such a server, and the file that says where it is."""

    def __init__(self, identity: Identity, settings: Settings) -> None:
        # Imported here: only rank 0 of a job without our launcher needs it.
        from hipcomm.rendezvous.server import Server

        self._path = file_path(settings.runtime_dir, identity.job_key)
        token = os.urandom(16).hex()
        super().__init__(Server(identity.world_size, token, join_timeout=settings.join_timeout, single=True))
        self.endpoint = Endpoint(*self.server.address, token)

    def join(self, name: str, join: wire.Join, timeout: float) -> socket.socket:
        """Serve, join as the first, and only then tell the others where: they find rank 0 there.

        Raises what :func:`joining.join_server` does; the server is closed then.
        """
        with ExitStack() as publishing:

            def accepted() -> None:
                publish(self._path, self.endpoint)
                publishing.close()  # for another rank 0 to look

            try:
                publishing.enter_context(endpoint.publishing(self._path))
                joining.check_unclaimed(name, join, self._path)
                endpoint.sweep(self._path)
                self.server.start()
                return joining.join_server(name, join, self.endpoint, timeout, accepted)
            except BaseException:
                self.close(0)
                raise

    def close(self, patience: float) -> None:
        """As of every such server; the file goes too."""
        withdraw(self._path, self.endpoint)
        super().close(patience)


class Client:
    """One rank's end of the rendezvous. Made by :func:`connect`; safe to use from any thread.

    Attributes:
        rank: this process's rank.
        world_size: the number of ranks.
        left: other ranks that have left in good order.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        sock: socket.socket | None,
        *,
        hosted: Hosted | None = None,
        patience: float = 60.0,
        server_rank: int | None = None,
    ) -> None:
        """Take over a connected and welcomed socket.

        Args:
            rank: this process's rank.
            world_size: the number of ranks.
            sock: the socket, or None in a world of one.
            hosted: the server, if it runs in this process.
            patience: how long close() waits for the others to leave that server, in seconds.
            server_rank: the other rank whose process hosts the server; None: the launcher does.
        """
        self.rank = rank
        self.world_size = world_size
        self.left: frozenset[int] = frozenset()
        self._sock = sock
        self._hosted = hosted
        self._patience = patience
        self._server_rank = server_rank
        self._send_lock = threading.Lock()
        self._lock = threading.Lock()  # guards everything below
        self._failure: Error | None = None
        self._failure_event: tuple[int | None, str, int] | None = None  # what callbacks are told
        self._callbacks: list[FailureCallback] = []
        self._leave_callbacks: list[LeaveCallback] = []
        self._ask_callbacks: list[AskCallback] = []
        self._requests: dict[int, _Request] = {}
        self._next_request = 0
        self._sequences: dict[tuple[tuple[int, ...], str], int] = {}
        self._closed = False
        self._reader: threading.Thread | None = None
        belongs_to_this_process(self)
        if sock is not None:
            self._reader = threading.Thread(target=self._read, name="hipcomm-client", daemon=True)
            self._reader.start()

    @property
    def failure(self) -> Error | None:
        """Why the world has failed (PeerDied or RendezvousError), or None. Never goes away again."""
        return self._failure

    def on_failure(self, callback: FailureCallback) -> None:
        """Call ``callback(peer, reason, result)`` once when a peer is lost or aborts, or the server is lost.

        It is called from the reader thread, or at once in this thread if it has happened already.
        *peer* is None where no particular rank is to blame; *result* is the code that a peer has given to
        :meth:`abort`, else that of PeerDied. Callbacks must not raise and must not wait; they may call
        :meth:`abort`.
        """
        with self._lock:
            event = self._failure_event
            if event is None:
                self._callbacks.append(callback)
        if event is not None:
            callback(*event)

    def on_leave(self, callback: LeaveCallback) -> None:
        """Call ``callback(peer, name)`` for every rank that makes no more calls; what it had sent is there.

        *name*: the communicator that it is closing; empty: it leaves the job in good order, or has left
        before. As :meth:`on_failure` otherwise.
        """
        with self._lock:
            self._leave_callbacks.append(callback)
            left = self.left
        for peer in left:
            callback(peer, "")

    def on_ask(self, callback: AskCallback) -> None:
        """Call ``callback()`` when the launcher wants to know what this rank is doing; it returns lines.

        It is called in a thread of its own and may take a second.
        """
        with self._lock:
            self._ask_callbacks.append(callback)

    def forget(self, callbacks: Collection[Callable[..., object]], prefix: str) -> None:
        """Let go of what belongs to a group that is over: its callbacks, and the counts of its tags.

        Args:
            callbacks: those of :meth:`on_failure` and its like; any that are not known are ignored.
            prefix: what its tags begin with. None of them is used again.
        """
        with self._lock:
            self._callbacks = [each for each in self._callbacks if each not in callbacks]
            self._leave_callbacks = [each for each in self._leave_callbacks if each not in callbacks]
            self._ask_callbacks = [each for each in self._ask_callbacks if each not in callbacks]
            for members, tag in list(self._sequences):
                if tag.startswith(prefix):
                    del self._sequences[members, tag]

    def all_gather(
        self, tag: str, data: bytes, timeout: float, group: Sequence[int] | None = None
    ) -> list[bytes]:
        """Give *data* to all ranks of the group and return what each of them gave, in its order.

        Args:
            tag: names the operation, at most 255 bytes; all ranks of the group use the same. The
                n-th call with a tag meets the others' n-th call with it.
            data: up to 1 MiB; the lengths may differ between ranks.
            timeout: seconds to wait for the others; the shortest of all ranks' counts for all.
            group: ranks that take part, this one among them, in the same order on each of them; by
                default all.

        Raises:
            InvalidArgument: an argument that cannot be; nothing was sent.
            RendezvousError: time-out, naming the ranks that did not come, on every rank that did; or
                the server is lost.
            PeerDied: a rank died or aborted, or has left before this call.
        """
        members = self._check_gather(tag, data, timeout, group)
        if self.world_size == 1 and self._failure is None and not self._closed:
            return [bytes(data)]
        request = _Request()
        with self._lock:
            self._raise_if_over(f"all_gather {tag!r}")
            number, frame = self._next_gather(tag, data, timeout, members)
            self._requests[number] = request
        try:
            if not self._send(frame, min(timeout, SEND_TIMEOUT)):
                self._fail(self._server_rank, f"the rendezvous server took nothing for {SEND_TIMEOUT:g} s")
            # The server reports the time-out, since it knows who is missing; hence the slack.
            if not wait(request.done, timeout + joining.ANSWER_SLACK):
                raise RendezvousError(
                    f"rank {self.rank}: all_gather {tag!r}: the server did not answer in {timeout:g} s"
                )
        finally:
            with self._lock:
                self._requests.pop(number, None)
        if request.parts is not None:
            return request.parts
        if request.error is not None:
            raise request.error
        with self._lock:
            self._raise_if_over(f"all_gather {tag!r}")
        raise RendezvousError(f"rank {self.rank}: all_gather {tag!r}: the client was closed meanwhile")

    def give(self, tag: str, data: bytes, timeout: float, group: Sequence[int] | None = None) -> None:
        """Take part in an :meth:`all_gather` without waiting for what the others give; as :meth:`waiting`."""
        members = self._check_gather(tag, data, timeout, group)
        with self._lock:
            _, frame = self._next_gather(tag, data, timeout, members)
        self._send(frame, QUICK_TIMEOUT)

    def _next_gather(
        self, tag: str, data: bytes, timeout: float, members: tuple[int, ...]
    ) -> tuple[int, bytes]:
        """Return number and frame of the next GATHER; needs the lock."""
        number = self._next_request
        self._next_request = (number + 1) & 0xFFFFFFFF
        sequence = self._sequences.get((members, tag), 0)
        self._sequences[members, tag] = (sequence + 1) & 0xFFFFFFFF
        message = protocol.GatherMessage(
            number, sequence, protocol.milliseconds(timeout), members, tag, bytes(data)
        )
        return number, protocol.pack_gather(message)

    def waiting(self, text: str | None) -> None:
        """Tell the server what this rank is waiting for, for the launcher's summary; None: nothing.

        Never raises and hardly waits: the note is lost where it cannot be sent.
        """
        self._send(protocol.frame(wire.Type.WAITING, protocol.encode_text(text or "")), QUICK_TIMEOUT)

    def abort(self, reason: str, result: int = 0) -> None:
        """Tell all ranks that this one ends the job; afterwards this client has failed as well.

        Never raises, and waits for a second at most.

        Args:
            reason: for people.
            result: the error's ``hipcommResult_t``; 0 for an error that the core does not have.
        """
        frame = protocol.pack_with_text(wire.Type.ABORT, wire.Abort(result), reason)
        self._send(frame, QUICK_TIMEOUT)
        with self._lock:
            if self._failure is None:
                self._failure = RendezvousError(f"rank {self.rank}: this rank aborted the job: {reason}")
            self._release_requests()

    def closing(self, name: str) -> None:
        """Tell the others that this rank makes no more calls on communicator *name*; as :meth:`waiting`."""
        self._send(protocol.frame(wire.Type.CLOSING, protocol.encode_text(name)), QUICK_TIMEOUT)

    def close(self, waits: bool = True) -> None:
        """Leave in good order: the others do not take this rank for dead. Idempotent.

        Where this process hosts the server (rank 0 without our launcher) it waits for the others to
        leave as well, for as long as a collective would wait for a peer. After a failure it does not, and
        the server goes on until they have left, at the latest until this process ends.

        Args:
            waits: False: there has been a failure that this client does not know of.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._release_requests()
        if self._sock is not None:
            if self._send(protocol.frame(wire.Type.LEAVE), QUICK_TIMEOUT):
                # The server answers a LEAVE by closing; the reader ends then.
                self._join_reader(QUICK_TIMEOUT)
            with suppress(OSError):  # closed by the other side already
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes the reader if it still waits
            self._join_reader(QUICK_TIMEOUT)
            self._sock.close()
        if self._hosted is not None:
            self._hosted.close(self._patience if waits and self._failure is None else 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- inside ------------------------------------------------------------------------------

    def _check_gather(
        self, tag: str, data: bytes, timeout: float, group: Sequence[int] | None
    ) -> tuple[int, ...]:
        """Return the group as it goes on the wire: empty for the whole world."""
        who = f"rank {self.rank}: all_gather"
        if not 0 < len(tag.encode()) <= wire.MAX_TAG:
            raise InvalidArgument(f"{who}: a tag of {len(tag.encode())} bytes: not 1 to {wire.MAX_TAG}")
        if len(data) > wire.MAX_DATA:
            raise InvalidArgument(f"{who} {tag!r}: {len(data)} bytes are more than {wire.MAX_DATA}")
        if not 0 < timeout < float("inf"):
            raise InvalidArgument(f"{who} {tag!r}: timeout={timeout}: not a positive number of seconds")
        if group is None:
            return ()
        members = tuple(group)
        valid = all(0 <= rank < self.world_size for rank in members)
        if not valid or self.rank not in members or len(set(members)) != len(members):
            raise InvalidArgument(
                f"{who} {tag!r}: group={list(members)}: not distinct ranks below {self.world_size} "
                f"with {self.rank} among them"
            )
        return () if members == tuple(range(self.world_size)) else members

    def _raise_if_over(self, operation: str) -> None:
        """Raise the failure, told for *operation*; needs the lock."""
        if self._failure_event is not None:
            peer, reason, _ = self._failure_event
            raise self._error(peer, f"{operation}: {reason}")
        if self._failure is not None:
            raise RendezvousError(f"{self._failure}")
        if self._closed:
            raise RendezvousError(f"rank {self.rank}: {operation}: the client is closed")

    def _error(self, peer: int | None, reason: str) -> Error:
        message = f"rank {self.rank}: {reason}"
        return RendezvousError(message) if peer is None else PeerDied(message, peer)

    def _send(self, frame: bytes, timeout: float) -> bool:
        """Send a whole frame; return False if the connection is gone or *timeout* seconds did not do."""
        if self._sock is None:
            return True
        deadline = time.monotonic() + timeout
        if not self._send_lock.acquire(timeout=timeout):
            return False
        try:
            remaining = memoryview(frame)
            while remaining:
                try:
                    remaining = remaining[self._sock.send(remaining) :]
                except BlockingIOError:
                    patience = deadline - time.monotonic()
                    if patience <= 0 or not _wait_for(self._sock, select.POLLOUT, patience):
                        # Part of a frame may have gone: nothing sensible can follow it.
                        self._sock.shutdown(socket.SHUT_RDWR)
                        return False
            return True
        except (OSError, ValueError):
            return False  # the reader notices a broken connection and says so
        finally:
            self._send_lock.release()

    def _read(self) -> None:
        """Run the reader thread."""
        sock = self._sock
        assert sock is not None
        decoder = protocol.Decoder(protocol.max_server_payload(self.world_size))
        reason = "it closed the connection"
        try:
            while True:
                try:
                    data = sock.recv(decoder.wanted())
                except BlockingIOError:
                    # Without a limit: close() wakes it through shutdown().
                    _wait_for(sock, select.POLLIN, None)
                    continue
                if not data:
                    break
                frame = decoder.feed(data)
                if frame is not None:
                    self._handle(frame)
        except (OSError, ValueError, ProtocolError) as error:
            reason = str(error)
        if not self._closed:
            lost = "lost the rendezvous server"
            where = "" if self._server_rank is None else f" in rank {self._server_rank}"
            self._fail(self._server_rank, f"{lost}{where} ({reason})")

    def _handle(self, frame: Frame) -> None:
        if frame.type == wire.Type.RESULT:
            number, parts = protocol.unpack_result(frame.payload)
            self._finish(number, parts, None)
        elif frame.type == wire.Type.FAILED:
            failed, text = protocol.unpack_with_text(wire.Failed, frame.payload)
            peer = None if failed.code == wire.Failure.TIMEOUT else failed.peer
            self._finish(failed.request, None, self._error(peer, text))
        elif frame.type == wire.Type.PEER_LOST:
            lost, text = protocol.unpack_with_text(wire.Peer, frame.payload)
            self._fail(lost.peer, f"rank {lost.peer} died: {text}")
        elif frame.type == wire.Type.ABORTED:
            aborted, text = protocol.unpack_with_text(wire.Peer, frame.payload)
            self._fail(aborted.peer, f"rank {aborted.peer} aborted the job: {text}", aborted.result)
        elif frame.type == wire.Type.PEER_LEFT:
            left, name = protocol.unpack_with_text(wire.Peer, frame.payload)
            with self._lock:
                if not name:
                    self.left |= {left.peer}
                callbacks = tuple(self._leave_callbacks)
            for callback in callbacks:
                callback(left.peer, name)
        elif frame.type == wire.Type.ASK:
            threading.Thread(target=self._report, name="hipcomm-report", daemon=True).start()
        else:
            raise ProtocolError(f"it sent a frame of type {frame.type}")

    def _report(self) -> None:
        """Say what this rank is doing."""
        with self._lock:
            callbacks = tuple(self._ask_callbacks)
        lines = [*filter(None, (callback() for callback in callbacks)), whereabouts()]
        self._send(protocol.frame(wire.Type.REPORT, protocol.encode_text("\n".join(lines))), QUICK_TIMEOUT)

    def _finish(self, number: int, parts: list[bytes] | None, error: Error | None) -> None:
        with self._lock:
            request = self._requests.get(number)
        if request is not None:  # else its caller has given up
            request.parts, request.error = parts, error
            request.done.set()

    def _fail(self, peer: int | None, reason: str, result: int = protocol.PEER_DIED) -> None:
        """Note the first failure, wake all waiting threads and call the callbacks."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = self._error(peer, reason)
            self._failure_event = (peer, reason, result)
            callbacks, self._callbacks = self._callbacks, []
            self._release_requests()
        for callback in callbacks:
            callback(peer, reason, result)

    def _release_requests(self) -> None:
        """Wake all threads that wait for an answer that will not come; needs the lock."""
        for request in self._requests.values():
            request.done.set()

    def _join_reader(self, timeout: float) -> None:
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(timeout)

    def _let_go_in_child(self) -> None:
        """Let go of the sockets in a forked child: the parent's death must still close the connection."""
        self._closed = True
        self._failure = RendezvousError(f"rank {self.rank}: a forked child cannot use its parent's client")
        if self._sock is not None:
            self._sock.close()
        if self._hosted is not None:
            self._hosted.server.close_in_child()
            self._hosted = None


_left_behind: weakref.WeakSet[Server] = weakref.WeakSet()


def _await_servers() -> None:
    """The process ends, and its servers with it: a moment for the others to hear of what has failed."""
    for server in list(_left_behind):
        server.wait_until_empty(QUICK_TIMEOUT)


atexit.register(_await_servers)


def _wait_for(sock: socket.socket, event: int, timeout: float | None) -> bool:
    """Return whether *sock* became ready within *timeout* seconds (None: however long it takes)."""
    poller = select.poll()
    poller.register(sock, event)
    return bool(poller.poll(None if timeout is None else max(0, int(timeout * 1000))))


def connect(identity: Identity, settings: Settings) -> Client:
    """Join the job and return once all ranks have.

    With ``settings.rendezvous`` the server is there. Without, rank 0 starts one in its own process
    and publishes it to the others. A world of one needs no server.

    Raises:
        PeerDied: another rank died before all had joined.
        RendezvousError: the join failed; after a time-out it says who came and who did not.
    """
    rank, world_size = identity.rank, identity.world_size
    if world_size == 1:
        return Client(rank, world_size, None)
    name = f"rank {rank} of {world_size}"
    join = wire.Join(rank, world_size, timeout_ms=0, pid=0, token=b"")
    if settings.rendezvous is not None:
        server = Endpoint(*settings.rendezvous, settings.token)
        sock = joining.join_server(name, join, server, settings.join_timeout)
        return Client(rank, world_size, sock)
    if rank != 0:
        path = file_path(settings.runtime_dir, identity.job_key)
        sock = joining.join_published(name, join, path, settings.join_timeout)
        return Client(rank, world_size, sock, server_rank=0)
    hosted = _Published(identity, settings)
    sock = hosted.join(name, join, settings.join_timeout)
    return Client(rank, world_size, sock, hosted=hosted, patience=settings.timeout)
