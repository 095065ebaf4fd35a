"""Take what orders memory out of the kernels, one thing at a time, and see that the software GPU finds it.

    python tests/amd/mutations.py [--write] [--jobs N] [NAME …]

Every mutation is a change of one place in kernels/. The kernels of its scenarios are compiled from the
changed source, and explore.py makes calls with them: first with one memory access late at a time (delay=each)
and then from seeds. It must be found within the calls of BUDGET, or the table says why it cannot matter.
--write puts the table into docs/amd.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile
from mutation_list import MUTATIONS, SCENARIOS, Mutation, Scenario
from run import ROOT

SYSTEMATIC_CALLS = 1200
SEEDS = 4
CALLS_OF_SEED = 100
BUDGET = SYSTEMATIC_CALLS + SEEDS * CALLS_OF_SEED  # calls of a scenario
SECONDS = 300  # for one exploration

_BEGIN, _END = "<!-- mutations: begin -->\n", "<!-- mutations: end -->\n"
_COMPILE = [
    "clang-22",
    "-x",
    "hip",
    "--cuda-device-only",
    "--no-gpu-bundle-output",
    "-nogpuinc",
    "-nogpulib",
    "-mcode-object-version=5",
    "-std=c++20",
    "-O3",
    "-ffp-contract=off",
    "-fno-fast-math",
]


class Verdict(NamedTuple):
    """What became of a mutation in a scenario.

    Attributes:
        calls: how many were made, of all explorations together.
        found: what was wrong with the last ones; None: nothing was.
        mode: the setting of the exploration that found it.
        is_same: the mutated kernel has the same instructions.
    """

    calls: int
    found: str | None
    mode: str = ""
    is_same: bool = False


def main() -> int:
    """Try the mutations; 1 if one is neither found nor explained, or found and explained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/amd.md")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("names", nargs="*", help="of mutations; all, if there is none")
    options = parser.parse_args()
    chosen = [mutation for mutation in MUTATIONS if not options.names or mutation.name in options.names]
    rows, wrong = [], 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutation, verdict in zip(chosen, pool.map(try_mutation, chosen), strict=True):
            rows.append(row_of(mutation, verdict))
            is_right = (verdict.found is not None) == (mutation.why == "")
            wrong += not is_right
            print(rows[-1] + ("" if is_right else "   <-- unexpected"), verdict.found or "", flush=True)
    if options.write:
        write_table(rows)
    return 1 if wrong else 0


def try_mutation(mutation: Mutation) -> Verdict:
    """Explore the mutation in its scenarios, until one finds it."""
    calls, same = 0, True
    for name in mutation.scenarios:
        verdict = try_scenario(mutation, SCENARIOS[name])
        calls += verdict.calls
        same &= verdict.is_same
        if verdict.found is not None:
            return verdict._replace(calls=calls, mode=f"{name}, {verdict.mode}")
    return Verdict(calls, None, is_same=same)


def try_scenario(mutation: Mutation, scenario: Scenario) -> Verdict:
    """Compile what the scenario runs from mutated source, and explore it."""
    with tempfile.TemporaryDirectory() as folder:
        objects = Path(folder, "objects")
        objects.mkdir()
        same = True
        for kernel in scenario.kernels:
            compile_mutated(mutation, kernel, Path(folder, "source"), objects)
            built = ROOT / "hipcomm" / "code_objects" / mutation.arch / f"{kernel}.co"
            same &= instructions(objects / built.name) == instructions(built)
        if same and mutation.changes:
            return Verdict(0, None, is_same=True)
        calls = 0
        for mode, most in explorations(scenario):
            outcome = explore(mutation, scenario, mode, most, objects)
            calls += outcome["calls"]
            if outcome["found"]:
                return Verdict(calls, outcome["found"], mode)
        return Verdict(calls, None)


def explorations(scenario: Scenario) -> Iterator[tuple[str, int]]:
    """Modes, and how many calls to make in each."""
    if not scenario.calls:
        yield "delay=each", SYSTEMATIC_CALLS
    for seed in range(1, SEEDS + 1):
        yield f"seed={seed}", scenario.calls or CALLS_OF_SEED


def explore(mutation: Mutation, scenario: Scenario, mode: str, calls: int, objects: Path | None) -> dict:
    """Run explore.py; its answer."""
    settings = f"arch={mutation.arch},cus=1,{mode}" + (f",{mutation.settings}" if mutation.settings else "")
    command = [sys.executable, str(Path(__file__).with_name("explore.py")), *scenario.arguments]
    command += ["--calls", str(calls), *(["--objects", str(objects)] if objects else [])]
    done = subprocess.run(
        command,
        env={**os.environ, "HIPCOMM_AMD_SOFTWARE": settings},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} with {settings}:\n{done.stderr}")
    answer: dict = json.loads(done.stdout.splitlines()[-1])
    return answer


def compile_mutated(mutation: Mutation, kernel: str, source: Path, objects: Path) -> None:
    """Compile a kernel's file from a copy of the sources with the mutation. Its place must be there once."""
    if not source.exists():
        shutil.copytree(ROOT / "kernels", source / "kernels")
        shutil.copytree(ROOT / "hipcomm" / "abi", source / "hipcomm" / "abi")
        for file, before, after in mutation.changes:
            path = source / file
            text = path.read_text()
            if text.count(before) != 1:
                raise LookupError(f"{mutation.name}: {file} has {text.count(before)} places for {before!r}")
            path.write_text(text.replace(before, after))
    name, _, reduction = kernel.rpartition("_") if kernel.endswith("_sum") else (kernel, "", "")
    (path,) = source.glob(f"kernels/*/{name}.hip")
    defined = [f"-DHIPCOMM_REDUCTION={reduction}"] if reduction else []
    command = [
        *_COMPILE,
        f"--offload-arch={mutation.arch}",
        *defined,
        "-c",
        "-o",
        str(objects / f"{kernel}.co"),
    ]
    subprocess.run([*command, str(path)], check=True, timeout=SECONDS)


def instructions(path: Path) -> bytes:
    with path.open("rb") as file:
        return bytes(ELFFile(file).get_section_by_name(".text").data())


def row_of(mutation: Mutation, verdict: Verdict) -> str:
    """The mutation's row in the table."""
    if verdict.found is not None:
        result = f"{verdict.calls} ({verdict.mode})"
    elif verdict.is_same:
        result = "the same instructions"
    else:
        result = f"not in {verdict.calls}"
    return f"| {mutation.name} | {mutation.what} | {mutation.arch} | {result} | {mutation.why} |"


def write_table(rows: list[str]) -> None:
    """Put the rows in the place of those of the same mutations."""
    path = ROOT / "docs" / "amd.md"
    text = path.read_text()
    before, after = text[: text.index(_BEGIN) + len(_BEGIN)], text[text.index(_END) :]
    known = text[len(before) : -len(after)].splitlines()[2:]
    by_name = {row.split("|")[1].strip(): row for row in (*known, *rows)}
    table = [by_name[mutation.name] for mutation in MUTATIONS if mutation.name in by_name]
    head = ["| mutation | what is gone | target | found in call | why not |", "|---|---|---|---|---|"]
    path.write_text(before + "\n".join([*head, *table]) + "\n" + after)


if __name__ == "__main__":
    sys.exit(main())
