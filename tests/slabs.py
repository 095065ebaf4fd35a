"""The layout of the slabs, and limits, read from hipcomm/abi/slabs.h and limits.h."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_ABI = Path(__file__).resolve().parent.parent / "hipcomm" / "abi"


def _read() -> dict[str, Any]:
    """{name without HIPCOMM_: number; a function for a macro with an argument}"""
    text = "".join((_ABI / name).read_text() for name in ("limits.h", "slabs.h"))
    text = re.sub(r"/\*.*?\*/|\\\n", "", text, flags=re.DOTALL)
    text = re.sub(r"\(uint64_t\)|(?<=[\da-f])(u|ull)\b", "", text).replace("HIPCOMM_", "").replace("/", "//")
    macros = re.findall(r"#define (\w+)(?:\((\w+)\))? +(\S.*)", text)
    values: dict[str, Any] = {}
    while macros:  # in any order
        left = [macro for macro in macros if not _evaluate(values, *macro)]
        assert len(left) < len(macros), left
        macros = left
    return values


def _evaluate(values: dict[str, Any], name: str, argument: str, expression: str) -> bool:
    """Whether all that the expression needs is known."""
    if not {*re.findall(r"\b[A-Za-z_]\w*", expression)} <= {*values, argument}:
        return False
    values[name] = eval(f"lambda {argument}: {expression}" if argument else expression, values)
    return True


SLABS = _read()
