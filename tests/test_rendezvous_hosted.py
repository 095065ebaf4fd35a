"""Ranks under other launchers: rank 0 hosts the server and the others find it through a file."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hipcomm.environment import Identity, Settings
from hipcomm.errors import RendezvousError
from hipcomm.rendezvous import Server, connect, endpoint
from hipcomm.rendezvous.endpoint import Endpoint, directory, file_path, look_up, publish, withdraw

PATIENCE = 20.0

RANK = """
import sys, time
from hipcomm.environment import Identity, Settings
from hipcomm.rendezvous import connect
client = connect(Identity.read(), Settings.read())
print(client.all_gather("hello", b"rank %d" % client.rank, 20))
sys.stdout.flush()
if sys.argv[1:] == ["stay"]:
    client.on_failure(lambda peer, *_: print("lost", peer, flush=True))
    time.sleep(60)
client.close()
"""

LAUNCHERS = {
    "torchrun": lambda rank, size: {
        "RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": 29500,
    },
    "Open MPI": lambda rank, size: {
        "OMPI_COMM_WORLD_RANK": rank,
        "OMPI_COMM_WORLD_SIZE": size,
        "OMPI_COMM_WORLD_LOCAL_RANK": rank,
        "OMPI_COMM_WORLD_LOCAL_SIZE": size,
        "PMIX_NAMESPACE": "prterun-host-17@1",
    },
    "PMI": lambda rank, size: {"PMI_RANK": rank, "PMI_SIZE": size, "MPI_LOCALRANKID": rank},
    "Slurm": lambda rank, size: {
        "SLURM_PROCID": rank,
        "SLURM_NTASKS": size,
        "SLURM_LOCALID": rank,
        "SLURM_JOB_ID": 12,
        "SLURM_STEP_ID": 3,
    },
    "by hand": lambda rank, size: {"HIPCOMM_RANK": rank, "HIPCOMM_WORLD_SIZE": size},
}


def clean_environment(tmp_path):
    """Our environment without any launcher's variables."""
    families = ("HIPCOMM_", "OMPI_", "PMI", "SLURM_", "TORCHELASTIC_", "MPI_", "MASTER_")
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    env = {k: v for k, v in os.environ.items() if not k.startswith(families) and k not in names}
    return {**env, "XDG_RUNTIME_DIR": str(tmp_path)}


def start_ranks(launcher, size, tmp_path, *arguments):
    processes = []
    for rank in range(size):
        env = {name: str(value) for name, value in LAUNCHERS[launcher](rank, size).items()}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", RANK, *arguments],
                env={**clean_environment(tmp_path), **env},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    return processes


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_ranks_meet_under_any_launcher(launcher, tmp_path):
    processes = start_ranks(launcher, 3, tmp_path)
    try:
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert outputs == ["[b'rank 0', b'rank 1', b'rank 2']\n"] * 3
    assert list((tmp_path / "hipcomm").iterdir()) == []


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_rank_is_named_also_if_it_hosts_the_server(victim, tmp_path):
    processes = start_ranks("torchrun", 3, tmp_path, "stay")
    try:
        for process in processes:
            assert process.stdout.readline().startswith("[b'rank 0'")
        time.sleep(0.1)  # until all have registered their callback
        processes[victim].send_signal(signal.SIGKILL)
        for rank in {0, 1, 2} - {victim}:
            assert processes[rank].stdout.readline() == f"lost {victim}\n"
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=PATIENCE)


def connect_all(identities, settings):
    with ThreadPoolExecutor(len(identities)) as pool:
        return list(pool.map(lambda identity: connect(identity, settings), identities, timeout=PATIENCE))


def identities_of(key, size=2):
    return [Identity(rank, size, rank, "test", key) for rank in range(size)]


def close_all(clients):
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(lambda client: client.close(), clients, timeout=PATIENCE))


