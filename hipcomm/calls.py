"""What the families of collectives share: checks of arguments that are not about one buffer alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from hipcomm.core import ffi, lib, numbers
from hipcomm.errors import InvalidArgument

if TYPE_CHECKING:
    from hipcomm.buffers.arrays import Buffer

# Names of the reductions, and the core's numbers for them.
REDUCTIONS = numbers(lib.hipcommRedOpName, lib.hipcommNumRedOps)


class Calls:
    """Base of the families. :class:`~hipcomm.communicator.Communicator` has the rest of what they need."""

    rank: int
    world_size: int
    _comm: Any

    if TYPE_CHECKING:

        def _buffer(
            self, obj: Any, name: str, operation: str, writable: bool, count: Any, dtype: Any
        ) -> Buffer: ...
        def _stream(self, stream: Any, operation: str) -> Any: ...
        def _say(self, operation: str, problem: str) -> str: ...
        def _refuse_sizes(
            self, operation: str, send: Buffer, recv: Buffer, parts: int, whole: str = "recvbuf"
        ) -> NoReturn: ...
        def _raise(self, code: int) -> NoReturn: ...

    def _run(self, function: Any, operation: str, stream: Any, *arguments: Any) -> None:
        """Call a function of the C core, which takes communicator and stream last. Raises what it reports."""
        handle = ffi.NULL if stream is None else self._stream(stream, operation)
        code = function(*arguments, self._comm, handle)
        if code:
            self._raise(code)

    def _root(self, root: Any, operation: str) -> int:
        """*root* as a rank. Raises InvalidArgument."""
        if (
            isinstance(root, bool)
            or not isinstance(root, (int, np.integer))
            or not 0 <= root < self.world_size
        ):
            raise InvalidArgument(
                self._say(operation, f"root {root!r} is not in a world of {self.world_size}")
            )
        return int(root)

    def _op(self, op: Any, operation: str) -> int:
        """Return the core's number of a reduction. Raises InvalidArgument."""
        try:
            return REDUCTIONS[op]
        except (KeyError, TypeError):
            raise InvalidArgument(
                self._say(operation, f"op {op!r} is none of {', '.join(REDUCTIONS)}")
            ) from None

    def _rows(
        self, part: Any, whole: Any, names: tuple[str, str], dim: Any, operation: str
    ) -> tuple[int, int]:
        """How one rank's *part* lies in the *whole* array, which is *world_size* times as long along *dim*.

        Returns:
            Rows, and elements of one row of the part.

        Raises:
            InvalidArgument: there is no such dimension, or the shapes do not fit.
        """
        shape, whole_shape = getattr(part, "shape", None), getattr(whole, "shape", None)
        if shape is None or whole_shape is None:
            raise InvalidArgument(self._say(operation, f"dim {dim!r} needs arrays that have a shape"))
        is_integer = isinstance(dim, (int, np.integer)) and not isinstance(dim, bool)
        if not is_integer or not -len(shape) <= dim < len(shape):
            raise InvalidArgument(
                self._say(operation, f"dim {dim!r}: {names[0]} has shape {tuple(shape)}, no such dimension")
            )
        axis = int(dim) % len(shape)
        expected = (*shape[:axis], shape[axis] * self.world_size, *shape[axis + 1 :])
        if tuple(whole_shape) != expected:
            raise InvalidArgument(
                self._say(
                    operation,
                    f"{names[0]} has shape {tuple(shape)}, {names[1]} {tuple(whole_shape)}; along dimension "
                    f"{dim} in a world of {self.world_size} it must have {expected}",
                )
            )
        return math.prod(shape[:axis]), math.prod(shape[axis:])

    def _counts(
        self, counts: Any, displacements: Any, name: str, operation: str
    ) -> tuple[list[int], Any, Any, int]:
        """One count per rank, and where the parts begin.

        Returns:
            The counts, the core's arrays of counts and of displacements, and the elements that a buffer must
            have to hold all parts.

        Raises:
            InvalidArgument: these are not *world_size* counts.
        """
        numbers = self._numbers(counts, f"{name}counts", operation)
        if displacements is None:
            ends = list(np.cumsum(numbers, dtype=object)) if numbers else [0]
            return numbers, ffi.new("size_t[]", numbers), ffi.NULL, int(ends[-1])
        begins = self._numbers(displacements, f"{name}displacements", operation)
        extent = max((b + n for b, n in zip(begins, numbers, strict=True) if n), default=0)
        return numbers, ffi.new("size_t[]", numbers), ffi.new("size_t[]", begins), extent

    def _numbers(self, values: Any, name: str, operation: str) -> list[int]:
        try:
            numbers = [int(value) for value in values]
            exact = all(not isinstance(v, bool) and v == n for v, n in zip(values, numbers, strict=True))
        except (TypeError, ValueError, OverflowError):  # the last: of an infinity
            exact, numbers = False, []
        if not exact or len(numbers) != self.world_size or any(not 0 <= n < 1 << 64 for n in numbers):
            raise InvalidArgument(
                self._say(operation, f"{name} {values!r} are not {self.world_size} numbers of elements")
            )
        return numbers

    def _parts_buffer(
        self, obj: Any, name: str, operation: str, writable: bool, extent: int, dtype: Any
    ) -> Buffer:
        """Return the buffer of *obj*, which must have *extent* elements at least. Raises InvalidArgument."""
        is_address = isinstance(obj, (int, np.integer)) and not isinstance(obj, bool)
        buffer = self._buffer(obj, name, operation, writable, extent if is_address else None, dtype)
        if buffer.count < extent:
            raise InvalidArgument(
                self._say(operation, f"{name} has {buffer.count} elements; the counts need {extent}")
            )
        return buffer
