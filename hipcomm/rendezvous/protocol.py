"""The rendezvous wire format: frames, message layouts and limits.

``docs/rendezvous.md`` is the specification of what stands here, byte by byte. All integers are
little-endian and unsigned. Nothing in this file touches a socket.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

MAGIC = b"HIPC"
VERSION = 1

HEADER = struct.Struct("<4sBBHI")  # magic, version, type, reserved (zero), payload length
JOIN = struct.Struct("<IIII")  # rank, world size, time-out in ms, process id; then the token
GATHER = struct.Struct("<IIIHH")  # request, sequence, time-out in ms, group size, tag length
FAILED = struct.Struct("<IHI")  # request, reason code, peer; then text
REFUSED = struct.Struct("<HI")  # reason code, peer; then text
PEER = struct.Struct("<I")  # peer; then text (PEER_LOST, ABORTED)
U32 = struct.Struct("<I")

NO_PEER = 0xFFFFFFFF  # "no particular rank" where a frame has a peer field

MAX_WORLD = 1024
MAX_TOKEN = 128  # bytes
MAX_TAG = 255  # bytes of UTF-8
MAX_DATA = 1 << 20  # bytes that one rank gives to one all-gather
MAX_TEXT = 4096  # bytes of UTF-8; longer texts are cut
MAX_PENDING = 64  # all-gathers that one rank may have under way
MAX_MILLISECONDS = 0xFFFFFFFF

#: Payload limit of a connection that has not shown the token yet: a JOIN and nothing else.
MAX_JOIN_PAYLOAD = JOIN.size + MAX_TOKEN
#: Payload limit of a joined client: the largest GATHER.
MAX_CLIENT_PAYLOAD = GATHER.size + 4 * MAX_WORLD + MAX_TAG + MAX_DATA


def max_server_payload(world_size: int) -> int:
    """Return the longest payload, in bytes, that a client in a world of *world_size* may be sent."""
    return max(2 * U32.size + world_size * (U32.size + MAX_DATA), FAILED.size + MAX_TEXT)


class Type(enum.IntEnum):
    """Frame types: 1 to 15 go to the server, 16 and up come from it."""

    JOIN = 1
    GATHER = 2
    WAITING = 3
    ABORT = 4
    LEAVE = 5
    ACCEPTED = 16
    WELCOME = 17
    REFUSED = 18
    RESULT = 19
    FAILED = 20
    PEER_LOST = 21
    ABORTED = 22


class Refusal(enum.IntEnum):
    """Why a REFUSED frame was sent."""

    RANK_OUT_OF_RANGE = 1
    WRONG_WORLD_SIZE = 2
    DUPLICATE_RANK = 3
    WORLD_FULL = 4
    JOIN_TIMEOUT = 5
    PEER_LOST = 6


class GatherFailure(enum.IntEnum):
    """Why a FAILED frame was sent."""

    TIMEOUT = 1
    PEER_LOST = 2
    PEER_LEFT = 3


class ProtocolError(Exception):
    """The bytes received are not this protocol. Never leaves the package: it ends a connection."""


class Frame(NamedTuple):
    """One message as it stands on the wire, the header taken off."""

    type: int
    payload: bytes


class JoinMessage(NamedTuple):
    """A client asks to be *rank* of a world of *world_size* ranks."""

    rank: int
    world_size: int
    timeout_ms: int
    pid: int
    token: bytes


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
    encoded = text.encode("utf-8", "replace")[:MAX_TEXT]
    return encoded.decode("utf-8", "ignore").encode("utf-8")


def decode_text(payload: bytes) -> str:
    """Return the text of a frame; bytes that are not UTF-8 are shown as U+FFFD."""
    return payload[:MAX_TEXT].decode("utf-8", "replace")


def frame(kind: Type, payload: bytes = b"") -> bytes:
    """Build a whole frame, ready to be sent."""
    return HEADER.pack(MAGIC, VERSION, kind, 0, len(payload)) + payload


def pack_join(message: JoinMessage) -> bytes:
    """Build the JOIN frame."""
    fixed = JOIN.pack(message.rank, message.world_size, message.timeout_ms, message.pid)
    return frame(Type.JOIN, fixed + message.token)


def unpack_join(payload: bytes) -> JoinMessage:
    """Parse the payload of a JOIN. Raises :class:`ProtocolError`."""
    if not JOIN.size < len(payload) <= MAX_JOIN_PAYLOAD:
        raise ProtocolError(f"a JOIN of {len(payload)} bytes")
    rank, world_size, timeout_ms, pid = JOIN.unpack_from(payload)
    return JoinMessage(rank, world_size, timeout_ms, pid, payload[JOIN.size :])


def pack_gather(message: GatherMessage) -> bytes:
    """Build the GATHER frame."""
    tag = message.tag.encode("utf-8")
    fixed = GATHER.pack(message.request, message.sequence, message.timeout_ms, len(message.group), len(tag))
    group = struct.pack(f"<{len(message.group)}I", *message.group)
    return frame(Type.GATHER, fixed + group + tag + message.data)


def unpack_gather(payload: bytes) -> GatherMessage:
    """Parse the payload of a GATHER. Raises :class:`ProtocolError`."""
    if len(payload) < GATHER.size:
        raise ProtocolError(f"a GATHER of {len(payload)} bytes")
    request, sequence, timeout_ms, group_size, tag_length = GATHER.unpack_from(payload)
    tag_start = GATHER.size + U32.size * group_size
    data_start = tag_start + tag_length
    if group_size > MAX_WORLD or tag_length > MAX_TAG or data_start > len(payload):
        raise ProtocolError(f"a GATHER with a group of {group_size} and a tag of {tag_length} bytes")
    if len(payload) - data_start > MAX_DATA:
        raise ProtocolError(f"a GATHER with {len(payload) - data_start} bytes of data")
    group = struct.unpack_from(f"<{group_size}I", payload, GATHER.size)
    try:
        tag = payload[tag_start:data_start].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("a GATHER whose tag is not UTF-8") from error
    return GatherMessage(request, sequence, timeout_ms, group, tag, payload[data_start:])


def pack_result(request: int, parts: list[bytes]) -> bytes:
    """Build the RESULT frame: the parts of all ranks of the group, in the group's order."""
    pieces = [U32.pack(request), U32.pack(len(parts))]
    for part in parts:
        pieces.append(U32.pack(len(part)))
        pieces.append(part)
    return frame(Type.RESULT, b"".join(pieces))


