"""Module names of rows: a block by name or alias, or a stage with a block inside."""

from __future__ import annotations

from yolograft import registry
from yolograft.blocks._row import Block
from yolograft.ultra import STAGES


def split(label: str) -> tuple[str, Block | None]:
    """Return stage (may be empty) and block of a row's module name.

    Args:
        label: As in a row: ``Conv``, ``CBAM``, ``C2f_SK``.
    """
    block = registry.find(label)
    stage, _, inner = label.partition("_")
    if block is None and inner and stage in STAGES:
        return stage, registry.find(inner)
    return "", block


def alone(label: str) -> Block | None:
    """Return the block that a row is of itself, ``None`` for a stock layer or a stage.

    Args:
        label: As in a row.
    """
    stage, block = split(label)
    return None if stage else block
