"""Links in the documents lead somewhere, and the paths that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "bench/README.md",
    ROOT / "examples/README.md",
]
TOP = ("bench", "docs", "examples", "hipcomm", "kernels", "launcher", "tests")
NOT_YET = {"hipcomm/abi/formats.def"}  # how-to-add-a-collective.md: a file that its reader adds
ELSEWHERE = ("build/", "drivers/gpu/", "gmc_")  # what make writes; Linux


def without_code(text: str) -> str:
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", text)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings; equal ones get -1, -2, ..."""
    found: list[str] = []
    for heading in re.findall(r"(?m)^#+ +(.*)$", without_code(page.read_text(encoding="utf-8"))):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


def missing_paths(page: Path, folders: list[str]) -> list[str]:
    """Paths in backticks that are neither in the repository nor in one of the folders."""
    missing = []
    for name in re.findall(r"`([\w./-]+)`", without_code(page.read_text(encoding="utf-8"))):
        is_path = name.split("/")[0] in TOP and "/" in name
        is_file = bool(re.fullmatch(r"[\w/-]+\.(c|h|py|hip|def|cpp|md|sh)", name))
        if not (is_path or is_file) or name in NOT_YET or name.startswith(ELSEWHERE):
            continue
        if not any((ROOT / folder / name).exists() for folder in ["", *folders]):
            missing.append(name)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_exist(page):
    folders = [".", "hipcomm", "hipcomm/native", "hipcomm/abi", "hipcomm/include", "kernels", "docs", "bench"]
    folders += [str(folder.relative_to(ROOT)) for folder in ROOT.glob("kernels/*") if folder.is_dir()]
    assert missing_paths(page, folders) == []


def test_every_page_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"({page.relative_to(ROOT)})" not in readme] == []


def test_what_is_broken_is_found(tmp_path):
    (tmp_path / "there.md").write_text(
        "# A heading, `code`\n# Twice\n# Twice\n```\n# none\n```\n", encoding="utf-8"
    )
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md) [b](gone.md) [c](there.md#a-heading-code) [d](there.md#twice-1) [e](there.md#none)\n"
        "[f](https://example.org/x) `kernels/gone/x.h` `gone.h` `README.md` `hipcomm.init` `tuning.c`\n",
        encoding="utf-8",
    )
    assert broken_links(page) == ["gone.md", "there.md#none"]
    assert missing_paths(page, ["hipcomm/native"]) == ["kernels/gone/x.h", "gone.h"]
