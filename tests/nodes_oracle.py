"""What collectives over nodes must return: the contract of docs/nodes.md in plain NumPy.

Rank order within a node, node order between nodes, the nodes' partial results unrounded, one rounding at the
end. What only moves is as on one node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import oracle

Array = np.ndarray[Any, Any]


def reduce(
    inputs: Sequence[Array], op: str, nodes: Sequence[Sequence[int]], world: int | None = None
) -> Array:
    """The all-reduce of the ranks' inputs.

    *nodes*: the ranks of each node. *world*: what an average is divided by, where that is not their number.
    """
    dtype, world = inputs[0].dtype, world or len(inputs)
    if not oracle.is_float(dtype):
        if op == "avg" and world != len(inputs):  # divided toward zero, of the sum that has wrapped
            total = oracle.reduce(list(inputs), "sum")
            return np.array([int(abs(int(t)) // world) * (1 if t >= 0 else -1) for t in total]).astype(dtype)
        return oracle.reduce([inputs[rank] for node in nodes for rank in node], op)  # wraps: any order
    wide = np.float64 if dtype == np.float64 else np.float32
    with np.errstate(all="ignore"):
        partials = []
        for node in nodes:
            partial = inputs[node[0]].astype(wide)
            for rank in node[1:]:
                partial = oracle._combine(partial, inputs[rank].astype(wide), op)
            partials.append(partial)
        total = partials[0]
        for partial in partials[1:]:
            total = oracle._combine(total, partial, op)
        if op == "avg":
            total = total / wide(world)
        return total.astype(dtype)


def results(
    operation: str, sent: list[Array], op: str, root: int, rows: int, nodes: Sequence[Sequence[int]]
) -> list[Array | None]:
    """What each rank must receive, by rank; None: nothing."""
    world = len(sent)
    if operation in ("all_reduce", "reduce"):
        result = reduce(sent, op, nodes)
        return [result if operation == "all_reduce" or rank == root else None for rank in range(world)]
    if operation == "reduce_scatter":
        whole = reduce(sent, op, nodes).reshape(rows, world, -1)
        return [whole[:, rank].reshape(-1) for rank in range(world)]
    return oracle.results(operation, sent, op, root, rows)
