"""Files: the ``cfg/`` of yolograft, the user's cache folder, atomic writes, locks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from yolograft.errors import refuse

_HERE = Path(__file__).resolve().parent
#: Inside the package in a wheel, beside modules/ in an editable install or a checkout.
CFG = _HERE / "cfg" if (_HERE / "cfg").is_dir() else _HERE.parents[1] / "cfg"

_DAY = 24 * 60 * 60


def cache(*parts: str) -> Path:
    """Return the user's cache folder for yolograft, or a place in it.

    Args:
        *parts: Names of folders and files.
    """
    from platformdirs import user_cache_path

    return user_cache_path("yolograft", appauthor=False).joinpath(*parts)


def write(file: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file atomically: a killed writer leaves the old file as it was.

    Args:
        file: File; its folder is made.
        content: Text, bytes, or a function that writes into the open stream.

    Raises:
        OSError: If it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if cache() in file.parents:
        _sweep(file.parent)
    writer = f"{os.getpid()}-{threading.get_ident()}@{socket.gethostname()}"
    part = file.with_name(f"{file.name[:150]}.{writer}.part")
    try:
        with part.open("wb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def keep(text: str, *parts: str) -> str:
    """Write a text into the user's cache folder, and return the path of the file.

    Args:
        text: Its content.
        *parts: Names of folders and file.

    Raises:
        ConfigError: If it cannot be written.
    """
    file = cache(*parts)
    try:
        write(file, text)
    except OSError as error:
        refuse(
            f"{file}: {error.strerror or error}",
            "set XDG_CACHE_HOME to a folder that can be written, or write the YAML yourself and "
            "give it as --data or --model",
        )
    return str(file)


def digest(text: str) -> str:
    """Return a few characters that stand for a text, for the name of its file."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _sweep(folder: Path) -> None:
    """Remove parts whose writer is gone: by its process on this machine, elsewhere by age."""
    import psutil

    here = socket.gethostname()
    for part in folder.glob("*.part"):
        found = re.search(r"\.(\d+)(?:-\d+@(.+))?\.part$", part.name)
        with contextlib.suppress(OSError):
            old = time.time() - part.stat().st_mtime > _DAY
            ours = found and found[2] in (None, here)
            if found and (old or (ours and not psutil.pid_exists(int(found[1])))):
                part.unlink()


@contextlib.contextmanager
def locked(file: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock for this process; the system releases it when the process ends.

    Args:
        file: The lock file; its folder is made.
        wait: Whether to wait for another process that holds it.

    Yields:
        Whether the lock is held. It is not where another process holds it and ``wait`` is false.

    Raises:
        OSError: If the lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
