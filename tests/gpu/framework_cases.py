"""What array frameworks hand over on a GPU, a case a function; run under hipcomm-run, ranks sharing a device.

Prints a line for each case and rank: "ok NAME", "skip NAME: module" or "FAIL NAME: error".
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

import hipcomm

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # ranks share the device
CASES: dict[str, tuple[tuple[str, ...], Callable[[Any], None]]] = {}


def case(*modules: str) -> Any:
    """A case that needs these modules."""

    def register(function: Any) -> Any:
        CASES[function.__name__] = (modules, function)
        return function

    return register


def total(world: int) -> int:
    return world * (world + 1) // 2


@case("cupy")
def cupy_dtypes(comm: Any) -> None:
    import cupy as cp

    for dtype in (np.float32, np.float16, np.int32, ml_dtypes.bfloat16):
        x = cp.asarray(np.full(1000, comm.rank + 1, dtype))
        comm.all_reduce(x)
        comm.synchronize()
        assert (cp.asnumpy(x).astype("f4") == total(comm.world_size)).all(), dtype


@case("cupy")
def cupy_transposed(comm: Any) -> None:
    import cupy as cp

    x = cp.full((3, 5), comm.rank + 1, "f4").T
    y = cp.zeros((3, 5), "f4").T
    comm.all_reduce(x, y)
    comm.synchronize()
    assert (y == total(comm.world_size)).all()


@case("cupy")
def cupy_own_stream(comm: Any) -> None:
    import cupy as cp

    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = cp.full(1 << 20, comm.rank + 1, "f4")
        comm.all_reduce(x, stream=stream)
        y = x * 2
    stream.synchronize()
    assert (y == 2 * total(comm.world_size)).all()


@case("cupy")
def cupy_graph(comm: Any) -> None:
    import cupy as cp

    world, stream = comm.world_size, cp.cuda.Stream(non_blocking=True)
    with stream:
        inputs = [cp.ones(100, "f4"), cp.ones(100_000, "f4"), cp.ones(3_000_000, "f2")]
        outputs = [cp.empty_like(x) for x in inputs]
        comm.all_reduce(inputs[0], outputs[0], stream=stream)
        stream.synchronize()
        stream.begin_capture()
        for x, y in zip(inputs, outputs, strict=True):
            comm.all_reduce(x, y, stream=stream)
        graph = stream.end_capture()
        for i in range(50):
            for k, x in enumerate(inputs):
                x[...] = ((k + 1) * i + comm.rank) % 7
            graph.launch(stream)
            stream.synchronize()
            for k, y in enumerate(outputs):
                assert (y == sum(((k + 1) * i + rank) % 7 for rank in range(world))).all(), (i, k)


@case("torch")
def torch_dtypes(comm: Any) -> None:
    import torch

    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int64):
        x = torch.full((64, 128), comm.rank + 1, dtype=dtype, device="cuda")
        comm.all_reduce(x, stream=torch.cuda.current_stream().cuda_stream)
        torch.cuda.synchronize()
        assert (x == total(comm.world_size)).all(), dtype


@case("torch")
def torch_float8_all_gather(comm: Any) -> None:
    import torch

    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        x = torch.full((256,), float(comm.rank + 1), device="cuda").to(dtype)
        y = torch.empty(256 * comm.world_size, dtype=dtype, device="cuda")
        torch.cuda.synchronize()
        comm.all_gather(x, y)
        comm.synchronize()
        expected = torch.arange(1, comm.world_size + 1, device="cuda")[:, None]
        assert (y.float().view(comm.world_size, 256) == expected).all(), dtype


@case("torch")
def torch_stream_object(comm: Any) -> None:
    import torch

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x = torch.full((1 << 18,), comm.rank + 1.0, device="cuda")
        comm.all_reduce(x, stream=stream)
        y = x + 1
    stream.synchronize()
    assert (y == total(comm.world_size) + 1).all()


@case("torch")
def torch_graph(comm: Any) -> None:
    import torch

    world = comm.world_size
    x = torch.ones(4096, dtype=torch.bfloat16, device="cuda")
    y, stream = torch.empty_like(x), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        comm.all_reduce(x, y, stream=stream)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        comm.all_reduce(x, y, stream=torch.cuda.current_stream().cuda_stream)
        z = y * 2
    for i in range(20):
        x.fill_(i + comm.rank)
        torch.cuda.synchronize()
        graph.replay()
        torch.cuda.synchronize()
        assert (z == 2 * sum(i + rank for rank in range(world))).all(), i


@case("torch")
def torch_refusals(comm: Any) -> None:
    import torch

    for wrong in (
        torch.ones(8, 8, device="cuda").t()[:, ::2],
        torch.ones(8, device="cuda", requires_grad=True),
        torch.ones(8),
    ):
        try:
            comm.all_reduce(wrong)
        except hipcomm.InvalidArgument:
            continue
        raise AssertionError("taken")


@case("jax", "cupy")
def jax_sent(comm: Any) -> None:
    import cupy as cp
    import jax.numpy as jnp

    for dtype in ("float32", "bfloat16", "float8_e4m3fn"):
        x = jnp.full(1000, comm.rank + 1.0, dtype)
        y = comm.empty(1000, dtype)
        comm.all_reduce(x, y, "max")
        comm.synchronize()
        assert (y.to_host().astype("f4") == comm.world_size).all(), dtype
        try:
            comm.all_reduce(x)
        except hipcomm.InvalidArgument as error:
            assert "cannot be written to" in str(error)
        else:
            raise AssertionError("taken as a result")
    y = cp.empty(1000, "f4")
    comm.all_reduce(jnp.full(1000, comm.rank + 1.0, "float32"), y)
    comm.synchronize()
    assert (y == total(comm.world_size)).all()


@case("jax")
def jax_programs(comm: Any) -> None:
    import jax
    import jax.numpy as jnp

    import hipcomm.jax as hj

    world, rank = comm.world_size, comm.rank

    @jax.jit
    def program(x: Any, k: Any) -> Any:
        return hj.all_reduce(x * k, comm) + 1, hj.all_gather(x, comm)

    for dtype in ("float32", "bfloat16"):
        x = jnp.full(1000, rank + 1, dtype)
        for k in range(30):
            summed, gathered = program(x, k % 3)
            assert (np.asarray(summed).astype("f4") == total(world) * (k % 3) + 1).all(), (dtype, k)
            assert (np.asarray(gathered).astype("f4").reshape(world, -1)[:, 0] == np.arange(world) + 1).all()
    gradient = jax.grad(lambda v: (hj.all_reduce(v * v, comm) * (rank + 1)).sum())(jnp.ones(10))
    assert (np.asarray(gradient) == 2 * total(world)).all()
    out, rows = hj.all_reduce_rms_norm(jnp.ones((3, 64)), None, None, 0.0, comm)
    assert (np.asarray(out) == 1).all() and (np.asarray(rows) == world).all()


@case("numba")
def numba_device_array(comm: Any) -> None:
    from numba import cuda

    x = cuda.to_device(np.full(500, comm.rank + 1, "f4"))
    comm.all_reduce(x)
    comm.synchronize()
    assert (x.copy_to_host() == total(comm.world_size)).all()


@case("torch", "cupy")
def symmetric_memory_in_torch_and_cupy(comm: Any) -> None:
    import cupy as cp
    import torch

    for dtype in ("bfloat16", "float32", "float8_e4m3fn"):
        x = comm.empty((16, 16), dtype)
        shared = torch.from_dlpack(x)
        shared.copy_(torch.full((16, 16), float(comm.rank + 1), device="cuda"))
        torch.cuda.synchronize()
        comm.all_reduce(x, op="max")
        comm.synchronize()
        assert (shared.float() == comm.world_size).all(), dtype
        assert (x.to_host().astype("f4") == comm.world_size).all(), dtype
    assert (cp.from_dlpack(comm.empty(4, "float32")) * 0 == 0).shape == (4,)


@case()
def host_arrays_refused(comm: Any) -> None:
    for wrong in (np.ones(3, "f4"), bytearray(8), memoryview(bytearray(8))):
        try:
            comm.all_reduce(wrong)
        except hipcomm.InvalidArgument as error:
            assert "host memory" in str(error)
            continue
        raise AssertionError("taken")


def main() -> None:
    with hipcomm.init() as comm:
        for name, (modules, function) in CASES.items():
            missing = [module for module in modules if importlib.util.find_spec(module) is None]
            if missing:
                print(f"skip {name}: {', '.join(missing)}", flush=True)
                continue
            try:
                if "torch" in modules:
                    import torch

                    torch.cuda.set_device(comm.device.ordinal)
                comm.device.use()
                function(comm)
                print(f"ok {name}", flush=True)
            except Exception as error:  # noqa: BLE001  the test reads it
                print(
                    f"FAIL {name}: {type(error).__name__}: {str(error)[:300]}".replace("\n", " "), flush=True
                )
            comm.barrier()
            comm.synchronize()


if __name__ == "__main__":
    main()
