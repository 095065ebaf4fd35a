"""The errors hipcomm raises: one hierarchy under :class:`Error`.

Every message names the rank, the operation and the value that was wrong. ``PeerTimeout``,
``PeerDied`` and ``CallMismatch`` mean that the communicator has failed; it stays failed, and every later call
raises the same error again. So does a ``PlatformError`` of a launch that HIP has refused.
"""

from __future__ import annotations


class Error(Exception):
    """Base of every error that hipcomm raises on purpose."""


class InvalidArgument(Error, ValueError):
    """An argument was wrong. Found before anything was launched: the communicator is unharmed."""


class RendezvousError(Error):
    """The ranks could not meet, or the control connection broke."""


class PeerTimeout(Error, TimeoutError):
    """A peer did not arrive in time.

    Attributes:
        peer: the rank that was waited for, or None where it is not known.
    """

    def __init__(self, message: str, peer: int | None = None) -> None:
        super().__init__(message)
        self.peer = peer


class PeerDied(Error):
    """A peer's process ended, or left the job with an error, while others still needed it.

    Attributes:
        peer: the rank that is gone, or None where it is not known.
    """

    def __init__(self, message: str, peer: int | None = None) -> None:
        super().__init__(message)
        self.peer = peer


class CallMismatch(Error):
    """Two ranks made calls that do not belong together.

    Found where they run different algorithms, where a message is not as long as its receiver expects, and
    with ``HIPCOMM_CHECK=1`` in every call.
    """


class PlatformError(Error):
    """A HIP call failed.

    Attributes:
        call: the HIP function's name, or None.
        code: the HIP error code, or None.
    """

    def __init__(self, message: str, call: str | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.call = call
        self.code = code


def is_normal_exit(error: BaseException) -> bool:
    """Whether this is ``sys.exit()`` or ``sys.exit(0)``: the end of a program; nothing went wrong."""
    return isinstance(error, SystemExit) and error.code in (None, 0)
