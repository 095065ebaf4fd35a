"""Devices of the CPU platform: enumeration, identity, properties, peers, errors."""

from __future__ import annotations

import json
import os
import threading

import pytest
from platform_cpu import Error, hip, ok, run_python

DESCRIBE = """
import json
from platform_cpu import hip, ok
count = ok(hip.hipGetDeviceCount())
print(json.dumps([
    (bytes(ok(hip.hipDeviceGetPCIBusId(16, device))).split(b"\\0")[0].decode(),
     bytes(ok(hip.hipDeviceGetUuid(device)).bytes).decode())
    for device in range(count)]))
"""


def pci_bus_id(device: int) -> str:
    return bytes(ok(hip.hipDeviceGetPCIBusId(16, device))).split(b"\0")[0].decode()


def uuid(device: int) -> str:
    return bytes(ok(hip.hipDeviceGetUuid(device)).bytes).decode()


def test_sixteen_devices_by_default_with_identities_of_their_own() -> None:
    assert ok(hip.hipGetDeviceCount()) == 16
    assert len({pci_bus_id(device) for device in range(16)}) == 16
    assert len({uuid(device) for device in range(16)}) == 16


def test_identities_are_the_same_in_every_process() -> None:
    here = [[pci_bus_id(device), uuid(device)] for device in range(16)]
    assert json.loads(run_python(DESCRIBE)) == here


def test_number_of_devices() -> None:
    here = [[pci_bus_id(device), uuid(device)] for device in range(16)]
    assert json.loads(run_python(DESCRIBE, HIPCOMM_CPU_DEVICES="3")) == here[:3]


@pytest.mark.parametrize("variable", ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"])
@pytest.mark.parametrize(
    ("value", "named"),
    [("5", [5]), ("5,2,GPU-7,1", [5, 2]), ("0,0", [0]), ("1,999", [1]), ("", []), ("-1", []), ("none", [])],
)
def test_visible_gpus_take_no_device_away_and_name_the_devices(variable, value, named) -> None:
    here = [pci_bus_id(device) for device in range(16)]
    there = [bus_id for bus_id, _ in json.loads(run_python(DESCRIBE, **{variable: value}))]
    assert there[len(named) :] == here[len(named) :]
    assert there[: len(named)] == [f"c001:{number + 1:02x}:00.0" for number in named]
    assert len(set(there)) == 16


@pytest.mark.parametrize("count", ["0", "-1", "many", "4x", "255"])
def test_no_devices(count: str) -> None:
    script = """
from platform_cpu import Error, hip
assert hip.hipGetDeviceCount() == (Error.hipErrorNoDevice, 0)
assert hip.hipInit(0)[0] == Error.hipErrorNoDevice
assert hip.hipSetDevice(0)[0] == Error.hipErrorNoDevice
assert hip.hipMalloc(16)[0] == Error.hipErrorNoDevice
"""
    run_python(script, HIPCOMM_CPU_DEVICES=count)


def test_properties() -> None:
    properties = ok(hip.hipGetDeviceProperties(3))
    assert properties.name == "hipcomm CPU device 3"
    assert properties.gcnArchName.split(":")[0] == os.uname().machine
    assert (properties.warpSize, properties.maxThreadsPerBlock, properties.multiProcessorCount) == (1, 1, 1)
    assert list(properties.maxThreadsDim) == [1, 1, 1]
    assert properties.sharedMemPerBlock == 65536
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert properties.totalGlobalMem == ok(hip.hipDeviceTotalMem(3)) == total
    bus = f"{properties.pciDomainID:04x}:{properties.pciBusID:02x}:{properties.pciDeviceID:02x}.0"
    assert bus == pci_bus_id(3)
    assert bytes(properties.uuid.bytes).decode() == uuid(3)


def test_attributes_agree_with_properties() -> None:
    properties = ok(hip.hipGetDeviceProperties(5))
    attribute = hip.hipDeviceAttribute_t
    for name, wanted in {
        "WarpSize": 1,
        "MaxThreadsPerBlock": 1,
        "MultiprocessorCount": 1,
        "PciBusId": properties.pciBusID,
        "PciDomainID": properties.pciDomainID,
        "MaxSharedMemoryPerBlock": 65536,
        "ClockRate": properties.clockRate,
        "MaxGridDimX": properties.maxGridSize[0],
        "WallClockRate": 1_000_000,
        "MemoryBusWidth": properties.memoryBusWidth,
    }.items():
        assert ok(hip.hipDeviceGetAttribute(getattr(attribute, f"hipDeviceAttribute{name}"), 5)) == wanted, (
            name
        )


def test_unknown_attribute_and_device() -> None:
    attribute = hip.hipDeviceAttribute_t
    unknown = hip.hipDeviceGetAttribute(attribute.hipDeviceAttributeMaxTexture1DWidth, 0)
    assert unknown[0] == Error.hipErrorInvalidValue
    for device in (-1, 16, 1 << 30):
        assert (
            hip.hipDeviceGetAttribute(attribute.hipDeviceAttributeWarpSize, device)[0]
            == Error.hipErrorInvalidDevice
        )
        assert hip.hipGetDeviceProperties(device)[0] == Error.hipErrorInvalidDevice
        assert hip.hipDeviceGetName(64, device)[0] == Error.hipErrorInvalidDevice
        assert hip.hipDeviceGetUuid(device)[0] == Error.hipErrorInvalidDevice
        assert hip.hipDeviceTotalMem(device)[0] == Error.hipErrorInvalidDevice
        assert hip.hipSetDevice(device)[0] == Error.hipErrorInvalidDevice


def test_look_up_by_pci_bus_id() -> None:
    for device in range(16):
        assert ok(hip.hipDeviceGetByPCIBusId(pci_bus_id(device).encode())) == device
    assert hip.hipDeviceGetByPCIBusId(b"c000:ff:00.0")[0] == Error.hipErrorInvalidDevice
    assert hip.hipDeviceGetByPCIBusId(b"0000:01:00.0")[0] == Error.hipErrorInvalidDevice
    assert hip.hipDeviceGetByPCIBusId(b"garbage")[0] == Error.hipErrorInvalidValue
    assert hip.hipDeviceGetPCIBusId(12, 0)[0] == Error.hipErrorInvalidValue  # one byte short
    assert pci_bus_id(0) == bytes(ok(hip.hipDeviceGetPCIBusId(13, 0))).split(b"\0")[0].decode()


def test_the_current_device_belongs_to_the_thread() -> None:
    seen = []

    def other() -> None:
        seen.append(ok(hip.hipGetDevice()))
        ok(hip.hipSetDevice(7))
        seen.append(ok(hip.hipGetDevice()))

    ok(hip.hipSetDevice(2))
    try:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)
        assert seen == [0, 7]
        assert ok(hip.hipGetDevice()) == 2
    finally:
        ok(hip.hipSetDevice(0))


