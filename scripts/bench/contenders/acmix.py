"""ACmix, and its attention alone."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from yolograft import blocks

from ._row import Row, Shape


class _Attention(nn.Module):
    """Windows of keys, values and encodings, unfolded from padded maps."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.k = attention.k
        self.position = deepcopy(attention.position)
        self.pad = nn.ReflectionPad2d(self.k // 2)
        self.unfold = nn.Unfold(self.k)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, heads, d, h, w = q.shape
        x = torch.linspace(-1, 1, w, device=q.device, dtype=q.dtype).repeat(h, 1)
        y = torch.linspace(-1, 1, h, device=q.device, dtype=q.dtype)[:, None].repeat(1, w)
        pe = self.position(torch.stack((x, y)).unsqueeze(0))
        q = q.reshape(b * heads, d, h, w) * d**-0.5
        k = k.reshape(b * heads, d, h, w)
        v = v.reshape(b * heads, d, h, w)
        k = self.unfold(self.pad(k)).view(b * heads, d, self.k**2, h, w)
        pe_k = self.unfold(self.pad(pe)).view(1, d, self.k**2, h, w)
        weights = (q.unsqueeze(2) * (k + pe.unsqueeze(2) - pe_k)).sum(1)
        weights = self.softmax(weights)
        v = self.unfold(self.pad(v)).view(b * heads, d, self.k**2, h, w)
        return (weights.unsqueeze(1) * v).sum(2).view(b, heads * d, h, w)


class _Naive(nn.Module):
    """Unfolding attention, and a convolution of nine mixed maps per channel."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.rate1 = deepcopy(block.rate1)
        self.rate2 = deepcopy(block.rate2)
        self.conv1 = deepcopy(block.query)
        self.conv2 = deepcopy(block.key)
        self.conv3 = deepcopy(block.value)
        self.heads = block.heads
        self.attention = _Attention(block.attention)
        self.fc = deepcopy(block.mix)
        self.dep_conv = deepcopy(block.shift)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.conv1(x), self.conv2(x), self.conv3(x)
        b, c, h, w = q.shape
        heads, d = self.heads, c // self.heads
        attended = self.attention(*(t.view(b, heads, d, h, w) for t in (q, k, v)))
        flat = [t.view(b, heads, d, h * w) for t in (q, k, v)]
        mixed = self.fc(torch.cat(flat, dim=1)).permute(0, 2, 1, 3)
        mixed = mixed.reshape(b, -1, h, w)
        return self.rate1 * attended + self.rate2 * self.dep_conv(mixed)


def _heads(shape: Shape) -> list[Shape]:
    b, c, h, w = shape
    return [(b, 4, c // 4, h, w)] * 3


ROWS = {
    "ACmix": Row(_Naive),
    "ACmix attention": Row(_Attention, ours=lambda c: blocks.ACmix(c, c).attention, inputs=_heads),
}
