"""The rendezvous server: one thread, one selector, one TCP connection per rank.

Connections that have not shown the token are *strangers*. They get no answer, hold at most one JOIN
frame's worth of memory each, are limited in number and in time, and never delay a rank.
"""

from __future__ import annotations

import hmac
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from hipcomm import _wire as wire
from hipcomm.errors import InvalidArgument, RendezvousError
from hipcomm.rendezvous import protocol, sockets
from hipcomm.rendezvous.protocol import Frame, ProtocolError
from hipcomm.rendezvous.world import Member, RankStatus, Refused, World
from hipcomm.waiting import wait

HANDSHAKE_TIMEOUT = wire.HANDSHAKE_MS / 1000  # seconds from accept to a complete JOIN
FRAME_TIMEOUT = wire.FRAME_MS / 1000  # seconds from a frame's first byte to its last
MAX_STRANGERS = 128  # beyond that the oldest one is closed
ACCEPT_PAUSE = 0.1  # seconds without accepting when the process is out of file descriptors
CLOSE_TIMEOUT = 5.0  # seconds to wait for the server's thread


class _Connection:
    """One accepted socket; a stranger while ``member`` is None."""

    __slots__ = ("deadline", "decoder", "member", "outbox", "sock", "world")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.decoder = protocol.Decoder(protocol.MAX_JOIN_PAYLOAD)
        self.deadline = deadline  # for what is being received
        self.outbox = bytearray()
        self.member: Member | None = None
        self.world: World | None = None


