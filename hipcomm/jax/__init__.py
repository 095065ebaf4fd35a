"""Collectives in JAX programs: inside and outside ``jit``, under ``vmap``, ``scan``, ``grad`` and the rest.

::

    import hipcomm, hipcomm.jax

    comm = hipcomm.init()

    @jax.jit
    def step(x):
        return hipcomm.jax.all_reduce(x, comm) + 1

A compiled program makes the calls through an XLA FFI handler, without Python: on GPUs on XLA's stream, on
the CPU in XLA's thread. All ranks trace the same program. Its calls are made in one order on all of them,
that of the program, whether they depend on each other or not. The communicator's own methods may be called
once the program's calls are done (``jax.block_until_ready``). A process has one device.

A program does not hold the communicator: if it runs after ``comm.close()``, it raises. What goes wrong in a
call (a lost rank, a time-out) raises ``jax.errors.JaxRuntimeError`` with hipcomm's message, where JAX raises
what goes wrong in a program: in the call, or where its result is waited for.

Gradients are those of the sum of all ranks' losses: the reverse of ``all_reduce`` is an ``all_reduce`` of the
cotangents, that of ``all_gather`` a ``reduce_scatter``, and the other way round. Where every rank computes
the same loss from a sum, and only one of them should count, divide it by ``comm.world_size``. Reverse mode
is implemented, of reductions by "sum" and "avg".

Dtypes are those of the communicator's collectives; bits are theirs too.
"""

from __future__ import annotations

from hipcomm.jax.collectives import all_gather, all_reduce, all_to_all, reduce_scatter
from hipcomm.jax.norms import add_layer_norm, add_rms_norm, all_reduce_layer_norm, all_reduce_rms_norm

__all__ = [
    "add_layer_norm",
    "add_rms_norm",
    "all_gather",
    "all_reduce",
    "all_reduce_layer_norm",
    "all_reduce_rms_norm",
    "all_to_all",
    "reduce_scatter",
]
