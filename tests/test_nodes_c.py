"""Programs in C over several nodes: an all-reduce whose bytes the program's own functions carry, by MPI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import namespaces
import nodes_oracle
import numpy as np
import oracle
import pytest
from foreign_variables import clean_environment
from test_nodes import PATIENCE, pytestmark  # noqa: F401  the mark: skipped for the same reasons

from hipcomm.buffers.dtypes import CODES
from hipcomm.plan import REDUCTIONS

SOURCE = Path(__file__).with_name("c_programs") / "nodes.c"
CASES = [
    ("bfloat16", "sum", 1000),
    ("bfloat16", "avg", 100003),  # the long way, in parts that are not whole
    ("float32", "sum", 40000),
    ("float16", "max", 50000),
    ("float8_e4m3fn", "prod", 70001),
    ("int32", "avg", 20001),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = Path(namespaces.mpirun()).with_name("mpicc")
    if not compiler.exists():
        pytest.skip("needs mpicc")
    target = tmp_path_factory.mktemp("c") / "nodes"
    library = [sys.executable, "-m", "hipcomm", "--cflags", "--libs"]
    flags = subprocess.run(library, capture_output=True, text=True, check=True).stdout.split()
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *warnings, SOURCE, *flags, "-lpthread", "-o", target], check=True)
    return target


def run(directory, program, ranks, cases, fails=0):
    """The inputs of all ranks, of each case, and what mpirun said."""
    inputs, arguments = [], [program, directory, fails]
    for number, (name, op, count) in enumerate(cases):
        dtype = oracle.dtype_of(name)
        inputs.append(
            [oracle.make_input((count,), rank, count, dtype, "plain") for rank in range(sum(ranks))]
        )
        for rank, each in enumerate(inputs[-1]):
            (directory / f"in.{number}.{rank}").write_bytes(each.tobytes())
        arguments += [CODES[dtype], REDUCTIONS[op], count]
    with namespaces.Namespaces(len(ranks), directory) as nodes:
        command = nodes.mpirun(ranks, [str(argument) for argument in arguments])
        environment = clean_environment(HIPCOMM_PLATFORM="cpu", HIPCOMM_TIMEOUT="30")
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    return inputs, done


@pytest.mark.parametrize("ranks", [[2, 2], [1, 1, 1]], ids=lambda ranks: "+".join(map(str, ranks)))
def test_bits_are_those_of_the_contract(tmp_path, program, ranks):
    inputs, done = run(tmp_path, program, ranks, CASES)
    assert done.returncode == 0, done.stderr
    size = ranks[0]
    groups = [list(range(node * size, node * size + size)) for node in range(len(ranks))]
    for number, (name, op, count) in enumerate(CASES):
        expected = nodes_oracle.reduce(inputs[number], op, groups)
        for rank in range(sum(ranks)):
            got = np.frombuffer((tmp_path / f"out.{number}.{rank}").read_bytes(), expected.dtype)
            assert oracle.difference(got, expected) == "", (name, op, count, rank)


def test_an_exchange_that_fails(tmp_path, program):
    _, done = run(tmp_path, program, [1, 1], [("float32", "sum", 100)], fails=1)
    assert done.returncode != 0
    assert "all_reduce over nodes: the program's exchange returned 42" in done.stderr, done.stderr
