"""The collectives of a communicator, and the messages between two of its ranks.

A method turns its arguments into what the core takes and makes one call into the core, which plans and
launches.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from hipcomm.arguments import Arguments
from hipcomm.buffers import Buffer
from hipcomm.buffers.dtypes import CODES, NOT_IN_BUFFER_PROTOCOL
from hipcomm.buffers.layout import order_word
from hipcomm.core import error_of, ffi, lib
from hipcomm.errors import CallMismatch, Error, InvalidArgument, PeerDied, PeerTimeout
from hipcomm.join.session import Session
from hipcomm.plan import REDUCTIONS

_ndarray = np.ndarray
_NULL = ffi.NULL
_from_buffer = functools.partial(ffi.from_buffer, require_writable=True)
_BUFFER_CODES = {dtype: code for dtype, code in CODES.items() if dtype not in NOT_IN_BUFFER_PROTOCOL}


class Collectives:
    """All collectives of one rank; :class:`hipcomm.communicator.Communicator` adds the rest of its life.

    What holds for all of them is documented there.
    """

    def __init__(self, session: Session) -> None:
        """Of what has been set up."""
        self.rank = session.ranks.rank
        self.world_size = session.ranks.world_size
        self._session = session
        self._comm = session.handle()  # nothing else keeps one: close() waits until all are gone
        self._arguments = Arguments(self.rank, self.world_size, session.device.host_is_device)
        self._all_reduce: Any = lib.hipcommAllReduce
        self._fast_dtypes = _BUFFER_CODES if session.device.host_is_device else {}
        self._gone = ""  # why no call can be made any more
        self._grouped: list[Any] | None = (
            None  # buffers of the group that is open, which they have to outlive
        )

    def all_reduce(
        self,
        sendbuf: Any,
        recvbuf: Any = None,
        op: str = "sum",
        *,
        count: int | None = None,
        dtype: Any = None,
        stream: Any = None,
    ) -> None:
        """Combine the elements of all ranks; every rank receives the result.

        Args:
            sendbuf: this rank's elements, any shape.
            recvbuf: the result, of the same number of elements and dtype; None: in place.
            op: "sum", "avg", "max", "min" or "prod". Elements are combined in rank order; float16 and
                bfloat16 accumulate in float32 and are rounded once; "avg" divides before that.
            count: elements, where addresses are given.
            dtype: likewise.
            stream: see the class.

        Raises:
            InvalidArgument: see above; also when the buffers' sizes or dtypes differ, or when they
                overlap without being the same.
        """
        try:
            op_code = REDUCTIONS[op]
        except (KeyError, TypeError):
            op_code = self._arguments.op(op, "all_reduce")  # which says what is wrong
        if recvbuf is None:
            recvbuf = sendbuf
        if type(sendbuf) is type(recvbuf) is _ndarray and stream is count is dtype is None:
            # The call that every layer of a model makes, at half the cost of the way below, which also
            # says what is wrong with arrays that this one cannot take.
            dtype_code = self._fast_dtypes.get(sendbuf.dtype)
            if dtype_code is not None and (
                recvbuf is sendbuf or (recvbuf.dtype == sendbuf.dtype and recvbuf.size == sendbuf.size)
            ):
                try:
                    target = _from_buffer(recvbuf)
                    source = target if recvbuf is sendbuf else ffi.from_buffer(sendbuf)
                except (BufferError, ValueError):
                    target = None
                if target is not None:
                    code = self._all_reduce(
                        source, target, sendbuf.size, dtype_code, op_code, self._comm, _NULL
                    )
                    if code:
                        self._raise(code)
                    return
        recv = self._arguments.buffer(recvbuf, "recvbuf", "all_reduce", True, count, dtype, 1, True)
        if recvbuf is sendbuf:
            send = recv
        else:
            send = self._arguments.buffer(sendbuf, "sendbuf", "all_reduce", False, count, dtype, 1, True)
            if send.count != recv.count or send.dtype != recv.dtype or send.order is not recv.order:
                self._arguments.match("all_reduce", send, recv)
        function = self._all_reduce
        if recv.order is not None:
            function = self._ordered(function, recv)
        code = function(  # not by _run: this one is called in decode loops
            send.address,
            recv.address,
            send.count,
            send.dtype,
            op_code,
            self._comm,
            _NULL if stream is None else self._arguments.stream(stream, "all_reduce"),
        )
        if code:
            self._raise(code)

    def reduce_scatter(
        self,
        sendbuf: Any,
        recvbuf: Any,
        op: str = "sum",
        dim: int = 0,
        *,
        count: int | None = None,
        dtype: Any = None,
        stream: Any = None,
    ) -> None:
        """Combine the elements of all ranks; each rank receives its part of the result.

        Rank r receives part r of world_size equal parts, cut along a dimension.

        Args:
            sendbuf: world_size times as many elements as *recvbuf*; along another dimension than 0, of
                the shape that follows.
            recvbuf: this rank's part of the result. In place, along dimension 0: the part of *sendbuf*
                that it is the result of.
            op: as for :meth:`all_reduce`, and with the same bits.
            dim: the dimension; negative ones count from the end. Addresses have dimension 0 only.
            count: elements of *recvbuf*, where addresses are given.
            dtype: likewise.
            stream: see the class.

        Raises:
            InvalidArgument: see the class; also when shapes, sizes or dtypes do not fit, or when the buffers
                overlap in another way.
        """
        op_code = self._arguments.op(op, "reduce_scatter")
        rows = 1
        if dim != 0 or dim is False:
            names = ("recvbuf", "sendbuf")
            rows, row = self._arguments.rows(recvbuf, sendbuf, names, dim, "reduce_scatter")
        recv = self._arguments.buffer(recvbuf, "recvbuf", "reduce_scatter", True, count, dtype)
        send = self._arguments.buffer(
            sendbuf, "sendbuf", "reduce_scatter", False, count, dtype, self.world_size
        )
        self._arguments.match("reduce_scatter", send, recv, sent=self.world_size)
        row = recv.count if rows == 1 else row
        self._run(
            lib.hipcommReduceScatterRows,
            "reduce_scatter",
            stream,
            send.address,
            recv.address,
            rows,
            row,
            recv.dtype,
            op_code,
        )

    def reduce(
        self,
        sendbuf: Any,
        recvbuf: Any = None,
        op: str = "sum",
        root: int = 0,
        *,
        count: int | None = None,
        dtype: Any = None,
        stream: Any = None,
    ) -> None:
        """Combine the elements of all ranks; the root receives the result.

        Args:
            sendbuf: this rank's elements, any shape.
            recvbuf: on the root, the result, of the same number of elements and dtype; None: in place.
                The other ranks' is not looked at.
            op: as for :meth:`all_reduce`, and with the same bits.
            root: the rank that receives.
            count: elements, where addresses are given.
            dtype: likewise.
            stream: see the class.

        Raises:
            InvalidArgument: see the class; also when the buffers' sizes or dtypes differ, or when they
                overlap without being the same.
        """
        op_code = self._arguments.op(op, "reduce")
        root = self._arguments.peer(root, "root", "reduce")
        is_root = self.rank == root
        in_place = not is_root or recvbuf is None or recvbuf is sendbuf
        writes = is_root and in_place
        send = self._arguments.buffer(sendbuf, "sendbuf", "reduce", writes, count, dtype, 1, True)
        recv = send
        if not in_place:
            recv = self._arguments.buffer(recvbuf, "recvbuf", "reduce", True, count, dtype, 1, True)
        self._arguments.match("reduce", send, recv)
        self._run(
            lib.hipcommReduce if send.order is None else self._ordered(lib.hipcommReduce, send),
            "reduce",
            stream,
            send.address,
            recv.address,
            send.count,
            send.dtype,
            op_code,
            root,
        )

    def all_gather(
        self,
        sendbuf: Any,
        recvbuf: Any,
        dim: int = 0,
        *,
        count: int | None = None,
        dtype: Any = None,
        stream: Any = None,
    ) -> None:
        """Concatenate the arrays of all ranks, in rank order, along a dimension.

        Args:
            sendbuf: this rank's elements; the same shape on every rank. In place, along dimension 0: the
                part of *recvbuf* that this rank's elements belong to.
            recvbuf: world_size times as many elements; along another dimension than 0, of the shape that
                follows.
            dim: the dimension; negative ones count from the end. Addresses have dimension 0 only.
            count: elements of *sendbuf*, where addresses are given.
            dtype: likewise.
            stream: see the class.
        """
        if dim != 0 or dim is False:
            self._all_gather_along(sendbuf, recvbuf, dim, stream)
            return
        send = self._arguments.buffer(sendbuf, "sendbuf", "all_gather", False, count, dtype)
        recv = self._arguments.buffer(recvbuf, "recvbuf", "all_gather", True, count, dtype, self.world_size)
        self._arguments.match("all_gather", send, recv, received=self.world_size)
        self._run(
            lib.hipcommAllGather, "all_gather", stream, send.address, recv.address, send.count, send.dtype
        )

    def _all_gather_along(self, sendbuf: Any, recvbuf: Any, dim: Any, stream: Any) -> None:
        """all_gather() along a dimension other than the first."""
        rows, row = self._arguments.rows(sendbuf, recvbuf, ("sendbuf", "recvbuf"), dim, "all_gather")
        send = self._arguments.buffer(sendbuf, "sendbuf", "all_gather", False, None, None)
        recv = self._arguments.buffer(recvbuf, "recvbuf", "all_gather", True, None, None)
        self._arguments.match("all_gather", send, recv, received=self.world_size)
        self._run(
            lib.hipcommAllGatherRows, "all_gather", stream, send.address, recv.address, rows, row, send.dtype
        )

    def all_gather_v(
        self,
        sendbuf: Any,
        recvbuf: Any,
        counts: Sequence[int],
        *,
        displacements: Sequence[int] | None = None,
        dtype: Any = None,
        stream: Any = None,
    ) -> None:
        """Concatenate the elements of all ranks, in rank order, each rank's as many as it has.

        Args:
            sendbuf: this rank's ``counts[rank]`` elements. In place: the part of *recvbuf* that they
                belong to.
            recvbuf: room for all parts.
            counts: elements of each rank; the same on all ranks.
            displacements: where each part begins, in elements; None: parts are contiguous.
            dtype: where addresses are given.
            stream: see the class.

        Raises:
            InvalidArgument: see the class; also when sizes, counts or dtypes do not fit.
        """
        numbers, sizes, begins, extent = self._arguments.counts(counts, displacements, "", "all_gather_v")
        own = numbers[self.rank]
        send = self._arguments.parts_buffer(sendbuf, "sendbuf", "all_gather_v", False, own, dtype)
        recv = self._arguments.parts_buffer(recvbuf, "recvbuf", "all_gather_v", True, extent, dtype)
        self._arguments.same_dtype("all_gather_v", send, recv)
        self._run(
            lib.hipcommAllGatherv,
            "all_gather_v",
            stream,
            send.address,
            recv.address,
            sizes,
            begins,
            send.dtype,
        )

    def broadcast(
        self,
        buf: Any,
        root: int = 0,
        *,
        count: int | None = None,
        dtype: Any = None,
        stream: Any = None,
    ) -> None:
        """Copy the root's elements to all ranks, in place.

        Args:
            buf: sent on the root, received into on the others; the same size on every rank. It may be
                read-only on the root.
            root: the rank that sends.
            count: elements, where an address is given.
            dtype: likewise.
            stream: see the class.
        """
        root = self._arguments.peer(root, "root", "broadcast")
        buffer = self._arguments.buffer(buf, "buf", "broadcast", self.rank != root, count, dtype, 1, True)
        address = buffer.address
        function = lib.hipcommBroadcast
        if buffer.order is not None:
            function = self._ordered(function, buffer)
        self._run(function, "broadcast", stream, address, address, buffer.count, buffer.dtype, root)

    def gather(
        self,
        sendbuf: Any,
        recvbuf: Any = None,
        root: int = 0,
        *,
        count: int | None = None,
        dtype: Any = None,
        stream: Any = None,
    ) -> None:
        """Concatenate the elements of all ranks, in rank order, on the root.

        Args:
            sendbuf: this rank's elements; the same number on every rank. In place on the root: the part of
                *recvbuf* that its elements belong to.
            recvbuf: on the root, world_size times as many elements. The other ranks' is not looked at.
            root: the rank that receives.
            count: elements of *sendbuf*, where addresses are given.
            dtype: likewise.
            stream: see the class.
        """
        root = self._arguments.peer(root, "root", "gather")
        send = self._arguments.buffer(sendbuf, "sendbuf", "gather", False, count, dtype)
        recv = send
        if self.rank == root:
            recv = self._arguments.buffer(recvbuf, "recvbuf", "gather", True, count, dtype, self.world_size)
            self._arguments.match("gather", send, recv, received=self.world_size)
        self._run(
            lib.hipcommGather, "gather", stream, send.address, recv.address, send.count, send.dtype, root
        )

    def scatter(
        self,
        sendbuf: Any,
        recvbuf: Any,
        root: int = 0,
        *,
        count: int | None = None,
        dtype: Any = None,
        stream: Any = None,
    ) -> None:
        """Give every rank its part of the root's elements.

        Args:
            sendbuf: on the root, world_size parts, in rank order. The other ranks' is not looked at, and may
                be None.
            recvbuf: this rank's part; the same number of elements on every rank. In place on the root: the
                root's part of *sendbuf*.
            root: the rank that sends.
            count: elements of *recvbuf*, where addresses are given.
            dtype: likewise.
            stream: see the class.
        """
        root = self._arguments.peer(root, "root", "scatter")
        recv = self._arguments.buffer(recvbuf, "recvbuf", "scatter", True, count, dtype)
        send = recv
        if self.rank == root:
            send = self._arguments.buffer(sendbuf, "sendbuf", "scatter", False, count, dtype, self.world_size)
            self._arguments.match("scatter", send, recv, sent=self.world_size)
        self._run(
            lib.hipcommScatter, "scatter", stream, send.address, recv.address, recv.count, recv.dtype, root
        )

    def all_to_all(
        self,
        sendbuf: Any,
        recvbuf: Any,
        send_counts: Sequence[int] | None = None,
        recv_counts: Sequence[int] | None = None,
        *,
        send_displacements: Sequence[int] | None = None,
        recv_displacements: Sequence[int] | None = None,
        count: int | None = None,
        dtype: Any = None,
        stream: Any = None,
    ) -> None:
        """Send a part of sendbuf to every rank, and receive a part of recvbuf from every rank.

        Without counts the parts are equal: recvbuf's part r is part *rank* of rank r's sendbuf. With
        counts each pair of ranks has its own count, on which the two must agree; no other rank needs to
        know it.

        Args:
            sendbuf: world_size parts, in rank order.
            recvbuf: likewise; it must not overlap *sendbuf*.
            send_counts: elements for each rank; both counts or neither.
            recv_counts: elements from each rank.
            send_displacements: with counts, where each rank's part begins, in elements; None: parts
                are contiguous.
            recv_displacements: likewise.
            count: without counts, elements of one part, where addresses are given.
            dtype: where addresses are given.
            stream: see the class.

        Raises:
            InvalidArgument: see the class; also when sizes, counts or dtypes do not fit.
        """
        if send_counts is not None or recv_counts is not None:
            if count is not None:
                raise self._arguments.refusal("all_to_all", "count= goes with equal parts, not with counts")
            self._all_to_all_v(
                sendbuf,
                recvbuf,
                self._arguments.counts(send_counts, send_displacements, "send_", "all_to_all"),
                self._arguments.counts(recv_counts, recv_displacements, "recv_", "all_to_all"),
                dtype,
                stream,
            )
            return
        if send_displacements is not None or recv_displacements is not None:
            raise self._arguments.refusal("all_to_all", "displacements need send_counts and recv_counts")
        send = self._arguments.buffer(sendbuf, "sendbuf", "all_to_all", False, count, dtype, self.world_size)
        recv = self._arguments.buffer(recvbuf, "recvbuf", "all_to_all", True, count, dtype, self.world_size)
        self._arguments.match("all_to_all", send, recv)
        part, rest = divmod(send.count, self.world_size)
        if rest:
            raise self._arguments.refusal(
                "all_to_all", f"sendbuf has {send.count} elements, not a multiple of {self.world_size} ranks"
            )
        self._run(lib.hipcommAllToAll, "all_to_all", stream, send.address, recv.address, part, send.dtype)

    def _all_to_all_v(
        self,
        sendbuf: Any,
        recvbuf: Any,
        sent: tuple[list[int], Any, Any, int],
        received: tuple[list[int], Any, Any, int],
        dtype: Any,
        stream: Any,
    ) -> None:
        send = self._arguments.parts_buffer(sendbuf, "sendbuf", "all_to_all", False, sent[3], dtype)
        recv = self._arguments.parts_buffer(recvbuf, "recvbuf", "all_to_all", True, received[3], dtype)
        self._arguments.same_dtype("all_to_all", send, recv)
        self._run(
            lib.hipcommAllToAllv,
            "all_to_all",
            stream,
            send.address,
            sent[1],
            sent[2],
            recv.address,
            received[1],
            received[2],
            send.dtype,
        )

    def send(
        self, buf: Any, dest: int, *, count: int | None = None, dtype: Any = None, stream: Any = None
    ) -> None:
        """Send the elements of *buf* to one rank.

        Args:
            buf: the elements, any shape; none at all are a message too. They may be changed as soon as the
                stream has passed the call.
            dest: the rank that receives; not this one.
            count: elements, where an address is given.
            dtype: likewise.
            stream: see the class.

        Raises:
            InvalidArgument: see the class; also when *dest* is not another rank.
            CallMismatch: the receiver expects another number of bytes; here or at a later call, for a short
                message may be gone by then.
        """
        buffer = self._arguments.buffer(buf, "buf", "send", False, count, dtype)
        dest = self._arguments.peer(dest, "dest", "send")
        if self._grouped is not None:
            self._grouped.append(buf)
        self._run(lib.hipcommSend, "send", stream, buffer.address, buffer.count, buffer.dtype, dest)

    def recv(
        self, buf: Any, source: int, *, count: int | None = None, dtype: Any = None, stream: Any = None
    ) -> None:
        """Receive the next message of one rank into *buf*.

        Args:
            buf: room for the message, which must have exactly as many bytes.
            source: the rank that sends; not this one.
            count: elements, where an address is given.
            dtype: likewise.
            stream: see the class.

        Raises:
            InvalidArgument: see the class; also when *source* is not another rank.
            CallMismatch: the message is of another number of bytes.
        """
        buffer = self._arguments.buffer(buf, "buf", "recv", True, count, dtype)
        source = self._arguments.peer(source, "source", "recv")
        if self._grouped is not None:
            self._grouped.append(buf)
        self._run(lib.hipcommRecv, "recv", stream, buffer.address, buffer.count, buffer.dtype, source)

    @contextmanager
    def group(self) -> Iterator[None]:
        """Launch the sends and receives that are made within the block together, at its end.

        They do not wait for each other: two ranks may send each other long messages in one group. Messages
        between two ranks keep their order. All of a group are on one stream, which goes on when all are done.
        Any other call within the block is made at once. A group may be captured, except on the CPU platform.
        If the block raises, nothing is launched.

        Raises:
            InvalidArgument: the messages are on several streams, or captured on the CPU platform.
        """
        self._grouped = []
        try:
            lib.hipcommGroupStart()
            try:
                yield
            except BaseException:
                lib.hipcommGroupCancel()
                raise
            code = lib.hipcommGroupEnd()
        finally:
            self._grouped = None
        if code:
            self._raise(code)

    def barrier(self, *, stream: Any = None) -> None:
        """No rank's stream passes this call before every rank's stream has come to it.

        Like every collective it is enqueued: the host does not wait (:meth:`synchronize` does).
        """
        self._run(lib.hipcommBarrier, "barrier", stream)

    # ---- calls into the core -----------------------------------------------------------------------------

    def _run(self, function: Any, operation: str, stream: Any, *arguments: Any) -> None:
        """Call a function of the core, which takes communicator and stream last. Raises what it reports."""
        handle = _NULL if stream is None else self._arguments.stream(stream, operation)
        code = function(*arguments, self._comm, handle)
        if code:
            self._raise(code)

    def _ordered(self, function: Any, buffer: Buffer) -> Any:
        """*function*, for a buffer of which HIPCOMM_CHECK=1 compares the memory order too."""
        assert buffer.order is not None
        word = order_word(buffer.order)

        def call(*arguments: Any) -> int:
            lib.hipcommCommSetMemoryOrder(self._comm, word)
            code: int = function(*arguments)
            lib.hipcommCommSetMemoryOrder(self._comm, 0)
            return code

        return call

    def _raise(self, code: int) -> NoReturn:
        if self._gone:
            # what went wrong in a call during which another thread closed is gone with the communicator
            kind = InvalidArgument if code == lib.hipcommInvalidArgument else Error
            raise kind(f"rank {self.rank}: {self._gone}")
        raised = self._session.interrupts.take()
        if raised is not None:
            raise raised
        error = error_of(code, self._comm)
        if isinstance(error, (PeerTimeout, PeerDied, CallMismatch)):
            self._session.note_failure(error)
        elif lib.hipcommCommGetAsyncError(self._comm):  # a launch failed, which the peers wait for
            self._session.abort(str(error))
        raise error
