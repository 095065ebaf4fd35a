"""hipcomm: collective communication between the GPUs of one machine, without PyTorch.

::

    import hipcomm
    with hipcomm.init() as comm:     # rank, world size and endpoint from the environment, or by keyword
        comm.all_reduce(x)           # in place

What is named here (``__all__``) is for users; the modules are not, except :mod:`hipcomm.errors`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
    from hipcomm.hip.device import Device
    from hipcomm.join.threads import CommunicatorList
    from hipcomm.memory.symmetric import SymmetricArray
    from hipcomm.plan import Plan
    from hipcomm.quantised import Quantised

__all__ = [
    "CallMismatch",
    "Communicator",
    "CommunicatorList",
    "Device",
    "Error",
    "InvalidArgument",
    "PeerDied",
    "PeerTimeout",
    "Plan",
    "PlatformError",
    "Quantised",
    "RendezvousError",
    "SymmetricArray",
    "get_include",
    "get_library",
    "init",
    "init_all",
]
__version__ = VERSION


# The types of what calls return, for annotations and isinstance(): they load NumPy and the core.
_TYPES = {
    "Communicator": "hipcomm.communicator",
    "CommunicatorList": "hipcomm.join.threads",
    "Device": "hipcomm.hip.device",
    "Plan": "hipcomm.plan",
    "Quantised": "hipcomm.quantised",
    "SymmetricArray": "hipcomm.memory.symmetric",
}


def __getattr__(name: str) -> Any:
    if name in _TYPES:
        return getattr(importlib.import_module(_TYPES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def init(**settings: Any) -> Communicator:
    """Join the job that the arguments and the environment describe, and return its communicator.

    Rank, world size and endpoint come from ``HIPCOMM_*``, else torchrun's, Open MPI's, PMI's or Slurm's
    variables; with none of them, a world of one. Collective: it returns when all ranks have joined and can
    reach each other's memory.

    Args:
        settings: say it here instead of in the environment, by keyword: rank, world_size, local_rank,
            rendezvous, token, job_id, platform, device, timeout, join_timeout, algorithm, staging_bytes,
            share_devices, carrier, check, log. None is as if not given. docs/environment.md has the table.

    Raises:
        RendezvousError: not all ranks came in time (HIPCOMM_JOIN_TIMEOUT); who did is in the message.
        InvalidArgument: an argument or a variable is wrong, unknown, or differs between ranks.
        PlatformError: no device, or a HIP call failed, here or on another rank.
    """
    from hipcomm.communicator import Communicator
    from hipcomm.environment import Identity, Settings, check_keywords
    from hipcomm.join.session import Session
    from hipcomm.logs import configure

    check_keywords(settings, "init")
    values = Settings.read(given=settings)
    configure(values.log)
    identity = Identity.read(given=settings)
    if identity.spans_nodes:
        from hipcomm.nodes.joining import join

        return join(identity, values)
    return Communicator(Session.join(identity, values))


def init_all(devices: Sequence[int | str], **settings: Any) -> CommunicatorList:
    """Make one communicator per device, all in this process. Rank i drives ``devices[i]``.

    Use each from its own thread: a collective enqueues work that waits for the other ranks, and on the CPU
    platform the call itself waits for them. All that is collective on the host (``empty``, ``register``,
    ``split``, ``close``) waits for the other ranks' threads likewise.

    Args:
        devices: ordinals, PCI bus ids or UUIDs, one per rank, each another device.
        settings: as for :func:`init`: platform, timeout, join_timeout, algorithm, staging_bytes, check, log.

    Returns:
        The communicators by rank.

    Raises:
        InvalidArgument: a device does not exist or is named twice, or a setting is wrong or unknown.
        PlatformError: a HIP call failed.
        RendezvousError: the ranks could not meet.
    """
    from hipcomm.join import threads

    return threads.init_all(devices, settings)