def test_file_is_private_and_removed_at_close(tmp_path):
    settings = Settings(runtime_dir=str(tmp_path), join_timeout=PATIENCE)
    clients = connect_all(identities_of("key"), settings)
    path = file_path(str(tmp_path), "key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    close_all(clients)
    assert list(path.parent.iterdir()) == []


def test_jobs_side_by_side_do_not_meet(tmp_path):
    settings = Settings(runtime_dir=str(tmp_path), join_timeout=PATIENCE)
    clients = connect_all(identities_of("one") + identities_of("two"), settings)
    with ThreadPoolExecutor(4) as pool:
        parts = [b"one0", b"one1", b"two0", b"two1"]
        results = list(
            pool.map(lambda i: clients[i].all_gather("x", parts[i], PATIENCE), range(4), timeout=PATIENCE)
        )
    assert results == [parts[:2], parts[:2], parts[2:], parts[2:]]
    close_all(clients)


def test_the_same_job_may_meet_again(tmp_path):
    settings = Settings(runtime_dir=str(tmp_path), join_timeout=PATIENCE)
    first = connect_all(identities_of("key"), settings)
    second = connect_all(identities_of("key"), settings)  # while the first is open
    close_all(first)
    assert file_path(str(tmp_path), "key").exists()  # the second's
    close_all(second)
    close_all(connect_all(identities_of("key"), settings))


@pytest.mark.parametrize("kind", ["garbage", "refused", "wrong token", "full", "silent"])
def test_stale_files_are_not_fatal(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("hipcomm.rendezvous.joining.ACCEPT_TIMEOUT", 0.2)
    settings = Settings(runtime_dir=str(tmp_path), join_timeout=PATIENCE)
    path = file_path(str(tmp_path), "key")
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(2, "other token", single=True)
    server.start()
    if kind == "garbage":
        path.write_bytes(b"\xff not an endpoint")
    elif kind == "refused":
        listener.close()
        publish(path, Endpoint("127.0.0.1", 1, "token"))
    elif kind == "silent":
        publish(path, Endpoint(*listener.getsockname(), "token"))
    else:
        publish(path, Endpoint(*server.address, "token" if kind == "wrong token" else "other token"))
    if kind == "full":
        at_server = Settings(rendezvous=server.address, token="other token", join_timeout=PATIENCE)
        old = connect_all(identities_of("unused"), at_server)
    zero, one = identities_of("key")
    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(connect, one, settings)
        time.sleep(0.3)  # so that it meets the stale file first
        assert not early.done()
        clients = [pool.submit(connect, zero, settings).result(PATIENCE), early.result(PATIENCE)]
    close_all(clients)
    if kind == "full":
        close_all(old)
    listener.close()
    server.close()


def test_time_out_tells_what_was_in_the_way(tmp_path):
    settings = Settings(runtime_dir=str(tmp_path), join_timeout=0.1)
    with pytest.raises(RendezvousError, match=r"rank 1 of 2: .* rank 0 has not written it"):
        connect(identities_of("key")[1], settings)
    with pytest.raises(RendezvousError, match="rank 0 of 2 came; rank 1 did not"):
        connect(identities_of("key")[0], settings)
    assert list((tmp_path / "hipcomm").iterdir()) == []


def test_host_waits_for_the_others_to_leave(tmp_path):
    settings = Settings(runtime_dir=str(tmp_path), join_timeout=PATIENCE, timeout=PATIENCE)
    clients = connect_all(identities_of("key", 3), settings)
    closing = threading.Thread(target=clients[0].close)
    closing.start()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            gather = [
                pool.submit(clients[r].all_gather, "pair", b"%d" % r, PATIENCE, group=[1, 2]) for r in (1, 2)
            ]
            assert [future.result(PATIENCE) for future in gather] == [[b"1", b"2"]] * 2
    assert closing.is_alive()
    close_all(clients[1:])
    closing.join(PATIENCE)
    assert not closing.is_alive()


@pytest.mark.parametrize(("timeout", "waits"), [(0.2, True), (PATIENCE, False)])
def test_host_does_not_wait_for_ever_and_its_server_goes_on(tmp_path, timeout, waits):
    settings = Settings(runtime_dir=str(tmp_path), join_timeout=PATIENCE, timeout=timeout)
    clients = connect_all(identities_of("key", 3), settings)
    server = clients[0]._hosted.server
    began = time.monotonic()
    clients[0].close(waits)
    assert time.monotonic() - began < PATIENCE / 2
    with ThreadPoolExecutor(2) as pool:
        gather = [pool.submit(clients[r].all_gather, "pair", b"", PATIENCE, group=[1, 2]) for r in (1, 2)]
        assert [future.result(PATIENCE) for future in gather] == [[b"", b""]] * 2
    assert clients[1].failure is None
    close_all(clients[1:])
    server._thread.join(PATIENCE)
    assert not server._thread.is_alive()


def test_directory_of_somebody_else_is_refused(tmp_path, monkeypatch):
    assert directory(str(tmp_path)) == tmp_path / "hipcomm"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(endpoint, "_is_own_directory", lambda *_: True)
    with pytest.raises(RendezvousError, match="owned by"):
        directory(str(tmp_path))


def test_runtime_directory_of_somebody_else_is_left_alone(tmp_path, monkeypatch):
    """As after su, or sudo -E: the directory in /tmp is taken instead."""
    (tmp_path / "file").write_text("")
    own = os.geteuid()
    assert endpoint._is_own_directory(tmp_path, own)
    assert not endpoint._is_own_directory(tmp_path, own + 1)
    assert not endpoint._is_own_directory(tmp_path / "file", own)
    monkeypatch.setattr(endpoint, "_is_own_directory", lambda *_: False)
    assert str(directory(str(tmp_path))) == f"/tmp/hipcomm-{own}"


def test_directory_that_others_can_enter_is_refused(tmp_path):
    directory(str(tmp_path)).chmod(0o750)
    with pytest.raises(RendezvousError, match="0750"):
        directory(str(tmp_path))


def test_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "hipcomm").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RendezvousError, match="not a directory"):
        directory(str(tmp_path))


