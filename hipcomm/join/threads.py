"""Ranks as threads: all communicators of a job in one process.

They meet through the same rendezvous as processes do, whose server the first rank hosts, and run the same
kernels; only memory is reached by plain pointers, since an IPC handle cannot be opened where it was made.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from hipcomm.communicator import Communicator
from hipcomm.environment import Identity, Settings, check_keywords
from hipcomm.errors import Error, InvalidArgument, is_normal_exit
from hipcomm.hip.platform import choose
from hipcomm.join.session import Session
from hipcomm.logs import configure

Result = TypeVar("Result")


class CommunicatorList(list[Communicator]):
    """The communicators of :func:`init_all`, by rank; a context manager that closes them together."""

    def close(self) -> None:
        """Close all communicators, each in its own thread: closing waits for the peers. Idempotent.

        Raises:
            RendezvousError: closing failed.
        """
        if self:
            _in_threads([comm.close for comm in self])

    def abort(self, reason: str | BaseException) -> None:
        """Fail all of them at once."""
        for comm in self:
            comm.abort(reason)

    def __enter__(self) -> CommunicatorList:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not is_normal_exit(error):
            self.abort(error)
        self.close()


# A separate job, whatever job this process belongs to; and with a device for each rank: kernels of one
# process on one device may be queued one after the other, and would wait in vain.
_DECIDED = ("rank", "world_size", "local_rank", "rendezvous", "token", "job_id", "device", "share_devices")


def init_all(devices: Sequence[int | str], keywords: Mapping[str, Any]) -> CommunicatorList:
    """See :func:`hipcomm.init_all`."""
    if not devices or isinstance(devices, str):
        raise InvalidArgument(f"init_all: devices={devices!r}: not a list of devices")
    check_keywords(keywords, "init_all", _DECIDED)
    settings = Settings.read(given=keywords)._replace(rendezvous=None, token="", share_devices=False)
    configure(settings.log)
    choose(settings)  # once and for all threads
    key = f"threads={os.getpid()}-{secrets.token_hex(8)}"

    def one(rank: int) -> Communicator:
        identity = Identity(rank, len(devices), rank, "threads", key)
        return Communicator(Session.join(identity, settings._replace(device=str(devices[rank]))))

    return CommunicatorList(_in_threads([partial(one, rank) for rank in range(len(devices))]))


def _in_threads(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Make all calls at the same time, and raise the first error that is not just the echo of another's."""
    with ThreadPoolExecutor(len(calls), "hipcomm-rank") as pool:
        futures = [pool.submit(each) for each in calls]
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, Error) or isinstance(error, InvalidArgument):
            raise error
    if errors:
        raise errors[0]
    return [future.result() for future in futures]
