"""What ``pip install .`` does beyond copying Python files: run ``make native amd-software wheel-kernels``.

The Makefile has all the build rules; this file calls it, collects what was built, says which code objects are
missing, compresses PTX, and marks the wheel as one for the machines that its libraries fit. pyproject.toml
names the classes.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.errors import ExecError

_CODE_OBJECTS = Path("hipcomm", "code_objects")
_GPUS = {"gfx": "AMD", "sm_": "NVIDIA"}  # how the names of their architectures begin


class BuildPy(build_py):  # type: ignore[misc]  # setuptools has no types here
    """Build the libraries and code objects before they are collected as package data."""

    def run(self) -> None:
        """Build, then collect. An editable install is made by make itself: nothing to build."""
        if not self.editable_mode:
            _make("native", "amd-software", "wheel-kernels")
            # what an earlier build has left there may be of architectures that are not asked for now
            shutil.rmtree(Path(self.build_lib) / _CODE_OBJECTS, ignore_errors=True)
            self.data_files = self._get_data_files()  # setuptools listed them before they existed
        super().run()
        if not self.editable_mode:
            compress_ptx(Path(self.build_lib) / _CODE_OBJECTS)

    def _get_data_files(self) -> list[Any]:
        """Return (package, source, target, files), less the code objects that HIPCOMM_ARCHS leaves out."""
        found = super()._get_data_files()
        return [(*place, [name for name in files if _is_wanted(name)]) for *place, files in found]


def compress_ptx(code_objects: Path) -> None:
    """Put ``.ptx.gz``, a sixth of the size, in place of each ``.ptx``; what loads them unpacks them."""
    for text in code_objects.glob("sm_*/*.ptx"):
        # no time in it: the same PTX makes the same wheel
        text.with_suffix(".ptx.gz").write_bytes(gzip.compress(text.read_bytes(), mtime=0))
        text.unlink()


def _is_wanted(name: str) -> bool:
    """Tell whether a file of the package goes into the wheel."""
    chosen = os.environ.get("HIPCOMM_ARCHS", "")
    folder, arch = Path(name).parts[:1], Path(name).parts[1:2]
    if not chosen or folder != ("code_objects",) or not arch or not arch[0].startswith(tuple(_GPUS)):
        return True
    return arch[0] in chosen.split(",")


def _make(*targets: str) -> None:
    """Run make in the checkout. Its output is in pip's log, which pip shows when this fails."""
    # An outer make's flags name pipes that are not ours.
    environment = {name: text for name, text in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    try:
        subprocess.run(["make", *targets, f"FFI_PYTHON={sys.executable}"], check=True, env=environment)
    except FileNotFoundError:
        raise ExecError("hipcomm is built with make, a C and a C++ compiler: make was not found") from None
    except subprocess.CalledProcessError as error:
        raise ExecError(f"make failed, with exit code {error.returncode}; its output is above") from None


class BdistWheel(bdist_wheel):  # type: ignore[misc]  # likewise
    """A wheel for any Python 3 on this kind of machine: the libraries do not use Python's C API."""

    def finalize_options(self) -> None:
        """Declare that the package holds machine code, though setuptools has not built it."""
        self.distribution.has_ext_modules = lambda: True
        super().finalize_options()

    def run(self) -> None:
        """Make the wheel, and say what is not in it."""
        super().run()
        if not self.editable_mode:
            tell(what_is_missing(_CODE_OBJECTS, os.environ.get("HIPCOMM_ARCHS", "")))

    @property
    def editable_mode(self) -> bool:
        """Whether the package stays where it is."""
        return bool(self.get_finalized_command("build_py").editable_mode)

    def get_tag(self) -> tuple[str, str, str]:
        """The wheel's tag: manylinux where its libraries allow that, else this kind of machine."""
        place = super().get_tag()[2]
        built = Path(self.get_finalized_command("build_py").build_lib)
        if place.startswith("linux_") and not self.editable_mode:
            place = _manylinux().tag(built, place.removeprefix("linux_")) or place
        return "py3", "none", place


def _manylinux() -> Any:
    """Return the module beside this one; importing hipcomm itself would need what is being built."""
    spec = importlib.util.spec_from_file_location("manylinux", Path(__file__).with_name("manylinux.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def what_is_missing(code_objects: Path, chosen: str) -> str:
    """Return what to tell about GPUs for which nothing was built; empty if nobody can miss it.

    Args:
        code_objects: the directory with one of each architecture.
        chosen: HIPCOMM_ARCHS; whoever has set it knows.
    """
    built = [path.name for path in code_objects.glob("*") if any(path.iterdir())]
    missing = [name for start, name in _GPUS.items() if not any(arch.startswith(start) for arch in built)]
    if not missing or chosen:
        return ""
    return (
        f"\n*** hipcomm was built without code objects for {' and '.join(missing)} GPUs,\n"
        "*** and does not run on them. They need ROCm's clang (in $ROCM_PATH/llvm/bin), or another clang 20\n"
        "*** or newer, with lld (Debian: apt-get install clang-22 lld-22). Install it, then hipcomm again.\n"
    )


def tell(text: str) -> None:
    """Say something to a person: to the terminal as well, as pip shows nothing of what a build prints."""
    if not text:
        return
    sys.stderr.write(text)
    try:
        with Path("/dev/tty").open("w", encoding="utf-8") as terminal:
            terminal.write(text)
    except OSError:
        return  # there is no terminal: nobody is looking
