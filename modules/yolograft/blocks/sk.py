"""Selective Kernel convolution.

Paper: Li et al., "Selective Kernel Networks", CVPR 2019, https://arxiv.org/abs/1903.06586.
"""

from __future__ import annotations

from copy import deepcopy
from math import gcd

import torch
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._carry import Carried, alike, nothing, weight_and_norm
from yolograft.blocks._row import Block


class SKConv(nn.Module):
    """Convolutions of several kernel sizes, mixed per channel by a gate computed from all of them.

    Paper: Li et al., CVPR 2019, https://arxiv.org/abs/1903.06586, Eq. 1-6::

        U_i = act(BN(conv_i(x)))            kernels k, k+2, ...
        z   = ReLU(BN(W1 mean(sum_i U_i)))
        V   = sum_i softmax_i(W2_i z) * U_i

    The mean of a sum is the sum of means, so no summed map is ever stored.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel of the first branch, odd.
        s: Stride.
        branches: Number of branches, at least 2.
        groups: Groups of the branch convolutions. The paper uses 32, on wider layers than YOLO's.
        reduction: Hidden width of the gate is ``max(c2 // reduction, min_dim)``.
        min_dim: Smallest hidden width.
        dilated: Build kernel ``k + 2i`` as ``k`` at dilation ``i + 1``, as the paper does.
        act: Activation of the branches: ``True`` for SiLU, ``False`` or ``None`` for identity, or a
            module. The paper uses ReLU.

    Shape:
        - Input: ``(B, c1, H, W)``
        - Output: ``(B, c2, ceil(H / s), ceil(W / s))``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or ``groups`` does not divide the channels.

    Differs from the paper: for one image in training, the BatchNorm of the gate, which then sees a
    single value per channel, uses its running statistics.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        branches: int = 2,
        groups: int = 1,
        reduction: int = 16,
        min_dim: int = 32,
        dilated: bool = True,
        act: bool | nn.Module | None = True,
    ):
        super().__init__()
        _layers.check_int("SKConv", c1=c1, c2=c2, s=s, reduction=reduction, min_dim=min_dim)
        _layers.check_int("SKConv", 2, branches=branches)
        _layers.check_kernel("SKConv", k)
        _layers.check_groups("SKConv", groups, c1=c1, c2=c2)
        _layers.check_bool("SKConv", dilated=dilated)
        act = _layers.activation("SKConv", act)
        self.branches = nn.ModuleList(
            _layers.ConvNormAct(
                c1,
                c2,
                k if dilated else k + 2 * i,
                s,
                i + 1 if dilated else 1,
                groups,
                deepcopy(act),
            )
            for i in range(branches)
        )
        hidden = max(c2 // reduction, min_dim)
        self.squeeze = _layers.ConvNormAct(c2, hidden, 1, act=nn.ReLU(inplace=True))
        self.select = nn.Conv2d(hidden, branches * c2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed map."""
        maps = [branch(x) for branch in self.branches]
        pooled = sum(_layers.mean(m, 2, 3, keepdim=True) for m in maps)
        logits = self.select(self.squeeze(pooled)).chunk(len(maps), 1)
        weights = torch.stack(logits).softmax(0).type_as(maps[0])  # autocast softens in float32
        out = maps[0] * weights[0]
        for m, weight in zip(maps[1:], weights[1:], strict=True):
            out.addcmul_(m, weight)  # in place: no gradient needs the sum so far
        return out


class SKUnit(nn.Module):
    """Residual bottleneck of SKNet: 1x1, selective kernels, 1x1, beside a shortcut.

    Paper: Li et al., CVPR 2019, https://arxiv.org/abs/1903.06586, Sec. 3.2 and Table 1::

        y  = BN(W3 SK(ReLU(BN(W1 x))))      SK: 3x3 at dilations 1 and 2, ReLU inside
        x' = ReLU(y + shortcut(x))

    The shortcut is the identity where the shape stays, else a 1x1 convolution with the stride, and
    BatchNorm. The activation is ReLU whatever the config's is.

    Args:
        c1: Input channels.
        c2: Output channels.
        s: Stride.
        c_mid: Width of the selective kernels; ``None`` for ``c2 // 2``, as in SKNet.
        groups: Groups of the selective kernels; where they do not divide ``c_mid``, their greatest
            common divisor with it.
        reduction: Hidden width of the gate is ``max(c_mid // reduction, min_dim)``.
        min_dim: Smallest hidden width.

    Shape:
        - Input: ``(B, c1, H, W)``
        - Output: ``(B, c2, ceil(H / s), ceil(W / s))``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        s: int = 1,
        c_mid: int | None = None,
        groups: int = 32,
        reduction: int = 16,
        min_dim: int = 32,
    ):
        super().__init__()
        _layers.check_int("SKUnit", c1=c1, c2=c2, s=s, groups=groups)
        _layers.check_int("SKUnit", reduction=reduction, min_dim=min_dim)
        if c_mid is None:
            c_mid = max(c2 // 2, 1)
        _layers.check_int("SKUnit", c_mid=c_mid)
        self.enter = _layers.ConvNormAct(c1, c_mid, 1, act=nn.ReLU(inplace=True))
        self.sk = SKConv(
            c_mid,
            c_mid,
            s=s,
            groups=gcd(groups, c_mid),
            reduction=reduction,
            min_dim=min_dim,
            act=nn.ReLU(inplace=True),
        )
        self.leave = _layers.ConvNormAct(c_mid, c2, 1)
        same = s == 1 and c1 == c2
        self.shortcut = nn.Identity() if same else _layers.ConvNormAct(c1, c2, 1, s)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum."""
        out = self.leave(self.sk(self.enter(x)))
        out += self.shortcut(x)  # in place: nothing needs the summand for its gradient
        return out.relu_()


def _take_over(new: SKConv, old: nn.Module) -> Carried:
    """Give a convolution to the first branch; the block is another one all the same."""
    first = new.branches[0]
    if not alike(first.conv, old.conv, "stride", "padding", "dilation", "groups"):
        return nothing()
    carried = weight_and_norm(new, old, old.conv.weight.detach(), "branches.0.")
    carried.fresh = [""]
    return carried


BLOCKS = (
    Block(
        SKConv,
        role="conv",
        paper="1903.06586",
        aliases=("SK",),
        config="yolov8-sk.yaml",
        take_over=_take_over,
    ),
    Block(SKUnit, role="conv", paper="1903.06586", config="sknet50-cls.yaml"),
)
