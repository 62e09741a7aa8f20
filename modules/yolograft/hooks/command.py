"""Wrap ``entrypoint``, the ``yolo`` command: it ends with the message of a refusal alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

from yolograft.errors import ConfigError


def make(cfg: ModuleType, original: Callable) -> Callable:
    """Return an ``entrypoint`` that prints a refusal of the pack's as ``yolograft`` does.

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
