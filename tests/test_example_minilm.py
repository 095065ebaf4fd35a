"""The example examples/minilm_tensor_parallel.py: its model against known values, its split, its command."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "minilm_tensor_parallel.py"
HIPCOMM_RUN = Path(sys.executable).with_name("hipcomm-run")

SENTENCES = [
    "A dull kitchen knife is more dangerous than a keen one.",
    "Sharpen your knives often, since a blunt blade slips and cuts fingers.",
    "The harbour master logs every ship that comes in, down to the smallest dinghy.",
]
# What sentence-transformers 6.2.0 with torch 2.15.0 (CPU, float32, normalised) returns for SENTENCES:
# the first six components of each embedding, and the cosines. Recorded to six decimals.
KNOWN_COMPONENTS = [
    [0.033820, -0.026737, -0.025903, 0.075222, -0.015527, -0.062176],
    [0.014156, -0.106910, 0.053452, 0.073316, -0.053980, -0.023351],
    [0.062635, 0.050209, 0.035530, 0.021470, 0.001848, -0.036205],
]
KNOWN_COSINES = [[1.0, 0.566766, -0.005483], [0.566766, 1.0, 0.026351], [-0.005483, 0.026351, 1.0]]
# Half a unit of the sixth decimal, and as much for float32 sums in another order (1.9e-7 was measured).
KNOWN_WITHIN = 1e-6


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The example as a module; its main() does not run."""
    spec = importlib.util.spec_from_file_location("minilm_tensor_parallel", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def whole(example: ModuleType) -> Any:
    """The embeddings of SENTENCES that a world of one computes."""
    (embeddings,) = encode(example, SENTENCES, 1)
    return embeddings


class ThreadWorld:
    """A world of threads with a fused all-reduce in NumPy, which sums in rank order."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._slots: list[Any] = [None] * size
        self._barrier = threading.Barrier(size)
        self.calls = 0

    def all_reduce_layer_norm(
        self, rank: int, x: Any, residual: Any, weight: Any, bias: Any, eps: float, out: Any
    ) -> None:
        """As Communicator's; raises BrokenBarrierError if a thread does not come within 60 s."""
        self._slots[rank] = x
        self._barrier.wait(60)
        v = sum(self._slots[1:], start=self._slots[0]) + residual
        centred = v - v.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        out[...] = centred / np.sqrt(variance + eps) * weight + bias
        self._barrier.wait(60)
        if rank == 0:
            self.calls += 1


def encode(example: ModuleType, sentences: list[str], world_size: int) -> list[Any]:
    """Return every rank's embeddings of `sentences`, computed by `world_size` threads."""
    world = ThreadWorld(world_size)
    directory = example.model_directory()
    tokens, mask = example.tokenize(sentences, directory)

    def rank_main(rank: int) -> Any:
        encoder = example.Encoder(directory, rank, world_size, partial(world.all_reduce_layer_norm, rank))
        return encoder.encode(tokens, mask)

    with ThreadPoolExecutor(world_size) as pool:
        results = list(pool.map(rank_main, range(world_size)))
    assert world.calls == 12
    return results


def test_embeddings_equal_the_reference_implementation(whole: Any) -> None:
    assert whole.shape == (3, 384) and whole.dtype == np.float32
    assert np.abs(whole[:, :6] - KNOWN_COMPONENTS).max() < KNOWN_WITHIN
    assert np.abs(whole @ whole.T - KNOWN_COSINES).max() < KNOWN_WITHIN


@pytest.mark.parametrize("world_size", [2, 3, 4, 6, 12])
def test_split_model_agrees_with_the_whole_one(example: ModuleType, whole: Any, world_size: int) -> None:
    embeddings = encode(example, SENTENCES, world_size)
    assert example.check(embeddings[0], np.stack(embeddings), whole) == []


def test_padding_does_not_change_an_embedding(example: ModuleType, whole: Any) -> None:
    (alone,) = encode(example, SENTENCES[:1], 1)
    assert np.abs(alone[0] - whole[0]).max() < 1e-6


@pytest.mark.parametrize("world_size", [5, 7, 8, 24])
def test_world_that_does_not_divide_the_heads_is_refused(example: ModuleType, world_size: int) -> None:
    with pytest.raises(ValueError, match=f"12 heads do not split over {world_size} ranks"):
        example.Encoder(example.model_directory(), 0, world_size, lambda *arguments: None)


def test_gelu_is_as_accurate_as_it_says(example: ModuleType) -> None:
    x = np.linspace(-10, 10, 40001, dtype=np.float32)
    exact = [0.5 * float(v) * (1 + math.erf(float(v) * math.sqrt(0.5))) for v in x]
    assert np.abs(example.gelu(np, x) - exact).max() < 1e-6


def test_check_sees_one_wrong_bit_and_a_wrong_value(example: ModuleType) -> None:
    good = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    assert example.check(good, np.stack([good, good]), good) == []

    other = good.copy()
    other.view(np.uint32)[1, 2] ^= 1
    (fault,) = example.check(good, np.stack([good, other]), good)
    assert fault == "rank 1 has other embeddings than this rank"

    (fault,) = example.check(good, np.stack([good, good]), good + np.float32(2e-5))
    assert "differ from the one-rank result by 2.0e-05" in fault
    bad = good.copy()
    bad[0, 0] = np.nan
    (fault,) = example.check(bad, np.stack([bad, bad]), good)
    assert "by nan" in fault


def run_example(world_size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the example as a user does, with at most two minutes to spend; each rank with one thread, as they
    outnumber the cores."""
    command = [str(HIPCOMM_RUN), "-n", str(world_size), "--platform", "cpu", "--no-tag"]
    command += [str(SCRIPT), *arguments]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6])
def test_the_command(world_size: int) -> None:
    result = run_example(world_size)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"split over a world of {world_size}, arrays from numpy" in result.stdout
    best = result.stdout.index("tore the roof off the old fish market")
    assert best < result.stdout.index("Sharpen your knives often")  # in the order of their scores
    assert "12 fused all-reduces of" in result.stdout
    assert "check: largest difference to the one-rank result" in result.stdout


def test_the_command_reads_the_users_text(tmp_path: Path) -> None:
    page = tmp_path / "page.txt"
    page.write_text("\n\n".join(SENTENCES), encoding="utf-8")
    result = run_example(2, str(page))
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"  0.567  {SENTENCES[0]}\n         {SENTENCES[1]}\n" in result.stdout


def test_the_command_refuses_five_ranks() -> None:
    result = run_example(5)
    assert result.returncode == 2
    assert "12 heads do not split over 5 ranks; start 1, 2, 3, 4, 6 or 12" in result.stderr
    assert "Traceback" not in result.stderr
