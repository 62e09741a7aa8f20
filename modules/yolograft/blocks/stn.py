"""Spatial Transformer.

Paper: Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015,
https://arxiv.org/abs/1506.02025.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block


class STN(nn.Module):
    """Resample the map through an affine transform that a small network reads off the map.

    Paper: Jaderberg et al., https://arxiv.org/abs/1506.02025, Eq. 1 and 5::

        theta  = Linear(ReLU(Linear(mean_HW f(f(x)))))      f: 3x3 stride 2, BN, ReLU
        (u, v) = theta (2x3) * (s, t, 1)                    coordinates in [-1, 1]
        y(s, t) = x(u, v)                                   bilinear, zero outside

    The last layer starts as the identity: weight 0, bias ``(1, 0, 0, 0, 1, 0)``.

    Cost: per pixel of the map ``2.25 * c * hidden`` multiply-accumulates in the first convolution,
    ``0.56 * hidden ** 2`` in the second, and one bilinear sampling, which reads every channel four
    times. The localisation runs in float32 also under autocast.

    Not deterministic: the gradient of ``grid_sample`` adds up in any order on CUDA. Training with
    Ultralytics' ``deterministic=True`` warns of it, and two runs may differ.

    A detector's boxes live in the input's frame: the layers behind the block see a warped map, and
    must learn to warp back.

    Args:
        c: Input and output channels.
        hidden: Channels of the localisation network and units of its hidden layer.
        size: Height and width of the output, or one number for both; ``None`` keeps the input's.
        align_corners: Whether -1 and 1 mean the centres of the corner pixels, not their outer
            edges.

    Shape:
        - Input: ``(B, c, H, W)``
        - Output: ``(B, c, H, W)``, or ``(B, c, *size)``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is below 1, or ``size`` holds not two.

    Differs from the paper: its localisation networks are made for one image size each; this one
    ends in a global mean and takes any.
    """

    def __init__(
        self,
        c: int,
        hidden: int = 32,
        size: int | tuple[int, int] | None = None,
        align_corners: bool = False,
    ):
        super().__init__()
        _layers.check_int("STN", c=c, hidden=hidden)
        _layers.check_bool("STN", align_corners=align_corners)
        if isinstance(size, (tuple, list)):
            _layers.check_ints("STN", 2, size=size)
        elif size is not None:
            _layers.check_int("STN", size=size)
            size = (size, size)
        self.size = tuple(size) if size else None
        self.align_corners = align_corners
        self.localisation = nn.Sequential(
            _layers.ConvNormAct(c, hidden, 3, 2, act=nn.ReLU(inplace=True)),
            _layers.ConvNormAct(hidden, hidden, 3, 2, act=nn.ReLU(inplace=True)),
        )
        self.hidden = nn.Linear(hidden, hidden)
        self.affine = nn.Linear(hidden, 6)
        nn.init.zeros_(self.affine.weight)
        with torch.no_grad():
            self.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the resampled map."""
        # Positions need float32: a step of bfloat16 is half a pixel on a map of 256.
        dtype = torch.float64 if x.dtype is torch.float64 else torch.float32
        with torch.autocast(x.device.type, enabled=False):
            maps = self.localisation(x.to(self.hidden.weight.dtype))
            features = self.hidden(_layers.mean(maps, 2, 3)).relu()
            weight, bias = self.affine.weight.to(dtype), self.affine.bias.to(dtype)
            theta = F.linear(features.to(dtype), weight, bias)
        along_s, along_t, shift = theta.view(-1, 1, 1, 2, 3).unbind(-1)
        h, w = x.shape[2:] if self.size is None else self.size
        # The matrix product, which is a sum of what a column and a row add.
        s, t = (self._coordinates(n, theta)[:, None] for n in (w, h))
        grid = along_s * s + (along_t * t[:, None] + shift)
        y = F.grid_sample(x.to(dtype), grid, align_corners=self.align_corners)
        return y.to(x.dtype)

    def _coordinates(self, n: int, like: Tensor) -> Tensor:
        """Return where ``n`` pixels stand in [-1, 1]; a single one stands at 0."""
        steps = torch.arange(n, device=like.device).to(like.dtype)
        last = steps[-1:]
        return (2 * steps - last) / (last.clamp(min=1) if self.align_corners else last + 1)


BLOCKS = (
    Block(
        STN,
        role="attention",
        paper="1506.02025",
        config="yolov8-stn.yaml",
        nondeterministic="the gradient of grid_sample adds up in any order",
    ),
)
