"""Hook of ``parse_model``: rows of blocks are built."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from yolograft import parser


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``parse_model`` that builds rows of blocks.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: The function of Ultralytics, which :mod:`yolograft.parser` calls.
    """

    def parse_model(d, ch, verbose=True):
        return parser.parse(d, ch, verbose)

    return parse_model
