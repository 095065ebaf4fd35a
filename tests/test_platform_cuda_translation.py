"""The NVIDIA platform on a machine without a GPU: declarations, contexts, arguments, errors.

A stand-in for libcuda.so.1 (``cuda_platform/``) notes what the platform library calls. Each test runs a small
program of its own, for the library loads the driver once per process. What only a real driver can show is in
``gpu/test_platform_cuda.py``.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from fake_cuda import COMPILE, LIBRARY, PLATFORMS, SOURCES, run

CUDA_HOMES = [home for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]


def test_declarations_agree_with_nvidias_header() -> None:
    """Every number and every signature in cuda_driver.h is the one in cuda.h."""
    includes = [Path(home) / "include" for home in CUDA_HOMES]
    header = next((folder for folder in includes if (folder / "cuda.h").exists()), None)
    if header is None:
        pytest.skip("no CUDA toolkit: looked for cuda.h under CUDA_HOME and /usr/local/cuda")
    ours = (PLATFORMS / "cuda" / "cuda_driver.h").read_text()
    enumerators = re.findall(r"^    (CU\w+) = \d+,", ours, re.MULTILINE)
    assert len(enumerators) > 150
    comparison = " ".join(f"S({name})" for name in enumerators)
    command = [*COMPILE, "-fsyntax-only", f"-isystem{header}", f"-DENUMERATORS_TO_COMPARE={comparison}"]
    command.append(str(SOURCES / "header_check.cpp"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_exports_what_the_header_declares() -> None:
    """Every function of hip_functions.h is exported, and nothing else is."""
    header = (PLATFORMS / "hip_functions.h").read_text()
    declared = set(re.findall(r"^(?:hipError_t|const char\*) (hip\w+)\(", header, re.MULTILINE))
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(LIBRARY)], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert {line.split()[-1] for line in listing.splitlines()} == declared


def test_error_table_is_complete() -> None:
    """The shared table of sentences names each code of hipError_t once."""
    header = (PLATFORMS / "hip_abi.h").read_text()
    codes = re.findall(r"^    (hipError\w+|hipSuccess) = \d+", header, re.MULTILINE)
    table = re.findall(r"X\((hip\w+),", (PLATFORMS / "hip_error_table.h").read_text())
    assert sorted(table) == sorted(codes)


# ---- no driver, or one that is of no use ----------------------------------------------------------------


def test_no_driver() -> None:
    """Without libcuda.so.1 every call says so, from every thread, and nothing crashes."""
    run(
        """
        if os.path.exists("/usr/local/nvidia/lib64/libcuda.so.1"):
            raise SystemExit(0)  # this machine has a driver that the loader was not told about
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            pass
        else:
            raise SystemExit(0)  # this machine has a driver
        count = c_int(7)
        assert hip.hipInit(0) == 100
        assert hip.hipGetDeviceCount(byref(count)) == 100 and count.value == 0
        assert malloc() == 100 and in_thread(malloc) == 100
        assert hip.hipSetDevice(0) == 100 and hip.hipDeviceSynchronize() == 100
        assert hip.hipFree(None) == 100 and hip.hipStreamSynchronize(None) == 100
        assert hip.hipModuleLaunchKernel(c_void_p(16), 1, 1, 1, 1, 1, 1, 0, None, None, None) == 100
        assert hip.hipModuleLoadData(byref(c_void_p()), b"x") == 100
        assert hip.hipGetErrorName(100) == b"hipErrorNoDevice"
        assert b"libcuda.so.1" in hip.hipGetErrorString(100)
        assert hip.hipGetLastError() == 100 and hip.hipGetLastError() == 0
        """,
        None,
    )


def test_old_driver(tmp_path: Path) -> None:
    """A driver that lacks a function is named too old, with the function."""
    source = tmp_path / "old.c"
    source.write_text("int cuInit(unsigned flags) { return (int)flags; }\n")
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60)
    run(
        """
        count = c_int(7)
        assert hip.hipGetDeviceCount(byref(count)) == 35 and count.value == 0
        assert malloc() == 35
        assert b"cuDriverGetVersion" in hip.hipGetErrorString(35)
        """,
        tmp_path,
    )


@pytest.mark.parametrize(("cuda", "hip"), [(100, 100), (34, 100), (803, 35), (999, 999), (46, 101)])
def test_failing_initialization(fake_driver: Path, cuda: int, hip: int) -> None:
    """cuInit's failure is every call's, and cuInit is called once."""
    run(
        f"""
        count = c_int(7)
        assert hip.hipGetDeviceCount(byref(count)) == {hip} and count.value == 0
        assert hip.hipInit(0) == {hip} and malloc() == {hip} and in_thread(malloc) == {hip}
        assert journal().count("cuInit 0") == 1
        """,
        fake_driver,
        FAKE_CUDA_INIT=str(cuda),
    )


def test_driver_without_devices(fake_driver: Path) -> None:
    """A driver that counts no device is the same as no device."""
    run("assert hip.hipGetDeviceCount(byref(c_int())) == 100", fake_driver, FAKE_CUDA_DEVICES="0")


# ---- contexts -------------------------------------------------------------------------------------------


def test_questions_create_no_context(fake_driver: Path) -> None:
    """Counting devices and reading their properties leaves every GPU alone."""
    run(
        """
        value = c_int()
        assert hip.hipInit(0) == 0 and hip.hipGetDeviceCount(byref(value)) == 0 and value.value == 2
        properties = ctypes.create_string_buffer(4096)
        assert hip.hipGetDevicePropertiesR0600(properties, 1) == 0
        assert hip.hipDeviceGetAttribute(byref(value), 63, 1) == 0 and value.value == 1016
        assert device() == 0
        assert journal() == ["cuInit 0"]
        """,
        fake_driver,
    )


def test_first_call_attaches_device_0(fake_driver: Path) -> None:
    """A thread that never chose a device gets device 0 when it first needs one, and pays for it once."""
    run(
        """
        assert malloc() == 0
        assert journal() == ["cuInit 0", "cuMemAlloc_v2 100", *ATTACH_0, "cuMemAlloc_v2 100"]
        assert malloc() == 0
        assert journal() == ["cuMemAlloc_v2 100"]
        assert in_thread(malloc) == 0  # the context is retained once, and made current once a thread
        assert journal() == ["cuMemAlloc_v2 100", "cuCtxSetCurrent 0xc0", "cuMemAlloc_v2 100"]
        """,
        fake_driver,
    )


def test_another_librarys_context_is_used(fake_driver: Path) -> None:
    """What CuPy or torch has made current stays current, whether this library was loaded before or not."""
    run(
        """
        fake.cuInit(0)
        fake.cuCtxSetCurrent(c_void_p(0xC1))
        journal()
        assert device() == 1 and malloc() == 0
        assert journal() == ["cuInit 0", "cuMemAlloc_v2 100"]
        assert hip.hipSetDevice(0) == 0 and device() == 0
        fake.cuCtxSetCurrent(c_void_p(0xC1))
        assert device() == 1
        """,
        fake_driver,
    )


def test_device_is_chosen_per_thread(fake_driver: Path) -> None:
    """hipSetDevice acts on the calling thread alone and refuses ordinals that do not exist."""
    run(
        """
        assert hip.hipSetDevice(1) == 0 and device() == 1
        assert in_thread(device) == 0
        assert hip.hipSetDevice(2) == 101 and hip.hipSetDevice(-1) == 101
        assert device() == 1
        assert hip.hipSetDevice(1) == 0
        assert journal().count("cuDevicePrimaryCtxRetain 1") == 1
        """,
        fake_driver,
    )


def test_reset_starts_the_device_anew(fake_driver: Path) -> None:
    """hipDeviceReset drops this library's reference and leaves the thread on the same device."""
    run(
        """
        assert hip.hipSetDevice(1) == 0
        journal()
        assert hip.hipDeviceReset() == 0 and device() == 1
        assert journal() == ["cuDevicePrimaryCtxReset_v2", "cuDevicePrimaryCtxRelease_v2",
                             "cuDevicePrimaryCtxRetain 1", "cuCtxSetCurrent 0xc1"]
        """,
        fake_driver,
    )


