"""The communicator of a world over several nodes: the same calls, composed of those on each node."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from hipcomm import _wire as wire
from hipcomm.arguments import Arguments
from hipcomm.communicator import Communicator
from hipcomm.core import ffi, lib
from hipcomm.environment import Settings
from hipcomm.errors import Error, InvalidArgument, PeerTimeout, RendezvousError
from hipcomm.forking import belongs_to_this_process
from hipcomm.hip.device import Device
from hipcomm.hip.platform import Platform
from hipcomm.installation import VERSION
from hipcomm.join.session import Session, open_together
from hipcomm.memory.symmetric import SymmetricArray
from hipcomm.nodes import choice
from hipcomm.nodes.carrier import Carrier
from hipcomm.nodes.collectives import NodesCollectives
from hipcomm.nodes.composition import Composition
from hipcomm.nodes.failures import SLACK, Failures
from hipcomm.nodes.layout import Layout, identify
from hipcomm.nodes.local import Elements, Local
from hipcomm.nodes.model import Link
from hipcomm.nodes.progress import Progress
from hipcomm.rendezvous.ranks import Ranks, unpack_each

_CLOSE_PATIENCE = 10.0  # seconds
_MEASUREMENTS = 4  # runs, of which the best counts
_MEASURED_BYTES = 256 << 10  # from one rank to one other
_LEAST_SECONDS = 1e-6
_LINK = struct.Struct("<dd")  # seconds of a small and of a large exchange

_next_context = 0  # communicators over nodes that this process has been in


def form(
    ranks: Ranks, settings: Settings, open_device: Callable[[int], tuple[Platform, Device]]
) -> Communicator:
    """Make the communicator of these ranks, be they on one node or on several. Collective.

    Args:
        ranks: who takes part; becomes the communicator's.
        settings: of this rank.
        open_device: given the local rank, returns platform and device, and makes the device current.

    Raises:
        InvalidArgument: the settings or versions of two ranks differ.
        RendezvousError, PeerDied, PlatformError: on all ranks.
    """

    def opened() -> Communicator:
        layout, context = _lay_out(ranks, settings)
        platform, device = open_device(layout.local_rank)
        if layout.num_nodes == 1:
            return Communicator(Session(ranks, settings, platform, device))
        return NodesCommunicator(ranks, settings, layout, context, platform, device)

    return open_together(ranks, opened)


def _lay_out(ranks: Ranks, settings: Settings) -> tuple[Layout, int]:
    """Who is where; and a number that no other communicator of any of these ranks has."""
    global _next_context  # noqa: PLW0603
    host, boot = identify()
    mine = wire.Node(
        host=host.encode()[:64],
        boot=boot.encode()[:40],
        version=VERSION.encode(),
        carrier=settings.carrier.encode()[:8],
        timeout_us=round(settings.timeout * 1e6),
        context=_next_context,
        check=settings.check,
    )
    gathered = unpack_each(wire.Node, ranks.all_gather(wire.TAG_NODES, mine.pack()))
    for peer, theirs in enumerate(gathered):
        if _compared(theirs) != _compared(gathered[0]):
            raise InvalidArgument(
                f"rank {peer} and rank 0 differ in their settings: {_describe(theirs)} and "
                f"{_describe(gathered[0])}"
            )
    context = max(theirs.context for theirs in gathered) + 1
    _next_context = context
    return Layout.of([(theirs.host, theirs.boot) for theirs in gathered], ranks.rank), context


def _compared(node: wire.Node) -> wire.Node:
    return node._replace(host=b"", boot=b"", context=0)


def _describe(node: wire.Node) -> str:
    def text(field: bytes) -> str:
        return field.rstrip(b"\0").decode(errors="replace")

    return (
        f"(version {text(node.version)}, HIPCOMM_CARRIER={text(node.carrier)}, "
        f"HIPCOMM_TIMEOUT={node.timeout_us / 1e6:g}, HIPCOMM_CHECK={node.check}, on {text(node.host)})"
    )


class NodesCommunicator(NodesCollectives):
    """A :class:`~hipcomm.communicator.Communicator` over several nodes; docs/nodes.md has what is different.

    What it does not define it refuses by name: the last lines of this file see to that.
    """

    def __init__(
        self,
        ranks: Ranks,
        settings: Settings,
        layout: Layout,
        context: int,
        platform: Platform,
        device: Device,
    ) -> None:
        """Not for users: see :func:`form`. Collective."""
        self.rank, self.world_size = layout.rank, layout.world_size
        self.node, self.num_nodes, self.local_rank = layout.node, layout.num_nodes, layout.local_rank
        self.device, self.platform = device, platform.name
        self._comm = ffi.NULL
        self._gone = ""
        self._arguments = Arguments(self.rank, self.world_size, device.host_is_device)
        self._ranks, self._settings, self._layout = ranks, settings, layout
        self._platform = platform
        self._grouped = None
        self._all_reduce, self._fast_dtypes = self._all_reduce_over_nodes, {}
        self._failures = Failures(ranks, layout, settings.timeout)
        name = choice.choose(settings, platform.name)
        self._carrier: Carrier = choice.make(name, ranks, context, self._failures)
        self._failures.on_failure(self._carrier.abort)
        members = ranks.subgroup(layout.members[layout.node])
        patient = settings._replace(timeout=settings.timeout + SLACK)
        self._node = Communicator(Session(members, patient, platform, device))
        self._session = self._node._session
        self._local = Local(self._node, layout)
        self._progress = None
        if self._carrier.is_stream_ordered:
            self._progress = Progress(self._local, self._failures, self._fail_late)
        self._composition = Composition(layout, self._node, self._carrier, self._local, self._progress)
        if not self._carrier.is_stream_ordered:
            self._carrier.link = self._measured_link()
        belongs_to_this_process(self)

    def _measured_link(self) -> Link:
        """What an exchange costs here: the worst of all ranks, the same on all of them. Collective."""
        self._failures.operation = "init"
        nbytes, elements = _MEASURED_BYTES, Elements(lib.hipcommUint8, lib.hipcommMax)
        memory = self._local.scratch("measured", self.num_nodes * nbytes, ffi.NULL)
        small = self._timed(lambda: self._composition.all_reduce(memory, memory, 1, elements, ffi.NULL))
        large = self._timed(lambda: self._composition.exchange_along_rails(memory, nbytes))
        gathered = self._ranks.agree(wire.TAG_CARRIER, "", _LINK.pack(small, large))
        worst = [max(times) for times in zip(*map(_LINK.unpack, gathered), strict=True)]
        bytes_out = nbytes * max(map(len, self._layout.members)) * (self.num_nodes - 1)
        return Link(worst[0], bytes_out / max(worst[1] - worst[0], _LEAST_SECONDS))

    def _timed(self, run: Callable[[], object]) -> float:
        """Seconds, of the best of some runs."""
        best = float("inf")
        for _ in range(_MEASUREMENTS):
            begun = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - begun)
        return best

    def _fail_late(self, error: PeerTimeout) -> None:
        """The stream does not get through an exchange; called by a thread."""
        self._failures.note(error)
        self._carrier.abort()
        self._node.abort(error)

    # ---- parts, memory, life ---------------------------------------------------------------------------

    def split(self, color: int | None, key: int = 0) -> Communicator | None:
        color, key = self._color("color", color), self._color("key", key) or 0
        with self._calling("split", ffi.NULL):
            mine = wire.Split(0, 0, 0) if color is None else wire.Split(color, key, 1)
            gathered = unpack_each(wire.Split, self._ranks.all_gather(wire.TAG_SPLIT, mine.pack()))
            if color is None:
                self._ranks.skip_subgroup()
                return None
            chosen = sorted(
                (theirs.key, rank)
                for rank, theirs in enumerate(gathered)
                if theirs.takes_part and theirs.color == color
            )
            part = self._ranks.subgroup([rank for _, rank in chosen])
            return form(part, self._settings, lambda _: (self._platform, self.device))

    def _color(self, name: str, value: Any) -> int | None:
        is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if value is None and name == "color":
            return None
        if not is_integer or not -(1 << 63) <= int(value) < 1 << 63:
            raise self._arguments.refusal("split", f"{name} {value!r} is not an integer of 64 bits")
        return int(value)

    def empty(self, shape: int | Sequence[int], dtype: Any = "float32") -> SymmetricArray:
        """As of one node: memory that this node's ranks reach, for the calls within it."""
        with self._calling("empty", ffi.NULL):
            return self._node.empty(shape, dtype)

    def device_memory(self) -> int:
        with self._calling("device_memory", ffi.NULL):
            return self._node.device_memory() + self._local.nbytes

    def close(self) -> None:
        """Leave together; as of one node."""
        if self._gone:
            return
        self._forget("the communicator is closed")
        patience = max(_CLOSE_PATIENCE, self._settings.timeout)
        failed = self._failures.has_failed
        self._failures.operation = "close"
        try:
            if failed:
                self._ranks.give(wire.TAG_CLOSE, b"\1", patience)
            else:
                self._ranks.closing()
                failed = any(self._ranks.all_gather(wire.TAG_CLOSE, b"", patience))
        except Error as error:
            failed = True
            raise RendezvousError(f"rank {self.rank}: closing: {error}") from error
        except BaseException as error:
            failed = True
            self.abort(error)
            raise
        finally:
            if failed:
                self._carrier.abort()
                self._node._session.note_failure(Error("the world over nodes has failed"))
            self._carrier.close()
            self._node.close()
            if self._progress is not None:
                self._progress.close(is_safe=not failed)
            if not failed:
                self._local.free()
            self._ranks.leave(failed)

    def abort(self, reason: str | BaseException) -> None:
        """Fail the communicator on all ranks, at once."""
        if not self._gone:
            self._carrier.abort()
            self._node.abort(reason)
            text = reason if isinstance(reason, str) else f"{type(reason).__name__}: {reason}"
            self._failures.note(Error(f"{self._failures.me}: this rank aborted the job: {text}"))

    def __repr__(self) -> str:
        where = f"node {self.node} of {self.num_nodes}, carrier {self._carrier.name}"
        return f"<hipcomm.Communicator rank {self.rank} of {self.world_size}, {self._gone or where}>"

    def _living(self, operation: str) -> NoReturn:
        raise self._arguments.refusal(operation, "a world over nodes cannot do this")


def _refused(operation: str) -> Callable[..., NoReturn]:
    def refuse(self: NodesCommunicator, *_: Any, **__: Any) -> NoReturn:
        problem = "a world over nodes cannot do this; split_by_node() makes a communicator that can"
        raise self._arguments.refusal(operation, self._gone or problem)

    return refuse


# What works as it is, by _run() and the other methods.
_INHERITED = {
    *(
        "all_reduce",
        "reduce_scatter",
        "reduce",
        "all_gather",
        "all_gather_v",
        "broadcast",
        "gather",
        "scatter",
    ),
    *("all_to_all", "barrier", "send", "recv", "synchronize", "split_by_node", "cupy_allocator"),
    *("add_rms_norm", "add_layer_norm", "all_reduce_rms_norm", "all_reduce_layer_norm"),
}

_DONE = _INHERITED | vars(NodesCommunicator).keys() | vars(NodesCollectives).keys()

for _kind in Communicator.__mro__[:-1]:
    for _name, _method in vars(_kind).items():
        if callable(_method) and not _name.startswith("_") and _name not in _DONE:
            setattr(NodesCommunicator, _name, _refused(_name))
