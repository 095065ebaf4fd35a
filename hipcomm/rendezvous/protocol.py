"""The rendezvous frames, packed and unpacked, and the checks on what is received.

Their fixed parts and the limits are those of ``hipcomm/abi/wire.h``; here is what follows a fixed part.
``docs/protocol.md`` is the specification. Nothing in this file touches a socket.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

from hipcomm import _wire as wire

_Layout = TypeVar("_Layout", wire.Refused, wire.Failed, wire.Abort, wire.Peer)

MAGIC = wire.MAGIC.encode()
MAX_MILLISECONDS = 0xFFFFFFFF
SUCCESS, PEER_DIED = 0, 4  # hipcommResult_t: the rendezvous does without the core, which has the rest

#: Payload limit of a connection that has not shown the token yet: a JOIN and nothing else.
MAX_JOIN_PAYLOAD = wire.Join.size()
#: Payload limit of a joined client: the largest GATHER.
MAX_CLIENT_PAYLOAD = wire.Gather.size() + 4 * wire.MAX_WORLD + wire.MAX_TAG + wire.MAX_DATA


def max_server_payload(world_size: int) -> int:
    """Return the longest payload, in bytes, that a client in a world of *world_size* may be sent."""
    return max(
        wire.Result.size() + world_size * (4 + wire.MAX_DATA),
        wire.Failed.size() + wire.MAX_TEXT,
    )


class ProtocolError(Exception):
    """The bytes received are not this protocol. Never leaves the package: it ends a connection."""


class Frame(NamedTuple):
    """One frame as it is on the wire, the header taken off."""

    type: int
    payload: bytes


class GatherMessage(NamedTuple):
    """One rank's part of an all-gather; an empty *group* means the whole world."""

    request: int
    sequence: int
    timeout_ms: int
    group: tuple[int, ...]
    tag: str
    data: bytes


def milliseconds(seconds: float) -> int:
    """Return *seconds* as a wire time-out: at least 1 ms, at most 2**32 - 1 ms."""
    return max(1, min(MAX_MILLISECONDS, round(seconds * 1000)))


def encode_text(text: str) -> bytes:
    """Return *text* as UTF-8 of at most ``MAX_TEXT`` bytes, cut between characters."""
    encoded = text.encode("utf-8", "replace")[: wire.MAX_TEXT]
    return encoded.decode("utf-8", "ignore").encode("utf-8")


def decode_text(payload: bytes) -> str:
    """Return the text of a frame; bytes that are not UTF-8 are shown as U+FFFD."""
    return payload[: wire.MAX_TEXT].decode("utf-8", "replace")


def pad_token(token: str) -> bytes:
    """Return a token as a JOIN has it, filled with zeros."""
    return token.encode().ljust(wire.MAX_TOKEN, b"\0")


def frame(kind: wire.Type, payload: bytes = b"") -> bytes:
    """Build a whole frame, ready to be sent."""
    return wire.Header(MAGIC, wire.VERSION, kind, len(payload)).pack() + payload


def unpack_join(payload: bytes) -> wire.Join:
    """Parse the payload of a JOIN. Raises :class:`ProtocolError`."""
    if len(payload) != wire.Join.size():
        raise ProtocolError(f"a JOIN of {len(payload)} bytes")
    return wire.Join.unpack(payload)


def pack_gather(message: GatherMessage) -> bytes:
    """Build the GATHER frame."""
    tag, group = message.tag.encode("utf-8"), message.group
    fixed = wire.Gather(message.request, message.sequence, message.timeout_ms, len(group), len(tag))
    return frame(wire.Type.GATHER, fixed.pack() + _numbers(group) + tag + message.data)


def unpack_gather(payload: bytes) -> GatherMessage:
    """Parse the payload of a GATHER. Raises :class:`ProtocolError`."""
    if len(payload) < wire.Gather.size():
        raise ProtocolError(f"a GATHER of {len(payload)} bytes")
    fixed = wire.Gather.unpack(payload)
    tag_start = wire.Gather.size() + 4 * fixed.group_size
    data_start = tag_start + fixed.tag_length
    if not (
        fixed.group_size <= wire.MAX_WORLD
        and 0 < fixed.tag_length <= wire.MAX_TAG
        and data_start <= len(payload)
    ):
        raise ProtocolError(f"a GATHER with {fixed.group_size} ranks and {fixed.tag_length} bytes of tag")
    if len(payload) - data_start > wire.MAX_DATA:
        raise ProtocolError(f"a GATHER with {len(payload) - data_start} bytes of data")
    try:
        tag = payload[tag_start:data_start].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("a GATHER whose tag is not UTF-8") from error
    return GatherMessage(
        fixed.request,
        fixed.sequence,
        fixed.timeout_ms,
        _read_numbers(payload, wire.Gather.size(), fixed.group_size),
        tag,
        payload[data_start:],
    )


