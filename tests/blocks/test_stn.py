"""Spatial transformers: the identity at first, then torch's own affine grid."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from yolograft.blocks import STN


@pytest.mark.parametrize("align_corners", [False, True])
def test_starts_as_the_identity(align_corners):
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    block = STN(3, align_corners=align_corners).double()
    torch.testing.assert_close(block(x), x, rtol=1e-12, atol=1e-12)
    assert not block.affine.weight.any()
    assert block.affine.bias.tolist() == [1, 0, 0, 0, 1, 0]


@pytest.mark.filterwarnings("ignore:Since version 1.3.0:UserWarning")
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [None, 4, (1, 3), (5, 1)])
@pytest.mark.parametrize("shape", [(6, 5), (1, 4), (7, 1)])
def test_samples_on_the_grid_of_torch(align_corners, size, shape):
    block = STN(3, size=size, align_corners=align_corners).double().eval()
    nn.init.normal_(block.affine.weight)
    thetas = []
    block.hidden.register_forward_hook(lambda *args: thetas.append(block.affine(args[2].relu())))
    x = torch.randn(2, 3, *shape, dtype=torch.float64)
    actual = block(x)
    grid = F.affine_grid(thetas[0].view(2, 2, 3), actual.shape, align_corners)
    expected = F.grid_sample(x, grid, align_corners=align_corners)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_positions_keep_float32_under_autocast():
    x = torch.randn(1, 2, 4, 640)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(STN(2)(x), x, rtol=1e-3, atol=1e-3)
    y = STN(2).bfloat16()(x.bfloat16())
    torch.testing.assert_close(y, x.bfloat16(), rtol=1e-2, atol=1e-2)
