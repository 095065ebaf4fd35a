"""Every operation over nodes as calls on the node's communicator and exchanges between nodes.

Within a node hipcomm's kernels work as ever; between nodes a carrier moves bytes; what comes from the nodes
is combined here, in their order. Arrays are one-dimensional, in host memory, and what a call leaves in
:class:`Scratch` is gone at the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hipcomm.communicator import Communicator
from hipcomm.nodes import reduction
from hipcomm.nodes.carrier import COLLECTIVES, MESSAGES, Carrier, Transfer
from hipcomm.nodes.layout import Layout
from hipcomm.nodes.model import takes_short_way

Array = np.ndarray[Any, Any]
Pair = tuple[int, Array]  # a rank, and what goes to it or comes from it

_LENGTH = np.dtype("<u8")  # what goes ahead of a message


class Scratch:
    """Memory for what is on its way, kept from call to call."""

    def __init__(self) -> None:
        self._memory: dict[str, Array] = {}

    def array(self, name: str, count: int, dtype: np.dtype[Any]) -> Array:
        """An array of arbitrary contents; the same memory for the same name."""
        nbytes = count * dtype.itemsize
        memory = self._memory.get(name)
        if memory is None or memory.nbytes < nbytes:
            memory = self._memory[name] = np.empty(max(nbytes, 4096), np.uint8)
        return memory[:nbytes].view(dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return sum(memory.nbytes for memory in self._memory.values())


class Composition:
    """The operations of one rank of a world over nodes."""

    def __init__(self, layout: Layout, node: Communicator, carrier: Carrier) -> None:
        """Of a layout, this rank's node, and what carries bytes between nodes."""
        self.scratch = Scratch()
        self._layout = layout
        self._node = node
        self._carrier = carrier

    def _exchange(
        self, sends: Sequence[Pair], receives: Sequence[Pair], stream: Any, channel: int = COLLECTIVES
    ) -> None:
        outgoing = [_transfer(peer, array) for peer, array in sends if array.nbytes]
        incoming = [_transfer(peer, array) for peer, array in receives if array.nbytes]
        if outgoing or incoming:
            self._carrier.exchange(outgoing, incoming, stream, channel)

    # ---- reductions ----------------------------------------------------------------------------------------

    def all_reduce(self, send: Array, recv: Array, op: str, stream: Any) -> None:
        """Everything to everybody's rail in one exchange, or a share to each rank and all shares to all."""
        layout, wide = self._layout, reduction.accumulator(send.dtype)
        if not send.size:
            return
        if takes_short_way(layout, send.size, send.itemsize, wide.itemsize, self._carrier.link):
            self._all_reduce_short(send, recv, op, stream)
            return
        share = -(-send.size // layout.world_size)
        shares = self.scratch.array("shares", share * layout.world_size, send.dtype)
        own = self.scratch.array("own", share, send.dtype)
        self.reduce_scatter(Parts(send, share), own, op, stream)
        whole = recv if recv.size == shares.size else shares
        self.all_gather(own, np.split(whole, layout.world_size), stream)
        if whole is shares:
            recv[...] = shares[: recv.size]

    def _all_reduce_short(self, send: Array, recv: Array, op: str, stream: Any) -> None:
        layout, wide = self._layout, reduction.accumulator(send.dtype)
        partials = [self.scratch.array(f"partial{node}", send.size, wide) for node in range(layout.num_nodes)]
        mine = partials[layout.node]
        mine[...] = send
        self._node.all_reduce(mine, None, reduction.inside(op), stream=stream)
        self._exchange(
            [(member, mine) for node in layout.others for member in layout.fed(node)],
            [(layout.partner(node, layout.local_rank), partials[node]) for node in layout.others],
            stream,
        )
        reduction.finish(partials, op, layout.world_size, recv)

    def reduce_scatter(self, parts: Parts, recv: Array, op: str, stream: Any) -> None:
        """Each local rank reduces, of its node, the parts of the ranks on its rail, and sends them there."""
        layout, wide, count = self._layout, reduction.accumulator(recv.dtype), recv.size
        if not count:
            return
        # by local rank: the ranks whose parts it reduces, of all nodes
        reduced = [
            [member for of_node in layout.members for member in of_node[local :: layout.local_size]]
            for local in range(layout.local_size)
        ]
        slots = max(map(len, reduced))
        spread = self.scratch.array("spread", layout.local_size * slots * count, wide)
        view = spread.reshape(layout.local_size, slots, count)
        for local, members in enumerate(reduced):
            for slot, member in enumerate(members):
                parts.copy(member, view[local, slot])
            view[local, len(members) :] = 0
        mine = self.scratch.array("mine", slots * count, wide)
        self._node.reduce_scatter(spread, mine, reduction.inside(op), stream=stream)
        by_rank = dict(zip(reduced[layout.local_rank], mine.reshape(slots, count), strict=False))
        partials = [by_rank[layout.rank]] * layout.num_nodes
        for node in layout.others:
            partials[node] = self.scratch.array(f"part{node}", count, wide)
        self._exchange(
            [(member, part) for member, part in by_rank.items() if layout.places[member][0] != layout.node],
            [(layout.partner(node, layout.local_rank), partials[node]) for node in layout.others],
            stream,
        )
        reduction.finish(partials, op, layout.world_size, recv)

    def reduce(self, send: Array, recv: Array | None, op: str, root: int, stream: Any) -> None:
        """Each node reduces on the root's rail, whose ranks send to the root. *recv*: on the root."""
        layout, wide = self._layout, reduction.accumulator(send.dtype)
        _, lead = layout.places[layout.partner(layout.node, layout.places[root][1])]
        mine = self.scratch.array(f"partial{layout.node}", send.size, wide)
        mine[...] = send
        self._node.reduce(mine, None, reduction.inside(op), lead, stream=stream)
        if layout.local_rank != lead or not send.size:
            return
        if layout.rank != root:
            self._exchange([(root, mine)], [], stream)
            return
        assert recv is not None
        partials = [self.scratch.array(f"partial{node}", send.size, wide) for node in range(layout.num_nodes)]
        local = layout.local_rank
        self._exchange([], [(layout.partner(node, local), partials[node]) for node in layout.others], stream)
        reduction.finish(partials, op, layout.world_size, recv)

    # ---- what only moves -----------------------------------------------------------------------------------

    def all_gather(self, own: Array, parts: Sequence[Array], stream: Any) -> None:
        """Each rank sends its part to its rail; each node then gathers what its ranks have.

        Args:
            own: this rank's part.
            parts: where the parts of all ranks go, by rank.
            stream: of the calls on the node.
        """
        layout = self._layout
        brought = [
            [layout.members[layout.node][local]]
            + [
                member
                for node in layout.others
                for member in layout.members[node][local :: layout.local_size]
            ]
            for local in range(layout.local_size)
        ]
        counts = [sum(parts[member].size for member in members) for members in brought]
        gathered = self.scratch.array("gathered", sum(counts), own.dtype)
        mine = self.scratch.array("brought", counts[layout.local_rank], own.dtype)
        begin, receives = 0, []
        for member in brought[layout.local_rank]:
            place = mine[begin : begin + parts[member].size]
            begin += place.size
            if member == layout.rank:
                place[...] = own
            else:
                receives.append((member, place))
        sends = [(layout.partner(node, layout.local_rank), mine[: own.size]) for node in layout.others]
        self._exchange(sends, receives, stream)
        self._node.all_gather_v(mine, gathered, counts, stream=stream)
        begin = 0
        for members in brought:
            for member in members:
                part = parts[member]
                part[...] = gathered[begin : begin + part.size].reshape(part.shape)
                begin += part.size

    def broadcast(self, array: Array, root: int, stream: Any) -> None:
        """The root sends to its rail, whose ranks broadcast in their nodes."""
        layout = self._layout
        _, local = layout.places[root]
        lead = layout.partner(layout.node, local)
        if layout.rank == root:
            self._exchange([(layout.partner(node, local), array) for node in layout.others], [], stream)
        elif layout.rank == lead:
            self._exchange([], [(root, array)], stream)
        self._node.broadcast(array, layout.places[lead][1], stream=stream)

    def all_to_all(
        self,
        send: Array,
        recv: Array,
        sent: tuple[list[int], list[int]],
        got: tuple[list[int], list[int]],
        stream: Any,
    ) -> None:
        """Directly between any two ranks. *sent*, *got*: counts and where parts begin, by rank."""
        layout = self._layout
        far = [member for node in layout.others for member in layout.members[node]]
        near = layout.members[layout.node]
        self._exchange(
            [(peer, send[sent[1][peer] :][: sent[0][peer]]) for peer in far],
            [(peer, recv[got[1][peer] :][: got[0][peer]]) for peer in far],
            stream,
        )
        self._node.all_to_all(
            send,
            recv,
            [sent[0][peer] for peer in near],
            [got[0][peer] for peer in near],
            send_displacements=[sent[1][peer] for peer in near],
            recv_displacements=[got[1][peer] for peer in near],
            stream=stream,
        )

    def gather(self, own: Array, recv: Array | None, root: int, stream: Any) -> None:
        """Directly to the root; from its own node by a gather there. *recv*: on the root."""
        layout = self._layout
        node, local = layout.places[root]
        if layout.node != node:
            self._exchange([(root, own)], [], stream)
            return
        near = self.scratch.array("gathered", own.size * layout.local_size, own.dtype)
        self._node.gather(own, near if recv is not None else None, local, stream=stream)
        if recv is None:
            return
        parts = recv.reshape(layout.world_size, -1)
        far = [member for other in layout.others for member in layout.members[other]]
        self._exchange([], [(member, parts[member]) for member in far], stream)
        for member, part in zip(layout.members[node], near.reshape(layout.local_size, -1), strict=True):
            if member != layout.rank or not _same_memory(own, parts[member]):
                parts[member] = part

    def scatter(self, send: Array | None, own: Array, root: int, stream: Any) -> None:
        """Directly from the root; in its own node by a scatter there. *send*: on the root."""
        layout = self._layout
        node, local = layout.places[root]
        if layout.node != node:
            self._exchange([], [(root, own)], stream)
            return
        near = None
        if send is not None:
            parts = send.reshape(layout.world_size, -1)
            far = [member for other in layout.others for member in layout.members[other]]
            self._exchange([(member, parts[member]) for member in far], [], stream)
            near = self.scratch.array("gathered", own.size * layout.local_size, own.dtype)
            near.reshape(layout.local_size, -1)[...] = parts[list(layout.members[node])]
        self._node.scatter(near, own, local, stream=stream)

    def barrier(self, stream: Any) -> None:
        """Within the nodes, between their first ranks, within the nodes."""
        layout = self._layout
        self._node.barrier(stream=stream)
        if layout.local_rank == 0:
            word = np.zeros(layout.num_nodes, np.uint8)
            firsts = [(node, layout.members[node][0]) for node in layout.others]
            own = word[layout.node : layout.node + 1]
            self._exchange(
                [(first, own) for _, first in firsts],
                [(first, word[node : node + 1]) for node, first in firsts],
                stream,
            )
        self._node.barrier(stream=stream)

    # ---- messages between two ranks ------------------------------------------------------------------------

    def send(self, array: Array, dest: int, stream: Any) -> None:
        """To a rank of this node by its communicator, to others with the length ahead."""
        node, local = self._layout.places[dest]
        if node == self._layout.node:
            self._node.send(array, local, stream=stream)
            return
        length = np.array([array.nbytes], _LENGTH)
        self._exchange([(dest, length), (dest, array)], [], stream, MESSAGES)

    def recv(self, array: Array, source: int, stream: Any) -> int:
        """As :meth:`send`. Returns the message's bytes; where the array has another number it is lost."""
        node, local = self._layout.places[source]
        if node == self._layout.node:
            self._node.recv(array, local, stream=stream)
            return array.nbytes
        length = np.zeros(1, _LENGTH)
        self._exchange([], [(source, length)], stream, MESSAGES)
        if length[0] == array.nbytes:
            self._exchange([], [(source, array)], stream, MESSAGES)
        return int(length[0])


class Parts:
    """A message in parts by rank, each to be widened somewhere; the last ones may be short."""

    def __init__(self, message: Array, share: int, rows: int = 1, world_size: int = 0) -> None:
        """Contiguous parts of *share* elements; or, of several rows, columns: rank r's of every row."""
        self._columns = message.reshape(rows, world_size, -1) if rows > 1 else None
        self._message = message
        self._share = share

    def copy(self, rank: int, place: Array) -> None:
        """Copy a rank's part, converted to the place's type, and zeros behind a short one."""
        if self._columns is not None:
            place.reshape(self._columns.shape[0], -1)[...] = self._columns[:, rank]
            return
        part = self._message[rank * self._share : (rank + 1) * self._share]
        place[: part.size] = part
        place[part.size :] = 0


def _transfer(peer: int, array: Array) -> Transfer:
    return Transfer(peer, array.ctypes.data, array.nbytes)


def _same_memory(a: Array, b: Array) -> bool:
    return a.ctypes.data == b.ctypes.data
