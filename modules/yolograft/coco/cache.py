"""Arrays in the user's cache folder; where it cannot be written, nothing is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from yolograft import files


@contextlib.contextmanager
def entry(name: str) -> Iterator[Path]:
    """Hold the lock of an entry, so that several processes make it once.

    Args:
        name: Name of the entry.

    Yields:
        Its file, for :func:`load` and :func:`save`.
    """
    file = files.cache("coco", f"{name}.npz")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a read-only home
            stack.enter_context(files.locked(Path(f"{file}.lock")))
        yield file


def load(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an entry by name, none where it is missing or damaged.

    Args:
        file: From :func:`entry`.
    """
    try:
        with np.load(file, allow_pickle=False) as held:
            return dict(held)
    except Exception:  # whatever a damaged file raises
        return {}


def save(file: Path, **arrays: np.ndarray) -> None:
    """Write the arrays of an entry.

    Args:
        file: From :func:`entry`.
        **arrays: Arrays by name.
    """
    with contextlib.suppress(OSError):
        files.write(file, lambda stream: np.savez(stream, **arrays))
