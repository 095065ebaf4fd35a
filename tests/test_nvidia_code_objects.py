"""The PTX of the NVIDIA kernels, as built: what early launches and lines rest on (kernels/arch/nvptx.h).

No GPU is involved: the text is read.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("hipcomm.core", reason="hipcomm is not built")

from kernel_files import kernels_by_file

CODE_OBJECTS = Path(__file__).resolve().parent.parent / "hipcomm" / "code_objects"
_BUILT = os.environ.get("HIPCOMM_ARCHS", "")  # where that is not everything
ARCHS = tuple(arch for arch in ("sm_80", "sm_90") if not _BUILT or arch in _BUILT.split(","))
IN_CI = bool(os.environ.get("CI"))  # .ci/run sets it: there the objects are always built

if not (IN_CI or any((CODE_OBJECTS / arch).is_dir() for arch in ARCHS)):
    pytest.skip(
        "no PTX: make builds it where there is clang 20 or newer (Debian: clang-22 lld-22)",
        allow_module_level=True,
    )

EARLY_SYMBOL = "hipcomm_kernels_await_previous_launch"
# of memory that others see: not arguments, nor a thread's stack
MEMORY_ACCESS = re.compile(r"^\s*(?:@!?%p\d+ )?(?:ld|st|atom|red|cp|prefetch)\.(?!param|local)", re.MULTILINE)
WAIT = "griddepcontrol.wait;"


@cache
def entries(arch: str, file: str) -> tuple[str, dict[str, str]]:
    """What stands before the first kernel of an object, and the text of each kernel."""
    text = (CODE_OBJECTS / arch / f"{file}.ptx").read_text()
    head, *bodies = re.split(r"^\.visible \.entry ", text, flags=re.MULTILINE)
    return head, {re.match(r"\w+", body).group(): body for body in bodies}


on_every_arch = pytest.mark.parametrize("arch", ARCHS)
FILES = sorted(kernels_by_file("sm_90"))


@on_every_arch
def test_every_kernel_is_there(arch):
    for file, names in kernels_by_file(arch).items():
        assert set(entries(arch, file)[1]) == names


@on_every_arch
@pytest.mark.parametrize("file", FILES)
def test_a_kernel_that_may_begin_early_waits_before_it_touches_memory(arch, file):
    """All kernels of a module keep to what its symbol says, and a module without it waits for nothing."""
    head, kernels = entries(arch, file)
    early = arch != "sm_80"
    assert (f" {EARLY_SYMBOL}" in head) == early
    for name, body in kernels.items():
        assert body.count(WAIT) == early, name
        first = MEMORY_ACCESS.search(body)
        assert first is not None, name
        if early:
            assert body.index(WAIT) < first.start(), name
            assert "ret;" not in body[: body.index(WAIT)], name
        assert "griddepcontrol.launch_dependents" not in body, name


NOT_INLINED = ("all_reduce_pipelined_float8", "reduce_pipelined_float8")


@on_every_arch
@pytest.mark.parametrize("file", FILES)
def test_nothing_is_called(arch, file):
    """A function that is not inlined gets the address of the arguments, for which the compiler copies them to
    the stack: an all_reduce of 14 KiB, 2 ranks on one H200, took 5.1 us in place of 2.6."""
    if file in NOT_INLINED:
        pytest.xfail("not inlined yet; large or slow calls, where that is not seen")
    head, kernels = entries(arch, file)
    assert not any(".func " in text for text in (head, *kernels.values()))


@on_every_arch
@pytest.mark.parametrize("file", [file for file in FILES if "_shot" in file])
def test_lines_are_moved_by_128_bit_atomics(arch, file):
    for name, body in entries(arch, file)[1].items():
        assert "st.relaxed.sys.global.b128" in body, name
        assert "ld.relaxed.sys.global.b128" in body, name
        # rows that wait for their norm are read as two words: they have no flag in them
        if "_norm" not in file:
            assert "relaxed.sys.global.v2" not in body, f"{name}: two atomics, which come one by one"


@on_every_arch
@pytest.mark.parametrize("file", [file for file in FILES if "_norm" in file])
def test_norms_round_every_operation(arch, file):
    """What has no .rn may be fused by the assembler; what has .ftz loses denormals (docs/numbers.md)."""
    found = set()
    for name, body in entries(arch, file)[1].items():
        for operation, modifiers in re.findall(
            r"\b(add|sub|mul|div|sqrt|rsqrt|rcp|fma|mad)\.([a-z.]*)f32", body
        ):
            assert modifiers == "rn." and operation in ("add", "sub", "mul", "div", "sqrt", "rcp"), name
            found.add(operation)
    assert {"add", "mul", "div", "sqrt"} <= found
