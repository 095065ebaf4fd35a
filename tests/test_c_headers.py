"""The headers alone, in C and C++; what the library exports; and what build systems find."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hipcomm
from hipcomm.core import ffi, lib

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = Path(hipcomm.get_include())
LIBRARY = Path(hipcomm.get_library())
HEADERS = sorted(path.name for path in INCLUDE.glob("*.h"))
TEXT = "".join((INCLUDE / name).read_text() for name in HEADERS)
USERS = (INCLUDE / "hipcomm.h").read_text()
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-pedantic", f"-I{INCLUDE}"]


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


MADE_HERE = {"hipcommUniqueId", "hipcommTransfer"}
STRUCTURES = {name: body for body, name in re.findall(r"typedef struct \{(.*?)\} (\w+);", USERS, re.DOTALL)}


def initialisers():
    """The macro of each structure that users fill in; an id is made by the library."""
    return {
        name: f"HIPCOMM_{name.removeprefix('hipcomm').upper()}_INITIALIZER"
        for name in STRUCTURES
        if name not in MADE_HERE
    }


@pytest.mark.parametrize(
    "compiler, language, standard",
    [
        ("gcc", "c", "c99"),
        ("gcc", "c", "c17"),
        ("g++", "c++", "c++11"),
        ("g++", "c++", "c++20"),
    ],
)
@pytest.mark.parametrize("header", HEADERS)
def test_every_header_stands_alone(header, compiler, language, standard, tmp_path):
    """Included first, twice, and with every initialiser used."""
    source = f"""
        #include <{header}>
        #include <{header}>
        {"".join(f"{name} of_{name} = {macro};" for name, macro in initialisers().items())}
        int64_t no_color(void);
        int64_t no_color(void) {{ return HIPCOMM_NO_COLOR; }}
    """
    (tmp_path / "source").write_text(source)
    run(
        compiler,
        "-x",
        language,
        f"-std={standard}",
        *WARNINGS,
        "-c",
        tmp_path / "source",
        "-o",
        tmp_path / "object",
    )


def functions(text):
    """The functions that a header declares."""
    plain = re.sub(r"/\*.*?\*/|#.*?$|\{[^{}]*\}", "", text, flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"\b(hipcomm\w+)\(", plain)) - {"hipcommInterruptFunction", "hipcommLogFunction"}


def test_the_library_exports_what_the_headers_declare():
    lines = run("nm", "-D", "--defined-only", LIBRARY).splitlines()
    assert {line.split()[2].partition("@")[0] for line in lines} == functions(TEXT)
    assert len(functions(TEXT)) > 60


def test_it_needs_the_c_library_alone():
    """No Python, no HIP: both are there or not."""
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", LIBRARY))
    assert set(needed) <= {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"}
    assert re.findall(r"\(SONAME\).*\[(.*)\]", run("readelf", "-d", LIBRARY)) == [LIBRARY.name]
    assert re.fullmatch(r"libhipcomm\.so\.\d+", LIBRARY.name)


def test_versions_are_one():
    text = re.search(r'#define HIPCOMM_VERSION_TEXT "(.*)"', USERS)[1]
    number = int(re.search(r"#define HIPCOMM_VERSION (\d+)", USERS)[1])
    major, minor, patch = map(int, text.split("."))
    assert text == hipcomm.__version__
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{text}"' in project or 'dynamic = ["version"]' in project  # which is hipcomm's
    assert number == major * 10000 + minor * 100 + patch
    version = ffi.new("int *")
    assert lib.hipcommGetVersion(version) == 0
    assert version[0] == number


def test_structures_of_users_begin_with_their_size():
    """All but what the library makes."""
    assert len(STRUCTURES) > 5
    for name, body in STRUCTURES.items():
        assert name in MADE_HERE or body.split("/*")[0].strip().startswith("size_t size;"), name


def test_an_initialiser_sets_the_size_and_nothing_else(tmp_path):
    """Settings have two numbers that mean "as the environment says"."""
    checks = "".join(
        f"static const {name} {name}_ = {macro}; if ({name}_.size != sizeof({name}_)) return 1;"
        f"for (size_t i = sizeof(size_t); i < sizeof({name}_); ++i) bytes += ((const char*)&{name}_)[i] != 0;"
        for name, macro in initialisers().items()
    )
    program = (
        f"#include <hipcomm.h>\nint main(void) {{ int bytes = 0; {checks} return bytes != 2 * sizeof(int); }}"
    )
    (tmp_path / "program.c").write_text(program)
    run("gcc", f"-I{INCLUDE}", tmp_path / "program.c", "-o", tmp_path / "program")
    run(tmp_path / "program")


@pytest.mark.skipif(not shutil.which("pkg-config"), reason="needs pkg-config")
def test_pkg_config(tmp_path):
    directory = run(sys.executable, "-m", "hipcomm", "--pkg-config").strip()
    env = {**os.environ, "PKG_CONFIG_PATH": directory}
    assert run("pkg-config", "--modversion", "hipcomm", env=env).strip() == hipcomm.__version__
    flags = run("pkg-config", "--cflags", "--libs", "hipcomm", env=env).split()
    program = tmp_path / "all_reduce"
    run("gcc", "-std=c99", ROOT / "examples/all_reduce.c", *flags, "-o", program)
    assert "libhipcomm.so.0 => " in run("ldd", program)
    env = {"HIPCOMM_PLATFORM": "cpu"}
    assert run(program, env=env) == "rank 0 of 1: 1 0\n"
