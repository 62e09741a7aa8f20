"""Wrap ``check_yaml``, by which Ultralytics looks up the file of ``cfg=``."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType


def make(checks: ModuleType, original: Callable) -> Callable:
    """Return a ``check_yaml`` that looks into the pack's ``cfg/settings`` too.

    Args:
        checks: ``ultralytics.utils.checks``.
        original: The function to wrap.
    """

    def check_yaml(file, *args, **kwargs):
        from yolograft.files import CFG

        ours = CFG / "settings" / str(file)
        if os.path.dirname(str(file)) or os.path.exists(str(file)) or not ours.is_file():
            return original(file, *args, **kwargs)
        return str(ours)

    return check_yaml
