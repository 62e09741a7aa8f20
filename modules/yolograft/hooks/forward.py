"""Hook of ``BaseModel.forward``: a block that fails is reported with its row.

Ultralytics runs a model for the first time while it builds it, to find its strides.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch

from yolograft import failures
from yolograft.errors import ConfigError


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``forward`` that reports which row of a block an exception comes from.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: ``BaseModel.forward``.
    """

    def forward(self, x, *args, **kwargs):
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return original(self, x, *args, **kwargs)
        try:
            return original(self, x, *args, **kwargs)
        except Exception as error:
            if isinstance(error, ConfigError) or failures.is_memory(error):
                raise
            fact = failures.find(self, lambda: original(self, x, *args, **kwargs))
            if not fact:
                raise
        raise ConfigError(fact)

    return forward
