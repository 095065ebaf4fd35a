"""A few thousand mutated frames, the same ones each time; fuzz_protocol.py by itself runs any number."""

from __future__ import annotations

from fuzz_protocol import fuzz


def test_mutated_frames():
    fuzz(inputs=20000, seed=1)