def test_failure_is_not_tried_again(fake_driver: Path) -> None:
    """CUDA also says "invalid context" of a handle that this process made: one call, one answer."""
    run(
        """
        class Handle(ctypes.Structure):
            _fields_ = [("bytes", ctypes.c_ubyte * 64)]
        assert hip.hipSetDevice(0) == 0
        journal()
        fail("cuIpcOpenMemHandle_v2", 201)
        handle = Handle()
        handle.bytes[0], handle.bytes[63] = 0xAB, 0xCD
        assert hip.hipIpcOpenMemHandle(byref(c_void_p()), handle, 1) == 201
        assert journal() == ["cuIpcOpenMemHandle_v2 ab cd 1"]
        fail("cuDevicePrimaryCtxRetain", 2)  # a full device: the reason, not "invalid context"
        assert in_thread(lambda: hip.hipSetDevice(1)) == 2
        """,
        fake_driver,
    )


def test_threads_may_make_the_first_call_together(fake_driver: Path) -> None:
    """Thirty-two threads race for the first call; each one's succeeds and the driver is started once."""
    run(
        """
        barrier = threading.Barrier(32)
        results = []
        def first_call():
            barrier.wait(30)
            results.append(malloc())
        threads = [threading.Thread(target=first_call) for _ in range(32)]
        for thread in threads: thread.start()
        for thread in threads: thread.join(30)
        assert results == [0] * 32
        lines = journal()
        assert lines.count("cuInit 0") == 1 and lines.count("cuDevicePrimaryCtxRetain 0") == 1
        assert lines.count("cuCtxSetCurrent 0xc0") == 32
        """,
        fake_driver,
    )


