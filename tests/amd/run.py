"""Run the product's own tests on the AMD GPU in software, one architecture after the other: `make test-amd`.

    python tests/amd/run.py [--arch gfx942 …] [--seeds N] [pytest's arguments]

Without arguments: all architectures, and the test files that exercise kernels. Each architecture also
runs with memory as weak as its model allows, from N seeds. Worlds have up to 4 ranks.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ARCHITECTURES = ("gfx942", "gfx950", "gfx90a", "gfx1201")
FILES = (
    "all_reduce",
    "all_gather",
    "broadcast",
    "direct",
    "epoch_wrap",
    "failures",
    "graphs",
    "mixed",
    "segments",
    "send_recv",
    "symmetric",
    "symmetric_segments",
)


def run_tests(
    arch: str, seed: int, arguments: list[str], devices: int = 4, timeout: float | None = None
) -> int:
    """Run pytest with the architecture; its exit code."""
    environment = {
        **os.environ,
        "HIPCOMM_PLATFORM": "amd-software",
        "HIPCOMM_AMD_SOFTWARE": f"arch={arch},seed={seed}",
        "HIPCOMM_CPU_DEVICES": str(devices),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as tests:
        try:
            return tests.wait(timeout)
        except BaseException:  # a time-out or Ctrl-C: the ranks end too
            os.killpg(tests.pid, signal.SIGKILL)
            raise


def main() -> int:
    """Run them all; 1 if any has failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES)
    parser.add_argument("--seeds", type=int, default=1, help="how many runs with weak memory")
    options, arguments = parser.parse_known_args()
    arguments = arguments or [f"tests/test_{name}.py" for name in FILES]
    failed = []
    for arch in options.arch or ARCHITECTURES:
        for seed in range(1 + options.seeds):
            print(f"==== {arch}, {f'weak memory, seed {seed}' if seed else 'in order'}", flush=True)
            if run_tests(arch, seed, arguments) != 0:
                failed.append(f"{arch} seed {seed}")
    print("failed: " + ", ".join(failed) if failed else "all architectures passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
