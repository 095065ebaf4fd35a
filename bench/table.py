"""Tables for people: nccl-tests' columns for every contestant, and contestants side by side."""

from __future__ import annotations

from hipcomm_bench.results import Job, Options, Report, Row
from hipcomm_bench.subjects import Subject


def format_us(microseconds: float) -> str:
    """Return a time with three significant digits, or all digits before the point."""
    for limit, digits in ((10, 2), (100, 1)):
        if microseconds < limit:
            return f"{microseconds:.{digits}f}"
    return f"{microseconds:.0f}"


def mode_name(in_place: bool) -> str:
    """Return what nccl-tests calls this use of the buffers."""
    return "in-place" if in_place else "out-of-place"


def nccl_header() -> str:
    """Return the heading of nccl-tests' table, with columns for p99 and the host's time after each time."""
    half = f"{'time':>8} {'p99':>8} {'host':>6} {'algbw':>8} {'busbw':>8} {'#wrong':>7}"
    units = f"{'(us)':>8} {'(us)':>8} {'(us)':>6} {'(GB/s)':>8} {'(GB/s)':>8} {'':>7}"
    return "\n".join(
        (
            f"# {'':10} {'':11} {'':>9} {'':>6}   {'out-of-place':^50}   {'in-place':^50}",
            f"# {'size':>10} {'count':>11} {'type':>9} {'redop':>6}   {half}   {half}   contestant",
            f"# {'(B)':>10} {'(elements)':>11} {'':>9} {'':>6}   {units}   {units}",
        )
    )


def nccl_line(options: Options, out_of_place: Row | None, in_place: Row | None) -> str:
    """Return one contestant's line for one subject, dashes for a missing half; empty without both."""
    row = out_of_place or in_place
    if row is None:
        return ""
    start = f"  {row.size:>10} {row.count:>11} {options.dtype:>9} {options.reduction:>6}"
    name = f"{row.contestant:<19} {row.subject.label}" if row.shape else row.contestant
    return f"{start}   {_half(out_of_place)}   {_half(in_place)}   {name}"


def _half(row: Row | None) -> str:
    if row is None:
        return f"{'-':>8} {'-':>8} {'-':>6} {'-':>8} {'-':>8} {'-':>7}"
    wrong = "N/A" if row.wrong is None else str(row.wrong)
    host = "-" if row.host_us is None else format_us(row.host_us)
    times = f"{format_us(row.p50_us):>8} {format_us(row.p99_us):>8} {host:>6}"
    return f"{times} {row.algbw:>8.2f} {row.busbw:>8.2f} {wrong:>7}"


def comparison(job: Job, options: Options, in_place: bool, host: bool = False) -> list[list[str]]:
    """Return the contestants side by side: a heading, then a row of cells per subject.

    The cells are the size or shape, each contestant's time in µs, and how many times as long each other
    contestant takes as the first: above 1, the first is faster. Without figures there is no column.

    Args:
        job: the figures; options: what was asked.
        in_place: which of them.
        host: the host's time for a call instead of the call's.
    """

    def figure(name: str, subject: Subject) -> float | None:
        row = job.find(name, subject, in_place)
        return None if row is None else row.host_us if host else row.p50_us

    ran = {row.contestant for row in job.rows if row.in_place == in_place}
    first = options.contestants[0]
    others = [name for name in options.contestants[1:] if name in ran]
    names = [first, *others]
    what = "rows" if options.shapes else "size"
    table = [[what, *(f"{name} µs" for name in names), *(f"{other} / {first}" for other in others)]]
    for subject in options.subjects:
        figures = {name: figure(name, subject) for name in names}
        base = figures[first]
        cells = [subject.label, *("-" if time is None else format_us(time) for time in figures.values())]
        for other in others:
            time = figures[other]
            cells.append("-" if time is None or not base else f"{time / base:.2f}")
        table.append(cells)
    return table


def closing_lines(jobs: list[Job]) -> list[str]:
    """Return nccl-tests' last lines: how many elements were wrong, the mean of hipcomm's bus bandwidths."""
    checked = any(row.wrong is not None for job in jobs for row in job.rows)
    wrong = sum(job.wrong() for job in jobs)
    busbw = [row.busbw for job in jobs for row in job.rows if row.contestant == "hipcomm"]
    verdict = f"{wrong} {'FAILED' if wrong else 'OK'}" if checked else "not checked"
    mean = sum(busbw) / len(busbw) if busbw else 0.0
    return [f"# Out of bounds values : {verdict}", f"# Avg bus bandwidth    : {mean:g}", "#"]


def csv_lines(report: Report) -> list[list[str]]:
    """Return a heading, and all figures."""
    options = report.options
    heading = ["op", "dtype", "redop", "ranks", "platform", "contestant", "version", "size_bytes", "count"]
    heading += [
        "shape",
        "in_place",
        "time_us",
        "p99_us",
        "host_us",
        "algbw_gbs",
        "busbw_gbs",
        "wrong",
        "calls",
    ]
    lines = [heading]
    for job in report.jobs:
        for row in job.rows:
            first = [options.op, options.dtype, options.reduction, job.ranks, job.platform, row.contestant]
            second = [
                job.versions.get(row.contestant, ""),
                row.size,
                row.count,
                "x".join(map(str, row.shape)),
            ]
            third = [int(row.in_place), row.p50_us, row.p99_us, row.host_us, row.algbw, row.busbw]
            cells = [*first, *second, *third, row.wrong, row.calls]
            lines.append(["" if cell is None else str(cell) for cell in cells])
    return lines


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
