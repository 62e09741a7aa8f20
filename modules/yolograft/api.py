"""The public functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolograft.graft.make import graft

if TYPE_CHECKING:
    from torch import nn


def patch(
    base: str | Path | dict, recipe: str | dict | list, warm: str | None = None
) -> dict | nn.Module:
    """Return a model config, or a trained model, with blocks grafted in.

    Args:
        base: A model YAML by name or path, ``yolo11s.yaml`` as the host understands it, or what
            one holds; or the path of a checkpoint, ``best.pt``.
        recipe: A recipe by name or path, several as in ``"sk,cbam"``, a mapping as a recipe file
            holds it, or a list of these.
        warm: ``"exact"`` does what ``warm: exact`` in the recipes does.

    Returns:
        The config, which the host's model classes take as it is. Its key ``graft`` tells where each
        row came from. For a checkpoint, the host's model with all weights that can be carried.

    Raises:
        ConfigError: If the base is no model, a recipe is wrong, or it does not fit the base.

    Example:
        >>> model = DetectionModel(yolograft.patch("yolo11s.yaml", "cbam"))
        >>> model = yolograft.patch("best.pt", "cbam", warm="exact")
    """
    if str(base).endswith(".pt"):
        from ultralytics.utils import LOGGER

        from yolograft.warm import checkpoint

        patched = checkpoint.patch(str(base), recipe, warm)
        LOGGER.info(str(patched.report))
        return patched.model
    return graft(base, recipe, warm).config
