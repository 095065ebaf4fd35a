"""A seeded sample of the fault matrix (fault_matrix.py; `make soak` has all of it): under a minute."""

from __future__ import annotations

import random
import time

import pytest
from fault_matrix import PATIENCE, draw, perform

SAMPLES = 16
SECONDS = 45.0  # no run begins later
BOUND = 8.0  # seconds to notice: a second is the goal, which `make soak` judges on a machine of its own


@pytest.mark.host_arrays
def test_a_sample_of_the_matrix():
    began = time.monotonic()
    for number in range(SAMPLES):
        if time.monotonic() - began > SECONDS:
            break
        run = draw(random.Random(f"sample/{number}"), neighbours=1)
        verdict = perform(run, BOUND)
        assert not verdict.problems, (str(run), verdict.problems)
    assert time.monotonic() - began < SECONDS + PATIENCE
