"""A rank whose control plane is the C library's: what :class:`~hipcomm.join.session.Session` is for Python's.

So every function that the tests send to ranks runs on ranks of either kind, and on worlds of both.
"""

from __future__ import annotations

import operator
import os
import types
from collections import deque
from collections.abc import Sequence

import numpy as np

from hipcomm.buffers.dtypes import resolve
from hipcomm.core import check, ffi, lib
from hipcomm.environment import VARIABLES, Identity, Settings
from hipcomm.errors import InvalidArgument
from hipcomm.hip.device import open_device
from hipcomm.hip.platform import choose
from hipcomm.join.session import DLPACK_DEVICES
from hipcomm.memory.symmetric import SymmetricArray

NO_COLOR = -(1 << 63)


class CHeap:
    """Symmetric memory."""

    def __init__(self, session):
        self._session = session
        self.rank = session.ranks.rank
        self.device = session.device
        self.dlpack_device = (DLPACK_DEVICES[session.platform.name], session.device.ordinal)
        self.garbage = deque()
        self.nbytes = 0  # the core's own affair
        self._serial = 0

    def allocate(self, shape, dtype):
        extents = tuple(operator.index(n) for n in (shape if isinstance(shape, Sequence) else (shape,)))
        resolved = resolve(dtype)
        memory = ffi.new("void **")
        size = int(np.prod(extents, dtype=object)) * resolved.itemsize
        check(lib.hipcommMemAlloc(self._session.comm, memory, size), self._session.comm)
        self._serial += 1
        return SymmetricArray(self, self._serial, int(ffi.cast("uintptr_t", memory[0])), extents, resolved)

    def free(self, array):
        if self._session.comm == ffi.NULL:
            raise InvalidArgument(f"rank {self.rank}: free: the communicator is closed")
        pointer = ffi.cast("void *", array.data_ptr)
        check(lib.hipcommMemFree(self._session.comm, pointer), self._session.comm)


class CRegistrations:
    """Registered memory."""

    def __init__(self, session):
        self._session = session

    def add(self, address, nbytes, problem=""):
        assert not problem, problem
        pointer = ffi.cast("void *", address)
        check(lib.hipcommRegister(self._session.comm, pointer, nbytes), self._session.comm)

    def remove(self, address, problem=""):
        assert not problem, problem
        pointer = ffi.cast("void *", address)
        check(lib.hipcommDeregister(self._session.comm, pointer), self._session.comm)


class CSession:
    """A communicator that C has made, and what :class:`~hipcomm.communicator.Communicator` asks of it."""

    def __init__(self, comm, platform, device):
        self.comm = comm
        self.platform = platform
        self.device = device
        rank, world = ffi.new("int *"), ffi.new("int *")
        check(lib.hipcommUserRank(comm, rank), comm)
        check(lib.hipcommCount(comm, world), comm)
        self.ranks = types.SimpleNamespace(rank=rank[0], world_size=world[0])
        self.interrupts = types.SimpleNamespace(take=lambda: None)
        self.memory_bytes = 0
        self.heap = CHeap(self)
        self.registrations = CRegistrations(self)

    @classmethod
    def join(cls, given):
        """Join the job that settings as for :func:`hipcomm.init` describe: C reads the environment."""
        settings, identity = Settings.read(given=given), Identity.read(given=given)
        platform = choose(settings)  # hip-python and the core are to use one library
        names = {variable.keyword: variable for variable in VARIABLES}
        said = {names[key].name: names[key]._text_of(value) for key, value in given.items()}
        os.environ.update(said)
        made = ffi.new("hipcommComm_t *")
        try:
            check(lib.hipcommInit(made))
        finally:
            for name in said:
                del os.environ[name]
        return cls(made[0], platform, open_device(settings, identity.local_rank))

    def handle(self):
        return self.comm

    def note_failure(self, error):
        """The core has told C's control plane."""

    def abort(self, reason):
        if self.comm != ffi.NULL:
            lib.hipcommAbort(self.comm, str(reason).encode())

    def split(self, color, key):
        part = ffi.new("hipcommComm_t *")
        color = NO_COLOR if color is None else color
        check(lib.hipcommSplit(self.comm, color, key, part), self.comm)
        return None if part[0] == ffi.NULL else CSession(part[0], self.platform, self.device)

    def close(self, patience):
        comm, self.comm = self.comm, ffi.NULL
        check(lib.hipcommDestroy(comm))
