"""The one block on standard error that says why a job did not end well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hipcomm.rendezvous.world import RankStatus

from .worker import Worker


def describe_rank(worker: Worker, status: RankStatus | None) -> str:
    """Say what one rank was doing when the job was stopped."""
    end = f"{worker.describe_end()} after {worker.seconds:.1f} s"
    if status is not None and status.waiting:
        # A rank whose collective has failed says so in the words of its exception.
        own_words = status.waiting.startswith(f"rank {worker.rank}: ")
        story = status.waiting if own_words else f"rank {worker.rank}: waiting for {status.waiting}"
        return story if worker.result is None else f"{story} ({end})"
    if worker.result is not None:
        return f"rank {worker.rank}: {end}"
    if status is not None and status.state == "absent":
        return f"rank {worker.rank}: running, had not joined"
    return f"rank {worker.rank}: running"


def compose(
    headline: str,
    culprit: Worker | None,
    ranks: Iterable[str],
    notes: Sequence[str],
    title: str | None = None,
) -> bytes:
    """Return the whole block.

    Args:
        headline: what happened, without the command's name.
        culprit: the rank that failed first; its last lines on standard error are shown.
        ranks: what the (other) ranks were doing, a line each.
        notes: what went wrong afterwards, a line each.
        title: what goes before the ranks' lines; empty: nothing.
    """
    lines = [f"hipcomm-run: {headline}"]
    if culprit is not None:
        tail = [line.decode("utf-8", "replace").rstrip("\r") for line in culprit.stderr.tail]
        lines.append("  its last lines on standard error:" if tail else "  nothing on its standard error")
        lines += [f"    {line}" for line in tail]
    listed = [f"    {line}" for line in ranks]
    if listed:
        usual = "the other ranks at that time:" if culprit else "the ranks at that time:"
        lines += [f"  {usual if title is None else title}"] if title != "" else []
        lines += listed
    lines += [f"  {note}" for note in notes]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")
