"""From the name of what is measured to who can take part, and to its tasks."""

from __future__ import annotations

from collections.abc import Mapping

from hipcomm_bench.collective import Collectives
from hipcomm_bench.contestants import CONTESTANTS, GROUPS
from hipcomm_bench.contestants.base import Library
from hipcomm_bench.norms.contestants import NORM_CONTESTANTS, NORM_GROUPS
from hipcomm_bench.norms.rows import FUSED, Norms
from hipcomm_bench.results import Options
from hipcomm_bench.session import Session
from hipcomm_bench.task import Workload

Groups = Mapping[str, tuple[str, ...]]


def libraries(op: str) -> Mapping[str, type[Library]]:
    """Return who can be measured, by name."""
    return NORM_CONTESTANTS if op == FUSED else CONTESTANTS


def groups(op: str) -> Groups:
    """Return the words that mean several of them."""
    return NORM_GROUPS if op == FUSED else GROUPS


def resolve(op: str, names: list[str]) -> list[str]:
    """Return the contestants that `names` mean, each once, in their order.

    Raises:
        ValueError: a name is neither a contestant nor a group of them.
    """
    known, several = libraries(op), groups(op)
    resolved: list[str] = []
    for name in names:
        if name not in known and name not in several:
            raise ValueError(f"{name!r} is none of {', '.join([*known, *several])}")
        resolved += several.get(name, (name,))
    return list(dict.fromkeys(resolved))


def workload(options: Options, session: Session) -> Workload:
    """Allocate the buffers, and return what is to be measured on them."""
    return Norms(options, session) if options.op == FUSED else Collectives(options, session)
