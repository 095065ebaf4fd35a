"""The fault matrix: a rank goes wrong in some way at some point of its life, and a judge looks at the others.

``python fault_matrix.py --runs 2000 --seed 1`` (``make soak RUNS=2000``) draws runs from

    faults {kill, SEGV, stop and continue, exit codes 0 and 3, exception, interrupt}
    x phases {join, exchange, verification, idle, waiting in each algorithm, graph, split, empty, free, close}
    x ways {hipcomm-run, by hand, threads} x worlds {2, 3, 4, 8} x busy neighbours or none

Right is: all others hear of it, as the right error, which names the rank, within the bound; the job's exit
code is the victim's; no process and no file is left; and of a rank that stops for a while nobody notices.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

FAULTS = {"kill": 137, "segv": 139, "stop": 0, "exit0": 0, "exit3": 3, "exception": 1, "interrupt": 130}
CALLS = ("idle", "one_shot", "two_shot", "staged", "pipelined", "all_gather", "broadcast", "barrier", "graph")
PHASES = ("join", "exchange", "verification", *CALLS, "split", "empty", "free", "close")
WAYS = ("launcher", "hand", "threads")
WORLDS = (2, 3, 4, 8)
PATIENCE = 60.0  # seconds for a run: beyond, something hangs
TIMEOUT = 40  # HIPCOMM_TIMEOUT: nobody may wait for it
RANK = str(Path(__file__).with_name("fault_rank.py"))


class Run(NamedTuple):
    fault: str
    phase: str
    way: str
    world: int
    victim: int
    neighbours: int  # busy processes on the same cores

    def __str__(self) -> str:
        busy = f", {self.neighbours} busy neighbours" if self.neighbours else ""
        return f"{self.fault} in {self.phase}, {self.way}, rank {self.victim} of {self.world}{busy}"


def draw(rng: random.Random, neighbours: int) -> Run:
    way = rng.choice(WAYS)
    world = rng.choice(WORLDS)
    fault = "exception" if way == "threads" else rng.choice(list(FAULTS))
    phases = CALLS if way == "threads" else PHASES  # init_all makes all communicators, or none
    return Run(fault, rng.choice(phases), way, world, rng.randrange(world), rng.choice((0, neighbours)))


class Verdict(NamedTuple):
    problems: list[str]
    notice: float  # seconds, of the last to notice; 0: there was nothing to notice


def perform(run: Run, bound: float) -> Verdict:
    """Run it and judge it."""
    with tempfile.TemporaryDirectory(prefix="faults-") as notes:
        job = secrets.token_hex(8)
        runtime = Path(notes, "runtime")
        runtime.mkdir(mode=0o700)
        plan = json.dumps({**run._asdict(), "notes": notes})
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HIPCOMM_")},
            "HIPCOMM_PLATFORM": "cpu",
            "HIPCOMM_TIMEOUT": str(TIMEOUT),
            "XDG_RUNTIME_DIR": str(runtime),
            "FAULTS_RUN": job,
        }
        neighbours = [
            subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(run.neighbours)
        ]
        try:
            codes, said = _start_and_wait(run, plan, env, job)
        finally:
            for process in neighbours:
                process.kill()
                process.wait()
        return judge(run, codes, said, Path(notes), job, bound)


def _start_and_wait(run: Run, plan: str, env: dict[str, str], job: str) -> tuple[list[int | None], str]:
    """Exit codes (None: it had to be killed), and what was written on standard error."""
    command = [sys.executable, RANK, plan]
    if run.way == "launcher":
        commands = [([sys.executable, "-m", "hipcomm_launcher", "-n", str(run.world), *command], env)]
    elif run.way == "threads":
        commands = [(command, env)]
    else:
        who = {"HIPCOMM_WORLD_SIZE": str(run.world), "HIPCOMM_JOB_ID": job}
        commands = [(command, {**env, **who, "HIPCOMM_RANK": str(rank)}) for rank in range(run.world)]
    with tempfile.TemporaryFile("w+") as errors:
        processes = [
            subprocess.Popen(
                argv, env=each, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True
            )
            for argv, each in commands
        ]
        deadline = time.monotonic() + PATIENCE
        codes: list[int | None] = []
        for process in processes:
            try:
                codes.append(process.wait(max(0.1, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                codes.append(None)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        errors.seek(0)
        return codes, errors.read()


def judge(run: Run, codes: list[int | None], said: str, notes: Path, job: str, bound: float) -> Verdict:
    problems = []
    if None in codes:
        problems.append("a process did not end")
    seen = [_read(notes / f"seen{rank}") for rank in range(run.world)]
    began = float((notes / "fault").read_text()) if (notes / "fault").exists() else None
    notice = 0.0
    for rank, what in enumerate(seen):
        if rank == run.victim and run.fault != "stop":
            continue
        if what is None:
            # hipcomm-run ends ranks that have not come to join yet: they could hear of nothing
            if (run.way, run.phase) != ("launcher", "join"):
                problems.append(f"rank {rank} said nothing")
        elif run.fault == "stop":
            if what["error"]:
                problems.append(f"rank {rank} raised {what['error']}: {what['text']}")
        elif not what["error"]:
            if not _may_go_unnoticed(run):
                problems.append(f"rank {rank} noticed nothing")
        else:
            problems += _judge_error(run, rank, what)
            took = what["at"] - (began or what["at"]) - (0.5 if run.phase == "idle" else 0.0)
            notice = max(notice, took)
    if notice > bound:
        problems.append(f"noticed after {notice:.2f} s")
    problems += _judge_exit(run, codes)
    everybody = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    left = [pid for pid in everybody if _has_mark(pid, job)]
    if left:
        problems.append(f"processes are left: {left}")
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if problems:
        problems.append(f"standard error: ...{said[-1500:]}")
    return Verdict(problems, notice)


def _may_go_unnoticed(run: Run) -> bool:
    """Whether a survivor can be done before the victim is missed: it has all that it waits for."""
    return run.phase == "close"


def _judge_error(run: Run, rank: int, what: dict[str, str]) -> list[str]:
    problems = []
    if what["error"] not in ("PeerDied", "RendezvousError"):
        problems.append(f"rank {rank} raised {what['error']}: {what['text']}")
    # a consequence names a rank that failed because of the victim
    elif f"rank {run.victim}" not in what["text"] and f"rank{run.victim}" not in what["text"]:
        problems.append(f"rank {rank}: its error does not name rank {run.victim}: {what['text']}")
    return problems


def _judge_exit(run: Run, codes: list[int | None]) -> list[str]:
    if run.way == "threads":
        wanted = [0]
    elif run.way == "launcher":
        wanted = [FAULTS[run.fault]]
    else:
        code = FAULTS[run.fault]
        own = {137: -9, 139: -11, 130: -2}.get(code, code)
        wanted = [own if rank == run.victim else 0 for rank in range(run.world)]
    return [] if codes == wanted else [f"exit codes {codes}, not {wanted}"]


def _read(path: Path) -> dict[str, str] | None:
    try:
        found: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found


def _has_mark(pid: int, job: str) -> bool:
    try:
        return f"FAULTS_RUN={job}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after that time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bound", type=float, default=1.0, help="seconds for all others to notice")
    parser.add_argument("--neighbours", type=int, default=2, help="busy processes in half of the runs")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    notices: list[float] = []
    outcomes: Counter[str] = Counter()
    for number in range(arguments.runs):
        if time.monotonic() > end:
            break
        run = draw(random.Random(f"{arguments.seed}/{number}"), arguments.neighbours)
        verdict = perform(run, arguments.bound)
        notices.append(verdict.notice)
        outcomes["wrong" if verdict.problems else "right"] += 1
        if verdict.problems:
            print(f"WRONG, run {number}: {run}", *verdict.problems, sep="\n    ", flush=True)
    notices.sort()
    middle, last = (notices[len(notices) // 2], notices[-1]) if notices else (0.0, 0.0)
    total = sum(outcomes.values())
    print(f"{total} runs: {dict(outcomes)}; noticed after {middle:.2f} s (median), {last:.2f} s (worst)")
    return 1 if outcomes["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
