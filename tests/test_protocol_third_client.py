"""A client written from docs/protocol.md alone (third_client.py) in one world with ours."""

from __future__ import annotations

import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from third_client import ABORTED, ACCEPTED, FAILED, PEER_LEFT, PEER_LOST, REFUSED, ThirdClient

from hipcomm.environment import Identity, Settings
from hipcomm.errors import PeerDied, RendezvousError
from hipcomm.rendezvous import Server, connect

TOKEN = "token of this test"
PATIENCE = 20.0


class World:
    """A server, and a client of ours in every rank but the last, which is the third client."""

    def __init__(self, size):
        self.size = size
        self.server = Server(size, TOKEN)
        self.server.start()
        self.pool = ThreadPoolExecutor(size)
        self.ours = []

    def third(self, rank=None, size=None, token=TOKEN):
        rank = self.size - 1 if rank is None else rank
        return ThirdClient(self.server.address, token.encode(), rank, size or self.size, PATIENCE)

    def join(self):
        settings = Settings(rendezvous=self.server.address, token=TOKEN, join_timeout=PATIENCE)
        futures = [
            self.pool.submit(connect, Identity(rank, self.size, rank), settings)
            for rank in range(self.size - 1)
        ]
        third = self.third()
        assert third.welcome() == self.size
        self.ours = [future.result(PATIENCE) for future in futures]
        return third, *self.ours

    def close(self):
        list(self.pool.map(lambda client: client.close(), self.ours, timeout=PATIENCE))
        self.server.close()
        self.pool.shutdown()


@pytest.fixture
def make_world():
    worlds = []

    def make(size):
        worlds.append(World(size))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def test_all_gathers_of_the_world_and_of_a_group(make_world):
    world = make_world(3)
    third, zero, one = world.join()
    for turn in range(5):
        parts = [bytes([rank, turn]) * 1000 * rank for rank in range(3)]  # of different lengths, one empty
        futures = [world.pool.submit(c.all_gather, "tag", parts[c.rank], PATIENCE) for c in (zero, one)]
        assert third.all_gather(b"tag", parts[2]) == parts
        assert [future.result(PATIENCE) for future in futures] == [parts] * 2
        pair = world.pool.submit(zero.all_gather, "tag", b"zero%d" % turn, PATIENCE, group=[2, 0])
        assert third.all_gather(b"tag", b"two", group=(2, 0)) == [b"two", b"zero%d" % turn]
        assert pair.result(PATIENCE) == [b"two", b"zero%d" % turn]
    third.leave()


def test_leaving_in_good_order_both_ways_round(make_world):
    world = make_world(3)
    third, zero, one = world.join()
    one.close()
    assert third.event() == (PEER_LEFT, 1, 0, "")
    request = third.gather(b"with rank 1", b"")
    kind, payload = third.receive()
    assert kind == FAILED
    assert struct.unpack_from("<III", payload) == (request, 3, 1)
    assert payload[12:] == b"rank 1 left the job before all_gather 'with rank 1'"
    assert third.leave() == []
    with pytest.raises(PeerDied, match="ranks 1, 2 left"):
        zero.all_gather("x", b"", PATIENCE)
    told = threading.Event()
    zero.on_leave(lambda *_: told.set() if zero.left == {1, 2} else None)
    assert told.wait(PATIENCE)  # a moment later
    assert zero.failure is None


def test_closing_a_communicator_is_passed_on_and_nobody_has_left(make_world):
    world = make_world(3)
    third, zero, one = world.join()
    heard = threading.Event()
    told = []

    def on_leave(peer, name):
        told.append((peer, name))
        heard.set()

    one.on_leave(on_leave)
    zero.closing("hipcomm.1")
    assert third.event() == (PEER_LEFT, 0, 0, "hipcomm.1")
    assert heard.wait(PATIENCE)
    assert told == [(0, "hipcomm.1")]
    assert one.left == set()
    third.leave()


def test_a_time_out_names_who_is_missing(make_world):
    world = make_world(2)
    third, zero = world.join()
    request = third.gather(b"late", b"", timeout_ms=100)
    kind, payload = third.receive()
    assert kind == FAILED
    assert struct.unpack_from("<III", payload) == (request, 1, 0)
    assert payload[12:] == b"all_gather 'late' timed out: rank 1 came; rank 0 did not"
    with pytest.raises(RendezvousError, match="rank 1 came; rank 0 did not"):
        zero.all_gather("late", b"", PATIENCE)
    third.leave()


def test_our_abort_reaches_it_with_its_result(make_world):
    world = make_world(2)
    third, zero = world.join()
    zero.abort("out of cheese", 5)
    assert third.event() == (ABORTED, 0, 5, "out of cheese")
    request = third.gather(b"after", b"")
    kind, payload = third.receive()
    assert kind == FAILED
    assert struct.unpack_from("<III", payload) == (request, 2, 0)
    third.leave()


def test_its_abort_reaches_us(make_world):
    world = make_world(2)
    third, zero = world.join()
    heard, events = threading.Event(), []
    zero.on_failure(lambda *event: (events.append(event), heard.set()))
    third.abort(2, "out of tea")
    assert heard.wait(PATIENCE)
    assert events[0][:2] == (1, "rank 1 aborted the job: out of tea")
    assert third.leave() == []
    assert world.server.first_failed() == 1


def test_our_death_reaches_it_and_its_death_reaches_us(make_world):
    world = make_world(3)
    third, zero, one = world.join()
    one._sock.shutdown(2)
    kind, peer, result, text = third.event()
    assert (kind, peer, result) == (PEER_LOST, 1, 4)
    assert "closed without leaving" in text
    third.sock.close()

    world = make_world(2)
    third, zero = world.join()
    pending = world.pool.submit(zero.all_gather, "x", b"", PATIENCE)
    third.sock.close()
    with pytest.raises(PeerDied, match="rank 1 died") as caught:
        pending.result(PATIENCE)
    assert caught.value.peer == 1


def test_refusals(make_world):
    world = make_world(2)
    first = world.third()
    assert first.receive() == (ACCEPTED, b"")
    for rank, size, code, text in [
        (2, 2, 1, "rank 2 of 2 does not exist"),
        (0, 3, 2, "asked for a world of 3"),
        (1, 2, 3, "rank 1 has joined already"),
    ]:
        third = world.third(rank, size)
        kind, payload = third.receive()
        assert kind == REFUSED
        assert struct.unpack_from("<II", payload) == (code, 0xFFFFFFFF)
        assert text in payload[8:].decode()
        assert third.receive() is None
        third.sock.close()
    stranger = world.third(0, token="guess")
    assert stranger.receive() is None
    stranger.sock.close()
    world.server.lose(0, "its process exited with code 3")
    kind, payload = first.receive()
    assert kind == REFUSED
    assert struct.unpack_from("<II", payload) == (6, 0)
    assert "exited with code 3" in payload[8:].decode()
    first.sock.close()
