"""Whatever strangers send, the job goes on."""

from __future__ import annotations

import os
import random
import resource
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from hipcomm import _wire as wire
from hipcomm.environment import Identity, Settings
from hipcomm.rendezvous import Server, connect, protocol
from hipcomm.rendezvous import server as server_module
from hipcomm.rendezvous.protocol import Decoder, GatherMessage, ProtocolError

TOKEN = "secret"
PATIENCE = 20.0


def join(token):
    message = wire.Join(1, 2, 60000, 1, protocol.pad_token(token))
    return protocol.frame(wire.Type.JOIN, message.pack())


def header(kind, length, version=wire.VERSION):
    return wire.Header(b"HIPC", version, kind, length).pack()


JOIN = join(TOKEN)


@pytest.fixture
def server():
    server = Server(2, TOKEN)
    server.start()
    yield server
    server.close()


def stranger(server):
    return socket.create_connection(server.address, timeout=PATIENCE)


def assert_closed_in_silence(sock):
    """The server has hung up without a byte (unread bytes of ours make that a reset)."""
    with suppress(ConnectionResetError):
        assert sock.recv(1) == b""
    sock.close()


def run_job(server):
    """Two ranks join, gather, leave."""

    def rank(number):
        settings = Settings(rendezvous=server.address, token=TOKEN, join_timeout=PATIENCE)
        with connect(Identity(number, 2, number), settings) as client:
            return client.all_gather("x", b"%d" % number, PATIENCE)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(rank, range(2), timeout=PATIENCE)) == [[b"0", b"1"]] * 2


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"HIPD" + JOIN[4:],
        header(wire.Type.JOIN, 144, version=1) + JOIN[12:],
        JOIN[:7] + b"\x01" + JOIN[8:],
        header(wire.Type.JOIN, 0xFFFFFFFF),
        header(wire.Type.JOIN, 145) + JOIN[12:] + b"\0",
        header(wire.Type.JOIN, 143) + JOIN[12:-1],
        protocol.frame(wire.Type.JOIN, b"short"),
        protocol.frame(wire.Type.GATHER, bytes(16)),
        protocol.frame(wire.Type.LEAVE),
        protocol.frame(wire.Type.WELCOME, bytes(4)),
        JOIN[:-1] + b"x",
        join(""),
        join(TOKEN[:-1]),
        join(TOKEN + "t"),
    ],
)
def test_malformed_and_unauthenticated_are_closed_in_silence(server, data):
    sock = stranger(server)
    sock.sendall(data)
    assert_closed_in_silence(sock)
    run_job(server)


def test_random_bytes(server):
    generator = random.Random(1)
    for _ in range(200):
        with stranger(server) as sock:
            start = JOIN[: generator.randrange(len(JOIN))] if generator.random() < 0.5 else b""
            sock.sendall(start + generator.randbytes(generator.randrange(1, 300)))
    run_job(server)


def test_half_sent_and_slow_strangers_are_closed_in_time(server, monkeypatch):
    monkeypatch.setattr(server_module, "HANDSHAKE_TIMEOUT", 0.3)
    silent, half, slow = stranger(server), stranger(server), stranger(server)
    half.sendall(JOIN[:-1])
    run_job(server)  # while they sit there
    began = time.monotonic()
    with pytest.raises(OSError):  # a byte now and then does not extend the time
        for byte in JOIN * 1000:
            slow.sendall(bytes([byte]))
            time.sleep(0.02)
            assert time.monotonic() - began < PATIENCE
    for sock in (silent, half, slow):
        assert_closed_in_silence(sock)


