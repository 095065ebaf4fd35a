"""Every operation over nodes as calls on the node's communicator and exchanges between nodes.

Within a node hipcomm's kernels work as ever; between nodes a carrier moves bytes; what comes from the nodes
is combined by a kernel of this rank's own, in their order. Buffers are addresses of this platform's memory;
everything is in stream order. What a call leaves in scratch memory is gone at the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hipcomm.communicator import Communicator
from hipcomm.core import ffi, lib
from hipcomm.nodes.carrier import COLLECTIVES, MESSAGES, Carrier, Transfer
from hipcomm.nodes.layout import Layout
from hipcomm.nodes.local import SIZES, Elements, Local, Partials, inside, padded, pointer
from hipcomm.nodes.model import takes_short_way
from hipcomm.nodes.progress import Progress

_BYTE = int(lib.hipcommUint8)


class Composition:
    """The operations of one rank of a world over nodes. *stream*: a cffi pointer."""

    def __init__(
        self, layout: Layout, node: Communicator, carrier: Carrier, local: Local, progress: Progress | None
    ) -> None:
        """Of a layout, this rank's node, what carries bytes between nodes, and what it does alone.

        *progress*: with carriers that are ordered by the stream.
        """
        self._layout = layout
        self._progress = progress
        self._node = node
        self._carrier = carrier
        self._local = local
        self._is_by_node, self._is_in_turn, self._is_even = (
            layout.is_by_node,
            layout.is_in_turn,
            layout.is_even,
        )

    def _exchange(
        self,
        sends: Sequence[tuple[int, int, int]],
        receives: Sequence[tuple[int, int, int]],
        stream: Any,
        channel: int = COLLECTIVES,
    ) -> None:
        """Move bytes between nodes: rank, address and bytes of each."""
        outgoing = [Transfer(*each) for each in sends if each[2]]
        incoming = [Transfer(*each) for each in receives if each[2]]
        if not outgoing and not incoming:
            return
        if self._progress is not None:
            self._progress.begins([each.peer for each in (*incoming, *outgoing)], stream)
        self._carrier.exchange(outgoing, incoming, stream, channel)
        if self._progress is not None:
            self._progress.ends(stream)

    def _inside(self, function: Any, *arguments: Any, stream: Any) -> None:
        """A collective of the node."""
        code = function(*arguments, self._node._comm, stream)
        if code:
            self._node._raise(code)

    # ---- reductions ----------------------------------------------------------------------------------------

    def all_reduce(self, send: int, recv: int, count: int, elements: Elements, stream: Any) -> None:
        """Everything to everybody's rail in one exchange, or a share to each rank and all shares to all."""
        if not count:
            return
        if takes_short_way(self._layout, count, elements.size, elements.wide_size, self._carrier.link):
            self._all_reduce_short(send, recv, count, elements, stream)
            return
        world, size = self._layout.world_size, elements.size
        share = -(-count // world)
        if share * world == count:
            self._all_reduce_shares(send, recv, share, elements, stream)
            return
        share = padded(share * size) // size
        whole = self._local.scratch("message", share * world * size, stream)
        self._local.copy(send, whole, count * size, stream)
        self._all_reduce_shares(whole, whole, share, elements, stream)
        self._local.copy(whole, recv, count * size, stream)

    def _all_reduce_short(self, send: int, recv: int, count: int, elements: Elements, stream: Any) -> None:
        layout, nbytes = self._layout, count * elements.wide_size
        partials = self._partials("partials", nbytes, stream)
        source = self._widened(send, partials.own, count, elements, stream)
        wide, op = elements.wide, inside(elements.op)
        self._inside(
            lib.hipcommAllReduce, pointer(source), pointer(partials.own), count, wide, op, stream=stream
        )
        self._exchange(
            [(member, partials.own, nbytes) for node in layout.others for member in layout.fed(node)],
            [(layout.partner(node, layout.local_rank), partials.of(node), nbytes) for node in layout.others],
            stream,
        )
        self._local.finish(partials, recv, count, elements, stream)

    def _all_reduce_shares(self, send: int, recv: int, share: int, elements: Elements, stream: Any) -> None:
        """Of a share for each rank; buffers may be the same."""
        layout, nbytes = self._layout, share * elements.size
        if not self._is_even:
            own = self._local.scratch("own", nbytes, stream)
            self.reduce_scatter(send, own, 1, share, elements, stream)
            self.all_gather(own, recv, 1, nbytes, stream)
            return
        # share number local rank * nodes + node is that rank's: what a local rank reduces is in one piece
        mine = self._reduce_scatter_inside(send, 1, layout.num_nodes * share, elements, stream)
        first = recv + layout.local_rank * layout.num_nodes * nbytes
        place = first + layout.node * nbytes
        rail = [(node, layout.partner(node, layout.local_rank)) for node in layout.others]
        wide = share * elements.wide_size
        self._combine(
            mine + layout.node * wide,
            [(peer, mine + node * wide, wide) for node, peer in rail],
            place,
            share,
            elements,
            stream,
        )
        self._exchange(
            [(peer, place, nbytes) for _, peer in rail],
            [(peer, first + node * nbytes, nbytes) for node, peer in rail],
            stream,
        )
        count = layout.num_nodes * nbytes
        self._inside(lib.hipcommAllGather, pointer(first), pointer(recv), count, _BYTE, stream=stream)

    def reduce_scatter(
        self, send: int, recv: int, rows: int, row: int, elements: Elements, stream: Any
    ) -> None:
        """Each local rank reduces, of its node, the parts of the ranks on its rail, and sends them there.

        Args:
            send: all ranks' parts.
            recv: this rank's.
            rows: in which a part lies; contiguous in *recv*.
            row: elements of a row of a part.
            elements: what they are.
            stream: of the call.
        """
        layout, count = self._layout, rows * row
        if not count:
            return
        if rows == 1 and (self._is_by_node or self._is_in_turn):
            members = [of_node[layout.local_rank] for of_node in layout.members]
            cut = (layout.num_nodes, count) if self._is_by_node else (1, layout.num_nodes * count)
            mine = self._reduce_scatter_inside(send, *cut, elements, stream)
        else:
            spread, members, slots = self._spread(send, rows, row * elements.size, stream)
            mine = self._reduce_scatter_inside(spread, 1, slots * count, elements, stream)
        wide = count * elements.wide_size
        at = {member: mine + slot * wide for slot, member in enumerate(members)}
        elsewhere = [(member, at[member], wide) for member in members if not layout.is_here(member)]
        self._combine(at[layout.rank], elsewhere, recv, count, elements, stream)

    def _spread(self, send: int, rows: int, row: int, stream: Any) -> tuple[int, list[int], int]:
        """Parts by the local rank that reduces them; their address, whose this rank's are, and parts each."""
        layout, part = self._layout, rows * row
        reduced = [
            [member for of_node in layout.members for member in of_node[local :: layout.local_size]]
            for local in range(layout.local_size)
        ]
        slots = max(map(len, reduced))
        spread = self._local.scratch("spread", layout.local_size * slots * part, stream)
        for local, members in enumerate(reduced):
            for slot, member in enumerate(members):
                to = spread + (local * slots + slot) * part
                whole = (send + member * row, layout.world_size * row)
                self._local.copy_rows(whole, (to, row), row, rows, stream)
        return spread, reduced[layout.local_rank], slots

    def _reduce_scatter_inside(
        self, send: int, rows: int, count: int, elements: Elements, stream: Any
    ) -> int:
        """Partial results of this local rank's *rows* rows of *count* elements; returns their address."""
        layout = self._layout
        mine = self._local.scratch("mine", rows * count * elements.wide_size, stream)
        whole = rows * layout.local_size * count
        if elements.is_summed_wide:
            self._local.run(
                lib.hipcommCommReduceScatterPartial, pointer(send), pointer(mine), rows, count,
                elements.dtype, elements.op, stream=stream,
            )  # fmt: skip
            return mine
        if elements.wide != elements.dtype:
            widened = self._local.scratch("widened", whole * elements.wide_size, stream)
            send = self._widened(send, widened, whole, elements, stream)
        self._inside(
            lib.hipcommReduceScatterRows, pointer(send), pointer(mine), rows, count, elements.wide,
            inside(elements.op), stream=stream,
        )  # fmt: skip
        return mine

    def _widened(self, send: int, place: int, count: int, elements: Elements, stream: Any) -> int:
        """The address of elements in the accumulator's type: widened into *place*, or where they are."""
        if elements.wide == elements.dtype:
            return send
        self._local.widen(send, place, count, elements.dtype, stream)
        return place

    def _partials(self, name: str, nbytes: int, stream: Any) -> Partials:
        """Room for *nbytes* of every node, this one's too."""
        stride = padded(nbytes)
        base = self._local.scratch(name, self._layout.num_nodes * stride, stream)
        return Partials(base + self._layout.node * stride, base, stride)

    def _combine(
        self,
        own: int,
        sends: Sequence[tuple[int, int, int]],
        recv: int,
        count: int,
        elements: Elements,
        stream: Any,
    ) -> None:
        """Exchange partial results with the rail, and finish this rank's *count* elements of them."""
        layout, nbytes = self._layout, count * elements.wide_size
        partials = self._partials("parts", nbytes, stream)._replace(own=own)
        receives = [
            (layout.partner(node, layout.local_rank), partials.of(node), nbytes) for node in layout.others
        ]
        self._exchange(sends, receives, stream)
        self._local.finish(partials, recv, count, elements, stream)

    def reduce(self, send: int, recv: int, count: int, elements: Elements, root: int, stream: Any) -> None:
        """Each node reduces on the root's rail, whose ranks send to the root. *recv*: of the root."""
        layout, nbytes = self._layout, count * elements.wide_size
        if not count:
            return
        _, lead = layout.places[layout.partner(layout.node, layout.places[root][1])]
        partials = self._partials("partials", nbytes, stream)
        source = self._widened(send, partials.own, count, elements, stream)
        self._inside(
            lib.hipcommReduce, pointer(source), pointer(partials.own), count, elements.wide,
            inside(elements.op), lead, stream=stream,
        )  # fmt: skip
        if layout.rank == root:
            rail = [(layout.partner(node, layout.local_rank), partials.of(node)) for node in layout.others]
            self._exchange([], [(peer, place, nbytes) for peer, place in rail], stream)
            self._local.finish(partials, recv, count, elements, stream)
        elif layout.local_rank == lead and layout.node != layout.places[root][0]:
            self._exchange([(root, partials.own, nbytes)], [], stream)

    # ---- what only moves -----------------------------------------------------------------------------------

    def all_gather(self, send: int, recv: int, rows: int, row: int, stream: Any) -> None:
        """Each rank sends its part to its rail; each node then gathers what its ranks have.

        Args:
            send: this rank's part, of *rows* rows of *row* bytes.
            recv: where row after row of the parts of all ranks go.
            rows: of each part.
            row: bytes.
            stream: of the call.
        """
        layout, part = self._layout, rows * row
        if not part:
            return
        if rows > 1 or not (self._is_by_node or self._is_in_turn):
            places = [(recv + rank * row, layout.world_size * row) for rank in range(layout.world_size)]
            self._gather_parts(send, [part] * layout.world_size, places, rows, stream)
            return
        brought = recv + layout.local_rank * layout.num_nodes * part
        if self._is_by_node:
            brought = self._local.scratch("brought", layout.num_nodes * part, stream)
        self._local.copy(send, brought + layout.node * part, part, stream)
        rail = [(node, layout.partner(node, layout.local_rank)) for node in layout.others]
        self._exchange(
            [(peer, send, part) for _, peer in rail],
            [(peer, brought + node * part, part) for node, peer in rail],
            stream,
        )
        whole = pointer(brought), pointer(recv)
        if self._is_by_node:
            self._inside(lib.hipcommAllGatherRows, *whole, layout.num_nodes, part, _BYTE, stream=stream)
        else:
            self._inside(lib.hipcommAllGather, *whole, layout.num_nodes * part, _BYTE, stream=stream)

    def all_gather_v(
        self, send: int, recv: int, sizes: Sequence[int], begins: Sequence[int], stream: Any
    ) -> None:
        """As :meth:`all_gather`, of so many bytes of each rank, to begin so many bytes behind *recv*."""
        self._gather_parts(
            send, sizes, [(recv + begin, size) for begin, size in zip(begins, sizes, strict=True)], 1, stream
        )

    def _gather_parts(
        self, send: int, sizes: Sequence[int], places: Sequence[tuple[int, int]], rows: int, stream: Any
    ) -> None:
        """Parts of *sizes* bytes, each in *rows* rows; *places*: where a part goes, and between its rows."""
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
        counts = [sum(sizes[member] for member in members) for members in brought]
        gathered = self._local.scratch("gathered", sum(counts), stream)
        mine = self._local.scratch("brought", counts[layout.local_rank], stream)
        own = sizes[layout.rank]
        self._local.copy(send, mine, own, stream)
        begin, receives = mine + own, []
        for member in brought[layout.local_rank][1:]:
            receives.append((member, begin, sizes[member]))
            begin += sizes[member]
        sends = [(layout.partner(node, layout.local_rank), mine, own) for node in layout.others]
        self._exchange(sends, receives, stream)
        lengths = ffi.new("size_t[]", counts)
        self._inside(
            lib.hipcommAllGatherv, pointer(mine), pointer(gathered), lengths, ffi.NULL, _BYTE, stream=stream
        )
        begin = gathered
        for members in brought:
            for member in members:
                row = sizes[member] // rows
                self._local.copy_rows((begin, row), places[member], row, rows, stream)
                begin += sizes[member]

    def broadcast(self, address: int, nbytes: int, root: int, stream: Any) -> None:
        """The root sends to its rail, whose ranks broadcast in their nodes."""
        layout = self._layout
        _, local = layout.places[root]
        lead = layout.partner(layout.node, local)
        if layout.rank == root:
            peers = [layout.partner(node, local) for node in layout.others]
            self._exchange([(peer, address, nbytes) for peer in peers], [], stream)
        elif layout.rank == lead:
            self._exchange([], [(root, address, nbytes)], stream)
        buffer, lead = pointer(address), layout.places[lead][1]
        self._inside(lib.hipcommBroadcast, buffer, buffer, nbytes, _BYTE, lead, stream=stream)

    def all_to_all(
        self,
        send: int,
        recv: int,
        sent: tuple[Sequence[int], Sequence[int]],
        got: tuple[Sequence[int], Sequence[int]],
        stream: Any,
    ) -> None:
        """Directly between any two ranks. *sent*, *got*: bytes and where parts begin, by rank."""
        layout = self._layout
        far = [member for node in layout.others for member in layout.members[node]]
        near = layout.members[layout.node]
        self._exchange(
            [(peer, send + sent[1][peer], sent[0][peer]) for peer in far],
            [(peer, recv + got[1][peer], got[0][peer]) for peer in far],
            stream,
        )

        def of_node(numbers: Sequence[int]) -> Any:
            return ffi.new("size_t[]", [numbers[peer] for peer in near])

        there, here = map(of_node, sent), map(of_node, got)
        self._inside(lib.hipcommAllToAllv, pointer(send), *there, pointer(recv), *here, _BYTE, stream=stream)

    def gather(self, send: int, recv: int, nbytes: int, root: int, stream: Any) -> None:
        """Directly to the root; from its own node by a gather there. *recv*: of the root."""
        layout = self._layout
        node, local = layout.places[root]
        if layout.node != node:
            self._exchange([(root, send, nbytes)], [], stream)
            return
        near = self._local.scratch("gathered", nbytes * layout.local_size, stream)
        self._inside(lib.hipcommGather, pointer(send), pointer(near), nbytes, _BYTE, local, stream=stream)
        if layout.rank != root:
            return
        far = [member for other in layout.others for member in layout.members[other]]
        self._exchange([], [(member, recv + member * nbytes, nbytes) for member in far], stream)
        for number, member in enumerate(layout.members[node]):
            if member != root or recv + member * nbytes != send:
                self._local.copy(near + number * nbytes, recv + member * nbytes, nbytes, stream)

    def scatter(self, send: int, recv: int, nbytes: int, root: int, stream: Any) -> None:
        """Directly from the root; in its own node by a scatter there. *send*: of the root."""
        layout = self._layout
        node, local = layout.places[root]
        if layout.node != node:
            self._exchange([], [(root, recv, nbytes)], stream)
            return
        near = self._local.scratch("gathered", nbytes * layout.local_size, stream)
        if layout.rank == root:
            far = [member for other in layout.others for member in layout.members[other]]
            self._exchange([(member, send + member * nbytes, nbytes) for member in far], [], stream)
            for number, member in enumerate(layout.members[node]):
                self._local.copy(send + member * nbytes, near + number * nbytes, nbytes, stream)
        self._inside(lib.hipcommScatter, pointer(near), pointer(recv), nbytes, _BYTE, local, stream=stream)

    def barrier(self, stream: Any) -> None:
        """Within the nodes, between their first ranks, within the nodes."""
        layout = self._layout
        self._inside(lib.hipcommBarrier, stream=stream)
        if layout.local_rank == 0:
            words = self._local.scratch("words", layout.num_nodes, stream)
            firsts = [(node, layout.members[node][0]) for node in layout.others]
            self._exchange(
                [(first, words + layout.node, 1) for _, first in firsts],
                [(first, words + node, 1) for node, first in firsts],
                stream,
            )
        self._inside(lib.hipcommBarrier, stream=stream)

    def synchronize(self, stream: Any) -> None:
        """Have the host wait for the stream."""
        self._local.run(lib.hipcommStreamSynchronize, stream=stream)

    def exchange_along_rails(self, memory: int, nbytes: int) -> None:
        """Exchange *nbytes* with every node on this rail, each with its place in *memory*: to measure."""
        layout = self._layout
        mine = memory + layout.node * nbytes
        places = [
            (layout.partner(node, layout.local_rank), memory + node * nbytes, nbytes)
            for node in layout.others
        ]
        sends = [(member, mine, nbytes) for node in layout.others for member in layout.fed(node)]
        self._exchange(sends, places, ffi.NULL)

    # ---- messages between two ranks ------------------------------------------------------------------------

    def send(self, address: int, count: int, dtype: int, dest: int, stream: Any) -> None:
        """To a rank of this node by its communicator, to others by the carrier."""
        node, local = self._layout.places[dest]
        if node == self._layout.node:
            self._inside(lib.hipcommSend, pointer(address), count, dtype, local, stream=stream)
            return
        nbytes = count * SIZES[dtype]
        length = ffi.new("uint64_t *", nbytes)
        ahead = [] if self._carrier.is_stream_ordered else [(dest, int(ffi.cast("uintptr_t", length)), 8)]
        self._exchange([*ahead, (dest, address, nbytes)], [], stream, MESSAGES)

    def recv(self, address: int, count: int, dtype: int, source: int, stream: Any) -> int:
        """As :meth:`send`. Returns the message's bytes; where the buffer has another number it is lost."""
        node, local = self._layout.places[source]
        nbytes = count * SIZES[dtype]
        if node == self._layout.node:
            self._inside(lib.hipcommRecv, pointer(address), count, dtype, local, stream=stream)
            return nbytes
        if self._carrier.is_stream_ordered:
            self._exchange([], [(source, address, nbytes)], stream, MESSAGES)
            return nbytes
        length = ffi.new("uint64_t *")
        self._exchange([], [(source, int(ffi.cast("uintptr_t", length)), 8)], stream, MESSAGES)
        if length[0] == nbytes:
            self._exchange([], [(source, address, nbytes)], stream, MESSAGES)
        return int(length[0])

    # ---- norms ---------------------------------------------------------------------------------------------

    def norm(self, function: Any, norm: Any, stream: Any) -> None:
        """Residual and norm, of this rank alone."""
        self._inside(function, norm, stream=stream)

    def all_reduce_norm(self, alone: Any, norm: Any, stream: Any) -> None:
        """The all-reduce, then the norm on this rank alone: the same bits as fused, by contract."""
        row = norm.hidden * SIZES[norm.dtype]
        count = norm.tokens * norm.hidden
        summed = self._local.scratch("rows", norm.tokens * row, stream)
        x = int(ffi.cast("uintptr_t", norm.x))
        stride = norm.x_stride * SIZES[norm.dtype] or row
        self._local.copy_rows((x, stride), (summed, row), row, norm.tokens, stream)
        self.all_reduce(summed, summed, count, Elements(norm.dtype, lib.hipcommSum), stream)
        norm.x, norm.x_stride = pointer(summed), 0
        self._inside(alone, norm, stream=stream)
