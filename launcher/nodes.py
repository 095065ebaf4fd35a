"""A job over several nodes: one hipcomm-run on each, and one rendezvous server, on node 0."""

from __future__ import annotations

import os
from typing import NamedTuple

import click

from hipcomm.environment import Settings
from hipcomm.nodes.addresses import warn_if_public
from hipcomm.rendezvous.server import Server

from .cores import bind_by_default


class Nodes(NamedTuple):
    """What the command line says about several nodes.

    Attributes:
        number: how many.
        rank: which one this is.
        address: of node 0, where the server listens.
        port: of the server; the next one is the program's own MASTER_PORT.
        token: the job's secret, the same on all nodes.
    """

    number: int = 1
    rank: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    token: str = ""

    @classmethod
    def read(
        cls, count: int, rank: int | None, address: str | None, port: int, settings: Settings, platform: str
    ) -> Nodes:
        """Check what the command line says. Raises click.UsageError."""
        if count == 1:
            if rank or address:
                raise click.UsageError("--node-rank and --master-addr need --nnodes.")
            return cls()
        if settings.carrier not in ("nccl", "rccl") and bind_by_default(platform):
            raise click.UsageError(
                "--nnodes is for nodes with GPUs, and there are none here. A CPU job over several nodes is "
                "started by mpirun or srun, whose MPI then carries the bytes (docs/nodes.md)."
            )
        if rank is None or not 0 <= rank < count:
            raise click.UsageError(f"--nnodes {count} needs --node-rank, 0 to {count - 1}.")
        if not address:
            raise click.UsageError("--nnodes needs --master-addr, the address of node 0.")
        token = os.environ.get("HIPCOMM_TOKEN", "")
        if not token:
            raise click.UsageError("--nnodes needs HIPCOMM_TOKEN in the environment, the same on all nodes.")
        return cls(count, rank, address, port, token)

    def serve(self, nproc: int, join_timeout: float) -> Server:
        """Return the server of the job's ranks: not yet started; on other nodes than 0 one that nobody asks.

        Raises:
            hipcomm.RendezvousError: it cannot listen.
        """
        world_size, is_host = nproc * self.number, self.number > 1 and self.rank == 0
        token = self.token if is_host else os.urandom(16).hex()
        if not is_host:
            return Server(world_size, token, join_timeout=join_timeout)
        warn_if_public(self.address)
        return Server(
            world_size,
            token,
            host=self.address,
            port=self.port,
            join_timeout=join_timeout,
            ranks_per_node=nproc,
        )
