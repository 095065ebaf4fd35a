"""Which way an all-reduce over nodes takes: a model of the time that bytes need from node to node."""

from __future__ import annotations

from typing import NamedTuple

from hipcomm.nodes.layout import Layout


class Link(NamedTuple):
    """What an exchange between nodes costs.

    Attributes:
        latency: seconds for an exchange of a few bytes, and what a node's ranks do around it.
        bandwidth: bytes a second out of one node, all its ranks together.
    """

    latency: float
    bandwidth: float


def takes_short_way(layout: Layout, count: int, itemsize: int, accumulator: int, link: Link) -> bool:
    """Whether everything to everybody in one exchange is faster than a shard each, in two.

    The short way sends every rank's whole partial result to each other node. The long one sends each node
    that node's part of the partial result, and the rounded result back.

    Args:
        layout: of the world.
        count: elements of the message.
        itemsize: bytes of an element.
        accumulator: bytes of an element of a partial result.
        link: between the nodes.
    """
    largest = max(map(len, layout.members))
    elsewhere = layout.num_nodes - 1
    short_bytes = count * accumulator * largest * elsewhere
    long_bytes = count * (accumulator + itemsize) * elsewhere / layout.num_nodes
    return link.latency + short_bytes / link.bandwidth <= 2 * link.latency + long_bytes / link.bandwidth
