"""The calls of a world over nodes: what every one goes through, and which composition it is.

Arguments are read where they are on one node (hipcomm/collectives.py, hipcomm/norms.py), whose methods end in
:meth:`_run`, with a function of the core and what it takes. Here that becomes a composition
(:mod:`hipcomm.nodes.composition`), behind the checks that the core would make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hipcomm.buffers import Buffer
from hipcomm.communicator import Communicator
from hipcomm.core import ffi, lib
from hipcomm.errors import CallMismatch, Error, InvalidArgument
from hipcomm.nodes.carrier import Carrier
from hipcomm.nodes.composition import Composition
from hipcomm.nodes.failures import Failures
from hipcomm.nodes.layout import Layout
from hipcomm.nodes.local import SIZES, Elements, is_capturing
from hipcomm.rendezvous.ranks import Ranks

_NO_STREAM = ffi.NULL


class NodesCollectives(Communicator):
    """All collectives of one rank; :class:`~hipcomm.nodes.communicator.NodesCommunicator` adds its life."""

    _ranks: Ranks
    _layout: Layout
    _failures: Failures
    _carrier: Carrier
    _node: Communicator
    _composition: Composition

    # ---- what every call goes through --------------------------------------------------------------------

    def _run(self, function: Any, operation: str, stream: Any, *arguments: Any) -> None:
        handle = _NO_STREAM if stream is None else self._arguments.stream(stream, operation)
        if self._gone:
            raise self._arguments.refusal(operation, self._gone)
        call = _CALLS.get(function)
        if call is None:
            raise self._arguments.refusal(operation, "a world over nodes cannot do this")
        made = call(self, operation, *arguments)
        with self._calling(operation, handle):
            made(handle)

    def _ordered(self, function: Any, buffer: Buffer) -> Any:
        return function  # HIPCOMM_CHECK compares memory orders within a node only

    def _all_reduce_over_nodes(self, *arguments: Any) -> int:
        """In the place of the core's function, which all_reduce() calls by itself."""
        *message, _, handle = arguments
        self._run(lib.hipcommAllReduce, "all_reduce", int(ffi.cast("uintptr_t", handle)), *message)
        return 0

    @contextmanager
    def _calling(self, operation: str, stream: Any) -> Iterator[None]:
        """Around what a call does once its arguments are known to be right; *stream*: a cffi pointer."""
        if self._gone:
            raise self._arguments.refusal(operation, self._gone)
        self._failures.operation = operation
        self._failures.check()
        if not self._carrier.is_stream_ordered and is_capturing(stream):
            problem = f"with the carrier {self._carrier.name} a call cannot be captured into a graph"
            raise self._arguments.refusal(operation, problem)
        try:
            with self.device.current():
                yield
        except InvalidArgument:
            raise
        except Error as error:
            raise self._fail(error) from error
        except BaseException as error:  # Ctrl-C while it waits: the other ranks wait for the rest of the call
            self.abort(error)
            raise

    def _fail(self, error: Error) -> Error:
        """A call has failed: so has the communicator, on all ranks. Returns what to raise."""
        is_known = self._failures.has_failed
        named = self._failures.note(self._failures.inside(error))
        self._carrier.abort()
        self._ranks.waiting(str(named))
        if not is_known:
            self._node.abort(named)
        return named

    # ---- checks --------------------------------------------------------------------------------------------

    def _member(self, rank: int, name: str, operation: str) -> int:
        if not 0 <= rank < self.world_size:
            raise self._arguments.refusal(operation, f"{name} {rank} is not below {self.world_size} ranks")
        return rank

    def _other(self, rank: int, name: str, operation: str) -> int:
        if self._member(rank, name, operation) == self.rank:
            raise self._arguments.refusal(operation, f"{name} {rank} is this rank itself")
        return rank

    def _apart(self, operation: str, send: int, sent: int, recv: int, received: int, in_place: bool) -> None:
        """See that buffers do not overlap, unless a call is in place."""
        if in_place or not sent or not received:
            return
        if send < recv + received and recv < send + sent:
            raise self._arguments.refusal(operation, "sendbuf and recvbuf overlap")

    def _is_sharded(self, layout: str, operation: str) -> bool:
        if layout != "replicated":
            problem = f"residual_layout {layout!r}: a world over nodes can only do 'replicated'"
            raise self._arguments.refusal(operation, problem)
        return False

    # ---- each call: the arguments of the core's function, and what is to be done on a stream ---------------

    def _make_all_reduce(
        self, operation: str, send: Any, recv: Any, count: int, dtype: int, op: int
    ) -> _Made:
        first, second, nbytes = _address(send), _address(recv), count * SIZES[dtype]
        self._apart(operation, first, nbytes, second, nbytes, first == second)
        elements = Elements(dtype, op)
        return lambda stream: self._composition.all_reduce(first, second, count, elements, stream)

    def _make_reduce_scatter(
        self, operation: str, send: Any, recv: Any, rows: int, row: int, dtype: int, op: int
    ) -> _Made:
        whole, part, nbytes = _address(send), _address(recv), rows * row * SIZES[dtype]
        own = whole + self.rank * nbytes
        self._apart(operation, whole, nbytes * self.world_size, part, nbytes, rows == 1 and part == own)
        elements = Elements(dtype, op)
        return lambda stream: self._composition.reduce_scatter(whole, part, rows, row, elements, stream)

    def _make_reduce(
        self, operation: str, send: Any, recv: Any, count: int, dtype: int, op: int, root: int
    ) -> _Made:
        self._member(root, "root", operation)
        first, second, nbytes = _address(send), _address(recv), count * SIZES[dtype]
        if self.rank == root:
            self._apart(operation, first, nbytes, second, nbytes, first == second)
        elements = Elements(dtype, op)
        return lambda stream: self._composition.reduce(first, second, count, elements, root, stream)

    def _make_all_gather(self, operation: str, send: Any, recv: Any, count: int, dtype: int) -> _Made:
        return self._make_all_gather_rows(operation, send, recv, 1, count, dtype)

    def _make_all_gather_rows(
        self, operation: str, send: Any, recv: Any, rows: int, row: int, dtype: int
    ) -> _Made:
        part, whole, nbytes = _address(send), _address(recv), rows * row * SIZES[dtype]
        own = whole + self.rank * nbytes
        self._apart(operation, part, nbytes, whole, nbytes * self.world_size, rows == 1 and part == own)
        return lambda stream: self._composition.all_gather(part, whole, rows, row * SIZES[dtype], stream)

    def _make_all_gather_v(
        self, operation: str, send: Any, recv: Any, counts: Any, displacements: Any, dtype: int
    ) -> _Made:
        sizes, begins = self._parts(counts, displacements, dtype)
        part, whole = _address(send), _address(recv)
        own = whole + begins[self.rank]
        extent = max((begin + size for begin, size in zip(begins, sizes, strict=True) if size), default=0)
        self._apart(operation, part, sizes[self.rank], whole, extent, part == own)
        return lambda stream: self._composition.all_gather_v(part, whole, sizes, begins, stream)

    def _make_broadcast(
        self, operation: str, buffer: Any, _: Any, count: int, dtype: int, root: int
    ) -> _Made:
        self._member(root, "root", operation)
        address, nbytes = _address(buffer), count * SIZES[dtype]
        return lambda stream: self._composition.broadcast(address, nbytes, root, stream)

    def _make_gather(self, operation: str, send: Any, recv: Any, count: int, dtype: int, root: int) -> _Made:
        self._member(root, "root", operation)
        part, whole, nbytes = _address(send), _address(recv), count * SIZES[dtype]
        own = whole + root * nbytes
        if self.rank == root:
            self._apart(operation, part, nbytes, whole, nbytes * self.world_size, part == own)
        return lambda stream: self._composition.gather(part, whole, nbytes, root, stream)

    def _make_scatter(self, operation: str, send: Any, recv: Any, count: int, dtype: int, root: int) -> _Made:
        self._member(root, "root", operation)
        whole, part, nbytes = _address(send), _address(recv), count * SIZES[dtype]
        own = whole + root * nbytes
        if self.rank == root:
            self._apart(operation, whole, nbytes * self.world_size, part, nbytes, part == own)
        return lambda stream: self._composition.scatter(whole, part, nbytes, root, stream)

    def _make_all_to_all(self, operation: str, send: Any, recv: Any, count: int, dtype: int) -> _Made:
        counts = ffi.new("size_t[]", [count] * self.world_size)
        return self._make_all_to_all_v(operation, send, counts, ffi.NULL, recv, counts, ffi.NULL, dtype)

    def _make_all_to_all_v(
        self,
        operation: str,
        send: Any,
        send_counts: Any,
        send_displacements: Any,
        recv: Any,
        recv_counts: Any,
        recv_displacements: Any,
        dtype: int,
    ) -> _Made:
        sent = self._parts(send_counts, send_displacements, dtype)
        got = self._parts(recv_counts, recv_displacements, dtype)
        first, second = _address(send), _address(recv)
        extents = [
            max((begin + size for size, begin in zip(*each, strict=True) if size), default=0)
            for each in (sent, got)
        ]
        self._apart(operation, first, extents[0], second, extents[1], False)
        return lambda stream: self._composition.all_to_all(first, second, sent, got, stream)

    def _parts(self, counts: Any, displacements: Any, dtype: int) -> tuple[list[int], list[int]]:
        """Bytes of each rank's part, and where it begins."""
        sizes = [counts[rank] * SIZES[dtype] for rank in range(self.world_size)]
        if displacements != ffi.NULL:
            return sizes, [displacements[rank] * SIZES[dtype] for rank in range(self.world_size)]
        return sizes, [sum(sizes[:rank]) for rank in range(self.world_size)]

    def _make_barrier(self, operation: str) -> _Made:
        return self._composition.barrier

    def _make_send(self, operation: str, buffer: Any, count: int, dtype: int, dest: int) -> _Made:
        self._other(dest, "dest", operation)
        address = _address(buffer)
        return lambda stream: self._composition.send(address, count, dtype, dest, stream)

    def _make_recv(self, operation: str, buffer: Any, count: int, dtype: int, source: int) -> _Made:
        self._other(source, "source", operation)
        address, nbytes = _address(buffer), count * SIZES[dtype]

        def receive(stream: Any) -> None:
            got = self._composition.recv(address, count, dtype, source, stream)
            if got != nbytes:
                raise CallMismatch(
                    f"{self._failures.me}: recv of {nbytes} bytes from {self._layout.name(source)}, "
                    f"whose message has {got}"
                )

        return receive

    def _make_add_rms_norm(self, operation: str, norm: Any) -> _Made:
        return lambda stream: self._composition.norm(lib.hipcommAddRmsNorm, norm, stream)

    def _make_add_layer_norm(self, operation: str, norm: Any) -> _Made:
        return lambda stream: self._composition.norm(lib.hipcommAddLayerNorm, norm, stream)

    def _make_all_reduce_rms_norm(self, operation: str, norm: Any) -> _Made:
        return lambda stream: self._composition.all_reduce_norm(lib.hipcommAddRmsNorm, norm, stream)

    def _make_all_reduce_layer_norm(self, operation: str, norm: Any) -> _Made:
        return lambda stream: self._composition.all_reduce_norm(lib.hipcommAddLayerNorm, norm, stream)

    def _make_synchronize(self, operation: str) -> _Made:
        return self._composition.synchronize


