"""Which rank is on which node, and which ranks carry bytes from node to node."""

from __future__ import annotations

import socket
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def identify() -> tuple[str, str]:
    """Return host name and boot id: equal on the ranks of one node, and on no others.

    The host name tells containers of one machine apart, which cannot reach each other's memory either; the
    boot id tells machines apart that are all called "localhost".
    """
    try:
        boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot_id = ""  # some containers hide it: the host name has to do
    return socket.gethostname(), boot_id


class Layout(NamedTuple):
    """The ranks of a world by node.

    Nodes are numbered by their lowest rank. A rank's *rail* are the ranks that it exchanges bytes with: on
    each other node the one of its own local rank; where nodes are uneven, its local rank modulo that node's
    size.

    Attributes:
        members: the world's ranks of each node, ascending.
        places: node and local rank of every rank of the world.
        rank: this rank.
    """

    members: tuple[tuple[int, ...], ...]
    places: tuple[tuple[int, int], ...]
    rank: int

    @classmethod
    def of(cls, identities: Sequence[Hashable], rank: int) -> Layout:
        """The layout of ranks with these identities, which are equal on one node."""
        by_identity: dict[Hashable, list[int]] = {}
        for each, identity in enumerate(identities):
            by_identity.setdefault(identity, []).append(each)
        members = tuple(map(tuple, by_identity.values()))
        places = {
            member: (node, local)
            for node, of_node in enumerate(members)
            for local, member in enumerate(of_node)
        }
        return cls(members, tuple(places[each] for each in range(len(identities))), rank)

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        return len(self.places)

    @property
    def num_nodes(self) -> int:
        """The number of nodes."""
        return len(self.members)

    @property
    def node(self) -> int:
        """The node of this rank."""
        return self.places[self.rank][0]

    @property
    def local_rank(self) -> int:
        """The number of this rank on its node."""
        return self.places[self.rank][1]

    @property
    def local_size(self) -> int:
        """The number of ranks on this node."""
        return len(self.members[self.node])

    @property
    def others(self) -> list[int]:
        """The other nodes."""
        return [node for node in range(self.num_nodes) if node != self.node]

    @property
    def is_even(self) -> bool:
        """Whether all nodes have as many ranks."""
        return all(len(of_node) == self.local_size for of_node in self.members)

    @property
    def is_by_node(self) -> bool:
        """Whether the ranks of a node follow one another, on every node as many."""
        return self.is_even and all(
            node * self.local_size + local == rank for rank, (node, local) in enumerate(self.places)
        )

    @property
    def is_in_turn(self) -> bool:
        """Whether the ranks are dealt out to the nodes in turn, to every node as many."""
        return self.is_even and all(
            local * self.num_nodes + node == rank for rank, (node, local) in enumerate(self.places)
        )

    def partner(self, node: int, local_rank: int) -> int:
        """The rank of *node* on the rail of a local rank."""
        return self.members[node][local_rank % len(self.members[node])]

    def fed(self, node: int) -> list[int]:
        """The ranks of another node whose partner on this one is this rank."""
        return [
            member
            for local, member in enumerate(self.members[node])
            if local % self.local_size == self.local_rank
        ]

    def is_here(self, rank: int) -> bool:
        """Whether a rank is on this node."""
        return self.places[rank][0] == self.node

    def name(self, rank: int) -> str:
        """A rank of the world as people are told of it."""
        return f"rank {rank} (node {self.places[rank][0]})"
