"""Quantised outputs of the fused norms: their buffers, and what must be in them (docs/numbers.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hipcomm_bench.memory import Array, dtype_of
from hipcomm_bench.norms.expected import f32

FP8 = "float8_e4m3fn"
GIVEN_SCALE = f32(0.0171875)  # of fp8_given_scale: a norm of 7 and more is clamped
GLOBAL_SCALE = f32(448.0)  # of nvfp4

_GROUPS = {"fp8_given_scale": 0, "fp8_per_token": 0, "fp8_per_group": 128, "mxfp4": 32, "nvfp4": 16}
_CHOOSABLE = (32, 64, 128, 256, 512)  # of fp8_per_group

FORMATS = tuple(_GROUPS)  # those whose scales lie row by row


@dataclass(frozen=True)
class Quantisation:
    """A format.

    Attributes:
        format: hipcomm's name of it.
        group: elements that share a scale; 0: those of a row, or all.
    """

    format: str
    group: int

    @property
    def is_fp8(self) -> bool:
        """Whether codes are bytes; else there are two in a byte."""
        return self.format.startswith("fp8")

    @property
    def codes_dtype(self) -> str:
        """The name of the dtype of the codes."""
        return FP8 if self.is_fp8 else "uint8"

    @property
    def scales_dtype(self) -> str:
        """Likewise of the scales."""
        return "float32" if self.is_fp8 else "uint8"

    def code_bytes(self, hidden: int) -> int:
        """Return the bytes of a row's codes."""
        return hidden if self.is_fp8 else -(-hidden // 2)

    def scales_of(self, hidden: int) -> int:
        """Return the scales of a row; 0: there is one for all rows."""
        if self.format == "fp8_given_scale":
            return 0
        return -(-hidden // self.group) if self.group else 1

    def apply(self, y: Array) -> tuple[Array, Array | None]:
        """Return (codes, scales) of rows of y, which are finite, in T: rows of bytes, and rows of scales."""
        wide = y.astype(f32)
        if self.format == "fp8_given_scale":
            return _fp8(wide / GIVEN_SCALE), None
        rows, hidden = wide.shape
        length = self.group or hidden
        groups = np.zeros((rows, -(-hidden // length) * length), f32)
        groups[:, :hidden] = wide
        groups = groups.reshape(rows, -1, length)
        amax = np.abs(groups).max(axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            codes, scales = _SCALED[self.format](groups, amax)
        codes = codes.reshape(rows, -1)[:, :hidden]
        return (codes if self.is_fp8 else _pairs(codes)), scales


def parse(text: str) -> Quantisation:
    """Return what ``fp8_per_token`` or ``fp8_per_group:64`` says. Raises ValueError."""
    name, colon, group = text.partition(":")
    if name not in _GROUPS:
        raise ValueError(f"{text!r} is none of {', '.join(FORMATS)}")
    if not colon:
        return Quantisation(name, _GROUPS[name])
    if name != "fp8_per_group" or group not in map(str, _CHOOSABLE):
        raise ValueError(f"{text!r}: fp8_per_group takes a group of {', '.join(map(str, _CHOOSABLE))}")
    return Quantisation(name, int(group))


def _fp8(values: Array) -> Array:
    codes: Array = np.clip(values, f32(-448), f32(448)).astype(dtype_of(FP8)).view(np.uint8)
    return codes


def _e2m1(values: Array) -> Array:
    import ml_dtypes

    codes: Array = np.clip(values, f32(-6), f32(6)).astype(ml_dtypes.float4_e2m1fn).view(np.uint8) & 0xF
    return codes


def _pairs(codes: Array) -> Array:
    """Return codes two to a byte, the even element low."""
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    packed: Array = even[:, 0::2] | even[:, 1::2] << 4
    return packed


def _fp8_scaled(groups: Array, amax: Array) -> tuple[Array, Array]:
    scales = np.where(amax == 0, f32(1), amax / f32(448))
    return _fp8(groups / scales[:, :, None]), scales


def _mxfp4(groups: Array, amax: Array) -> tuple[Array, Array]:
    exponent = ((amax.view(np.uint32) + np.uint32(0x200000)) >> 23).astype(np.int32) - 2
    scales = np.where(amax == 0, 127, np.clip(exponent, 0, 254)).astype(np.uint8)
    powers = np.ldexp(f32(1), scales.astype(np.int32) - 127).astype(f32)
    return _e2m1(groups / powers[:, :, None]), scales


def _nvfp4(groups: Array, amax: Array) -> tuple[Array, Array]:
    scales = _fp8((amax / f32(6)) * GLOBAL_SCALE)
    wide = scales.view(dtype_of(FP8)).astype(f32)
    factors = np.where(wide == 0, f32(0), GLOBAL_SCALE / wide)
    return _e2m1(groups * factors[:, :, None]), scales


_SCALED = {"fp8_per_token": _fp8_scaled, "fp8_per_group": _fp8_scaled, "mxfp4": _mxfp4, "nvfp4": _nvfp4}
