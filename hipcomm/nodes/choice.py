"""Which carrier a world over nodes takes."""

from __future__ import annotations

from hipcomm.environment import Settings
from hipcomm.errors import InvalidArgument
from hipcomm.nodes.carrier import Carrier
from hipcomm.nodes.failures import Failures
from hipcomm.nodes.mpi import MpiCarrier
from hipcomm.nodes.nccl import NcclCarrier
from hipcomm.rendezvous.ranks import Ranks

CARRIERS = ("auto", "mpi", "nccl", "rccl")


_OF_PLATFORMS = {"cpu": "mpi", "nvidia": "nccl", "amd": "rccl", "amd-software": "rccl"}


def choose(settings: Settings, platform: str) -> str:
    """The carrier's name: what HIPCOMM_CARRIER says, else what the platform has.

    Raises:
        InvalidArgument: there is no such carrier, or it cannot reach the platform's memory.
    """
    name = settings.carrier
    if name not in CARRIERS:
        raise InvalidArgument(f"{settings.name_of('carrier')}={name!r}: none of {', '.join(CARRIERS)}")
    if name == "auto":
        return _OF_PLATFORMS[platform]
    if name == "mpi" and platform != "cpu":
        raise InvalidArgument(
            f"{settings.name_of('carrier')}=mpi carries host memory, and the platform is {platform}: "
            f"{_OF_PLATFORMS[platform]} does"
        )
    return name


def make(name: str, ranks: Ranks, context: int, failures: Failures) -> Carrier:
    """Connect the ranks of a communicator. Collective.

    Args:
        name: as :func:`choose` returns it.
        ranks: the communicator's.
        context: a number that no other living communicator of these ranks has.
        failures: what ends a wait.

    Raises:
        PlatformError: the engine is missing on some rank, or has failed there; on all ranks.
    """
    if name == "mpi":
        return MpiCarrier(ranks, context, failures)
    return NcclCarrier(name, ranks, failures)
