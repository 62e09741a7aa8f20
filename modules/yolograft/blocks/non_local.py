"""Non-local block.

Paper: Wang et al., "Non-local Neural Networks", CVPR 2018, https://arxiv.org/abs/1711.07971.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block, NoGradient


class NonLocal(nn.Module):
    """Add to each position what it gathers from all positions, weighted by likeness.

    Paper: Wang et al., CVPR 2018, https://arxiv.org/abs/1711.07971, Eq. 1, 3 and 6, the embedded
    Gaussian::

        y = softmax(theta(x)^T phi(x)) g(x)         theta, phi, g: 1x1 convolutions
        z = x + BN(W y)

    The matrix of all pairs of positions is never stored, neither forwards nor backwards, so memory
    grows with the number of positions; time grows with its square.

    Args:
        c: Input and output channels.
        reduction: Width of the attention is ``c // reduction``.
        scaled: Divide the logits by the square root of that width.
        subsample: Max-pool keys and values 2x2, for a quarter of the work (Sec. 3.3).
        norm: Whether BatchNorm follows the last convolution. It starts at zero, and without it
            that convolution does, so that a new block is the identity.

    Shape:
        - Input, output: ``(B, c, H, W)``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is below 1, or ``reduction`` is larger than ``c``.

    Differs from the paper: keys and values are pooled after their convolutions, not before; maps of
    one row or column, which have no 2x2 window, are pooled along the other. In training, the
    BatchNorm of a single image of a single position uses its running statistics. In exported
    graphs the matrix of all pairs is stored, unless the runtime fuses it.
    """

    def __init__(
        self,
        c: int,
        reduction: int = 2,
        scaled: bool = False,
        subsample: bool = False,
        norm: bool = True,
    ):
        super().__init__()
        _layers.check_int("NonLocal", c=c, reduction=reduction)
        _layers.check_bool("NonLocal", scaled=scaled, subsample=subsample, norm=norm)
        inter = c // reduction
        if inter < 1:
            msg = (
                f"NonLocal: reduction={reduction} leaves no channel of c={c}\n\n"
                f"Hint: use {c} or less"
            )
            raise ValueError(msg)
        self.theta = nn.Conv2d(c, inter, 1)
        self.phi = nn.Conv2d(c, inter, 1)
        self.g = nn.Conv2d(c, inter, 1)
        self.out = _layers.ConvNormAct(inter, c, 1, bias=True) if norm else nn.Conv2d(inter, c, 1)
        last = self.out.bn if norm else self.out
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.scale = inter**-0.5 if scaled else 1.0
        self.subsample = subsample

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with what each position gathered."""
        b, _, h, w = x.shape
        layers = (self.theta, self.phi, self.g)
        weight, bias = (torch.cat([getattr(m, n) for m in layers]) for n in ("weight", "bias"))
        # The kernels that store no matrix want each position's channels side by side.
        positions = x.flatten(2).transpose(1, 2)
        weight = weight.flatten(1).t().expand(b, -1, -1)
        q, k, v = torch.baddbmm(bias, positions, weight).unsqueeze(1).chunk(3, 3)
        if self.subsample:
            k, v = self.pool(k, h, w), self.pool(v, h, w)
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return x + self.out(y[:, 0].transpose(1, 2).contiguous().view(b, -1, h, w))

    def pool(self, tokens: Tensor, h: int, w: int) -> Tensor:
        """Return the maximum of each 2x2 window of the map.

        Args:
            tokens: ``(B, 1, h * w, C)``.
            h: Rows.
            w: Columns.
        """
        x = tokens[:, 0].transpose(1, 2).reshape(tokens.shape[0], -1, h, w)
        if _layers.captured() or min(h, w) == 1:
            # A missing row or column is filled with what no maximum takes.
            x = F.pad(x, (0, 1 // w, 0, 1 // h), value=-torch.inf)
        return F.max_pool2d(x, 2).flatten(2).transpose(1, 2).contiguous().unsqueeze(1)


BLOCKS = (
    Block(
        NonLocal,
        role="attention",
        paper="1711.07971",
        aliases=("NL",),
        config="yolov8-nl.yaml",
        no_gradient=(
            NoGradient("phi.bias", "softmax over positions is blind to it"),
            NoGradient("out.conv.bias", "BatchNorm removes it again in training"),
            NoGradient(
                "g.bias", "it adds a constant, which BatchNorm removes again", {"norm": True}
            ),
        ),
    ),
)
