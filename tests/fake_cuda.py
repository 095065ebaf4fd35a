"""The NVIDIA platform's library over a stand-in for libcuda.so.1 (``cuda_platform/``) that notes every call.

Each test runs a small program of its own, for the library loads the driver once per process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLATFORMS = ROOT / "hipcomm" / "platforms"
LIBRARY = PLATFORMS / "cuda" / "lib" / "libamdhip64.so"
SOURCES = Path(__file__).resolve().parent / "cuda_platform"
COMPILE = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{PLATFORMS}", f"-I{PLATFORMS / 'cuda'}"]

PRELUDE = """
import ctypes, os, threading
from ctypes import byref, c_int, c_size_t, c_uint, c_void_p

hip = ctypes.CDLL(os.environ["HIP_LIBRARY"])
hip.hipGetErrorName.restype = hip.hipGetErrorString.restype = ctypes.c_char_p
fake = ctypes.CDLL("libcuda.so.1") if os.environ.get("LD_LIBRARY_PATH") else None

def journal():
    text = ctypes.create_string_buffer(1 << 16)
    fake.fake_journal(text, c_size_t(len(text)))
    return text.value.decode().splitlines()

def fail(name, code):
    fake.fake_fail(name.encode(), code)

def in_thread(function):
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join(30)
    return result[0]

def malloc(nbytes=100):
    pointer = c_void_p()
    return hip.hipMalloc(byref(pointer), c_size_t(nbytes))

def device():
    ordinal = c_int(-1)
    assert hip.hipGetDevice(byref(ordinal)) == 0
    return ordinal.value

ATTACH_0 = ["cuDevicePrimaryCtxRetain 0", "cuCtxSetCurrent 0xc0"]
"""


def build_driver(folder: Path) -> Path:
    """Put a libcuda.so.1 that notes calls into a folder."""
    sources = [str(SOURCES / "fake_defaults.cpp"), str(SOURCES / "fake_driver.cpp")]
    flags = ["-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([*COMPILE, *flags, *sources, "-lpthread"], check=True, timeout=120)
    return folder


def run(program: str, driver: Path | None, **environment: str) -> None:
    """Run a program against the platform library, with the given folder's driver or with none."""
    assert LIBRARY.exists(), f"{LIBRARY} is not built: run make"
    env = {"PATH": os.environ["PATH"], "HIP_LIBRARY": str(LIBRARY), **environment}
    if driver is not None:
        env["LD_LIBRARY_PATH"] = str(driver)
    if "PYTHONPATH" in os.environ:  # where hip-python was carried to a machine without a package index
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(program)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
