"""``hipcomm-run -n auto``: as many ranks as there are devices; on the CPU, as many as processors.

Counted in a process of its own (``python -m hipcomm_launcher.auto``): a HIP library starts threads, and a
process that forks ranks must have none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from hipcomm._tables import MAX_RANKS
from hipcomm.environment import Settings
from hipcomm.errors import Error

from .spec import CommandError

_PATIENCE = 120.0  # seconds; a driver may have to be started


def number_of_ranks(environ: Mapping[str, str]) -> int:
    """Return how many ranks to start for a process with these variables. Raises CommandError."""
    command = [sys.executable, "-m", "hipcomm_launcher.auto"]
    try:
        done = subprocess.run(
            command, env=dict(environ), capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"-n auto: devices could not be counted within {_PATIENCE:g} s", 1) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise CommandError(f"-n auto: devices cannot be counted: {reason}", 1)
    return int(done.stdout)


def main() -> None:
    """Print the number."""
    from hipcomm.hip import call
    from hipcomm.hip.platform import choose

    try:
        platform = choose(Settings.read())
        count = int(call("hipGetDeviceCount"))
    except Error as error:
        raise SystemExit(str(error)) from None
    if platform.name == "cpu":
        count = min(count, len(os.sched_getaffinity(0)))
    sys.stdout.write(f"{min(count, MAX_RANKS)}\n")


if __name__ == "__main__":
    main()
