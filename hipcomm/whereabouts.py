"""Where this process's threads are, in Python: for people who ask what a job is stuck in."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType

_PACKAGE = str(Path(__file__).parent)


def whereabouts() -> str:
    """A line for the main thread, and one for each other thread that is in a call of hipcomm."""
    frames = sys._current_frames()
    main = threading.main_thread()
    lines = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        is_service = thread.name.startswith("hipcomm-") and not thread.name.startswith("hipcomm-rank")
        if frame is not None and not is_service and (thread is main or _own_part(frame)):
            name = "main thread" if thread is main else f"thread {thread.name}"
            lines.append(f"{name}: {_place(frame)}")
    return "\n".join(lines)


def _own_part(frame: FrameType | None) -> list[FrameType]:
    """The innermost frames, as far as they are hipcomm's."""
    own = []
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        own.append(frame)
        frame = frame.f_back
    return own


def _place(frame: FrameType) -> str:
    """``train.py:31 in step, in hipcomm's all_reduce``."""
    own = _own_part(frame)
    users = own[-1].f_back if own else frame
    within = f", in hipcomm's {own[-1].f_code.co_name}" if own else ""
    if users is None:
        return f"nowhere{within}"
    return f"{users.f_code.co_filename}:{users.f_lineno} in {users.f_code.co_name}{within}"
