"""Write hipcomm/_tables.py, what Python must know without the C core (``python build_tables.py OUTPUT``).

A launcher, and the doctor of an installation without a library, read settings: their limits, of
hipcomm/abi/limits.h, and the algorithms that can be asked for, of algorithms.def.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ABI = Path(__file__).resolve().parent.parent / "abi"


def module() -> Iterator[str]:
    """Yield the module's text."""
    yield '"""Made by hipcomm/native/build_tables.py of hipcomm/abi/limits.h and algorithms.def."""\n\n'
    limits = (ABI / "limits.h").read_text(encoding="utf-8")
    for name, value in re.findall(r"#define HIPCOMM_(MAX_\w+) (\w+)\n", limits):
        yield f"{name} = {value}\n"
    algorithms = (ABI / "algorithms.def").read_text(encoding="utf-8")
    names = re.findall(r"X\(\w+, (\w+), \d+, 1, __VA_ARGS__\)", algorithms)
    yield f"ALGORITHMS = {tuple(names)}\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("".join(module()), encoding="utf-8")
