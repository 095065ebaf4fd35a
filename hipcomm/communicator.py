"""The communicator: :class:`~hipcomm.collectives.Collectives`, and everything else that it can do and be.

Parts of it, memory that all ranks reach, launch plans, and its end.
"""

from __future__ import annotations

import logging
import operator
import sys
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from hipcomm.buffers.dtypes import CODES, resolve
from hipcomm.buffers.reader import address_of
from hipcomm.core import VOID_POINTER, error_of, ffi, lib
from hipcomm.errors import InvalidArgument, is_normal_exit
from hipcomm.forking import belongs_to_this_process
from hipcomm.join.session import Session
from hipcomm.memory.symmetric import SymmetricArray
from hipcomm.plan import OPERATIONS, Plan, describe
from hipcomm.qk_norm import QkNorm
from hipcomm.quantised import described

log = logging.getLogger("hipcomm")

_CLOSE_PATIENCE = 10.0  # seconds; peers that are still busy keep this rank's memory mapped


class Communicator(QkNorm):
    """A group of ranks, one device each. Made by :func:`hipcomm.init`; a context manager.

    All ranks make the same calls in the same order, except :meth:`send` and :meth:`recv`, which concern two
    ranks. A call enqueues its work on a stream and returns; on the CPU platform it has happened when it
    returns. Any call may be captured into a graph.

    Buffers are arrays of any library (docs/arrays.md has the list) that are C-contiguous, or addresses
    (integers, pointers of ctypes and cffi) with ``count=`` (elements) and ``dtype=``. all_reduce, reduce and
    broadcast take dense arrays in any memory order (transposed ones, for example) that is the same on all
    ranks. Buffers may have any alignment, and must stay alive until the stream has passed the call.

    A communicator is called by one thread at a time. Its calls are made on :attr:`device`, whatever device is
    current in the thread, and leave that as it was. Only :meth:`abort` and :meth:`close` may come from
    another thread while a call is under way. A forked child cannot use its parent's.

    Every collective takes ``stream=``: an integer handle, or an object with ``.ptr`` (CuPy) or
    ``__cuda_stream__``; None is the default stream.

    Every collective raises, besides :class:`InvalidArgument` (found before anything was launched):
    :class:`PeerTimeout` and :class:`PeerDied`, at the call or at a later one or at
    :meth:`synchronize`, whichever first notices; the communicator has then failed for good. With
    HIPCOMM_CHECK=1 the ranks compare operation, count, dtype, reduction and root of every call first, and
    raise :class:`CallMismatch` on all ranks, with both calls, where two of them differ.

    *Messages*. The n-th message that a rank sends to another is what that one's n-th :meth:`recv` from it
    gets. No other rank takes part, and messages keep no order with those of other pairs. Stream order holds
    as ever: a call waits for the calls before it on its stream, collectives included. A short message
    (``comm.plan("send", nbytes).algorithm == "one_shot"``) is sent without waiting for its recv if fewer than
    8 earlier messages to that rank are still to be received. Any other send may wait for its recv, or for
    those of earlier messages: two ranks that both send a long message and receive afterwards wait for each
    other until the time-out. One of them has to receive first, or both do so in a :meth:`group`. A captured
    send or recv takes the number of its message when it runs.

    *Memory*. :meth:`empty`, :meth:`register`, :meth:`deregister`, :meth:`SymmetricArray.free`, :meth:`split`
    and :meth:`close` are collective and wait for the other ranks on the host: they belong neither on the path
    of every call nor into a graph capture, and no collective of this communicator may be under way in
    another thread.

    Attributes:
        rank: this process's rank, 0 to world_size - 1.
        world_size: the number of ranks.
        device: this rank's :class:`~hipcomm.hip.device.Device`.
        platform: one of ``hipcomm.environment.PLATFORMS``, except "auto".
        node: which of the communicator's nodes this rank is on, 0 to num_nodes - 1.
        num_nodes: the number of nodes; more than one: docs/nodes.md.
        local_rank: this rank's number among those of its node.
    """

    def __init__(self, session: Session) -> None:
        """Not for users: :func:`hipcomm.init` makes communicators."""
        super().__init__(session)
        self.device = session.device
        self.platform = session.platform.name
        self.node, self.num_nodes, self.local_rank = 0, 1, self.rank
        belongs_to_this_process(self)
        if log.isEnabledFor(logging.DEBUG):
            self._log_calls()

    def synchronize(self, *, stream: Any = None) -> None:
        """Make the host wait for the stream, and raise what went wrong on it.

        Raises:
            PeerTimeout, PeerDied: a collective on the stream failed.
            PlatformError: the stream failed.
        """
        self._run(lib.hipcommStreamSynchronize, "synchronize", stream)

    # ---- launch plans --------------------------------------------------------------------------------------

    def plan(
        self,
        operation: str,
        nbytes: int,
        dtype: Any = "float32",
        op: str = "sum",
        *,
        registered: bool = False,
        hidden: int = 0,
        residual_layout: str = "replicated",
        out: bool = True,
        format: str | None = None,
        group: int | None = None,
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
            hidden: elements of a row, of norms; *nbytes* are those of all rows of x. Of all_reduce_qk_norm
                those of q and k together.
            residual_layout: of norms: "replicated" or "sharded".
            out: of norms: whether *out* is written.
            format: of norms: that of a quantised output, as in :class:`hipcomm.Quantised`.
            group: of norms: likewise.

        Raises:
            InvalidArgument: there is no such operation, dtype, op or row; or such a call would be refused.
        """
        if not isinstance(operation, str) or operation not in OPERATIONS:
            raise self._arguments.refusal("plan", f"{operation!r} is none of {', '.join(OPERATIONS)}")
        if isinstance(nbytes, bool) or not isinstance(nbytes, (int, np.integer)) or not 0 <= nbytes < 1 << 64:
            raise self._arguments.refusal("plan", f"nbytes {nbytes!r} is not a number of bytes")
        plan = ffi.new("hipcommPlan *")
        number, element = OPERATIONS[operation], resolve(dtype)
        if operation.endswith(("_norm", "_tokens")):
            tokens = self._tokens(int(nbytes), hidden, element.itemsize, operation)
            norm = self._norm_to_plan(
                tokens, int(hidden), CODES[element], residual_layout, out, format, group
            )
            code = lib.hipcommCommPlanNorm(self._comm, number, norm[0], plan)
        else:
            op_code = self._arguments.op(op, "plan")
            code = lib.hipcommCommPlan(
                self._comm, number, int(nbytes), CODES[element], op_code, bool(registered), plan
            )
        if code:
            self._raise(code)
        return describe(plan, int(nbytes), operation, self.world_size)

    def _norm_to_plan(
        self,
        tokens: int,
        hidden: int,
        dtype: int,
        layout: str,
        out: bool,
        format: str | None,
        group: int | None,
    ) -> tuple[Any, Any]:
        """Return a ``hipcommNorm *`` that says what the plan depends on, and what it points to."""
        norm = ffi.new("hipcommNorm *")
        norm.tokens, norm.hidden, norm.dtype = tokens, hidden, dtype
        norm.sharded = self._is_sharded(layout, "plan")
        norm.out = ffi.cast(VOID_POINTER, int(bool(out)))
        norm.residual_out = ffi.cast(VOID_POINTER, 1)
        if format is None:
            return norm, None
        quantised = described(format, group, self._arguments, "plan")
        norm.quantised = quantised
        return norm, quantised

    def _tokens(self, nbytes: int, hidden: Any, itemsize: int, operation: str) -> int:
        """How many rows *nbytes* are. Raises InvalidArgument."""
        is_integer = isinstance(hidden, (int, np.integer)) and not isinstance(hidden, bool)
        most = lib.HIPCOMM_MAX_HIDDEN * (2 if operation == "all_reduce_qk_norm" else 1)
        if not is_integer or not 0 < hidden <= most or nbytes % (int(hidden) * itemsize):
            problem = f"{operation}: {nbytes} bytes are not rows of hidden={hidden!r} elements"
            raise self._arguments.refusal("plan", problem)
        return nbytes // (int(hidden) * itemsize)

    def _log_calls(self) -> None:
        """Have the core log every call; for HIPCOMM_LOG=debug."""

        def write(_: Any, line: Any) -> None:
            log.debug("%s", ffi.string(line).decode(errors="replace"))

        self._log_function = ffi.callback("void(void *, const char *)", write)  # must outlive the calls
        lib.hipcommCommSetLog(self._comm, self._log_function, ffi.NULL)

    # ---- parts of the communicator -------------------------------------------------------------------------

    def split(self, color: int | None, key: int = 0) -> Communicator | None:
        """Make communicators of parts of this one's ranks. Collective.

        Each has its own slabs and epochs, so that several can be in use at once, on different
        streams; on GPUs their kernels have to fit on the device side by side. It outlives this one, and fails
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
                raise self._arguments.refusal("split", f"{name} {value!r} is not an integer of 64 bits")
        part = self._living("split").split(None if color is None else int(color), int(key))
        return None if part is None else Communicator(part)

    def split_by_node(self) -> Communicator:
        """Make a communicator of this node's ranks, in rank order. Collective; as :meth:`split`."""
        part = self.split(self.node)
        assert part is not None
        return part

    # ---- memory that all ranks reach -----------------------------------------------------------------------

    def empty(self, shape: int | Sequence[int], dtype: Any = "float32") -> SymmetricArray:
        """Make an array in symmetric memory, which collectives work on in place, copying nothing in or out.

        Collective. The contents are arbitrary.

        Args:
            shape: the extents, or one.
            dtype: as for the collectives.

        Raises:
            InvalidArgument: an argument is wrong on some rank, or the sizes in bytes differ (on all ranks).
            PlatformError: some rank has no memory left (on all ranks).
        """
        return self._living("empty").heap.allocate(shape, dtype)

    def device_memory(self) -> int:
        """Return the bytes of device memory that this rank has allocated, symmetric memory included."""
        session = self._living("device_memory")
        return session.memory_bytes + session.heap.nbytes

    def register(self, buf: Any, nbytes: int | None = None) -> None:
        """Let collectives work in place on memory that hipcomm has not allocated.

        Collective; the same number of bytes on every rank. Every call whose buffers lie in registered
        memory, at any offset, then copies nothing; all ranks have to use registered memory for such a
        call, or none. The memory must not be freed before it is deregistered.

        Args:
            buf: an array, or the address of device memory; it need not be the beginning of an allocation.
            nbytes: bytes, with an address.

        Raises:
            InvalidArgument: on all ranks: the memory of some rank cannot be shared (the message says why),
                is registered in part already, or the sizes differ.
        """
        registrations = self._living("register").registrations
        registrations.add(*self._memory_of(buf, nbytes, "register"))

    def deregister(self, buf: Any) -> None:
        """Undo :meth:`register`. Collective. It waits for this rank's device; the memory may then be freed.

        Args:
            buf: the array that was registered, or its address.

        Raises:
            InvalidArgument: on all ranks: it is not registered on some rank, or the ranks name different
                memory.
        """
        registrations = self._living("deregister").registrations
        nbytes = None if address_of(buf) is None else 0
        address, _, problem = self._memory_of(buf, nbytes, "deregister")
        registrations.remove(address, problem)

    def _memory_of(self, buf: Any, nbytes: Any, operation: str) -> tuple[int, int, str]:
        """Address and bytes of an array, or as given; and what is wrong with them, for all ranks to hear."""
        try:
            if nbytes is not None:
                address = address_of(buf)
                return operator.index(buf) if address is None else address, operator.index(nbytes), ""
            buffer = self._arguments.buffer(buf, "buf", operation, False, None, None)
        except InvalidArgument as error:
            return 0, 0, str(error)
        except TypeError as error:
            problem = f"buf {buf!r} of {nbytes!r} bytes: {error}"
            return 0, 0, str(self._arguments.refusal(operation, problem))
        itemsize = next(known.itemsize for known, code in CODES.items() if code == buffer.dtype)
        return int(ffi.cast("uintptr_t", buffer.address)), buffer.count * itemsize, ""

    def cupy_allocator(self, nbytes: int) -> Any:
        """Allocate symmetric memory for CuPy: ``cupy.cuda.set_allocator(comm.cupy_allocator)``.

        Collective by contract: while it is set, all ranks make the same CuPy allocations in the same
        order. Each waits for the others; ``cupy.cuda.MemoryPool(comm.cupy_allocator).malloc`` asks less
        often, and arrays inside its blocks are symmetric too. Memory that CuPy lets go is used again once
        all ranks have let it go.

        Args:
            nbytes: bytes.

        Returns:
            A ``cupy.cuda.MemoryPointer``.
        """
        import cupy

        memory = self.empty(nbytes, np.uint8)
        unowned = cupy.cuda.UnownedMemory(memory.data_ptr, nbytes, memory, self.device.ordinal)
        return cupy.cuda.MemoryPointer(unowned, 0)

    # ---- what belongs to the platform ----------------------------------------------------------------------

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

    # ---- life ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave together: wait for the device, then for the peers, then free the memory.

        Collective, idempotent. After a failure it does not wait for other ranks, and leaves this rank's
        slabs to the end of the process: a peer's kernel might still write to them.

        A collective that another thread has begun is waited for, as long as for the peers; if it does not
        end the communicator fails. Not so :meth:`split`, :meth:`empty` and what else waits on the host.

        Raises:
            RendezvousError: the peers did not come, or a call in another thread did not end.
        """
        if self._gone:
            return
        failure = lib.hipcommCommGetAsyncError(self._comm)
        if failure:  # perhaps in a call by the handle, of which nobody here has heard
            self._session.note_failure(error_of(failure, self._comm))
        self._forget("the communicator is closed")
        self._session.close(_CLOSE_PATIENCE)

    def abort(self, reason: str | BaseException) -> None:
        """Fail the communicator on all ranks, at once. Callable from any thread; never waits long.

        Args:
            reason: what the other ranks are told: a text, or the exception that has ended this rank's work.
        """
        if not self._gone:
            self._session.abort(reason)

    @property
    def handle(self) -> int:
        """The ``hipcommComm_t`` of the C library (hipcomm.h), for calls from ctypes, cffi or an extension.

        It is valid until :meth:`close`, and lent: the caller must not destroy it. Calls by it count as calls
        of this rank, and follow the rules of the class. :meth:`close` does not wait for those that another
        thread has begun. A call after :meth:`close` returns hipcommInvalidArgument, as does any with a handle
        that is none. A forked child must not use its parent's.

        Raises:
            InvalidArgument: the communicator is closed.
        """
        self._living("handle")
        return int(ffi.cast("uintptr_t", self._comm))

    def _forget(self, why: str) -> None:
        """No call from now on: the core refuses what is NULL, and :meth:`_raise` says why."""
        self._gone = why
        self._comm = ffi.NULL

    def _let_go_in_child(self) -> None:
        """What a child enqueued as its parent's rank would be taken for the parent's, with wrong sums."""
        self._forget("this is a forked child, and the communicator its parent's")

    def __del__(self) -> None:
        """Nothing is freed: a captured graph, or a library that was lent the handle, may go on using it."""
        if not getattr(self, "_gone", "it was never made") and not sys.is_finalizing():
            message = f"{self!r} was dropped without close(): its memory and descriptors stay"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)

    def __enter__(self) -> Communicator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not is_normal_exit(error):
            # the others wait for calls that will not come; and close() must not hide the user's error
            self.abort(error)
        self.close()

    def __repr__(self) -> str:
        state = self._gone or f"{self.platform} device {self.device.ordinal} ({self.device.name})"
        return f"<hipcomm.Communicator rank {self.rank} of {self.world_size}, {state}>"

    def _living(self, operation: str) -> Session:
        if self._gone:
            raise self._arguments.refusal(operation, self._gone)
        return self._session
