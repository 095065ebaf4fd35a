"""How the ranks of several nodes come together: the meeting over the network, then the communicator."""

from __future__ import annotations

import importlib.util
import os
import socket
import time

from hipcomm import _wire as wire
from hipcomm.communicator import Communicator
from hipcomm.environment import Identity, Settings
from hipcomm.errors import InvalidArgument, RendezvousError
from hipcomm.hip.device import open_device
from hipcomm.hip.platform import choose
from hipcomm.nodes.addresses import own_addresses, warn_if_public
from hipcomm.nodes.communicator import form
from hipcomm.rendezvous import Client, connect, joining
from hipcomm.rendezvous.client import Hosted
from hipcomm.rendezvous.endpoint import Endpoint
from hipcomm.rendezvous.ranks import Ranks
from hipcomm.rendezvous.server import Server

_EVERY_ADDRESS = "0.0.0.0"
_PROBE_TIMEOUT = 1.0  # seconds to find out whether one of rank 0's addresses can be reached
_POLL_INTERVAL = 0.1  # seconds between two attempts
_TOLD_BYTES = 1024  # what rank 0 tells the others of its server


def join(identity: Identity, settings: Settings) -> Communicator:
    """Join a job that may have several nodes, and make the communicator of all its ranks. Collective.

    Raises:
        RendezvousError, PeerDied, InvalidArgument, PlatformError: as :func:`hipcomm.init`.
    """
    try:
        client = _meet(identity, settings)
    except RendezvousError as error:
        raise RendezvousError(f"{error} [said on {socket.gethostname()}]") from error
    ranks = Ranks.of_job(client, settings.join_timeout)
    return form(ranks, settings, lambda local_rank: (choose(settings), open_device(settings, local_rank)))


def _meet(identity: Identity, settings: Settings) -> Client:
    """Find the server, or host it as rank 0, and join."""
    if settings.rendezvous is not None:
        warn_if_public(settings.rendezvous[0])
        return connect(identity, settings)
    address, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if settings.token and address and port.isdecimal():
        # MASTER_PORT itself is the program's own
        return _meet_at([address], int(port) + 1, settings.token, identity, settings)
    if identity.source == "torchrun" or importlib.util.find_spec("mpi4py") is None:
        raise InvalidArgument(
            f"rank {identity.rank} of {identity.world_size}: several nodes: set HIPCOMM_TOKEN to the same "
            "secret on all of them, and MASTER_ADDR and MASTER_PORT (torchrun does): rank 0 serves at "
            "MASTER_PORT + 1; or start the job by mpirun or srun, with mpi4py installed; or by "
            "hipcomm-run --nnodes"
        )
    return _meet_by_mpi(identity, settings)


def _meet_by_mpi(identity: Identity, settings: Settings) -> Client:
    """Rank 0 hosts the server, and tells the others by MPI where."""
    from hipcomm.nodes.mpi import tell_all

    deadline = time.monotonic() + settings.join_timeout
    server, told = None, b""
    token = os.urandom(16).hex()
    if identity.rank == 0:
        server = _serve(token, _EVERY_ADDRESS, 0, identity, settings)
        told = " ".join([token, str(server.address[1]), *own_addresses()]).encode()
    try:
        heard = tell_all(identity.rank, identity.world_size, told, _TOLD_BYTES, deadline).decode().split()
        if server is not None:
            return _join_own(server, token, identity, settings)
    except BaseException:
        if server is not None:
            server.close()
        raise
    token, port, addresses = heard[0], int(heard[1]), heard[2:]
    return _join_remote(addresses, port, token, identity, settings)


def _meet_at(addresses: list[str], port: int, token: str, identity: Identity, settings: Settings) -> Client:
    """Rank 0 hosts the server at an address that all know."""
    if identity.rank == 0:
        server = _serve(token, addresses[0], port, identity, settings)
        return _join_own(server, token, identity, settings)
    return _join_remote(addresses, port, token, identity, settings)


def _serve(token: str, host: str, port: int, identity: Identity, settings: Settings) -> Server:
    on_each = os.environ.get("LOCAL_WORLD_SIZE", "")  # torchrun's
    server = Server(
        identity.world_size,
        token,
        host=host,
        port=port,
        join_timeout=settings.join_timeout,
        ranks_per_node=int(on_each) if on_each.isdecimal() else 0,
        single=True,
    )
    for address in own_addresses() if host == _EVERY_ADDRESS else [host]:
        warn_if_public(address)
    server.start()
    return server


def _join_own(server: Server, token: str, identity: Identity, settings: Settings) -> Client:
    host, port = server.address
    own = Endpoint("127.0.0.1" if host == _EVERY_ADDRESS else host, port, token)
    try:
        sock = joining.join_server(*_who(identity), own, settings.join_timeout)
    except BaseException:
        Hosted(server).close(0)
        raise
    return Client(identity.rank, identity.world_size, sock, hosted=Hosted(server), patience=settings.timeout)


def _join_remote(
    addresses: list[str], port: int, token: str, identity: Identity, settings: Settings
) -> Client:
    name, join_frame = _who(identity)
    deadline = time.monotonic() + settings.join_timeout
    while True:
        for address in addresses:
            if _is_reachable(address, port):
                remaining = max(deadline - time.monotonic(), 0.001)
                sock = joining.join_server(name, join_frame, Endpoint(address, port, token), remaining)
                return Client(identity.rank, identity.world_size, sock, server_rank=0)
        if time.monotonic() >= deadline:
            raise RendezvousError(
                f"{name}: join: cannot reach rank 0's server at port {port} of "
                f"{', '.join(addresses)} (tried for {settings.join_timeout:g} s)"
            )
        time.sleep(_POLL_INTERVAL)


def _who(identity: Identity) -> tuple[str, wire.Join]:
    rank, world_size = identity.rank, identity.world_size
    return f"rank {rank} of {world_size}", wire.Join(rank, world_size, timeout_ms=0, pid=0, token=b"")


def _is_reachable(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), _PROBE_TIMEOUT).close()
    except OSError:
        return False
    return True
