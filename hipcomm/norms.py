"""Residual addition and norms over rows, alone or fused with the all-reduce.

docs/numbers.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hipcomm.buffers import Buffer
from hipcomm.buffers.reader import address_of
from hipcomm.buffers.rows import Rows, quick_rows, strided_rows
from hipcomm.collectives import Collectives
from hipcomm.core import ffi, lib
from hipcomm.errors import InvalidArgument
from hipcomm.quantised import QuantisedArgument

_NORM_BYTES = ffi.sizeof("hipcommNorm")


class Addresses(NamedTuple):
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
    written; at least one is, or *quantised*. An output may be *x* or *residual*, the very same rows;
    otherwise it overlaps nothing.

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
            quantised: a :class:`hipcomm.Quantised`, which receives the norm in another format, whether *out*
                is written or not. It overlaps nothing. None: nothing is quantised.
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
            (x, residual, out, residual_out),
            (weight, None),
            (eps, weight_offset),
            (quantised, "replicated"),
            (shape, dtype, weight_dtype, row_strides),
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
            (x, residual, out, residual_out),
            (weight, bias),
            (eps, weight_offset),
            (quantised, "replicated"),
            (shape, dtype, weight_dtype, row_strides),
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
            residual_layout: "replicated"; or "sharded": *residual* and *residual_out* are only the rows that
                this rank owns (:meth:`own_rows`), and *out* and *quantised* are gathered to all ranks. Then
                quantised rows travel as their codes and scales, and nothing else does that is not asked for.
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
            (x, residual, out, residual_out),
            (weight, None),
            (eps, weight_offset),
            (quantised, residual_layout),
            (shape, dtype, weight_dtype, row_strides),
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
            (x, residual, out, residual_out),
            (weight, bias),
            (eps, weight_offset),
            (quantised, residual_layout),
            (shape, dtype, weight_dtype, row_strides),
            stream,
        )

    def own_rows(self, tokens: int) -> range:
        """Return the rows that this rank owns of *tokens*, where rows have owners.

        They are contiguous; the first ``tokens % world_size`` ranks have one row more than the others.

        Raises:
            InvalidArgument: *tokens* is not a number of rows.
        """
        if isinstance(tokens, bool) or not isinstance(tokens, (int, np.integer)) or not 0 <= tokens < 1 << 56:
            raise self._arguments.refusal("own_rows", f"tokens {tokens!r} is not a number of rows")
        own = ffi.new("size_t[2]")
        if lib.hipcommOwnRows(self._comm, int(tokens), own, own + 1):
            self._raise(lib.hipcommInvalidArgument)
        return range(own[0], own[0] + own[1])

    def reduce_scatter_rms_norm(
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
        """Sum x over all ranks; of the rows that this rank owns, add the residual and apply RMSNorm.

        The bits are those of :meth:`all_reduce_rms_norm`; :meth:`all_gather_tokens` gathers the results.

        Args:
            x: this rank's rows, of all owners. See :meth:`add_rms_norm` for all that is not explained here.
            residual: the rows that this rank owns (:meth:`own_rows`), as *out* and *residual_out* are.
            weight: as there.
            eps: as there.
            out: may be this rank's own rows of *x*.
            residual_out: may be *residual*, or as *out*.
            weight_offset: as there.
            quantised: of the rows that this rank owns: scales lie as of those alone.
            shape: of addresses: (tokens, hidden) of *x*.
            dtype: as there.
            weight_dtype: as there.
            row_strides: as there.
            stream: as there.

        Raises:
            InvalidArgument: as there; also where the staging slab is too small for a row of each rank.
            PeerTimeout, PeerDied, CallMismatch: as every collective.
        """
        self._norm(
            lib.hipcommReduceScatterRmsNorm,
            "reduce_scatter_rms_norm",
            (x, residual, out, residual_out),
            (weight, None),
            (eps, weight_offset),
            (quantised, "replicated"),
            (shape, dtype, weight_dtype, row_strides),
            stream,
        )

    def reduce_scatter_layer_norm(
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
        """Sum x over all ranks; of the rows that this rank owns, add the residual and apply LayerNorm.

        Args:
            x: see :meth:`reduce_scatter_rms_norm`, as for all that is not explained here.
            residual: as there.
            weight: as there.
            bias: see :meth:`add_layer_norm`.
            eps: as there.
            out: as there.
            residual_out: as there.
            weight_offset: as there.
            quantised: as there.
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
            lib.hipcommReduceScatterLayerNorm,
            "reduce_scatter_layer_norm",
            (x, residual, out, residual_out),
            (weight, bias),
            (eps, weight_offset),
            (quantised, "replicated"),
            (shape, dtype, weight_dtype, row_strides),
            stream,
        )

    def all_gather_tokens(
        self,
        part: Any = None,
        whole: Any = None,
        *,
        quantised_part: Any = None,
        quantised: Any = None,
        shape: tuple[int, int] | None = None,
        dtype: Any = None,
        row_strides: Mapping[str, int] | None = None,
        stream: Any = None,
    ) -> None:
        """Gather rows that have owners: in x's dtype, quantised, or both in one launch.

        After :meth:`reduce_scatter_rms_norm` with the same outputs: the two are the
        :meth:`all_reduce_rms_norm` whose residual is sharded, bit for bit.

        Args:
            part: the rows that this rank owns (:meth:`own_rows`); may be those rows of *whole*. None, with
                *whole*: only what is quantised is gathered.
            whole: (tokens, hidden): receives the rows of all ranks.
            quantised_part: a :class:`hipcomm.Quantised` of the rows that this rank owns, with their scales as
                of those alone.
            quantised: receives those of all ranks, in the same format; the layout of the scales may be
                another. Given scales and global ones are not moved.
            shape: (tokens, hidden) of all rows: with addresses, and where *whole* is None.
            dtype: of addresses: of *part* and *whole*.
            row_strides: of addresses: elements from a row to the next, by argument's name.
            stream: see the communicator.

        Raises:
            InvalidArgument: shapes, dtypes or formats do not fit, or the staging slab is too small.
            PeerTimeout, PeerDied, CallMismatch: as every collective.
        """
        operation = "all_gather_tokens"
        tokens = ffi.new("hipcommTokens *")
        tokens.size = ffi.sizeof("hipcommTokens")
        if whole is None and shape is None:
            raise self._arguments.refusal(operation, "without whole, shape=(tokens, hidden) is needed")
        addresses = Addresses(shape, "float32" if whole is None else dtype, None, dict(row_strides or {}))
        rows = self._norm_rows(0 if whole is None else whole, "whole", operation, True, addresses, None)
        tokens.tokens, tokens.hidden, tokens.dtype = rows.tokens, rows.hidden, rows.dtype
        own = rows._replace(tokens=len(self.own_rows(rows.tokens)))
        kept: list[Any] = [rows]  # what the addresses belong to lives until the call is over
        if whole is not None:
            tokens.whole, tokens.whole_stride = rows.address, rows.stride
        if part is not None:
            kept.append(self._like(own, part, "part", operation, addresses))
            tokens.part, tokens.part_stride = kept[-1].address, kept[-1].stride
        for name, obj, of in (("quantised_part", quantised_part, own), ("quantised", quantised, rows)):
            if obj is None:
                continue
            kept.append(QuantisedArgument(obj, of, self._arguments, operation))
            setattr(tokens, name, kept[-1].struct)
        handle = ffi.NULL if stream is None else self._arguments.stream(stream, operation)
        code = lib.hipcommAllGatherTokens(tokens, self._comm, handle)
        if code:
            self._raise(code)

    # ---- what they share ---------------------------------------------------------------------------------

    def _norm(
        self,
        function: Any,
        operation: str,
        arrays: tuple[Any, Any, Any, Any],
        parameters: tuple[Any, Any],
        numbers: tuple[Any, Any],
        asked: tuple[Any, str],
        of_addresses: tuple[Any, Any, Any, Mapping[str, int] | None],
        stream: Any,
    ) -> None:
        """Fill in hipcommNorm and call.

        *arrays*: x, residual, out, residual_out. *parameters*: weight, bias. *numbers*: eps, weight_offset.
        *asked*: for quantised outputs, and which layout of the residual. Spelt out, as every call comes here:
        loops over names took 1.4 times as long.
        """
        x, residual, out, residual_out = arrays
        weight, bias = parameters
        quantised, layout = asked
        shape, dtype, weight_dtype, row_strides = of_addresses
        addresses = Addresses(shape, dtype, weight_dtype, dict(row_strides) if row_strides else {})
        norm = ffi.new("hipcommNorm *")
        norm.size = _NORM_BYTES
        norm.sharded = sharded = layout != "replicated" and self._is_sharded(layout, operation)
        scatters = operation.startswith("reduce_scatter")
        rows = self._norm_rows(x, "x", operation, False, addresses, None)
        norm.x, norm.x_stride = rows.address, rows.stride
        norm.tokens, norm.hidden, norm.dtype = rows.tokens, rows.hidden, rows.dtype
        own = rows._replace(tokens=len(self.own_rows(rows.tokens))) if scatters or sharded else rows
        kept: list[Any] = [rows]  # what the addresses belong to lives until the call is over
        if residual is not None:
            others = self._like(own, residual, "residual", operation, addresses)
            norm.residual, norm.residual_stride = others.address, others.stride
            kept.append(others)
        if out is not None:
            others = self._like(own if scatters else rows, out, "out", operation, addresses)
            norm.out, norm.out_stride = others.address, others.stride
            kept.append(others)
        if residual_out is not None:
            others = self._like(own, residual_out, "residual_out", operation, addresses)
            norm.residual_out, norm.residual_out_stride = others.address, others.stride
            kept.append(others)
        if addresses.row_strides:
            unused = ", ".join(map(str, addresses.row_strides))
            problem = f"row_strides of {unused}: they go with addresses of rows"
            raise self._arguments.refusal(operation, problem)
        if quantised is not None:
            made = QuantisedArgument(quantised, own if scatters else rows, self._arguments, operation)
            norm.quantised = made.struct
            kept.append(made)
        if weight is not None:
            buffer = self._parameters(weight, "weight", operation, rows, addresses)
            norm.weight, norm.weight_dtype = buffer.address, buffer.dtype
            kept.append(buffer)
        if bias is not None:
            buffer = self._parameters(bias, "bias", operation, rows, addresses)
            norm.bias, norm.bias_dtype = buffer.address, buffer.dtype
            kept.append(buffer)
        eps, weight_offset = numbers
        norm.eps = self._number(eps, "eps", operation)
        norm.weight_offset = self._number(weight_offset, "weight_offset", operation)
        self._run(function, operation, stream, norm)

    def _number(self, value: Any, name: str, operation: str) -> float:
        if type(value) is float:
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise self._arguments.refusal(operation, f"{name} {value!r} is not a number")
        return float(value)

    def _is_sharded(self, layout: str, operation: str) -> bool:
        if layout not in ("replicated", "sharded"):
            problem = f"residual_layout {layout!r} is none of replicated, sharded"
            raise self._arguments.refusal(operation, problem)
        return layout == "sharded"

    def _norm_rows(
        self, obj: Any, name: str, operation: str, writable: bool, addresses: Addresses, tokens: int | None
    ) -> Rows:
        """Return the rows of *obj*; at an address they are *tokens*, or as many as *addresses* says."""
        host_is_device = self._arguments.host_is_device
        if addresses.shape is addresses.dtype is None:
            found = quick_rows(obj, writable, host_is_device)
            if found is not None:
                return found
        address = address_of(obj)
        if address is not None:
            return self._address_rows(address, name, operation, addresses, tokens)
        if addresses.shape is not None or addresses.dtype is not None:
            problem = f"{name}: shape= and dtype= go with an integer address, not with {type(obj).__name__}"
            raise self._arguments.refusal(operation, problem)
        try:
            return strided_rows(obj, name, writable, host_is_device)
        except InvalidArgument as error:
            raise self._arguments.refusal(operation, str(error)) from None

    def _address_rows(
        self, address: int, name: str, operation: str, addresses: Addresses, tokens: int | None
    ) -> Rows:
        try:
            given, hidden = (int(extent) for extent in addresses.shape)
            fits = 0 <= given < 1 << 56 and 0 <= hidden < 1 << 56 and addresses.dtype is not None
        except (TypeError, ValueError):
            fits = False
        if not fits:
            problem = (
                f"{name}: the address {address:#x} needs shape=(tokens, hidden) and dtype=; "
                f"they are {addresses.shape!r} and {addresses.dtype!r}"
            )
            raise self._arguments.refusal(operation, problem)
        count = given if tokens is None else tokens
        stride = addresses.row_strides.pop(name, hidden)
        if isinstance(stride, bool) or not isinstance(stride, (int, np.integer)) or not 0 <= stride < 1 << 56:
            raise self._arguments.refusal(operation, f"{name}: rows cannot lie {stride!r} elements apart")
        buffer = self._arguments.buffer(address, name, operation, False, count * hidden, addresses.dtype)
        return Rows(buffer.address, count, hidden, int(stride), buffer.dtype)

    def _like(self, rows: Rows, obj: Any, name: str, operation: str, addresses: Addresses) -> Rows:
        """Return the rows of *obj*, which must be as many and as long as *rows*, and of their dtype."""
        writable = name not in ("residual", "part")
        other = self._norm_rows(obj, name, operation, writable, addresses, rows.tokens)
        if (other.tokens, other.hidden, other.dtype) != (rows.tokens, rows.hidden, rows.dtype):
            problem = (
                f"{name} has {other.tokens} rows of {other.hidden} {dtype_name(other.dtype)}, "
                f"x {rows.tokens} of {rows.hidden} {dtype_name(rows.dtype)}"
            )
            raise self._arguments.refusal(operation, problem)
        return other

    def _parameters(self, obj: Any, name: str, operation: str, rows: Rows, addresses: Addresses) -> Buffer:
        """Return the buffer of a weight or a bias, which must be as long as a row."""
        if addresses.dtype is not None and address_of(obj) is not None:
            dtype = addresses.dtype if addresses.weight_dtype is None else addresses.weight_dtype
            return self._arguments.buffer(obj, name, operation, False, rows.hidden, dtype)
        buffer = self._arguments.buffer(obj, name, operation, False, None, None)
        if buffer.count != rows.hidden:
            raise self._arguments.refusal(
                operation, f"{name} has {buffer.count} elements, a row {rows.hidden}"
            )
        return buffer


def dtype_name(code: int) -> str:
    """The core's name of a dtype, by its number."""
    return str(ffi.string(lib.hipcommDataTypeName(code)).decode())
