"""``pip install .``: from a source distribution to programs that run far from the checkout and its compilers.

The code objects of this checkout are put into the unpacked source distribution, as compiling them anew takes
minutes; libraries are built there, from what the distribution holds. Nothing is downloaded: the new
environment gets this one's dependencies.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git lists the sources: needs a clone")

C_PROGRAM = """
#include <hipcomm_internal.h>
#include <stdio.h>

int main(void) {
    hipcommPlanRequest request = {hipcommOpAllReduce, hipcommFloat32, hipcommSum, 1 << 20, 4, "gfx942"};
    hipcommPlan plan;
    if (hipcommMakePlan(&request, &plan) != hipcommSuccess) {
        return 1;
    }
    return puts(hipcommAlgorithmName(plan.algorithm)) < 0;
}
"""

PROGRAM = """
import numpy, hipcomm
with hipcomm.init() as comm:
    x = numpy.full(1000, comm.rank + 1.0)
    comm.all_reduce(x)
    print(hipcomm.__file__, comm.platform, set(x.tolist()))
"""


def run(*command, **options):
    """What a command printed. AssertionError with its whole output if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        **options,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def sources():
    """The files of the checkout that are under version control, or will be."""
    listed = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return {name for name in listed if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The unpacked source distribution of this checkout."""
    checkout, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("sdist")
    for name in sources():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    # Something built lies in it, as in any checkout; none of it may get into the distribution.
    shutil.copytree(ROOT / "hipcomm" / "lib", checkout / "hipcomm" / "lib")
    build = f"from setuptools import build_meta; print(build_meta.build_sdist({str(out)!r}))"
    name = run(sys.executable, "-c", build, cwd=checkout).splitlines()[-1]
    unpacked = tmp_path_factory.mktemp("unpacked")
    run("tar", "-xzf", out / name, "-C", unpacked)
    (tree,) = unpacked.iterdir()
    return tree


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel that pip makes of the source distribution."""
    shutil.copytree(ROOT / "hipcomm" / "code_objects", sdist / "hipcomm" / "code_objects")
    out = tmp_path_factory.mktemp("wheel")
    # What this checkout has not built, for GPUs or for other processors, is not built here either.
    options = ["-q", "--no-deps", "--no-build-isolation", "-w", out]
    left_out = {"CLANG": "", "WHEEL_FORMS": "", "HIPCOMM_ARCHS": ""}
    run(sys.executable, "-m", "pip", "wheel", *options, sdist, env={**os.environ, **left_out})
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A virtual environment in which the wheel is installed, and nothing else of the checkout."""
    directory = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", directory)
    python = directory / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    # As a path, not as a site directory: the editable install of the checkout stays out.
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return directory


@pytest.fixture
def installed(environment, tmp_path):
    """Runs a command of the environment in an empty directory, with no other program in PATH."""

    def run_installed(command, *arguments):
        path = environment / "bin"
        env = {"PATH": str(path), "HIPCOMM_PLATFORM": "cpu"}
        return run(path / command, *arguments, cwd=tmp_path, env=env)

    return run_installed


def test_source_distribution_is_complete(sdist):
    held = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    assert sources() - held == set()
    generated = {name for name in held - sources() if not name.startswith("hipcomm.egg-info/")}
    assert generated - {name for name in held if "/code_objects/" in name} == {"PKG-INFO", "setup.cfg"}


def test_wheel_is_complete(wheel):
    machine = sysconfig.get_platform().removeprefix("linux-")
    assert re.search(rf"-py3-none-manylinux_2_\d+_{machine}\.whl$", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    built = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "hipcomm").rglob("*")
        if path.is_file() and (path.suffix in (".so", ".co", ".ptx", ".cubin", ".pc") or ".so." in path.name)
    }
    assert len(built) > 10
    built = {f"{name}.gz" if name.endswith(".ptx") else name for name in built}
    assert built - held == set()
    assert {"hipcomm/_ffi.py", "hipcomm/include/hipcomm.h", "hipcomm/py.typed"} - held == set()
    modules = {name for name in sources() if name.endswith(".py") and name.startswith("hipcomm/")}
    assert {name for name in modules - held if not name.startswith("hipcomm/native/")} == set()
    assert not {name for name in held if name.startswith(("tests", "kernels", "examples", "hipcomm/native"))}


def test_the_version_stands_in_the_header(wheel, installed):
    header = (ROOT / "hipcomm" / "include" / "hipcomm.h").read_text()
    (version,) = re.findall(r'^#define HIPCOMM_VERSION_TEXT "(.*)"$', header, re.MULTILINE)
    assert wheel.name.startswith(f"hipcomm-{version}-")
    code = "import hipcomm, importlib.metadata as m; print(hipcomm.__version__, m.version('hipcomm'))"
    assert installed("python", "-c", code).split() == [version, version]


def test_missing_kernels_are_not_to_be_made_by_make(installed):
    code = """if True:
        import hipcomm
        from hipcomm.hip.kernels import Kernels
        try: Kernels("gfx000")
        except hipcomm.PlatformError as error: print(error)
    """
    said = installed("python", "-c", code)
    assert "no code objects for gfx000" in said
    assert "--force-reinstall" in said and "make" not in said


def test_ranks_run(installed, environment, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    lines = installed("hipcomm-run", "-n", "2", "--no-tag", "program.py").splitlines()
    assert len(lines) == 2
    assert all(line.startswith(str(environment)) and line.endswith(" cpu {3.0}") for line in lines), lines


WATCH = """
import os, sys
def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect"):
        host = arguments[1][0] if event == "socket.connect" else arguments[0]
        if host not in ("127.0.0.1", "localhost"):
            os._exit(99)
sys.addaudithook(watch)
"""


def test_nothing_is_downloaded(environment, tmp_path):
    """Neither launcher nor ranks look beyond this machine; all of them are watched, which is tried first."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    (tmp_path / "program.py").write_text(PROGRAM)
    path = environment / "bin"
    env = {"PATH": str(path), "HIPCOMM_PLATFORM": "cpu", "PYTHONPATH": str(tmp_path)}
    outside = "import socket; socket.socket().connect(('192.0.2.1', 9))"
    tried = subprocess.run([path / "python", "-c", outside], env=env, timeout=PATIENCE)
    assert tried.returncode == 99
    lines = run(path / "hipcomm-run", "-n", "2", "program.py", cwd=tmp_path, env=env).splitlines()
    assert len(lines) == 2


def test_the_benchmark_runs(installed):
    output = installed("hipcomm-bench", "-g", "2", "-b", "1K", "-e", "1K", "--budget", "0.01")
    assert " hipcomm\n" in output


def test_a_c_program_is_built_and_runs(installed, tmp_path):
    """As the README says; the program finds the library by itself."""
    flags = installed("python", "-m", "hipcomm", "--cflags", "--libs").split()
    (tmp_path / "program.c").write_text(C_PROGRAM)
    warnings = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers")
    run("gcc", *warnings, "program.c", *flags, "-o", "program", cwd=tmp_path)
    assert run(tmp_path / "program", env={}) == "pipelined\n"


def test_where_the_files_are(installed, environment):
    code = "import hipcomm; print(hipcomm.get_include()); print(hipcomm.get_library())"
    include, library = map(Path, installed("python", "-c", code).splitlines())
    assert (include / "hipcomm.h").is_file()
    assert library.is_file()
    assert environment in include.parents
    assert environment in library.parents
