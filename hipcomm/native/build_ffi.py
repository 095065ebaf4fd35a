"""Write hipcomm/_ffi.py, cffi's parsed form of the headers and limits.h (``python build_ffi.py OUTPUT``).

Parsing the header at every import would cost 40 ms; the written module costs 2.
"""

import re
import sys
from pathlib import Path

import cffi

PACKAGE = Path(__file__).resolve().parent.parent
HEADERS = [PACKAGE / "include" / name for name in ("hipcomm.h", "hipcomm_internal.h")]
LIMITS = PACKAGE / "abi" / "limits.h"


def main(output: str) -> None:
    """Parse the headers between their cffi marks, and the limits, and write the module *output*."""
    ffi = cffi.FFI()
    for header in HEADERS:
        text = header.read_text(encoding="utf-8")
        declarations = re.search(r"/\* cffi: begin.*?\*/(.*)/\* cffi: end \*/", text, re.DOTALL)
        if declarations is None:
            raise SystemExit(f"{header}: the cffi marks are gone")
        ffi.cdef(declarations.group(1))
    ffi.cdef("".join(re.findall(r"#define \w+ \w+\n", LIMITS.read_text(encoding="utf-8"))))
    ffi.set_source("hipcomm._ffi", None)
    ffi.emit_python_code(output)


if __name__ == "__main__":
    main(sys.argv[1])
