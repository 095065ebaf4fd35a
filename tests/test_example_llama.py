"""examples/llama_decoder.py: equal bits both ways, a difference that is told, sizes that are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "llama_decoder.py"
HIPCOMM_RUN = Path(sys.executable).with_name("hipcomm-run")
SMALL = "--layers 2 --hidden 96 --heads 12 --kv-heads 6 --intermediate 132 --vocabulary 120 --new-tokens 5"

# The example with a fused call that adds another epsilon than the unfused one.
DIFFERENT = """
import sys
sys.path.insert(0, {folder!r})
import llama_decoder
llama_decoder.Fused.__call__ = lambda self, partial, residual, weight, out: self.comm.all_reduce_rms_norm(
    partial, residual, weight, 1e-3, out, residual)
llama_decoder.main()
"""


def run_example(world_size: int, *arguments: str, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    """Run the example as a user does, with at most a minute to spend."""
    command = [str(HIPCOMM_RUN), "-n", str(world_size), "--platform", "cpu", "--no-tag", str(script)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command += arguments
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


@pytest.mark.parametrize(("world_size", "dtype"), [(1, "float32"), (2, "float16"), (3, "float32")])
def test_both_ways_give_the_same_bits(world_size: int, dtype: str) -> None:
    result = run_example(world_size, *SMALL.split(), "--dtype", dtype)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"2 layers of hidden 96, 12 heads, {dtype}, over {world_size} ranks" in result.stdout
    assert "check: both ways give the same logits to the bit" in result.stdout


def test_a_difference_is_told(tmp_path: Path) -> None:
    script = tmp_path / "different.py"
    script.write_text(DIFFERENT.format(folder=str(SCRIPT.parent)), encoding="utf-8")
    result = run_example(2, *SMALL.split(), script=script)
    assert result.returncode == 1
    assert "llama_decoder: FAILED: fused and unfused differ" in result.stderr


def test_sizes_that_do_not_split_are_refused() -> None:
    result = run_example(2, *SMALL.split(), "--vocabulary", "121")
    assert result.returncode == 1
    assert "llama_decoder: --vocabulary 121 does not split over 2 ranks" in result.stderr
    assert "Traceback" not in result.stderr
