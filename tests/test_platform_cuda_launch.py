"""The NVIDIA platform on a machine without a GPU: modules, launches, and which of them begin early."""

from __future__ import annotations

import os
from pathlib import Path

from fake_cuda import run


def test_modules(fake_driver: Path, tmp_path: Path) -> None:
    """Images from memory and from files, the assembler's complaint, and code that is loaded at once."""
    (tmp_path / "kernel.ptx").write_text("good text")  # no NUL in the file
    run(
        f"""
        folder = {os.fspath(tmp_path)!r}.encode()
        assert hip.hipSetDevice(0) == 0
        journal()
        module, function = c_void_p(), c_void_p()
        assert hip.hipModuleLoad(byref(module), folder + b"/kernel.ptx") == 0 and module.value == 0x40
        assert journal() == ["cuModuleLoadDataEx good text"]
        assert hip.hipModuleLoad(byref(module), folder + b"/none") == 301
        assert hip.hipModuleLoad(byref(module), folder) == 301
        fail("cuModuleGetGlobal_v2", 500)
        assert hip.hipModuleGetFunction(byref(function), module, b"f") == 0
        asked = "cuModuleGetGlobal_v2 hipcomm_kernels_await_previous_launch"
        assert journal() == ["cuModuleGetFunction", "cuFuncLoad", asked] and function.value == 0x50
        fail("cuModuleGetFunction", 500)
        assert hip.hipModuleGetFunction(byref(function), module, b"g") == 500
        plain = hip.hipGetErrorString(218)
        assert hip.hipModuleLoadData(byref(module), b"bad text") == 218
        assert hip.hipGetErrorString(218) == plain + b": ptxas fatal : line 7 is nonsense"
        assert in_thread(lambda: hip.hipGetErrorString(218)) == plain  # told to the thread that asked
        assert hip.hipModuleLoadData(byref(module), None) == 1 and hip.hipModuleLoadData(None, b"x") == 1
        """,
        fake_driver,
    )


def test_launch(fake_driver: Path) -> None:
    """kernelParams pass through; HIP's `extra` list becomes CUDA's, whose end mark differs."""
    run(
        """
        assert hip.hipSetDevice(0) == 0
        journal()
        function, stream = c_void_p(0x50), c_void_p(0x70)
        def launch(params, extra):
            return hip.hipModuleLaunchKernel(function, 1, 2, 3, 4, 5, 6, 7, stream, params, extra)
        params = (c_void_p * 1)(0x90)
        assert launch(params, None) == 0
        assert journal() == ["cuLaunchKernel 0x50 1 2 3 4 5 6 7 0x70 params"]
        swapped = (c_void_p * 5)(2, 0x222, 1, 0x111, 3)
        for extra in ((c_void_p * 5)(1, 0x111, 2, 0x222, 3), swapped):
            assert launch(None, extra) == 0
            assert journal() == ["cuLaunchKernel 0x50 1 2 3 4 5 6 7 0x70 no params", "extra 0x1",
                                 "extra 0x111", "extra 0x2", "extra 0x222", "extra (nil)"]
        assert launch(params, swapped) == 1  # one or the other
        assert launch(None, (c_void_p * 3)(1, 0x111, 3)) == 1  # no size
        assert launch(None, (c_void_p * 5)(1, 0x111, 9, 0x222, 3)) == 1
        assert launch(None, (c_void_p * 7)(1, 0x111, 2, 0x222, 1, 0x111, 3)) == 1
        assert journal() == []

        class Dim3(ctypes.Structure):
            _fields_ = [("x", c_uint), ("y", c_uint), ("z", c_uint)]
        grid, block = Dim3(1, 2, 3), Dim3(4, 5, 6)
        assert hip.hipLaunchKernel(function, grid, block, params, c_size_t(7), None) == 0
        assert journal() == ["cuLaunchKernel 0x50 1 2 3 4 5 6 7 (nil) params"]
        """,
        fake_driver,
    )


EARLY_LAUNCH = """
        assert hip.hipSetDevice(0) == 0
        function, value = c_void_p(), c_int()
        symbol = "cuModuleGetGlobal_v2 hipcomm_kernels_await_previous_launch"

        def get_function():
            journal()
            assert hip.hipModuleGetFunction(byref(function), c_void_p(0x40), b"f") == 0
            return symbol in journal()

        def launch():
            assert hip.hipModuleLaunchKernel(function, 1, 2, 3, 4, 5, 6, 7, c_void_p(0x70), params, None) == 0
            return journal()

        params = (c_void_p * 1)(0x90)
        plain = ["cuLaunchKernel 0x50 1 2 3 4 5 6 7 0x70 params"]
"""


def test_kernels_that_await_the_previous_launch_begin_early(fake_driver: Path) -> None:
    """Only those: any other would read what the launch before has not written.

    The driver never sees the mark.
    """
    run(
        EARLY_LAUNCH
        + """
        assert get_function()
        assert launch() == ["cuLaunchKernelEx 0x50 1 2 3 4 5 6 7 0x70 params", "attribute 6 1"]
        assert hip.hipModuleLaunchCooperativeKernel(function, 1, 2, 3, 4, 5, 6, 7, None, params) == 0
        assert journal() == ["cuLaunchCooperativeKernel 0x50"]
        assert hip.hipFuncGetAttribute(byref(value), 4, function) == 0
        assert hip.hipFuncSetAttribute(function, 8, 100) == 0
        occupancy = hip.hipModuleOccupancyMaxActiveBlocksPerMultiprocessor
        assert occupancy(byref(value), function, 1, c_size_t(0)) == 0
        assert [line.split()[1] for line in journal()] == ["0x50"] * 3

        fail("cuModuleGetGlobal_v2", 500)
        assert get_function()
        assert launch() == plain
        """,
        fake_driver,
    )


def test_no_early_launch_with_a_driver_that_cannot_capture_it(fake_driver: Path) -> None:
    run(
        EARLY_LAUNCH
        + """
        assert not get_function()
        assert launch() == plain
        """,
        fake_driver,
        FAKE_CUDA_VERSION="12020",
    )
