"""Atrous pyramids: torchvision's, layer for layer."""

import pytest
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3

from yolograft.blocks import ASPP


@pytest.mark.parametrize("training", [False, True])
def test_is_that_of_torchvision(training):
    block, other = ASPP(4, 6, (1, 3)), deeplabv3.ASPP(4, [1, 3], 6)
    other.project[3] = nn.Identity()  # dropout
    values = zip(other.state_dict(), block.state_dict().values(), strict=True)
    other.load_state_dict(dict(values))
    block, other = block.double().train(training), other.double().train(training)
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(block(x), other(x), rtol=1e-12, atol=1e-12)


def test_a_rate_beyond_the_map_sees_only_its_centre():
    block = ASPP(4, 6, (9,)).double().eval()
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    before = block(x)
    weight = block.branches[1].conv.weight.data
    centre = weight[:, :, 1, 1].clone()
    weight.zero_()
    weight[:, :, 1, 1] = centre
    torch.testing.assert_close(block(x), before, rtol=1e-12, atol=1e-12)
