"""The reductions whose result not every rank receives: reduce_scatter and reduce."""

from __future__ import annotations

from typing import Any

from hipcomm.calls import Calls
from hipcomm.core import lib


class Reductions(Calls):
    """Methods of :class:`~hipcomm.communicator.Communicator`, whose documentation holds for them."""

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
        op_code = self._op(op, "reduce_scatter")
        rows = 1
        if dim != 0 or dim is False:
            rows, row = self._rows(recvbuf, sendbuf, ("recvbuf", "sendbuf"), dim, "reduce_scatter")
        recv = self._buffer(recvbuf, "recvbuf", "reduce_scatter", True, count, dtype)
        send_count = None if count is None else int(count) * self.world_size
        send = self._buffer(sendbuf, "sendbuf", "reduce_scatter", False, send_count, dtype)
        if recv.count * self.world_size != send.count or send.dtype != recv.dtype:
            self._refuse_sizes("reduce_scatter", send, recv, self.world_size, "sendbuf")
        self._run(
            lib.hipcommReduceScatterRows,
            "reduce_scatter",
            stream,
            send.address,
            recv.address,
            rows,
            recv.count if rows == 1 else row,
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
        op_code = self._op(op, "reduce")
        root = self._root(root, "reduce")
        is_root = self.rank == root
        in_place = not is_root or recvbuf is None or recvbuf is sendbuf
        send = self._buffer(sendbuf, "sendbuf", "reduce", is_root and in_place, count, dtype)
        recv = send if in_place else self._buffer(recvbuf, "recvbuf", "reduce", True, count, dtype)
        if send.count != recv.count or send.dtype != recv.dtype:
            self._refuse_sizes("reduce", send, recv, 1)
        self._run(
            lib.hipcommReduce,
            "reduce",
            stream,
            send.address,
            recv.address,
            send.count,
            send.dtype,
            op_code,
            root,
        )
