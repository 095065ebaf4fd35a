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


def choose(settings: Settings) -> str:
    """The carrier's name: what HIPCOMM_CARRIER says, else what there is. Raises InvalidArgument."""
    name = settings.carrier
    if name not in CARRIERS:
        raise InvalidArgument(f"{settings.name_of('carrier')}={name!r}: none of {', '.join(CARRIERS)}")
    return "mpi" if name == "auto" else name


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
