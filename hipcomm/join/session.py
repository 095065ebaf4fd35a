"""How a communicator comes to be and ends: the control plane's side, step by step.

join -> device -> memory -> kernels -> core -> meet -> ... -> leave together. Every step that one rank
could fail alone is followed by a word to the others, so that all ranks fail, with the same reason.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from hipcomm import _wire as wire
from hipcomm.core import check, ffi, lib, result_of
from hipcomm.environment import Identity, Settings
from hipcomm.errors import Error, InvalidArgument, PeerDied, RendezvousError
from hipcomm.hip import call
from hipcomm.hip.device import Device, open_device, with_device
from hipcomm.hip.kernels import kernels_of
from hipcomm.hip.platform import Platform, choose
from hipcomm.installation import VERSION
from hipcomm.join.interrupts import Interrupts
from hipcomm.memory.heap import Heap
from hipcomm.memory.regions import Registrations
from hipcomm.memory.slabs import Slabs, StatusPage
from hipcomm.plan import ALGORITHMS, algorithm_name
from hipcomm.rendezvous import connect
from hipcomm.rendezvous.ranks import Ranks, unpack_each
from hipcomm.waiting import wait

_FAILED = b"\1"  # given at the close by a rank on which the communicator has failed

Opened = TypeVar("Opened")

DLPACK_DEVICES = {"cpu": 1, "nvidia": 2, "amd": 10, "amd-software": 10}  # kDLCPU, kDLCUDA, kDLROCM

log = logging.getLogger("hipcomm")


class Session:
    """Everything that a communicator is built on. Its attributes are read, not written, from outside.

    Attributes:
        ranks: who takes part.
        device: this rank's device.
        platform: the platform it is on.
        comm: the core's communicator; NULL once it is destroyed.
        memory_bytes: device memory that this rank has allocated for it, symmetric memory not counted.
        heap: its symmetric memory.
        registrations: the foreign memory that is registered with it.
        interrupts: what lets signal handlers run while a call waits.
    """

    def __init__(self, ranks: Ranks, settings: Settings, platform: Platform, device: Device) -> None:
        """Set everything up. Collective; on an error everything is taken down again, and the job fails."""
        self.ranks = ranks
        self.platform = platform
        self.device = device
        self.comm: Any = ffi.NULL
        self.memory_bytes = 0
        self._settings = settings
        self._failed = False
        # The client's thread aborts the communicator when a peer is lost, and found it destroyed under its
        # hands. Reentrant: a signal handler may abort in the middle of a close.
        self._lock = threading.RLock()
        self._idle = threading.Event()  # no call is under way
        self._idle.set()
        self._slabs: Slabs | None = None
        self._status: StatusPage | None = None
        try:
            self._set_up()
        except BaseException as error:
            ranks.abort(*_told(error))
            self._take_down()
            raise
        _living.add(self)
        log.debug("rank %d of %d: %d bytes of device memory", ranks.rank, ranks.world_size, self.memory_bytes)

    @classmethod
    def join(cls, identity: Identity, settings: Settings) -> Session:
        """Join the job and set up the communicator of all its ranks."""
        # joining first: a rank that cannot even find its device can then say so to the others
        ranks = Ranks.of_job(connect(identity, settings), settings.join_timeout)

        def opened() -> Session:
            platform = choose(settings)
            device = open_device(settings, identity.local_rank)
            log.info("rank %d: platform %s (%s)", identity.rank, platform.name, platform.reason)
            return cls(ranks, settings, platform, device)

        return open_together(ranks, opened)

    @with_device
    def split(self, color: int | None, key: int) -> Session | None:
        """Set up a communicator of those ranks that give the same color. Collective.

        Returns None where the color is None. Ranks are ordered by key, then by their number here.
        """
        mine = wire.Split(0, 0, 0) if color is None else wire.Split(color, key, 1)
        gathered = unpack_each(wire.Split, self.ranks.all_gather(wire.TAG_SPLIT, mine.pack()))
        if color is None:
            self.ranks.skip_subgroup()
            return None
        chosen = [
            (theirs.key, rank)
            for rank, theirs in enumerate(gathered)
            if theirs.takes_part and theirs.color == color
        ]
        ranks = self.ranks.subgroup([rank for _, rank in sorted(chosen)])
        return Session(ranks, self._settings, self.platform, self.device)

    def _set_up(self) -> None:
        max_blocks = self._agree()
        layout = ffi.new("hipcommLayout *")
        check(lib.hipcommGetLayout(self.device.arch.encode(), self._settings.staging_bytes, layout))
        self._slabs = Slabs(self.ranks, layout)
        self.memory_bytes = self._slabs.bytes
        self._status = StatusPage(layout.status_bytes)

        arch = ffi.new("char[]", self.device.arch.encode())
        library = ffi.new("char[]", self.platform.library.encode())
        config = ffi.new("hipcommConfig *")
        config.rank, config.world = self.ranks.rank, self.ranks.world_size
        config.device = self.device.ordinal
        config.hip_library, config.arch = library, arch
        config.max_blocks = max_blocks
        config.algorithm = ALGORITHMS[self._settings.algorithm]
        config.check = self._settings.check
        config.timeout_seconds = self._settings.timeout
        config.first_epoch = self._settings.first_epoch
        config.staging_bytes = self._settings.staging_bytes
        config.control, config.staging = self._slabs.control, self._slabs.staging
        config.status_host, config.status_device = self._status.host, self._status.device
        config.functions = kernels_of(self.device).functions
        created = ffi.new("hipcommComm_t *")
        check(lib.hipcommCommCreate(config, created))
        comm = created[0]
        kind = DLPACK_DEVICES[self.platform.name]
        self.heap = Heap(self.ranks, comm, self.device, kind)
        self.registrations = Registrations(self.ranks, comm, self.device)
        self.comm = comm  # from here on there is something to take down
        # a peer's first kernel may write here as soon as this returns: everybody's slabs are ready
        self.ranks.all_gather(wire.TAG_READY, b"")
        self.interrupts = Interrupts(self.comm, self.abort)
        self.ranks.on_failure(self._on_failure)
        self.ranks.on_leave(self._on_leave)
        self.ranks.on_ask(self._describe)

    def _agree(self) -> int:
        """Compare what must be equal on all ranks; the number of blocks that all devices can hold."""
        settings = self._settings
        mine = wire.Agreement(
            staging_bytes=settings.staging_bytes,
            timeout_us=round(settings.timeout * 1e6),
            algorithm=ALGORITHMS[settings.algorithm],
            check=settings.check,
            share_devices=settings.share_devices,
            version=VERSION.encode(),
            arch=self.device.arch.split(":")[0].encode(),
            multiprocessors=self.device.multiprocessors,
            device=self.device.pci_bus_id.encode(),
        )
        gathered = unpack_each(wire.Agreement, self.ranks.all_gather(wire.TAG_AGREEMENT, mine.pack()))
        for peer, theirs in enumerate(gathered):
            if _compared(theirs) != _compared(gathered[0]):
                raise InvalidArgument(
                    f"rank {peer} and rank 0 differ in their settings: "
                    f"{_describe(theirs)} and {_describe(gathered[0])}"
                )
        devices = [_text(theirs.device) for theirs in gathered]
        for peer, device in enumerate(devices):
            first = devices.index(device)
            if first != peer and not settings.share_devices:
                raise InvalidArgument(
                    f"ranks {first} and {peer} are on the same device, {device}: "
                    "kernels that wait for each other need a device each; see HIPCOMM_DEVICE, "
                    "or HIPCOMM_SHARE_DEVICES to try a program out"
                )
        return blocks_that_fit([theirs.multiprocessors for theirs in gathered], devices)

    def handle(self) -> Any:
        """The core's communicator to make calls with. Asked for once, and let go of before :meth:`close`.

        A call holds a reference to it as long as it runs. When the last one is gone no call is under way in
        any thread: that costs a call nothing, where a count of calls would have to be kept.
        """
        self._idle.clear()
        return ffi.gc(self.comm, lambda _, idle=self._idle: idle.set())

    # ---- failure ---------------------------------------------------------------------------------------

    def _on_failure(self, peer: int | None, reason: str, result: int) -> None:
        """Called by the client's thread: make waiting kernels leave, and later calls raise."""
        self._failed = True
        if result != lib.hipcommCallMismatch:  # which is the same error on all ranks
            result = lib.hipcommPeerDied
        self._abort_core(result, -1 if peer is None else peer, reason)

    def _on_leave(self, peer: int) -> None:
        """Called by the client's thread: kernels must not wait for more from a rank that has left."""
        with self._lock:
            if self.comm != ffi.NULL:
                check(lib.hipcommCommPeerLeft(self.comm, peer))

    def _describe(self) -> str:
        """What a kernel is waiting in; empty: in nothing, or not for long. Takes up to half a second."""
        text = ffi.new("char[]", 256)
        with self._lock:
            lib.hipcommCommDescribeWait(self.comm, text, len(text))
        what = ffi.string(text).decode(errors="replace")
        return f"waiting in {what}" if what else ""

    def note_failure(self, error: Error) -> None:
        """A collective has failed here: closing must not wait for the others."""
        is_first = not self._failed and not self.ranks.has_failed
        self._failed = True
        own, text = f"rank {self.ranks.number_in_job}: ", str(error)
        self.ranks.waiting(text if text.startswith(own) else own + text)  # a reason to abort() is not a wait
        if not is_first or not isinstance(error, PeerDied):
            return
        # a rank was missed that makes no more calls, and those who wait for this one would not hear of it
        if self.ranks.has_left(error.peer):
            self.ranks.abort(str(error), lib.hipcommPeerDied)
        else:  # the job goes on
            self.ranks.closing()

    def abort(self, reason: str | BaseException) -> None:
        """Tell all ranks, this one included, that the communicator has failed, by an error or otherwise."""
        text, result = (reason, lib.hipcommSuccess) if isinstance(reason, str) else _told(reason)
        self._failed = True
        self._abort_core(lib.hipcommPeerDied, self.ranks.rank, text)
        self.ranks.abort(text, result)

    def _abort_core(self, result: int, peer: int, reason: str) -> None:
        with self._lock:  # nothing happens where it is NULL
            lib.hipcommCommAbort(self.comm, result, peer, reason.encode(errors="replace"))

    # ---- the end ---------------------------------------------------------------------------------------

    @with_device
    def close(self, patience: float) -> None:
        """Leave together; after a failure, alone."""
        _living.discard(self)
        try:
            if not self._failed and self.interrupts.is_in_handler():
                self.abort("a signal handler closed the communicator while a call waited")
            patience = max(patience, self._settings.timeout)
            if not self._failed:
                self._await_calls(patience)
                self._await_device()
                self.ranks.closing()
                gathered = self.ranks.all_gather(wire.TAG_CLOSE, _FAILED if self._failed else b"", patience)
                # a rank that has failed does not say when it has unmapped its memory
                self._failed |= any(gathered)
            else:
                self.ranks.give(wire.TAG_CLOSE, _FAILED, patience)
        except Error as error:
            self._failed = True
            raise RendezvousError(f"rank {self.ranks.rank}: closing: {error}") from error
        except BaseException as error:  # Ctrl-C while it waits: what may be in use stays
            self.abort(error)
            raise
        finally:
            self._take_down()

    def _await_calls(self, patience: float) -> None:
        """Wait for calls that other threads have begun: they use what is about to be freed."""
        if not wait(self._idle, patience):
            problem = f"a call in another thread is under way for more than {patience:g} s"
            self.abort(problem)
            raise RendezvousError(problem)

    def _await_device(self) -> None:
        """Wait for all work of the device; in a thread, if that may take time: this one hears of signals."""
        if self.device.host_is_device:
            call("hipDeviceSynchronize")
            return
        done, errors = threading.Event(), []

        def synchronize() -> None:
            try:
                with self.device.current():
                    call("hipDeviceSynchronize")
            except Error as error:
                errors.append(error)
            finally:
                done.set()

        threading.Thread(target=synchronize, name="hipcomm-close", daemon=True).start()
        while not wait(done, self._settings.timeout):
            pass  # hipcomm's kernels end by themselves; the program's own may take as long as they like
        if errors:
            raise errors[0]

    def _take_down(self) -> None:
        """Undo what has been done, peers' mappings first; own slabs only when all have unmapped them."""
        has_heap = self.comm != ffi.NULL
        try:
            if has_heap:  # where it is not destroyed, launches of a graph may still come to wait
                check(lib.hipcommCommSetInterrupt(self.comm, ffi.NULL, ffi.NULL))
            if has_heap and not self._failed:
                self.heap.close_peers()
                self.registrations.close_peers()
                with self._lock:
                    comm, self.comm = self.comm, ffi.NULL
                    check(lib.hipcommCommDestroy(comm))
            if self._slabs is not None and not self._failed:
                self._slabs.close_peers()
                if not self.ranks.has_failed:
                    self.ranks.all_gather(wire.TAG_UNMAPPED, b"")
                    self._slabs.free()
                    if has_heap:
                        self.heap.free_all()
                if self._status is not None:
                    self._status.free()
        finally:
            self.ranks.leave(self._failed)

    def leave_at_exit(self) -> None:
        """The interpreter ends and nobody has closed: say so, or say what went wrong."""
        error = getattr(sys, "last_value", None)
        if error is not None:
            self.ranks.abort(*_told(error))
        elif not self._failed:
            # what is on its way to the peers has to arrive before they are told that nothing more will come
            with self.device.current(), suppress(Error):
                call("hipDeviceSynchronize")
        self.ranks.leave_job()


