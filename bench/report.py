"""Writing a report to files: JSON and CSV for programs, Markdown for people."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from hipcomm_bench.results import Job, Options, Report
from hipcomm_bench.table import comparison, csv_lines, markdown, mode_name, nccl_header, nccl_line


def to_markdown(report: Report) -> str:
    """Return the report as a page: machine, command, method, and the tables of every world."""
    options = report.options
    lines = [f"# hipcomm-bench: {', '.join(options.title)}"]
    lines += ["", f"`{report.command}`, {report.started}", ""]
    lines += [f"- {name}: {value}" for name, value in report.machine.items()]
    lines += ["", "A ratio above 1 means that the first contestant is faster."]
    for job in report.jobs:
        lines += ["", *_job_lines(job, options)]
    return "\n".join(lines) + "\n"


def _job_lines(job: Job, options: Options) -> list[str]:
    lines = [f"## {job.ranks} ranks", "", f"Started by `{job.launcher}`. {job.aggregation}", ""]
    lines += [f"- **{job.failure}**; these are the figures until then"] * bool(job.failure)
    lines += [f"- rank {rank}: {device}" for rank, device in enumerate(job.devices)]
    lines += [f"- {', '.join(f'{name} {value}' for name, value in gpu.items())}" for gpu in job.gpus]
    lines += [f"- {name} {version}" for name, version in job.versions.items()]
    lines += [f"- {name} did not run: {reason}" for name, reason in job.missing.items()]
    lines += [f"- {reason}" for reason in job.unsupported]
    lines += [f"- {note}" for note in job.notes]
    for in_place in job.modes():
        lines += ["", f"### {job.ranks} ranks, {mode_name(in_place)}", ""]
        lines += [markdown(comparison(job, options, in_place))]
        if job.has_host_times():
            lines += ["", "What an eager call costs the calling thread:", ""]
            lines += [markdown(comparison(job, options, in_place, host=True))]
    lines += ["", "<details><summary>nccl-tests' columns</summary>", "", "```", nccl_header()]
    for subject in options.subjects:
        for name in options.contestants:
            line = nccl_line(options, job.find(name, subject, False), job.find(name, subject, True))
            lines += [line] if line else []
    return [*lines, "```", "", "</details>"]


def write(report: Report, stem: Path) -> list[Path]:
    """Write ``stem.json``, ``stem.md`` and ``stem.csv``, making directories as needed; return the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(stem.name + suffix) for suffix in (".json", ".md", ".csv")]
    json_file, markdown_file, csv_file = files
    json_file.write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    markdown_file.write_text(to_markdown(report), encoding="utf-8")
    with csv_file.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(csv_lines(report))
    return files
