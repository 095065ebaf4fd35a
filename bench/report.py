"""Writing a report to files: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
from pathlib import Path

from hipcomm_bench.results import Job, Options, Report
from hipcomm_bench.table import comparison, markdown, mode_name, nccl_header, nccl_line


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
    """Write ``stem.json`` and ``stem.md``, making directories as needed; return the two paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    json_file, markdown_file = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".md")
    json_file.write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    markdown_file.write_text(to_markdown(report), encoding="utf-8")
    return [json_file, markdown_file]
