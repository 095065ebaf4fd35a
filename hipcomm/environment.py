"""Every environment variable that hipcomm reads, in one table, and the two things read from it.

:class:`Identity` says which rank this process is, :class:`Settings` how the library shall behave.
Both are read from a mapping once, at ``init``; nothing reads the environment afterwards.
``python -m hipcomm.environment`` prints the table as it stands in ``docs/environment.md``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hipcomm.errors import InvalidArgument

PLATFORMS = ("auto", "amd", "nvidia", "cpu")
ALGORITHMS = ("auto", "one_shot", "two_shot", "staged", "pipelined", "direct")
LOG_LEVELS = ("warning", "info", "debug")
MAX_WORLD_SIZE = 16
MAX_SECONDS = 1e6  # so that every clock can count it; "for ever" is not to be had
MAX_STAGING_BYTES = 64 << 30

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


def _endpoint(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")  # [::1]:4000
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError("not of the form host:port")
    return host, int(port)


class Variable(NamedTuple):
    """One row of the table.

    Attributes:
        name: the variable.
        default: what an unset or empty variable stands for, as one would write it; None where
            there is no default.
        values: which values are accepted, for people.
        meaning: one line, for people.
        parse: turns the text into the value; raises ValueError with the reason.
    """

    name: str
    default: str | None
    values: str
    meaning: str
    parse: Callable[[str], Any]

    def read(self, environ: Mapping[str, str]) -> Any:
        """Return the variable's value in *environ*. Raises InvalidArgument naming variable and value."""
        text = environ.get(self.name) or self.default
        if text is None:
            return None
        try:
            return self.parse(text)
        except ValueError as error:
            raise InvalidArgument(f"{self.name}={text!r}: {error}") from None


VARIABLES = (
    Variable("HIPCOMM_RANK", None, "0 to world size - 1", "This process's rank.", _integer(0)),
    Variable("HIPCOMM_WORLD_SIZE", None, f"1 to {MAX_WORLD_SIZE}", "The number of ranks.", _integer(1)),
    Variable(
        "HIPCOMM_LOCAL_RANK",
        None,
        "0 or more",
        "This process's number on its machine; by default its rank.",
        _integer(0),
    ),
    Variable(
        "HIPCOMM_RENDEZVOUS",
        None,
        "host:port",
        "The rendezvous server. Unset: rank 0 hosts one and tells the others through a file.",
        _endpoint,
    ),
    Variable("HIPCOMM_TOKEN", None, "1 to 128 bytes", "The job's secret, shown to the server.", _text),
    Variable(
        "HIPCOMM_JOB_ID",
        None,
        "any text",
        "Tells jobs apart that run side by side without `hipcomm-run`.",
        _text,
    ),
    Variable(
        "HIPCOMM_PLATFORM",
        "auto",
        ", ".join(PLATFORMS),
        "Where to run; `auto` takes the first of amd, nvidia, cpu that has a device.",
        _choice(*PLATFORMS),
    ),
    Variable(
        "HIPCOMM_DEVICE",
        None,
        "ordinal, PCI bus id or UUID",
        "This rank's device; by default its local rank.",
        _text,
    ),
    Variable(
        "HIPCOMM_CPU_DEVICES", "16", "1 to 254", "How many devices the CPU platform has.", _integer(1, 254)
    ),
    Variable(
        "HIPCOMM_TIMEOUT",
        "60",
        "seconds up to a million",
        "How long a collective waits for a peer.",
        _seconds,
    ),
    Variable(
        "HIPCOMM_JOIN_TIMEOUT",
        "60",
        "seconds up to a million",
        "How long a rank waits for all to join.",
        _seconds,
    ),
    Variable(
        "HIPCOMM_ALGORITHM",
        "auto",
        ", ".join(ALGORITHMS),
        "Forces one algorithm, for tests and for the curious; the same on all ranks.",
        _choice(*ALGORITHMS),
    ),
    Variable(
        "HIPCOMM_STAGING_BYTES",
        None,
        "bytes up to 64G; K, M, G for powers of 1024",
        "Device memory for staging, the same on all ranks; by default what suits the architecture.",
        _byte_count,
    ),
    Variable(
        "HIPCOMM_SHARE_DEVICES",
        "0",
        "0, 1",
        "1: ranks may share a device, to try a program with more ranks than devices; slow on GPUs.",
        _switch,
    ),
    Variable("HIPCOMM_CHECK", "0", "0, 1", "1: ranks compare every call; a mismatch is an error.", _switch),
    Variable("HIPCOMM_LOG", "warning", ", ".join(LOG_LEVELS), "How much is logged.", _choice(*LOG_LEVELS)),
)

_BY_NAME = {variable.name: variable for variable in VARIABLES}


