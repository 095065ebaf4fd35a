"""Feeds mutated frames to the rendezvous server's and the client's parsers, and garbage to the exchanges.

    python tests/fuzz_protocol.py --inputs 1000000 --seed 1

Runs the real server and client code without their threads. The test-suite runs a few thousand inputs.
"""

from __future__ import annotations

import argparse
import random
import selectors
import socket
import struct
import time
from contextlib import suppress

from hipcomm import _wire as wire
from hipcomm.errors import Error, InvalidArgument
from hipcomm.rendezvous import protocol
from hipcomm.rendezvous.client import Client, _Request
from hipcomm.rendezvous.protocol import GatherMessage, ProtocolError
from hipcomm.rendezvous.ranks import Ranks, unpack_each, unpack_rows
from hipcomm.rendezvous.server import Server, _Connection

TOKEN = "token"
EDGES = [
    0,
    1,
    2,
    3,
    4,
    5,
    16,
    63,
    64,
    127,
    128,
    255,
    256,
    1023,
    1024,
    1025,
    4096,
    65535,
    1 << 20,
    (1 << 32) - 1,
]


def join(rank, token=TOKEN, size=2):
    message = wire.Join(rank, size, 60000, 1, protocol.pad_token(token))
    return protocol.frame(wire.Type.JOIN, message.pack())


TO_SERVER = [
    join(1),
    join(0, "wrong"),
    join(7),
    join(1, size=3),
    protocol.pack_gather(GatherMessage(0, 0, 60000, (), "t", b"data")),
    protocol.pack_gather(GatherMessage(1, 1, 1, (1, 0), "tag é", bytes(300))),
    protocol.pack_gather(GatherMessage(2, 0, 60000, (1,), "alone", b"")),
    protocol.frame(wire.Type.WAITING, b"note"),
    protocol.pack_with_text(wire.Type.ABORT, wire.Abort(5), "reason"),
    protocol.frame(wire.Type.LEAVE),
]
TO_CLIENT = [
    protocol.frame(wire.Type.ACCEPTED),
    protocol.frame(wire.Type.WELCOME, wire.Welcome(2).pack()),
    protocol.pack_with_text(wire.Type.REFUSED, wire.Refused(5, wire.NO_PEER), "no"),
    protocol.pack_result(0, [b"a" * 100, b""]),
    protocol.pack_result(1, []),
    protocol.pack_with_text(wire.Type.FAILED, wire.Failed(0, 1, 1), "late"),
    protocol.pack_with_text(wire.Type.PEER_LOST, wire.Peer(1, 4), "gone"),
    protocol.pack_with_text(wire.Type.ABORTED, wire.Peer(1, 5), "enough"),
    protocol.pack_with_text(wire.Type.PEER_LEFT, wire.Peer(1, 0), ""),
]


def mutate(rng, data):
    """*data*, changed in up to four places; the announced length often made true again."""
    changed = bytearray(data)
    for _ in range(rng.randrange(5)):
        kind = rng.randrange(6)
        at = rng.randrange(len(changed) + 1)
        if kind == 0 and changed:
            changed[at - 1] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at : at + rng.choice((1, 2, 4))] = struct.pack("<I", rng.choice(EDGES))
        elif kind == 2:
            del changed[at : at + rng.randrange(1, 20)]
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif kind == 4:  # a number of the fixed part
            at = 12 + 4 * rng.randrange(5)
            changed[at : at + 4] = struct.pack("<I", rng.choice(EDGES))
        elif len(changed) >= 8:
            changed[6:8] = struct.pack("<H", rng.randrange(25))
    if min(len(data), len(changed)) >= 12 and rng.random() < 0.7:
        changed[:6] = data[:6]
        changed[8:12] = struct.pack("<I", len(changed) - 12)
    return bytes(changed)


def stream(rng, frames):
    return b"".join(mutate(rng, rng.choice(frames)) for _ in range(rng.randrange(1, 5)))


class Peer:
    """One connection to a server whose thread does not run: everything happens in here."""

    def __init__(self, server):
        self.server = server
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        theirs.setblocking(False)
        self.connection = _Connection(theirs, float("inf"))
        server._connections[theirs] = self.connection
        server._selector.register(theirs, selectors.EVENT_READ, self.connection)

    def send(self, rng, data):
        """In one to three portions."""
        for _ in range(rng.randrange(2)):
            cut = rng.randrange(len(data) + 1)
            self._portion(data[:cut])
            data = data[cut:]
        self._portion(data)

    def _portion(self, data):
        with suppress(BrokenPipeError):  # the server has hung up
            self.ours.sendall(data)
        self.server._receive(self.connection)

    def hear(self):
        """The frames that have come, each parsed."""
        data = b""
        with suppress(BlockingIOError, ConnectionResetError):
            while more := self.ours.recv(1 << 16):
                data += more
        frames = []
        while data:
            magic, version, kind, length = struct.unpack_from("<4sHHI", data)
            assert (magic, version) == (b"HIPC", 2)
            assert len(data) >= 12 + length
            frames.append((wire.Type(kind), data[12 : 12 + length]))
            data = data[12 + length :]
        return frames

    def close(self):
        self.ours.close()
        self.server._receive(self.connection)


