"""Rendezvous: how the ranks of a job find each other and hear of each other's death.

A server (``server.py``, hosted by ``hipcomm-run`` or by rank 0) and a client in every rank. The wire
format is specified in ``docs/protocol.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hipcomm.installation import not_built

try:
    import hipcomm._wire  # noqa: F401
except ImportError as error:  # a checkout that was never built
    raise not_built(error) from error

from hipcomm.rendezvous.client import Client, connect

if TYPE_CHECKING:
    from hipcomm.rendezvous.server import Server

__all__ = ["Client", "Server", "connect"]


def __getattr__(name: str) -> Any:
    # A rank under a launcher never needs the server; the launcher never pays for it twice.
    if name == "Server":
        from hipcomm.rendezvous.server import Server

        return Server
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
