"""Getting a client's socket to the WELCOME: connecting, showing the token, waiting for the others.

Everything here happens in the calling thread and against one deadline.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from hipcomm import _wire as wire
from hipcomm.errors import PeerDied, RendezvousError
from hipcomm.rendezvous import protocol, sockets
from hipcomm.rendezvous.endpoint import Endpoint, look_up
from hipcomm.rendezvous.protocol import Frame, ProtocolError

ACCEPT_TIMEOUT = wire.ACCEPT_MS / 1000  # seconds from our JOIN to the server's answer, which it sends at once
ANSWER_SLACK = wire.ANSWER_SLACK_MS / 1000  # seconds beyond a time-out for the server to tell us
HUNG_UP_PATIENCE = 1.0  # seconds to try again where the server hangs up on us unheard
PROBE_TIMEOUT = 1.0  # seconds for a server that may be a leftover to answer
POLL_INTERVAL = 0.02  # seconds between two looks at the endpoint file, or two attempts to connect


class TryAgain(Exception):
    """An endpoint did not let us in, another attempt may. Never leaves the package."""


class HungUp(TryAgain):
    """The connection was closed before any answer.

    A wrong token looks like this. So does a flood of strangers: the server closes the oldest connection
    that has shown no token, and that was a rank between its connect and its JOIN (1 of 1070).
    """


def check_unclaimed(identity_name: str, join: wire.Join, path: Path) -> None:
    """See that no other process has claimed this rank at the server that the endpoint file *path* names.

    Raises:
        RendezvousError: one has, and waits there for the other ranks.
    """
    endpoint = look_up(path)
    if endpoint is None:
        return
    try:
        sock, _ = _knock(identity_name, join, endpoint, PROBE_TIMEOUT)
    except TryAgain:
        return  # a leftover: nobody is there, or all ranks have come already
    except (OSError, PeerDied):
        return
    sock.close()


def join_server(
    identity_name: str,
    join: wire.Join,
    endpoint: Endpoint,
    timeout: float,
    accepted: Callable[[], object] | None = None,
) -> socket.socket:
    """Join at a known server.

    Args:
        identity_name: who we are, for messages (``rank 2 of 4``).
        join: the JOIN to send; its time-out is replaced by what is left of *timeout*.
        endpoint: the server.
        timeout: seconds until all ranks must have joined.
        accepted: called when the server has let us in, and others are still missing.

    Returns:
        The socket, non-blocking, after the WELCOME.

    Raises:
        PeerDied: another rank died before all had joined.
        RendezvousError: anything else; says who came and who did not where the server knows.
    """
    deadline = time.monotonic() + timeout
    heard_by = float("inf")
    while True:
        try:
            return _attempt(identity_name, join, endpoint, deadline, accepted)
        except ConnectionRefusedError as error:
            # Nobody listens there yet: a server may be started after its ranks.
            if time.monotonic() + POLL_INTERVAL >= deadline:
                raise RendezvousError(
                    f"{identity_name}: nobody listens at {endpoint.host}:{endpoint.port} "
                    f"(tried for {timeout:g} s)"
                ) from error
            time.sleep(POLL_INTERVAL)
        except HungUp as reason:
            heard_by = min(heard_by, time.monotonic() + HUNG_UP_PATIENCE, deadline)
            if time.monotonic() + POLL_INTERVAL >= heard_by:
                raise RendezvousError(f"{identity_name}: {reason}") from reason
            time.sleep(POLL_INTERVAL)
        except TryAgain as reason:
            raise RendezvousError(f"{identity_name}: {reason}") from reason


def join_published(identity_name: str, join: wire.Join, path: Path, timeout: float) -> socket.socket:
    """Join at the server that rank 0 publishes in the endpoint file *path*.

    A file that an earlier job left, or the one that this job is about to replace, is tried again
    until the time is over. Arguments, result and errors are those of :func:`join_server`.
    """
    deadline = time.monotonic() + timeout
    obstacle = "rank 0 has not written it"
    while True:
        endpoint = look_up(path)
        if endpoint is not None:
            try:
                return _attempt(identity_name, join, endpoint, deadline)
            except ConnectionRefusedError:
                obstacle = f"nobody listens at {endpoint.host}:{endpoint.port}, which it names"
            except TryAgain as reason:
                obstacle = str(reason)
        if time.monotonic() + POLL_INTERVAL >= deadline:
            raise RendezvousError(
                f"{identity_name}: found no server through the endpoint file {path} in {timeout:g} s: "
                f"{obstacle} (are all ranks of one job on this machine? else set HIPCOMM_JOB_ID)"
            )
        time.sleep(POLL_INTERVAL)


def _attempt(
    identity_name: str,
    join: wire.Join,
    endpoint: Endpoint,
    deadline: float,
    accepted: Callable[[], object] | None = None,
) -> socket.socket:
    """Try once. Raises ConnectionRefusedError, TryAgain, or what is final."""
    remaining = max(deadline - time.monotonic(), 0.001)
    sock, decoder = _knock(identity_name, join, endpoint, remaining)
    try:
        if accepted is not None:
            accepted()
        second = _receive(sock, decoder, deadline + ANSWER_SLACK)
        _check(identity_name, second, wire.Type.WELCOME)
        sock.setblocking(False)
    except (OSError, ProtocolError) as error:
        sock.close()
        raise TryAgain(f"{_where(endpoint)} was lost before all ranks had come ({error})") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _where(endpoint: Endpoint) -> str:
    return f"the server at {endpoint.host}:{endpoint.port}"


def _knock(
    identity_name: str, join: wire.Join, endpoint: Endpoint, remaining: float
) -> tuple[socket.socket, protocol.Decoder]:
    """Connect, send the JOIN and hear that the server lets us in; as :func:`_attempt`."""
    where = _where(endpoint)
    token = protocol.pad_token(endpoint.token)
    join = join._replace(timeout_ms=protocol.milliseconds(remaining), pid=os.getpid(), token=token)
    try:
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout=remaining)
    except ConnectionRefusedError:
        raise
    except OSError as error:
        raise RendezvousError(f"{identity_name}: cannot connect to {where}: {error}") from error
    try:
        sockets.prepare(sock)
        sock.sendall(protocol.frame(wire.Type.JOIN, join.pack()))
        decoder = protocol.Decoder(wire.Refused.size() + wire.MAX_TEXT)
        first = _receive(sock, decoder, time.monotonic() + min(ACCEPT_TIMEOUT, remaining))
        _check(identity_name, first, wire.Type.ACCEPTED)
    except (OSError, ProtocolError) as error:
        sock.close()
        # A wrong token or protocol version is met with silence: the connection closes at once.
        kind = HungUp if isinstance(error, ConnectionError) else TryAgain
        raise kind(f"{where} did not let us in; a wrong token looks like this ({error})") from error
    except BaseException:
        sock.close()
        raise
    return sock, decoder


def _receive(sock: socket.socket, decoder: protocol.Decoder, deadline: float) -> Frame:
    """Receive one frame from a blocking socket. Raises OSError or ProtocolError."""
    while True:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        data = sock.recv(decoder.wanted())
        if not data:
            raise ConnectionResetError("it closed the connection")
        frame = decoder.feed(data)
        if frame is not None:
            return frame


def _check(identity_name: str, frame: Frame, wanted: wire.Type) -> None:
    if frame.type == wanted:
        return
    if frame.type != wire.Type.REFUSED:
        raise ProtocolError(f"it sent a frame of type {frame.type}")
    refused, text = protocol.unpack_with_text(wire.Refused, frame.payload)
    if refused.code == wire.Refusal.WORLD_FULL:
        raise TryAgain(text)
    message = f"{identity_name}: join: {text}"
    if refused.code == wire.Refusal.PEER_LOST:
        raise PeerDied(message, None if refused.peer == wire.NO_PEER else refused.peer)
    raise RendezvousError(message)