# ---- arguments ------------------------------------------------------------------------------------------


def test_memory_flags_and_sizes(fake_driver: Path) -> None:
    """HIP's allocation flags: which are accepted, what the driver is told, and what nothing is."""
    run(
        """
        assert hip.hipSetDevice(0) == 0
        journal()
        pointer = c_void_p()
        for flags in (0, 1, 2, 3, 4):
            assert hip.hipExtMallocWithFlags(byref(pointer), c_size_t(64), flags) == 0
        assert journal() == ["cuMemAlloc_v2 64"] * 5
        assert hip.hipExtMallocWithFlags(byref(pointer), c_size_t(64), 5) == 1

        def pinned(flags):
            return hip.hipHostMalloc(byref(pointer), c_size_t(64), c_uint(flags))
        assert pinned(0) == 0 and pinned(0x4) == 0 and pinned(0x40000001) == 0
        assert journal() == ["cuMemHostAlloc 64 0x3", "cuMemHostAlloc 64 0x7", "cuMemHostAlloc 64 0x3"]
        assert pinned(0x8) == 1 and pinned(0xC0000000) == 1
        assert hip.hipHostRegister(c_void_p(0x1000), c_size_t(64), 8) == 0
        assert journal() == ["cuMemHostRegister_v2 64 0xb"]
        assert hip.hipHostRegister(c_void_p(0x1000), c_size_t(64), 0x10) == 1

        pointer.value = 5
        assert hip.hipMalloc(byref(pointer), c_size_t(0)) == 0 and pointer.value is None
        pointer.value = 5
        assert hip.hipHostMalloc(byref(pointer), c_size_t(0), 0) == 0 and pointer.value is None
        assert hip.hipMalloc(None, c_size_t(0)) == 1 and hip.hipMalloc(None, c_size_t(8)) == 1
        assert hip.hipFree(None) == 0 and hip.hipHostFree(None) == 0
        assert hip.hipMemcpy(None, None, c_size_t(0), 4) == 0 and hip.hipMemset(None, 1, c_size_t(0)) == 0
        assert hip.hipMemcpy(c_void_p(8), c_void_p(16), c_size_t(8), 5) == 21
        assert hip.hipMemcpyAsync(c_void_p(8), c_void_p(16), c_size_t(8), -1, None) == 21
        assert journal() == []
        assert hip.hipMemset(c_void_p(0x80), 0x1FF, c_size_t(9)) == 0
        assert hip.hipMemcpyPeer(c_void_p(0x80), 1, c_void_p(0x90), 0, c_size_t(9)) == 0
        assert journal() == ["cuMemsetD8_v2 0x80 0xff 9", "cuDevicePrimaryCtxRetain 1",
                             "cuMemcpyPeer 0x80 0xc1 0x90 0xc0 9"]
        assert hip.hipMemcpyPeer(c_void_p(0x80), 2, c_void_p(0x90), 0, c_size_t(9)) == 101
        """,
        fake_driver,
    )


