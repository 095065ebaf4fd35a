"""HIP in Python: hip-python's module, once it is bound to the platform's library, and checked calls."""

from __future__ import annotations

from typing import Any

from hipcomm.errors import PlatformError

# What to try where a HIP call fails, by error code.
_FIXES = {
    2: "free device memory, or lower HIPCOMM_STAGING_BYTES",
    100: "no device is visible; check HIP_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES",
    209: "build the kernels for this device's architecture: AMD_ARCHS in the Makefile",
    303: "the HIP library and the driver do not fit together",
}

_module: Any = None


def bind(module: Any) -> None:
    """Take hip-python's ``hip`` module, now that it uses the platform's library; for hip/platform.py."""
    global _module  # noqa: PLW0603  one HIP library per process
    _module = module


def hip() -> Any:
    """hip-python's ``hip`` module. :func:`hipcomm.hip.platform.choose` comes first."""
    assert _module is not None
    return _module


def call(function: str, *arguments: Any) -> Any:
    """Call a HIP function by name; its result without the error code.

    Raises:
        PlatformError: the call failed; function, code, name and, where one is known, the fix.
    """
    error, *values = getattr(hip(), function)(*arguments)
    if int(error) != 0:
        words = text(hip().hipGetErrorString(error)[1])
        fix = (
            words if ": " in words else _FIXES.get(int(error))
        )  # what is said of this very failure counts more
        raise PlatformError(
            f"{function} failed with {error.name} ({int(error)})" + (f": {fix}" if fix else ""),
            call=function,
            code=int(error),
        )
    return values[0] if len(values) == 1 else tuple(values)


def text(value: Any) -> str:
    """Text that hip-python returns as bytes, str or its own CStr, up to the first zero."""
    return (value.decode() if isinstance(value, bytes) else str(value)).split("\0")[0]
