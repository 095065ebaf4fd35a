"""Write hipcomm/_wire.py, Python's form of abi/wire.h (``python build_wire.py OUTPUT``).

A structure becomes a named tuple that packs and unpacks itself, an enumeration an IntEnum, a constant a
constant. Made here and not at import: parsing the header takes 50 ms, and type checkers see the result.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cffi

HEADER = Path(__file__).resolve().parent.parent / "abi" / "wire.h"

# struct's letters and Python's types, by the C type's name
CODES = {
    "int8_t": ("b", "int"),
    "uint8_t": ("B", "int"),
    "int16_t": ("h", "int"),
    "uint16_t": ("H", "int"),
    "int32_t": ("i", "int"),
    "uint32_t": ("I", "int"),
    "int64_t": ("q", "int"),
    "uint64_t": ("Q", "int"),
}
STRUCTURE = '''

_{name} = struct.Struct("<{layout}")


class {name}(NamedTuple):
    """``hipcommWire{name}``."""

{fields}

    def pack(self) -> bytes:
        """Return its {size} bytes."""
        return _{name}.pack(*self)

    @classmethod
    def unpack(cls, data: bytes, offset: int = 0) -> {name}:
        """Read it from *data* at *offset*. Raises struct.error where not all of it is there."""
        return cls._make(_{name}.unpack_from(data, offset))

    @staticmethod
    def size() -> int:
        """Return its size in bytes."""
        return {size}
'''


def declarations() -> str:
    """Return the part of the header that the languages share, without the constants that are texts."""
    text = HEADER.read_text(encoding="utf-8")
    marked = re.search(r"/\* wire: begin \*/(.*)/\* wire: end \*/", text, re.DOTALL)
    if marked is None:
        raise SystemExit(f"{HEADER}: the marks are gone")
    return re.sub(r"/\*.*?\*/", "", marked.group(1), flags=re.DOTALL)


def parse() -> cffi.FFI:
    """Return cffi's form of it."""
    ffi = cffi.FFI()
    ffi.cdef(re.sub(r'#define \w+ ".*"', "", declarations()), packed=True)
    return ffi


def main(output: str) -> None:
    """Write the module to *output*."""
    Path(output).write_text("".join(module()), encoding="utf-8")


def module() -> Iterator[str]:
    """Yield the module's text."""
    yield '"""Made by hipcomm/native/build_wire.py of hipcomm/abi/wire.h, which says what is what."""\n\n'
    yield "from __future__ import annotations\n\n"
    yield "import enum\nimport struct\nfrom typing import NamedTuple\n\n"
    for name, value in re.findall(r"#define HIPCOMM_WIRE_(\w+) (\S+)", declarations()):
        yield f"{name} = {value}\n"
    ffi = parse()
    for name in ffi.list_types()[0]:
        kind = ffi.typeof(name)
        short = name.removeprefix("hipcommWire")
        if kind.kind == "enum":
            prefix = f"HIPCOMM_WIRE_{short.upper()}_"
            members = sorted(kind.elements.items())
            lines = [f"    {each.removeprefix(prefix)} = {value}" for value, each in members]
            yield f'\n\nclass {short}(enum.IntEnum):\n    """``{name}``."""\n\n' + "\n".join(lines) + "\n"
        else:
            yield structure(ffi, short, kind)


def structure(ffi: cffi.FFI, name: str, kind: Any) -> str:
    """Return the class for one structure."""
    layout, fields = "", []
    for field, member in kind.fields:
        if member.type.kind == "array" and member.type.item.cname == "char":
            letter, python = f"{member.type.length}s", "bytes"
        else:
            letter, python = CODES[member.type.cname]
        layout += letter
        fields.append(f"    {field}: {python}")
    return STRUCTURE.format(name=name, layout=layout, fields="\n".join(fields), size=ffi.sizeof(kind))


if __name__ == "__main__":
    main(sys.argv[1])
