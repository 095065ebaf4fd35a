"""Several nodes, what needs no network: who is where, which way a message takes, and what is said at once."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from foreign_variables import clean_environment

from hipcomm.communicator import Communicator
from hipcomm.nodes.addresses import own_addresses, warn_if_public
from hipcomm.nodes.communicator import _INHERITED, NodesCommunicator
from hipcomm.nodes.layout import Layout
from hipcomm.nodes.model import Link, takes_short_way


def layouts(text):
    """The layouts of all ranks; *text* has a letter for each rank's node."""
    return [Layout.of(text, rank) for rank in range(len(text))]


def test_nodes_are_numbered_by_their_lowest_rank():
    layout = Layout.of("baabc", 3)
    assert layout.members == ((0, 3), (1, 2), (4,))
    assert (layout.node, layout.local_rank, layout.local_size, layout.num_nodes) == (0, 1, 2, 3)
    assert layout.others == [1, 2]
    assert layout.name(4) == "rank 4 (node 2)"


@pytest.mark.parametrize("text", ["aabb", "aaabb", "abab", "abcd", "aaaabbc", "abbbcc"])
def test_what_a_rank_sends_along_its_rail_is_what_the_other_expects(text):
    ranks = layouts(text)
    for layout in ranks:
        for node in layout.others:
            partner = layout.partner(node, layout.local_rank)
            assert layout.rank in ranks[partner].fed(layout.node)
            for member in layout.fed(node):
                assert ranks[member].partner(layout.node, ranks[member].local_rank) == layout.rank


@pytest.mark.parametrize("text", ["aabb", "aaabb", "abab", "abcd", "aaaabbc", "abbbcc"])
def test_every_rank_s_bytes_come_to_every_other_node_once(text):
    ranks = layouts(text)
    members = ranks[0].members
    for node, locals_ in enumerate(members):
        for other in ranks[locals_[0]].others:
            fed = [member for local in locals_ for member in ranks[local].fed(other)]
            assert sorted(fed) == list(members[other]), (node, other)


def test_small_messages_take_the_short_way_on_all_ranks_alike():
    link = Link(latency=1e-4, bandwidth=1e9)
    for text in ("aabb", "aaabb", "abcd"):
        ways = [
            [takes_short_way(layout, count, 2, 4, link) for count in (1, 100, 10**4, 10**6, 10**8)]
            for layout in layouts(text)
        ]
        assert all(way == ways[0] for way in ways)
        assert ways[0] == sorted(ways[0], reverse=True), "once long, always long"
        assert ways[0][0] and not ways[0][-1]


def test_what_it_does_not_define_it_refuses():
    own = {
        name
        for name in dir(Communicator)
        if not name.startswith("_") and callable(getattr(Communicator, name))
    }
    for name in own - _INHERITED:
        assert getattr(NodesCommunicator, name) is not getattr(Communicator, name), name


def test_a_public_address_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING, "hipcomm"):
        for address in ("10.0.0.1", "127.0.0.1", "192.168.3.4", "fe80::1", "node7"):
            warn_if_public(address)
        assert not caplog.records
        warn_if_public("8.8.8.8")
    assert "8.8.8.8, a public address" in caplog.text


def test_our_own_addresses_end_with_the_loopback():
    assert own_addresses()[-1].startswith("127.")


def test_ranks_under_torchrun_are_told_what_they_need():
    env = {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "10.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", "import hipcomm; hipcomm.init(platform='cpu')"],
        env=clean_environment(**env, MASTER_PORT="29500"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "rank 1 of 2: several nodes: set HIPCOMM_TOKEN" in done.stderr, done.stderr
