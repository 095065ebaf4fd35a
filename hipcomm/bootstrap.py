"""How a communicator comes to be and ends: the control plane's side, step by step.

join -> device -> memory -> kernels -> core -> meet -> ... -> leave together. Every step that one rank
could fail alone is followed by a word to the others, so that all ranks fail, with the same reason.
"""

from __future__ import annotations

import atexit
import logging
import struct
import sys
import weakref
from typing import Any

from hipcomm.core import check, ffi, lib
from hipcomm.environment import ALGORITHMS, Identity, Settings
from hipcomm.errors import Error, InvalidArgument, RendezvousError
from hipcomm.memory import Slabs, StatusPage
from hipcomm.platform import Device, Kernels, Platform, call, choose, open_device
from hipcomm.rendezvous import Client, connect

log = logging.getLogger("hipcomm")

# What all ranks must agree on: version of this exchange, algorithm, staging bytes, time-out, check,
# architecture; then, not compared: blocks, PCI bus id.
_AGREEMENT = struct.Struct("<IIQd?32s")
_VERSION = 1


class Bootstrap:
    """Everything that a communicator stands on. Its attributes are read, not written, from outside.

    Attributes:
        rank: this process's rank.
        world_size: the number of ranks.
        device: this rank's device.
        platform: the platform it is on.
        comm: the core's communicator.
    """

    def __init__(self, identity: Identity, settings: Settings) -> None:
        """Join, and set everything up. On an error everything is taken down again."""
        self.rank = identity.rank
        self.world_size = identity.world_size
        self.comm: Any = ffi.NULL
        self._settings = settings
        self._failed = False
        self._slabs: Slabs | None = None
        self._status: StatusPage | None = None
        self._kernels: Kernels | None = None
        # joining first: a rank that cannot even find its device can then say so to the others
        self._client: Client = connect(identity, settings)
        try:
            self.platform: Platform = choose(settings)
            self.device: Device = open_device(settings.device, identity.local_rank)
            self._set_up()
        except BaseException as error:
            self._client.abort(f"{type(error).__name__}: {error}")
            self._take_down()
            raise
        _living.add(self)
        log.info("rank %d: platform %s (%s)", self.rank, self.platform.name, self.platform.reason)
        log.debug("rank %d: %d bytes of device memory", self.rank, self._slabs.bytes if self._slabs else 0)

    def _gather(self, tag: str, data: bytes) -> list[bytes]:
        return self._client.all_gather(tag, data, self._settings.join_timeout)

    def _set_up(self) -> None:
        max_blocks = self._agree()
        layout = ffi.new("hipcommLayout *")
        check(lib.hipcommGetLayout(self.device.arch.encode(), self._settings.staging_bytes, layout))
        self._slabs = Slabs(self.rank, self.world_size, layout)
        self._slabs.exchange(self._gather)
        self._status = StatusPage(layout.status_bytes)
        self._kernels = Kernels(self.device.arch)

        arch = ffi.new("char[]", self.device.arch.encode())
        library = ffi.new("char[]", self.platform.library.encode())
        config = ffi.new("hipcommConfig *")
        config.rank, config.world, config.device = self.rank, self.world_size, self.device.ordinal
        config.hip_library, config.arch = library, arch
        config.max_blocks = max_blocks
        config.algorithm = ALGORITHMS.index(self._settings.algorithm)
        config.timeout_seconds = self._settings.timeout
        config.staging_bytes = self._settings.staging_bytes
        config.control, config.staging = self._slabs.control, self._slabs.staging
        config.status_host, config.status_device = self._status.host, self._status.device
        config.functions = self._kernels.functions
        created = ffi.new("hipcommComm_t *")
        check(lib.hipcommCommCreate(config, created))
        self.comm = created[0]
        # a peer's first kernel may write here as soon as this returns: everybody's slabs are ready
        self._gather("hipcomm/ready", b"")
        self._client.on_failure(self._on_failure)

    def _agree(self) -> int:
        """Compare what must be equal on all ranks; the number of blocks that all devices can hold."""
        settings = self._settings
        mine = _AGREEMENT.pack(
            _VERSION,
            ALGORITHMS.index(settings.algorithm),
            settings.staging_bytes,
            settings.timeout,
            settings.check,
            self.device.arch.split(":")[0].encode(),
        )
        blocks = struct.pack("<I", self.device.multiprocessors)
        gathered = self._gather("hipcomm/agreement", mine + blocks + self.device.pci_bus_id.encode())
        size = _AGREEMENT.size
        for peer, theirs in enumerate(gathered):
            if theirs[:size] != gathered[0][:size]:
                raise InvalidArgument(
                    f"rank {peer} and rank 0 differ in their settings: "
                    f"{_describe(theirs)} and {_describe(gathered[0])}"
                )
        devices = [message[size + 4 :] for message in gathered]
        for peer, device in enumerate(devices):
            first = devices.index(device)
            if first != peer:
                raise InvalidArgument(
                    f"ranks {first} and {peer} are on the same device, {device.decode()}: "
                    "kernels that wait for each other need a device each; see HIPCOMM_DEVICE"
                )
        return min(int(struct.unpack_from("<I", message, size)[0]) for message in gathered)

    # ---- failure ---------------------------------------------------------------------------------------

    def _on_failure(self, peer: int | None, reason: str) -> None:
        """Called by the client's thread: make waiting kernels leave, and later calls raise."""
        self._failed = True
        result = lib.hipcommPeerDied
        lib.hipcommCommAbort(self.comm, result, -1 if peer is None else peer, reason.encode())

    def note_failure(self, message: str) -> None:
        """A collective has failed here: closing must not wait for the others."""
        self._failed = True
        self._client.waiting(message)

    def abort(self, reason: str) -> None:
        """Tell all ranks, this one included, that the communicator has failed."""
        self._failed = True
        lib.hipcommCommAbort(self.comm, lib.hipcommPeerDied, self.rank, reason.encode())
        self._client.abort(reason)

    # ---- the end ---------------------------------------------------------------------------------------

    def close(self, patience: float) -> None:
        """Leave together; after a failure, alone."""
        _living.discard(self)
        try:
            if not self._failed:
                call("hipDeviceSynchronize")
                self._client.all_gather("hipcomm/close", b"", max(patience, self._settings.timeout))
        except Error as error:
            self._failed = True
            raise RendezvousError(f"rank {self.rank}: closing: {error}") from error
        finally:
            self._take_down()

    def _take_down(self) -> None:
        """Undo what has been done, peers' mappings first; own slabs only when all have unmapped them."""
        try:
            if self.comm != ffi.NULL and not self._failed:
                check(lib.hipcommCommDestroy(self.comm))
                self.comm = ffi.NULL
            if self._slabs is not None and not self._failed:
                self._slabs.close_peers()
                if self._client.failure is None:
                    self._client.all_gather("hipcomm/unmapped", b"", self._settings.join_timeout)
                    self._slabs.free()
                if self._status is not None:
                    self._status.free()
                if self._kernels is not None:
                    self._kernels.unload()
        finally:
            self._client.close()

    def leave_at_exit(self) -> None:
        """The interpreter ends and nobody has closed: say so, or say what went wrong."""
        error = getattr(sys, "last_value", None)
        if error is not None:
            self._client.abort(f"{type(error).__name__}: {error}")
        self._client.close()


def _describe(agreement: bytes) -> str:
    version, algorithm, staging, timeout, compare, arch = _AGREEMENT.unpack_from(agreement)
    return (
        f"(version {version}, HIPCOMM_ALGORITHM={ALGORITHMS[algorithm]}, HIPCOMM_STAGING_BYTES={staging}, "
        f"HIPCOMM_TIMEOUT={timeout:g}, HIPCOMM_CHECK={int(compare)}, {arch.rstrip(bytes(1)).decode()})"
    )


_living: weakref.WeakSet[Bootstrap] = weakref.WeakSet()


def _leave_all() -> None:
    for bootstrap in list(_living):
        bootstrap.leave_at_exit()


atexit.register(_leave_all)
