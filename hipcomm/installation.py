"""Which hipcomm this is, and where the files are that a C or C++ program needs.

``python -m hipcomm`` prints them for a command line. They are found next to this file, wherever hipcomm is
installed; nothing is loaded.
"""

from __future__ import annotations

from pathlib import Path

VERSION = "0.1.0"
PACKAGE = Path(__file__).resolve().parent


def get_include() -> str:
    """Return the directory of ``hipcomm.h``, for the compiler's ``-I``."""
    return str(PACKAGE / "include")


def get_library() -> str:
    """Return the path of the C library, to open with dlopen; its directory is what a linker needs."""
    return str(PACKAGE / "lib" / "libhipcomm.so.0")


def not_built(error: ImportError) -> ImportError:
    """Return what to raise where a module that make writes cannot be imported."""
    return ImportError(f"hipcomm is not built: {error}. Run `make` in the checkout, or `pip install .`")