def test_a_thousand_idle_connections(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    idle = [stranger(server) for _ in range(1000)]
    run_job(server)
    with server._lock:
        assert len(server._connections) <= server_module.MAX_STRANGERS
    for sock in idle:
        sock.close()


def test_a_rank_that_strangers_pushed_out_comes_again(server, monkeypatch):
    """The oldest stranger goes when there are too many: it may be a rank whose JOIN has not come yet."""
    pushed_out = []

    def push_out(self):
        if len(pushed_out) < 3:
            pushed_out.append(self._strangers()[-1])
            self._disconnect(pushed_out[-1])

    monkeypatch.setattr(Server, "_limit_strangers", push_out)
    run_job(server)
    assert len(pushed_out) == 3


def test_running_out_of_descriptors_is_survived(server):
    """The strangers go, the ranks stay, and connections are accepted again afterwards."""
    settings = Settings(rendezvous=server.address, token=TOKEN, join_timeout=PATIENCE)
    with ThreadPoolExecutor(2) as pool:
        clients = list(pool.map(lambda r: connect(Identity(r, 2, r), settings), range(2), timeout=PATIENCE))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = [socket.socket() for _ in range(8)]
    fillers = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (waiting[-1].fileno() + 1, hard))
        with suppress(OSError):
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
        for sock in waiting:  # the kernel completes these by itself; the server's accept() fails
            sock.settimeout(PATIENCE)
            sock.connect(server.address)
        deadline = time.monotonic() + PATIENCE
        while not server._resume_accepting:
            assert time.monotonic() < deadline
        time.sleep(3 * server_module.ACCEPT_PAUSE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in fillers:
            os.close(descriptor)
        for sock in waiting:
            sock.close()
    while server._resume_accepting:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert clients[0].failure is None
    run_job(server)
    for client in clients:
        client.close()


def test_authenticated_client_that_breaks_the_protocol_is_lost(server):
    settings = Settings(rendezvous=server.address, token=TOKEN, join_timeout=PATIENCE)
    bad_gathers = [
        b"short",
        wire.Gather(0, 0, 1, 0xFFFF, 0).pack(),
        wire.Gather(0, 0, 1, 0, 0xFFFF).pack(),
        wire.Gather(0, 0, 1, 0, 0).pack(),
        wire.Gather(0, 0, 1, 0, 1).pack() + b"\xff",
        wire.Gather(0, 0, 1, 1, 1).pack() + struct.pack("<I", 0) + b"t",
        wire.Gather(0, 0, 1, 2, 1).pack() + struct.pack("<II", 1, 1) + b"t",
        wire.Gather(0, 0, 1, 2, 1).pack() + struct.pack("<II", 1, 2) + b"t",
        wire.Gather(0, 0, 1, 0, 1).pack() + b"t" + bytes(wire.MAX_DATA + 1),
    ]
    frames = [protocol.frame(wire.Type.GATHER, payload) for payload in bad_gathers]
    frames += [
        JOIN,
        protocol.frame(wire.Type.RESULT),
        protocol.frame(wire.Type.ABORT, b"abc"),
        b"garbage that is no frame",
        protocol.frame(wire.Type(5))[:8] + b"\xff" * 4,
    ]
    gather = protocol.pack_gather(GatherMessage(0, 0, 60000, (), "t", b""))
    frames += [gather + gather]
    frames += [
        b"".join(
            protocol.pack_gather(GatherMessage(i, i, 60000, (), "t", b""))
            for i in range(wire.MAX_PENDING + 1)
        )
    ]
    for data in frames:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(connect, Identity(0, 2, 0), settings)
            sock = stranger(server)
            sock.sendall(JOIN)
            client = future.result(PATIENCE)
        try:
            sock.sendall(data)
            deadline = time.monotonic() + PATIENCE
            while client.failure is None:
                assert time.monotonic() < deadline, data[:40]
                time.sleep(0.002)
            assert client.failure.peer == 1
        finally:
            client.close()
            sock.close()
    run_job(server)


def test_messages_survive_the_round_trip_in_any_portions():
    join = wire.Join(3, 8, 1000, 77, protocol.pad_token("token"))
    gather = GatherMessage(1, 2, 3, (7, 3), "tag é", bytes(range(256)) * 40)
    stream = (
        protocol.frame(wire.Type.JOIN, join.pack())
        + protocol.pack_gather(gather)
        + protocol.pack_result(9, [b"x" * 70000, b""])
    )
    generator = random.Random(2)
    decoder = Decoder(1 << 20)
    frames, position = [], 0
    while position < len(stream):
        portion = stream[position : position + generator.randint(1, decoder.wanted())]
        position += len(portion)
        frame = decoder.feed(portion)
        if frame is not None:
            assert not decoder.inside_frame
            frames.append(frame)
    assert [frame.type for frame in frames] == [wire.Type.JOIN, wire.Type.GATHER, wire.Type.RESULT]
    assert protocol.unpack_join(frames[0].payload) == join
    assert protocol.unpack_gather(frames[1].payload) == gather
    assert protocol.unpack_result(frames[2].payload) == (9, [b"x" * 70000, b""])


def test_results_that_do_not_add_up_are_refused():
    good = protocol.pack_result(1, [b"abc"])[wire.Header.size() :]
    many = wire.Result(1, 0xFFFFFFFF).pack() + good[8:]
    for payload in (good[:-1], good + b"x", good[:10], b"", many):
        with pytest.raises(ProtocolError):
            protocol.unpack_result(payload)


def test_an_announced_length_costs_nothing_before_its_bytes_come():
    decoder = Decoder(protocol.MAX_CLIENT_PAYLOAD)
    assert decoder.wanted() == wire.Header.size()
    assert decoder.feed(header(wire.Type.GATHER, protocol.MAX_CLIENT_PAYLOAD)) is None
    assert decoder.wanted() == 1 << 16
    assert len(decoder._buffer) == 0


def test_long_texts_are_cut_between_characters():
    assert protocol.encode_text("é" * 5000) == "é".encode() * 2048
    assert protocol.encode_text("x" + "é" * 5000) == b"x" + "é".encode() * 2047
