"""A rendezvous client written from docs/protocol.md alone: sockets, struct, and the page's numbers.

Nothing of hipcomm is imported, on purpose: a client in another language can do no more.
"""

from __future__ import annotations

import os
import socket
import struct

JOIN, GATHER, WAITING, ABORT, LEAVE, CLOSING = 1, 2, 3, 4, 5, 6
ACCEPTED, WELCOME, REFUSED, RESULT, FAILED, PEER_LOST, ABORTED, PEER_LEFT = range(16, 24)


class ThirdClient:
    """One rank. Every method blocks, at most *patience* seconds."""

    def __init__(self, address, token, rank, world_size, patience=20.0):
        """Connect and send JOIN."""
        self.sock = socket.create_connection(address, timeout=patience)
        self.requests = 0
        self.sequences = {}
        fixed = struct.pack("<IIII128s", rank, world_size, int(patience * 1000), os.getpid(), token)
        self.send(JOIN, fixed)

    def send(self, kind, payload=b""):
        self.sock.sendall(struct.pack("<4sHHI", b"HIPC", 2, kind, len(payload)) + payload)

    def receive(self):
        """One frame, as type and payload; None where the server has closed the connection."""
        header = self.exactly(12)
        if not header:
            return None
        magic, version, kind, length = struct.unpack("<4sHHI", header)
        assert (magic, version) == (b"HIPC", 2)
        return kind, self.exactly(length)

    def exactly(self, length):
        data = b""
        while len(data) < length:
            more = self.sock.recv(length - len(data))
            if not more:
                assert data == b""
                return b""
            data += more
        return data

    def welcome(self):
        """Wait for the others; the world size."""
        assert self.receive() == (ACCEPTED, b"")
        kind, payload = self.receive()
        assert kind == WELCOME
        return struct.unpack("<I", payload)[0]

    def gather(self, tag, data, timeout_ms=20000, group=()):
        """Send a GATHER; its request number."""
        self.requests += 1
        sequence = self.sequences.get((tag, group), 0)
        self.sequences[tag, group] = sequence + 1
        fixed = struct.pack("<IIIHH", self.requests, sequence, timeout_ms, len(group), len(tag))
        self.send(GATHER, fixed + struct.pack(f"<{len(group)}I", *group) + tag + data)
        return self.requests

    def result(self, request):
        """Wait for a RESULT; the parts. That a peer closes one of its communicators may come in between."""
        kind, payload = self.receive()
        while kind == PEER_LEFT and payload[8:]:
            kind, payload = self.receive()
        assert kind == RESULT
        number, count = struct.unpack_from("<II", payload)
        assert number == request
        lengths = struct.unpack_from(f"<{count}I", payload, 8)
        parts, position = [], 8 + 4 * count
        for length in lengths:
            parts.append(payload[position : position + length])
            position += length
        assert position == len(payload)
        return parts

    def all_gather(self, tag, data, group=()):
        return self.result(self.gather(tag, data, group=group))

    def event(self):
        """Wait for PEER_LOST, ABORTED or PEER_LEFT; type, peer, result, text."""
        kind, payload = self.receive()
        assert kind in (PEER_LOST, ABORTED, PEER_LEFT)
        return kind, *struct.unpack_from("<II", payload), payload[8:].decode()

    def closing(self, name):
        self.send(CLOSING, name.encode())

    def abort(self, result, reason):
        self.send(ABORT, struct.pack("<I", result) + reason.encode())

    def leave(self):
        """Leave in good order; what came before the server closed the connection."""
        self.send(LEAVE)
        frames = list(iter(self.receive, None))
        self.sock.close()
        return frames
