"""Numbers of the floating-point formats, exactly: as fractions, rounded once."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

MANTISSA = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}
EXPONENT = {"f16": 5, "bf16": 8, "f32": 8, "f64": 11}


class Real(NamedTuple):
    """A number, an infinity or a NaN. number: its magnitude, None for an infinity or a NaN."""

    negative: bool
    number: Fraction | None
    nan: str = ""  # "quiet" or "signalling"


class Word(NamedTuple):
    """Bits with a type: u, i or f and so on, with a width."""

    bits: int
    width: int
    kind: str  # u, i, f, bf

    @property
    def value(self) -> int:
        return (
            self.bits - (1 << self.width) if self.kind == "i" and self.bits >> (self.width - 1) else self.bits
        )


def word(value: int, width: int, kind: str = "u") -> Word:
    return Word(value & ((1 << width) - 1), width, kind)


def real_of(x: Any) -> Real:
    """What a word or a number is worth."""
    if isinstance(x, Real):
        return x
    if x.kind not in ("f", "bf"):
        return Real(x.value < 0, abs(Fraction(x.value)))
    name = f"{x.kind}{x.width}"
    mantissa_bits, exponent_bits = MANTISSA[name], EXPONENT[name]
    negative = bool(x.bits >> (x.width - 1))
    exponent = x.bits >> mantissa_bits & ((1 << exponent_bits) - 1)
    mantissa = x.bits & ((1 << mantissa_bits) - 1)
    if exponent == (1 << exponent_bits) - 1:
        if mantissa == 0:
            return Real(negative, None)
        return Real(negative, None, "quiet" if mantissa >> (mantissa_bits - 1) else "signalling")
    bias = (1 << (exponent_bits - 1)) - 1
    if exponent == 0:
        return Real(negative, Fraction(mantissa) * Fraction(2) ** (1 - bias - mantissa_bits))
    return Real(
        negative, Fraction(mantissa + (1 << mantissa_bits)) * Fraction(2) ** (exponent - bias - mantissa_bits)
    )


def rounded(x: Real, name: str) -> Word:
    """The nearest number of this format, the even one of two."""
    mantissa_bits, exponent_bits = MANTISSA[name], EXPONENT[name]
    width = 1 + mantissa_bits + exponent_bits
    kind = "bf" if name == "bf16" else "f"
    sign = int(x.negative) << (width - 1)
    infinity = ((1 << exponent_bits) - 1) << mantissa_bits
    if x.nan:
        return Word(sign | infinity | 1 << (mantissa_bits - 1), width, kind)
    if x.number is None:
        return Word(sign | infinity, width, kind)
    least = 2 - (1 << (exponent_bits - 1))  # exponent of the smallest normal number
    exponent = least
    if x.number:
        exponent = x.number.numerator.bit_length() - x.number.denominator.bit_length()
        exponent -= x.number < Fraction(2) ** exponent
        exponent = max(exponent, least)
    units = round(x.number / Fraction(2) ** (exponent - mantissa_bits))  # Python's rounds to even
    bits = units + ((exponent - least) << mantissa_bits)  # a carry moves into the exponent by itself
    return Word(sign | min(bits, infinity), width, kind)


def signed(x: Real) -> Fraction:
    assert x.number is not None
    return -x.number if x.negative else x.number


def _from(value: Fraction, negative_zero: bool = False) -> Real:
    return Real(value < 0 or (value == 0 and negative_zero), abs(value))


NAN = Real(False, None, "quiet")


def add(a: Real, b: Real) -> Real:
    if a.nan or b.nan:
        return NAN
    if a.number is None or b.number is None:
        if a.number is None and b.number is None and a.negative != b.negative:
            return NAN
        return a if a.number is None else b
    return _from(signed(a) + signed(b), a.negative and b.negative)


def multiply(a: Real, b: Real) -> Real:
    if a.nan or b.nan:
        return NAN
    negative = a.negative != b.negative
    if a.number is None or b.number is None:
        return NAN if 0 in (a.number, b.number) else Real(negative, None)
    return Real(negative, a.number * b.number)


def negate(a: Real) -> Real:
    return a._replace(negative=not a.negative)


def less(a: Real, b: Real) -> bool:
    order = [(-1 if x.negative else 1) if x.number is None else 0 for x in (a, b)]
    if order[0] or order[1]:
        return order[0] < order[1]
    return signed(a) < signed(b)


def equal(a: Real, b: Real) -> bool:
    if a.number is None or b.number is None:
        return a.number is None and b.number is None and a.negative == b.negative
    return signed(a) == signed(b)


def integral(x: Real, how: Callable[[Fraction], int]) -> Real:
    return x if x.number is None else _from(Fraction(how(signed(x))), x.negative)


def truncate(x: Fraction) -> int:
    return int(x)


def floor(x: Fraction) -> int:
    return x.numerator // x.denominator


def saturated(x: Any, width: int, is_signed: bool) -> Word:
    real = real_of(x)
    least, most = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if is_signed else (0, (1 << width) - 1)
    if real.nan:
        return word(0, width)
    if real.number is None:
        return word(least if real.negative else most, width)
    return word(min(max(truncate(signed(real)), least), most), width, "i" if is_signed else "u")
