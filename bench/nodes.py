"""What a hop between nodes costs: ``mpirun … python -m hipcomm_bench.nodes``, as every rank of several nodes.

Shows the all-reduce within a node, along the rails between nodes (one rank of each node), and of the whole
world, and MPI's own Allreduce over the same network. In place, float32; the time of a call in µs: the mean of
a run of calls on the slowest rank, of the best of some runs. Then what an exchange between nodes costs, all
rails at once: the constants of hipcomm/nodes/model.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import numpy as np

import hipcomm

_RUNS = 3


def measure(comm: hipcomm.Communicator, call: Callable[[], object], budget: float) -> float:
    """Return the seconds of a call. Collective: all ranks make as many."""
    call()
    comm.barrier()
    begun = time.perf_counter()
    call()
    wanted = budget / _RUNS / max(time.perf_counter() - begun, 1e-6)
    count = np.array([min(max(wanted, 3.0), 1000.0)])
    comm.all_reduce(count, op="min")
    best = np.inf
    for _ in range(_RUNS):
        comm.barrier()
        begun = time.perf_counter()
        for _ in range(int(count[0])):
            call()
        spent = np.array([(time.perf_counter() - begun) / int(count[0])])
        comm.all_reduce(spent, op="max")
        best = min(best, float(spent[0]))
    return best


def measure_link(comm: hipcomm.Communicator, rail: hipcomm.Communicator, nbytes: int, budget: float) -> str:
    """Return the cost of an exchange along the rails, from a few bytes and from many. Collective."""

    def exchange(part: int) -> float:
        send, recv = np.zeros((2, rail.world_size * part), np.uint8)
        return measure(comm, lambda: rail.all_to_all(send, recv), budget)

    latency, spent = exchange(8), exchange(nbytes)
    ranks = comm.world_size / comm.num_nodes
    bandwidth = ranks * (rail.world_size - 1) * nbytes / max(spent - latency, 1e-9)
    return f"an exchange: {1e6 * latency:.0f} µs for 8 bytes, then {bandwidth / 1e9:.2f} GB/s out of a node"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--smallest", type=click.IntRange(4), default=1 << 10, show_default=True, help="Bytes.")
@click.option("--largest", type=click.IntRange(4), default=16 << 20, show_default=True, help="Bytes.")
@click.option("--factor", type=click.IntRange(2), default=4, show_default=True, help="From size to size.")
@click.option(
    "--budget", type=click.FloatRange(0.01), default=0.5, show_default=True, help="Seconds a figure."
)
def main(smallest: int, largest: int, factor: int, budget: float) -> None:
    """Measure all-reduce within nodes, between nodes and of all, and MPI's own."""
    with hipcomm.init() as comm:
        from mpi4py import MPI

        inside = comm.split_by_node()
        rail = comm.split(comm.local_rank)
        assert rail is not None
        if comm.rank == 0:
            click.echo(f"{comm.world_size} ranks on {comm.num_nodes} nodes, {MPI.Get_library_version()[:16]}")
            click.echo("| bytes | inside | between | all | MPI |\n|---|---|---|---|---|")
        nbytes = smallest
        while nbytes <= largest:
            data = np.zeros(nbytes // 4, "float32")
            calls: list[Callable[[], object]] = [
                lambda d=data: inside.all_reduce(d),  # type: ignore[misc]
                lambda d=data: rail.all_reduce(d),  # type: ignore[misc]
                lambda d=data: comm.all_reduce(d),  # type: ignore[misc]
                lambda d=data: MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, d),  # type: ignore[misc]
            ]
            figures = [measure(comm, call, budget) for call in calls]
            if comm.rank == 0:
                cells = [f"{1e6 * figure:.0f}" for figure in figures]
                click.echo(f"| {nbytes} | {' | '.join(cells)} |")
            nbytes *= factor
        link = measure_link(comm, rail, largest, budget)
        if comm.rank == 0:
            click.echo(link)
        rail.close()
        inside.close()


if __name__ == "__main__":
    main()
