"""Which manylinux tag a wheel's libraries allow, by the versions of the symbols that they take from others.

PEP 600: manylinux_X_Y means that a wheel works with glibc X.Y and newer. libstdc++ and libgcc have versions
of their own; auditwheel's manylinux-policy.json says which of them go with which glibc.
"""

from __future__ import annotations

import re
from pathlib import Path

# glibc's minor version: the newest GLIBCXX, CXXABI and GCC of that manylinux; each holds up to the next row
_POLICIES = {
    17: ((3, 4, 19), (1, 3, 7), (4, 8, 0)),
    24: ((3, 4, 22), (1, 3, 10), (4, 8, 0)),
    27: ((3, 4, 24), (1, 3, 11), (7, 0, 0)),
    31: ((3, 4, 28), (1, 3, 12), (7, 0, 0)),
    34: ((3, 4, 29), (1, 3, 13), (7, 0, 0)),
    35: ((3, 4, 30), (1, 3, 13), (12, 0, 0)),
    39: ((3, 4, 33), (1, 3, 15), (14, 0, 0)),
}
_FAMILIES = ("GLIBCXX", "CXXABI", "GCC")
# what every such system has, of what auditwheel lists
_ALLOWED = re.compile(r"lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|z)\.so\.\d+|ld-linux-[\w-]+\.so\.\d+")


def needs(library: Path) -> dict[str, set[str]]:
    """Return the libraries that an ELF file names, with the versions of symbols that it takes from each."""
    from elftools.elf.elffile import ELFFile

    with library.open("rb") as file:
        elf = ELFFile(file)
        dynamic, versions = elf.get_section_by_name(".dynamic"), elf.get_section_by_name(".gnu.version_r")
        found: dict[str, set[str]] = {tag.needed: set() for tag in dynamic.iter_tags("DT_NEEDED")}
        for other, entries in versions.iter_versions() if versions else ():
            found.setdefault(other.name, set()).update(entry.name for entry in entries)
    return found


def tag(package: Path, machine: str) -> str | None:
    """Return the tag for the machine (``x86_64``) of the libraries under a directory; None: they allow none.

    Raises:
        ValueError: a symbol's version is of a kind that is not known here.
    """
    files = list(package.rglob("*.so*"))
    libraries = [path for path in files if path.read_bytes()[:4] == b"\x7fELF"]  # others are linker scripts
    versions: dict[str, set[str]] = {}
    for library in libraries:
        for other, names in needs(library).items():
            versions.setdefault(other, set()).update(names)
    foreign = versions.keys() - {path.name for path in files}
    if not libraries or not all(_ALLOWED.fullmatch(name) for name in foreign):
        return None
    minors = [_minor(version) for other in foreign for version in versions[other]]
    return f"manylinux_2_{max([min(_POLICIES), *minors])}_{machine}"


def _minor(version: str) -> int:
    """Return the minor version of the oldest glibc that goes with a symbol's version (GLIBCXX_3.4.29)."""
    family, _, numbers = version.partition("_")
    if family not in ("GLIBC", *_FAMILIES) or not re.fullmatch(r"\d+(\.\d+)+", numbers):
        raise ValueError(f"{version}: it is not known which glibc goes with it")
    parts = tuple(map(int, numbers.split(".")))
    if family == "GLIBC":
        return parts[1]
    place = _FAMILIES.index(family)
    fitting = [minor for minor, newest in _POLICIES.items() if parts <= newest[place]]
    if not fitting:
        raise ValueError(f"{version} is newer than all that is known here")
    return min(fitting)
