"""What a rank of a world over nodes does alone: memory for what is on its way, and kernels without peers.

All of it is enqueued on the stream of the call, on any platform, and can be captured.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hipcomm.buffers.dtypes import CODES
from hipcomm.communicator import Communicator
from hipcomm.core import VOID_POINTER, ffi, lib
from hipcomm.errors import InvalidArgument
from hipcomm.hip import call
from hipcomm.nodes.layout import Layout

SIZES = {code: dtype.itemsize for dtype, code in CODES.items()}
_OWN_ACCUMULATORS = {code for dtype, code in CODES.items() if dtype.kind in "iu" or dtype.itemsize >= 4}
_PACK: int = lib.HIPCOMM_PACK_BYTES
_LEAST_SCRATCH = 4096  # bytes


def accumulator(dtype: int) -> int:
    """The core's number of the type in which elements of *dtype* are combined."""
    return dtype if dtype in _OWN_ACCUMULATORS else int(lib.hipcommFloat32)


def inside(op: int) -> int:
    """The reduction within a node: an average is divided at the end."""
    return int(lib.hipcommSum) if op == lib.hipcommAvg else op


def padded(nbytes: int) -> int:
    """Bytes in whole packs, so that what follows is aligned."""
    return -(-nbytes // _PACK) * _PACK


def pointer(address: int) -> Any:
    """An address as the core takes it."""
    return ffi.cast(VOID_POINTER, address)


class Elements(NamedTuple):
    """What the elements of a reduction are, and how they are combined; the core's numbers.

    Attributes:
        dtype: of the elements.
        op: the reduction.
    """

    dtype: int
    op: int

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return SIZES[self.dtype]

    @property
    def wide(self) -> int:
        """The type of partial results."""
        return accumulator(self.dtype)

    @property
    def is_summed_wide(self) -> bool:
        """Whether a node's kernels reduce elements to another type; a maximum is widened before."""
        is_exact = self.op in (lib.hipcommMax, lib.hipcommMin)
        return self.wide != self.dtype and (not is_exact or self.size == 1)

    @property
    def wide_size(self) -> int:
        """Bytes of an element of a partial result."""
        return SIZES[self.wide]


class Partials(NamedTuple):
    """Where the nodes' partial results of some elements are.

    Attributes:
        own: address of this node's.
        base: of node 0's; there is a place for this node, too.
        stride: bytes from one node's to the next.
    """

    own: int
    base: int
    stride: int

    def of(self, node: int) -> int:
        """The address of another node's."""
        return self.base + node * self.stride


class Local:
    """Of one rank, on its node's communicator."""

    def __init__(self, node: Communicator, layout: Layout) -> None:
        """Of a rank whose node is *node* in the layout of the world."""
        self._node = node
        self._layout = layout
        self._memory: dict[str, tuple[Any, int]] = {}
        self._outgrown: list[Any] = []  # captured graphs may use it

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that are kept in use."""
        return sum(nbytes for _, nbytes in self._memory.values())

    def scratch(self, name: str, nbytes: int, stream: Any) -> int:
        """The address of memory of arbitrary contents; the same for the same name, unless it has to grow.

        Raises:
            InvalidArgument: it has to grow during a capture.
            PlatformError: there is no memory left.
        """
        memory, size = self._memory.get(name, (None, 0))
        if size < nbytes:
            if is_capturing(stream):
                raise InvalidArgument(
                    f"rank {self._layout.rank}: a world over nodes needs {nbytes} bytes more for this call: "
                    "make it once, with as many elements, before it is captured"
                )
            if memory is not None:
                self._outgrown.append(memory)
            size = max(padded(nbytes), _LEAST_SCRATCH)
            memory = call("hipMalloc", size)
            self._memory[name] = (memory, size)
        return int(memory.as_c_void_p().value)

    def free(self) -> None:
        """Free all memory. Nothing that uses it may be running."""
        for memory in [memory for memory, _ in self._memory.values()] + self._outgrown:
            call("hipFree", memory)
        self._memory.clear()
        self._outgrown.clear()

    def run(self, function: Any, *arguments: Any, stream: Any) -> None:
        """Call a function of the core on the node's communicator. Raises what it reports."""
        code = function(self._node._comm, *arguments, stream)
        if code:
            self._node._raise(code)

    def widen(self, send: int, recv: int, count: int, dtype: int, stream: Any) -> None:
        """Elements into the type that they accumulate in."""
        self.run(lib.hipcommCommWiden, pointer(send), pointer(recv), count, dtype, stream=stream)

    def finish(self, partials: Partials, recv: int, count: int, elements: Elements, stream: Any) -> None:
        """Combine the nodes' partial results in node order, divide an average, and round once."""
        struct = ffi.new("hipcommPartials *")
        struct.own, struct.partials = pointer(partials.own), pointer(partials.base)
        struct.stride, struct.divisor = partials.stride, self._layout.world_size
        struct.nodes, struct.node = self._layout.num_nodes, self._layout.node
        dtype, op = elements
        self.run(lib.hipcommCommFinish, struct, pointer(recv), count, dtype, op, stream=stream)

    def copy(self, send: int, recv: int, nbytes: int, stream: Any) -> None:
        """Copy bytes, unless they are there already."""
        if send != recv:
            self.copy_rows((send, nbytes), (recv, nbytes), nbytes, 1, stream)

    def copy_rows(
        self, send: tuple[int, int], recv: tuple[int, int], nbytes: int, rows: int, stream: Any
    ) -> None:
        """Copy *rows* rows of *nbytes* bytes; *send* and *recv*: an address, and the bytes between rows."""
        self.run(
            lib.hipcommCommCopyRows, pointer(send[0]), send[1], pointer(recv[0]), recv[1], nbytes, rows,
            stream=stream,
        )  # fmt: skip


def is_capturing(stream: Any) -> bool:
    """Whether a stream, a cffi pointer, is being captured into a graph."""
    handle = int(ffi.cast("uintptr_t", stream))
    return bool(handle) and int(call("hipStreamIsCapturing", handle)) != 0