def test_pointer_attributes(fake_driver: Path) -> None:
    """What a pointer is, in HIP's words; an unknown one is unregistered, not an error."""
    run(
        """
        class Attributes(ctypes.Structure):
            _fields_ = [("type", c_int), ("device", c_int), ("device_pointer", c_void_p),
                        ("host_pointer", c_void_p), ("is_managed", c_int), ("flags", c_uint)]
        def of(address):
            a = Attributes()
            assert hip.hipPointerGetAttributes(byref(a), c_void_p(address)) == 0
            return a.type, a.device, a.device_pointer, a.host_pointer, a.is_managed, a.flags
        assert of(0x7000000) == (2, 1, 0x7000000, None, 0, 0)
        assert of(0x8000000) == (1, 1, 0x8000000, 0x8000000, 0, 3)
        assert of(0x9000000) == (3, 1, 0x9000000, None, 1, 0)
        assert of(0x1234) == (0, -2, None, 0x1234, 0, 0)
        assert hip.hipPointerGetAttributes(None, c_void_p(0x1234)) == 1
        assert hip.hipPointerGetAttributes(byref(Attributes()), None) == 1
        """,
        fake_driver,
    )


def test_events_peers_and_device_flags(fake_driver: Path) -> None:
    """Flags that mean something to HIP alone are accepted and dropped; unknown ones are refused."""
    run(
        """
        assert hip.hipSetDevice(0) == 0
        journal()
        event = c_void_p()
        for flags in (0, 1, 2, 6, 0x20000002, 0xC0000001):
            assert hip.hipEventCreateWithFlags(byref(event), c_uint(flags)) == 0
        assert journal() == [f"cuEventCreate 0x{flags:x}" for flags in (0, 1, 2, 6, 2, 1)]
        assert hip.hipEventCreateWithFlags(byref(event), 8) == 1
        value = c_int()
        for attribute in range(4):
            assert hip.hipDeviceGetP2PAttribute(byref(value), attribute, 0, 1) == 0
            assert value.value == attribute + 1
        assert hip.hipDeviceGetP2PAttribute(byref(value), 4, 0, 1) == 1
        journal()
        assert hip.hipDeviceEnablePeerAccess(1, 0) == 0
        assert journal() == ["cuDevicePrimaryCtxRetain 1", "cuCtxEnablePeerAccess 0xc1 0"]
        fail("cuCtxEnablePeerAccess", 704)
        assert hip.hipDeviceEnablePeerAccess(1, 0) == 704
        assert hip.hipDeviceEnablePeerAccess(5, 0) == 101
        journal()
        assert hip.hipSetDeviceFlags(8 | 4) == 0 and hip.hipSetDeviceFlags(0x100) == 1
        assert journal() == ["cuDevicePrimaryCtxSetFlags_v2 0 0x4"]
        stream_device = c_int(-1)
        assert hip.hipStreamGetDevice(c_void_p(0x70), byref(stream_device)) == 0 and stream_device.value == 1
        assert device() == 0  # the question left the thread where it was
        """,
        fake_driver,
    )


