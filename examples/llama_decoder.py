"""Llama-shaped decoder layers with random weights, split over the ranks of one job.

    hipcomm-run -n 2 examples/llama_decoder.py
    hipcomm-run -n 4 examples/llama_decoder.py --layers 8 --hidden 4096 --intermediate 14336 --heads 32

Each rank owns some of the attention heads and a share of the MLP's inner features. Attention and the MLP
end in partial sums; what follows in every such model is: add them up over the ranks, add the residual,
apply RMSNorm. The program decodes the same prompts twice:

  fused     one all_reduce_rms_norm
  unfused   an all_reduce, then an add_rms_norm

Both ways give the same logits to the bit, so the same tokens: this is checked. It prints the tokens per
second both ways and the time that the collectives and norms take. Arrays are the platform's: NumPy's on
the CPU, CuPy's on GPUs.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Any

# One BLAS thread per rank: the ranks are the parallelism here. NumPy reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import click
import numpy as np

import hipcomm

EPS = 1e-5
ROPE_BASE = 10000.0

Array = Any  # numpy.ndarray or cupy.ndarray


@dataclass(frozen=True)
class Sizes:
    """What a model and its run look like; all but the last three are the model's."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    dtype: str
    batch: int
    prompt: int
    new_tokens: int

    @property
    def head_size(self) -> int:
        """Elements of a head; even, as rotary embeddings turn pairs."""
        return self.hidden // self.heads

    def fault(self, world_size: int) -> str | None:
        """Return why these sizes cannot be split over so many ranks, if they cannot."""
        if self.hidden % self.heads or self.head_size % 2:
            return f"--hidden {self.hidden} is not --heads {self.heads} times an even number"
        if self.heads % self.kv_heads:
            return f"--kv-heads {self.kv_heads} does not divide --heads {self.heads}"
        for option in ("kv_heads", "intermediate", "vocabulary"):
            if getattr(self, option) % world_size:
                name = "--" + option.replace("_", "-")
                return f"{name} {getattr(self, option)} does not split over {world_size} ranks"
        return None


class Weights:
    """One rank's share of random weights. The whole model is the same in every world."""

    def __init__(self, sizes: Sizes, rank: int, world_size: int, xp: Any) -> None:
        self.sizes, self.rank, self.world_size, self.xp = sizes, rank, world_size, xp
        z, head = sizes, sizes.head_size
        self.embedding = self._matrix(0, "embedding", (z.vocabulary, z.hidden), scale=1.0)
        self.head = self._matrix(0, "head", (z.hidden, z.vocabulary), split=1)
        self.norms = [self._norm(i) for i in range(2 * z.layers + 1)]
        self.layers = [
            {
                "query": self._matrix(i, "query", (z.hidden, z.heads * head), split=1),
                "key": self._matrix(i, "key", (z.hidden, z.kv_heads * head), split=1),
                "value": self._matrix(i, "value", (z.hidden, z.kv_heads * head), split=1),
                "output": self._matrix(i, "output", (z.heads * head, z.hidden), split=0),
                "gate": self._matrix(i, "gate", (z.hidden, z.intermediate), split=1),
                "up": self._matrix(i, "up", (z.hidden, z.intermediate), split=1),
                "down": self._matrix(i, "down", (z.intermediate, z.hidden), split=0),
            }
            for i in range(z.layers)
        ]

    def _matrix(
        self, layer: int, name: str, shape: tuple[int, int], split: int | None = None, scale: float = 0.0
    ) -> Array:
        """Return this rank's share of a matrix along dimension `split`; whole where that is None."""
        numbers = np.random.default_rng([layer, *name.encode()])
        whole = numbers.standard_normal(shape, np.float32) * np.float32(scale or shape[0] ** -0.5)
        share = whole if split is None else np.array_split(whole, self.world_size, axis=split)[self.rank]
        return self.xp.asarray(np.ascontiguousarray(share.astype(self.sizes.dtype)))

    def _norm(self, index: int) -> Array:
        weight = 1 + 0.1 * np.random.default_rng([index, 7]).standard_normal(self.sizes.hidden)
        return self.xp.asarray(weight.astype(self.sizes.dtype))


