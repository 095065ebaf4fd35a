"""One call of a norm as data: choose it, make it, compare what it did with the oracle.

All ranks choose the same cases, from the same seed, and each can make every rank's input. Results of fused
norms are the same on all ranks, so for each call one rank asks the oracle, and all return checksums, which
the test compares.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from typing import Any

import cases
import norm_oracle
import numpy as np
import oracle
import quantised_cases
from oracle import Array
from quantised_cases import QuantisedCase, QuantisedRegion
from regions import POISON, Arena, Region, arena

LOCAL = ("add_rms_norm", "add_layer_norm")
FUSED = ("all_reduce_rms_norm", "all_reduce_layer_norm")
SCATTERED = ("reduce_scatter_rms_norm", "reduce_scatter_layer_norm")
DTYPES = ("float16", "bfloat16", "float32")
# The sizes of models, the edges, and what is no multiple of anything.
HIDDEN = (1, 2, 7, 64, 100, 512, 513, 1000, 1024, 2048, 2880, 3584, 4096, 4099, 5120, 6144, 7168, 8192)
LONG = (14336, 16384, 32771, 65535, 65536)
KINDS = ("plain", "order", "cancel", "special", "bits")
PARAMETERS = ("none", "same", "float32")


@dataclass(frozen=True)
class NormCase:
    """A call: all that the ranks have to agree on, and where the buffers lie.

    weight, bias: one of PARAMETERS. out: "own", "x" or "none"; residual_out: "own", "residual" or "none".
    gaps: elements between rows of x, residual, out and residual_out. offsets: their bytes past alignment, and
    the weight's and the bias's.
    """

    operation: str
    tokens: int
    hidden: int
    dtype: str = "float32"
    residual: bool = True
    weight: str = "same"
    bias: str = "none"
    weight_offset: float = 0.0
    eps: float = 1e-6
    out: str = "own"
    residual_out: str = "own"
    gaps: tuple[int, int, int, int] = (0, 0, 0, 0)
    offsets: tuple[int, int, int, int, int, int] = (0, 0, 0, 0, 0, 0)
    kind: str = "plain"
    seed: tuple[int, ...] = (0,)
    quantised: QuantisedCase | None = None
    layout: str = "replicated"

    def own(self, rank: int, world: int) -> slice:
        """The rows that *rank* owns."""
        longer = self.tokens % world
        first = rank * (self.tokens // world) + min(rank, longer)
        return slice(first, first + self.tokens // world + (rank < longer))

    def of_residual(self, rank: int, world: int) -> slice:
        """The rows that residual and residual_out have."""
        is_own = self.layout == "sharded" or self.operation in SCATTERED
        return self.own(rank, world) if is_own else slice(0, self.tokens)

    def of_results(self, rank: int, world: int) -> slice:
        """The rows that the other outputs have."""
        return self.own(rank, world) if self.operation in SCATTERED else slice(0, self.tokens)

    @property
    def shape(self) -> tuple[int, int]:
        return self.tokens, self.hidden

    def x_of(self, rank: int) -> Array:
        """The rows of *rank*."""
        dtype, count = oracle.dtype_of(self.dtype), self.tokens * self.hidden
        if self.kind == "order":  # sums of ranks and of rows in which the order, and every rounding, shows
            values = [1.0, -1.0, 0.5, 3.0]
            values += [2.0**24, -(2.0**24)] if self.dtype != "float16" else [2048.0, -2048.0]
            rng = np.random.default_rng([*self.seed, rank])
            return np.array(values, dtype)[rng.integers(0, len(values), count)].reshape(self.shape)
        kind = "plain" if self.kind == "cancel" else self.kind
        return oracle.make_input((*self.seed, 0), rank, count, dtype, kind).reshape(self.shape)

    def sum_of_x(self, rank: int, world: int) -> Array:
        """What the residual is added to, on *rank*."""
        if self.operation in LOCAL:
            return self.x_of(rank)
        return norm_oracle.sum_over_ranks([self.x_of(other) for other in range(world)])

    def residual_of(self, rank: int, world: int) -> Array | None:
        """The residual; of kind "cancel" it leaves what a skipped rounding would leave of the sum."""
        if not self.residual:
            return None
        dtype = oracle.dtype_of(self.dtype)
        if self.kind == "cancel":
            rng = np.random.default_rng([*self.seed, 7])
            kept = rng.integers(0, 3, self.shape) == 0
            with np.errstate(all="ignore"):
                total = self.sum_of_x(rank, world)
                return np.where(kept, total, -total).astype(dtype)
        kind = "plain" if self.kind == "order" else self.kind
        count = self.tokens * self.hidden
        return oracle.make_input((*self.seed, 1), 0, count, dtype, kind).reshape(self.shape)

    def parameters(self, name: str) -> Array | None:
        """The weight or the bias."""
        which = getattr(self, name)
        if which == "none":
            return None
        dtype = oracle.dtype_of(self.dtype if which == "same" else "float32")
        if which == "groups":  # zeros, denormals, what overflows and what is none, 16 elements of a kind
            runs = np.array([1, 3, 0, -0.0, 1e-40, -1e-30, 1e-7, 1e4, 1e38, np.inf, np.nan], np.float32)
            drawn = np.random.default_rng([*self.seed, 4]).integers(0, 4 * runs.size, self.hidden // 16 + 1)
            return np.repeat(np.where(drawn < runs.size, runs[drawn % runs.size], 1), 16)[
                : self.hidden
            ].astype(dtype)
        return oracle.make_input((*self.seed, 2 if name == "weight" else 3), 0, self.hidden, dtype, "plain")

    def expected(self, rank: int, world: int) -> tuple[Array, Array]:
        """out and residual_out."""
        v = norm_oracle.add_residual(self.sum_of_x(rank, world), self.residual_of(rank, world))
        weight = self.parameters("weight")
        if self.operation.endswith("rms_norm"):
            return norm_oracle.rms_norm(v, weight, self.eps, self.weight_offset), v
        bias = self.parameters("bias")
        return norm_oracle.layer_norm(v, weight, bias, self.eps, self.weight_offset), v


class StridedRegion:
    """Rows in device memory with poison between and around them."""

    def __init__(self, memory: Arena, case: NormCase, number: int, rows: slice) -> None:
        self.dtype = oracle.dtype_of(case.dtype)
        self.tokens, self.hidden = rows.stop - rows.start, case.hidden
        self.stride = case.hidden + case.gaps[number]
        elements = (self.tokens - 1) * self.stride + self.hidden if self.tokens else 0
        self.region = memory.region(elements * self.dtype.itemsize, case.offsets[number])
        self.address = self.region.address

    def _rows(self, image: Array) -> Array:
        """A view of the rows in an image of the region's bytes."""
        size = self.dtype.itemsize
        row, shape = self.hidden * size, (self.tokens, self.hidden * size)
        return np.lib.stride_tricks.as_strided(image, shape, (self.stride * size, 1)) if row else image

    def put(self, rows: Array) -> None:
        image = np.full(self.region.nbytes, POISON, np.uint8)
        self._rows(image)[:] = np.ascontiguousarray(rows).view(np.uint8)
        self.region.put(image)

    def get(self) -> Array:
        """The rows. Raises AssertionError if something between or around them has changed."""
        image = self.region.get(np.dtype(np.uint8))
        rows = self._rows(image).copy().view(self.dtype)
        self._rows(image)[:] = POISON
        assert (image == POISON).all(), "bytes between rows were overwritten"
        return rows.reshape(self.tokens, self.hidden)


