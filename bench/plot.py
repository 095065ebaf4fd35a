"""Drawing a report: time and bus bandwidth over message size or rows, all contestants, per world and mode."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hipcomm_bench.results import Job, Report, Row
from hipcomm_bench.subjects import Subject, curves
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
    panels = [
        (job, in_place, length, subjects)
        for job in report.jobs
        for in_place in job.modes()
        for length, subjects in curves(report.options.subjects).items()
    ]
    figure, axes = pyplot.subplots(
        max(1, len(panels)), 2, figsize=(13, 4.5 * max(1, len(panels))), squeeze=False, layout="constrained"
    )
    figure.suptitle(" ".join(report.options.title))
    for row, (job, in_place, length, subjects) in enumerate(panels):
        title = f"{job.ranks} ranks, {mode_name(in_place)}" + f", rows of {length}" * bool(length)
        time, bandwidth = axes[row]
        _curves(time, report, job, in_place, subjects, lambda r: r.p50_us)
        time.set(title=title, ylabel="time (µs)", yscale="log")
        _curves(bandwidth, report, job, in_place, subjects, lambda r: r.busbw)
        bandwidth.set(title=title, ylabel="bus bandwidth (GB/s)", ylim=(0, None))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _curves(
    axes: Any,
    report: Report,
    job: Job,
    in_place: bool,
    subjects: list[Subject],
    value: Callable[[Row], float],
) -> None:
    for index, name in enumerate(report.options.contestants):
        rows = [row for subject in subjects if (row := job.find(name, subject, in_place)) is not None]
        if rows:
            # a colour stays with its contestant in all panels; the first one is drawn on top and thicker
            style = {"linewidth": 2.5, "zorder": 3} if index == 0 else {"linewidth": 1.5}
            points = [row.size for row in rows], [value(row) for row in rows]
            axes.plot(*points, marker="o", markersize=3, color=f"C{index % 10}", label=name, **style)
    axes.set_xscale("log", base=2)
    ticks = subjects[:: max(1, len(subjects) // 8)]
    names = [str(subject.shape[0]) if subject.shape else subject.label for subject in ticks]
    axes.set_xticks([subject.size for subject in ticks], names, rotation=30)
    axes.set_xlabel("rows" if subjects and subjects[0].shape else "message size")
    axes.grid(alpha=0.3)
    if job.versions:
        axes.legend(fontsize="small")
