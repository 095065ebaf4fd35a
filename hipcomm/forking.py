"""A forked child has its parent's memory, and none of its places in a job: one hook for all that has one."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _Owned(Protocol):
    def _let_go_in_child(self) -> None: ...


_owned: weakref.WeakSet[_Owned] = weakref.WeakSet()


def belongs_to_this_process(owned: _Owned) -> None:
    """Have ``owned._let_go_in_child()`` called in every child that is forked as long as *owned* lives."""
    _owned.add(owned)


def _after_fork_in_child() -> None:
    for owned in list(_owned):
        owned._let_go_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
