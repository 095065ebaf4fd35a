"""Run the product's own tests on the AMD GPU in software: `make test-amd`.

    python tests/amd/run.py [--arch gfx942 …] [--seeds N] [pytest's arguments]

Without arguments: a selection of the tests that exercise kernels, with every operation and every algorithm,
on all architectures; in order, and part of it from N seeds with memory as weak as the model allows.
With arguments (test files): these, with worlds of up to 4 ranks.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
ARCHITECTURES = ("gfx942", "gfx950", "gfx90a", "gfx1201")


class Part(NamedTuple):
    """Some tests.

    Attributes:
        files: of tests/, without test_ and .py.
        names: pytest's -k.
        devices: the most ranks that a world has.
        weak: pytest's -k for weak memory; empty: not with that.
    """

    files: tuple[str, ...]
    names: str
    devices: int = 2
    weak: str = ""


SELECTION = (
    Part(("graphs",), "every_operation_in_one_graph and False or every_algorithm", weak="every_algorithm"),
    Part(("all_reduce", "all_gather", "broadcast"), "every_boundary or every_dtype"),
    Part(("segments",), "every_dtype or mixed_calls and auto", weak="every_dtype"),
    Part(
        ("direct",),
        "every_size and not rows or every_dtype_and_operation",
        weak="every_size and (all_reduce or broadcast)",
    ),
    Part(("send_recv",), "every_dtype or every_size or lengths_differ or old_flags", weak="every_size"),
    Part(("symmetric",), "random_life or freed_memory or attributes"),
    Part(("epoch_wrap",), "go_on_as_ever or harms_no_call and all_to_all-"),
    Part(("failures",), "never_calls and all_reduce or test_abort or killed_between", devices=3),
    Part(("norms", "sharded_norms"), "any_call or equals or every_dtype", weak="any_call"),
    Part(("quantised",), "fused or local and 1"),
    Part(("qk_norm",), "any_call or every_dtype"),
    Part(("mixed",), "small_staging and auto", devices=3),
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
    failed = []
    for arch in options.arch or ARCHITECTURES:
        for seed in range(1 + options.seeds):
            memory = f"weak memory, seed {seed}" if seed else "in order"
            commands = [(arguments, 4)] if arguments else selected(bool(seed))
            for command, devices in commands:
                print(f"==== {arch}, {memory}: {' '.join(command)}", flush=True)
                begun = time.monotonic()
                if run_tests(arch, seed, command, devices) != 0:
                    failed.append(f"{arch}, {memory}: {' '.join(command)}")
                print(f"     {time.monotonic() - begun:.0f} s", flush=True)
    print("failed:\n" + "\n".join(failed) if failed else "all architectures passed")
    return 1 if failed else 0


def selected(is_weak: bool) -> list[tuple[list[str], int]]:
    """pytest's arguments for each part, and the devices."""
    return [
        (
            ["-k", part.weak if is_weak else part.names, *(f"tests/test_{name}.py" for name in part.files)],
            part.devices,
        )
        for part in SELECTION
        if part.weak or not is_weak
    ]


if __name__ == "__main__":
    sys.exit(main())
