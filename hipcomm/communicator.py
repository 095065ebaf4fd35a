"""The communicator: one class, one method per collective.

A method checks its arguments and makes one call into the C core, which plans and launches.
"""

from __future__ import annotations

import functools
import logging
import os
import weakref
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from hipcomm.buffers.arrays import Buffer, address_buffer, foreign_buffer, numpy_buffer
from hipcomm.buffers.dtypes import CODES, NOT_IN_BUFFER_PROTOCOL, resolve
from hipcomm.calls import REDUCTIONS
from hipcomm.core import VOID_POINTER, error_of, ffi, lib
from hipcomm.errors import CallMismatch, Error, InvalidArgument, PeerDied, PeerTimeout, is_normal_exit
from hipcomm.join.session import Session
from hipcomm.memory.symmetric import SymmetricArray
from hipcomm.memory_methods import MemoryMethods
from hipcomm.movement import Movement
from hipcomm.plan import OPERATIONS, Plan, describe
from hipcomm.point_to_point import PointToPoint
from hipcomm.reductions import Reductions

log = logging.getLogger("hipcomm")

_CLOSE_PATIENCE = 10.0  # seconds; peers that are still busy keep this rank's memory mapped

_all_reduce = lib.hipcommAllReduce
_all_gather = lib.hipcommAllGather
_broadcast = lib.hipcommBroadcast
_ndarray = np.ndarray
_NULL = ffi.NULL
_from_buffer = functools.partial(ffi.from_buffer, require_writable=True)
_BUFFER_CODES = {dtype: code for dtype, code in CODES.items() if dtype not in NOT_IN_BUFFER_PROTOCOL}


