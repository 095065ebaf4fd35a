"""What a rank has in hand before any contestant joins: the platform, its device, a stream, the others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import hipcomm
from hipcomm.environment import Identity, Settings
from hipcomm.hip import call, hip
from hipcomm.hip.device import Device, open_device
from hipcomm.hip.platform import choose
from hipcomm_bench.world import RendezvousWorld, World, apart, under_mpirun

# NVLink multicast stays off in every library unless the user has asked for it: the figures are to hold on
# machines without it, and where GPUs are shared between guests it can take them out of service.
NO_MULTICAST = {
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
}


@dataclass(frozen=True)
class Session:
    """One rank of a job.

    Attributes:
        world: the ranks.
        identity, settings: as hipcomm reads them from the environment.
        platform: "amd", "nvidia" or "cpu".
        device: this rank's device, which is current.
        stream: the handle of the stream on which everybody calls; None: calls are synchronous, and
            complete when they return.
        dtype: the name of the data type of all calls.
        largest: bytes of the largest buffer of a call.
    """

    world: World
    identity: Identity
    settings: Settings
    platform: str
    device: Device
    stream: int | None
    dtype: str
    largest: int

    def communicator(self, name: str, algorithm: str | None = None) -> Any:
        """Return a hipcomm communicator of all ranks; collective, in the same order on all of them.

        Args:
            name: tells it apart from the process's others.
            algorithm: the one that is forced; None: as HIPCOMM_ALGORITHM says.
        """
        return hipcomm.init(job_id=apart(self.identity, name).job_key, algorithm=algorithm)

    def synchronize(self) -> None:
        """Wait for everything on the device, no matter what enqueued it."""
        if self.stream is not None:
            call("hipDeviceSynchronize")


def begin(dtype: str, largest: int, graph: int | None) -> Session:
    """Choose platform and device as hipcomm does, meet the others, make a stream.

    Args:
        dtype: the data type of all calls.
        largest: bytes of the largest buffer of a call.
        graph: the calls that graphs shall hold; 0: none, which on the CPU platform means calls without
            a stream; None: graphs on GPUs, none on the CPU.

    Raises:
        RendezvousError: not all ranks came.
        PlatformError: no device, or a HIP call failed.
    """
    for name, value in NO_MULTICAST.items():
        os.environ.setdefault(name, value)
    if under_mpirun() and find_spec("mpi4py") is not None:
        # MPI starts here, which takes all ranks and keeps Python's other threads from running meanwhile.
        # Later it would stop the rendezvous server in rank 0, for whose answer another rank may wait.
        import_module("mpi4py.MPI")
    identity, settings = Identity.read(), Settings.read()
    world = RendezvousWorld(identity, settings)
    platform = choose(settings).name
    device = open_device(settings, identity.local_rank)
    stream = None
    if graph or not device.host_is_device:
        stream = int(call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking))
    return Session(world, identity, settings, platform, device, stream, dtype, largest)
