"""The platform is called what it is, and nobody gets it who has not asked for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from assembly import LIBRARY

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="run `make amd-software`")


def doctor(platform: str) -> str:
    program = Path(sys.executable).with_name("hipcomm-doctor")
    environment = {**os.environ, "HIPCOMM_PLATFORM": platform}
    asked = subprocess.run(
        [str(program)], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    return asked.stdout


def test_the_doctor_says_that_it_is_software() -> None:
    assert "AMD GPU in software (gfx942)" in doctor("amd-software")


def test_auto_does_not_choose_it() -> None:
    said = doctor("auto")
    assert said
    assert "in software" not in said
