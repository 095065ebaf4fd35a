"""Write hipcomm/_tables.py, what Python must know without the C core (``python build_tables.py OUTPUT``).

A launcher, and the doctor of an installation without a library, read settings: the tables of them in
hipcomm/abi (settings.def, launchers.def, platforms.def), their limits (limits.h), and the algorithms that can
be asked for (algorithms.def).
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ABI = Path(__file__).resolve().parent.parent / "abi"


def module() -> Iterator[str]:
    """Yield the module's text."""
    yield '"""Made by hipcomm/native/build_tables.py of the tables in hipcomm/abi."""\n\n'
    limits = (ABI / "limits.h").read_text(encoding="utf-8")
    for name, value in re.findall(r"#define HIPCOMM_(MAX_\w+) (\w+)\n", limits):
        yield f"{name} = {value}\n"
    algorithms = (ABI / "algorithms.def").read_text(encoding="utf-8")
    names = re.findall(r"X\(\w+, (\w+), \d+, 1, __VA_ARGS__\)", algorithms)
    yield f"ALGORITHMS = {tuple(names)}\n"
    launchers = (ABI / "launchers.def").read_text(encoding="utf-8")
    for name, text in re.findall(r'#define HIPCOMM_(SLURM_\w+) (".*")\n', launchers):
        yield f"{name} = {text}\n"
    for table in ("settings", "launchers", "platforms"):
        rows = "".join(f"    {row!r},\n" for row in rows_of(table))
        yield f"{table.upper()} = (\n{rows})\n"


def rows_of(table: str) -> Iterator[tuple[object, ...]]:
    """Yield the rows X(...) of a table whose columns are texts, names and numbers; names become texts."""
    text = (ABI / f"{table}.def").read_text(encoding="utf-8").replace("\\\n", "\n")
    for row in re.findall(r"^    X\((.*?),\s*__VA_ARGS__\)", text, re.DOTALL | re.MULTILINE):
        columns = re.sub(r'("(?:[^"\\]|\\.)*")|\b([a-z_]+)\b', lambda each: each[1] or repr(each[2]), row)
        yield ast.literal_eval(f"({columns},)")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("".join(module()), encoding="utf-8")
