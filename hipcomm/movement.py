"""The collectives that move elements and change none: all_to_all, gather, scatter, all_gather_v."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hipcomm.calls import Calls
from hipcomm.core import lib
from hipcomm.errors import InvalidArgument


class Movement(Calls):
    """Methods of :class:`~hipcomm.communicator.Communicator`, whose documentation holds for them."""

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
        counts each pair of ranks has a count of its own, on which the two must agree; nobody else needs
        to know it.

        Args:
            sendbuf: world_size parts, in rank order.
            recvbuf: likewise; it must not overlap *sendbuf*.
            send_counts: elements for each rank; both counts or neither.
            recv_counts: elements from each rank.
            send_displacements: with counts, where each rank's part begins, in elements; None: one part
                stands behind the other.
            recv_displacements: likewise.
            count: without counts, elements of one part, where addresses are given.
            dtype: where addresses are given.
            stream: see the class.

        Raises:
            InvalidArgument: see the class; also when sizes, counts or dtypes do not fit.
        """
        if send_counts is not None or recv_counts is not None:
            if count is not None:
                raise InvalidArgument(
                    self._say("all_to_all", "count= goes with equal parts, not with counts")
                )
            self._all_to_all_v(
                sendbuf,
                recvbuf,
                self._counts(send_counts, send_displacements, "send_", "all_to_all"),
                self._counts(recv_counts, recv_displacements, "recv_", "all_to_all"),
                dtype,
                stream,
            )
            return
        if send_displacements is not None or recv_displacements is not None:
            raise InvalidArgument(self._say("all_to_all", "displacements need send_counts and recv_counts"))
        if (
            isinstance(count, bool)
            or not isinstance(count, (int, np.integer, type(None)))
            or (count or 0) < 0
        ):
            raise InvalidArgument(self._say("all_to_all", f"count {count!r} is not a number of elements"))
        total = None if count is None else int(count) * self.world_size
        send = self._buffer(sendbuf, "sendbuf", "all_to_all", False, total, dtype)
        recv = self._buffer(recvbuf, "recvbuf", "all_to_all", True, total, dtype)
        if send.count != recv.count or send.dtype != recv.dtype:
            self._refuse_sizes("all_to_all", send, recv, 1)
        self._divisible(send.count, "sendbuf", "all_to_all")
        self._run(
            lib.hipcommAllToAll,
            "all_to_all",
            stream,
            send.address,
            recv.address,
            send.count // self.world_size,
            send.dtype,
        )

    def _all_to_all_v(
        self,
        sendbuf: Any,
        recvbuf: Any,
        sent: tuple[list[int], Any, Any, int],
        received: tuple[list[int], Any, Any, int],
        dtype: Any,
        stream: Any,
    ) -> None:
        send = self._parts_buffer(sendbuf, "sendbuf", "all_to_all", False, sent[3], dtype)
        recv = self._parts_buffer(recvbuf, "recvbuf", "all_to_all", True, received[3], dtype)
        if send.dtype != recv.dtype:
            self._refuse_sizes("all_to_all", send, recv, 1)
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
        root = self._root(root, "gather")
        send = self._buffer(sendbuf, "sendbuf", "gather", False, count, dtype)
        recv = send
        if self.rank == root:
            total = None if count is None else int(count) * self.world_size
            recv = self._buffer(recvbuf, "recvbuf", "gather", True, total, dtype)
            if send.count * self.world_size != recv.count or send.dtype != recv.dtype:
                self._refuse_sizes("gather", send, recv, self.world_size)
        self._run(
            lib.hipcommGather,
            "gather",
            stream,
            send.address,
            recv.address,
            send.count,
            send.dtype,
            root,
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
        root = self._root(root, "scatter")
        recv = self._buffer(recvbuf, "recvbuf", "scatter", True, count, dtype)
        send = recv
        if self.rank == root:
            total = None if count is None else int(count) * self.world_size
            send = self._buffer(sendbuf, "sendbuf", "scatter", False, total, dtype)
            if recv.count * self.world_size != send.count or send.dtype != recv.dtype:
                self._refuse_sizes("scatter", send, recv, self.world_size, "sendbuf")
        self._run(
            lib.hipcommScatter,
            "scatter",
            stream,
            send.address,
            recv.address,
            recv.count,
            recv.dtype,
            root,
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
            displacements: where each part begins, in elements; None: one stands behind the other.
            dtype: where addresses are given.
            stream: see the class.

        Raises:
            InvalidArgument: see the class; also when sizes, counts or dtypes do not fit.
        """
        numbers, sizes, begins, extent = self._counts(counts, displacements, "", "all_gather_v")
        send = self._parts_buffer(sendbuf, "sendbuf", "all_gather_v", False, numbers[self.rank], dtype)
        recv = self._parts_buffer(recvbuf, "recvbuf", "all_gather_v", True, extent, dtype)
        if send.dtype != recv.dtype:
            self._refuse_sizes("all_gather_v", send, recv, 1)
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

    def _all_gather_along(self, sendbuf: Any, recvbuf: Any, dim: Any, stream: Any) -> None:
        """all_gather() along a dimension other than the first."""
        rows, row = self._rows(sendbuf, recvbuf, ("sendbuf", "recvbuf"), dim, "all_gather")
        send = self._buffer(sendbuf, "sendbuf", "all_gather", False, None, None)
        recv = self._buffer(recvbuf, "recvbuf", "all_gather", True, None, None)
        if send.count * self.world_size != recv.count or send.dtype != recv.dtype:
            self._refuse_sizes("all_gather", send, recv, self.world_size)
        self._run(
            lib.hipcommAllGatherRows,
            "all_gather",
            stream,
            send.address,
            recv.address,
            rows,
            row,
            send.dtype,
        )

    def _divisible(self, elements: int, name: str, operation: str) -> None:
        if elements % self.world_size:
            raise InvalidArgument(
                self._say(
                    operation, f"{name} has {elements} elements, not a multiple of {self.world_size} ranks"
                )
            )
