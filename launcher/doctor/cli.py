"""The command line of hipcomm-doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress

import click

from hipcomm.installation import VERSION
from hipcomm_launcher.options import SETTINGS, platform_option, version_option
from hipcomm_launcher.worker import signal_name

from . import job, machine, settings
from .findings import Problem, Section

PROBE_TIMEOUT = 120.0  # seconds; a driver may have to compile the kernels
TRIAL_TIMEOUT = 120.0  # likewise
MOST_RANKS = 8  # of the trial


@click.command(context_settings=SETTINGS)
@version_option("hipcomm-doctor")
@platform_option
@click.option("--json", "as_json", is_flag=True, help="Write what is found as JSON, and nothing else.")
@click.option(
    "--job",
    "launcher",
    type=click.IntRange(0),
    is_flag=False,
    flag_value=0,
    metavar="[PID]",
    help="Show what the ranks of a running hipcomm-run are doing, and nothing else.",
)
def main(platform: str | None, as_json: bool, launcher: int | None) -> None:
    """Say whether hipcomm can run here.

    Looks at environment, machine, HIP library, devices and code objects, and runs a job over all devices. The
    exit code is 0 if all is well, 1 if there is a problem; each problem comes with its fix.
    """
    if launcher is not None:
        job.show_job(launcher)
        return
    environ = dict(os.environ) | ({"HIPCOMM_PLATFORM": platform} if platform else {})
    found = []
    for section in examine(environ):
        found.append(section)
        if not as_json:
            _show(section)
    problems = sum(len(section.problems) for section in found)
    if as_json:
        report = {"version": VERSION, "problems": problems, "sections": [each.as_dict() for each in found]}
        click.echo(json.dumps(report, indent=1))
    else:
        click.echo(f"\n{problems} problem{'s' * (problems != 1)} found" if problems else "\nall is well")
    raise SystemExit(1 if problems else 0)


def examine(environ: Mapping[str, str]) -> Iterator[Section]:
    """Yield what each examination finds, as soon as it has."""
    said = settings.examine(environ)
    yield said
    yield machine.examine()
    if said.problems:  # a process with settings that make no sense would only say so again
        return
    probed = probe(environ)
    yield from probed
    devices = next((len((each.data or {})["devices"]) for each in probed if each.title == "devices"), 0)
    if devices and not any(each.problems for each in probed):
        yield trial(environ, min(devices, MOST_RANKS))


def probe(environ: Mapping[str, str]) -> list[Section]:
    """Have the HIP library examined in a process of its own; one that dies or hangs is a problem found."""
    command = [sys.executable, "-m", "hipcomm_launcher.doctor.probe"]
    output, end, errors = _run(command, environ, PROBE_TIMEOUT)
    sections = [Section.from_json(line) for line in output.splitlines() if line.startswith("[")]
    if end:
        after = f"after the section {sections[-1].title!r}" if sections else "at the first call"
        what = f"examining the HIP library {end} {after}"
        fix = "look for the driver's messages (dmesg); HIPCOMM_PLATFORM=cpu runs without a GPU"
        sections.append(Section("HIP library", errors, [Problem(what, fix)]))
    return sections


def trial(environ: Mapping[str, str], ranks: int) -> Section:
    """Run a job over the first *ranks* devices: IPC, the rendezvous, and the kernels."""
    # A world of its own, whatever job the doctor was started in.
    outer = ("HIPCOMM_DEVICE", "HIPCOMM_RENDEZVOUS", "HIPCOMM_TOKEN", "HIPCOMM_JOB_ID")
    environ = {name: text for name, text in environ.items() if name not in outer}
    command = [sys.executable, "-m", "hipcomm_launcher", "-n", str(ranks), "--timeout", str(TRIAL_TIMEOUT)]
    command += ["-m", "hipcomm_launcher.doctor.trial"]
    # The launcher ends by itself at its time-out; this bounds the launcher.
    _, end, errors = _run(command, environ, TRIAL_TIMEOUT + 60)
    title = f"trial: {ranks} ranks map each other's memory and all-reduce"
    if not end:
        return Section(title, ["every mapping shows the right memory, every result is right"], [])
    fix = "what the ranks say stands above; in a container, try --ipc=host --security-opt seccomp=unconfined"
    return Section(title, errors, [Problem(f"the job {end}", fix)])


def _run(command: list[str], environ: Mapping[str, str], patience: float) -> tuple[str, str, list[str]]:
    """Run a command. Return its output, how it ended ("" if well) and its last lines on standard error."""
    # Files, not pipes: what was written before a time-out is there to be read.
    with ExitStack() as files:
        out, err = (files.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in range(2))
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            end = _describe_end(process.wait(patience))
        except subprocess.TimeoutExpired:
            end = f"did not end within {patience:g} s"
            process.kill()
            with suppress(subprocess.TimeoutExpired):  # stuck in the driver: it is left behind
                process.wait(5)
        out.seek(0)
        err.seek(0)
        return out.read(), end, err.read().splitlines()[-20:]


def _describe_end(code: int) -> str:
    if code < 0:
        return f"was killed by {signal_name(-code)}"
    return f"ended with exit code {code}" if code else ""


def _show(section: Section) -> None:
    click.echo(section.title)
    for fact in section.facts:
        click.echo(f"  {fact}")
    for problem in section.problems:
        click.echo(click.style(f"  PROBLEM: {problem.what}", fg="red"))
        click.echo(f"      fix: {problem.fix}")


if __name__ == "__main__":
    main()
