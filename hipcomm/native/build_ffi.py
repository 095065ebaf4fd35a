"""Write hipcomm/_ffi.py, cffi's parsed form of hipcomm.h and limits.h (``python build_ffi.py OUTPUT``).

Parsing the header at every import would cost 40 ms; the written module costs 2.
"""

import re
import sys
from pathlib import Path

import cffi

PACKAGE = Path(__file__).resolve().parent.parent
HEADER = PACKAGE / "include" / "hipcomm.h"
LIMITS = PACKAGE / "abi" / "limits.h"


def main(output: str) -> None:
    """Parse the part of the header between its cffi marks and the limits, and write the module *output*."""
    text = HEADER.read_text(encoding="utf-8")
    declarations = re.search(r"/\* cffi: begin.*?\*/(.*)/\* cffi: end \*/", text, re.DOTALL)
    if declarations is None:
        raise SystemExit(f"{HEADER}: the cffi marks are gone")
    ffi = cffi.FFI()
    ffi.cdef(declarations.group(1))
    ffi.cdef("".join(re.findall(r"#define \w+ \w+\n", LIMITS.read_text(encoding="utf-8"))))
    ffi.set_source("hipcomm._ffi", None)
    ffi.emit_python_code(output)


if __name__ == "__main__":
    main(sys.argv[1])
