"""RMSNorm of q and k whose rows lie across the ranks: attention whose heads are split.

docs/numbers.md has the formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hipcomm.buffers.rows import Rows
from hipcomm.core import VOID_POINTER, ffi, lib
from hipcomm.norms import Addresses, Norms, dtype_name

OPERATION = "all_reduce_qk_norm"


class QkNorm(Norms):
    """The one method."""

    def all_reduce_qk_norm(
        self,
        q: Any,
        k: Any,
        q_weight: Any,
        k_weight: Any,
        eps: float,
        q_out: Any,
        k_out: Any,
        *,
        v: Any = None,
        v_out: Any = None,
        shape: tuple[int, ...] | None = None,
        dtype: Any = None,
        weight_dtype: Any = None,
        row_strides: Mapping[str, int] | None = None,
        stream: Any = None,
    ) -> None:
        """Apply RMSNorm to the rows of q and of k, of which every rank has a part; copy v.

        A whole row of q is the ranks' rows one after the other, and so is its weight; likewise k. The ranks
        exchange a row's two sums of squares, added in rank order, and each norms its own part:
        ``q_out = q / sqrt(sum(q * q) / (q_hidden * world_size) + eps) * q_weight``. In a world of one it is
        :meth:`add_rms_norm` of q and of k. 16 bytes a row go to each peer, whatever the width.

        Args:
            q: this rank's part of the rows: (tokens, q_hidden), float16, bfloat16 or float32. q_hidden is
                1 to 65536 and the same on all ranks. Rows may be further apart than they are long, and begin
                at any address: columns of one array of q, k and v.
            k: (tokens, k_hidden), likewise.
            q_weight: q_hidden elements, this rank's part, of q's dtype or float32; None: ones.
            k_weight: k_hidden elements, likewise.
            eps: finite and at least 0; rounded to float32.
            q_out: receives the norm of q; may be *q*, the very same rows. None: not written.
            k_out: the same of k. One of the two is written.
            v: (tokens, any width), of q's dtype, copied to *v_out*; other ranks' may be of another width.
            v_out: may be *v*; None without *v*.
            shape: of addresses: (tokens, q_hidden, k_hidden), and with *v* its width.
            dtype: of addresses: of all rows.
            weight_dtype: of a weight's address, where it is not *dtype*.
            row_strides: of addresses: elements from a row to the next, by argument's name.
            stream: see the communicator; the call may be captured.

        Raises:
            InvalidArgument: shapes or dtypes do not fit, outputs overlap something else, or what is asked for
                cannot be done; before anything was launched.
            PeerTimeout, PeerDied, CallMismatch: as every collective.
        """
        strides = dict(row_strides or {})
        widths = self._widths(shape, v is not None)
        norm = ffi.new("hipcommQkNorm *")
        norm.size = ffi.sizeof("hipcommQkNorm")
        kept: list[Any] = []  # what the addresses belong to lives until the call is over
        tokens = None
        for number, (name, rows_in, rows_out, weight) in enumerate(
            (("q", q, q_out, q_weight), ("k", k, k_out, k_weight), ("v", v, v_out, None))
        ):
            if rows_in is None and rows_out is None and name == "v":
                continue
            where = Addresses(widths[number], dtype, weight_dtype, strides)
            rows = self._norm_rows(rows_in, name, OPERATION, False, where, tokens)
            if number == 0:
                norm.tokens, norm.dtype, tokens = rows.tokens, rows.dtype, rows.tokens
                like = rows
            self._must_be(name, rows, like._replace(hidden=rows.hidden), "q")
            setattr(norm, f"{name}_hidden", rows.hidden)
            self._place(norm, name, rows)
            kept.append(rows)
            if rows_out is not None:
                made = self._norm_rows(rows_out, f"{name}_out", OPERATION, True, where, tokens)
                self._must_be(f"{name}_out", made, rows, name)
                self._place(norm, f"{name}_out", made)
                kept.append(made)
            if weight is not None:
                buffer = self._parameters(weight, f"{name}_weight", OPERATION, rows, where)
                kept.append(buffer)
                setattr(norm, f"{name}_weight", ffi.cast(VOID_POINTER, buffer.address))
                setattr(norm, f"{name}_weight_dtype", buffer.dtype)
        if strides:
            unused = ", ".join(map(str, strides))
            raise self._arguments.refusal(
                OPERATION, f"row_strides of {unused}: they go with addresses of rows"
            )
        norm.eps = self._number(eps, "eps", OPERATION)
        handle = ffi.NULL if stream is None else self._arguments.stream(stream, OPERATION)
        code = lib.hipcommAllReduceQkNorm(norm, self._comm, handle)
        if code:
            self._raise(code)

    def _widths(self, shape: Any, has_v: bool) -> list[Any]:
        """(tokens, width) of q, k and v; None where no shape was given."""
        if shape is None:
            return [None, None, None]
        if not isinstance(shape, (tuple, list)) or len(shape) != 3 + has_v:
            wanted = "(tokens, q_hidden, k_hidden, v_hidden)" if has_v else "(tokens, q_hidden, k_hidden)"
            raise self._arguments.refusal(OPERATION, f"shape {shape!r} is not {wanted}")
        return [(shape[0], width) for width in shape[1:]] + [None] * (not has_v)

    def _must_be(self, name: str, rows: Rows, wanted: Rows, of: str) -> None:
        """Raise InvalidArgument where *rows* are not as many, as long and of the dtype of *wanted*."""
        if (rows.tokens, rows.hidden, rows.dtype) != (wanted.tokens, wanted.hidden, wanted.dtype):
            problem = (
                f"{name} has {rows.tokens} rows of {rows.hidden} {dtype_name(rows.dtype)}, "
                f"{of} {wanted.tokens} of {wanted.hidden} {dtype_name(wanted.dtype)}"
            )
            raise self._arguments.refusal(OPERATION, problem)

    @staticmethod
    def _place(norm: Any, name: str, rows: Rows) -> None:
        setattr(norm, name, rows.address)
        setattr(norm, f"{name}_stride", rows.stride)
