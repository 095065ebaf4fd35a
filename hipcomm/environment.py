"""The settings of hipcomm, of the table ``hipcomm/abi/settings.def``: keyword, environment variable, default.

:class:`Identity` says which rank this process is, :class:`Settings` how the library shall behave. Both are
made once, at ``init``, of its keywords and of the environment; nothing reads the environment afterwards.
``python -m hipcomm.environment`` prints the table of ``docs/environment.md``.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hipcomm import _tables
from hipcomm._tables import ALGORITHMS, LAUNCHERS, MAX_RANKS, MAX_STAGING_BYTES, MAX_TIMEOUT_SECONDS, SETTINGS
from hipcomm._wire import MAX_WORLD
from hipcomm.errors import InvalidArgument

PLATFORMS = ("auto", *(name for name, _, _ in _tables.PLATFORMS))
LOG_LEVELS = ("warning", "info", "debug")
MAX_SECONDS = MAX_TIMEOUT_SECONDS  # so that every clock can count it; there is no "for ever"

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _text(value: str) -> str:
    return value


def _integer(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    def parse(value: str) -> int:
        # str.isdecimal refuses what int() would let pass: signs, blanks and underscores.
        if not (value.isascii() and value.isdecimal()) or int(value) < minimum:
            raise ValueError(f"not a whole number of at least {minimum}")
        if maximum is not None and int(value) > maximum:
            raise ValueError(f"more than {maximum}")
        return int(value)

    return parse


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"not a positive number of seconds up to {MAX_SECONDS:.0f}")
    return seconds


def _byte_count(value: str) -> int:
    digits = value.upper().removesuffix("IB").removesuffix("B")
    unit = digits[-1:] if digits[-1:] in "KMG" else ""
    digits = digits.removesuffix(unit)
    if not (digits.isascii() and digits.isdecimal()) or not digits.strip("0"):
        raise ValueError("not a positive number of bytes such as 33554432, 512K or 32M")
    if len(digits) > 20 or int(digits) * _UNITS[unit] > MAX_STAGING_BYTES:
        raise ValueError(f"more than {MAX_STAGING_BYTES >> 30}G")
    return int(digits) * _UNITS[unit]


def _switch(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError("neither 0 nor 1")
    return value == "1"


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"none of {', '.join(choices)}")
        return value

    return parse


def _token(value: str) -> str:
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise ValueError("not UTF-8") from None
    if len(encoded) > 128:
        raise ValueError("longer than 128 bytes")
    return value


def _endpoint(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")  # [::1]:4000
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError("not of the form host:port")
    return host, int(port)


class Variable(NamedTuple):
    """One row of the table.

    Attributes:
        keyword: its name as an argument of ``init``; None: it is not read by the Python package.
        name: the variable.
        types: what the keyword takes.
        default: what an unset or empty variable means, as one would write it; None where
            there is no default.
        values: which values are accepted, for people.
        meaning: one line, for people.
        parse: turns the variable's text into the value; raises ValueError with the reason.
        is_secret: the value is not to be shown.
    """

    keyword: str | None
    name: str
    types: tuple[type, ...]
    default: str | None
    values: str
    meaning: str
    parse: Callable[[str], Any]
    is_secret: bool = False

    def read(self, environ: Mapping[str, str], given: Mapping[str, Any] | None = None) -> Any:
        """The value: the keyword's if it is in *given* and not None, else the variable's in *environ*.

        Raises:
            InvalidArgument: naming keyword or variable, and the value.
        """
        value = (given or {}).get(self.keyword or "")
        name, text = (
            (self.name, environ.get(self.name) or self.default) if value is None else (self.keyword, "")
        )
        try:
            if value is not None:
                text = self._text_of(value)
            return None if text is None else self.parse(text)
        except ValueError as error:
            shown = "(hidden)" if self.is_secret else repr(text if value is None else value)
            raise InvalidArgument(f"{name}={shown}: {error}") from None

    def _text_of(self, value: Any) -> str:
        """What one would write into the variable for a keyword's *value*. Raises ValueError."""
        if isinstance(value, bool):
            if bool in self.types:
                return str(int(value))
        elif int in self.types and hasattr(value, "__index__"):  # NumPy's integers too
            return str(operator.index(value))
        elif isinstance(value, tuple) and tuple in self.types and len(value) == 2:
            return f"{value[0]}:{value[1]}"
        elif isinstance(value, self.types):
            return str(value)
        raise ValueError(f"not of type {' or '.join(kind.__name__ for kind in self.types)}")


