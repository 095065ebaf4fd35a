"""Some of the mutations, and the kernels without any: `tests/amd/mutations.py` tries all."""

from __future__ import annotations

import shutil

import pytest
from assembly import LIBRARY
from mutation_list import MUTATIONS, SCENARIOS
from mutations import explore, try_mutation
from run import ROOT

QUICK = {"barrier": 4, "acquire": 8}  # name, calls in which it has to be found
pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="run `make amd-software`"),
    pytest.mark.skipif(shutil.which("clang-22") is None, reason="no clang-22 to compile with"),
    pytest.mark.skipif(
        not (ROOT / "hipcomm" / "code_objects" / "gfx942" / "all_reduce_staged_sum.co").exists(),
        reason="run `make amd-kernels`",
    ),
]


@pytest.mark.parametrize("name", QUICK)
def test_it_is_found(name: str) -> None:
    (mutation,) = [mutation for mutation in MUTATIONS if mutation.name == name]
    verdict = try_mutation(mutation)
    assert verdict.found is not None
    assert verdict.calls <= QUICK[name]


@pytest.mark.parametrize("mode", ("delay=each", "seed=1"))
def test_nothing_is_found_without_one(mode: str) -> None:
    outcomes = [explore(MUTATIONS[0], SCENARIOS["staged"], mode, 40, None) for _ in range(2)]
    assert outcomes == [{"calls": 40, "found": None}] * 2
