"""Global Context."""

import torch
from torch import Tensor, nn

from ._row import Public, Row, load


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """Context by a batched product of two reshaped maps."""
    b, c, h, w = x.size()
    mask = block.mask(x).view(b, 1, h * w).softmax(2).unsqueeze(-1)
    context = torch.matmul(x.view(b, c, h * w).unsqueeze(1), mask)
    return x + block.add(context.view(b, c, 1, 1))


def _timm(cls: type, block: nn.Module) -> nn.Module:
    hidden, c = block.add[0].weight.shape[:2]
    module = cls(c, fuse_add=True, fuse_scale=False, rd_channels=hidden)
    module.mlp_add.norm.eps = block.add[1].eps
    return load(module, block)


def _mmcv(cls: type, block: nn.Module) -> nn.Module:
    hidden, c = block.add[0].weight.shape[:2]
    return load(cls(c, hidden / c), block)


ROWS = {
    "GlobalContext": Row(
        _naive,
        Public("timm.layers.GlobalContext", _timm),
        Public("mmcv.cnn.bricks.ContextBlock", _mmcv),
        floor=True,
    )
}