_Made = Callable[[Any], None]

#: What the methods of one node end in, and what makes of it a composition.
_CALLS: dict[Any, Callable[..., _Made]] = {
    lib.hipcommAllReduce: NodesCollectives._make_all_reduce,
    lib.hipcommReduceScatterRows: NodesCollectives._make_reduce_scatter,
    lib.hipcommReduce: NodesCollectives._make_reduce,
    lib.hipcommAllGather: NodesCollectives._make_all_gather,
    lib.hipcommAllGatherRows: NodesCollectives._make_all_gather_rows,
    lib.hipcommAllGatherv: NodesCollectives._make_all_gather_v,
    lib.hipcommBroadcast: NodesCollectives._make_broadcast,
    lib.hipcommGather: NodesCollectives._make_gather,
    lib.hipcommScatter: NodesCollectives._make_scatter,
    lib.hipcommAllToAll: NodesCollectives._make_all_to_all,
    lib.hipcommAllToAllv: NodesCollectives._make_all_to_all_v,
    lib.hipcommBarrier: NodesCollectives._make_barrier,
    lib.hipcommSend: NodesCollectives._make_send,
    lib.hipcommRecv: NodesCollectives._make_recv,
    lib.hipcommAddRmsNorm: NodesCollectives._make_add_rms_norm,
    lib.hipcommAddLayerNorm: NodesCollectives._make_add_layer_norm,
    lib.hipcommAllReduceRmsNorm: NodesCollectives._make_all_reduce_rms_norm,
    lib.hipcommAllReduceLayerNorm: NodesCollectives._make_all_reduce_layer_norm,
    lib.hipcommStreamSynchronize: NodesCollectives._make_synchronize,
}


def _address(buffer: Any) -> int:
    return int(ffi.cast("uintptr_t", buffer))
