"""How ranks find the server without hipcomm-run: a file that rank 0 writes.

The file holds ``host port token`` and lies in a directory that only its user can enter. Its name is
made from the job's key, so that jobs side by side do not meet.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from hipcomm.errors import RendezvousError

LOCK_PATIENCE = 10.0  # seconds; another rank 0 holds the lock while it looks around and publishes
POLL_INTERVAL = 0.02  # seconds between two attempts to get it
SWEPT_FILES = 100  # of other jobs that are looked at, at most
PROBE_TIMEOUT = 0.2  # seconds for a connection on this machine


class Endpoint(NamedTuple):
    """Where the server is and what it wants to be shown."""

    host: str
    port: int
    token: str


def directory(runtime_dir: str) -> Path:
    """Return the user's private directory for endpoint files; make it if need be.

    Args:
        runtime_dir: ``$XDG_RUNTIME_DIR``, or an empty text; used where it is a directory of this user's:
            after su or sudo -E it is another one's.

    Raises:
        RendezvousError: the directory cannot be made, is not ours, or others can enter it.
    """
    uid = os.geteuid()
    private = Path(runtime_dir)
    has_private = bool(runtime_dir) and _is_own_directory(private, uid)
    path = private / "hipcomm" if has_private else Path(f"/tmp/hipcomm-{uid}")
    try:
        path.mkdir(0o700, exist_ok=True)
        # Another rank may have made it. Not stat(): a link may lead into another user's directory.
        info = path.lstat()
    except OSError as error:
        raise RendezvousError(f"cannot make the directory {path}: {error.strerror}") from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != uid or stat.S_IMODE(info.st_mode) & 0o077:
        raise RendezvousError(
            f"{path} is not a directory of mode 0700 owned by user {uid} "
            f"(owner {info.st_uid}, mode {stat.S_IMODE(info.st_mode):04o}): remove it or set XDG_RUNTIME_DIR"
        )
    return path


def _is_own_directory(path: Path, uid: int) -> bool:
    try:
        info = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == uid


def file_path(runtime_dir: str, job_key: str) -> Path:
    """Return the endpoint file of the job *job_key*. Raises RendezvousError as directory() does."""
    # Hashed, since a key holds whatever a launcher put there: slashes, any length.
    name = hashlib.sha256(job_key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return directory(runtime_dir) / name


def publish(path: Path, endpoint: Endpoint) -> None:
    """Put *endpoint* into the file *path* in one step, mode 0600. Raises RendezvousError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    line = f"{endpoint.host} {endpoint.port} {endpoint.token}\n".encode()
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError as error:
        raise RendezvousError(f"cannot write the endpoint file {path}: {error.strerror}") from error


def look_up(path: Path) -> Endpoint | None:
    """Read the endpoint in the file *path*; None while there is no such file or it makes no sense."""
    try:
        host, port, token = path.read_text(encoding="utf-8").split()
        return Endpoint(host, int(port), token)
    except (OSError, ValueError):
        return None


def withdraw(path: Path, endpoint: Endpoint) -> None:
    """Remove the file *path* if it still holds *endpoint* (a later server may have replaced it)."""
    if look_up(path) == endpoint:
        try:
            path.unlink()
        except OSError:
            return  # a stale file does no harm: a rank that reads it is refused and reads again


@contextmanager
def publishing(path: Path) -> Iterator[None]:
    """Keep other ranks 0 of this user from publishing meanwhile, so that each sees those before it."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + LOCK_PATIENCE
    try:
        while not _try_lock(descriptor) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
        yield
    finally:
        os.close(descriptor)  # and the lock with it


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sweep(path: Path) -> None:
    """Remove the files that killed processes have left around *path*, tokens in them. Within publishing()."""
    for other in sorted(path.parent.iterdir())[:SWEPT_FILES]:
        owner = other.suffix.removeprefix(".")  # of a file that was being written
        endpoint = look_up(other)
        is_dead = (
            not Path(f"/proc/{owner}").exists()
            if owner.isdecimal()
            else endpoint is not None and _is_refused(endpoint)
        )
        if is_dead:
            with suppress(OSError):
                other.unlink()


def _is_refused(endpoint: Endpoint) -> bool:
    try:
        socket.create_connection((endpoint.host, endpoint.port), PROBE_TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
