"""Hook of ``yaml_model_load``: the pack's model YAMLs are found, and names graft."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``yaml_model_load`` that also knows the pack's files, and grafts by name.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: The function of Ultralytics, which :mod:`yolograft.graft.make` calls.
    """

    def yaml_model_load(path):
        from yolograft.graft.make import load

        return load(str(path))

    return yaml_model_load
