"""torch.distributed's process group, which several contestants share: made by the first, left by the last."""

from __future__ import annotations

import datetime
import os
from importlib import import_module
from typing import Any

from hipcomm_bench.memory import Buffer, DeviceArray, HostMemory, dtype_of
from hipcomm_bench.session import Session

_TIMEOUT = datetime.timedelta(seconds=60)


class TorchGroup:
    """All ranks of a session as torch's default process group.

    Attributes:
        torch: the module.
        distributed: the module torch.distributed.
        name: of the group, as torch's operators want it.
        device: torch's name of this rank's device.
    """

    _users = 0
    _store: Any = None

    def __init__(self, session: Session) -> None:
        """Join: Gloo for host memory, NCCL for device memory. Collective."""
        self.torch: Any = import_module("torch")
        self.distributed: Any = import_module("torch.distributed")
        self._world = session.world
        on_host = session.stream is None or session.device.host_is_device
        self.device = "cpu" if on_host else f"cuda:{session.device.ordinal}"
        if TorchGroup._users == 0:
            self._join("gloo" if on_host else "nccl")
        TorchGroup._users += 1
        self.name = self.distributed.group.WORLD.group_name
        if not on_host:
            # for good: no other contestant asks torch for its stream
            self.torch.cuda.set_device(session.device.ordinal)
            stream = self.torch.cuda.ExternalStream(session.stream, device=self.device)
            self.torch.cuda.set_stream(stream)

    def _join(self, backend: str) -> None:
        distributed, world = self.distributed, self._world
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        if world.rank == 0:
            store = distributed.TCPStore(
                "127.0.0.1", 0, is_master=True, timeout=_TIMEOUT, wait_for_workers=False
            )
            world.share(str(store.port))
        else:
            store = distributed.TCPStore("127.0.0.1", int(world.share("")), timeout=_TIMEOUT)
        distributed.init_process_group(
            backend, store=store, rank=world.rank, world_size=world.size, timeout=_TIMEOUT
        )
        TorchGroup._store = store  # rank 0's serves the others

    def dtype(self, name: str) -> Any:
        """Return torch's dtype called `name`."""
        return getattr(self.torch, name)

    def tensor(self, buffer: Buffer) -> Any:
        """Return the one-dimensional tensor that shares the buffer's memory.

        It is made of bytes and then viewed, since bfloat16 passes through no array interface.
        """
        if isinstance(buffer.memory, HostMemory):
            whole = self.torch.from_numpy(buffer.memory.read(buffer.offset, buffer.nbytes))
        else:
            flat = DeviceArray(buffer.address, (buffer.nbytes,), dtype_of("uint8"))
            whole = self.torch.as_tensor(flat, device=self.device)
        return whole.view(self.dtype(buffer.dtype))

    def leave(self) -> None:
        """Leave the group when nobody needs it any more; rank 0's store outlives the others' use of it."""
        TorchGroup._users -= 1
        if TorchGroup._users > 0:
            return
        self._world.barrier()
        self.distributed.destroy_process_group()
        self._world.barrier()
        TorchGroup._store = None
