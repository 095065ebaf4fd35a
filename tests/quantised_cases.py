"""A quantised output of a norm as data: choose it, give it memory, compare it with the oracle's bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import norm_oracle
import numpy as np
from oracle import Array
from regions import POISON, Arena

from hipcomm import Quantised

GROUPS = (32, 64, 128, 256, 512)
FNUZ = {"float8_e4m3fn": norm_oracle.E4M3FN, "float8_e4m3fnuz": norm_oracle.E4M3FNUZ}
# format: its layouts
FORMATS = {
    "fp8_given_scale": (None,),
    "fp8_per_token": (None,),
    "fp8_per_group": ("row_major", "column_major"),
    "fp8_per_group_e8m0": ("packed",),
    "mxfp4": (None,),
    "nvfp4": ("row_major", "swizzled"),
}


@dataclass(frozen=True)
class QuantisedCase:
    """What all ranks agree on. scale: the given or the global one. gap: bytes between rows of codes.

    more: of column-major scales, the stride beyond the tokens. offset: bytes past alignment of codes,
    and, where they may have any, of scales.
    """

    format: str
    fp8: str = "float8_e4m3fn"
    group: int | None = None
    layout: str | None = None
    scale: float = 1.0
    gap: int = 0
    more: int = 0
    offset: int = 0

    def row_bytes(self, hidden: int) -> int:
        return hidden if self.format.startswith("fp8") else -(-hidden // 2)

    def expected(self, y: Array) -> tuple[Array, Array]:
        """Bytes of codes, (rows, row_bytes), and of scales as they lie; POISON where nothing is written."""
        fp8 = FNUZ[self.fp8]
        rows, hidden = y.shape
        if self.format == "fp8_given_scale":
            return norm_oracle.fp8_given_scale(y, self.scale, fp8), np.zeros(0, np.uint8)
        if self.format == "fp8_per_token":
            made = norm_oracle.fp8_per_group(y, hidden, fp8)
            return made.codes, made.scales.reshape(-1).view(np.uint8)
        if self.format == "fp8_per_group":
            made = norm_oracle.fp8_per_group(y, self.group, fp8)
            if self.layout != "column_major":
                return made.codes, np.ascontiguousarray(made.scales).reshape(-1).view(np.uint8)
            stride = rows + self.more
            untouched = np.full(stride * made.scales.shape[1] * 4, POISON, np.uint8).view(np.float32)
            return made.codes, norm_oracle.column_major(made.scales, stride, untouched).view(np.uint8)
        if self.format == "fp8_per_group_e8m0":
            made = norm_oracle.fp8_per_group_e8m0(y, self.group, fp8)
            return made.codes, norm_oracle.packed_e8m0(made.scales)
        made = norm_oracle.mxfp4(y) if self.format == "mxfp4" else norm_oracle.nvfp4(y, self.scale)
        scales = norm_oracle.swizzled(made.scales) if self.layout == "swizzled" else made.scales.reshape(-1)
        return norm_oracle.pack_fours(made.codes), scales


class QuantisedRegion:
    """Its memory, with guards and poison; inputs are in it from the start."""

    def __init__(self, memory: Arena, case: QuantisedCase, tokens: int, hidden: int) -> None:
        self.case, self.tokens, self.row_bytes = case, tokens, case.row_bytes(hidden)
        self.stride = self.row_bytes + case.gap
        extent = (tokens - 1) * self.stride + self.row_bytes if tokens else 0
        self.codes = memory.region(extent, case.offset)
        scale_bytes = case.expected(np.zeros((tokens, hidden), np.float32))[1].size
        aligned = case.format.startswith("fp8") or case.layout == "swizzled"
        self.is_given = case.format == "fp8_given_scale"
        self.scales = memory.region(4 if self.is_given else scale_bytes, 0 if aligned else case.offset)
        self.global_scale = memory.region(4, 4) if case.format == "nvfp4" else None
        for region in (self.scales if self.is_given else None, self.global_scale):
            if region is not None:
                region.put(np.array([case.scale], np.float32))

    def argument(self) -> Quantised:
        case = self.case
        column_major = case.layout == "column_major"
        return Quantised(
            self.codes.address,
            self.scales.address,
            case.format,
            group=case.group,
            layout=case.layout,
            global_scale=None if self.global_scale is None else self.global_scale.address,
            dtype=case.fp8 if case.format.startswith("fp8") else None,
            codes_stride=self.stride,
            scales_stride=self.tokens + case.more if column_major and self.tokens else None,
        )

    def poison(self) -> None:
        for region in (self.codes, *([] if self.is_given else [self.scales])):
            region.put(np.full(region.nbytes, POISON, np.uint8))

    def get(self) -> tuple[Array, Array]:
        """Bytes of codes, (rows, row_bytes), and of scales. Raises AssertionError if others have changed."""
        image = self.codes.get(np.dtype(np.uint8))
        shape = (self.tokens, self.row_bytes)
        rows = np.lib.stride_tricks.as_strided(image, shape, (self.stride, 1)) if self.tokens else image
        codes = rows.copy().reshape(shape)
        rows[:] = POISON
        assert (image == POISON).all(), "bytes between rows of codes were overwritten"
        scales = self.scales.get(np.dtype(np.uint8))
        if not self.is_given:
            return codes, scales
        assert scales.view(np.float32)[0] == np.float32(self.case.scale), "the given scale was overwritten"
        return codes, scales[:0]


def difference(case: QuantisedCase, got: tuple[Array, Array], y: Array) -> str:
    """What is wrong; empty if nothing is."""
    for name, have, want in zip(("code", "scale"), got, case.expected(y), strict=True):
        wrong = np.argwhere(have != want)
        if wrong.size:
            first = tuple(wrong[0])
            return (
                f"{len(wrong)} bytes of {name}s of {want.shape} are wrong, the first {first}: "
                f"{have[first]:#x} instead of {want[first]:#x}; the last {tuple(wrong[-1])}"
            )
    return ""


def draw(rng: np.random.Generator, format: str | None = None) -> QuantisedCase:
    """One of a format, or of any. All ranks must draw alike."""

    def pick(values: Any) -> Any:
        return values[int(rng.integers(0, len(values)))]

    format = format or pick(tuple(FORMATS))
    layout = pick(FORMATS[format])
    dense = rng.random() < 0.5
    return QuantisedCase(
        format,
        fp8=pick(tuple(FNUZ)),
        group=pick(GROUPS) if "group" in format else None,
        layout=layout,
        scale=pick((1.0, 0.013, 448.0 * 6 / 5, 3e-39, 1e30)),
        gap=0 if dense else int(rng.integers(1, 40)),
        more=0 if dense or layout != "column_major" else int(rng.integers(1, 9)),
        offset=0 if rng.random() < 0.5 else int(rng.integers(0, 16)),
    )