class Server:
    """Lets the ranks of a job meet.

    The port is bound by the constructor, so that ranks may be started before :meth:`start`.

    Args:
        world_size: how many ranks the job has, 1 to ``MAX_WORLD``.
        token: the job's secret, 1 to 128 bytes of UTF-8, none of them zero.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        join_timeout: the longest that a rank may wait for the others, in seconds; a rank may ask
            for less.
        ranks_per_node: ranks of each of several nodes, where the launcher knows; for messages.
        single: serve one world and refuse further joins; otherwise the same ranks may meet again,
            for another communicator.

    Raises:
        InvalidArgument: a size, token or time-out that cannot be.
        RendezvousError: the address cannot be listened on.
    """

    def __init__(
        self,
        world_size: int,
        token: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        join_timeout: float = 60.0,
        ranks_per_node: int = 0,
        single: bool = False,
    ) -> None:
        if not 1 <= world_size <= wire.MAX_WORLD:
            raise InvalidArgument(f"Server: world_size={world_size}: not 1 to {wire.MAX_WORLD}")
        if not 1 <= len(token.encode()) <= wire.MAX_TOKEN or "\0" in token:
            raise InvalidArgument(
                f"Server: a token of {len(token.encode())} bytes: not 1 to {wire.MAX_TOKEN}, none zero"
            )
        if not 0 < join_timeout < float("inf"):
            raise InvalidArgument(f"Server: join_timeout={join_timeout}: not a positive number of seconds")
        self.world_size = world_size
        #: The job's secret.
        self.token = token
        self._token = protocol.pad_token(token)
        self._join_timeout = join_timeout
        self._ranks_per_node = ranks_per_node
        self._single = single
        try:
            self._listener = _listen(host, port)
        except OSError as error:
            raise RendezvousError(f"the rendezvous server cannot listen on {host}:{port}: {error}") from error
        self._listener.setblocking(False)
        #: (host, port) that clients connect to.
        self.address: tuple[str, int] = self._listener.getsockname()[:2]

        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        self._connections: dict[socket.socket, _Connection] = {}  # in order of arrival
        self._resume_accepting = 0.0  # when to listen again, while pausing; else 0

        # The thread holds the lock whenever it does not sit in select(); it guards what follows.
        self._lock = threading.Lock()
        self._worlds: list[World] = []  # oldest first; only the last one may still gather
        self._formed = 0  # how many worlds have formed so far
        self._dead: dict[int, str] = {}  # ranks whose process is known to be gone, and why
        self._first_failed: int | None = None

        self._is_asking = False
        self._reports: dict[int, str] = {}
        self._commands: deque[tuple[int, str, bool]] = deque()  # lose()'s arguments
        self._closing = False
        self._closes_when_empty = False
        self._empty = threading.Event()  # nobody is joined
        self._empty.set()
        self._thread: threading.Thread | None = None

    # ---- called from other threads -----------------------------------------------------------

    def start(self) -> None:
        """Start serving, in a new thread."""
        self._thread = threading.Thread(target=self._run, name="hipcomm-rendezvous", daemon=True)
        self._thread.start()

    def lose(self, rank: int, reason: str, failed: bool = False) -> None:
        """Tell the server that *rank*'s process has ended, for good; return at once.

        If the rank was joined, all others hear of its loss. If it had not come yet, those who wait for
        it hear so instead of waiting for the time-out. If it had left, nothing happens unless it *failed*:
        a program that ends with an error leaves as well, and others may be waiting for it in a kernel.
        """
        self._commands.append((rank, reason, failed))
        self._wake()

    def status(self) -> list[RankStatus]:
        """Return what is known about each rank, by rank."""
        with self._lock:
            return [self._rank_status(rank) for rank in range(self.world_size)]

    def ask(self) -> None:
        """Ask all ranks what they are doing; return at once. :meth:`reports` has the answers."""
        self._is_asking = True
        self._wake()

    def reports(self) -> dict[int, str]:
        """Return what ranks have said since they were asked last, by rank."""
        with self._lock:
            return {} if self._is_asking else dict(self._reports)

    def first_failed(self) -> int | None:
        """Return the rank that was lost or aborted first, or None: the likely cause of what followed."""
        with self._lock:
            return self._first_failed

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait until nobody is joined, at most *timeout* seconds; return whether that came true."""
        return wait(self._empty, timeout)

    def close_when_empty(self) -> None:
        """Have the thread end once nobody is joined; return at once."""
        self._closes_when_empty = True
        self._wake()

    def close(self) -> None:
        """Close every connection and end the thread. Idempotent."""
        self._closing = True
        self._wake()
        if self._thread is None:
            self._close_sockets()
        else:
            self._thread.join(CLOSE_TIMEOUT)

    def close_in_child(self) -> None:
        """Close the sockets in a forked child, silently."""
        for sock in (self._listener, *self._connections):
            sock.close()

    def _wake(self) -> None:
        try:
            self._wake_sender.send(b"\0")
        except OSError:
            # Full: the thread is about to look anyway. Closed: there is no thread to wake.
            return

    def _rank_status(self, rank: int) -> RankStatus:
        for world in reversed(self._worlds):
            status = world.status(rank)
            if status.state != "absent":
                return status
        return RankStatus(rank, "lost" if rank in self._dead else "absent")

    # ---- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing and not (self._closes_when_empty and self._empty.is_set()):
                events = self._selector.select(self._pause())
                with self._lock:
                    self._step(events)
        finally:
            self._close_sockets()

    def _step(self, events: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, mask in events:
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wake_receiver:
                self._wake_receiver.recv(4096)
            else:
                connection = key.data
                # An earlier event of this round may have closed it; _receive() looks for itself.
                if mask & selectors.EVENT_WRITE and connection.sock in self._connections:
                    self._flush(connection)
                if mask & selectors.EVENT_READ:
                    self._receive(connection)
        while self._commands:
            self._lose_rank(*self._commands.popleft())
        if self._is_asking:
            self._is_asking = False
            self._reports.clear()
            for world in self._worlds:
                world.ask()
        self._expire()
        self._forget_empty_worlds()

    def _pause(self) -> float | None:
        """Return how long select() may sleep: until the next deadline, None if there is none."""
        deadlines = [connection.deadline for connection in self._connections.values()]
        deadlines += [world.next_deadline() for world in self._worlds]
        if self._resume_accepting:
            deadlines.append(self._resume_accepting)
        nearest = min(deadlines, default=float("inf"))
        return None if nearest == float("inf") else max(0.0, nearest - time.monotonic())

    def _accept(self) -> None:
        for _ in range(MAX_STRANGERS):  # bounded: those who have joined get their turn as well
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # it was gone before we took it
            except OSError:
                # Out of file descriptors, most likely: strangers are what we can do without.
                for stranger in self._strangers():
                    self._disconnect(stranger)
                self._selector.unregister(self._listener)
                self._resume_accepting = time.monotonic() + ACCEPT_PAUSE
                return
            sock.setblocking(False)
            sockets.prepare(sock)
            connection = _Connection(sock, time.monotonic() + HANDSHAKE_TIMEOUT)
            self._connections[sock] = connection
            self._selector.register(sock, selectors.EVENT_READ, connection)
            self._limit_strangers()

    def _strangers(self) -> list[_Connection]:
        return [each for each in self._connections.values() if each.member is None]

    def _limit_strangers(self) -> None:
        strangers = self._strangers()
        if len(strangers) > MAX_STRANGERS:
            self._receive(strangers[0])  # its JOIN may have come in the meantime
            if strangers[0].member is None:
                self._disconnect(strangers[0])

    def _receive(self, connection: _Connection) -> None:
        """Take what has arrived, until there is no more, and act on every whole frame."""
        while connection.sock in self._connections:
            try:
                data = connection.sock.recv(connection.decoder.wanted())
            except BlockingIOError:
                return
            except OSError as error:
                self._drop(connection, f"its connection broke ({error.strerror})")
                return
            if not data:
                self._drop(connection, "its connection closed without leaving (the process ended)")
                return
            try:
                was_inside = connection.decoder.inside_frame
                frame = connection.decoder.feed(data)
                if connection.member is not None and not was_inside:
                    connection.deadline = time.monotonic() + FRAME_TIMEOUT
                if frame is not None:
                    self._handle(connection, frame)
            except ProtocolError as error:
                self._drop(connection, f"it sent {error}")
                return

    def _handle(self, connection: _Connection, frame: Frame) -> None:
        member, world = connection.member, connection.world
        if member is None or world is None:
            self._admit(connection, frame)
            return
        connection.deadline = float("inf")
        if not world.formed:
            raise ProtocolError(f"a frame of type {frame.type} before the WELCOME")
        if frame.type == wire.Type.GATHER:
            world.gather(member, protocol.unpack_gather(frame.payload))
        elif frame.type == wire.Type.WAITING:
            world.note(member, protocol.decode_text(frame.payload))
        elif frame.type == wire.Type.ABORT:
            abort, text = protocol.unpack_with_text(wire.Abort, frame.payload)
            missed = world.find_missed(abort.result)
            self._note_failure(member.rank if missed is None else missed)
            if missed is None:
                world.abort(member.rank, abort.result, text)
            else:
                world.lose(missed, f"it has left the job, and rank {member.rank} waited for it")
        elif frame.type == wire.Type.REPORT:
            text = protocol.decode_text(frame.payload)
            before = self._reports.get(member.rank)  # of a process that is in two worlds
            self._reports[member.rank] = text if before is None else f"{before}\n{text}"[: 4 * wire.MAX_TEXT]
        elif frame.type == wire.Type.CLOSING:
            if not frame.payload:  # the PEER_LEFT that it becomes would say that the rank has left the job
                raise ProtocolError("a CLOSING without a name")
            world.closing(member.rank, protocol.decode_text(frame.payload))
        elif frame.type == wire.Type.LEAVE:
            world.leave(member.rank)
            self._disconnect(connection)
        else:
            raise ProtocolError(f"a frame of type {frame.type}")

    def _admit(self, connection: _Connection, frame: Frame) -> None:
        """Judge a stranger's first frame: the token first, and silence if it is wrong."""
        if frame.type != wire.Type.JOIN:
            raise ProtocolError(f"a frame of type {frame.type} before the JOIN")
        message = protocol.unpack_join(frame.payload)
        if not hmac.compare_digest(message.token, self._token):
            raise ProtocolError("a wrong token")
        try:
            world = self._world_to_join(message)
            member = Member(message.rank, message.pid, self._sender(connection))
            wait = min(message.timeout_ms / 1000, self._join_timeout)
            world.join(member, time.monotonic() + wait)
        except Refused as refused:
            fixed = wire.Refused(refused.code, refused.peer)
            self._send(connection, protocol.pack_with_text(wire.Type.REFUSED, fixed, refused.text))
            self._disconnect(connection)
            return
        connection.member, connection.world = member, world
        connection.deadline = float("inf")
        connection.decoder.limit = protocol.MAX_CLIENT_PAYLOAD
        self._empty.clear()
        if world not in self._worlds:
            self._worlds.append(world)
        if world.formed:
            self._formed += 1
        else:
            self._check_for_dead(world)

    def _world_to_join(self, message: wire.Join) -> World:
        if message.world_size != self.world_size:
            raise Refused(
                wire.Refusal.WRONG_WORLD_SIZE,
                f"rank {message.rank} asked for a world of {message.world_size}, "
                f"this job has {self.world_size} ranks",
            )
        if message.rank >= self.world_size:
            raise Refused(
                wire.Refusal.RANK_OUT_OF_RANGE, f"rank {message.rank} of {self.world_size} does not exist"
            )
        if self._single and self._formed:
            raise Refused(
                wire.Refusal.WORLD_FULL, f"all {self.world_size} ranks of this job have come already"
            )
        if self._worlds and self._worlds[-1].gathering:
            return self._worlds[-1]
        return World(self.world_size, self._ranks_per_node)

    def _sender(self, connection: _Connection) -> Callable[[bytes], None]:
        return lambda data: self._send(connection, data)

    def _send(self, connection: _Connection, data: bytes) -> None:
        """Send what the socket takes and keep the rest: what the rank has asked for, and its peers' ends."""
        if connection.sock not in self._connections:
            return
        if not connection.outbox:
            connection.outbox += data
            self._flush(connection)
        else:
            connection.outbox += data

    def _flush(self, connection: _Connection) -> None:
        try:
            del connection.outbox[: connection.sock.send(connection.outbox)]
        except BlockingIOError:
            pass  # full: select() says when there is room
        except OSError:
            connection.outbox.clear()  # broken: the receiving side will notice and act
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.outbox else 0)
        self._selector.modify(connection.sock, mask, connection)

    def _drop(self, connection: _Connection, reason: str) -> None:
        """Deal with a connection that ended without a LEAVE."""
        self._disconnect(connection)
        member, world = connection.member, connection.world
        if member is None or world is None:
            return
        self._note_failure(member.rank)
        if world.formed:
            world.lose(member.rank, reason)
        elif world.gathering:
            self._dissolve(
                world, wire.Refusal.PEER_LOST, member.rank, f"rank {member.rank} was lost: {reason}"
            )

    def _note_failure(self, rank: int) -> None:
        if self._first_failed is None:
            self._first_failed = rank

    def _dissolve(self, world: World, code: wire.Refusal, peer: int, text: str) -> None:
        world.dissolve(code, peer, text)
        for connection in list(self._connections.values()):
            if connection.world is world:
                self._disconnect(connection)

    def _disconnect(self, connection: _Connection) -> None:
        if self._connections.pop(connection.sock, None) is not None:
            self._selector.unregister(connection.sock)
            connection.sock.close()

    def _lose_rank(self, rank: int, reason: str, failed: bool) -> None:
        self._dead.setdefault(rank, reason)
        for connection in list(self._connections.values()):
            if connection.member is not None and connection.member.rank == rank:
                self._receive(connection)  # what it said before it ended, a LEAVE perhaps
                if connection.sock in self._connections:
                    self._drop(connection, reason)
        for world in self._worlds:
            if failed and world.is_left_by(rank):
                self._note_failure(rank)
                world.lose(rank, reason)
        if self._worlds and self._worlds[-1].gathering:
            self._check_for_dead(self._worlds[-1])

    def _check_for_dead(self, world: World) -> None:
        """Dissolve a world that a dead rank has not joined: it will never form."""
        if self._dead:
            rank, reason = next(iter(self._dead.items()))
            text = f"rank {rank} ended before it joined ({reason})"
            self._dissolve(world, wire.Refusal.PEER_LOST, rank, text)

    def _expire(self) -> None:
        now = time.monotonic()
        for world in list(self._worlds):
            if world.join_deadline <= now:
                self._dissolve(world, wire.Refusal.JOIN_TIMEOUT, wire.NO_PEER, "the join timed out")
            else:
                world.expire(now)
        for connection in list(self._connections.values()):
            if connection.deadline <= now:
                self._drop(connection, f"it did not finish a frame in {FRAME_TIMEOUT:g} s")
        if self._resume_accepting and self._resume_accepting <= now:
            self._resume_accepting = 0.0
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _forget_empty_worlds(self) -> None:
        # The last world is kept, for status(): a rank that was lost shall not read as absent.
        self._worlds = [each for each in self._worlds[:-1] if each.members] + self._worlds[-1:]
        if not any(world.members for world in self._worlds):
            self._empty.set()

    def _close_sockets(self) -> None:
        for sock in (*self._connections, self._listener, self._wake_receiver, self._wake_sender):
            sock.close()
        self._connections.clear()
        self._selector.close()


def _listen(host: str, port: int) -> socket.socket:
    family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener
