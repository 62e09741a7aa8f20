"""Wrap ``check_file`` where data YAMLs are looked up: find the pack's own by bare name."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType

from yolograft.host.configs import CFG


def make(utils: ModuleType, original: Callable) -> Callable:
    """Return a ``check_file`` that looks into the pack's ``cfg/data`` last.

    Args:
        utils: ``ultralytics.data.utils``.
        original: The function to wrap.
    """

    def check_file(file, *args, **kwargs):
        name = str(file)
        ours = CFG / "data" / name
        if not os.path.dirname(name) and not os.path.exists(name) and ours.is_file():
            return str(ours)
        return original(file, *args, **kwargs)

    return check_file