def unpack_result(payload: bytes) -> tuple[int, list[bytes]]:
    """Parse the payload of a RESULT. Raises :class:`ProtocolError`."""
    parts: list[bytes] = []
    try:
        (request,) = U32.unpack_from(payload, 0)
        (count,) = U32.unpack_from(payload, U32.size)
        position = 2 * U32.size
        for _ in range(count):
            (length,) = U32.unpack_from(payload, position)
            position += U32.size + length
            parts.append(payload[position - length : position])
    except struct.error as error:
        raise ProtocolError("a RESULT that is cut short") from error
    if position != len(payload):
        raise ProtocolError(f"a RESULT of {len(payload)} bytes whose parts need {position}")
    return request, parts


def pack_failed(request: int, code: GatherFailure, peer: int, text: str) -> bytes:
    """Build the FAILED frame: one all-gather will not be completed."""
    return frame(Type.FAILED, FAILED.pack(request, code, peer) + encode_text(text))


def pack_refused(code: Refusal, peer: int, text: str) -> bytes:
    """Build the REFUSED frame: this client does not become, or no longer is, part of a world."""
    return frame(Type.REFUSED, REFUSED.pack(code, peer) + encode_text(text))


def pack_peer(kind: Type, peer: int, text: str) -> bytes:
    """Build a PEER_LOST or an ABORTED frame."""
    return frame(kind, PEER.pack(peer) + encode_text(text))


def unpack_with_text(layout: struct.Struct, payload: bytes) -> tuple[tuple[int, ...], str]:
    """Parse the fields of *layout* and the text behind them. Raises :class:`ProtocolError`."""
    if len(payload) < layout.size:
        raise ProtocolError(f"{len(payload)} bytes where at least {layout.size} belong")
    return layout.unpack_from(payload), decode_text(payload[layout.size :])


class Decoder:
    """Turns received bytes into frames, holding at most one frame.

    Receive at most :meth:`wanted` bytes and pass them to :meth:`feed`: no byte beyond the frame at
    hand is ever taken from the socket, so an announced length costs nothing until its bytes come.

    Args:
        limit: the longest payload accepted, in bytes; may be raised once the peer is known.
    """

    __slots__ = ("_buffer", "_length", "_type", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._type = 0
        self._length: int | None = None  # None while the header is incomplete

    @property
    def inside_frame(self) -> bool:
        """Tell whether a frame has begun and not ended."""
        return self._length is not None or bool(self._buffer)

    def wanted(self) -> int:
        """Return how many bytes to receive next: at least 1, at most 64 KiB."""
        end = HEADER.size if self._length is None else self._length
        return min(end - len(self._buffer), 1 << 16)

    def feed(self, data: bytes) -> Frame | None:
        """Take bytes in; return the frame that they complete, if any. Raises ProtocolError."""
        self._buffer += data
        if self._length is None:
            if len(self._buffer) < HEADER.size:
                return None
            magic, version, kind, reserved, length = HEADER.unpack(self._buffer)
            if magic != MAGIC or version != VERSION or reserved != 0:
                raise ProtocolError(f"a frame that begins with {bytes(self._buffer[:8])!r}")
            if length > self.limit:
                raise ProtocolError(f"a frame of {length} bytes where {self.limit} are allowed")
            self._type, self._length = kind, length
            self._buffer.clear()
        if len(self._buffer) < self._length:
            return None
        complete = Frame(self._type, bytes(self._buffer))
        self._buffer.clear()
        self._length = None
        return complete
