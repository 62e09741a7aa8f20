"""A gate between a layer and the block that takes its place, for warm starts.

The gate is the residual gate of Bachlechner et al., "ReZero is All You Need", UAI 2021,
https://arxiv.org/abs/2003.04887, per channel as in Touvron et al., "Going Deeper with Image
Transformers", ICCV 2021, https://arxiv.org/abs/2103.17239.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolograft.roles import take_place


class Blend(nn.Module):
    """Blend from a trained layer to the block that takes its place, by one number per channel.

    ::

        y = old(x) + gamma * (new(x) - old(x))

    A warm start sets ``gamma`` to 0: the model is then the one before, and training moves each
    channel towards the block. As built, ``gamma`` is 1, so that training from scratch trains the
    block. Config rows say ``blend: true`` (the old layer is the stage's own convolution, or nothing
    where the block is added) or ``blend: [Conv, [256, 3, 2]]``.

    Args:
        new: The block.
        old: The layer before; ``nn.Identity()`` for a block that is added.
        c: Channels of what both return.

    Shape:
        - Input: what both layers take
        - Output: ``(B, c, H, W)``
    """

    def __init__(self, new: nn.Module, old: nn.Module, c: int):
        super().__init__()
        self.new = new
        self.old = old
        self.gamma = nn.Parameter(torch.ones(c))  # one dimension: no optimizer takes it for a map

    def forward(self, x: Tensor) -> Tensor:
        """Return the blended map."""
        old = self.old(x)
        gamma = self.gamma.to(old.dtype)[:, None, None]
        return old + gamma * (self.new(x) - old)

    def folded(self) -> nn.Module:
        """Return the one layer that does the same, where the gate is 0 or 1 in all channels."""
        for value, layer in ((0, self.old), (1, self.new)):
            if bool((self.gamma == value).all()):
                take_place(layer, self)
                return layer
        return self
