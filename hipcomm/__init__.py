"""hipcomm: collective communication between the GPUs of one machine, without PyTorch.

::

    import hipcomm
    with hipcomm.init() as comm:     # rank, world size and endpoint from the environment
        comm.all_reduce(x)           # in place
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hipcomm.errors import (
    CallMismatch,
    Error,
    InvalidArgument,
    PeerDied,
    PeerTimeout,
    PlatformError,
    RendezvousError,
)
from hipcomm.installation import VERSION, get_include, get_library

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hipcomm.communicator import Communicator
    from hipcomm.join.threads import CommunicatorList

__all__ = [
    "CallMismatch",
    "Error",
    "InvalidArgument",
    "PeerDied",
    "PeerTimeout",
    "PlatformError",
    "RendezvousError",
    "get_include",
    "get_library",
    "init",
    "init_all",
]
__version__ = VERSION


def init() -> Communicator:
    """Join the job that the environment describes, and return its communicator.

    Rank, world size and endpoint come from ``HIPCOMM_*``, else torchrun's, Open MPI's, PMI's or Slurm's
    variables; with none of them, a world of one. docs/environment.md has all variables. Collective: it
    returns when all ranks have joined and can reach each other's memory.

    Raises:
        RendezvousError: not all ranks came in time (HIPCOMM_JOIN_TIMEOUT); who did is in the message.
        InvalidArgument: a variable is wrong, or differs between ranks.
        PlatformError: no device, or a HIP call failed, here or on another rank.
    """
    from hipcomm.communicator import Communicator
    from hipcomm.environment import Identity, Settings
    from hipcomm.join.session import Session
    from hipcomm.logs import configure

    settings = Settings.read()
    configure(settings.log)
    return Communicator(Session.join(Identity.read(), settings))


def init_all(devices: Sequence[int | str]) -> CommunicatorList:
    """Make one communicator per device, all in this process, for a thread each.

    See :func:`hipcomm.join.threads.init_all`.
    """
    from hipcomm.join import threads

    return threads.init_all(devices)
