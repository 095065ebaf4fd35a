"""The rendezvous: joining, all-gather, failure and leaving, with client and server in one process."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hipcomm import _wire as wire
from hipcomm.environment import Identity, Settings
from hipcomm.errors import Error, InvalidArgument, PeerDied, RendezvousError
from hipcomm.rendezvous import Server, connect, protocol
from hipcomm.rendezvous import world as world_module

TOKEN = "token of this test"
PATIENCE = 20.0  # seconds; only ever reached by a failing test


class World:
    """A server and the clients of some ranks, each joined from a thread of its own."""

    def __init__(self, size, **server_options):
        self.size = size
        self.pool = ThreadPoolExecutor(2 * size)
        self.server = Server(size, TOKEN, **server_options)
        self.server.start()
        self.clients = []

    def connect(self, rank, join_timeout=PATIENCE, size=None, token=TOKEN):
        settings = Settings(rendezvous=self.server.address, token=token, join_timeout=join_timeout)
        return connect(Identity(rank, size or self.size, rank), settings)

    def join(self):
        self.clients = self.on_ranks(range(self.size), self.connect)
        return self.clients

    def on_ranks(self, ranks, function):
        """function(rank) on all *ranks* at once; results, or the hipcomm errors raised, in order."""

        def call(rank):
            try:
                return function(rank)
            except Error as error:
                return error

        return list(self.pool.map(call, ranks, timeout=PATIENCE))

    def close(self):
        self.on_ranks(range(len(self.clients)), lambda rank: self.clients[rank].close())
        self.server.close()
        self.pool.shutdown()


@pytest.fixture
def make_world():
    worlds = []

    def make(size, **options):
        worlds.append(World(size, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("size", [2, 3, 8, 16])
def test_all_gather_in_rank_order(make_world, size):
    world = make_world(size)
    clients = world.join()
    assert [(client.rank, client.world_size) for client in clients] == [(rank, size) for rank in range(size)]
    for turn in range(20):
        expected = [bytes([rank, turn]) * rank for rank in range(size)]  # lengths differ, one is empty
        results = world.on_ranks(
            range(size), lambda rank, parts=expected: clients[rank].all_gather("tag", parts[rank], PATIENCE)
        )
        assert results == [expected] * size


def test_largest_data(make_world):
    world = make_world(2)
    clients = world.join()
    parts = [bytes([rank]) * wire.MAX_DATA for rank in range(2)]
    assert world.on_ranks(range(2), lambda r: clients[r].all_gather("big", parts[r], PATIENCE)) == [parts] * 2
    with pytest.raises(InvalidArgument, match="1048577"):
        clients[0].all_gather("bigger", bytes(wire.MAX_DATA + 1), PATIENCE)


def test_operations_with_different_tags_do_not_meet(make_world):
    world = make_world(2)
    clients = world.join()
    with ThreadPoolExecutor(4) as pool:
        futures = {
            (rank, tag): pool.submit(clients[rank].all_gather, tag, f"{tag}{rank}".encode(), PATIENCE)
            for rank, tags in [(0, "ab"), (1, "ba")]
            for tag in tags
        }
        for (_, tag), future in futures.items():
            assert future.result(PATIENCE) == [f"{tag}0".encode(), f"{tag}1".encode()]


def test_groups_gather_among_themselves_in_their_order(make_world):
    world = make_world(4)
    clients = world.join()
    groups = {0: (2, 0), 2: (2, 0), 1: (1, 3), 3: (1, 3)}
    results = world.on_ranks(
        range(4), lambda r: clients[r].all_gather("split", b"%d" % r, PATIENCE, group=groups[r])
    )
    assert results == [[b"2", b"0"], [b"1", b"3"], [b"2", b"0"], [b"1", b"3"]]


def test_full_list_of_ranks_is_the_whole_world(make_world):
    world = make_world(2)
    clients = world.join()
    groups = {0: [None, [0, 1], [1, 0]], 1: [[0, 1], [0, 1], [1, 0]]}
    for turn, order in enumerate(([b"0", b"1"], [b"0", b"1"], [b"1", b"0"])):
        results = world.on_ranks(
            range(2),
            lambda r, turn=turn: clients[r].all_gather("x", b"%d" % r, 5, group=groups[r][turn]),
        )
        assert results == [order] * 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"tag": ""},
        {"tag": "x" * 256},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"group": [1]},
        {"group": [0, 0]},
        {"group": [0, 2]},
        {"group": [0, -1]},
    ],
)
def test_wrong_arguments_are_refused_and_harm_nothing(make_world, arguments):
    world = make_world(2)
    clients = world.join()
    with pytest.raises(InvalidArgument, match="rank 0"):
        clients[0].all_gather(**{"tag": "t", "data": b"", "timeout": PATIENCE, **arguments})
    results = world.on_ranks(range(2), lambda r: clients[r].all_gather("t", b"%d" % r, PATIENCE))
    assert results == [[b"0", b"1"]] * 2


def test_time_out_names_who_came_and_who_did_not_on_every_rank(make_world):
    world = make_world(4)
    clients = world.join()
    # The shorter time-out counts for both.
    errors = world.on_ranks((0, 2), lambda r: clients[r].all_gather("late", b"", 0.2 if r else PATIENCE))
    for rank, error in zip((0, 2), errors, strict=True):
        assert type(error) is RendezvousError
        assert str(error) == f"rank {rank}: all_gather 'late' timed out: ranks 0, 2 came; ranks 1, 3 did not"
    # Those who come later fail as well, and at once: all or none.
    late = world.on_ranks((1, 3), lambda r: clients[r].all_gather("late", b"", PATIENCE))
    assert [type(error) for error in late] == [RendezvousError] * 2
    # The world is unharmed, the next call with the tag is a new operation.
    again = world.on_ranks(range(4), lambda r: clients[r].all_gather("late", b"%d" % r, PATIENCE))
    assert again == [[b"0", b"1", b"2", b"3"]] * 4


def test_join_time_out_names_who_came_and_who_did_not(make_world):
    world = make_world(4)
    errors = world.on_ranks((1, 2), lambda rank: world.connect(rank, join_timeout=0.2))
    assert [type(error) for error in errors] == [RendezvousError] * 2
    for error in errors:
        assert "ranks 1, 2 of 4 came; ranks 0, 3 did not" in str(error)
    world.join()  # a new attempt is a new world


def test_server_bounds_the_join_time(make_world):
    world = make_world(2, join_timeout=0.2)
    (error,) = world.on_ranks([0], world.connect)
    assert "rank 0 of 2 came; rank 1 did not" in str(error)


def test_connection_that_closes_is_a_lost_rank(make_world):
    world = make_world(3)
    clients = world.join()
    heard = [threading.Event() for _ in clients]
    calls = []
    for client in clients[:2]:
        client.on_failure(lambda *event, rank=client.rank: (calls.append((rank, *event)), heard[rank].set()))
    waiting = world.pool.submit(clients[0].all_gather, "never", b"", PATIENCE)
    wait_until(lambda: "never" in (world.server.status()[0].waiting or ""))
    clients[2]._sock.shutdown(socket.SHUT_RDWR)  # what the kernel does when a process is killed
    with pytest.raises(PeerDied, match="rank 0: all_gather 'never': rank 2 died") as caught:
        waiting.result(PATIENCE)
    assert caught.value.peer == 2
    for rank in range(2):
        assert heard[rank].wait(PATIENCE)
        failure = clients[rank].failure
        assert isinstance(failure, PeerDied)
        assert failure.peer == 2
        with pytest.raises(PeerDied):
            clients[rank].all_gather("later", b"", PATIENCE)
    assert sorted((rank, peer) for rank, peer, *_ in calls) == [(0, 2), (1, 2)]
    late = []
    clients[0].on_failure(lambda *event: late.append(event))  # at once: it has happened already
    assert [peer for peer, *_ in late] == [2]
    assert world.server.first_failed() == 2


def test_status_after_a_failure_tells_what_ranks_waited_for_before_it(make_world):
    world = make_world(3)
    clients = world.join()
    clients[1].waiting("all_reduce number 7")
    pending = world.pool.submit(clients[0].all_gather, "handles", b"", PATIENCE)
    wait_until(lambda: all(status.waiting for status in world.server.status()[:2]))
    clients[2]._sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(PeerDied):
        pending.result(PATIENCE)
    status = world.server.status()
    assert status[0].waiting == "all_gather 'handles' (ranks 1, 2 missing)"
    assert status[1].waiting == "all_reduce number 7"
    assert status[2].state == "lost"
    assert status[0].pid == os.getpid()


def test_a_rank_that_left_and_then_failed_is_lost_to_the_others(make_world):
    world = make_world(3)
    clients = world.join()
    clients[2].close()
    clients[1].close()
    wait_until(lambda: [status.state for status in world.server.status()] == ["joined", "left", "left"])
    world.server.lose(1, "its process exited with code 0")
    world.server.lose(2, "its process exited with code 7", failed=True)
    wait_until(lambda: clients[0].failure)
    assert isinstance(clients[0].failure, PeerDied)
    assert clients[0].failure.peer == 2
    assert "exited with code 7" in str(clients[0].failure)
    assert world.server.first_failed() == 2


def test_status_after_a_failure_has_what_ranks_said_afterwards(make_world):
    """A collective's error says what it was in; it comes after the failure, and before the rank ends."""
    world = make_world(3)
    clients = world.join()
    clients[2]._sock.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: clients[0].failure and clients[1].failure)
    clients[0].waiting("rank 0: barrier was waiting for rank 2")
    clients[1].waiting("rank 1: barrier was waiting for rank 2")
    clients[1]._sock.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: world.server.status()[1].state == "lost" and world.server.status()[0].waiting)
    status = world.server.status()
    assert (status[0].state, status[0].waiting) == ("joined", "rank 0: barrier was waiting for rank 2")
    assert status[1].waiting == "rank 1: barrier was waiting for rank 2"


