"""Space-to-depth: what it loses of a strided convolution (nothing), and its channel order."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from yolograft.blocks import SpaceToDepth, SPDConv


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 1), (5, 2)], ids=str)
def test_holds_every_strided_convolution(size):
    c1, c2 = 3, 5
    strided = torch.randn(c2, c1, 3, 3, dtype=torch.float64)
    weight = torch.zeros(c2, 4 * c1, 3, 3, dtype=torch.float64)
    for row, col in product(range(3), range(3)):
        # Tap -1 is the odd pixel of the patch before; 0 and 1 are the pixels of the patch itself.
        phase = (row != 1) + 2 * (col != 1)
        weight[:, phase * c1 : (phase + 1) * c1, min(row, 1), min(col, 1)] = strided[:, :, row, col]
    block = SPDConv(c1, c2, act=False).double().eval()
    block.conv.conv.weight.data = weight
    x = torch.randn(2, c1, *size, dtype=torch.float64)
    expected = block.conv.bn(F.conv2d(x, strided, stride=2, padding=1))
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_differs_from_pixel_unshuffle_by_channel_order_only():
    c = 3
    x = torch.randn(2, c, 6, 4)
    order = [ch * 4 + row * 2 + col for col, row, ch in product(range(2), range(2), range(c))]
    assert torch.equal(SpaceToDepth()(x), F.pixel_unshuffle(x, 2)[:, order])
    assert order != sorted(order)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)], ids=str)
def test_keeps_channels_last(size):
    x = torch.randn(2, 3, *size).to(memory_format=torch.channels_last)
    assert SpaceToDepth()(x).is_contiguous(memory_format=torch.channels_last)