def open_together(ranks: Ranks, opened: Callable[[], Opened]) -> Opened:
    """Return what *opened* returns; where it raises, tell the other ranks, so that all fail, and leave."""
    try:
        return opened()
    except BaseException as error:
        ranks.abort(*_told(error))
        ranks.leave(has_failed=True)
        raise


def _told(error: BaseException) -> tuple[str, int]:
    """An error as other ranks are told of it: a text, and its result code."""
    return f"{type(error).__name__}: {error}", result_of(type(error))


def blocks_that_fit(multiprocessors: list[int], devices: list[str]) -> int:
    """The number of blocks that a kernel may have on every rank, one for each multiprocessor.

    Blocks of all ranks wait for each other, so those of ranks on one device must fit on it side by side.

    Args:
        multiprocessors: of each rank's device.
        devices: what identifies each rank's device.
    """
    shares = [count // devices.count(device) for count, device in zip(multiprocessors, devices, strict=True)]
    return max(1, min(shares))


def _compared(agreement: wire.Agreement) -> wire.Agreement:
    return agreement._replace(multiprocessors=0, device=b"")


def _describe(agreement: wire.Agreement) -> str:
    return (
        f"(version {_text(agreement.version)}, HIPCOMM_ALGORITHM={algorithm_name(agreement.algorithm)}, "
        f"HIPCOMM_STAGING_BYTES={agreement.staging_bytes}, HIPCOMM_TIMEOUT={agreement.timeout_us / 1e6:g}, "
        f"HIPCOMM_CHECK={agreement.check}, HIPCOMM_SHARE_DEVICES={agreement.share_devices}, "
        f"{_text(agreement.arch)})"
    )


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode(errors="replace")


_living: weakref.WeakSet[Session] = weakref.WeakSet()


def leave_all() -> None:
    """The process ends: tell the other ranks so, whatever has not been closed. Idempotent."""
    # rank 0 last: it may host the server, and then waits for the others, who may be threads of this process
    for session in sorted(_living, key=lambda living: living.ranks.number_in_job, reverse=True):
        session.leave_at_exit()


atexit.register(leave_all)