class Decoder:
    """One rank's share of the layers, and the keys and values that it has seen.

    `close_block(partial, residual, weight, out)` completes a block: `residual` receives the sum of itself
    and all ranks' partial sums, `out` its RMSNorm.
    """

    def __init__(self, weights: Weights, comm: Any, close_block: Any) -> None:
        self.weights, self.comm, self.close_block, self.xp = weights, comm, close_block, weights.xp
        z = weights.sizes
        longest = z.prompt + z.new_tokens
        shape = (z.layers, 2, z.batch, z.kv_heads // weights.world_size, longest, z.head_size)
        self.cache, self.length = self.xp.zeros(shape, z.dtype), 0
        turns = ROPE_BASE ** (-np.arange(0, z.head_size, 2) / z.head_size) * np.arange(longest)[:, None]
        self.cos, self.sin = (self.xp.asarray(f(turns).astype(np.float32)) for f in (np.cos, np.sin))

    def logits(self, tokens: Array) -> Array:
        """Run the tokens, (batch, length), behind those seen before; return the last one's float32 logits."""
        xp, z, comm = self.xp, self.weights.sizes, self.comm
        batch, length = tokens.shape
        rows = (batch * length, z.hidden)
        residual = xp.ascontiguousarray(self.weights.embedding[tokens].reshape(rows))
        x = xp.empty_like(residual)
        comm.add_rms_norm(residual, None, self.weights.norms[0], EPS, x)
        for i in range(z.layers):
            self.close_block(self._attention(x, i, batch, length), residual, self.weights.norms[2 * i + 1], x)
            self.close_block(self._mlp(x, i), residual, self.weights.norms[2 * i + 2], x)
        self.length += length
        last = x.reshape(batch, length, z.hidden)[:, -1]
        mine = xp.ascontiguousarray((last @ self.weights.head).astype(np.float32))
        everyones = xp.empty((batch, z.vocabulary), np.float32)
        comm.all_gather(mine, everyones, dim=1)
        return everyones

    def _attention(self, x: Array, layer: int, batch: int, length: int) -> Array:
        """Return this rank's heads' part of the attention output, and keep their keys and values."""
        xp, z, w = self.xp, self.weights.sizes, self.weights.layers[layer]
        begin, end = self.length, self.length + length

        def heads(kind: str) -> Array:
            return (x @ w[kind]).reshape(batch, length, -1, z.head_size).transpose(0, 2, 1, 3)

        keys, values = self.cache[layer]
        keys[:, :, begin:end], values[:, :, begin:end] = self._turn(heads("key"), begin), heads("value")
        query = self._turn(heads("query"), begin).astype(np.float32)
        shared = z.heads // z.kv_heads  # so many query heads use one key and value
        seen_keys = xp.repeat(keys[:, :, :end], shared, axis=1).astype(np.float32)
        seen_values = xp.repeat(values[:, :, :end], shared, axis=1).astype(np.float32)
        scores = query @ seen_keys.transpose(0, 1, 3, 2) * np.float32(z.head_size**-0.5)
        future = xp.arange(end)[None, :] > xp.arange(begin, end)[:, None]
        scores = xp.where(future, np.float32(-np.inf), scores)
        chances = xp.exp(scores - scores.max(axis=-1, keepdims=True))
        chances /= chances.sum(axis=-1, keepdims=True)
        mixed = (chances @ seen_values).astype(z.dtype).transpose(0, 2, 1, 3).reshape(batch * length, -1)
        return mixed @ w["output"]

    def _turn(self, x: Array, begin: int) -> Array:
        """Return x, (batch, heads, length, head size), with rotary position embeddings."""
        half, end = x.shape[-1] // 2, begin + x.shape[2]
        cos, sin, a, b = self.cos[begin:end], self.sin[begin:end], x[..., :half], x[..., half:]
        return self.xp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)

    def _mlp(self, x: Array, layer: int) -> Array:
        """Return this rank's inner features' part of the MLP's output."""
        w = self.weights.layers[layer]
        gate = (x @ w["gate"]).astype(np.float32)
        inner = gate / (1 + self.xp.exp(-gate)) * (x @ w["up"])
        return inner.astype(x.dtype) @ w["down"]


class Fused:
    """Close a block in one call."""

    def __init__(self, comm: Any) -> None:
        self.comm = comm

    def __call__(self, partial: Array, residual: Array, weight: Array, out: Array) -> None:
        """See Decoder."""
        self.comm.all_reduce_rms_norm(partial, residual, weight, EPS, out, residual)


class Unfused:
    """Close a block in two calls."""

    def __init__(self, comm: Any) -> None:
        self.comm = comm

    def __call__(self, partial: Array, residual: Array, weight: Array, out: Array) -> None:
        """See Decoder."""
        self.comm.all_reduce(partial)
        self.comm.add_rms_norm(partial, residual, weight, EPS, out, residual)


