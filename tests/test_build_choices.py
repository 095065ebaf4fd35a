"""What is built with which compiler, and what a wheel says of what it lacks; no compiler runs here."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hipcomm import installation
from hipcomm.native import setup_hooks

ROOT = Path(__file__).resolve().parent.parent
TOOLS = (
    "sh",
    "sed",
    "grep",
    "cut",
    "uname",
    "echo",
    "mkdir",
    "touch",
    "make",
    "g++",
    "ls",
    "id",
    "python3",
    "cat",
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes compilers that only say what they are, and runs make with no others in PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    for tool in TOOLS:
        found = next((Path(f, tool) for f in os.environ["PATH"].split(":") if Path(f, tool).exists()), None)
        if found is not None:
            (path / tool).symlink_to(found)
    for name in ("CLANG", "NVIDIA_CLANG", "HIPCOMM_ARCHS", "MAKEFLAGS", "MAKELEVEL", "ROCM_PATH"):
        monkeypatch.delenv(name, raising=False)

    class Machine:
        rocm = tmp_path / "rocm"

        def clang(self, file, version, targets, lld=True, archs=r"gfx942|gfx950"):
            file = path / file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                f'#!/bin/sh\ncase "$*" in -dumpversion) echo {version};;\n'
                f'--print-targets) echo " {targets}";;\n'
                f"-print-prog-name=ld.lld) echo {'/bin/true' if lld else 'ld.lld'};;\n"
                f"*-mcpu=*) echo \"$*\" | grep -Eq -- '-mcpu=({archs}) ';; *) exit 9;; esac\n"
            )
            file.chmod(0o755)
            return str(file)

        def make(self, target="gpu-kernels", **variables):
            """(What would be done, exit code)."""
            command = ["make", "-n", "-C", str(ROOT), target, "VENV=" + str(tmp_path / "venv")]
            env = {"PATH": str(path), "ROCM_PATH": str(self.rocm), **variables}
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
            return done.stdout + done.stderr, done.returncode

        def chosen(self, **variables):
            """The compilers, and the AMD architectures that are compiled."""
            said, code = self.make(**variables)
            assert code == 0, said
            find = {
                name: re.findall(rf'\b{name}="([^"]*)"', said)
                for name in ("CLANG", "NVIDIA_CLANG", "AMD_ARCHS")
            }
            return {name: found[0] if found else None for name, found in find.items()}

    return Machine()


def test_rocms_clang_comes_first_and_another_one_compiles_for_nvidia(machine):
    machine.clang("clang-21", 21, "amdgcn nvptx64")
    machine.clang("clang-22", "22.1.8", "amdgcn nvptx64")
    assert machine.chosen()["CLANG"] == "clang-22"
    own = machine.clang(machine.rocm / "llvm/bin/clang", "20.0.0", "amdgcn x86")
    chosen = machine.chosen()
    assert (chosen["CLANG"], chosen["NVIDIA_CLANG"]) == (own, "clang-22")
    assert chosen["AMD_ARCHS"] == "gfx942 gfx950"  # what it does not know is left out


@pytest.mark.parametrize(
    ("version", "targets", "lld"),
    [("19.1", "amdgcn nvptx64", True), (22, "x86", True), (22, "amdgcn", False)],
)
def test_a_compiler_that_will_not_do_is_passed_over(machine, version, targets, lld):
    machine.clang(machine.rocm / "llvm/bin/clang", version, targets, lld)
    said, code = machine.make()
    assert code == 0
    assert "no AMD and NVIDIA code objects: they need clang 20 or newer and lld" in said
    machine.clang("clang", 20, "amdgcn")
    assert machine.chosen()["CLANG"] == "clang"


def test_architectures_are_chosen(machine):
    machine.clang("clang-22", 22, "amdgcn nvptx64")
    chosen = machine.chosen(HIPCOMM_ARCHS="gfx950")
    assert (chosen["AMD_ARCHS"], chosen["NVIDIA_CLANG"]) == ("gfx950", None)
    chosen = machine.chosen(HIPCOMM_ARCHS="sm_80")
    assert (chosen["AMD_ARCHS"], chosen["NVIDIA_CLANG"]) == (None, "clang-22")
    assert set(machine.chosen(HIPCOMM_ARCHS="none").values()) == {None}
    said, code = machine.make(HIPCOMM_ARCHS="gfx942,gfx9")
    assert code == 2 and "HIPCOMM_ARCHS: gfx9: not among gfx90a gfx942" in said
    said, code = machine.make(HIPCOMM_ARCHS="gfx1250")  # this compiler does not know it
    assert code == 2 and "HIPCOMM_ARCHS: gfx1250: not among" in said


def test_architectures_that_were_asked_for_need_a_compiler():
    command = ["make", "-s", "-C", str(ROOT), "gpu-kernels", "CLANG=", "HIPCOMM_ARCHS=gfx942"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and "they need clang 20 or newer" in done.stdout


def test_a_wheel_installs_no_compiler(machine):
    said, _ = machine.make("wheel-kernels", WHEEL_FORMS="")
    assert "toolchain.sh" not in said and "apt-get install -y" not in said
    said, _ = machine.make("kernels")
    assert "toolchain.sh" in said


def test_what_a_wheel_lacks_is_told(tmp_path):
    for arch in ("x86_64", "gfx942", "sm_90"):
        (tmp_path / arch).mkdir()
    for arch in ("x86_64", "sm_90"):
        (tmp_path / arch / "a.so").touch()
    said = setup_hooks.what_is_missing(tmp_path, "")
    assert "without code objects for AMD GPUs" in said and "clang-22 lld-22" in said and "make" not in said
    assert setup_hooks.what_is_missing(tmp_path, "sm_90") == ""
    (tmp_path / "gfx942" / "a.co").touch()
    assert setup_hooks.what_is_missing(tmp_path, "") == ""
    (tmp_path / "sm_90" / "a.so").unlink()
    assert "for NVIDIA GPUs" in setup_hooks.what_is_missing(tmp_path, "")


def test_it_is_told_to_the_terminal_when_pip_keeps_the_output():
    """As under pip: standard error is a pipe, the terminal is there all the same."""
    code = "from hipcomm.native.setup_hooks import tell; tell('nothing for GPUs\\n')"
    pid, terminal = pty.fork()
    if pid == 0:
        subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=True)
        os._exit(0)
    seen = b""
    while b"GPUs" not in seen:
        seen += os.read(terminal, 1000)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)
    assert seen == b"nothing for GPUs\r\n"


def test_only_chosen_architectures_go_into_a_wheel(monkeypatch):
    monkeypatch.setenv("HIPCOMM_ARCHS", "gfx942,sm_90")
    wanted = [
        "code_objects/gfx942/a.co",
        "code_objects/sm_90/a.ptx",
        "code_objects/x86_64/a.so",
        "include/hipcomm.h",
    ]
    for name in [*wanted, "code_objects/gfx950/a.co", "code_objects/sm_80/a.ptx"]:
        assert setup_hooks._is_wanted(name) == (name in wanted)
    monkeypatch.delenv("HIPCOMM_ARCHS")
    assert setup_hooks._is_wanted("code_objects/gfx950/a.co")


def test_a_checkout_is_told_to_make_and_a_wheel_is_not(tmp_path, monkeypatch):
    assert installation.how_to_get_code_objects() == "run `make kernels`"
    monkeypatch.setattr(installation, "PACKAGE", tmp_path / "site-packages" / "hipcomm")
    advice = installation.how_to_get_code_objects()
    assert "make" not in advice and "--force-reinstall" in advice and "clang 20 or newer" in advice
