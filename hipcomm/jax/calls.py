"""The JAX primitive behind :mod:`hipcomm.jax`: one custom call, in the order of the program on all ranks.

XLA may run calls that do not depend on each other in any order, and in another one on each rank. So every
call has an ordered effect: JAX hands a token from one to the next, within a program and between programs.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax._src import core, dispatch, effects
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from hipcomm.core import ffi, lib
from hipcomm.installation import PACKAGE
from hipcomm.plan import OPERATIONS

_TARGET = "hipcomm_call"
_LIBRARY = PACKAGE / "lib" / "libhipcomm_jax.so"


class _CallOrder(effects.Effect):  # type: ignore[misc]  # JAX has no types here
    """All calls of hipcomm in one order, whatever their communicators: that of the program."""

    def __str__(self) -> str:
        return "hipcomm"


_EFFECT = _CallOrder()
for _set in (
    effects.ordered_effects,
    effects.lowerable_effects,
    effects.control_flow_allowed_effects,
    effects.custom_derivatives_allowed_effects,
    effects.remat_allowed_effects,
):
    _set.add_type(_CallOrder)


def _register(path: Path) -> None:
    if not path.exists():
        raise ImportError(
            f"hipcomm.jax: {path.name} is not built, as jaxlib was not there when hipcomm was installed: "
            "install jax first, then hipcomm again (in a checkout: make native)"
        )
    handlers = ctypes.CDLL(str(path))
    for platform, handler in (("cpu", "OnHost"), ("CUDA", "OnDevice"), ("ROCM", "OnDevice")):
        function = getattr(handlers, f"hipcommJax{handler}")
        jax.ffi.register_ffi_target(_TARGET, jax.ffi.pycapsule(function), platform=platform)


_register(_LIBRARY)

call_p = Primitive("hipcomm_call")
call_p.multiple_results = True
call_p.def_impl(functools.partial(dispatch.apply_primitive, call_p))


def number_of(comm: Any) -> int:
    """The number of a communicator; raises InvalidArgument if it is closed."""
    return int(lib.hipcommCommNumber(ffi.cast("hipcommComm_t", comm.handle)))


def call(operands: Sequence[Any], results: Sequence[Any], batch: str, **attributes: Any) -> list[Any]:
    """Put a call into the program.

    Args:
        operands: arrays.
        results: (shape, dtype) of each result.
        batch: where vmap puts x's further dimension, "first" or "last"; results have it there too.
        attributes: for the handler: integers and floats; ``operation`` is the name. ``like_x``: how many
            operands are of x's shape, 1 by default.
    """
    shapes = tuple((tuple(shape), np.dtype(dtype)) for shape, dtype in results)
    return list(call_p.bind(*operands, results=shapes, batch=batch, **attributes))


@call_p.def_effectful_abstract_eval  # type: ignore[untyped-decorator]  # likewise
def _abstract(*_: Any, results: Any, **attributes: Any) -> Any:
    return [core.ShapedArray(shape, dtype) for shape, dtype in results], {_EFFECT}


def _lower(ctx: Any, *operands: Any, results: Any, batch: str, operation: str, **attributes: Any) -> Any:
    with_token = ctx.replace(
        avals_in=[core.abstract_token, *ctx.avals_in], avals_out=[core.abstract_token, *ctx.avals_out]
    )
    values = {
        name: np.float64(value) if isinstance(value, float) else np.int64(value)
        for name, value in attributes.items()
    }
    rule = jax.ffi.ffi_lowering(_TARGET, has_side_effect=True)
    token = ctx.tokens_in.get(_EFFECT)
    token, *made = rule(with_token, token, *operands, operation=np.int64(OPERATIONS[operation]), **values)
    ctx.set_tokens_out(ctx.tokens_in.update_tokens(mlir.TokenSet({_EFFECT: token})))
    return made


mlir.register_lowering(call_p, _lower)


def _batch(arguments: Any, dimensions: Any, *, results: Any, batch: str, **attributes: Any) -> Any:
    """One call for the whole batch; the first *like_x* operands have it, those that follow cannot."""
    known = zip(arguments, dimensions, strict=True)
    size = next(x.shape[axis] for x, axis in known if axis is not None)
    place = 0 if batch == "first" else -1
    like_x = attributes.get("like_x", 1)
    if any(axis is not None for axis in dimensions[like_x:]):
        raise NotImplementedError("hipcomm.jax: a batch of weights or biases under vmap; use jax.lax.map")
    moved = [
        jax.numpy.repeat(jax.numpy.expand_dims(x, place), size, place)
        if axis is None
        else jax.numpy.moveaxis(x, axis, place)
        for x, axis in zip(arguments[:like_x], dimensions[:like_x], strict=True)
    ]
    if "rows" in attributes:
        attributes["rows"] *= size
    made = tuple(
        ((size, *extents) if batch == "first" else (*extents, size), dtype) for extents, dtype in results
    )
    out = call_p.bind(*moved, *arguments[like_x:], results=made, batch=batch, **attributes)
    return out, [0 if batch == "first" else len(extents) - 1 for extents, _ in made]


batching.primitive_batchers[call_p] = _batch