def test_note_is_taken_back(make_world):
    world = make_world(2)
    clients = world.join()
    clients[0].waiting("something")
    wait_until(lambda: world.server.status()[0].waiting == "something")
    clients[0].waiting(None)
    wait_until(lambda: world.server.status()[0].waiting is None)


def test_abort_reaches_the_others_and_ends_the_aborter(make_world):
    world = make_world(3)
    clients = world.join()
    heard = threading.Event()
    clients[2].on_failure(lambda *_: heard.set())
    own = []
    clients[1].on_failure(lambda *event: own.append(event))
    waiting = world.pool.submit(clients[0].all_gather, "x", b"", PATIENCE)
    clients[1].abort("out of cheese")
    with pytest.raises(PeerDied, match="rank 1 aborted the job: out of cheese") as caught:
        waiting.result(PATIENCE)
    assert caught.value.peer == 1
    assert heard.wait(PATIENCE)
    assert type(clients[1].failure) is RendezvousError
    with pytest.raises(RendezvousError, match="out of cheese"):
        clients[1].all_gather("x", b"", PATIENCE)
    assert own == []
    assert world.server.first_failed() == 1


def test_only_the_first_failure_counts(make_world):
    world = make_world(3)
    clients = world.join()
    calls = []
    clients[0].on_failure(lambda *event: calls.append(event))
    clients[1].abort("first")
    wait_until(lambda: calls)
    clients[2].abort("second")
    clients[2]._sock.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: world.server.status()[2].state == "lost")
    assert [peer for peer, *_ in calls] == [1]
    assert clients[0].failure.peer == 1


