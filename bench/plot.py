"""Drawing a report: time and bus bandwidth over message size, all contestants, per world and mode."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hipcomm_bench.results import Job, Report, Row
from hipcomm_bench.sizes import format_size
from hipcomm_bench.table import mode_name

FORMATS = (".png", ".svg")


def why_not(file: Path) -> str | None:
    """Return why no plot can be drawn into `file`, or None: asked before hours of measuring."""
    if file.suffix not in FORMATS:
        return f"{file} ends in neither of {', '.join(FORMATS)}"
    if find_spec("matplotlib") is None:
        return "a plot needs the Python package matplotlib: pip install 'hipcomm[bench]'"
    return None


def draw(report: Report, file: Path) -> None:
    """Draw the report into `file`, a PNG or an SVG, making directories as needed."""
    import_module("matplotlib").use("Agg")  # no display is needed
    pyplot: Any = import_module("matplotlib.pyplot")
    panels = [(job, in_place) for job in report.jobs for in_place in job.modes()]
    figure, axes = pyplot.subplots(
        max(1, len(panels)), 2, figsize=(13, 4.5 * max(1, len(panels))), squeeze=False, layout="constrained"
    )
    options = report.options
    figure.suptitle(" ".join([options.op, options.dtype] + [options.redop] * (options.redop != "none")))
    for row, (job, in_place) in enumerate(panels):
        title = f"{job.ranks} ranks, {mode_name(in_place)}"
        time, bandwidth = axes[row]
        _curves(time, report, job, in_place, lambda r: r.p50_us)
        time.set(title=title, ylabel="time (µs)", yscale="log")
        _curves(bandwidth, report, job, in_place, lambda r: r.busbw)
        bandwidth.set(title=title, ylabel="bus bandwidth (GB/s)", ylim=(0, None))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _curves(axes: Any, report: Report, job: Job, in_place: bool, value: Callable[[Row], float]) -> None:
    sizes = report.options.sizes
    for index, name in enumerate(report.options.contestants):
        rows = [row for size in sizes if (row := job.find(name, size, in_place)) is not None]
        if rows:
            # a colour stays with its contestant in all panels; the first one is drawn on top and thicker
            style = {"linewidth": 2.5, "zorder": 3} if index == 0 else {"linewidth": 1.5}
            points = [row.size for row in rows], [value(row) for row in rows]
            axes.plot(*points, marker="o", markersize=3, color=f"C{index % 10}", label=name, **style)
    axes.set_xscale("log", base=2)
    ticks = sizes[:: max(1, len(sizes) // 8)]
    axes.set_xticks(ticks, [format_size(size) for size in ticks], rotation=30)
    axes.set_xlabel("message size")
    axes.grid(alpha=0.3)
    if job.versions:
        axes.legend(fontsize="small")
