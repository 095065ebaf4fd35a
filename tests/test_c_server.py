"""The C library's rendezvous server, seen from the wire: what a client of docs/protocol.md hears of it."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time

import pytest
from third_client import (
    ABORTED,
    ACCEPTED,
    FAILED,
    PEER_LEFT,
    PEER_LOST,
    REFUSED,
    RESULT,
    WELCOME,
    ThirdClient,
)

from hipcomm import _wire as wire
from hipcomm.core import check, ffi, lib

PATIENCE = 20.0


@pytest.fixture
def server():
    """Address and token of a server that hipcommGetUniqueId() has started."""
    made = ffi.new("hipcommUniqueId *")
    check(lib.hipcommGetUniqueId(made))
    fields = wire.UniqueId.unpack(bytes(ffi.buffer(made)))
    assert fields.magic == wire.ID_MAGIC.encode()
    assert fields.pid == os.getpid()
    return (fields.host.rstrip(b"\0").decode(), fields.port), fields.token.rstrip(b"\0")


def join(server, world=2, ranks=None):
    """Clients of all ranks, after the WELCOME."""
    address, token = server
    clients = [ThirdClient(address, token, rank, world, PATIENCE) for rank in ranks or range(world)]
    for client in clients:
        assert client.welcome() == world
    return clients


def refusal(server, rank, world):
    address, token = server
    client = ThirdClient(address, token, rank, world, PATIENCE)
    kind, payload = client.receive()
    assert kind == REFUSED
    assert client.receive() is None
    code, peer = struct.unpack_from("<II", payload)
    return code, peer, payload[8:].decode()


def test_refusals(server):
    address, token = server
    first = ThirdClient(address, token, 1, 3, PATIENCE)
    assert first.receive() == (ACCEPTED, b"")
    assert refusal(server, 0, 2)[0] == wire.Refusal.WRONG_WORLD_SIZE
    assert refusal(server, 3, 3)[0] == wire.Refusal.RANK_OUT_OF_RANGE
    code, _, text = refusal(server, 1, 3)
    assert code == wire.Refusal.DUPLICATE_RANK
    assert f"as process {os.getpid()}" in text
    others = [ThirdClient(address, token, rank, 3, PATIENCE) for rank in (0, 2)]
    for client in others:
        assert client.welcome() == 3
    assert first.receive()[0] == WELCOME
    assert refusal(server, 0, 3)[0] == wire.Refusal.WORLD_FULL


def test_a_join_that_times_out_names_the_missing(server):
    address, token = server
    first = ThirdClient(address, token, 0, 3, patience=0.5)
    first.sock.settimeout(PATIENCE)
    assert first.receive()[0] == ACCEPTED
    kind, payload = first.receive()
    assert kind == REFUSED
    assert struct.unpack_from("<II", payload) == (wire.Refusal.JOIN_TIMEOUT, wire.NO_PEER)
    assert payload[8:] == b"the join timed out: rank 0 of 3 came; ranks 1, 2 did not"
    join(server, 3)  # a new attempt


def test_a_rank_that_is_lost_before_all_have_come(server):
    address, token = server
    first, second = (ThirdClient(address, token, rank, 3, PATIENCE) for rank in (0, 1))
    assert first.receive()[0] == second.receive()[0] == ACCEPTED
    second.sock.close()
    kind, payload = first.receive()
    assert (kind, *struct.unpack_from("<II", payload)) == (REFUSED, wire.Refusal.PEER_LOST, 1)


def test_all_gather(server):
    """Of the world, of a group in its own order, of nothing, of the most; twice under one tag."""
    clients = join(server, 3)
    for turn in range(2):
        numbers = [
            client.gather(b"t", bytes([turn, rank]) * (1 + rank)) for rank, client in enumerate(clients)
        ]
        expected = [bytes([turn, rank]) * (1 + rank) for rank in range(3)]
        for client, number in zip(clients, numbers, strict=True):
            assert client.result(number) == expected
    numbers = [clients[rank].gather(b"t", bytes([rank]), group=(2, 0)) for rank in (0, 2)]
    assert [clients[rank].result(numbers[at]) for at, rank in enumerate((0, 2))] == [[b"\2", b"\0"]] * 2
    most = os.urandom(wire.MAX_DATA)
    numbers = [client.gather(b"\xc3\xa9" * 100, most if client is clients[1] else b"") for client in clients]
    for client, number in zip(clients, numbers, strict=True):
        assert client.result(number) == [b"", most, b""]
    assert all(client.leave() is not None for client in clients)


def failed(client, number, earlier=None):
    """The answer to a request; to one that a failure may have overtaken, there may be an answer before."""
    while True:
        kind, payload = client.receive()
        if kind == PEER_LEFT:
            continue
        assert kind == FAILED
        request, code, peer = struct.unpack_from("<III", payload)
        if request != earlier:
            break
    assert request == number
    return code, peer, payload[12:].decode()


def test_an_all_gather_that_times_out_fails_for_all(server):
    clients = join(server, 3)
    numbers = [
        client.gather(b"t", b"", timeout_ms=300 if client is clients[0] else 20000) for client in clients[:2]
    ]
    text = "all_gather 't' timed out: ranks 0, 1 came; rank 2 did not"
    for client, number in zip(clients, numbers, strict=False):
        assert failed(client, number) == (wire.Failure.TIMEOUT, 2, text)
    late = clients[2].gather(b"t", b"")
    assert failed(clients[2], late) == (wire.Failure.TIMEOUT, 2, text)
    numbers = [client.gather(b"t", b"x") for client in clients]  # the world is unharmed
    assert clients[0].result(numbers[0]) == [b"x"] * 3


def test_leaving(server):
    """PEER_LEFT, a gather that needs the rank, CLOSING; an ABORT for its sake becomes its loss."""
    clients = join(server, 3)
    clients[2].closing("hipcomm.1")
    assert clients[0].event() == (PEER_LEFT, 2, 0, "hipcomm.1")
    assert clients[1].event() == (PEER_LEFT, 2, 0, "hipcomm.1")
    assert clients[2].leave() == []
    assert clients[0].event() == (PEER_LEFT, 2, 0, "")
    number = clients[0].gather(b"t", b"")
    code, peer, text = failed(clients[0], number)
    assert (code, peer) == (wire.Failure.PEER_LEFT, 2)
    assert text == "rank 2 left the job before all_gather 't'"
    assert clients[1].event() == (PEER_LEFT, 2, 0, "")
    clients[0].abort(4, "waited in vain")
    for client in clients[:2]:
        kind, peer, result, text = client.event()
        assert (kind, peer, result) == (PEER_LOST, 2, 4)
        assert text == "it has left the job, and rank 0 waited for it"


def test_abort_and_loss(server):
    clients = join(server, 3)
    under_way = clients[2].gather(b"t", b"")
    clients[1].abort(5, "é differs")
    for client in (clients[0], clients[2]):
        assert client.event() == (ABORTED, 1, 5, "é differs")
    clients[0].sock.close()  # the first failure counts
    number = clients[2].gather(b"t", b"")
    assert number != under_way
    assert failed(clients[2], number, under_way) == (
        wire.Failure.PEER_LOST,
        1,
        "rank 1 aborted the job: é differs",
    )


def test_a_connection_that_closes_is_a_lost_rank(server):
    clients = join(server, 2)
    began = time.monotonic()
    clients[0].sock.close()
    kind, peer, result, text = clients[1].event()
    assert (kind, peer, result) == (PEER_LOST, 0, 4)
    assert text == "its connection closed without leaving (the process ended)"
    assert time.monotonic() - began < PATIENCE


GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    struct.pack("<4sHHI", b"HIPC", 3, 1, 144) + bytes(144),
    struct.pack("<4sHHI", b"HIPC", 2, 1, 145) + bytes(145),
    struct.pack("<4sHHI", b"HIPC", 2, 1, 144) + bytes(144),  # no token
    struct.pack("<4sHHI", b"HIPC", 2, 2, 0),
    struct.pack("<4sHHI", b"HIPC", 2, 1, 0),
    struct.pack("<4sHHI", b"HIPC", 2, 1, 0xFFFFFFFF),
]


def test_strangers_get_no_answer_and_delay_nobody(server):
    address, _ = server
    idle = [socket.create_connection(address, timeout=PATIENCE) for _ in range(140)]  # the oldest are closed
    for data in GARBAGE:
        with socket.create_connection(address, timeout=PATIENCE) as stranger:
            stranger.sendall(data)
            with contextlib.suppress(ConnectionResetError):  # what it had not read is lost
                assert stranger.recv(1) == b""
    clients = join(server, 2)
    assert clients[0].gather(b"t", b"") and clients[1].gather(b"t", b"")
    assert clients[0].receive()[0] == RESULT
    for each in idle:
        each.close()


@pytest.mark.parametrize(
    "kind, payload",
    [
        (99, b""),
        (1, bytes(144)),
        (2, b""),
        (2, struct.pack("<IIIHH", 0, 0, 1000, 0, 0)),
        (2, struct.pack("<IIIHH", 0, 0, 1000, 0, 9) + b"short"),
        (2, struct.pack("<IIIHH", 0, 0, 0, 0, 1) + b"t"),
        (2, struct.pack("<IIIHH", 0, 0, 1000, 1, 1) + struct.pack("<I", 1) + b"t"),
        (2, struct.pack("<IIIHH", 0, 0, 1000, 2, 1) + struct.pack("<II", 0, 0) + b"t"),
        (2, struct.pack("<IIIHH", 0, 0, 1000, 2, 1) + struct.pack("<II", 0, 7) + b"t"),
        (2, struct.pack("<IIIHH", 0, 0, 1000, 65535, 1) + b"t"),
        (4, b"\0"),
        (6, b""),
        (16, b""),
    ],
)
def test_a_rank_that_breaks_the_protocol_is_lost(server, kind, payload):
    clients = join(server, 2)
    clients[0].send(kind, payload)
    assert clients[1].event()[:3] == (PEER_LOST, 0, 4)


def test_no_bytes_end_the_server(server):
    """Random frames with a right header, from strangers and from a rank."""
    address, _ = server
    generator = random.Random(5)
    for _ in range(300):
        with socket.create_connection(address, timeout=PATIENCE) as stranger:
            kind, size = generator.randrange(30), generator.choice((0, 1, 16, 144, 144, 1000))
            data = struct.pack("<4sHHI", b"HIPC", 2, kind, size) + generator.randbytes(size)
            stranger.sendall(data[: generator.randrange(1, len(data) + 1)])
    clients = join(server, 2)
    for _ in range(300):
        size = generator.choice((0, 3, 15, 16, 17, 40, 3000))
        fixed = struct.pack("<IIIHH", 1, 0, 1000, generator.randrange(4), generator.randrange(300))
        body = (fixed + generator.randbytes(size))[:size] if size > 16 else generator.randbytes(size)
        try:
            clients[0].send(generator.choice((2, 2, 2, 3, 4, 6)), body)
        except OSError:
            break
    assert clients[1].receive()[0] in (PEER_LOST, ABORTED, PEER_LEFT)
    assert refusal(server, 0, 2)[0] == wire.Refusal.WORLD_FULL  # it is there
