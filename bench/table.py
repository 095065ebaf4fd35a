"""Tables for people: nccl-tests' columns for every contestant, and contestants side by side."""

from __future__ import annotations

from hipcomm_bench.results import Job, Options, Row
from hipcomm_bench.sizes import format_size


def format_us(microseconds: float) -> str:
    """Return a time with three significant digits, or all digits before the point."""
    for limit, digits in ((10, 2), (100, 1)):
        if microseconds < limit:
            return f"{microseconds:.{digits}f}"
    return f"{microseconds:.0f}"


def nccl_header() -> str:
    """Return the heading of nccl-tests' table, with a p99 column after each time."""
    half = f"{'time':>8} {'p99':>8} {'algbw':>8} {'busbw':>8} {'#wrong':>7}"
    units = f"{'(us)':>8} {'(us)':>8} {'(GB/s)':>8} {'(GB/s)':>8} {'':>7}"
    return "\n".join(
        (
            f"# {'':10} {'':11} {'':>9} {'':>6}   {'out-of-place':^43}   {'in-place':^43}",
            f"# {'size':>10} {'count':>11} {'type':>9} {'redop':>6}   {half}   {half}   contestant",
            f"# {'(B)':>10} {'(elements)':>11} {'':>9} {'':>6}   {units}   {units}",
        )
    )


def nccl_line(options: Options, out_of_place: Row | None, in_place: Row | None) -> str:
    """Return one contestant's line for one size, dashes for a missing half; empty where both are missing."""
    row = out_of_place or in_place
    if row is None:
        return ""
    start = f"  {row.size:>10} {row.count:>11} {options.dtype:>9} {options.redop:>6}"
    return f"{start}   {_half(out_of_place)}   {_half(in_place)}   {row.contestant}"


def _half(row: Row | None) -> str:
    if row is None:
        return f"{'-':>8} {'-':>8} {'-':>8} {'-':>8} {'-':>7}"
    wrong = "N/A" if row.wrong is None else str(row.wrong)
    times = f"{format_us(row.p50_us):>8} {format_us(row.p99_us):>8}"
    return f"{times} {row.algbw:>8.2f} {row.busbw:>8.2f} {wrong:>7}"


def comparison(job: Job, options: Options, in_place: bool) -> list[list[str]]:
    """Return the contestants side by side: a heading, then a row of cells per size.

    The cells are the size, each contestant's time in µs, and how many times as long each other contestant
    takes as the first: above 1, the first is faster. A contestant that did not run has dashes.
    """
    first, *others = options.contestants
    table = [["size", *(f"{name} µs" for name in options.contestants), *(f"{o} / {first}" for o in others)]]
    for size in options.sizes:
        rows = {name: job.find(name, size, in_place) for name in options.contestants}
        base = rows[first]
        cells = [format_size(size)]
        cells += [format_us(row.p50_us) if row else "-" for row in rows.values()]
        for other in others:
            row = rows[other]
            cells.append(f"{row.p50_us / base.p50_us:.2f}" if row and base else "-")
        table.append(cells)
    return table


def align(table: list[list[str]]) -> str:
    """Return the cells as text with right-aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in table
    )


def markdown(table: list[list[str]]) -> str:
    """Return the cells as a Markdown table with right-aligned columns."""
    head, *rows = table
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
