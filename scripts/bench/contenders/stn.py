"""Spatial Transformers."""

import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Row, unit


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """Localisation layer by layer, then ``affine_grid`` and ``grid_sample``."""
    y = x
    for layer in block.localisation:
        y = unit(layer, y)
    y = F.relu(block.hidden(F.adaptive_avg_pool2d(y, 1).flatten(1)), inplace=True)
    grid = F.affine_grid(block.affine(y).view(-1, 2, 3), x.size(), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


ROWS = {"STN": Row(_naive)}
