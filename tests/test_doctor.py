"""hipcomm-doctor: what it says of a sound machine, and that whatever is wrong is found and has a fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from harness import PLATFORM

from hipcomm.installation import VERSION
from hipcomm_launcher.doctor import cli, probe, settings
from hipcomm_launcher.doctor.findings import Problem, Section

PATIENCE = 200.0

# A HIP library that is out of order at the first call that needs a device.
BROKEN_LIBRARY = """
#include <stdlib.h>
#include <unistd.h>
int hipInit(unsigned flags) { (void)flags; return 0; }
int hipGetDeviceCount(int *count) { *count = 0; %s; return 0; }
"""


def doctor(*arguments, **variables):
    """Its output and exit code."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("HIPCOMM_")}
    done = subprocess.run(
        [sys.executable, "-m", "hipcomm_launcher.doctor.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**clean, "HIPCOMM_PLATFORM": PLATFORM, **variables},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout, done.returncode


def test_a_sound_machine():
    output, code = doctor()
    titles = [line for line in output.splitlines() if line and not line.startswith(" ")]
    assert titles[:5] == ["environment", "machine", "platform", "devices", "code objects"]
    assert f"{PLATFORM}, because HIPCOMM_PLATFORM={PLATFORM}" in output
    assert "kernels load" in output
    if "trial: " in output:  # one GPU has nobody to share memory with, but the job runs all the same
        assert "every result is right" in output
    assert ("all is well" in output) == (code == 0)
    assert ("PROBLEM" in output) == (code == 1)


@pytest.mark.skipif(PLATFORM != "cpu", reason="the CPU platform has no devices that fail")
def test_all_is_well_on_the_cpu():
    output, code = doctor(HIPCOMM_CPU_DEVICES="3")
    assert "trial: 3 ranks" in output
    assert "every result is right" in output
    assert output.endswith("\nall is well\n")
    assert code == 0
    assert "  0-2: hipcomm CPU device, x86_64" in output  # equal devices share a line


@pytest.mark.skipif(PLATFORM != "cpu", reason="the CPU platform has no devices that fail")
def test_findings_as_json():
    output, code = doctor("--json", HIPCOMM_CPU_DEVICES="2")
    report = json.loads(output)
    assert (code, report["problems"], report["version"]) == (0, 0, VERSION)
    sections = {section["title"]: section for section in report["sections"]}
    devices = sections["devices"]["data"]["devices"]
    assert [device["ordinal"] for device in devices] == [0, 1]
    assert all(device["total_bytes"] >= device["free_bytes"] > 0 for device in devices)
    (reached,) = (section["data"]["reached"] for title, section in sections.items() if "peer" in title)
    assert reached == [[True, True], [True, True]]
    output, code = doctor("--json", HIPCOMM_TIMEOUT="soon")
    (problem,) = json.loads(output)["sections"][0]["problems"]
    assert code == 1 and "HIPCOMM_TIMEOUT='soon'" in problem["what"]


def test_settings_that_make_no_sense():
    output, code = doctor(HIPCOMM_TIMEOUT="soon", HIPCOMM_TOKEN="secret", HIPCOMM_LOG="loud")
    assert "PROBLEM: HIPCOMM_TIMEOUT='soon': not a positive number of seconds" in output
    assert "PROBLEM: HIPCOMM_LOG='loud'" in output
    assert "fix: HIPCOMM_LOG takes warning, info, debug" in output
    assert "secret" not in output
    assert "2 problems found" in output
    assert code == 1


def test_a_trial_that_fails_shows_why():
    output, code = doctor("--platform", PLATFORM, HIPCOMM_TIMEOUT="1e-9", HIPCOMM_JOIN_TIMEOUT="0.000001")
    assert "PROBLEM: the job ended with exit code" in output
    assert "RendezvousError" in output or "PeerTimeout" in output
    assert code == 1


@pytest.mark.parametrize(
    ("behaviour", "end"), [("abort()", "was killed by SIGABRT"), ("sleep(600)", "did not end within 2 s")]
)
def test_a_library_that_crashes_or_hangs(behaviour, end, tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "broken.c").write_text(BROKEN_LIBRARY % behaviour)
    library = tmp_path / "lib" / "libamdhip64.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", tmp_path / "broken.c", "-o", library], check=True, timeout=PATIENCE
    )
    if "sleep" in behaviour:
        monkeypatch.setattr(cli, "PROBE_TIMEOUT", 2.0)
    environ = {**os.environ, "HIPCOMM_PLATFORM": "amd", "ROCM_PATH": str(tmp_path)}
    (section,) = cli.probe(environ)
    (problem,) = section.problems
    assert end in problem.what
    assert "at the first call" in problem.what


def test_a_platform_that_is_not_there(tmp_path):
    output, code = doctor(HIPCOMM_PLATFORM="amd", ROCM_PATH=str(tmp_path))
    assert "PROBLEM: HIPCOMM_PLATFORM='amd': " in output
    assert "fix: HIPCOMM_PLATFORM=cpu runs without a GPU" in output
    assert code == 1


def test_environment_table():
    section = settings.examine({"HIPCOMM_TIMEOUT": "5", "HIP_VISIBLE_DEVICES": "1"})
    assert "HIPCOMM_TIMEOUT=5 (set)" in section.facts
    assert "HIPCOMM_CHECK=0 (default)" in section.facts
    assert "HIP_VISIBLE_DEVICES=1 (set; not hipcomm's own)" in section.facts
    assert section.problems == []


@pytest.mark.parametrize(
    ("environ", "what", "fix"),
    [
        ({"HSA_ENABLE_IPC_MODE_LEGACY": "1"}, "HSA_ENABLE_IPC_MODE_LEGACY=1", "unset it"),
        ({"HIPCOMM_TIMEOT": "5"}, "HIPCOMM_TIMEOT is no variable", "did you mean HIPCOMM_TIMEOUT?"),
        ({"HIPCOMM_XYZZY": "5"}, "HIPCOMM_XYZZY is no variable", "docs/environment.md"),
        ({"RANK": "1"}, "WORLD_SIZE", "unset what another launcher"),
    ],
)
def test_bad_settings(environ, what, fix):
    (problem,) = settings.examine(environ).problems
    assert what in problem.what
    assert fix in problem.fix


def test_devices_that_do_not_reach_each_other(monkeypatch):
    monkeypatch.setattr(probe, "call", lambda _, device, peer: (device, peer) != (0, 2))
    section = probe._peer_access(3)
    assert [line.split() for line in section.facts] == [
        ["0", "1", "2"],
        ["0", "-", "+", "."],
        ["1", "+", "-", "+"],
        ["2", "+", "+", "-"],
    ]
    (problem,) = section.problems
    assert problem.what == "no peer access from device 0 to 2"


def test_sections_travel_as_text():
    for data in (None, {"devices": [{"ordinal": 0}]}):
        section = Section("title", ["a fact"], [Problem("what", "fix")], data)
        assert Section.from_json(section.to_json()) == section
        assert section.as_dict() == {
            "title": "title",
            "facts": ["a fact"],
            "problems": [{"what": "what", "fix": "fix"}],
            "data": data or {},
        }