def test_peer_access() -> None:
    assert ok(hip.hipDeviceCanAccessPeer(0, 1)) == 1
    assert ok(hip.hipDeviceCanAccessPeer(1, 1)) == 0
    assert hip.hipDeviceCanAccessPeer(0, 16)[0] == Error.hipErrorInvalidDevice
    assert hip.hipDeviceDisablePeerAccess(9)[0] == Error.hipErrorPeerAccessNotEnabled
    ok(hip.hipDeviceEnablePeerAccess(9, 0))
    assert hip.hipDeviceEnablePeerAccess(9, 0)[0] == Error.hipErrorPeerAccessAlreadyEnabled
    ok(hip.hipDeviceDisablePeerAccess(9))
    assert hip.hipDeviceDisablePeerAccess(9)[0] == Error.hipErrorPeerAccessNotEnabled
    assert hip.hipDeviceEnablePeerAccess(9, 1)[0] == Error.hipErrorInvalidValue
    assert hip.hipDeviceEnablePeerAccess(0, 0)[0] == Error.hipErrorInvalidDevice  # itself
    access = hip.hipDeviceP2PAttr.hipDevP2PAttrAccessSupported
    assert ok(hip.hipDeviceGetP2PAttribute(access, 0, 1)) == 1
    assert hip.hipDeviceGetP2PAttribute(access, 0, 0)[0] == Error.hipErrorInvalidDevice


def test_versions_and_initialisation() -> None:
    ok(hip.hipInit(0))
    assert hip.hipInit(1)[0] == Error.hipErrorInvalidValue
    assert ok(hip.hipDriverGetVersion()) == ok(hip.hipRuntimeGetVersion())
    assert ok(hip.hipDriverGetVersion()) // 10_000_000 == 7
    ok(hip.hipDeviceSynchronize())


def test_errors_have_names_and_descriptions() -> None:
    names = {error: str(ok(hip.hipGetErrorName(error))) for error in Error}
    known = {error: name for error, name in names.items() if name != "hipErrorUnknown"}
    assert len(known) > 60
    # An alias such as hipErrorMemoryAllocation answers with the first name of its number.
    assert {error: getattr(Error, name) for error, name in known.items()} == {error: error for error in known}
    descriptions = {str(ok(hip.hipGetErrorString(error))) for error in known}
    assert "" not in descriptions and "unrecognized error code" not in descriptions
    assert str(ok(hip.hipGetErrorString(Error.hipErrorInvalidTexture))) == "unrecognized error code"


def test_the_last_error_is_kept_once_and_per_thread() -> None:
    hip.hipGetLastError()
    assert hip.hipSetDevice(99)[0] == Error.hipErrorInvalidDevice
    ok(hip.hipGetDevice())  # success does not clear it
    seen = []
    thread = threading.Thread(target=lambda: seen.append(hip.hipGetLastError()[0]))
    thread.start()
    thread.join(10)
    assert seen == [Error.hipSuccess]
    assert hip.hipPeekAtLastError()[0] == Error.hipErrorInvalidDevice
    assert hip.hipGetLastError()[0] == Error.hipErrorInvalidDevice
    assert hip.hipGetLastError()[0] == Error.hipSuccess
