"""hipcomm's ways to do the fused operation, and its parts alone, for scale."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import hipcomm
from hipcomm_bench.clock import Prepared, in_turn, nothing
from hipcomm_bench.norms.rows import EPS, NormContestant, Result, Rows
from hipcomm_bench.session import Session


class Hipcomm(NormContestant):
    """all_reduce_rms_norm or all_reduce_layer_norm."""

    name: ClassVar[str] = "hipcomm"
    platforms: ClassVar[tuple[str, ...]] = ("amd", "nvidia", "cpu")
    ours: ClassVar[bool] = True
    algorithm: ClassVar[str | None] = None  # None: what HIPCOMM_ALGORITHM says

    @classmethod
    def why_missing(cls) -> str | None:
        """Return None: the benchmark itself needs hipcomm."""
        return None

    def __init__(self, session: Session) -> None:
        self.comm = session.communicator(self.name, self.algorithm)
        self._stream: dict[str, Any] = {} if session.stream is None else {"stream": session.stream}
        self.version = hipcomm.__version__

    def prepare(self, rows: Rows) -> Prepared:
        """Return the call, made with arrays."""
        wait = partial(self.comm.synchronize, **self._stream) if self._stream else nothing
        return Prepared(self._call(rows), wait=wait)

    def _call(self, rows: Rows) -> Callable[[], Any]:
        return self._norm(getattr(self.comm, f"all_reduce_{rows.norm}"), rows, rows.x.array)

    def _norm(self, method: Callable[..., None], rows: Rows, x: Any) -> Callable[[], Any]:
        parameters = [parameter.array for parameter in rows.parameters]
        outputs = rows.out.array, rows.residual_out.array
        keywords = dict(self._stream)
        if rows.quantisation is not None:
            assert rows.codes is not None and rows.scales is not None
            outputs = None, rows.residual_out.array
            keywords["quantised"] = hipcomm.Quantised(
                rows.codes.array,
                rows.scales.array,
                rows.quantisation.format,
                group=rows.quantisation.group if rows.quantisation.format == "fp8_per_group" else None,
                global_scale=None if rows.global_scale is None else rows.global_scale.array,
            )
        return partial(method, x, rows.residual.array, *parameters, EPS, *outputs, **keywords)

    def add_norm(self, rows: Rows, x: Any) -> Callable[[], Any]:
        """Return add_rms_norm or add_layer_norm of `x`."""
        return self._norm(getattr(self.comm, f"add_{rows.norm}"), rows, x)

    def all_reduce(self, rows: Rows) -> Callable[[], Any]:
        """Return the all_reduce of x into `out`."""
        return partial(self.comm.all_reduce, rows.x.array, rows.out.array, **self._stream)

    def close(self) -> None:
        """Close the communicator."""
        self.comm.close()


def _with_algorithm(algorithm: str) -> type[Hipcomm]:
    """Return the fused call with HIPCOMM_ALGORITHM, on its own communicator."""
    attributes = {"__module__": __name__, "name": f"hipcomm:{algorithm}", "algorithm": algorithm}
    return type(f"Hipcomm_{algorithm}", (Hipcomm,), attributes)


WITH_ALGORITHM = tuple(map(_with_algorithm, ("one_shot", "two_shot", "staged", "pipelined")))


class Pair(Hipcomm):
    """all_reduce, then add_rms_norm or add_layer_norm: the same bits in two launches."""

    name: ClassVar[str] = "hipcomm-pair"

    def _call(self, rows: Rows) -> Callable[[], Any]:
        return in_turn(self.all_reduce(rows), self.add_norm(rows, rows.out.array))


class AllReduce(Hipcomm):
    """all_reduce alone, for scale."""

    name: ClassVar[str] = "all_reduce"
    result = Result.SUM

    def _call(self, rows: Rows) -> Callable[[], Any]:
        return self.all_reduce(rows)


class AddNorm(Hipcomm):
    """add_rms_norm or add_layer_norm alone, for scale."""

    name: ClassVar[str] = "add-norm"
    result = Result.LOCAL

    def _call(self, rows: Rows) -> Callable[[], Any]:
        return self.add_norm(rows, rows.x.array)
