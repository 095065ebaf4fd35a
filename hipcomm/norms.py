"""Residual addition and norms over rows, alone or fused with the all-reduce.

docs/numbers.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hipcomm.buffers import Buffer
from hipcomm.buffers.reader import address_of
from hipcomm.buffers.rows import Rows, strided_rows
from hipcomm.collectives import Collectives
from hipcomm.core import VOID_POINTER, ffi, lib
from hipcomm.errors import InvalidArgument


class _Addresses(NamedTuple):
    """What goes with addresses in place of arrays."""

    shape: Any
    dtype: Any
    weight_dtype: Any
    row_strides: dict[Any, Any]


class Norms(Collectives):
    """The family's methods.

    What they share: all arrays of rows are (tokens, hidden), of x's dtype, which is float16, bfloat16 or
    float32. Elements of a row are next to each other; rows may be further apart, and may begin at any
    address. hidden is 1 to 65536, tokens any number from 0 up. None as an output means that it is not
    written; at least one is. An output may be *x* or *residual*, the very same rows; otherwise it overlaps
    nothing.

    Instead of arrays all may be integer addresses, with ``shape=(tokens, hidden)`` and ``dtype=``;
    ``row_strides={"x": elements, ...}`` names those whose rows are further apart than *hidden*, and
    ``weight_dtype=`` is that of weight and bias, where it is not *dtype*.

    The calls are enqueued on ``stream=`` and may be captured, like every collective.
    """

    def add_rms_norm(
        self,
        x: Any,
        residual: Any,
        weight: Any,
        eps: float,
        out: Any = None,
        residual_out: Any = None,
        *,
        weight_offset: float = 0.0,
        quantised: Any = None,
        shape: tuple[int, int] | None = None,
        dtype: Any = None,
        weight_dtype: Any = None,
        row_strides: Mapping[str, int] | None = None,
        stream: Any = None,
    ) -> None:
        """Add the residual and apply RMSNorm, on this rank alone; no other rank takes part.

        ``v = x + residual``, rounded to x's dtype; ``residual_out = v``;
        ``out = v / sqrt(mean(v * v) + eps) * (weight + weight_offset)``. docs/numbers.md says in which order,
        and where it is rounded. It is what :meth:`all_reduce_rms_norm` does after the sum.

        Args:
            x: the rows.
            residual: rows to be added; None: nothing is added.
            weight: *hidden* elements, of x's dtype or float32; None: ones.
            eps: finite and at least 0; rounded to float32.
            out: receives the norm; may be *x*.
            residual_out: receives v; may be *residual*.
            weight_offset: added to the weight in float32; 1.0 is Gemma's variant.
            quantised: not implemented yet: None.
            shape: of addresses: (tokens, hidden).
            dtype: of addresses: of all rows.
            weight_dtype: of a weight's address, where it is not *dtype*.
            row_strides: of addresses: elements from a row to the next, by argument's name.
            stream: see the communicator.

        Raises:
            InvalidArgument: shapes or dtypes do not fit, outputs overlap something else, or what is asked for
                cannot be done; before anything was launched.
        """
        self._norm(
            lib.hipcommAddRmsNorm,
            "add_rms_norm",
            {"x": x, "residual": residual, "out": out, "residual_out": residual_out},
            {"weight": weight},
            {"eps": eps, "weight_offset": weight_offset},
            (quantised, "replicated"),
            _Addresses(shape, dtype, weight_dtype, dict(row_strides or {})),
            stream,
        )

    def add_layer_norm(
        self,
        x: Any,
        residual: Any,
        weight: Any,
        bias: Any,
        eps: float,
        out: Any = None,
        residual_out: Any = None,
        *,
        weight_offset: float = 0.0,
        quantised: Any = None,
        shape: tuple[int, int] | None = None,
        dtype: Any = None,
        weight_dtype: Any = None,
        row_strides: Mapping[str, int] | None = None,
        stream: Any = None,
    ) -> None:
        """Add the residual and apply LayerNorm, on this rank alone; no other rank takes part.

        As :meth:`add_rms_norm`, but ``d = v - mean(v)`` and
        ``out = d / sqrt(mean(d * d) + eps) * (weight + weight_offset) + bias``.

        Args:
            x: see :meth:`add_rms_norm`, as for all that is not explained here.
            residual: as there.
            weight: as there.
            bias: *hidden* elements, of x's dtype or float32; None: nothing is added.
            eps: as there.
            out: as there.
            residual_out: as there.
            weight_offset: as there.
            quantised: as there.
            shape: as there.
            dtype: as there.
            weight_dtype: of a weight's and a bias's address, where it is not *dtype*.
            row_strides: as there.
            stream: as there.

        Raises:
            InvalidArgument: as there.
        """
        self._norm(
            lib.hipcommAddLayerNorm,
            "add_layer_norm",
            {"x": x, "residual": residual, "out": out, "residual_out": residual_out},
            {"weight": weight, "bias": bias},
            {"eps": eps, "weight_offset": weight_offset},
            (quantised, "replicated"),
            _Addresses(shape, dtype, weight_dtype, dict(row_strides or {})),
            stream,
        )

    def all_reduce_rms_norm(
        self,
        x: Any,
        residual: Any,
        weight: Any,
        eps: float,
        out: Any = None,
        residual_out: Any = None,
        *,
        weight_offset: float = 0.0,
        quantised: Any = None,
        residual_layout: str = "replicated",
        shape: tuple[int, int] | None = None,
        dtype: Any = None,
        weight_dtype: Any = None,
        row_strides: Mapping[str, int] | None = None,
        stream: Any = None,
    ) -> None:
        """Sum x over all ranks, add the residual and apply RMSNorm; every rank receives the results.

        The bits are those of :meth:`all_reduce` followed by :meth:`add_rms_norm`, for every algorithm, world
        and number of tokens. Without a residual *residual_out* receives the rounded sum. Everything but x's
        elements must be the same on all ranks.

        Args:
            x: this rank's rows. See :meth:`add_rms_norm` for all that is not explained here.
            residual: as there.
            weight: as there.
            eps: as there.
            out: as there.
            residual_out: as there.
            weight_offset: as there.
            quantised: as there.
            residual_layout: "replicated"; "sharded" is not implemented yet.
            shape: as there.
            dtype: as there.
            weight_dtype: as there.
            row_strides: as there.
            stream: as there.

        Raises:
            InvalidArgument: as there; also where the staging slab is too small for a row of each rank.
            PeerTimeout, PeerDied, CallMismatch: as every collective.
        """
        self._norm(
            lib.hipcommAllReduceRmsNorm,
            "all_reduce_rms_norm",
            {"x": x, "residual": residual, "out": out, "residual_out": residual_out},
            {"weight": weight},
            {"eps": eps, "weight_offset": weight_offset},
            (quantised, residual_layout),
            _Addresses(shape, dtype, weight_dtype, dict(row_strides or {})),
            stream,
        )

    def all_reduce_layer_norm(
        self,
        x: Any,
        residual: Any,
        weight: Any,
        bias: Any,
        eps: float,
        out: Any = None,
        residual_out: Any = None,
        *,
        weight_offset: float = 0.0,
        quantised: Any = None,
        residual_layout: str = "replicated",
        shape: tuple[int, int] | None = None,
        dtype: Any = None,
        weight_dtype: Any = None,
        row_strides: Mapping[str, int] | None = None,
        stream: Any = None,
    ) -> None:
        """Sum x over all ranks, add the residual and apply LayerNorm; every rank receives the results.

        Args:
            x: see :meth:`all_reduce_rms_norm`, as for all that is not explained here.
            residual: as there.
            weight: as there.
            bias: see :meth:`add_layer_norm`.
            eps: as there.
            out: as there.
            residual_out: as there.
            weight_offset: as there.
            quantised: as there.
            residual_layout: as there.
            shape: as there.
            dtype: as there.
            weight_dtype: as there.
            row_strides: as there.
            stream: as there.

        Raises:
            InvalidArgument: as there.
            PeerTimeout, PeerDied, CallMismatch: as every collective.
        """
        self._norm(
            lib.hipcommAllReduceLayerNorm,
            "all_reduce_layer_norm",
            {"x": x, "residual": residual, "out": out, "residual_out": residual_out},
            {"weight": weight, "bias": bias},
            {"eps": eps, "weight_offset": weight_offset},
            (quantised, residual_layout),
            _Addresses(shape, dtype, weight_dtype, dict(row_strides or {})),
            stream,
        )

    # ---- what they share ---------------------------------------------------------------------------------

    def _norm(
        self,
        function: Any,
        operation: str,
        arrays: dict[str, Any],
        parameters: dict[str, Any],
        numbers: dict[str, Any],
        asked: tuple[Any, str],
        addresses: _Addresses,
        stream: Any,
    ) -> None:
        """Fill in hipcommNorm and call. *asked*: for quantised outputs, and which layout of the residual."""
        self._refuse_unfinished(operation, *asked)
        norm = ffi.new("hipcommNorm *")
        norm.size = ffi.sizeof("hipcommNorm")
        rows = self._norm_rows(arrays["x"], "x", operation, False, addresses)
        norm.tokens, norm.hidden, norm.dtype = rows.tokens, rows.hidden, rows.dtype
        kept: list[Any] = []  # what the addresses belong to lives until the call is over
        for name, obj in arrays.items():
            if obj is None and name != "x":
                continue
            others = rows if name == "x" else self._like(rows, obj, name, operation, addresses)
            kept.append(others)
            setattr(norm, name, others.address)
            setattr(norm, f"{name}_stride", others.stride)
        if addresses.row_strides:
            unused = ", ".join(map(str, addresses.row_strides))
            problem = f"row_strides of {unused}: they go with addresses of rows"
            raise self._arguments.refusal(operation, problem)
        for name, obj in parameters.items():
            if obj is None:
                continue
            buffer = self._parameters(obj, name, operation, rows, addresses)
            kept.append(buffer)
            setattr(norm, name, ffi.cast(VOID_POINTER, buffer.address))
            setattr(norm, f"{name}_dtype", buffer.dtype)
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise self._arguments.refusal(operation, f"{name} {value!r} is not a number")
            setattr(norm, name, float(value))
        handle = ffi.NULL if stream is None else self._arguments.stream(stream, operation)
        code = function(norm, self._comm, handle)
        if code:
            self._raise(code)

    def _refuse_unfinished(self, operation: str, quantised: Any, layout: str) -> None:
        if quantised is not None:
            raise self._arguments.refusal(operation, "quantised outputs are not implemented yet")
        if layout != "replicated":
            what = "is not implemented yet" if layout == "sharded" else "is none of replicated, sharded"
            raise self._arguments.refusal(operation, f"residual_layout {layout!r} {what}")

    def _norm_rows(self, obj: Any, name: str, operation: str, writable: bool, addresses: _Addresses) -> Rows:
        address = address_of(obj)
        if address is not None:
            return self._address_rows(address, name, operation, addresses)
        if addresses.shape is not None or addresses.dtype is not None:
            problem = f"{name}: shape= and dtype= go with an integer address, not with {type(obj).__name__}"
            raise self._arguments.refusal(operation, problem)
        try:
            return strided_rows(obj, name, writable, self._session.device.host_is_device)
        except InvalidArgument as error:
            raise self._arguments.refusal(operation, str(error)) from None

    def _address_rows(self, address: int, name: str, operation: str, addresses: _Addresses) -> Rows:
        try:
            tokens, hidden = (int(extent) for extent in addresses.shape)
            fits = 0 <= tokens < 1 << 56 and 0 <= hidden < 1 << 56 and addresses.dtype is not None
        except (TypeError, ValueError):
            fits = False
        if not fits:
            problem = (
                f"{name}: the address {address:#x} needs shape=(tokens, hidden) and dtype=; "
                f"they are {addresses.shape!r} and {addresses.dtype!r}"
            )
            raise self._arguments.refusal(operation, problem)
        stride = addresses.row_strides.pop(name, hidden)
        if isinstance(stride, bool) or not isinstance(stride, (int, np.integer)) or not 0 <= stride < 1 << 56:
            raise self._arguments.refusal(operation, f"{name}: rows cannot lie {stride!r} elements apart")
        buffer = self._arguments.buffer(address, name, operation, False, tokens * hidden, addresses.dtype)
        return Rows(buffer.address, tokens, hidden, int(stride), buffer.dtype)

    def _like(self, rows: Rows, obj: Any, name: str, operation: str, addresses: _Addresses) -> Rows:
        """Return the rows of *obj*, which must be as many, as long and of the same dtype as x's."""
        other = self._norm_rows(obj, name, operation, name != "residual", addresses)
        if (other.tokens, other.hidden, other.dtype) != (rows.tokens, rows.hidden, rows.dtype):
            problem = (
                f"{name} has {other.tokens} rows of {other.hidden} {_dtype_name(other.dtype)}, "
                f"x {rows.tokens} of {rows.hidden} {_dtype_name(rows.dtype)}"
            )
            raise self._arguments.refusal(operation, problem)
        return other

    def _parameters(self, obj: Any, name: str, operation: str, rows: Rows, addresses: _Addresses) -> Buffer:
        """Return the buffer of a weight or a bias, which must be as long as a row."""
        if address_of(obj) is not None:
            dtype = addresses.dtype if addresses.weight_dtype is None else addresses.weight_dtype
            return self._arguments.buffer(obj, name, operation, False, rows.hidden, dtype)
        buffer = self._arguments.buffer(obj, name, operation, False, None, None)
        if buffer.count != rows.hidden:
            raise self._arguments.refusal(
                operation, f"{name} has {buffer.count} elements, a row {rows.hidden}"
            )
        return buffer


def _dtype_name(code: int) -> str:
    return str(ffi.string(lib.hipcommDataTypeName(code)).decode())
