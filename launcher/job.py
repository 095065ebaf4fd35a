"""Supervision of one job: start the ranks, pass on their output, stop all when one fails.

One thread, one selector. The job is *running* until all ranks have ended or something goes wrong,
then it is being *stopped* (SIGTERM), then *killed* (SIGKILL), then *over*; each step has a time limit.
"""

from __future__ import annotations

import enum
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, Literal, NamedTuple

from hipcomm.rendezvous.world import RankStatus

from . import guardian, summary
from .inquiry import Inquiry, leave_report
from .output import HOLD_TIME, Stream, Terminal
from .spec import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    Endpoints,
    Options,
    inherited_environment,
    rank_environment,
)
from .worker import Worker, signal_name

TIMED_OUT = 124  # exit code, as timeout(1) has it
NOT_WRITTEN = 1  # exit code, as cat(1) has it
REAP_TIMEOUT = 5.0  # seconds from SIGKILL until a rank counts as stuck in the kernel
CULPRIT_PATIENCE = 0.5  # seconds for the rank that caused a failure to end itself
POLL_INTERVAL = 0.02  # seconds between two looks while the job is being stopped

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Phase(enum.IntEnum):
    RUNNING = 0
    STOPPING = 1
    KILLING = 2
    OVER = 3


class _Outcome(NamedTuple):
    """How the job ended."""

    exit_code: int
    headline: str = ""  # empty: all went well, nothing to say
    culprit: Worker | None = None
    statuses: Sequence[RankStatus] = ()
    ranks: Sequence[str] = ()