class _Kind(NamedTuple):
    """What a setting takes; see :class:`Variable`."""

    types: tuple[type, ...]
    values: str
    parse: Callable[[str], Any]
    is_secret: bool = False
    is_keyword: bool = True


_KINDS = {
    "rank": _Kind((int,), "0 to world size - 1", _integer(0)),
    "world_size": _Kind((int,), f"1 to {MAX_RANKS}", _integer(1)),
    "local_rank": _Kind((int,), "0 or more", _integer(0)),
    "restart": _Kind((int,), "0 or more", _integer(0), is_keyword=False),
    "endpoint": _Kind((str, tuple), "host:port", _endpoint),
    "token": _Kind((str,), "1 to 128 bytes", _token, is_secret=True),
    "text": _Kind((str,), "any text", _text),
    "platform": _Kind((str,), ", ".join(PLATFORMS), _choice(*PLATFORMS)),
    "device": _Kind((int, str), "ordinal, PCI bus id or UUID", _text),
    "cpu_devices": _Kind((int,), "1 to 254", _integer(1, 254), is_keyword=False),
    "amd_software": _Kind((str,), "key=value, with commas between", _text, is_keyword=False),
    "seconds": _Kind((int, float), "seconds up to a million", _seconds),
    "algorithm": _Kind((str,), ", ".join(ALGORITHMS), _choice(*ALGORITHMS)),
    "bytes": _Kind((int, str), "bytes up to 64G; K, M, G for powers of 1024", _byte_count),
    "truth": _Kind((bool,), "0, 1 (False, True)", _switch),
    "log": _Kind((str,), ", ".join(LOG_LEVELS), _choice(*LOG_LEVELS)),
}


def _variable(keyword: str, name: str, kind: str, default: str, meaning: str) -> Variable:
    """A row of ``hipcomm/abi/settings.def``."""
    takes = _KINDS[kind]
    return Variable(
        keyword=keyword if takes.is_keyword else None,
        name=name,
        types=takes.types,
        default=default or None,
        values=takes.values,
        meaning=meaning,
        parse=takes.parse,
        is_secret=takes.is_secret,
    )


VARIABLES = tuple(_variable(*row) for row in SETTINGS)

_BY_NAME = {variable.name: variable for variable in VARIABLES}
_BY_KEYWORD = {variable.keyword: variable for variable in VARIABLES if variable.keyword}


def check_keywords(given: Mapping[str, Any], function: str, decided: tuple[str, ...] = ()) -> None:
    """See that all keywords are settings that *function* takes.

    Args:
        given: what was passed.
        function: for the message.
        decided: settings that it decides itself.

    Raises:
        InvalidArgument: one is not; the message has those that are.
    """
    accepted = [keyword for keyword in _BY_KEYWORD if keyword not in decided]
    for name in given:
        if name not in accepted:
            what = "is decided by it" if name in decided else "is no setting"
            raise InvalidArgument(f"{function}: {name} {what}; it takes {', '.join(accepted)}")


