"""What all three commands have in common: -h, --version, --platform, underscores in the names of options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hipcomm.environment import PLATFORMS
from hipcomm.installation import VERSION

SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: name.replace("_", "-"),
}

_Command = Callable[..., Any]


def version_option(command: str) -> Callable[[_Command], _Command]:
    """Return the decorator for --version."""
    return click.version_option(VERSION, prog_name=command, message="%(prog)s %(version)s")


def platform_option(function: _Command) -> _Command:
    """Add --platform, which stands for HIPCOMM_PLATFORM."""
    options = click.option(
        "--platform", type=click.Choice(PLATFORMS), help="Where to run (HIPCOMM_PLATFORM)."
    )
    return options(function)