class Timed:
    """Close blocks and sum up the seconds, waiting for slower ranks included."""

    def __init__(self, comm: Any, close_block: Any) -> None:
        self.comm, self.close_block, self.seconds = comm, close_block, 0.0

    def __call__(self, *arguments: Array) -> None:
        """Only the clock needs the synchronisation, not the result."""
        self.comm.synchronize()
        start = time.perf_counter()
        self.close_block(*arguments)
        self.comm.synchronize()
        self.seconds += time.perf_counter() - start


def decode(weights: Weights, comm: Any, close_block: Any) -> tuple[Array, Array, float]:
    """Return (tokens, the last logits, seconds for the new tokens, the prompt excluded)."""
    xp, z = weights.xp, weights.sizes
    prompt = np.random.default_rng(11).integers(z.vocabulary, size=(z.batch, z.prompt))
    decoder = Decoder(weights, comm, close_block)
    logits = decoder.logits(xp.asarray(prompt))
    comm.synchronize()
    start = time.perf_counter()
    tokens = []
    for _ in range(z.new_tokens):
        tokens.append(logits.argmax(axis=-1))
        logits = decoder.logits(tokens[-1][:, None])
    comm.synchronize()
    return xp.stack(tokens, axis=1), logits, time.perf_counter() - start


def run(comm: Any, sizes: Sizes) -> int:
    """Decode both ways on this rank; return its exit code."""
    xp = comm.array_module
    weights = Weights(sizes, comm.rank, comm.world_size, xp)
    ways = {"fused": Fused(comm), "unfused": Unfused(comm)}
    results = {}
    for way, close_block in ways.items():
        decode(weights, comm, close_block)  # pays for page faults and compilation
        tokens, logits, seconds = decode(weights, comm, close_block)
        timed = Timed(comm, close_block)
        decode(weights, comm, timed)
        slowest = xp.array([seconds, timed.seconds])
        comm.all_reduce(slowest, op="max")
        comm.synchronize()
        results[way] = tokens, logits, [float(s) for s in slowest]
    same = results["fused"][1].tobytes() == results["unfused"][1].tobytes()
    same = same and results["fused"][0].tobytes() == results["unfused"][0].tobytes()
    everyone = xp.array([same], np.int32)
    comm.all_reduce(everyone, op="min")
    comm.synchronize()
    if comm.rank != 0:
        return 0

    z, blocks = sizes, 2 * sizes.layers * (sizes.new_tokens + 1)
    print(
        f"{z.layers} layers of hidden {z.hidden}, {z.heads} heads, {z.dtype}, over {comm.world_size} ranks; "
        f"{z.batch} sequences, {z.prompt} + {z.new_tokens} tokens; arrays from {xp.__name__}"
    )
    print("          tokens/s   sum, residual, norm: each   of the whole run")
    for way, (_, _, (seconds, closing)) in results.items():
        rate = z.batch * z.new_tokens / seconds
        print(f"{way:8} {rate:9.1f} {1e6 * closing / blocks:19.1f} us {1e3 * closing:14.1f} ms")
    print("first sequence:", " ".join(str(int(token)) for token in results["fused"][0][0][:16]))
    if not int(everyone[0]):
        print("llama_decoder: FAILED: fused and unfused differ", file=sys.stderr)
        return 1
    print("check: both ways give the same logits to the bit, on every rank")
    return 0


@click.command(help=__doc__.split("\n", 1)[0])
@click.option("--layers", default=4, show_default=True, type=click.IntRange(1))
@click.option("--hidden", default=512, show_default=True, type=click.IntRange(2))
@click.option("--heads", default=8, show_default=True, type=click.IntRange(1))
@click.option("--kv-heads", default=4, show_default=True, type=click.IntRange(1))
@click.option("--intermediate", default=1408, show_default=True, type=click.IntRange(1))
@click.option("--vocabulary", default=4096, show_default=True, type=click.IntRange(2))
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float16", "float32"]))
@click.option("--batch", default=4, show_default=True, type=click.IntRange(1), help="Sequences.")
@click.option("--prompt", default=16, show_default=True, type=click.IntRange(1), help="Tokens of a prompt.")
@click.option("--new-tokens", default=32, show_default=True, type=click.IntRange(1))
def main(**options: Any) -> None:
    """Run one rank."""
    sizes = Sizes(**options)
    with hipcomm.init() as comm:
        fault = sizes.fault(comm.world_size)
        if fault:  # on every rank alike, so none is left waiting
            sys.exit(f"llama_decoder: {fault}")
        code = run(comm, sizes)
    sys.exit(code)


if __name__ == "__main__":
    main()
