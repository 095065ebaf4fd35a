"""Calls that do not belong together, in any way that there is: with an error, also without HIPCOMM_CHECK."""

from __future__ import annotations

import os
import subprocess
import sys

import mismatches
import pytest

PATIENCE = 300.0

# Each pair of an all_to_all knows its own lengths, and a short message is sent without its receiver.
SILENT = {"all_to_all_v: one more element", "all_to_all_v: fewer elements", "message: no call"}


@pytest.mark.host_arrays
@pytest.mark.parametrize("check", [False, True])
def test_mismatches(check, tmp_path):
    done = subprocess.run(
        [sys.executable, mismatches.__file__, *(["check"] if check else [])],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "HIPCOMM_PLATFORM": "cpu", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    found = dict(reversed(line.split("\t")) for line in done.stdout.splitlines())
    assert set(found) == {case.name for case in mismatches.matrix()}, done.stderr
    assert {name for name, error in found.items() if error == "silent"} == (
        {"message: no call"} if check else SILENT
    )
    for name, error in found.items():  # of a call that one rank does not make, the others hear when it leaves
        is_missing = name.endswith(("one call more", "no call", "nothing"))
        assert "CallMismatch" in error or is_missing or error == "silent", (name, error)
