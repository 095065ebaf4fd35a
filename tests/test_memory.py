"""What a communicator costs: at most 64 MiB of device memory per rank with the defaults, and the figure is
logged at debug level."""

from __future__ import annotations

import logging

import pytest
from harness import worlds

from hipcomm.core import ffi, lib
from hipcomm.hip import call, hip

LIMIT = 64 << 20
ARCHITECTURES = (
    "x86_64",
    "sm_80",
    "sm_90",
    "sm_100",
    "gfx90a",
    "gfx942",
    "gfx950",
    "gfx1100",
    "gfx1201",
    "gfx1250",
)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_slabs_of_every_architecture(arch):
    layout = ffi.new("hipcommLayout *")
    assert lib.hipcommGetLayout(arch.encode(), 0, layout) == lib.hipcommSuccess
    assert 4 << 20 <= layout.control_bytes + layout.staging_bytes <= LIMIT


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def what_it_allocates(comm, rng):
    """Adds up the allocations while a communicator is made, and compares with what it says."""
    module = hip()
    sizes = []
    originals = {name: getattr(module, name) for name in ("hipMalloc", "hipExtMallocWithFlags")}

    def counting(original):
        def allocate(size, *flags):
            sizes.append(size)
            return original(size, *flags)

        return allocate

    log, records = logging.getLogger("hipcomm"), Records()
    level = log.level
    for name, original in originals.items():
        setattr(module, name, counting(original))
    log.addHandler(records)
    log.setLevel("DEBUG")
    try:
        part = comm.split(0)
    finally:
        log.setLevel(level)
        log.removeHandler(records)
        for name, original in originals.items():
            setattr(module, name, original)
    own = part.device_memory()
    assert own == sum(sizes) <= LIMIT
    assert any(f"{own} bytes of device memory" in message for message in records.messages), records.messages

    array = part.empty(5 << 20, "uint8")
    assert part.device_memory() == own + (8 << 20)
    free_before = call("hipMemGetInfo")[0]
    array.free()
    part.close()
    assert call("hipMemGetInfo")[0] >= free_before + own  # this rank's slabs, whatever else is on the device
    return own


@pytest.mark.parametrize("world", worlds(1, 2, 3))
def test_what_a_communicator_allocates(ranks, world):
    assert len(set(ranks.world(world).run(what_it_allocates))) == 1
