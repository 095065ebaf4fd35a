"""Quantised outputs of norms: what a caller says of them, and what the core gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hipcomm.arguments import Arguments
from hipcomm.buffers.dtypes import CODES, resolve
from hipcomm.buffers.reader import address_of
from hipcomm.buffers.rows import Rows, strided_rows
from hipcomm.core import VOID_POINTER, ffi, lib, numbers
from hipcomm.errors import InvalidArgument

FORMATS = numbers(lib.hipcommFormatName, lib.hipcommNumFormats)
LAYOUTS = numbers(lib.hipcommScaleLayoutName, lib.hipcommNumScaleLayouts)


@dataclass(frozen=True)
class Quantised:
    """A quantised output of a norm: where its codes and scales go, and in which format.

    docs/numbers.md has the formulas, and where every code and scale lies. Formats:

    - ``"fp8_given_scale"``: *scales* is one float32 in device memory, which is read.
    - ``"fp8_per_token"``: a float32 scale for each row.
    - ``"fp8_per_group"``: a float32 scale for each *group* of 32, 64, 128, 256 or 512 elements of a row,
      *layout* ``"row_major"`` or ``"column_major"``.
    - ``"fp8_per_group_e8m0"``: likewise, with e8m0 scales packed four to a word, column-major, as DeepGEMM
      reads them.
    - ``"mxfp4"``: groups of 32, e8m0 scales.
    - ``"nvfp4"``: groups of 16, e4m3fn scales, *layout* ``"row_major"`` or ``"swizzled"``, and a float32
      *global_scale* in device memory, which is read.

    Attributes:
        codes: fp8: (tokens, hidden) elements of ``float8_e4m3fn`` or ``float8_e4m3fnuz``: the dtype decides;
            4 bits: (tokens, ceil(hidden / 2)) of ``uint8``. Rows may be further apart. Or an address.
        scales: as many elements as there are scales, with the padding that the layout has; column-major ones
            may be an array of (groups, stride) with a stride of more than *tokens*. float32, but words of
            ``int32`` or ``uint32`` of packed ones, ``uint8`` of mxfp4 and nvfp4, or their ml_dtypes. Or an
            address.
        format: see above.
        group: elements that share a scale, of formats where that can be chosen.
        layout: of the scales; None: the format's first.
        global_scale: an array of one float32, or an address.
        dtype: of fp8 codes at an address: ``"float8_e4m3fn"`` or ``"float8_e4m3fnuz"``.
        codes_stride: of codes at an address: bytes from a row to the next; None: there are no gaps.
        scales_stride: of column-major scales at an address: elements from a column to the next; None:
            *tokens*.
    """

    codes: Any
    scales: Any
    format: str
    group: int | None = None
    layout: str | None = None
    global_scale: Any = None
    dtype: Any = None
    codes_stride: int | None = None
    scales_stride: int | None = None


_SCALE_DTYPES = {
    "fp8_per_group_e8m0": ("int32", "uint32"),
    "mxfp4": ("uint8", "float8_e8m0fnu"),
    "nvfp4": ("uint8", "float8_e4m3fn"),
}


def _is_integer(obj: Any) -> bool:
    return isinstance(obj, (int, np.integer)) and not isinstance(obj, bool)


def described(format: Any, group: Any, arguments: Arguments, operation: str) -> Any:
    """A ``hipcommQuantised *`` of a format without buffers, for plans. Raises InvalidArgument."""
    if format not in FORMATS or format == "none":
        names = ", ".join(name for name in FORMATS if name != "none")
        raise arguments.refusal(operation, f"format {format!r} is none of {names}")
    struct = ffi.new("hipcommQuantised *")
    struct.size = ffi.sizeof("hipcommQuantised")
    struct.format, struct.codes_dtype = FORMATS[format], lib.hipcommFloat8E4M3FN
    if group is not None:
        if not _is_integer(group) or not 0 <= group < 1 << 56:
            raise arguments.refusal(operation, f"group {group!r} is not a number of elements")
        struct.group = int(group)
    return struct


class QuantisedArgument:
    """One call's quantised output as the core takes it: ``struct``, a ``hipcommQuantised *``."""

    def __init__(self, quantised: Any, rows: Rows, arguments: Arguments, operation: str) -> None:
        """Of *rows*, those that are quantised. Raises InvalidArgument."""
        self._arguments, self._operation = arguments, operation
        if not isinstance(quantised, Quantised):
            raise self._refusal(f"quantised {quantised!r} is no hipcomm.Quantised")
        self._kept: list[Any] = []  # what the addresses belong to lives as long as this
        self.struct = ffi.new("hipcommQuantised *")
        self.struct.size = ffi.sizeof("hipcommQuantised")
        self.struct.format = self._number(quantised.format, FORMATS, "format")
        layout = "default" if quantised.layout is None else quantised.layout
        self.struct.layout = self._number(layout, LAYOUTS, "layout")
        self.struct.group = self._integer(quantised.group, "group")
        self._take_codes(quantised, rows)
        self._take_scales(quantised, rows)
        if quantised.global_scale is not None:
            self.struct.global_scale = self._one_float(quantised.global_scale, "global_scale")

    def _refusal(self, problem: object) -> InvalidArgument:
        return self._arguments.refusal(self._operation, problem)

    def _number(self, name: Any, known: dict[str, int], what: str) -> int:
        names = [each for each in known if each not in ("none", "default")]
        if not isinstance(name, str) or name not in known or name == "none":
            raise self._refusal(f"{what} {name!r} is none of {', '.join(names)}")
        return known[name]

    def _integer(self, value: Any, name: str) -> int:
        if value is None:
            return 0
        if not _is_integer(value) or not 0 < value < 1 << 56:
            raise self._refusal(f"{name} {value!r} is not a number of elements")
        return int(value)

    def _bytes(self, rows: Rows) -> tuple[int, int]:
        """Bytes of a row's codes, and of all scales, as the core has them."""
        sizes = ffi.new("uint64_t[2]")
        if lib.hipcommQuantisedBytes(self.struct, rows.tokens, rows.hidden, sizes, sizes + 1):
            raise self._refusal(ffi.string(lib.hipcommGetLastError(ffi.NULL)).decode())
        return int(sizes[0]), int(sizes[1])

    def _take_codes(self, quantised: Quantised, rows: Rows) -> None:
        struct, codes, is_fp8 = self.struct, quantised.codes, quantised.format.startswith("fp8")
        address = address_of(codes)
        if address is not None:
            if is_fp8 and quantised.dtype is None:
                raise self._refusal(
                    f"codes: the address {address:#x} needs dtype=, float8_e4m3fn or float8_e4m3fnuz"
                )
            try:
                struct.codes_dtype = CODES[resolve(quantised.dtype)] if is_fp8 else 0
            except InvalidArgument as error:
                raise self._refusal(error) from None
            struct.codes_stride = self._integer(quantised.codes_stride, "codes_stride")
            struct.codes = self._arguments.buffer(address, "codes", self._operation, True, 0, "uint8").address
            return
        if quantised.dtype is not None or quantised.codes_stride is not None:
            raise self._refusal("codes: dtype= and codes_stride= go with an address")
        try:
            found = strided_rows(codes, "codes", True, self._arguments.host_is_device)
        except InvalidArgument as error:
            raise self._refusal(error) from None
        struct.codes_dtype, struct.codes_stride = found.dtype, found.stride
        row_bytes, _ = self._bytes(rows)
        if not is_fp8 and found.dtype != lib.hipcommUint8:
            raise self._refusal(f"codes of {quantised.format} are uint8, two to a byte")
        if (found.tokens, found.hidden) != (rows.tokens, row_bytes):
            raise self._refusal(
                f"codes are {found.tokens} rows of {found.hidden} bytes; {quantised.format} of "
                f"{rows.tokens} rows of {rows.hidden} elements takes {rows.tokens} of {row_bytes}"
            )
        self._kept.append(found)
        struct.codes = found.address

    def _take_scales(self, quantised: Quantised, rows: Rows) -> None:
        struct, scales = self.struct, quantised.scales
        if quantised.format == "fp8_given_scale":
            struct.scales = self._one_float(scales, "scales")
            return
        address = address_of(scales)
        if address is not None:
            struct.scales_stride = self._integer(quantised.scales_stride, "scales_stride")
            buffer = self._arguments.buffer(address, "scales", self._operation, True, 0, "uint8")
            struct.scales = buffer.address
            return
        if quantised.scales_stride is not None:
            raise self._refusal("scales: scales_stride= goes with an address")
        buffer = self._arguments.buffer(scales, "scales", self._operation, True, None, None)
        dtype = next(each for each, code in CODES.items() if code == buffer.dtype)
        expected = _SCALE_DTYPES.get(quantised.format, ("float32",))
        if dtype.name not in expected:
            raise self._refusal(
                f"scales of dtype {dtype.name}: those of {quantised.format} are {' or '.join(expected)}"
            )
        shape = tuple(getattr(scales, "shape", ()))
        if quantised.layout == "column_major" and len(shape) == 2 and shape[1] != rows.tokens:
            struct.scales_stride = shape[1]
        _, nbytes = self._bytes(rows)
        if buffer.count * dtype.itemsize != nbytes:
            raise self._refusal(
                f"scales have {buffer.count * dtype.itemsize} bytes; {quantised.format} of "
                f"{rows.tokens} rows of {rows.hidden} elements takes {nbytes}"
            )
        self._kept.append(buffer)
        struct.scales = ffi.cast(VOID_POINTER, buffer.address)

    def _one_float(self, obj: Any, name: str) -> Any:
        count, dtype = (None, None) if address_of(obj) is None else (1, "float32")
        buffer = self._arguments.buffer(obj, name, self._operation, False, count, dtype)
        if (buffer.count, buffer.dtype) != (1, lib.hipcommFloat32):
            raise self._refusal(f"{name} is not one float32 in device memory")
        self._kept.append(buffer)
        return ffi.cast(VOID_POINTER, buffer.address)