class MadeNorm:
    """A call on buffers of its own, to be made as often as wanted."""

    def __init__(self, comm: Any, memory: Arena, case: NormCase) -> None:
        self.comm, self.case = comm, case
        rank, world = comm.rank, comm.world_size
        of_residual, of_results = case.of_residual(rank, world), case.of_results(rank, world)
        self.x = StridedRegion(memory, case, 0, slice(0, case.tokens))
        self.residual = StridedRegion(memory, case, 1, of_residual) if case.residual else None
        places = {"residual": self.residual, "x": self.x}
        self.out = self._output(memory, case.out, places, 2, of_results)
        self.residual_out = self._output(memory, case.residual_out, places, 3, of_residual)
        self.parameters: dict[str, Region] = {}
        asked = case.quantised
        tokens = of_results.stop - of_results.start
        self.quantised = None if asked is None else QuantisedRegion(memory, asked, tokens, case.hidden)
        for number, name in ((4, "weight"), (5, "bias")):
            values = case.parameters(name)
            if values is not None:
                self.parameters[name] = memory.region(values.nbytes, case.offsets[number])

    def _output(
        self, memory: Arena, which: str, places: dict[str, Any], number: int, rows: slice
    ) -> StridedRegion | None:
        if which == "none":
            return None
        return StridedRegion(memory, self.case, number, rows) if which == "own" else places[which]

    def fill(self, case: NormCase | None = None) -> None:
        """Inputs, of another case of the same shape if given, and poison where results will be."""
        self.case = case = case or self.case
        for output in (self.out, self.residual_out):
            if output is not None:
                output.region.put(np.full(output.region.nbytes, POISON, np.uint8))
        if self.quantised is not None:
            self.quantised.poison()
        self.x.put(case.x_of(self.comm.rank))
        if self.residual is not None:
            rank, world = self.comm.rank, self.comm.world_size
            self.residual.put(case.residual_of(rank, world)[case.of_residual(rank, world)])
        for name, region in self.parameters.items():
            region.put(case.parameters(name))

    def call(self, stream: Any = None) -> None:
        case = self.case
        arrays = {
            "x": self.x,
            "residual": self.residual,
            "out": self.out,
            "residual_out": self.residual_out,
        }
        given = {name: None if rows is None else rows.address for name, rows in arrays.items()}
        names = ["weight"] if case.operation.endswith("rms_norm") else ["weight", "bias"]
        given |= {name: self.parameters[name].address if name in self.parameters else None for name in names}
        strides = {name: rows.stride for name, rows in arrays.items() if rows is not None}
        which = {getattr(case, name) for name in names} - {"none"}
        assert len(which) <= 1, "weight and bias at addresses are of one dtype"
        getattr(self.comm, case.operation)(
            **given,
            eps=case.eps,
            weight_offset=case.weight_offset,
            shape=case.shape,
            dtype=case.dtype,
            weight_dtype=case.dtype if which == {"same"} else "float32",
            quantised=None if self.quantised is None else self.quantised.argument(),
            row_strides=strides,
            stream=stream,
            **({"residual_layout": case.layout} if case.operation in FUSED else {}),
        )

    def check(self, *, with_oracle: bool) -> int:
        """A checksum of the results. Raises AssertionError where they are not the oracle's, if asked."""
        case, rank, world = self.case, self.comm.rank, self.comm.world_size
        of_residual, of_results = case.of_residual(rank, world), case.of_results(rank, world)
        expected: tuple[Any, Any] = (None, None)
        if with_oracle:
            out, residual_out = case.expected(rank, world)
            expected = out[of_results], residual_out[of_residual]
        total = 0
        for name, rows, values in zip(
            ("out", "residual_out"), (self.out, self.residual_out), expected, strict=True
        ):
            if rows is None:
                continue
            got = rows.get()
            if values is not None:
                problem = oracle.difference(got.reshape(-1), values.reshape(-1))
                assert not problem, f"{name} of {case} in a world of {world}: {problem}"
            bits = np.where(np.isnan(got), 0, oracle.bits(got))
            total = zlib.crc32(np.ascontiguousarray(bits), total)
        if self.quantised is not None and case.quantised is not None:
            made = self.quantised.get()
            problem = expected[0] is not None and quantised_cases.difference(
                case.quantised, made, expected[0]
            )
            assert not problem, f"{case} in a world of {world}: {problem}"
            for part in made:
                total = zlib.crc32(np.ascontiguousarray(part), total)
        residual = case.residual_of(rank, world)
        inputs_of_residual = None if residual is None else residual[of_residual]
        for rows, inputs in ((self.x, case.x_of(rank)), (self.residual, inputs_of_residual)):
            if rows is not None and rows is not self.out and rows is not self.residual_out and with_oracle:
                problem = oracle.difference(rows.get().reshape(-1), inputs.reshape(-1))
                assert not problem, f"{case} changed an input: {problem}"
        return total