def test_server_tells_of_the_first_failure_only():
    frames = {rank: [] for rank in range(3)}
    world = world_module.World(3)
    for rank in range(3):
        world.join(world_module.Member(rank, 1, frames[rank].append), time.monotonic() + PATIENCE)
    for sent in frames.values():
        sent.clear()
    world.abort(1, 5, "first")
    world.abort(2, 0, "second")
    world.lose(2, "third")
    aborted = protocol.pack_with_text(wire.Type.ABORTED, wire.Peer(1, 5), "first")
    assert frames == {0: [aborted], 1: [], 2: [aborted]}


def test_leaving_is_no_failure_but_nobody_waits_for_who_has_left(make_world):
    world = make_world(3)
    clients = world.join()
    pending = world.pool.submit(clients[0].all_gather, "before", b"", PATIENCE)
    wait_until(lambda: world.server.status()[0].waiting)
    clients[2].close()
    clients[2].close()
    with pytest.raises(PeerDied, match="rank 2 left the job before all_gather 'before'") as caught:
        pending.result(PATIENCE)
    assert caught.value.peer == 2
    with pytest.raises(PeerDied, match="rank 2 left"):
        clients[1].all_gather("after", b"", PATIENCE)
    pair = world.on_ranks((0, 1), lambda r: clients[r].all_gather("pair", b"%d" % r, PATIENCE, group=[0, 1]))
    assert pair == [[b"0", b"1"]] * 2
    assert clients[0].failure is None
    wait_until(lambda: [client.left for client in clients[:2]] == [{2}, {2}])  # told a moment later
    with pytest.raises(RendezvousError, match="closed"):
        clients[2].all_gather("x", b"", PATIENCE)


