"""Wrap ``entrypoint``, the ``yolo`` command: for an error of ours it prints the message alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

from yolograft.errors import ConfigError


def make(cfg: ModuleType, original: Callable) -> Callable:
    """Return an ``entrypoint`` that prints a :class:`ConfigError` as ``yolograft`` does.

    Args:
        cfg: ``ultralytics.cfg``.
        original: The function to wrap.
    """

    def entrypoint(*args, **kwargs):
        try:
            return original(*args, **kwargs)
        except ConfigError as error:
            if args or kwargs:  # called by a program
                raise
            sys.exit(f"yolograft: {error}")

    return entrypoint