def run(comm: Any, rng: np.random.Generator, chosen: list[NormCase], burst: int = 6) -> list[int]:
    """Make all calls, some of them back to back before their results are checked; return their checksums."""
    memory, checksums = arena(), []
    for begin in range(0, len(chosen), burst):
        made = [MadeNorm(comm, memory, case) for case in chosen[begin : begin + burst]]
        for each in made:
            each.fill()
        for each in made:
            cases.skew(rng)
            each.call()
        comm.synchronize()
        for number, each in enumerate(made):
            is_own = each.case.operation in (*LOCAL, *SCATTERED) or each.case.layout == "sharded"
            sum_ = each.check(with_oracle=is_own or (begin + number) % comm.world_size == comm.rank)
            checksums.append(0 if is_own else sum_)
        memory.reset()
    return checksums


def draw(rng: np.random.Generator, seed: tuple[int, ...], **fixed: Any) -> NormCase:
    """A call; what is not *fixed* is drawn. All ranks must draw alike."""
    pick = functools.partial(_pick, rng)
    operation = fixed.get("operation") or pick(FUSED)
    has_residual = fixed.get("residual", bool(rng.random() < 0.75))
    hidden = fixed.get("hidden") or pick(HIDDEN)
    most = max(1, min(24, 40000 // hidden))
    aligned = rng.random() < 0.4
    parameters = pick(PARAMETERS)
    outs = [("own", "own"), ("x", "own"), ("own", "none"), ("none", "own"), ("own", "x")]
    if has_residual:
        outs += [("own", "residual"), ("x", "residual")]
    out, residual_out = outs[int(rng.integers(0, len(outs)))]
    dense = rng.random() < 0.5
    gaps = [0 if dense else int(rng.integers(0, 40)) for _ in range(4)]
    if operation in SCATTERED or fixed.get("layout") == "sharded":  # x has other rows than these
        has_own = [("own", "own"), ("own", "none"), ("none", "own")] + [("own", "residual")] * has_residual
        has_own += [("x", "own")] * (operation not in SCATTERED)
        out, residual_out = has_own[int(rng.integers(0, len(has_own)))]
        outs = has_own
    drawn = {
        "operation": operation,
        "tokens": int(rng.integers(0, most + 1)),
        "hidden": hidden,
        "dtype": pick(DTYPES),
        "residual": has_residual,
        "weight": parameters,
        "bias": parameters if operation.endswith("layer_norm") and rng.random() < 0.7 else "none",
        "weight_offset": pick((0.0, 1.0, -0.37)),
        "eps": pick((1e-6, 1e-5, 0.0, 0.1)),
        "out": out,
        "residual_out": residual_out,
        "gaps": tuple(gaps),
        "offsets": (0,) * 6 if aligned else tuple(int(value) for value in rng.integers(0, 16, 6)),
        "kind": pick(KINDS),
        "seed": seed,
    }
    if fixed.get("quantised"):  # and any subset of the other outputs
        drawn["out"], drawn["residual_out"] = outs[-1] if rng.random() < 0.3 else ("none", "none")
        if rng.random() < 0.6:
            drawn["weight"], drawn["bias"] = "groups", "none"
    return NormCase(**{**drawn, **fixed})


def _pick(rng: np.random.Generator, values: Any) -> Any:
    return values[int(rng.integers(0, len(values)))]
