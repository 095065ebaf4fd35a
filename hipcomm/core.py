"""The C core, libhipcomm.so, as Python sees it: ``lib`` and ``ffi`` (cffi), and its error codes.

``lib`` has the functions and constants of ``hipcomm.h`` under their own names. Collectives are
called on it directly (:mod:`hipcomm.communicator`); there is no layer in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hipcomm.errors import CallMismatch, Error, InvalidArgument, PeerDied, PeerTimeout, PlatformError
from hipcomm.installation import get_library, not_built

try:
    from hipcomm._ffi import ffi
except ImportError as error:  # a checkout that was never built
    raise not_built(error) from error

__all__ = ["VOID_POINTER", "check", "class_of", "error_of", "ffi", "lib", "numbers", "result_of"]

# Never unloaded: a daemon thread may still be in a call when the interpreter ends and lets go of the library.
lib: Any = ffi.dlopen(get_library(), ffi.RTLD_NOW | ffi.RTLD_NODELETE)

# For ffi.cast() on the path of every call: the type's name would be looked up each time.
VOID_POINTER = ffi.typeof("void *")


def numbers(name_of: Callable[[int], Any], count: int) -> dict[str, int]:
    """The names in one of the core's tables (``hipcomm/abi/*.def``), and their numbers."""
    return {ffi.string(name_of(number)).decode(): number for number in range(count)}


_CLASSES: dict[int, type[Error]] = {
    lib.hipcommInvalidArgument: InvalidArgument,
    lib.hipcommPlatformError: PlatformError,
    lib.hipcommPeerTimeout: PeerTimeout,
    lib.hipcommPeerDied: PeerDied,
    lib.hipcommCallMismatch: CallMismatch,
}


def class_of(result: int) -> type[Error]:
    """The class of exceptions for a result code other than ``hipcommSuccess``."""
    return _CLASSES.get(result, PlatformError)


def result_of(kind: type[BaseException]) -> int:
    """The result code for a class of exceptions; ``hipcommSuccess`` for one that the core does not know."""
    success: int = lib.hipcommSuccess
    return next((result for result, each in _CLASSES.items() if each is kind), success)


def error_of(result: int, comm: Any = ffi.NULL) -> Error:
    """The exception for a result code other than ``hipcommSuccess``, with the core's message."""
    message = ffi.string(lib.hipcommGetLastError(comm)).decode(errors="replace")
    kind = class_of(result)
    if kind is PeerTimeout or kind is PeerDied:
        return kind(message, _failed_peer(comm))
    return kind(message)


def _failed_peer(comm: Any) -> int | None:
    peer: int = lib.hipcommCommFailedPeer(comm)
    return None if peer < 0 else peer


def check(result: int, comm: Any = ffi.NULL) -> None:
    """Raise :func:`error_of` unless the result is success."""
    if result:
        raise error_of(result, comm)
