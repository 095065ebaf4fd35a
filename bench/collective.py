"""The workload of a collective operation: messages of some sizes, in place or not."""

from __future__ import annotations

from hipcomm_bench.clock import Prepared
from hipcomm_bench.contestants.base import Contestant, Library, Unsupported, how
from hipcomm_bench.data import count_wrong, fill, lay_out
from hipcomm_bench.memory import Memory, allocate, dtype_of
from hipcomm_bench.ops import OPS, Call, bandwidths
from hipcomm_bench.results import Options
from hipcomm_bench.session import Session
from hipcomm_bench.subjects import Subject


class CollectiveTask:
    """One collective on one size. See hipcomm_bench.task."""

    def __init__(self, call: Call, subject: Subject, session: Session, memory: tuple[Memory, Memory]) -> None:
        self._call, self._world = call, session.world
        self._buffers = lay_out(call, subject.size, session.world.rank, session.world.size, memory)
        itemsize = dtype_of(call.dtype).itemsize
        self.count = max(call.op.elements(subject.size, itemsize, session.world.size))
        self._nbytes = self.count * itemsize

    def prepare(self, library: Library) -> Prepared:
        """Return the library's call."""
        assert isinstance(library, Contestant)
        if self._call.in_place and not self._call.op.has_in_place:
            raise Unsupported(f"there is no {how(self._call)}")
        if self._call.in_place and self._call.rows > 1:
            raise Unsupported(f"there is no {how(self._call)} along another dimension than the first")
        if self._call.rows > 1 and not library.any_dimension:
            raise Unsupported("it puts parts together along the first dimension only")
        return library.prepare(self._call, self._buffers)

    def fill(self, library: Library | None) -> None:
        """Write the input, the same for all libraries."""
        fill(self._buffers, self._call, self._world.rank, self._world.size)

    def count_wrong(self, library: Library) -> int:
        """Return how many elements differ in any bit."""
        return count_wrong(self._buffers, self._call, self._world.rank, self._world.size)

    def bandwidths(self, library: Library, seconds: float) -> tuple[float, float]:
        """Return those of the whole message."""
        return bandwidths(self._call.op, self._nbytes, seconds, self._world.size)


class Collectives:
    """Two allocations, to send from and to receive into, as large as the largest message."""

    def __init__(self, options: Options, session: Session) -> None:
        self._options, self._session = options, session
        self._memory = allocate(session.device, session.largest), allocate(session.device, session.largest)

    def task(self, subject: Subject, in_place: bool) -> CollectiveTask:
        """Return the call on a subject."""
        options = self._options
        kind = OPS[options.op], options.dtype, options.redop, in_place, options.root
        call = Call(*kind, shape=subject.shape, dim=options.dim)
        return CollectiveTask(call, subject, self._session, self._memory)

    def free(self) -> None:
        """Give the buffers back."""
        for memory in self._memory:
            memory.free()
