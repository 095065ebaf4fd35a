"""``python -m hipcomm``: what a compiler needs in order to build a C or C++ program on hipcomm.

::

    cc program.c $(python -m hipcomm --cflags --libs) -o program
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from hipcomm import __version__, get_include, get_library


def main() -> None:
    """Print what was asked for, on one line that a shell takes apart as the compiler needs it."""
    parser = argparse.ArgumentParser(
        prog="python -m hipcomm", description="Compiler and linker flags for C programs that use hipcomm."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--cflags", action="store_true", help="flags with which hipcomm.h is found")
    parser.add_argument(
        "--libs", action="store_true", help="flags that link libhipcomm.so, to be found here at run time too"
    )
    parser.add_argument(
        "--pkg-config", action="store_true", help="the directory of hipcomm.pc, for PKG_CONFIG_PATH; alone"
    )
    asked = parser.parse_args()
    flags = []
    if asked.pkg_config:
        flags.append(str(Path(get_library()).parent / "pkgconfig"))
    if asked.cflags:
        flags.append(f"-I{get_include()}")
    if asked.libs:
        directory = Path(get_library()).parent
        flags += [f"-L{directory}", f"-Wl,-rpath,{directory}", "-lhipcomm"]
    if not flags:
        parser.error("say --cflags, --libs or both, or --pkg-config")
    sys.stdout.write(shlex.join(flags) + "\n")


if __name__ == "__main__":
    main()