class Settings(NamedTuple):
    """How the library shall behave.

    Attributes:
        rendezvous: host and port of the server, or None: rank 0 hosts one.
        token: the job's secret; empty where rank 0 hosts the server, which makes one up.
        platform: one of ``PLATFORMS``.
        device: ordinal, PCI bus id or UUID as the user wrote it, or None: by local rank.
        cpu_devices: how many devices the CPU platform has.
        share_devices: whether several ranks may be on one device.
        timeout: how long a collective waits for a peer, in seconds.
        join_timeout: how long a rank waits for all to join, in seconds.
        algorithm: the algorithm that is forced, or "auto".
        staging_bytes: the size of the staging slab, in bytes; 0: the tuning row's.
        carrier: what carries bytes between nodes, as the user wrote it.
        check: whether ranks compare every call.
        log: one of ``LOG_LEVELS``.
        runtime_dir: the user's private run-time directory (XDG), or an empty text.
        first_epoch: where epochs begin; for tests.
        keywords: the settings that came from keywords.
    """

    rendezvous: tuple[str, int] | None = None
    token: str = ""
    platform: str = "auto"
    device: str | None = None
    cpu_devices: int = 16
    share_devices: bool = False
    timeout: float = 60.0
    join_timeout: float = 60.0
    algorithm: str = "auto"
    staging_bytes: int = 0
    carrier: str = "auto"
    check: bool = False
    log: str = "warning"
    runtime_dir: str = ""
    first_epoch: int = 0
    keywords: frozenset[str] = frozenset()

    @classmethod
    def read(
        cls, environ: Mapping[str, str] | None = None, given: Mapping[str, Any] | None = None
    ) -> Settings:
        """Read the settings from *given* keywords and from *environ* (by default the process's).

        Raises:
            InvalidArgument: naming keyword or variable, and the value.
        """
        env = os.environ if environ is None else environ
        values = {
            field: variable.read(env, given)
            for variable in VARIABLES
            if (field := variable.name.removeprefix("HIPCOMM_").lower()) in cls._fields
        }
        settings = cls(
            **{field: value for field, value in values.items() if value is not None},
            runtime_dir=env.get("XDG_RUNTIME_DIR", ""),
            keywords=frozenset(name for name, value in (given or {}).items() if value is not None),
        )
        if settings.rendezvous and not settings.token:
            raise InvalidArgument(
                f"{settings.name_of('token')}='': {settings.name_of('rendezvous')} is set, so it must be too"
            )
        return settings

    def name_of(self, keyword: str) -> str:
        """What the user calls a setting: the keyword if that was passed, else the variable."""
        return keyword if keyword in self.keywords else _BY_KEYWORD[keyword].name


class _Launcher(NamedTuple):
    """How one launcher tells a process who it is: names of variables, and what names the job."""

    name: str
    rank: str
    world_size: str
    local_rank: str
    local_size: str  # a variable with the number of ranks on this machine
    job: tuple[str, ...]  # the job's name is made of those of these that are set


_LAUNCHERS = tuple(_Launcher(*row[:5], tuple(row[5].split())) for row in LAUNCHERS)  # as they are asked

_KEYWORDS = _Launcher("keywords", "", "", "", "", ())


def _is_slurm_task(environ: Mapping[str, str]) -> bool:
    """Tell a task of srun from a batch script or a shell, which carry SLURM_PROCID=0 and a task count too."""
    step = environ.get("SLURM_STEP_ID", "")
    return step not in _tables.SLURM_SPECIAL_STEPS.split() and not (environ.get("SLURM_JOB_ID") and not step)


