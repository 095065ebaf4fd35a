"""Where the library's log goes: to the ``hipcomm`` logger, at the level of ``HIPCOMM_LOG``."""

from __future__ import annotations

import logging


def configure(level: str) -> None:
    """Set the logger's level.

    Who asks for more than warnings in a program that has set up no logging gets the lines on standard
    error: Python itself would show none of them.
    """
    logger = logging.getLogger("hipcomm")
    logger.setLevel(level.upper())
    if level in ("debug", "info") and not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("hipcomm %(levelname)s: %(message)s"))
        logger.addHandler(handler)
