"""One rank of the tests' worlds: a process that runs the functions which the tests send it.

:mod:`harness` starts :func:`main` in a new process, with its end of a pipe. Requests and replies are
pickled, so functions travel by name and must stand at the top level of a module under tests/.
"""

from __future__ import annotations

import faulthandler
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import checking
import numpy as np
from c_session import CSession

from hipcomm.communicator import Communicator
from hipcomm.environment import Identity, Settings
from hipcomm.join.session import Session
from hipcomm.logs import configure

# What only the HIP library beneath reads, in the process that starts the tests.
KEPT = ("HIPCOMM_AMD_SOFTWARE", "HIPCOMM_CPU_DEVICES")


class Open(NamedTuple):
    """Make a communicator with these settings, as for :func:`hipcomm.init`.

    first_epoch: where its epochs begin; 0 is the default.
    in_c: by the C control plane.
    """

    settings: dict[str, Any]
    first_epoch: int = 0
    in_c: bool = False


class Call(NamedTuple):
    """Run ``body(comm, rng, *arguments)``; rng is seeded by *seed* and the rank."""

    body: Callable[..., Any]
    arguments: tuple[Any, ...]
    seed: int


class Close(NamedTuple):
    """Close the communicator."""


class Reply(NamedTuple):
    """What came of a request: its value, or the traceback of what it raised; what :mod:`checking` noted."""

    value: Any = None
    error: str | None = None
    notes: tuple[checking.Note, ...] = ()


_pipe: Any = None  # to the test's process


def say(word: str) -> None:
    """Say from within a body how far it has come: a reply before the last one."""
    _pipe.send(Reply(word))


class Rank:
    """What a worker holds: at most one communicator at a time."""

    def __init__(self) -> None:
        self.comm: Any = None

    def handle(self, request: Open | Call | Close) -> Any:
        if isinstance(request, Open):
            return self._open(request)
        if isinstance(request, Close):
            comm, self.comm = self.comm, None
            return comm.close()
        rng = np.random.default_rng([request.seed, self.comm.rank])
        return request.body(self.comm, rng, *request.arguments)

    def _open(self, request: Open) -> None:
        if request.in_c:
            self.comm = Communicator(CSession.join(request.settings))
            checking.begin(self.comm)
            return
        identity, settings = Identity.read(given=request.settings), Settings.read(given=request.settings)
        configure(settings.log)
        self.comm = Communicator(Session.join(identity, settings._replace(first_epoch=request.first_epoch)))
        checking.begin(self.comm)

    def fail(self, error: BaseException) -> None:
        """Let the peers go that may be waiting for this rank."""
        if self.comm is not None:
            self.comm.abort(f"the test failed with {type(error).__name__}: {error}")


def main(pipe: Connection[Any, Any]) -> None:
    """Serve requests until the test's process closes its end of the pipe."""
    global _pipe  # noqa: PLW0603  a process is one rank
    faulthandler.enable()
    _pipe = pipe
    for name in [name for name in os.environ if name.startswith("HIPCOMM_") and name not in KEPT]:
        del os.environ[name]  # what a test asks for is all in its settings
    rank = Rank()
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            reply = Reply(rank.handle(request), notes=checking.take())
        except Exception as error:  # noqa: BLE001  whatever a test raises is for the test process to judge
            rank.fail(error)
            reply = Reply(error=traceback.format_exc())
        pipe.send(reply)