def _read(name: str, environ: Mapping[str, str]) -> Any:
    return _BY_NAME[name].read(environ)


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
        algorithm: one of ``ALGORITHMS``.
        staging_bytes: the size of the staging slab, in bytes; 0: the tuning row's.
        check: whether ranks compare every call.
        log: one of ``LOG_LEVELS``.
        runtime_dir: the user's private run-time directory (XDG), or an empty text.
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
    check: bool = False
    log: str = "warning"
    runtime_dir: str = ""

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from *environ* (by default the process's). Raises InvalidArgument."""
        env = os.environ if environ is None else environ
        settings = cls(
            rendezvous=_read("HIPCOMM_RENDEZVOUS", env),
            token=_read("HIPCOMM_TOKEN", env) or "",
            platform=_read("HIPCOMM_PLATFORM", env),
            device=_read("HIPCOMM_DEVICE", env),
            cpu_devices=_read("HIPCOMM_CPU_DEVICES", env),
            share_devices=_read("HIPCOMM_SHARE_DEVICES", env),
            timeout=_read("HIPCOMM_TIMEOUT", env),
            join_timeout=_read("HIPCOMM_JOIN_TIMEOUT", env),
            algorithm=_read("HIPCOMM_ALGORITHM", env),
            staging_bytes=_read("HIPCOMM_STAGING_BYTES", env) or 0,
            check=_read("HIPCOMM_CHECK", env),
            log=_read("HIPCOMM_LOG", env),
            runtime_dir=env.get("XDG_RUNTIME_DIR", ""),
        )
        try:
            token = settings.token.encode()
        except UnicodeEncodeError:
            raise InvalidArgument("HIPCOMM_TOKEN=(hidden): not UTF-8") from None
        if len(token) > 128:
            raise InvalidArgument("HIPCOMM_TOKEN=(hidden): longer than 128 bytes")
        if settings.rendezvous and not settings.token:
            raise InvalidArgument("HIPCOMM_TOKEN='': HIPCOMM_RENDEZVOUS is set, so it must be too")
        return settings


class _Launcher(NamedTuple):
    """How one launcher tells a process who it is: names of variables, and what names the job."""

    name: str
    rank: str
    world_size: str
    local_rank: str
    local_size: str  # a variable with the number of ranks on this machine
    job: tuple[str, ...]  # the job's name is made of those of these that are set


# In the order in which they are asked. Under hipcomm-run the other launchers' variables may be there
# as well (a job step that calls hipcomm-run); ours come first because ours are the innermost.
_LAUNCHERS = (
    _Launcher("hipcomm", "HIPCOMM_RANK", "HIPCOMM_WORLD_SIZE", "HIPCOMM_LOCAL_RANK", "", ()),
    _Launcher(
        "torchrun",
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
    ),
    _Launcher(
        "Open MPI",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"),
    ),
    _Launcher("PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", ()),
    _Launcher(
        "Slurm",
        "SLURM_PROCID",
        "SLURM_NTASKS",
        "SLURM_LOCALID",
        "",
        ("SLURM_JOB_ID", "SLURM_STEP_ID"),
    ),
)


def _is_slurm_batch_script(environ: Mapping[str, str]) -> bool:
    """Tell a batch script, which carries SLURM_PROCID=0 and the task count as well, from a task."""
    return bool(environ.get("SLURM_JOB_ID")) and not environ.get("SLURM_STEP_ID")


class Identity(NamedTuple):
    """Which rank this process is.

    Attributes:
        rank: 0 to world_size - 1.
        world_size: the number of ranks.
        local_rank: this process's number on its machine.
        source: whose variables said so; "alone" where there were none (a world of one).
        job_key: what tells this job apart from others of the same user; the same on all ranks.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    source: str = "alone"
    job_key: str = ""

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Identity:
        """Read the identity from *environ* (by default the process's).

        The launchers' variables are asked in this order: ours, torchrun's, Open MPI's, PMI's,
        Slurm's. Raises InvalidArgument naming variable and value.
        """
        env = os.environ if environ is None else environ
        for launcher in _LAUNCHERS:
            if launcher.name == "Slurm" and _is_slurm_batch_script(env):
                continue
            if env.get(launcher.rank) or (launcher.name == "hipcomm" and env.get(launcher.world_size)):
                return cls._of_launcher(launcher, env)
        return cls()

    @classmethod
    def _of_launcher(cls, launcher: _Launcher, env: Mapping[str, str]) -> Identity:
        rank = _required(launcher.rank, 0, env, launcher.world_size)
        world_size = _required(launcher.world_size, 1, env, launcher.rank)
        if world_size > MAX_WORLD_SIZE:
            raise InvalidArgument(
                f"{launcher.world_size}='{world_size}': hipcomm joins {MAX_WORLD_SIZE} ranks at most"
            )
        if rank >= world_size:
            raise InvalidArgument(f"{launcher.rank}='{rank}': not below {launcher.world_size}='{world_size}'")
        local_rank = _optional(launcher.local_rank, 0, env)
        local_size = _optional(launcher.local_size, 1, env)
        if local_size is not None and local_size != world_size:
            raise InvalidArgument(
                f"{launcher.world_size}='{world_size}' but {launcher.local_size}='{local_size}': "
                "hipcomm joins the ranks of one machine only"
            )
        return cls(
            rank=rank,
            world_size=world_size,
            local_rank=rank if local_rank is None else local_rank,
            source=launcher.name,
            job_key=_job_key(launcher, env),
        )


def _optional(name: str, minimum: int, env: Mapping[str, str]) -> int | None:
    return Variable(name, None, "", "", _integer(minimum)).read(env) if name else None


def _required(name: str, minimum: int, env: Mapping[str, str], because: str) -> int:
    value = _optional(name, minimum, env)
    if value is None:
        raise InvalidArgument(f"{name}='': not set, but {because}={env[because]!r} is")
    return value


def _job_key(launcher: _Launcher, env: Mapping[str, str]) -> str:
    explicit: str | None = _read("HIPCOMM_JOB_ID", env)
    if explicit:
        return f"job={explicit}"
    parts = [f"{name}={env[name]}" for name in launcher.job if env.get(name)]
    # Whoever starts all ranks of one machine is the parent of all of them.
    return " ".join(parts) or f"parent={os.getppid()}"


def markdown_table() -> str:
    """Return the table of ``docs/environment.md``."""
    lines = ["| variable | default | values | meaning |", "|---|---|---|---|"]
    for variable in VARIABLES:
        default = "" if variable.default is None else f"`{variable.default}`"
        lines.append(f"| `{variable.name}` | {default} | {variable.values} | {variable.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown_table())