def test_server_going_away_is_a_failure(make_world):
    world = make_world(2)
    clients = world.join()
    calls = []
    clients[0].on_failure(lambda *event: calls.append(event))
    world.server.close()
    wait_until(lambda: calls)
    assert calls[0][0] is None
    assert type(clients[0].failure) is RendezvousError
    with pytest.raises(RendezvousError, match="lost the rendezvous server"):
        clients[0].all_gather("x", b"", PATIENCE)
    clients[0].abort("nobody hears this")
    clients[0].waiting("nor this")


def test_lose_before_the_rank_came_ends_the_waiting(make_world):
    world = make_world(3)
    waiting = world.pool.submit(world.on_ranks, (0, 1), world.connect)
    wait_until(lambda: [s.state for s in world.server.status()[:2]] == ["joining"] * 2)
    world.server.lose(2, "its process exited with code 3")
    for error in waiting.result(PATIENCE):
        assert isinstance(error, PeerDied)
        assert error.peer == 2
        assert "rank 2 ended before it joined (its process exited with code 3)" in str(error)
    (late,) = world.on_ranks([0], world.connect)  # also for those who come afterwards
    assert isinstance(late, PeerDied)


def test_lose_of_a_joined_rank_and_of_one_that_left(make_world):
    world = make_world(3)
    clients = world.join()
    clients[2].close()
    world.server.lose(2, "its process exited with code 0")
    result = world.on_ranks((0, 1), lambda r: clients[r].all_gather("x", b"", PATIENCE, group=[0, 1]))
    assert result == [[b"", b""]] * 2
    world.server.lose(1, "its process was killed")
    wait_until(lambda: clients[0].failure)
    assert clients[0].failure.peer == 1
    assert "its process was killed" in str(clients[0].failure)


def test_what_a_rank_said_before_its_process_ended_counts(make_world):
    """The launcher may hear of a rank's end before the server has read its LEAVE."""
    world = make_world(2)
    clients = world.join()
    with world.server._lock:
        world.server.lose(1, "its process exited with code 0")
        time.sleep(0.1)  # the thread has woken for that, and for nothing else
        clients[1]._send(protocol.frame(wire.Type.LEAVE), PATIENCE)
    wait_until(lambda: world.server.status()[1].state != "joined")
    assert world.server.status()[1].state == "left"
    assert clients[0].failure is None


