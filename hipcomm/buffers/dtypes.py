"""Element types: NumPy's and ml_dtypes' dtypes, their names, and the core's numbers for them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from hipcomm.core import lib, numbers
from hipcomm.errors import InvalidArgument

CODES: dict[np.dtype[Any], int] = {
    np.dtype(getattr(ml_dtypes, name, name)): number
    for name, number in numbers(lib.hipcommDataTypeName, lib.hipcommNumDataTypes).items()
}

# NumPy's buffer protocol cannot name the types that NumPy did not define itself.
NOT_IN_BUFFER_PROTOCOL = frozenset(
    dtype for dtype in CODES if dtype.name == "bfloat16" or dtype.name.startswith("float8")
)


def names() -> str:
    """The supported dtypes, for messages."""
    return ", ".join(dtype.name for dtype in CODES)


# What callers write in their calls, found without asking NumPy what it means.
_COMMON: dict[Any, np.dtype[Any]] = {
    spelling: dtype for dtype in CODES for spelling in (dtype, dtype.type, dtype.name)
}


def resolve(dtype: Any) -> np.dtype[Any]:
    """The supported dtype that a dtype, a type or a name ("bfloat16") means; torch's dtypes too.

    Raises:
        InvalidArgument: the dtype is not supported; the message has the list.
    """
    try:
        return _COMMON[dtype]
    except (KeyError, TypeError):  # another spelling, or nothing that can be a key
        return _resolve(dtype)


def _resolve(dtype: Any) -> np.dtype[Any]:
    known = _COMMON.get(str(dtype).removeprefix("torch.")) if type(dtype).__module__ == "torch" else None
    if known is not None:
        return known
    try:
        # to NumPy None is float64, and text may be a list of fields
        resolved: np.dtype[Any] | None = None if dtype is None else np.dtype(dtype)
    except Exception:  # noqa: BLE001  NumPy's parser raises SyntaxError and others, for texts of all kinds
        resolved = None
    if resolved is None or resolved not in CODES:
        raise InvalidArgument(f"dtype {dtype!r} is not supported; these are: {names()}")
    return resolved
