"""Space-to-depth down-sampling.

Paper: Sunkara and Luo, "No More Strided Convolutions or Pooling", ECML PKDD 2022,
https://arxiv.org/abs/2208.03641.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._carry import Carried, dense, nothing, weight_and_norm
from yolograft.blocks._row import Block


class SpaceToDepth(nn.Module):
    """Move every 2x2 patch of pixels into the channels: half the size, four times the channels.

    Paper: Sunkara and Luo, https://arxiv.org/abs/2208.03641, Sec. 3.1. The four phases stand one
    after another, each with all channels, in the order (row, column) = (0, 0), (1, 0), (0, 1),
    (1, 1); ``nn.PixelUnshuffle`` interleaves them instead. Odd sizes are zero-padded at the bottom
    and right, as a stride-2 convolution sees them.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, 4C, ceil(H / 2), ceil(W / 2))``
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the stacked phases."""
        h, w = x.shape[2:]
        if _layers.captured() or h % 2 or w % 2:
            # In a graph without a branch, by the remainder: right for every size.
            x = F.pad(x, (0, w % 2, 0, h % 2))
        sliced = torch.jit.is_tracing() or not (torch.compiler.is_compiling() or x.is_contiguous())
        if not sliced:
            # One copy, backwards too. Slices add up four of them there, but every export format
            # knows them, and they keep the channels-last order.
            b, c, h, w = x.shape
            x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 5, 3, 1, 2, 4)
            return x.reshape(b, 4 * c, h // 2, w // 2)
        top, bottom = x[:, :, ::2], x[:, :, 1::2]
        return torch.cat(
            (top[..., ::2], bottom[..., ::2], top[..., 1::2], bottom[..., 1::2]), dim=1
        )


class SPDConv(nn.Module):
    """Space-to-depth, then a stride-1 convolution: down-sampling that drops no pixel.

    Paper: Sunkara and Luo, https://arxiv.org/abs/2208.03641, Sec. 3::

        y = act(BN(conv_k([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]])))

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel of the convolution, odd.
        act: Activation: ``True`` for SiLU, ``False`` or ``None`` for identity, or a module.

    Shape:
        - Input: ``(B, c1, H, W)``
        - Output: ``(B, c2, ceil(H / 2), ceil(W / 2))``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a width is below 1 or ``k`` is not odd.

    Differs from the authors' YOLOv5 config, which puts a 3x3 convolution before the space-to-depth
    layer: this is the module of the paper. For theirs, write the rows ``Conv [c, 3, 1]`` and
    ``SpaceToDepth []``.
    """

    def __init__(self, c1: int, c2: int, k: int = 3, act: bool | nn.Module | None = True):
        super().__init__()
        _layers.check_int("SPDConv", c1=c1, c2=c2)
        _layers.check_kernel("SPDConv", k)
        self.spd = SpaceToDepth()
        self.conv = _layers.ConvNormAct(4 * c1, c2, k, act=_layers.activation("SPDConv", act))

    def forward(self, x: Tensor) -> Tensor:
        """Return the down-sampled map."""
        return self.conv(self.spd(x))


def _take_over(new: SPDConv, old: nn.Module) -> Carried:
    """Return the weights with which the block is a convolution at stride 2.

    Tap t of its kernel reads pixel ``2p + t - pad``, which after space-to-depth is phase
    ``(t - pad) mod 2`` of position ``p + floor((t - pad) / 2)``.
    """
    conv, size = old.conv, new.conv.conv.kernel_size[0]
    (k, _), (pad, _) = conv.kernel_size, conv.padding
    square = len({*conv.kernel_size}) == len({*conv.padding}) == 1 and conv.bias is None
    plain = conv.stride == (2, 2) and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    reach = [((t - pad) // 2 + size // 2, (t - pad) % 2) for t in range(k)]  # where, phase
    halves = k - 2 * pad in (1, 2)
    if not (square and plain and halves and all(0 <= at < size for at, _ in reach)):
        return nothing()
    full = dense(conv)
    c2, c1 = full.shape[:2]
    weight = full.new_zeros(c2, 4 * c1, size, size)
    for row, (y, dy) in enumerate(reach):
        for col, (x, dx) in enumerate(reach):
            phase = c1 * (dy + 2 * dx)
            weight[:, phase : phase + c1, y, x] = full[:, :, row, col]
    return weight_and_norm(new, old, weight, "conv.").counted(new.conv, old)


BLOCKS = (
    Block(
        SPDConv,
        role="down",
        paper="2208.03641",
        aliases=("SPD",),
        config="yolov8-spd.yaml",
        take_over=_take_over,
        drifts="beside the weights of the convolution stand three times as many zeros, and an "
        "optimizer that gives all weights steps of one size moves them as far",
    ),
    Block(SpaceToDepth, role="widen", paper="2208.03641"),
)
