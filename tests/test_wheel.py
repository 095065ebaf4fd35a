"""What a wheel has in another form than a checkout: compressed PTX, and a tag that says where it works."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess

import pytest
from test_c_programs import PATIENCE, ROOT, build, clean

from hipcomm.hip.kernels import _read_code_object
from hipcomm.native import manylinux, setup_hooks

TEXT = b".version 8.4 // " + bytes(range(32, 127)) * 1000


def test_ptx_is_compressed_and_unpacked(tmp_path):
    for arch in ("sm_90", "gfx942"):
        (tmp_path / arch).mkdir()
        (tmp_path / arch / "a.ptx").write_bytes(TEXT)
        setup_hooks.compress_ptx(tmp_path)
    assert [path.name for path in (tmp_path / "gfx942").iterdir()] == ["a.ptx"]
    (packed,) = (tmp_path / "sm_90").iterdir()
    assert packed.name == "a.ptx.gz" and packed.stat().st_size < len(TEXT) / 10
    for arch in ("sm_90", "sm_100"):
        assert _read_code_object(packed.parent, "a", arch) == TEXT + b"\0"


def test_c_ranks_unpack_too(tmp_path):
    """A copy of the library has the CPU's objects in this form: they are what can be loaded here."""
    package, ours = tmp_path / "hipcomm", ROOT / "hipcomm"
    shutil.copytree(ours / "lib", package / "lib")
    (package / "platforms").symlink_to(ours / "platforms")
    for file in ours.glob("code_objects/x86_64*/*.so"):
        packed = package / "code_objects" / file.parent.name / f"{file.stem}.ptx.gz"
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(gzip.compress(file.read_bytes(), 1))
    program = build("gcc", ROOT / "examples/all_reduce.c", tmp_path / "all_reduce")

    def run():
        alone = {"HIPCOMM_RANK": "0", "HIPCOMM_WORLD_SIZE": "1"}
        ahead = os.environ.get("LD_PRELOAD", "")  # the sanitizers', under make sanitize
        env = {**clean(), **alone, "LD_PRELOAD": f"{ahead} {package / 'lib' / 'libhipcomm.so.0'}"}
        done = subprocess.run([program], capture_output=True, text=True, timeout=PATIENCE, env=env)
        return done.returncode, done.stdout + done.stderr

    assert run() == (0, "rank 0 of 1: 1 0\n")
    whole = packed.read_bytes()
    packed.write_bytes(whole[: len(whole) // 2])
    returncode, said = run()
    assert returncode == 1 and packed.name in said and "damaged" in said
    packed.write_bytes(whole[:-8] + b"wrong sum")
    returncode, said = run()
    assert returncode == 1 and packed.name in said and "damaged" in said


def library(directory, name, source, *flags):
    (directory / "source.c").write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", directory / "source.c", *flags, "-o", directory / name]
    subprocess.run(command, check=True, timeout=PATIENCE)


@pytest.mark.parametrize(
    "needed, version, tag",
    [
        ("libc.so.6", "GLIBC_2.5", "manylinux_2_17_x86_64"),
        ("libc.so.6", "GLIBC_2.36", "manylinux_2_36_x86_64"),
        ("libstdc++.so.6", "GLIBCXX_3.4.29", "manylinux_2_34_x86_64"),
        ("libstdc++.so.6", "CXXABI_1.3.9", "manylinux_2_24_x86_64"),
        ("libother.so.1", "OTHER_1", None),
    ],
)
def test_the_symbols_decide_the_tag(tmp_path, needed, version, tag):
    made, package = tmp_path / "made", tmp_path / "package"
    made.mkdir(), package.mkdir()
    (made / "map").write_text(f"{version} {{ global: taken; }};")
    library(made, needed, "void taken(void) {}", f"-Wl,--version-script={made / 'map'},-soname,{needed}")
    use = "void taken(void); void use(void) { taken(); }"
    library(package, "libours.so.0", use, made / needed, "-Wl,-soname,libours.so.0")
    library(package, "libuser.so", "void use(void); void more(void) { use(); }", package / "libours.so.0")
    (package / "liblinked.so").write_text("INPUT(libours.so.0)")
    (package / "source.c").unlink()
    assert manylinux.tag(package, "x86_64") == tag


def test_unknown_versions_are_not_guessed_at():
    for version in ("GLIBCXX_3.4.99", "GLIBC_PRIVATE", "NEW_1.0"):
        with pytest.raises(ValueError, match=version):
            manylinux._minor(version)


def test_the_libraries_here_allow_one():
    assert manylinux.tag(ROOT / "hipcomm", "x86_64").startswith("manylinux_2_")
