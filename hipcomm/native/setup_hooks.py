"""What ``pip install .`` does beyond copying Python files: run ``make native amd-software wheel-kernels``.

The Makefile has all the build rules; this file only calls it and marks the wheel as one for this
machine. pyproject.toml names the classes.
"""

from __future__ import annotations

import os
import subprocess
import sys

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.errors import ExecError


class BuildPy(build_py):  # type: ignore[misc]  # setuptools has no types here
    """Build the libraries and code objects before they are collected as package data."""

    def run(self) -> None:
        """Build, then collect. An editable install is made by make itself: nothing to build."""
        if not self.editable_mode:
            _make("native", "amd-software", "wheel-kernels")
            self.data_files = self._get_data_files()  # setuptools listed them before they existed
        super().run()


def _make(*targets: str) -> None:
    """Run make in the checkout. Its output is in pip's log, which pip shows when this fails."""
    # An outer make's flags name pipes that are not ours.
    environment = {name: text for name, text in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    try:
        subprocess.run(["make", *targets, f"FFI_PYTHON={sys.executable}"], check=True, env=environment)
    except FileNotFoundError:
        raise ExecError("hipcomm is built with make, gcc and g++: make was not found") from None
    except subprocess.CalledProcessError as error:
        raise ExecError(f"make failed, with exit code {error.returncode}; its output is above") from None


class BdistWheel(bdist_wheel):  # type: ignore[misc]  # likewise
    """A wheel for any Python 3 on this kind of machine: the libraries do not use Python's C API."""

    def finalize_options(self) -> None:
        """Declare that the package holds machine code, though setuptools has not built it."""
        self.distribution.has_ext_modules = lambda: True
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        """The wheel's tag."""
        return "py3", "none", super().get_tag()[2]
