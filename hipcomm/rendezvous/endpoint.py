"""How ranks find the server where no launcher of ours tells them: a file that rank 0 writes.

The file holds ``host port token`` and lies in a directory that only its user can enter. Its name is
made from the job's key, so that jobs side by side do not meet.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import NamedTuple

from hipcomm.errors import RendezvousError


class Endpoint(NamedTuple):
    """Where the server is and what it wants to be shown."""

    host: str
    port: int
    token: str


def directory(runtime_dir: str) -> str:
    """The user's private directory for endpoint files, made if need be.

    Args:
        runtime_dir: ``$XDG_RUNTIME_DIR``, or an empty text; used where it is a directory.

    Raises:
        RendezvousError: the directory cannot be made, is not ours, or others can enter it.
    """
    uid = os.geteuid()
    if os.path.isdir(runtime_dir):
        path = os.path.join(runtime_dir, "hipcomm")
    else:
        path = f"/tmp/hipcomm-{uid}"  # anybody may have made it: owner and mode are checked below
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # made earlier, by us if the check below passes
    except OSError as error:
        raise RendezvousError(f"cannot make the directory {path}: {error.strerror}") from error
    try:
        info = os.lstat(path)  # not stat(): a link would lead into somebody else's directory
    except OSError as error:
        raise RendezvousError(f"cannot look at the directory {path}: {error.strerror}") from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != uid or stat.S_IMODE(info.st_mode) & 0o077:
        raise RendezvousError(
            f"{path} is not a directory of mode 0700 owned by user {uid} "
            f"(owner {info.st_uid}, mode {stat.S_IMODE(info.st_mode):04o}): remove it or set XDG_RUNTIME_DIR"
        )
    return path


def file_path(runtime_dir: str, job_key: str) -> str:
    """The endpoint file of the job named *job_key*. Raises RendezvousError as directory() does."""
    # Hashed, since a key holds whatever a launcher put there: slashes, any length.
    name = hashlib.sha256(job_key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return os.path.join(directory(runtime_dir), name)


def publish(path: str, endpoint: Endpoint) -> None:
    """Puts *endpoint* into the file *path* in one step, mode 0600. Raises RendezvousError."""
    temporary = f"{path}.{os.getpid()}"
    line = f"{endpoint.host} {endpoint.port} {endpoint.token}\n".encode()
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError as error:
        raise RendezvousError(f"cannot write the endpoint file {path}: {error.strerror}") from error


def look_up(path: str) -> Endpoint | None:
    """The endpoint in the file *path*, or None while there is no such file or it makes no sense."""
    try:
        with open(path, encoding="utf-8") as file:
            host, port, token = file.read(1024).split()
        return Endpoint(host, int(port), token)
    except (OSError, ValueError):
        return None


def withdraw(path: str, endpoint: Endpoint) -> None:
    """Removes the file *path* if it still holds *endpoint* (a later server may have replaced it)."""
    if look_up(path) == endpoint:
        try:
            os.unlink(path)
        except OSError:
            return  # a stale file does no harm: whoever reads it is refused and reads again
