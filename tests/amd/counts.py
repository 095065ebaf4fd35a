"""What calls cost on an AMD GPU, counted on the GPU in software: instructions, memory operations, bytes sent.

    python tests/amd/counts.py [--write]

Two ranks, gfx950, launches in turn and in order, so the counts are the same in every run, polls included.
--write puts the table into docs/performance.md; tests/amd/test_counts.py compares with it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- counts: begin -->\n", "<!-- counts: end -->\n"
ARCH, WORLD, CUS = "gfx950", 2, 4
SECONDS = 300

# Operation, algorithm, float32 elements (of one part); of norms, bfloat16 elements.
CALLS = (
    ("all_reduce", "one_shot", 256),
    ("all_reduce", "one_shot", 4096),
    ("all_reduce", "one_shot", 49152),
    ("all_reduce", "two_shot", 4096),
    ("all_reduce", "two_shot", 16384),
    ("all_reduce", "staged", 4096),
    ("all_reduce", "pipelined", 49152),
    ("all_gather", "one_shot", 256),
    ("all_gather", "one_shot", 4096),
    ("all_gather", "pipelined", 16384),
    ("broadcast", "one_shot", 256),
    ("broadcast", "pipelined", 16384),
    ("reduce", "one_shot", 256),
    ("reduce", "pipelined", 16384),
    ("reduce_scatter", "one_shot", 256),
    ("reduce_scatter", "pipelined", 16384),
    ("all_to_all", "auto", 256),
    ("all_to_all", "auto", 32768),
    ("gather", "auto", 256),
    ("scatter", "auto", 256),
    ("all_gather_v", "auto", 256),
    ("all_to_all_v", "auto", 256),
    ("send", "auto", 256),
    ("send", "auto", 32768),
    ("all_reduce_rms_norm", "one_shot", 7168),
    ("all_reduce_rms_norm", "one_shot", 8 * 7168),
    ("all_reduce_rms_norm", "pipelined", 8 * 7168),
)

# The crude time model, in microseconds: instructions that a wave issues, one every so many cycles, and what
# it sends. Not measured, and without the waits: docs/performance.md.
CYCLES_PER_INSTRUCTION, MEGAHERTZ = 5, 2100
BYTES_PER_MICROSECOND = 48_000  # one xGMI link


class Row(NamedTuple):
    """The costs of one call on one rank.

    Attributes:
        instructions: of a wave, on average.
        remote: bytes stored in the other rank's memory.
        messages: pieces of it, each of addresses that follow each other.
    """

    operation: str
    algorithm: str
    nbytes: int
    waves: int
    instructions: int
    loads: int
    stores: int
    lds: int
    caches: int
    remote: int
    messages: int

    def microseconds(self) -> float:
        """The crude model's time."""
        issue = self.instructions * CYCLES_PER_INSTRUCTION / MEGAHERTZ
        return issue + self.remote / BYTES_PER_MICROSECOND

    def text(self) -> str:
        return "| " + " | ".join([*map(str, self), f"{self.microseconds():.1f}"]) + " |"


def count(operation: str, algorithm: str, elements: int) -> Row:
    """Count a call, in a process of its own."""
    command = [sys.executable, __file__, "--count", operation, algorithm, str(elements)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
    return Row(*json.loads(done.stdout.splitlines()[-1]))


def _count_here(operation: str, algorithm: str, elements: int) -> Row:
    """The difference that one call makes, when those with wipes are over."""
    os.environ["HIPCOMM_AMD_SOFTWARE"] = f"arch={ARCH},cus={CUS}"
    import explore

    def counts() -> dict[str, int]:
        library = ctypes.CDLL(str(ROOT / "hipcomm" / "platforms" / "amd_software" / "lib" / "libamdhip64.so"))
        read = library.hipcommAmdSoftwareCounts
        read.restype = ctypes.c_size_t
        room = read(None, ctypes.c_size_t(0)) + 1
        text = ctypes.create_string_buffer(room)
        read(text, ctypes.c_size_t(room))
        total: dict[str, int] = {}
        for line in text.value.decode().splitlines():
            counted = json.loads(line)
            if counted.pop("kernel") != "hipcomm_barrier":  # behind every batch
                for key, value in counted.items():
                    total[key] = total.get(key, 0) + value
        return total

    totals: list[dict[str, int]] = []
    options = ["--count", str(elements), "--batch", "1", "--calls", "6", "--dtype", dtype_of(operation)]
    named = [] if algorithm == "auto" else [algorithm]
    explore.main([operation, *named, *options], lambda: totals.append(counts()))
    before, after = totals[3], totals[5]  # two calls: of send, one in each direction
    one = {key: (after[key] - before[key]) // (2 * WORLD) for key in after}
    return Row(
        operation,
        algorithm,
        nbytes_of(operation, elements),
        one["waves"],
        one["instructions"] // max(one["waves"], 1),
        one["loads"],
        one["stores"],
        one["lds"],
        one["cache_operations"],
        one["remote_bytes"],
        one["remote_pieces"],
    )


def dtype_of(operation: str) -> str:
    return "bfloat16" if operation.endswith("_norm") else "float32"


def nbytes_of(operation: str, elements: int) -> int:
    return elements * (2 if operation.endswith("_norm") else 4)


def table() -> list[str]:
    """The rows of the table in docs/performance.md."""
    text = DOCUMENT.read_text()
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)].splitlines()


def main() -> int:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--count", nargs=3)
    options = parser.parse_args()
    if options.count:
        print(json.dumps(_count_here(options.count[0], options.count[1], int(options.count[2]))))
        return 0
    rows = [
        "| operation | algorithm | bytes | waves | instructions of a wave | loads | stores | LDS "
        "| cache operations | bytes sent | messages | model, µs |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for call in CALLS:
        rows.append(count(*call).text())
        print(rows[-1], flush=True)
    if options.write:
        text = DOCUMENT.read_text()
        before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
        DOCUMENT.write_text(before + "\n".join(rows) + "\n" + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