def test_properties_through_hip_python(fake_driver: Path) -> None:
    """hip-python reads each property from where this library put it."""
    pytest.importorskip("hip")
    run(
        """
        os.environ["ROCM_PATH"] = os.path.dirname(os.path.dirname(os.environ["HIP_LIBRARY"]))
        from hip import hip
        error, p = hip.hipGetDeviceProperties(1)
        assert error == hip.hipError_t.hipSuccess
        assert p.name == "fake 1" and bytes(p.uuid.bytes)[:16] == b"QQQQQQQQQQQQQQQQ", (p.name, p.uuid.bytes)
        assert p.totalGlobalMem == 140 << 30 and p.gcnArchName == "sm_10751076"
        expected = dict(
            sharedMemPerBlock=8, regsPerBlock=12, warpSize=10, memPitch=11, maxThreadsPerBlock=1,
            clockRate=13, totalConstMem=9, major=75, minor=76, textureAlignment=14, texturePitchAlignment=51,
            multiProcessorCount=16, kernelExecTimeoutEnabled=17, integrated=18, canMapHostMemory=19,
            computeMode=20, surfaceAlignment=30, concurrentKernels=31, ECCEnabled=32, pciBusID=33,
            pciDeviceID=34, tccDriver=35, memoryClockRate=36, memoryBusWidth=37, l2CacheSize=38,
            maxThreadsPerMultiProcessor=39, asyncEngineCount=40, unifiedAddressing=41, pciDomainID=50,
            streamPrioritiesSupported=78, sharedMemPerMultiprocessor=81, regsPerMultiprocessor=82,
            managedMemory=83, isMultiGpuBoard=84, hostNativeAtomicSupported=86, pageableMemoryAccess=88,
            concurrentManagedAccess=89, cooperativeLaunch=95, sharedMemPerBlockOptin=97,
            hostRegisterSupported=99, maxBlocksPerMultiProcessor=106, persistingL2CacheMaxSize=108,
            reservedSharedMemPerBlock=111, memoryPoolsSupported=115, clusterLaunch=120, ipcEventSupported=125,
            unifiedFunctionPointers=129, maxSharedMemoryPerMultiProcessor=81, clockInstructionRate=13,
        )
        read = {name: getattr(p, name) - 1000 for name in expected}
        assert read == expected
        assert list(p.maxThreadsDim) == [1002, 1003, 1004] and list(p.maxGridSize) == [1005, 1006, 1007]

        def attribute(name):
            number = getattr(hip.hipDeviceAttribute_t, "hipDeviceAttribute" + name)
            error, value = hip.hipDeviceGetAttribute(number, 1)
            assert error == hip.hipError_t.hipSuccess, name
            return value
        assert attribute("WallClockRate") == 1000000 and attribute("FineGrainSupport") == 1
        assert attribute("TotalGlobalMem") == 2**31 - 1
        assert attribute("MultiprocessorCount") == 1016 and attribute("WarpSize") == 1010
        assert attribute("SharedMemPerBlockOptin") == 1097 and attribute("PciBusId") == 1033
        assert attribute("MaxThreadsPerBlock") == 1001 and attribute("MaxSharedMemoryPerBlock") == 1008
        (error, _) = hip.hipDeviceGetAttribute(hip.hipDeviceAttribute_t.hipDeviceAttributeLuid, 1)
        assert error == hip.hipError_t.hipErrorInvalidValue
        error, _ = hip.hipGetDeviceProperties(2)
        assert error == hip.hipError_t.hipErrorInvalidDevice
        """,
        fake_driver,
    )


def test_attributes_that_an_old_driver_does_not_know_are_zero(fake_driver: Path) -> None:
    """A driver older than an attribute calls it invalid; the device has none of it."""
    run(
        """
        fail("cuDeviceGetAttribute", 1)
        value = c_int(7)
        assert hip.hipDeviceGetAttribute(byref(value), 63, 0) == 0 and value.value == 0
        fail("cuDeviceGetAttribute", 709)
        assert hip.hipDeviceGetAttribute(byref(value), 63, 0) == 709
        assert hip.hipGetDevicePropertiesR0600(ctypes.create_string_buffer(4096), 0) == 709
        """,
        fake_driver,
    )


