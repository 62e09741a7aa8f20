"""Spatial Transformers."""

from copy import deepcopy

import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Row, unit


class _Naive(nn.Module):
    """Localisation by modules, then ``affine_grid`` and ``grid_sample``."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.localisation = nn.Sequential(
            *(unit(layer) for layer in block.localisation), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.fc = nn.Sequential(deepcopy(block.hidden), nn.ReLU(True), deepcopy(block.affine))

    def forward(self, x: Tensor) -> Tensor:
        theta = self.fc(self.localisation(x)).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


ROWS = {"STN": Row(_Naive)}