def is_invitation(data):
    """Whether *data* begins with a JOIN that shows the token."""
    token = protocol.pad_token(TOKEN)
    return data[:12] == join(1)[:12] and data[28:156] == token


def fuzz_stranger(rng, server):
    """Without the token there is no answer and no membership."""
    data = stream(rng, TO_SERVER)
    stranger = Peer(server)
    stranger.send(rng, data)
    frames = stranger.hear()
    assert bool(frames) == is_invitation(data), data
    assert len(stranger.connection.decoder._buffer) <= stranger.connection.decoder.limit
    stranger.close()
    assert not any(world.members for world in server._worlds)


def fuzz_rank(rng, server):
    """A rank that sends garbage is lost or leaves or aborts; the other one hears that and nothing else."""
    honest, wild = Peer(server), Peer(server)
    honest.send(rng, join(0))
    wild.send(rng, join(1))
    honest.send(rng, protocol.pack_gather(GatherMessage(9, 0, 60000, (), "t", b"honest")))
    wild.send(rng, stream(rng, TO_SERVER))
    world = honest.connection.world
    assert all(member.pending <= wire.MAX_PENDING for member in world.members.values())
    wild.hear()
    wild.close()
    assert honest.connection.sock in server._connections
    world.expire(time.monotonic() + 1)  # it tells of leaving a moment later
    kinds, ends = [], 0
    for kind, payload in honest.hear():
        kinds.append(kind)
        if kind == wire.Type.RESULT:
            request, parts = protocol.unpack_result(payload)
            assert request == 9
            assert parts[0] == b"honest"
        elif kind == wire.Type.FAILED:
            failed, _ = protocol.unpack_with_text(wire.Failed, payload)
            assert (failed.request, failed.peer) == (9, 1)
        elif kind in (wire.Type.PEER_LOST, wire.Type.ABORTED, wire.Type.PEER_LEFT):
            event, text = protocol.unpack_with_text(wire.Peer, payload)
            assert event.peer == 1
            ends += not (kind == wire.Type.PEER_LEFT and text)  # named: of a communicator; stays
    assert ends == 1, kinds
    assert kinds[:2] == [wire.Type.ACCEPTED, wire.Type.WELCOME]
    honest.send(rng, protocol.frame(wire.Type.LEAVE))
    honest.close()


def fuzz_client(rng, _):
    """What a server sends ends in a state of the client or in an error that its reader expects."""
    client = Client(0, 2, None)
    client._requests[0] = request = _Request()
    decoder = protocol.Decoder(protocol.max_server_payload(2))
    data = stream(rng, TO_CLIENT)
    try:
        while data:
            portion = data[: rng.randint(1, decoder.wanted())]
            data = data[len(portion) :]
            frame = decoder.feed(portion)
            if frame is not None:
                client._handle(frame)
    except (ProtocolError, ValueError):
        return
    assert request.done.is_set() or request.parts is None


class _Job:
    """Answers every all-gather with what it is given."""

    rank = 0

    def __init__(self, gathered):
        self.gathered = gathered

    @property
    def client(self):
        return self

    def enter(self):
        pass

    def all_gather(self, *_):
        return self.gathered


def fuzz_exchange(rng, _):
    """What a rank gives to an exchange ends in a result or in one of hipcomm's errors."""
    export = wire.Export(1, 0, bytes(8), 2, 3, 4, bytes(64)).pack()
    good = wire.Status(0).pack() + export
    bad = rng.choice(
        (good, wire.Status(rng.choice(EDGES)).pack() + b"text \xff", rng.randbytes(rng.randrange(8)))
    )
    ranks = Ranks(_Job([good, mutate(rng, bad)]), [0, 1], "fuzz", 1.0)
    with suppress(Error):
        gathered = ranks.agree("x", "", b"", InvalidArgument)
        assert len(unpack_rows(wire.Export, gathered, 1)) == 2
        assert len(unpack_each(wire.Region, gathered)) == 2


KINDS = [fuzz_stranger, fuzz_rank, fuzz_client, fuzz_exchange]


def fuzz(inputs, seed):
    """Run *inputs* of them, of each kind as many. Raises what went wrong, with the input's own seed."""
    server = Server(2, TOKEN)
    try:
        for number in range(inputs):
            kind = KINDS[number % len(KINDS)]
            try:
                kind(random.Random(f"{seed}/{number}"), server)
            except Exception as error:
                raise AssertionError(f"{kind.__name__}, seed {seed}, input {number}: {error!r}") from error
            server._forget_empty_worlds()
    finally:
        server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    fuzz(options.inputs, options.seed)
    print(f"{options.inputs} inputs, seed {options.seed}: nothing found")


if __name__ == "__main__":
    main()