def test_rank_lost_while_the_others_are_still_coming(make_world):
    world = make_world(3)
    first = world.pool.submit(world.on_ranks, [0], world.connect)
    wait_until(lambda: world.server.status()[0].state == "joining")
    raw = socket.create_connection(world.server.address, timeout=PATIENCE)
    join = wire.Join(1, 3, 60000, 1, protocol.pad_token(TOKEN))
    raw.sendall(protocol.frame(wire.Type.JOIN, join.pack()))
    wait_until(lambda: world.server.status()[1].state == "joining")
    raw.close()
    (error,) = first.result(PATIENCE)
    assert isinstance(error, PeerDied)
    assert error.peer == 1


def test_the_same_ranks_may_meet_again(make_world):
    world = make_world(2)
    first = world.join()
    second = world.on_ranks(range(2), world.connect)
    for clients in (second, first):  # two worlds at a time
        results = world.on_ranks(range(2), lambda r, c=clients: c[r].all_gather("x", b"%d" % r, PATIENCE))
        assert results == [[b"0", b"1"]] * 2
    world.on_ranks(range(2), lambda r: second[r].close())
    assert first[0].failure is None
    assert not world.server.wait_until_empty(0)


def test_single_server_is_full_after_one_world(make_world):
    world = make_world(2, single=True)
    world.join()
    with pytest.raises(RendezvousError, match="have come already"):
        world.connect(0)


def test_wrong_rank_and_world_size_are_refused_and_disturb_nobody(make_world):
    world = make_world(2)
    waiting = world.pool.submit(world.connect, 0)
    wait_until(lambda: world.server.status()[0].state == "joining")
    with pytest.raises(RendezvousError, match="rank 0 has joined already"):
        world.connect(0)
    with pytest.raises(RendezvousError, match="asked for a world of 3, this job has 2 ranks"):
        world.connect(1, size=3)
    with pytest.raises(RendezvousError, match="rank 2 of 2 does not exist"):
        world.connect(2)
    with pytest.raises(RendezvousError, match="token"):
        world.connect(1, token="guess")
    world.clients = [world.connect(1), waiting.result(PATIENCE)]


def test_world_of_one_needs_no_server():
    with connect(Identity(), Settings()) as client:
        assert client.all_gather("x", b"me", 1) == [b"me"]
        client.waiting("nothing")
        assert client.failure is None
    with pytest.raises(RendezvousError):
        client.all_gather("x", b"me", 1)


def test_nobody_listens():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, not listening: refused
        settings = Settings(rendezvous=sock.getsockname(), token="t", join_timeout=0.1)
        with pytest.raises(RendezvousError, match="nobody listens at"):
            connect(Identity(1, 2, 1), settings)


def test_forked_child_does_not_keep_its_dead_parent_alive(make_world):
    """A child process holds copies of all descriptors; the rank must still be seen to die."""
    world = make_world(2)
    waiting = world.pool.submit(world.connect, 0)
    receiver, sender = os.pipe()
    rank = os.fork()
    if rank == 0:
        client = world.connect(1)
        child = os.fork()
        if child == 0:
            time.sleep(2 * PATIENCE)
            os._exit(0)
        os.write(sender, str(child).encode())
        assert client is not None
        time.sleep(2 * PATIENCE)
        os._exit(0)
    child = int(os.read(receiver, 100))
    client = waiting.result(PATIENCE)
    try:
        os.kill(rank, signal.SIGKILL)
        os.waitpid(rank, 0)
        wait_until(lambda: client.failure)
        assert client.failure.peer == 1
    finally:
        os.kill(child, signal.SIGKILL)
        client.close()
        os.close(receiver)
        os.close(sender)


def test_server_arguments():
    for arguments in [(0, "t"), (1025, "t"), (2, ""), (2, "t" * 129), (2, "t\0")]:
        with pytest.raises(InvalidArgument):
            Server(*arguments)
    server = Server(2, "t")
    with pytest.raises(RendezvousError, match="cannot listen"):
        Server(2, "t", port=server.address[1])
    server.close()
    server.close()
