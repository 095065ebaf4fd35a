"""One call of all_reduce_qk_norm as data: choose it, make it, compare what it did with the oracle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import norm_oracle
import numpy as np
import oracle
from norm_cases import DTYPES, KINDS, PARAMETERS, StridedRegion
from oracle import Array
from regions import Arena, Region

NAMES = ("q", "k", "v")
WIDTHS = (1, 7, 64, 128, 256, 513, 1000, 1024, 1536, 2880, 4099, 6144)


@dataclass(frozen=True)
class QkCase:
    """A call: all that the ranks have to agree on, and where the buffers lie.

    widths: of q, k and v on this rank; 0: there is no v. weights: one of PARAMETERS. outs: of each "own",
    "in" (in place) or "none". gaps: elements between rows of the three inputs, and of the three outputs.
    offsets: bytes past alignment of inputs, outputs and the two weights. packed: the inputs are columns of
    one array.
    """

    tokens: int
    widths: tuple[int, int, int]
    dtype: str = "bfloat16"
    weights: str = "same"
    eps: float = 1e-6
    outs: tuple[str, str, str] = ("own", "own", "own")
    gaps: tuple[int, ...] = (0,) * 6
    offsets: tuple[int, ...] = (0,) * 8
    packed: bool = False
    kind: str = "plain"
    seed: tuple[int, ...] = (0,)

    def rows_of(self, number: int, rank: int) -> Array:
        """q, k or v of *rank*."""
        dtype, width = oracle.dtype_of(self.dtype), self.widths[number]
        seed, count = (*self.seed, number), self.tokens * width
        if self.kind in (
            "order",
            "cancel",
        ):  # squares of which the order of adding shows, within and over ranks
            values = np.array([1.0, -0.5, 3.0, 64.0, 4096.0, -4096.0], dtype)
            rng = np.random.default_rng([*seed, rank])
            return values[rng.integers(0, values.size, count)].reshape(self.tokens, width)
        return oracle.make_input(seed, rank, count, dtype, self.kind).reshape(self.tokens, width)

    def weight_of(self, number: int, rank: int) -> Array | None:
        """The weight of q or of k: the rank's own part."""
        if self.weights == "none" or number == 2:
            return None
        dtype = oracle.dtype_of(self.dtype if self.weights == "same" else "float32")
        weight = oracle.make_input((*self.seed, 5 + number), rank, self.widths[number], dtype, "plain")
        weight[::5] = -0.0  # to which +0 is added
        return weight

    def expected(self, number: int, rank: int, world: int) -> Array:
        """What comes of q, k or v on *rank*."""
        if number == 2:
            return self.rows_of(number, rank)
        parts = [self.rows_of(number, other) for other in range(world)]
        return norm_oracle.qk_norm(parts, rank, self.weight_of(number, rank), self.eps)


class Columns(StridedRegion):
    """Columns of the rows of another region."""

    def __init__(self, whole: StridedRegion, first: int, width: int) -> None:
        self.__dict__.update(whole.__dict__)
        self.first, self.hidden = first, width
        self.address = whole.address + first * self.dtype.itemsize

    def _rows(self, image: Array) -> Array:
        size = self.dtype.itemsize
        return np.lib.stride_tricks.as_strided(
            image[self.first * size :], (self.tokens, self.hidden * size), (self.stride * size, 1)
        )

    def put(self, rows: Array) -> None:
        image = self.region.get(np.dtype(np.uint8))
        self._rows(image)[:] = np.ascontiguousarray(rows).view(np.uint8)
        self.region.put(image)

    def get(self) -> Array:
        image = self.region.get(np.dtype(np.uint8))
        return self._rows(image).copy().view(self.dtype).reshape(self.tokens, self.hidden)


