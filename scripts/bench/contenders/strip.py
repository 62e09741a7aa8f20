"""Strip Pooling, and the Mixed Pooling Module of the same paper."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Row, unit


def _naive_strip(block: nn.Module, x: Tensor) -> Tensor:
    """Pooled strips, resized to the whole map before they are added."""
    size = x.shape[2:]
    rows = F.interpolate(unit(block.rows, F.adaptive_avg_pool2d(x, (None, 1))), size)
    cols = F.interpolate(unit(block.cols, F.adaptive_avg_pool2d(x, (1, None))), size)
    return x * block.mix(F.relu(rows + cols)).sigmoid()


def _naive_mixed(block: nn.Module, x: Tensor) -> Tensor:
    """Adaptive pooling and ``interpolate``, path by path."""

    def path(layer: nn.Module, y: Tensor, size: int | tuple[int | None, int | None]) -> Tensor:
        y = unit(layer, F.adaptive_avg_pool2d(y, size))
        return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)

    x1, x2 = unit(block.short_in, x), unit(block.long_in, x)
    windows = zip(block.windows, block.sizes, strict=True)
    short = [unit(block.short, x1), *(path(window, x1, size) for window, size in windows)]
    x1 = unit(block.short_out, F.relu(sum(short)))
    cols, rows = path(block.cols, x2, (1, None)), path(block.rows, x2, (None, 1))
    x2 = unit(block.long_out, F.relu(rows + cols))
    return F.relu(x + unit(block.mix, torch.cat([x1, x2], dim=1)))


ROWS = {"StripPooling": Row(_naive_strip, floor=True), "MixedPooling": Row(_naive_mixed)}