def pack_result(request: int, parts: list[bytes]) -> bytes:
    """Build the RESULT frame: the parts of all ranks of the group, in the group's order."""
    fixed = wire.Result(request, len(parts)).pack()
    return frame(wire.Type.RESULT, b"".join([fixed, _numbers([len(part) for part in parts]), *parts]))


def unpack_result(payload: bytes) -> tuple[int, list[bytes]]:
    """Parse the payload of a RESULT. Raises :class:`ProtocolError`."""
    if len(payload) < wire.Result.size():
        raise ProtocolError(f"a RESULT of {len(payload)} bytes")
    fixed = wire.Result.unpack(payload)
    start = wire.Result.size() + 4 * fixed.parts
    if start > len(payload):
        raise ProtocolError(f"a RESULT of {len(payload)} bytes with {fixed.parts} parts")
    borders = [start]
    for length in _read_numbers(payload, wire.Result.size(), fixed.parts):
        borders.append(borders[-1] + length)
    if borders[-1] != len(payload):
        raise ProtocolError(f"a RESULT of {len(payload)} bytes whose parts end at {borders[-1]}")
    return fixed.request, [payload[begin:end] for begin, end in pairwise(borders)]


def pack_with_text(
    kind: wire.Type, fixed: wire.Refused | wire.Failed | wire.Abort | wire.Peer, text: str
) -> bytes:
    """Build a frame that has a text after its fixed part."""
    return frame(kind, fixed.pack() + encode_text(text))


def unpack_with_text(layout: type[_Layout], payload: bytes) -> tuple[_Layout, str]:
    """Parse the payload of such a frame. Raises :class:`ProtocolError`."""
    size = layout.size()
    if len(payload) < size:
        raise ProtocolError(f"{len(payload)} bytes where at least {size} belong")
    return layout.unpack(payload), decode_text(payload[size:])


def _numbers(values: Sequence[int]) -> bytes:
    return array("I", values).tobytes()


def _read_numbers(payload: bytes, offset: int, count: int) -> tuple[int, ...]:
    values = array("I")
    values.frombytes(payload[offset : offset + values.itemsize * count])
    return tuple(values)


class Decoder:
    """Turns received bytes into frames, holding at most one frame.

    Receive at most :meth:`wanted` bytes and pass them to :meth:`feed`: no byte beyond the frame at
    hand is ever taken from the socket, so an announced length costs nothing until its bytes come.

    Args:
        limit: the longest payload accepted, in bytes; may be raised once the peer is known.
    """

    __slots__ = ("_buffer", "_header", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._header: wire.Header | None = None  # None while it is incomplete

    @property
    def inside_frame(self) -> bool:
        """Tell whether a frame has begun and not ended."""
        return self._header is not None or bool(self._buffer)

    def wanted(self) -> int:
        """Return how many bytes to receive next: at least 1, at most 64 KiB."""
        end = wire.Header.size() if self._header is None else self._header.length
        return min(end - len(self._buffer), 1 << 16)

    def feed(self, data: bytes) -> Frame | None:
        """Take bytes in; return the frame that they complete, if any. Raises ProtocolError."""
        self._buffer += data
        if self._header is None:
            if len(self._buffer) < wire.Header.size():
                return None
            header = wire.Header.unpack(bytes(self._buffer))
            if header.magic != MAGIC or header.version != wire.VERSION:
                raise ProtocolError(f"a frame that begins with {bytes(self._buffer[:8])!r}")
            if header.length > self.limit:
                raise ProtocolError(f"a frame of {header.length} bytes where {self.limit} are allowed")
            self._header = header
            self._buffer.clear()
        if len(self._buffer) < self._header.length:
            return None
        complete = Frame(self._header.type, bytes(self._buffer))
        self._buffer.clear()
        self._header = None
        return complete
