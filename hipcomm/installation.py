"""Which hipcomm this is, and where the files are that a C or C++ program needs.

``python -m hipcomm`` prints them for a command line. They are found next to this file, wherever hipcomm is
installed; nothing is loaded.
"""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _version() -> str:
    """Read the version where it stands: in the header. setuptools executes this file by itself."""
    header = (PACKAGE / "include" / "hipcomm.h").read_text(encoding="utf-8")
    found = re.search(r'^#define HIPCOMM_VERSION_TEXT "(.*)"', header, re.MULTILINE)
    if found is None:
        raise ImportError(f"{PACKAGE}/include/hipcomm.h defines no HIPCOMM_VERSION_TEXT")
    return found[1]


VERSION = _version()


def get_include() -> str:
    """Return the directory of ``hipcomm.h``, for the compiler's ``-I``."""
    return str(PACKAGE / "include")


def get_library() -> str:
    """Return the path of the C library, to open with dlopen; its directory is what a linker needs."""
    return str(PACKAGE / "lib" / "libhipcomm.so.0")


def not_built(error: ImportError) -> ImportError:
    """Return what to raise where a module that make writes cannot be imported."""
    return ImportError(f"hipcomm is not built: {error}. Run `make` in the checkout, or `pip install .`")


def how_to_get_code_objects() -> str:
    """Return what to do where kernels are missing: a checkout's user has make, a wheel's has not."""
    if (PACKAGE.parent / "Makefile").exists():
        return "run `make kernels`"
    return (
        "install hipcomm again, with --force-reinstall --no-cache-dir, where ROCm's clang or another clang 20"
        " or newer with lld is found (Debian: clang-22 lld-22)"
    )