class Job:
    """One job.

    Args:
        command: the argument vector of every rank, its first element an executable's path.
        options: how to run it.
        restart: how often it has been started before.
        spent: seconds of the time that it may take which are over.
    """

    def __init__(
        self, command: Sequence[str], options: Options, restart: int = 0, spent: float = 0.0
    ) -> None:
        self._command = command
        self._options = options
        self._restart = restart
        self._spent = spent
        self._job_id = os.urandom(8).hex()
        self._workers: list[Worker] = []
        self._open_streams: list[Stream] = []
        self._stdout = Terminal(1)
        # One queue where both are one file (2>&1, a terminal), or else their lines could tear.
        self._stderr = self._stdout if os.path.sameopenfile(1, 2) else Terminal(2)
        self._selector = selectors.PollSelector()  # unlike epoll, it takes regular files
        self._signals: list[int] = []  # those that ask us to end
        self._is_suspending = False  # Ctrl-Z
        self._is_asking = False  # SIGUSR1
        self._inquiry: Inquiry | None = None
        self._last_inquiry: Inquiry | None = None  # at the time-out
        self._suspended = 0.0  # seconds
        self._phase = _Phase.RUNNING
        self._phase_end = float("inf")
        self._outcome = _Outcome(0)
        self._notes: list[str] = []
        self._failed: list[Worker] = []  # in order of time

    def run(self) -> int:
        """Run the job to its end and return the exit code.

        Raises:
            OSError: the guardian, a log file or a pipe could not be made; no rank is left running.
            hipcomm.RendezvousError: the server cannot listen.
        """
        options = self._options
        nodes = options.nodes
        self._server = nodes.serve(options.nproc, options.join_timeout)
        try:
            host, port = self._server.address
            token, own_port = self._server.token, free_port()
            if nodes.number > 1:
                host, port, token, own_port = nodes.address, nodes.port, nodes.token, nodes.port + 1
            endpoints = Endpoints(f"{host}:{port}", token, self._job_id, own_port, self._restart)
            with self._caught_signals(), self._guardian():
                try:
                    self._start_workers(endpoints)
                    # Threads only from here on: see worker._prepare.
                    self._server.start()
                    self._supervise()
                finally:
                    self._end_everything()
                self._drain()
        finally:
            self._server.close()
            self._selector.close()
        return self._outcome.exit_code

    @property
    def failed_by_itself(self) -> bool:
        """Whether a rank has failed, and nobody has asked for the job's end."""
        return self._outcome.culprit is not None and not self._signals

    # ---- starting ----------------------------------------------------------------------------

    @contextmanager
    def _caught_signals(self) -> Iterator[None]:
        """Turn signals, SIGCHLD included, into bytes on a socket that the selector watches."""
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        self._selector.register(receiver, selectors.EVENT_READ, lambda: self._take_signals(receiver))
        previous_descriptor = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        previous = {}
        for number in (*_STOP_SIGNALS, signal.SIGTSTP, signal.SIGUSR1, signal.SIGCHLD):
            # Under nohup a hang-up is none of our business, and some shells know no Ctrl-Z.
            may_be_ignored = number in (signal.SIGHUP, signal.SIGTSTP)
            if not may_be_ignored or signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, lambda *_: None)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_descriptor)
            receiver.close()
            sender.close()

    def _take_signals(self, receiver: socket.socket) -> None:
        numbers = receiver.recv(4096)
        self._signals += [number for number in numbers if number in _STOP_SIGNALS]
        self._is_suspending |= signal.SIGTSTP in numbers
        self._is_asking |= signal.SIGUSR1 in numbers

    @contextmanager
    def _guardian(self) -> Iterator[None]:
        """Run the process that kills the ranks if this one is killed; see guardian.py."""
        # Our environment: without LD_LIBRARY_PATH or PYTHONHOME (so no -I) some interpreters do not start,
        # unnoticed. But not an outer job's mark: its guardian would kill ours before the work is done.
        # -S: it needs nothing installed.
        process = subprocess.Popen(
            [sys.executable, "-S", guardian.__file__, self._job_id],
            env={name: value for name, value in os.environ.items() if name != "HIPCOMM_JOB_ID"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        assert process.stdin is not None
        self._guardian_pipe = process.stdin.fileno()
        try:
            yield
        finally:
            if self._phase is _Phase.OVER and not self._unended():
                self._tell_guardian("done")
            process.stdin.close()
            with suppress(subprocess.TimeoutExpired):  # it goes on killing what we could not kill
                process.wait(timeout=1.0)

    def _tell_guardian(self, line: str) -> None:
        with suppress(BrokenPipeError):  # it was killed; the ranks still have PR_SET_PDEATHSIG
            os.write(self._guardian_pipe, f"{line}\n".encode())

    def _start_workers(self, endpoints: Endpoints) -> None:
        options = self._options
        shown = options.log_dir is None or options.tee
        for local_rank in range(options.nproc):
            rank = options.first_rank + local_rank
            logs = self._open_logs(rank)
            try:
                worker = Worker(
                    rank,
                    self._command,
                    {**inherited_environment(), **rank_environment(local_rank, options, endpoints)},
                    whole_lines=options.tag or options.nproc > 1,
                    hold_time=HOLD_TIME if options.nproc > 1 else 0.0,
                    tag=f"[rank{rank}] ".encode() if options.tag else b"",
                    terminals=(self._stdout, self._stderr) if shown else (None, None),
                    logs=logs,
                    cpus=options.cpus[local_rank] if options.cpus else None,
                )
            except OSError as error:
                for log in logs:
                    if log is not None:
                        log.close()
                code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
                self._stop(_Outcome(code, f"cannot run {self._command[0]}: {error.strerror}"))
                return
            self._workers.append(worker)
            self._open_streams += [worker.stdout, worker.stderr]
            self._tell_guardian(str(worker.pid))

    def _open_logs(self, rank: int) -> tuple[BinaryIO | None, BinaryIO | None]:
        directory = self._options.log_dir
        if directory is None:
            return None, None
        mode: Literal["ab", "wb"] = "ab" if self._restart else "wb"
        with ExitStack() as opened:  # closes the first if the second cannot be opened
            out, err = (
                opened.enter_context((directory / f"rank{rank}.{name}").open(mode, buffering=0))
                for name in ("out", "err")
            )
            opened.pop_all()
        return out, err

    # ---- the loop ----------------------------------------------------------------------------

    def _supervise(self) -> None:
        while self._phase is not _Phase.OVER:
            self._turn(self._pause())
            self._notice_ends()
            if self._is_suspending:
                self._suspend()
            if self._phase is _Phase.RUNNING:
                self._inquire()
            if self._phase is _Phase.RUNNING:
                self._look_for_reasons_to_stop()
            else:
                self._press_on()

    def _turn(self, pause: float | None) -> None:
        """Wait for at most *pause* seconds and move what can be moved between pipes and terminals."""
        for stream in self._open_streams:
            wanted = stream.terminal is None or not stream.terminal.is_behind
            self._watch(stream.descriptor, selectors.EVENT_READ, wanted, self._reader(stream))
        for terminal in {self._stdout, self._stderr}:
            wanted = terminal.backlog > 0
            self._watch(terminal.descriptor, selectors.EVENT_WRITE, wanted, terminal.write_some)
        for key, _ in self._selector.select(pause):
            key.data()
        now = time.monotonic()
        for stream in self._open_streams:
            if stream.deadline <= now:
                stream.show_unfinished()

    def _watch(self, descriptor: int, event: int, wanted: bool, action: Callable[[], None]) -> None:
        watched = descriptor in self._selector.get_map()
        if wanted and not watched:
            self._selector.register(descriptor, event, action)
        elif watched and not wanted:
            self._selector.unregister(descriptor)

    def _reader(self, stream: Stream) -> Callable[[], None]:
        return lambda: None if stream.read_some() else self._close_stream(stream)

    def _close_stream(self, stream: Stream) -> None:
        self._watch(stream.descriptor, selectors.EVENT_READ, False, stream.close)
        self._open_streams.remove(stream)
        stream.close()

    def _inquire(self) -> None:
        """Ask the ranks what they are doing, if somebody wants to know, and show what they have said."""
        if self._is_asking and self._inquiry is None:
            self._is_asking = False
            self._inquiry = Inquiry(self._server, self._workers)
        if self._inquiry is not None and self._inquiry.is_over():
            text = summary.compose("what the ranks are doing", None, self._inquiry.lines(), [], "")
            self._inquiry = None
            self._stderr.put(text)
            leave_report(text)

    def _suspend(self) -> None:
        """Stop all ranks, which are in sessions of their own, and ourselves, until we are continued."""
        self._is_suspending = False
        began = time.monotonic()
        self._signal_all(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._signal_all(signal.SIGCONT)
        self._suspended += time.monotonic() - began

    def _signal_all(self, number: int) -> None:
        """Signal all processes of the job."""
        running = [worker for worker in self._workers if worker.result is None]
        groups = {worker.pid for worker in running}
        strays = {pid for pid, group in self._find_processes().items() if group not in groups}
        for worker in running:
            worker.signal_group(number)
        for pid in strays:
            guardian.send_signal(pid, number)

    def _pause(self) -> float | None:
        """Return how long to wait for events, None for however long; the end of a rank is an event."""
        is_asking = self._is_asking or self._inquiry or self._last_inquiry
        if self._phase is not _Phase.RUNNING or self._failed or is_asking:
            return POLL_INTERVAL
        deadline = min((stream.deadline for stream in self._open_streams), default=float("inf"))
        if self._options.timeout is not None and self._workers:
            allowed = self._options.timeout + self._suspended - self._spent
            deadline = min(deadline, self._workers[0].started + allowed)
        return None if deadline == float("inf") else max(0.0, deadline - time.monotonic())

    def _notice_ends(self) -> None:
        ended = [worker for worker in self._workers if worker.check()]
        for worker in ended:
            # Whoever needs this rank hears of it at once, also if it had never joined.
            self._server.lose(worker.rank, f"its process {worker.describe_end()}", bool(worker.result))
        # Seen at once, in an order we cannot know: a signal is rather the cause than an exit code.
        self._failed += sorted(
            filter(lambda worker: worker.result, ended), key=lambda worker: worker.result or 0
        )

    def _look_for_reasons_to_stop(self) -> None:
        options = self._options
        if self._signals:
            number = self._signals[0]
            self._stop(_Outcome(128 + number, f"stopped by {signal_name(number)}"))
        elif any(isinstance(terminal.error, BrokenPipeError) for terminal in (self._stdout, self._stderr)):
            self._stop(_Outcome(128 + signal.SIGPIPE))  # as for any program whose reader has gone
        elif self._failed:
            culprit = self._find_culprit()
            if culprit is not None and self._survivors_are_done(culprit):
                after = f"rank {culprit.rank} {culprit.describe_end()} after {culprit.seconds:.1f} s"
                self._stop(_Outcome(culprit.exit_code, f"{after} (exit code {culprit.exit_code})", culprit))
        elif all(worker.result is not None for worker in self._workers):
            self._stop(_Outcome(0))
        elif options.timeout is not None and self.seconds >= options.timeout:
            self._stop_at_time_out(options.timeout)

    def _stop_at_time_out(self, timeout: float) -> None:
        """Ask the ranks first: what they are stuck in is what somebody will want to know."""
        if self._last_inquiry is None:
            self._last_inquiry = Inquiry(self._server, self._workers)
        if self._last_inquiry.is_over():
            headline = f"the job did not end within {timeout:g} s"
            self._stop(_Outcome(TIMED_OUT, headline, ranks=self._last_inquiry.lines()))

    @property
    def seconds(self) -> float:
        """How much is over of the time that the job may take."""
        return self._spent + (self._workers[0].seconds - self._suspended if self._workers else 0.0)

    def _find_culprit(self) -> Worker | None:
        """Return the rank that failed first, or None while that is not known.

        A rank that fails in good order tells its peers first and ends last: the server knows which
        one it was, so that rank gets a moment to end before a peer is blamed.
        """
        first = self._failed[0]
        suspect = self._server.first_failed()
        for worker in self._failed:
            if worker.rank == suspect:
                return worker
        running = {worker.rank for worker in self._workers if worker.result is None}
        if suspect not in running:
            return first
        return first if time.monotonic() - (first.ended or 0) > CULPRIT_PATIENCE else None

    def _survivors_are_done(self, culprit: Worker) -> bool:
        """Tell whether all others have ended by themselves, or have had the time to.

        They hear of a lost rank within moments, and raise. What a program does then, a checkpoint or a
        traceback, SIGTERM would cut off. A job that has never joined hears of nothing.
        """
        if time.monotonic() - (culprit.ended or 0) > self._options.unwind:
            return True
        statuses = self._server.status()
        uses_hipcomm = any(status.state != "absent" for status in statuses if status.rank != culprit.rank)
        return not uses_hipcomm or all(worker.result is not None for worker in self._workers)

    # ---- stopping ----------------------------------------------------------------------------

    def _stop(self, outcome: _Outcome) -> None:
        """Go from running to stopping: SIGTERM to all that is left."""
        if outcome.headline and self._workers:
            statuses = self._server.status()
            others = [worker for worker in self._workers if worker is not outcome.culprit]
            ranks = [summary.describe_rank(worker, statuses[worker.rank]) for worker in others]
            outcome = outcome._replace(ranks=outcome.ranks or ranks)
        self._outcome = outcome
        self._phase = _Phase.STOPPING
        self._phase_end = time.monotonic() + self._options.grace
        self._signal_all(signal.SIGTERM)
        self._signals_seen = len(self._signals)

    def _press_on(self) -> None:
        """Go on with stopping: SIGKILL after the grace time, the end when nobody is left."""
        if not self._unended():
            self._phase = _Phase.OVER
            return
        now = time.monotonic()
        if self._phase is _Phase.STOPPING:
            hurry = len(self._signals) > self._signals_seen
            if now < self._phase_end and not hurry:
                return
            self._phase = _Phase.KILLING
            self._phase_end = now + REAP_TIMEOUT
            slow = [worker.rank for worker in self._workers if worker.result is None]
            if slow and not hurry:
                ranks = ", ".join(map(str, slow))
                self._notes.append(
                    f"did not end within {self._options.grace:g} s of SIGTERM, killed: rank {ranks}"
                )
        self._kill()
        if now >= self._phase_end:
            for worker in self._workers:
                if worker.result is None:
                    self._notes.append(
                        f"rank {worker.rank} (process {worker.pid}) cannot be killed, left behind"
                    )
            self._phase = _Phase.OVER

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.result is None:
                worker.signal_group(signal.SIGKILL)
        for pid in self._find_processes():
            guardian.send_signal(pid, signal.SIGKILL)

    def _unended(self) -> bool:
        """Tell whether a process of the job is left."""
        return any(worker.result is None for worker in self._workers) or bool(self._find_processes())

    def _find_processes(self) -> dict[int, int]:
        return guardian.find_processes(self._job_id, {worker.pid for worker in self._workers})

    def _end_everything(self) -> None:
        """Leave nothing running, also when an error in here ended the supervision."""
        if self._phase is not _Phase.OVER:
            self._kill()
        for worker in self._workers:
            worker.check()
            worker.reap()

    def _drain(self) -> None:
        """Pass on what is still in the pipes, then the summary.

        Waits for whoever reads our output, as any program that writes does; a signal ends that.
        """
        # At once, whether or not our reader has taken what came before: it is at most a pipe each. Time
        # limits took a reader that paused for somebody who holds a pipe open, and lost what was in it.
        for stream in list(self._open_streams):
            self._close_stream(stream)
        self._put_summary()
        signals_seen = len(self._signals)
        self._write_out(signals_seen)
        for terminal, name in ((self._stdout, "standard output"), (self._stderr, "standard error")):
            # A reader that went away had what it wanted; but a file on a full disk looked complete.
            if terminal.error is not None and not isinstance(terminal.error, ConnectionError):
                message = f"hipcomm-run: cannot write {name}: {terminal.error.strerror}\n"
                self._stderr.put(message.encode())
                self._outcome = self._outcome._replace(exit_code=self._outcome.exit_code or NOT_WRITTEN)
        self._write_out(signals_seen)

    def _write_out(self, signals_seen: int) -> None:
        while (self._stdout.backlog or self._stderr.backlog) and len(self._signals) == signals_seen:
            self._turn(None)

    def _put_summary(self) -> None:
        for worker in self._workers:
            for name, stream in (("out", worker.stdout), ("err", worker.stderr)):
                if stream.log_error is not None:
                    reason = stream.log_error.strerror
                    self._notes.append(f"rank{worker.rank}.{name} is incomplete: {reason}")
        outcome = self._outcome
        if outcome.headline or self._notes:
            headline = outcome.headline or "the job ended well, but"
            self._stderr.put(summary.compose(headline, outcome.culprit, outcome.ranks, self._notes))


def run_job(command: Sequence[str], options: Options) -> int:
    """Run a job, and again after a rank has failed if the options say so; the exit code.

    Raises what :meth:`Job.run` does.
    """
    job = Job(command, options)
    exit_code = job.run()
    for restart in range(1, options.max_restarts + 1):
        if not job.failed_by_itself:
            break
        sys.stderr.write(f"hipcomm-run: restart {restart} of {options.max_restarts}\n")
        sys.stderr.flush()
        job = Job(command, options, restart, job.seconds)
        exit_code = job.run()
    return exit_code


def free_port() -> int:
    """Find a TCP port that is free on 127.0.0.1 right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
