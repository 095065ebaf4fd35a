"""Lends a communicator to an engine in C++ (engine.cpp), which makes its calls without Python.

::

    c++ -shared -fPIC engine.cpp $(python -m hipcomm --cflags --libs) -o libengine.so
    hipcomm-run -n 4 --platform cpu engine.py ./libengine.so
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

import hipcomm

ROWS, COLUMNS = 300, 40  # of each rank's part of the matrix


def load(path: str) -> ctypes.CDLL:
    """The engine's library, whose functions take addresses and handles."""
    library = ctypes.CDLL(path)
    address, size = ctypes.c_void_p, ctypes.c_size_t
    library.engine_create.argtypes = [address, size, size, address]
    library.engine_create.restype = address
    library.engine_multiply.argtypes = [address, address, address]
    library.engine_error.restype = ctypes.c_char_p
    library.engine_destroy.argtypes = [address]
    library.engine_destroy.restype = None
    return library


def part(rank: int) -> tuple[Any, Any]:
    """A rank's columns of the matrix and elements of the vector: small integers, whose sums are exact."""
    numbers = np.random.default_rng(rank)
    matrix = numbers.integers(-9, 9, (ROWS, COLUMNS)).astype(np.float32)
    return matrix, numbers.integers(-9, 9, COLUMNS).astype(np.float32)


def main() -> None:
    """Multiply a few times, and compare with NumPy."""
    library = load(sys.argv[1])
    with hipcomm.init() as comm:
        matrix, vector = part(comm.rank)
        product = np.empty(ROWS, np.float32)
        engine = library.engine_create(comm.handle, ROWS, COLUMNS, matrix.ctypes.data)
        for call in range(1, 4):
            x = vector * call
            if library.engine_multiply(engine, x.ctypes.data, product.ctypes.data):
                sys.exit(library.engine_error().decode())
            expected = sum(np.dot(*part(rank)) for rank in range(comm.world_size)) * call
            if not np.array_equal(product, expected):
                sys.exit(f"rank {comm.rank}: call {call} is wrong")
        library.engine_destroy(engine)  # before the communicator that it was lent
        print(f"rank {comm.rank} of {comm.world_size}: {call} products are right")


if __name__ == "__main__":
    main()