class Identity(NamedTuple):
    """Which rank this process is.

    Attributes:
        rank: 0 to world_size - 1.
        world_size: the number of ranks.
        local_rank: this process's number on its machine.
        source: whose variables said so; "keywords"; "alone" where there were none (a world of one).
        job_key: what tells this job apart from others of the same user; the same on all ranks.
        spans_nodes: whether the launcher says that there are several nodes; which rank is on which is not
            taken from it.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    source: str = "alone"
    job_key: str = ""
    spans_nodes: bool = False

    @classmethod
    def read(
        cls, environ: Mapping[str, str] | None = None, given: Mapping[str, Any] | None = None
    ) -> Identity:
        """Read the identity from *given* keywords and from *environ* (by default the process's).

        The launchers' variables are asked in this order: ours, torchrun's, Open MPI's, PMI's, Slurm's.

        Raises:
            InvalidArgument: naming keyword or variable, and the value.
        """
        env = os.environ if environ is None else environ
        said = {name: value for name, value in (given or {}).items() if value is not None}
        launcher = _launcher_of(env)
        if launcher is None:
            if not said.keys() & {"rank", "world_size"}:
                return cls(local_rank=_BY_KEYWORD["local_rank"].read({}, said) or 0)
            launcher = _KEYWORDS
        rank, rank_as_said = _number("rank", launcher.rank, 0, env, said)
        world_size, world_as_said = _number("world_size", launcher.world_size, 1, env, said)
        if rank is None or world_size is None:
            missing, present = (
                (rank_as_said, world_as_said) if rank is None else (world_as_said, rank_as_said)
            )
            raise InvalidArgument(f"{missing}: not set, but {present} is")
        local_size, _ = _number("", launcher.local_size, 1, env, {})
        spans_nodes = "world_size" not in said and (
            local_size not in (None, world_size) or (launcher.name == "Slurm" and _slurm_nodes(env) > 1)
        )
        most = MAX_WORLD if spans_nodes else MAX_RANKS
        if world_size > most:
            raise InvalidArgument(f"{world_as_said}: hipcomm joins {most} ranks at most")
        if rank >= world_size:
            raise InvalidArgument(f"{rank_as_said}: not below {world_as_said}")
        local_rank, _ = _number("local_rank", launcher.local_rank, 0, env, said)
        return cls(
            rank=rank,
            world_size=world_size,
            local_rank=rank if local_rank is None else local_rank,
            source=launcher.name,
            job_key=_job_key(launcher, env, said),
            spans_nodes=spans_nodes,
        )


def _slurm_nodes(env: Mapping[str, str]) -> int:
    """On how many nodes this step of Slurm's runs; where it does not say, its job."""
    name = "SLURM_STEP_NUM_NODES" if env.get("SLURM_STEP_NUM_NODES") else "SLURM_NNODES"
    return _number("", name, 1, env, {})[0] or 1


def _launcher_of(env: Mapping[str, str]) -> _Launcher | None:
    for launcher in _LAUNCHERS:
        if launcher.name == "Slurm" and not _is_slurm_task(env):
            continue
        if env.get(launcher.rank) or (launcher.name == "hipcomm" and env.get(launcher.world_size)):
            # the other variable may be the job's
            is_step = launcher.name == "Slurm" and env.get(_tables.SLURM_STEP_TASKS)
            return launcher._replace(world_size=_tables.SLURM_STEP_TASKS) if is_step else launcher
    return None


def _number(
    keyword: str, variable: str, minimum: int, env: Mapping[str, str], given: Mapping[str, Any]
) -> tuple[int | None, str]:
    """A number from a keyword or from a launcher's variable; and how it was said, for messages."""
    if keyword in given:
        return _BY_KEYWORD[keyword].read({}, given), f"{keyword}={given[keyword]!r}"
    if not variable:
        return None, f"{keyword}=None"
    row = Variable(None, variable, (int,), None, "", "", _integer(minimum))
    return row.read(env), f"{variable}={env.get(variable, '')!r}"


def _job_key(launcher: _Launcher, env: Mapping[str, str], given: Mapping[str, Any]) -> str:
    explicit: str | None = _BY_KEYWORD["job_id"].read(env, given)
    if explicit:
        return f"job={explicit}"
    parts = [f"{name}={env[name]}" for name in launcher.job if env.get(name)]
    # The process that starts all ranks of one machine is the parent of all of them.
    return " ".join(parts) or f"parent={os.getppid()}"


def markdown_table() -> str:
    """Return the table of ``docs/environment.md``."""
    lines = ["| keyword | variable | default | values | meaning |", "|---|---|---|---|---|"]
    for variable in VARIABLES:
        keyword = f"`{variable.keyword}`" if variable.keyword else ""
        default = "" if variable.default is None else f"`{variable.default}`"
        cells = (keyword, f"`{variable.name}`", default, variable.values, variable.meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown_table())
