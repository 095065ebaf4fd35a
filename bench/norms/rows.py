"""The workload of the fused norms: rows of some lengths, their inputs, and the check of the results.

hipcomm's results are compared bit by bit with docs/numbers.md, on inputs on which another order of additions
shows. Other libraries add in other orders. Their inputs are whole numbers whose sums over ranks are exact in
any order, so that sums and residual are compared bit by bit as well; the norm may differ by `_TOLERANCE`.

Rows repeat after a few, so that the expected results of thousands of them are quickly had.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any

import numpy as np

from hipcomm_bench.clock import Prepared
from hipcomm_bench.contestants.base import Library
from hipcomm_bench.memory import Array, Buffer, allocate, dtype_of
from hipcomm_bench.norms import expected
from hipcomm_bench.norms.quantise import GIVEN_SCALE, GLOBAL_SCALE, Quantisation, parse
from hipcomm_bench.ops import OPS, bandwidths
from hipcomm_bench.results import Options
from hipcomm_bench.session import Session
from hipcomm_bench.subjects import Subject

FUSED = "fused"  # what the command calls it
NORMS = ("rms_norm", "layer_norm")
DTYPES = ("float16", "bfloat16", "float32")
EPS = 1e-6

_PERIOD = 13  # rows that differ; a prime, so that no power of two of rows that are misplaced goes unseen
_CHUNK = 1 << 20  # elements that are written or compared at a time, about
_ALIGNMENT = 256

# Of a norm of other libraries: relative to the right result, by dtype, and absolute. Two units in the last
# place of a 16-bit dtype, 32 of float32, whose sums of squares depend on their order.
_TOLERANCE = {"float16": 2.0**-9, "bfloat16": 2.0**-6, "float32": 2.0**-18}
_ABSOLUTE = 2.0**-18


class Result(Enum):
    """What a contestant computes."""

    FUSED = "the sum over ranks, the residual, the norm"
    LOCAL = "the residual and the norm of this rank's x"
    SUM = "the sum over ranks"


@dataclass(frozen=True)
class Rows:
    """One rank's arguments: x, residual, out, residual_out: (tokens, hidden); weight, bias: (hidden,).

    All are of one dtype. Whoever sums first, into memory, sums into `out`.

    With a quantised output `codes` and `scales` take the place of the norm in `out`.
    """

    norm: str
    x: Buffer
    residual: Buffer
    out: Buffer
    residual_out: Buffer
    weight: Buffer
    bias: Buffer
    quantisation: Quantisation | None = None
    codes: Buffer | None = None
    scales: Buffer | None = None
    global_scale: Buffer | None = None

    @property
    def quantised_buffers(self) -> list[Buffer]:
        """Codes and scales, if they are asked for."""
        return [buffer for buffer in (self.codes, self.scales) if buffer is not None]

    @property
    def parameters(self) -> list[Buffer]:
        """The weight, and for LayerNorm the bias."""
        return [self.weight] if self.norm == "rms_norm" else [self.weight, self.bias]


class NormContestant(Library):
    """A way to do it.

    Attributes:
        result: what it computes.
    """

    result: Result = Result.FUSED

    def prepare(self, rows: Rows) -> Prepared:
        """Return the call on these rows, ready to be made. Raises Unsupported where there is none."""
        raise NotImplementedError


@dataclass(frozen=True)
class Numbers:
    """A period of the inputs, and what comes of them.

    Attributes:
        x: by rank.
        residual, weight, bias: the same on all ranks.
    """

    x: list[Array]
    residual: Array
    weight: Array
    bias: Array

    def results(self, norm: str, result: Result, rank: int) -> dict[str, Array]:
        """Return a period of the outputs that a contestant writes, by name, on this rank."""
        total = self.x[rank] if result is Result.LOCAL else expected.sum_over_ranks(self.x)
        if result is Result.SUM:
            return {"out": total}
        v = expected.add(total, self.residual)
        if norm == "rms_norm":
            return {"out": expected.rms_norm(v, self.weight, EPS), "residual_out": v}
        return {"out": expected.layer_norm(v, self.weight, self.bias, EPS), "residual_out": v}


@lru_cache(maxsize=2)
def numbers(hidden: int, dtype: str, world_size: int, whole: bool) -> Numbers:
    """Return the inputs of all ranks, a pure function: whole numbers, or any."""
    kind, rng = dtype_of(dtype), np.random.default_rng([hidden, world_size, whole])
    shape = (_PERIOD, hidden)
    if whole:  # |the sum of up to 16 ranks and the residual| <= 256, which bfloat16 holds exactly
        x = [rng.integers(-8, 9, shape).astype(kind) for _ in range(world_size)]
        residual = rng.integers(-96, 97, shape).astype(kind)
    else:
        x = [rng.standard_normal(shape, np.float32).astype(kind) for _ in range(world_size)]
        residual = rng.standard_normal(shape, np.float32).astype(kind)
    weight, bias = (rng.uniform(low, 1.5, hidden).astype(kind) for low in (0.5, -1.5))
    return Numbers(x, residual, weight, bias)


class NormTask:
    """One norm on one shape. See hipcomm_bench.task."""

    def __init__(self, rows: Rows, shape: tuple[int, int], session: Session) -> None:
        self._rows, (self._tokens, self._hidden), self._session = rows, shape, session
        self.count, self._dtype = rows.x.count, rows.x.dtype

    def prepare(self, library: Library) -> Prepared:
        """Return the library's call."""
        assert isinstance(library, NormContestant)
        return library.prepare(self._rows)

    def fill(self, library: Library | None) -> None:
        """Write what the library's results are checked with."""
        inputs, rows = self._numbers(library), self._rows
        self._write(rows.x, inputs.x[self._session.world.rank])
        self._write(rows.residual, inputs.residual)
        for parameter, values in ((rows.weight, inputs.weight), (rows.bias, inputs.bias)):
            parameter.memory.write(parameter.offset, values.view(np.uint8))
        for output in (rows.out, rows.residual_out, *rows.quantised_buffers):
            output.memory.poison(output.offset, output.nbytes)
        if rows.quantisation is not None and rows.quantisation.format == "fp8_given_scale":
            _write_one(rows.scales, GIVEN_SCALE)
        if rows.global_scale is not None:
            _write_one(rows.global_scale, GLOBAL_SCALE)

    def count_wrong(self, library: Library) -> int:
        """Return how many elements differ, or differ by more than the tolerance."""
        assert isinstance(library, NormContestant)
        rank, world_size = self._session.world.rank, self._session.world.size
        results = _results(
            self._hidden, self._dtype, world_size, not library.ours, self._rows.norm, library.result, rank
        )
        quantisation = self._rows.quantisation
        if quantisation is not None and library.result is not Result.SUM:
            results = {"residual_out": results["residual_out"], **_quantised(results["out"], quantisation)}
        wrong = 0
        for name, period in results.items():
            near = name != "residual_out" and not library.ours and library.result is not Result.SUM
            wrong += self._count(getattr(self._rows, name), period, _TOLERANCE[self._dtype] if near else 0)
        return wrong

    def bandwidths(self, library: Library, seconds: float) -> tuple[float, float]:
        """Return those of an all-reduce of x; a local operation has nothing on the bus."""
        assert isinstance(library, NormContestant)
        algorithm, bus = bandwidths(OPS["all_reduce"], self._rows.x.nbytes, seconds, self._session.world.size)
        return algorithm, 0.0 if library.result is Result.LOCAL else bus

    def _numbers(self, library: Library | None) -> Numbers:
        whole = library is None or not library.ours
        return numbers(self._hidden, self._dtype, self._session.world.size, whole)

    def _write(self, buffer: Buffer, period: Array) -> None:
        block = np.tile(period, (max(1, _CHUNK // period.size), 1)).view(np.uint8)
        row = block.shape[1]
        for start in range(0, self._tokens, len(block)):
            part = block[: self._tokens - start]
            buffer.memory.write(buffer.offset + start * row, part.reshape(-1))

    def _count(self, buffer: Buffer, period: Array, tolerance: float) -> int:
        block = np.tile(period, (max(1, _CHUNK // period.size), 1))
        word, row, wrong = np.dtype(f"u{block.itemsize}"), block.shape[1] * block.itemsize, 0
        for start in range(0, self._tokens, len(block)):
            right = block[: self._tokens - start]
            seen = buffer.memory.read(buffer.offset + start * row, right.nbytes).view(block.dtype)
            seen = seen.reshape(right.shape)
            if tolerance and block.dtype == np.uint8:  # codes: the next one is near
                steps = np.abs(seen.astype(np.int16) - right.astype(np.int16))
                wrong += int(np.count_nonzero(steps > 1))
            elif tolerance:
                got, wanted = seen.astype(np.float64), right.astype(np.float64)
                with np.errstate(invalid="ignore"):
                    near = np.abs(got - wanted) <= tolerance * np.abs(wanted) + _ABSOLUTE
                wrong += near.size - int(np.count_nonzero(near))  # a NaN is near nothing
            else:
                wrong += int(np.count_nonzero(seen.view(word) != right.view(word)))
        return wrong


@lru_cache(maxsize=8)
def _results(
    hidden: int, dtype: str, world_size: int, whole: bool, norm: str, result: Result, rank: int
) -> dict[str, Array]:
    """Return a period of what a contestant must write, by argument's name."""
    return numbers(hidden, dtype, world_size, whole).results(norm, result, rank)


def _quantised(y: Array, quantisation: Quantisation) -> dict[str, Array]:
    """Return a period of codes and, where they are written, scales."""
    codes, scales = quantisation.apply(y)
    return {"codes": codes} if scales is None else {"codes": codes, "scales": scales}


def _write_one(buffer: Buffer | None, number: np.float32) -> None:
    """Write a float32 that the call reads."""
    assert buffer is not None
    buffer.memory.write(buffer.offset, np.array([number], np.float32).view(np.uint8))


class Norms:
    """Four allocations of the largest number of rows, the parameters, and quantised outputs."""

    def __init__(self, options: Options, session: Session) -> None:
        self._options, self._session = options, session
        self._memory = [allocate(session.device, session.largest) for _ in range(4)]
        longest = max(subject.shape[-1] for subject in options.subjects)
        self._bias_at = -(-longest * dtype_of(options.dtype).itemsize // _ALIGNMENT) * _ALIGNMENT
        self._parameters = allocate(session.device, 2 * self._bias_at)
        self._quantisation = parse(options.quantised) if options.quantised else None
        # room for a byte an element, and for a float32 a row, or of every 32 elements
        number = 2 if options.quantised else 0
        self._quantised = [allocate(session.device, 2 * session.largest + _ALIGNMENT) for _ in range(number)]
        self._one = allocate(session.device, _ALIGNMENT)

    def task(self, subject: Subject, in_place: bool) -> NormTask:
        """Return the call on a subject; there is no in-place form."""
        tokens, hidden = subject.shape
        dtype, shape = self._options.dtype, (tokens, hidden)
        x, residual, out, residual_out = (
            Buffer(memory, 0, tokens * hidden, dtype, shape) for memory in self._memory
        )
        weight, bias = (Buffer(self._parameters, at, hidden, dtype) for at in (0, self._bias_at))
        arguments = Rows(self._options.norm, x, residual, out, residual_out, weight, bias)
        if self._quantisation is not None:
            arguments = replace(arguments, **self._outputs(tokens, hidden, self._quantisation))
        return NormTask(arguments, shape, self._session)

    def _outputs(self, tokens: int, hidden: int, quantisation: Quantisation) -> dict[str, Any]:
        """Return the quantised part of the arguments."""
        code_bytes, scales = quantisation.code_bytes(hidden), quantisation.scales_of(hidden)
        codes_at, scales_at = self._quantised
        shape = (tokens, code_bytes)
        return {
            "quantisation": quantisation,
            "codes": Buffer(codes_at, 0, tokens * code_bytes, quantisation.codes_dtype, shape),
            "scales": Buffer(scales_at, 0, tokens * scales if scales else 1, quantisation.scales_dtype),
            "global_scale": Buffer(self._one, 0, 1, "float32") if quantisation.format == "nvfp4" else None,
        }

    def free(self) -> None:
        """Give the buffers back."""
        for memory in (*self._memory, self._parameters, *self._quantised, self._one):
            memory.free()