# ---- errors ---------------------------------------------------------------------------------------------

# CUDA's codes that go to a HIP code of another number. All others keep theirs.
RENUMBERED = {
    5: 999, 6: 999, 7: 999, 8: 999, 34: 100, 36: 35, 46: 101, 102: 101, 220: 214, 221: 303, 222: 209,
    223: 801, 224: 801, 225: 801, 226: 719, 402: 801, 703: 701, 711: 217, 714: 719, 715: 719, 716: 700,
    717: 700, 718: 719, 721: 719, 800: 801, 802: 1053, 803: 35, 804: 35, 805: 1053, 806: 1053, 807: 1053,
    808: 1053, 809: 1053, 810: 1053, 811: 801, 812: 801, 909: 702, 911: 719, 912: 9, 913: 98, 914: 1,
    915: 9, 916: 999, 12345: 999,
}  # fmt: skip


def test_every_cuda_error_has_a_hip_error(fake_driver: Path) -> None:
    """The whole table, and that each HIP code it leads to has a name and a sentence."""
    header = (PLATFORMS / "cuda" / "cuda_driver.h").read_text()
    codes = [int(code) for code in re.findall(r"^    CUDA_ERROR_\w+ = (\d+),", header, re.MULTILINE)]
    table = {code: RENUMBERED.get(code, code) for code in [*codes, 12345]}
    # 3 and 201 make the library start the driver and attach the thread; here both have been done.
    run(
        f"""
        assert hip.hipSetDevice(0) == 0
        for cuda, expected in {table}.items():
            fail("cuCtxSynchronize", cuda)
            assert hip.hipDeviceSynchronize() == expected, (cuda, expected)
            assert hip.hipGetErrorName(expected).startswith(b"hipError"), expected
            if expected != 999:
                assert hip.hipGetErrorName(expected) != b"hipErrorUnknown", expected
                assert hip.hipGetErrorString(expected) != b"unknown error", expected
        assert hip.hipGetErrorName(4242) == b"hipErrorUnknown"
        text = ctypes.c_char_p()
        assert hip.hipDrvGetErrorName(700, byref(text)) == 0 and text.value == b"hipErrorIllegalAddress"
        assert hip.hipDrvGetErrorString(4242, byref(text)) == 1 and text.value is None
        """,
        fake_driver,
    )


def test_last_error(fake_driver: Path) -> None:
    """The last failure stays until it is read, belongs to its thread, and "not ready" is none."""
    run(
        """
        assert hip.hipSetDevice(0) == 0 and hip.hipGetLastError() == 0
        assert hip.hipSetDevice(9) == 101 and malloc() == 0
        assert hip.hipPeekAtLastError() == 101 and in_thread(hip.hipGetLastError) == 0
        assert hip.hipGetLastError() == 101 and hip.hipGetLastError() == 0
        fail("cuStreamQuery", 600)
        assert hip.hipStreamQuery(None) == 600 and hip.hipGetLastError() == 0
        assert hip.hipMalloc(None, c_size_t(1)) == 1 and hip.hipExtGetLastError() == 1
        """,
        fake_driver,
    )


def test_stream_callback(fake_driver: Path) -> None:
    """A callback gets the stream, HIP's error code and its own argument."""
    run(
        """
        seen = []
        CALLBACK = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_void_p)
        callback = CALLBACK(lambda stream, status, data: seen.append((stream, status, data)))
        assert hip.hipStreamAddCallback(c_void_p(0x70), callback, c_void_p(0x99), 0) == 0
        assert seen == [(0x70, 700, 0x99)]
        fail("cuStreamAddCallback", 900)
        assert hip.hipStreamAddCallback(c_void_p(0x70), callback, None, 0) == 900 and len(seen) == 1
        """,
        fake_driver,
    )