def test_without_a_runtime_directory_it_lies_in_tmp(tmp_path):
    assert str(directory("")) == f"/tmp/hipcomm-{os.geteuid()}"
    assert str(directory(str(tmp_path / "missing"))) == f"/tmp/hipcomm-{os.geteuid()}"


def test_withdraw_leaves_a_successors_file_alone(tmp_path):
    path = file_path(str(tmp_path), "key")
    mine, theirs = Endpoint("127.0.0.1", 1, "a"), Endpoint("127.0.0.1", 1, "b")
    publish(path, theirs)
    withdraw(path, mine)
    assert look_up(path) == theirs
    withdraw(path, theirs)
    assert look_up(path) is None


def test_two_processes_that_claim_rank_0_are_told(tmp_path):
    settings = Settings(runtime_dir=str(tmp_path), join_timeout=1.0)
    zero, _ = identities_of("key")
    with ThreadPoolExecutor(2) as pool:
        errors = [pool.submit(connect, zero, settings).exception for _ in range(2)]
        told = sorted(str(error(PATIENCE)) for error in errors)
    assert f"rank 0 of 2: join: rank 0 has joined already, as process {os.getpid()}" in told[0]
    assert f"rank 0 is process {os.getpid()}, and {os.getpid()} claimed it too" in told[1]
    assert list((tmp_path / "hipcomm").iterdir()) == []


def test_a_second_rank_0_does_no_harm(tmp_path):
    settings = Settings(runtime_dir=str(tmp_path), join_timeout=PATIENCE)
    zero, one = identities_of("key")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(connect, zero, settings)
        path = file_path(str(tmp_path), "key")
        while look_up(path) is None:
            time.sleep(0.01)
        with pytest.raises(RendezvousError, match="rank 0 has joined already"):
            connect(zero, settings)
        close_all([connect(one, settings), first.result(PATIENCE)])


def test_what_killed_processes_left_is_swept_by_the_next_job(tmp_path):
    settings = Settings(runtime_dir=str(tmp_path), join_timeout=PATIENCE)
    killed = file_path(str(tmp_path), "killed")
    publish(killed, Endpoint("127.0.0.1", 1, "token"))
    unfinished = killed.with_name(f"{killed.name}.4194304")  # no process has such a number
    unfinished.write_text("127.0.0.1 1 token")
    living = connect_all(identities_of("living"), settings)
    clients = connect_all(identities_of("key"), settings)
    assert not killed.exists()
    assert not unfinished.exists()
    assert file_path(str(tmp_path), "living").exists()
    close_all(living + clients)


def test_a_lock_that_is_held_delays_and_does_not_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint, "LOCK_PATIENCE", 0.3)
    path = file_path(str(tmp_path), "key")
    with endpoint.publishing(path):
        began = time.monotonic()
        close_all(
            connect_all(identities_of("key"), Settings(runtime_dir=str(tmp_path), join_timeout=PATIENCE))
        )
    assert time.monotonic() - began >= 0.3
