"""What ``pip install .`` does beyond copying Python files: run ``make native kernels``.

The Makefile has all the build rules; this file only calls it and marks the wheel as one for this
machine. pyproject.toml names the classes.
"""

from __future__ import annotations

import subprocess
import sys

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py


class BuildPy(build_py):  # type: ignore[misc]  # setuptools has no types here
    """Build the libraries and code objects before they are collected as package data."""

    def run(self) -> None:
        """Build, then collect. An editable install is made by make itself: nothing to build."""
        if not self.editable_mode:
            subprocess.run(["make", "native", "kernels", f"FFI_PYTHON={sys.executable}"], check=True)
            self.data_files = self._get_data_files()  # setuptools listed them before they existed
        super().run()


class BdistWheel(bdist_wheel):  # type: ignore[misc]  # likewise
    """A wheel for any Python 3 on this kind of machine: the libraries do not use Python's C API."""

    def finalize_options(self) -> None:
        """Declare that the wheel holds machine code."""
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        """The wheel's tag."""
        return "py3", "none", super().get_tag()[2]