class MadeQk:
    """A call on buffers of its own, to be made as often as wanted."""

    def __init__(self, comm: Any, memory: Arena, case: QkCase) -> None:
        self.comm, self.case = comm, case
        self.numbers = [number for number in range(3) if case.widths[number]]
        rows = slice(0, case.tokens)

        def region(width: int, number: int) -> StridedRegion:
            shape = SimpleNamespace(dtype=case.dtype, hidden=width, gaps=case.gaps, offsets=case.offsets)
            return StridedRegion(memory, shape, number, rows)

        self.whole = region(sum(case.widths), 0) if case.packed and case.tokens else None
        self.inputs: list[StridedRegion] = []
        for number in self.numbers:
            width = case.widths[number]
            if self.whole is None:
                self.inputs.append(region(width, number))
            else:
                self.inputs.append(Columns(self.whole, sum(case.widths[:number]), width))
        self.outputs = [
            self.inputs[number]
            if case.outs[number] == "in"
            else None
            if case.outs[number] == "none"
            else region(case.widths[number], 3 + number)
            for number in self.numbers
        ]
        self.weights: dict[int, Region] = {}
        for number in (0, 1):
            weight = case.weight_of(number, comm.rank)
            if weight is not None:
                self.weights[number] = memory.region(weight.nbytes, case.offsets[6 + number])

    def fill(self, turn: int | None = None) -> None:
        """Inputs, of another seed if given, and poison where results will be."""
        if turn is not None:
            self.case = replace(self.case, seed=(*self.case.seed[:2], turn))
        case, rank = self.case, self.comm.rank
        for output in self.outputs:
            if output is not None and output not in self.inputs:
                output.put(np.zeros((case.tokens, output.hidden), output.dtype))
        for number in self.numbers:
            self.inputs[number].put(case.rows_of(number, rank))
        for number, region in self.weights.items():
            region.put(case.weight_of(number, rank))

    def call(self, stream: Any = None) -> None:
        case = self.case
        given: dict[str, Any] = {"q_weight": None, "k_weight": None, "v": None, "v_out": None}
        strides = {}
        for number in self.numbers:
            name, rows, out = NAMES[number], self.inputs[number], self.outputs[number]
            given[name], strides[name] = rows.address, rows.stride
            given[f"{name}_out"] = None if out is None else out.address
            if out is not None:
                strides[f"{name}_out"] = out.stride
        given |= {f"{NAMES[number]}_weight": region.address for number, region in self.weights.items()}
        self.comm.all_reduce_qk_norm(
            **given,
            eps=case.eps,
            shape=(case.tokens, *(case.widths[number] for number in self.numbers)),
            dtype=case.dtype,
            weight_dtype="float32" if case.weights == "float32" else None,
            row_strides=strides,
            stream=stream,
        )

    def check(self) -> None:
        """Raise AssertionError where the results are not the oracle's, or anything else has changed."""
        case, rank, world = self.case, self.comm.rank, self.comm.world_size
        for number in self.numbers:
            out, where = self.outputs[number], f"{NAMES[number]} of {case} on rank {rank} of {world}"
            if out is not self.inputs[number]:
                self._compare(self.inputs[number].get(), case.rows_of(number, rank), f"{where}: input", True)
            if out is not None:
                self._compare(out.get(), case.expected(number, rank, world), where, number == 2)

    @staticmethod
    def _compare(got: Array, expected: Array, where: str, is_copy: bool) -> None:
        if is_copy:  # every bit counts, also those of a NaN
            got, expected = oracle.bits(got), oracle.bits(expected)
        problem = oracle.difference(got.reshape(-1), expected.reshape(-1))
        assert not problem, f"{where}: {problem}"


def draw(rng: np.random.Generator, seed: tuple[int, ...], **fixed: Any) -> QkCase:
    """A call; what is not *fixed* is drawn. All ranks must draw alike."""

    def pick(values: Any) -> Any:
        return values[int(rng.integers(0, len(values)))]

    widths = (pick(WIDTHS), pick(WIDTHS[:8]), pick((0, *WIDTHS[:6])))
    outs = [pick(("own", "own", "in")) for _ in range(3)]
    if rng.random() < 0.15:
        outs[int(rng.integers(0, 2))] = "none"
    aligned, dense = rng.random() < 0.4, rng.random() < 0.5
    drawn = {
        "tokens": int(rng.integers(0, 41)),
        "widths": widths,
        "dtype": pick(DTYPES),
        "weights": pick(PARAMETERS),
        "eps": pick((1e-6, 0.0, 0.1)),
        "outs": tuple(outs),
        "gaps": (0,) * 6 if dense else tuple(int(gap) for gap in rng.integers(0, 40, 6)),
        "offsets": (0,) * 8 if aligned else tuple(int(offset) for offset in rng.integers(0, 16, 8)),
        "packed": bool(rng.random() < 0.4),
        "kind": pick(KINDS),
        "seed": seed,
    }
    return QkCase(**{**drawn, **fixed})
