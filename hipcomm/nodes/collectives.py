"""The collectives of a world over nodes: arguments, what every call goes through, and the norms.

What they take and raise is documented in hipcomm/collectives.py and hipcomm/norms.py; what they do is in
:mod:`hipcomm.nodes.composition`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from hipcomm.buffers import Buffer
from hipcomm.buffers.dtypes import CODES
from hipcomm.buffers.reader import address_of
from hipcomm.buffers.rows import strided_rows
from hipcomm.communicator import Communicator
from hipcomm.core import ffi
from hipcomm.errors import CallMismatch, Error, InvalidArgument
from hipcomm.hip import call
from hipcomm.nodes.carrier import Carrier
from hipcomm.nodes.composition import Array, Composition, Parts
from hipcomm.nodes.failures import Failures
from hipcomm.nodes.layout import Layout
from hipcomm.rendezvous.ranks import Ranks

_DTYPES = {code: dtype for dtype, code in CODES.items()}


class NodesCollectives(Communicator):
    """All collectives of one rank; :class:`~hipcomm.nodes.communicator.NodesCommunicator` adds its life."""

    _ranks: Ranks
    _layout: Layout
    _failures: Failures
    _carrier: Carrier
    _node: Communicator
    _composition: Composition

    # ---- what every call goes through --------------------------------------------------------------------

    @contextmanager
    def _calling(self, operation: str, stream: Any) -> Iterator[Composition]:
        """Around what a call does once its arguments are known to be right."""
        if self._gone:
            raise self._arguments.refusal(operation, self._gone)
        self._failures.operation = operation
        self._failures.check()
        if stream is not None and self._is_capturing(stream, operation):
            problem = "a world over nodes cannot be captured into a graph with this carrier"
            raise self._arguments.refusal(operation, problem)
        try:
            yield self._composition
        except InvalidArgument:
            raise
        except Error as error:
            raise self._fail(error) from error
        except BaseException as error:  # Ctrl-C while it waits: the other ranks wait for the rest of the call
            self.abort(error)
            raise

    def _is_capturing(self, stream: Any, operation: str) -> bool:
        handle = int(ffi.cast("uintptr_t", self._arguments.stream(stream, operation)))
        return bool(handle) and int(call("hipStreamIsCapturing", handle)) != 0

    def _fail(self, error: Error) -> Error:
        """A call has failed: so has the communicator, on all ranks. Returns what to raise."""
        is_known = self._failures.has_failed
        named = self._failures.note(self._failures.inside(error))
        self._carrier.abort()
        self._ranks.waiting(str(named))
        if not is_known:
            self._node.abort(named)
        return named

    def _array(
        self,
        obj: Any,
        name: str,
        operation: str,
        writable: bool,
        count: Any,
        dtype: Any,
        parts: int = 1,
        any_order: bool = False,
    ) -> tuple[Array, Buffer]:
        """A buffer as a one-dimensional array, and as the checks take it, which keeps the memory alive."""
        buffer = self._arguments.buffer(obj, name, operation, writable, count, dtype, parts, any_order)
        return _view(buffer), buffer

    def _op(self, op: Any, operation: str) -> str:
        self._arguments.op(op, operation)
        return str(op)

    def _rank_of(self, rank: Any, name: str, operation: str) -> int:
        number = self._arguments.peer(rank, name, operation)
        if not 0 <= number < self.world_size:
            raise self._arguments.refusal(operation, f"{name} {number} is not below {self.world_size} ranks")
        return number

    def _no_overlap(self, operation: str, send: Array, recv: Array, in_place: bool) -> None:
        """See that buffers do not overlap, unless they are the same and may be."""
        first, second = send.ctypes.data, recv.ctypes.data
        if in_place and (first, send.nbytes) == (second, recv.nbytes):
            return
        if first < second + recv.nbytes and second < first + send.nbytes and send.nbytes and recv.nbytes:
            raise self._arguments.refusal(operation, "sendbuf and recvbuf overlap")

    # ---- collectives; what they take and raise is documented in hipcomm/collectives.py ---------------------

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
        op = self._op(op, "all_reduce")
        target = sendbuf if recvbuf is None else recvbuf
        recv, to = self._array(target, "recvbuf", "all_reduce", True, count, dtype, 1, True)
        send, source = self._array(sendbuf, "sendbuf", "all_reduce", False, count, dtype, 1, True)
        self._arguments.match("all_reduce", source, to)
        self._no_overlap("all_reduce", send, recv, True)
        with self._calling("all_reduce", stream) as composition:
            composition.all_reduce(send, recv, op, stream)

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
        op, rows = self._op(op, "reduce_scatter"), 1
        if dim != 0 or dim is False:
            rows, _ = self._arguments.rows(recvbuf, sendbuf, ("recvbuf", "sendbuf"), dim, "reduce_scatter")
        recv, to = self._array(recvbuf, "recvbuf", "reduce_scatter", True, count, dtype)
        send, source = self._array(sendbuf, "sendbuf", "reduce_scatter", False, count, dtype, self.world_size)
        self._arguments.match("reduce_scatter", source, to, sent=self.world_size)
        own = send[self.rank * recv.size :][: recv.size]
        if rows > 1 or own.ctypes.data != recv.ctypes.data:
            self._no_overlap("reduce_scatter", send, recv, False)
        with self._calling("reduce_scatter", stream) as composition:
            composition.reduce_scatter(Parts(send, recv.size, rows, self.world_size), recv, op, stream)

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
        op, root = self._op(op, "reduce"), self._rank_of(root, "root", "reduce")
        is_root = self.rank == root
        in_place = not is_root or recvbuf is None or recvbuf is sendbuf
        send, source = self._array(sendbuf, "sendbuf", "reduce", is_root and in_place, count, dtype, 1, True)
        recv, to = send, source
        if not in_place:
            recv, to = self._array(recvbuf, "recvbuf", "reduce", True, count, dtype, 1, True)
        self._arguments.match("reduce", source, to)
        self._no_overlap("reduce", send, recv, True)
        with self._calling("reduce", stream) as composition:
            composition.reduce(send, recv if is_root else None, op, root, stream)

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
        rows = 1
        if dim != 0 or dim is False:
            rows, _ = self._arguments.rows(sendbuf, recvbuf, ("sendbuf", "recvbuf"), dim, "all_gather")
        send, source = self._array(sendbuf, "sendbuf", "all_gather", False, count, dtype)
        recv, to = self._array(recvbuf, "recvbuf", "all_gather", True, count, dtype, self.world_size)
        self._arguments.match("all_gather", source, to, received=self.world_size)
        own = recv[self.rank * send.size :][: send.size]
        if rows > 1 or own.ctypes.data != send.ctypes.data:
            self._no_overlap("all_gather", send, recv, False)
        shape = (rows, self.world_size, -1)
        with self._calling("all_gather", stream) as composition:
            if not send.size:
                return
            parts = list(recv.reshape(shape).swapaxes(0, 1))
            composition.all_gather(send, [part if rows > 1 else part.reshape(-1) for part in parts], stream)

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
        numbers, begins, extent = self._counts(counts, displacements, "", "all_gather_v")
        own = numbers[self.rank]
        source = self._arguments.parts_buffer(sendbuf, "sendbuf", "all_gather_v", False, own, dtype)
        to = self._arguments.parts_buffer(recvbuf, "recvbuf", "all_gather_v", True, extent, dtype)
        self._arguments.same_dtype("all_gather_v", source, to)
        send, recv = _view(source)[:own], _view(to)
        parts = [recv[begin:][:size] for begin, size in zip(begins, numbers, strict=True)]
        if send.ctypes.data != parts[self.rank].ctypes.data:
            self._no_overlap("all_gather_v", send, recv[:extent], False)
        with self._calling("all_gather_v", stream) as composition:
            composition.all_gather(send, parts, stream)

    def broadcast(
        self, buf: Any, root: int = 0, *, count: int | None = None, dtype: Any = None, stream: Any = None
    ) -> None:
        root = self._rank_of(root, "root", "broadcast")
        array, _ = self._array(buf, "buf", "broadcast", self.rank != root, count, dtype, 1, True)
        with self._calling("broadcast", stream) as composition:
            composition.broadcast(array, root, stream)

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
        root = self._rank_of(root, "root", "gather")
        send, source = self._array(sendbuf, "sendbuf", "gather", False, count, dtype)
        recv = None
        if self.rank == root:
            recv, to = self._array(recvbuf, "recvbuf", "gather", True, count, dtype, self.world_size)
            self._arguments.match("gather", source, to, received=self.world_size)
            if recv[self.rank * send.size :][: send.size].ctypes.data != send.ctypes.data:
                self._no_overlap("gather", send, recv, False)
        with self._calling("gather", stream) as composition:
            composition.gather(send, recv, root, stream)

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
        root = self._rank_of(root, "root", "scatter")
        recv, to = self._array(recvbuf, "recvbuf", "scatter", True, count, dtype)
        send = None
        if self.rank == root:
            send, source = self._array(sendbuf, "sendbuf", "scatter", False, count, dtype, self.world_size)
            self._arguments.match("scatter", source, to, sent=self.world_size)
            if send[self.rank * recv.size :][: recv.size].ctypes.data != recv.ctypes.data:
                self._no_overlap("scatter", send, recv, False)
        with self._calling("scatter", stream) as composition:
            composition.scatter(send, recv, root, stream)

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
        if send_counts is None and recv_counts is None:
            if send_displacements is not None or recv_displacements is not None:
                raise self._arguments.refusal("all_to_all", "displacements need send_counts and recv_counts")
            send, source = self._array(sendbuf, "sendbuf", "all_to_all", False, count, dtype, self.world_size)
            recv, to = self._array(recvbuf, "recvbuf", "all_to_all", True, count, dtype, self.world_size)
            self._arguments.match("all_to_all", source, to)
            part, rest = divmod(send.size, self.world_size)
            if rest:
                raise self._arguments.refusal(
                    "all_to_all",
                    f"sendbuf has {send.size} elements, not a multiple of {self.world_size} ranks",
                )
            sent = got = ([part] * self.world_size, [part * rank for rank in range(self.world_size)])
        else:
            if count is not None:
                raise self._arguments.refusal("all_to_all", "count= goes with equal parts, not with counts")
            numbers, begins, extent = self._counts(send_counts, send_displacements, "send_", "all_to_all")
            source = self._arguments.parts_buffer(sendbuf, "sendbuf", "all_to_all", False, extent, dtype)
            sent = (numbers, begins)
            numbers, begins, extent = self._counts(recv_counts, recv_displacements, "recv_", "all_to_all")
            to = self._arguments.parts_buffer(recvbuf, "recvbuf", "all_to_all", True, extent, dtype)
            got = (numbers, begins)
            self._arguments.same_dtype("all_to_all", source, to)
            send, recv = _view(source), _view(to)
        self._no_overlap("all_to_all", send, recv, False)
        with self._calling("all_to_all", stream) as composition:
            composition.all_to_all(send, recv, sent, got, stream)

    def _counts(
        self, counts: Any, displacements: Any, name: str, operation: str
    ) -> tuple[list[int], list[int], int]:
        """Counts, where parts begin, and the elements that hold all of them."""
        numbers, _, _, extent = self._arguments.counts(counts, displacements, name, operation)
        if displacements is not None:
            return numbers, [int(begin) for begin in displacements], extent
        return numbers, [sum(numbers[:rank]) for rank in range(self.world_size)], extent

    def barrier(self, *, stream: Any = None) -> None:
        with self._calling("barrier", stream) as composition:
            composition.barrier(stream)

    def send(
        self, buf: Any, dest: int, *, count: int | None = None, dtype: Any = None, stream: Any = None
    ) -> None:
        array, _ = self._array(buf, "buf", "send", False, count, dtype)
        dest = self._other(dest, "dest", "send")
        with self._calling("send", stream) as composition:
            composition.send(array, dest, stream)

    def recv(
        self, buf: Any, source: int, *, count: int | None = None, dtype: Any = None, stream: Any = None
    ) -> None:
        array, _ = self._array(buf, "buf", "recv", True, count, dtype)
        source = self._other(source, "source", "recv")
        with self._calling("recv", stream) as composition:
            nbytes = composition.recv(array, source, stream)
            if nbytes != array.nbytes:
                raise CallMismatch(
                    f"{self._failures.me}: recv of {array.nbytes} bytes from {self._layout.name(source)}, "
                    f"whose message has {nbytes}"
                )

    def _other(self, rank: Any, name: str, operation: str) -> int:
        number = self._rank_of(rank, name, operation)
        if number == self.rank:
            raise self._arguments.refusal(operation, f"{name} {number} is this rank itself")
        return number

    # ---- norms -------------------------------------------------------------------------------------------

    def add_rms_norm(self, *arguments: Any, **keywords: Any) -> None:
        self._alone("add_rms_norm", *arguments, **keywords)

    def add_layer_norm(self, *arguments: Any, **keywords: Any) -> None:
        self._alone("add_layer_norm", *arguments, **keywords)

    def _alone(self, operation: str, *arguments: Any, **keywords: Any) -> None:
        """What no other rank takes part in."""
        with self._calling(operation, keywords.get("stream")):
            getattr(self._node, operation)(*arguments, **keywords)

    def all_reduce_rms_norm(
        self,
        x: Any,
        residual: Any,
        weight: Any,
        eps: float,
        out: Any = None,
        residual_out: Any = None,
        **rest: Any,
    ) -> None:
        outputs = {"out": out, "residual_out": residual_out}
        self._reduced("all_reduce_rms_norm", "add_rms_norm", x, (residual, weight, eps), {**outputs, **rest})

    def all_reduce_layer_norm(
        self,
        x: Any,
        residual: Any,
        weight: Any,
        bias: Any,
        eps: float,
        out: Any = None,
        residual_out: Any = None,
        **rest: Any,
    ) -> None:
        outputs = {"out": out, "residual_out": residual_out}
        self._reduced(
            "all_reduce_layer_norm", "add_layer_norm", x, (residual, weight, bias, eps), {**outputs, **rest}
        )

    def _reduced(
        self, operation: str, alone: str, x: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        """The all-reduce, then the norm on this rank alone: the same bits as fused, by contract."""
        layout = keywords.pop("residual_layout", "replicated")
        if layout != "replicated":
            problem = f"residual_layout {layout!r}: a world over nodes can only do 'replicated'"
            raise self._arguments.refusal(operation, problem)
        address = address_of(x)
        rows = self._rows_of(x, operation) if address is None else self._rows_at(address, operation, keywords)
        summed, _ = self._array(rows, "x", operation, True, None, None)
        with self._calling(operation, keywords.get("stream")) as composition:
            composition.all_reduce(summed, summed, "sum", keywords.get("stream"))
            getattr(self._node, alone)(rows if address is None else rows.ctypes.data, *arguments, **keywords)

    def _rows_of(self, x: Any, operation: str) -> Array:
        """A copy of an array's rows."""
        try:
            found = strided_rows(x, "x", False, self.device.host_is_device)
        except InvalidArgument as error:
            raise self._arguments.refusal(operation, str(error)) from None
        address = int(ffi.cast("uintptr_t", found.address))
        return self._copied(
            address, found.tokens, found.hidden, found.stride, _DTYPES[found.dtype], operation
        )

    def _rows_at(self, address: int, operation: str, keywords: dict[str, Any]) -> Array:
        """A copy of the rows at an address; *keywords* then fit the copy."""
        strides = dict(keywords.get("row_strides") or {})
        try:
            tokens, hidden = (operator.index(extent) for extent in keywords["shape"])
            stride = operator.index(strides.pop("x", hidden))
            if not (0 <= tokens < 1 << 40 and 0 < hidden <= stride < 1 << 40):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            problem = f"x: the address {address:#x} needs shape=(tokens, hidden) and rows that do not overlap"
            raise self._arguments.refusal(operation, problem) from None
        keywords["row_strides"] = strides
        return self._copied(address, tokens, hidden, stride, keywords.get("dtype"), operation)

    def _copied(
        self, address: int, tokens: int, hidden: int, stride: int, dtype: Any, operation: str
    ) -> Array:
        count = (tokens - 1) * stride + hidden if tokens else 0
        elements, _ = self._array(address, "x", operation, False, count, dtype)
        rows = np.empty((tokens, hidden), elements.dtype)
        for token in range(tokens):
            rows[token] = elements[token * stride :][:hidden]
        return rows


def _view(buffer: Buffer) -> Array:
    """A buffer's elements, as a one-dimensional array in host memory."""
    dtype = _DTYPES[buffer.dtype]
    if not buffer.count:
        return np.empty(0, dtype)
    memory = ffi.buffer(ffi.cast("char *", buffer.address), buffer.count * dtype.itemsize)
    return np.frombuffer(memory, np.uint8).view(dtype)