class Communicator(Reductions, Movement, PointToPoint, MemoryMethods):
    """A group of ranks, one device each. Made by :func:`hipcomm.init`; a context manager.

    All ranks make the same calls in the same order, :meth:`send` and :meth:`recv` apart, which concern two
    ranks. A call enqueues its work on a stream and returns; on the CPU platform it has happened when it
    returns. Any call may be captured into a graph.

    Buffers are arrays (NumPy on the CPU platform, CuPy, ``__cuda_array_interface__``, DLPack) that are
    C-contiguous, or integer addresses with ``count=`` (elements) and ``dtype=``. They may have any
    alignment, and must stay alive until the stream has passed the call.

    A communicator is called by one thread at a time, whose current device is :attr:`device`
    (``comm.device.use()``, which :func:`hipcomm.init` has done in its thread). Only :meth:`abort` and
    :meth:`close` may come from another one while a call is under way. A forked child cannot use its parent's.

    Every collective takes ``stream=``: an integer handle, or an object with ``.ptr`` (CuPy) or
    ``__cuda_stream__``; None is the default stream.

    Every collective raises, besides :class:`InvalidArgument` (found before anything was launched):
    :class:`PeerTimeout` and :class:`PeerDied`, at the call or at a later one or at
    :meth:`synchronize`, whichever first notices; the communicator has then failed for good. With
    HIPCOMM_CHECK=1 the ranks compare operation, count, dtype, reduction and root of every call first, and
    raise :class:`CallMismatch` on all ranks, with both calls, where two of them differ.

    Attributes:
        rank: this process's rank, 0 to world_size - 1.
        world_size: the number of ranks.
        device: this rank's :class:`~hipcomm.hip.device.Device`.
        platform: "amd", "nvidia" or "cpu".
    """

    def __init__(self, session: Session) -> None:
        """Not for users: :func:`hipcomm.init` makes communicators."""
        self.rank = session.ranks.rank
        self.world_size = session.ranks.world_size
        self.device = session.device
        self.platform = session.platform.name
        self._session = session
        self._comm = session.handle()  # nothing else keeps one: close() waits until all are gone
        self._fast_dtypes = _BUFFER_CODES if session.device.host_is_device else {}
        self._gone = ""  # why no call can be made any more
        _communicators.add(self)
        if log.isEnabledFor(logging.DEBUG):
            self._log_calls()

    # ---- collectives -------------------------------------------------------------------------------

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
            raise InvalidArgument(
                self._say("all_reduce", f"op {op!r} is none of {', '.join(REDUCTIONS)}")
            ) from None
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
                    code = _all_reduce(source, target, sendbuf.size, dtype_code, op_code, self._comm, _NULL)
                    if code:
                        self._raise(code)
                    return
        recv = self._buffer(recvbuf, "recvbuf", "all_reduce", True, count, dtype)
        if recvbuf is sendbuf:
            send = recv
        else:
            send = self._buffer(sendbuf, "sendbuf", "all_reduce", False, count, dtype)
            if send.count != recv.count or send.dtype != recv.dtype:
                self._refuse_sizes("all_reduce", send, recv, 1)
        code = _all_reduce(  # not by _run: this one is called in decode loops
            send.address,
            recv.address,
            send.count,
            send.dtype,
            op_code,
            self._comm,
            ffi.NULL if stream is None else self._stream(stream, "all_reduce"),
        )
        if code:
            self._raise(code)

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
        send = self._buffer(sendbuf, "sendbuf", "all_gather", False, count, dtype)
        recv_count = None if count is None else int(count) * self.world_size
        recv = self._buffer(recvbuf, "recvbuf", "all_gather", True, recv_count, dtype)
        if send.count * self.world_size != recv.count or send.dtype != recv.dtype:
            self._refuse_sizes("all_gather", send, recv, self.world_size)
        self._run(
            _all_gather,
            "all_gather",
            stream,
            send.address,
            recv.address,
            send.count,
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
        root = self._root(root, "broadcast")
        buffer = self._buffer(buf, "buf", "broadcast", self.rank != root, count, dtype)
        self._run(
            _broadcast,
            "broadcast",
            stream,
            buffer.address,
            buffer.address,
            buffer.count,
            buffer.dtype,
            root,
        )

    def barrier(self, *, stream: Any = None) -> None:
        """No rank's stream passes this call before every rank's stream has come to it.

        Like every collective it is enqueued: the host does not wait (:meth:`synchronize` does).
        """
        self._run(lib.hipcommBarrier, "barrier", stream)

    def synchronize(self, *, stream: Any = None) -> None:
        """Make the host wait for the stream, and raise what went wrong on it.

        Raises:
            PeerTimeout, PeerDied: a collective on the stream failed.
            PlatformError: the stream failed.
        """
        self._run(lib.hipcommStreamSynchronize, "synchronize", stream)

    # ---- launch plans ------------------------------------------------------------------------------------

    def plan(
        self,
        operation: str,
        nbytes: int,
        dtype: Any = "float32",
        op: str = "sum",
        *,
        registered: bool = False,
    ) -> Plan:
        """How a call would be run: the same on all ranks, and no call is made.

        Args:
            operation: the method's name; "all_gather_rows" for :meth:`all_gather` along another dimension
                than the first, "all_to_all_v" with counts.
            nbytes: bytes of the message: of all elements (all_reduce, broadcast, reduce, send, recv), of one
                rank's part (reduce_scatter, all_gather, gather, scatter), of the largest part
                (all_gather_v), or of one pair's part (all_to_all).
            dtype: of the elements.
            op: of a reduction.
            registered: of buffers in symmetric or registered memory.

        Raises:
            InvalidArgument: there is no such operation, dtype or op.
        """
        if not isinstance(operation, str) or operation not in OPERATIONS:
            raise InvalidArgument(self._say("plan", f"{operation!r} is none of {', '.join(OPERATIONS)}"))
        if isinstance(nbytes, bool) or not isinstance(nbytes, (int, np.integer)) or not 0 <= nbytes < 1 << 56:
            raise InvalidArgument(self._say("plan", f"nbytes {nbytes!r} is not a number of bytes"))
        plan = ffi.new("hipcommPlan *")
        code = lib.hipcommCommPlan(
            self._comm,
            OPERATIONS[operation],
            int(nbytes),
            CODES[resolve(dtype)],
            self._op(op, "plan"),
            bool(registered),
            plan,
        )
        if code:
            self._raise(code)
        return describe(plan, int(nbytes), operation, self.world_size)

    def _log_calls(self) -> None:
        """Have the core log every call; for HIPCOMM_LOG=debug."""

        def write(_: Any, line: Any) -> None:
            log.debug("%s", ffi.string(line).decode(errors="replace"))

        self._log_function = ffi.callback("void(void *, const char *)", write)  # must outlive the calls
        lib.hipcommCommSetLog(self._comm, self._log_function, ffi.NULL)

    # ---- parts of the communicator ------------------------------------------------------------------------

    def split(self, color: int | None, key: int = 0) -> Communicator | None:
        """Make communicators of parts of this one's ranks. Collective.

        Each has slabs and epochs of its own, so that several can be in use at once, on streams of their
        own; on GPUs their kernels have to fit on the device side by side. It outlives this one, and fails
        when any rank of the job is lost, its own or not.

        Args:
            color: ranks of equal color come together; None: this rank is in no new communicator.
            key: orders the ranks in it; where keys are equal their order here does.

        Returns:
            The new communicator; None where *color* is None.

        Raises:
            InvalidArgument: color or key is not an integer of 64 bits.
            PlatformError: a HIP call failed on some rank.
        """
        for name, value in (("color", color), ("key", key)):
            is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if value is None and name == "color":
                continue
            if not is_integer or not -(1 << 63) <= int(value or 0) < 1 << 63:
                raise InvalidArgument(self._say("split", f"{name}={value!r} is not an integer of 64 bits"))
        part = self._living("split").split(None if color is None else int(color), int(key))
        return None if part is None else Communicator(part)

    # ---- what belongs to the platform ----------------------------------------------------------------

    @property
    def array_module(self) -> Any:
        """The array library for this platform's memory: numpy, or cupy on GPUs.

        Raises:
            ImportError: CuPy is needed and not installed.
        """
        if self.device.host_is_device:
            return np
        try:
            import cupy
        except ImportError as error:
            raise ImportError(
                "arrays on GPUs need CuPy: pip install 'hipcomm[cupy]' (AMD) or 'hipcomm[cupy-cuda]' (NVIDIA)"
            ) from error
        cupy.cuda.Device(self.device.ordinal).use()
        return cupy

    # ---- life ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave together: wait for the device, then for the peers, then free the memory.

        Collective, idempotent. After a failure it does not wait for anybody, and leaves this rank's
        slabs to the end of the process: a peer's kernel might still write to them.

        A collective that another thread has begun is waited for, as long as for the peers; if it does not
        end the communicator fails. Not so :meth:`split`, :meth:`empty` and what else waits on the host.

        Raises:
            RendezvousError: the peers did not come, or a call in another thread did not end.
        """
        if self._gone:
            return
        self._forget("the communicator is closed")
        self._session.close(_CLOSE_PATIENCE)

    def abort(self, reason: str) -> None:
        """Fail the communicator on all ranks, at once. Callable from any thread; never waits long."""
        if not self._gone:
            self._session.abort(reason)

    def _forget(self, why: str) -> None:
        """No call from now on: the core refuses what is NULL, and :meth:`_raise` says why."""
        self._gone = why
        self._comm = ffi.NULL

    def __enter__(self) -> Communicator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not is_normal_exit(error):
            # the others wait for calls that will not come; and close() must not hide the user's error
            self.abort(f"{type(error).__name__}: {error}")
        self.close()

    def __repr__(self) -> str:
        state = self._gone or f"{self.platform} device {self.device.ordinal} ({self.device.name})"
        return f"<hipcomm.Communicator rank {self.rank} of {self.world_size}, {state}>"

    def _living(self, operation: str) -> Session:
        if self._gone:
            raise InvalidArgument(self._say(operation, self._gone))
        return self._session

    # ---- arguments and errors ---------------------------------------------------------------------------

    def _buffer(self, obj: Any, name: str, operation: str, writable: bool, count: Any, dtype: Any) -> Buffer:
        try:
            if type(obj) is _ndarray and self.device.host_is_device and count is None and dtype is None:
                return numpy_buffer(obj, name, writable)
            if type(obj) is SymmetricArray and count is None and dtype is None:
                return obj.buffer
            if isinstance(obj, (int, np.integer)) and not isinstance(obj, bool):
                return address_buffer(int(obj), count, dtype, name)
            if count is not None or dtype is not None:
                raise InvalidArgument(
                    f"{name}: count= and dtype= go with an integer address, not with {type(obj).__name__}"
                )
            return foreign_buffer(obj, name, writable, self.device.host_is_device)
        except InvalidArgument as error:
            raise InvalidArgument(self._say(operation, str(error))) from None

    def _stream(self, stream: Any, operation: str) -> Any:
        try:
            return stream_handle(stream)
        except InvalidArgument as error:
            raise InvalidArgument(self._say(operation, str(error))) from None

    def _say(self, operation: str, problem: str) -> str:
        return f"rank {self.rank}: {operation}: {problem}"

    def _refuse_sizes(
        self, operation: str, send: Buffer, recv: Buffer, parts: int, whole: str = "recvbuf"
    ) -> NoReturn:
        """Say that *whole* is not *parts* times as long as the other buffer, or of another dtype."""
        expected = f"{parts} times " if parts > 1 else ""
        raise InvalidArgument(
            self._say(
                operation,
                f"sendbuf has {send.count} elements of dtype {_dtype_name(send)}, recvbuf {recv.count} of "
                f"{_dtype_name(recv)}; {whole} must have {expected}as many, of the same dtype",
            )
        )

    def _raise(self, code: int) -> NoReturn:
        if self._gone:
            # what went wrong in a call during which another thread closed is gone with the communicator
            kind = InvalidArgument if code == lib.hipcommInvalidArgument else Error
            raise kind(f"rank {self.rank}: {self._gone}")
        error = error_of(code, self._comm)
        if isinstance(error, (PeerTimeout, PeerDied, CallMismatch)):
            self._session.note_failure(str(error))
        elif lib.hipcommCommGetAsyncError(self._comm):  # a launch failed, which the peers wait for
            self._session.abort(str(error))
        raise error


_communicators: weakref.WeakSet[Communicator] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """The child has its parent's rank: what it enqueued would be taken for the parent's, with wrong sums."""
    for comm in list(_communicators):
        comm._forget("this is a forked child, and the communicator its parent's")


os.register_at_fork(after_in_child=_after_fork_in_child)


def _dtype_name(buffer: Buffer) -> str:
    name: str = next(dtype.name for dtype, code in CODES.items() if code == buffer.dtype)
    return name


def stream_handle(stream: Any) -> Any:
    """The hipStream_t of whatever a caller may pass as a stream, as a cffi pointer.

    Raises:
        InvalidArgument: it is not a stream.
    """
    if type(stream) is int and 0 <= stream < 1 << 64:  # the shortest way, as this is on every call's
        return ffi.cast(VOID_POINTER, stream)
    handle = getattr(stream, "ptr", stream)
    if hasattr(stream, "__cuda_stream__"):
        handle = stream.__cuda_stream__()[1]
    try:
        # int() also takes hip-python's stream objects; but what is text or a fraction is no handle
        value = -1 if isinstance(handle, (str, bytes, float, bool)) else int(handle)
    except (TypeError, ValueError):
        value = -1
    if not 0 <= value < 1 << 64:
        raise InvalidArgument(f"stream {stream!r} is neither a handle nor a stream object")
    return ffi.cast(VOID_POINTER, value)
