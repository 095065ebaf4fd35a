"""The environment: every variable that counts, where its value comes from, and settings known to be bad."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from hipcomm.environment import VARIABLES, Identity
from hipcomm.errors import InvalidArgument

from .findings import Problem, Section

_SECRET = "HIPCOMM_TOKEN"

_FOR_THE_BUILD = ("HIPCOMM_ARCHS",)

# Not ours, but they decide what HIP finds and how it shares memory.
_FOREIGN = (
    "ROCM_PATH",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "HSA_ENABLE_IPC_MODE_LEGACY",
)


def examine(environ: Mapping[str, str]) -> Section:
    """Look at the variables of a process that would use hipcomm with *environ*."""
    facts, problems = [], []
    for variable in VARIABLES:
        text = environ.get(variable.name)
        if text:
            shown = "(hidden)" if variable.name == _SECRET else text
            facts.append(f"{variable.name}={shown} (set)")
        elif variable.default is not None:
            facts.append(f"{variable.name}={variable.default} (default)")
        try:
            variable.read(environ)
        except InvalidArgument as error:
            problems.append(Problem(str(error), f"{variable.name} takes {variable.values}"))
    facts += [f"{name}={environ[name]} (set; not hipcomm's own)" for name in _FOREIGN if environ.get(name)]
    problems += _unknown(environ) + _known_to_be_bad(environ)
    try:
        identity = Identity.read(environ)
        facts.append(f"rank {identity.rank} of {identity.world_size} (launcher: {identity.source})")
    except InvalidArgument as error:
        problems.append(Problem(str(error), "unset what another launcher has left behind"))
    return Section("environment", facts, problems)


def _unknown(environ: Mapping[str, str]) -> list[Problem]:
    known = [variable.name for variable in VARIABLES]
    problems = []
    for name in sorted(environ):
        if name.startswith("HIPCOMM_") and name not in known and name not in _FOR_THE_BUILD:
            similar = difflib.get_close_matches(name, known, 1, cutoff=0.8)
            fix = f"did you mean {similar[0]}?" if similar else "docs/environment.md has all variables"
            problems.append(Problem(f"{name} is no variable of hipcomm", fix))
    return problems


def _known_to_be_bad(environ: Mapping[str, str]) -> list[Problem]:
    problems = []
    if environ.get("HSA_ENABLE_IPC_MODE_LEGACY") == "1":
        what = "HSA_ENABLE_IPC_MODE_LEGACY=1: ROCm then refuses to share uncached memory between processes"
        problems.append(Problem(what, "unset it (some container images set it)"))
    return problems
