"""ACmix, and its attention alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolograft import blocks

from ._row import Row, Shape


def _naive_attention(attention: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Windows of keys, values and encodings, unfolded from padded maps."""
    size = attention.k
    b, heads, d, h, w = q.shape

    def windows(y: Tensor) -> Tensor:
        y = F.unfold(F.pad(y, [size // 2] * 4, mode="reflect"), size)
        return y.view(-1, d, size**2, h, w)

    x = torch.linspace(-1, 1, w, device=q.device, dtype=q.dtype).repeat(h, 1)
    y = torch.linspace(-1, 1, h, device=q.device, dtype=q.dtype)[:, None].repeat(1, w)
    pe = attention.position(torch.stack((x, y)).unsqueeze(0))
    q, k, v = (one.reshape(b * heads, d, h, w) for one in (q * d**-0.5, k, v))
    k, pe_k = windows(k), windows(pe)
    weights = (q.unsqueeze(2) * (k + pe.unsqueeze(2) - pe_k)).sum(1).softmax(1)
    v = windows(v)
    return (weights.unsqueeze(1) * v).sum(2).view(b, heads * d, h, w)


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """Unfolding attention, and a convolution of nine mixed maps per channel."""
    q, k, v = block.query(x), block.key(x), block.value(x)
    b, c, h, w = q.shape
    heads, d = block.heads, c // block.heads
    attended = _naive_attention(
        block.attention, *(one.view(b, heads, d, h, w) for one in (q, k, v))
    )
    flat = [one.view(b, heads, d, h * w) for one in (q, k, v)]
    mixed = block.mix(torch.cat(flat, dim=1)).permute(0, 2, 1, 3)
    return block.rate1 * attended + block.rate2 * block.shift(mixed.reshape(b, -1, h, w))


def _heads(shape: Shape) -> list[Shape]:
    b, c, h, w = shape
    return [(b, 4, c // 4, h, w)] * 3


ROWS = {
    "ACmix": Row(_naive),
    "ACmix attention": Row(
        _naive_attention, ours=lambda c: blocks.ACmix(c, c).attention, inputs=_heads
    ),
}
