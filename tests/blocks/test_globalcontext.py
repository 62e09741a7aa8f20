"""Global context: how it starts, and when attention is the mean."""

import pytest
import torch

from yolograft.blocks import GlobalContext


@pytest.mark.parametrize(
    ("fusion", "factor"), [(("add",), 1), (("mul",), 0.5), (["add", "mul"], 0.5)]
)
def test_starts_as_the_identity_or_half_of_it(fusion, factor):
    x = torch.randn(2, 8, 5, 3)
    torch.testing.assert_close(GlobalContext(8, fusion=fusion)(x), factor * x, rtol=0, atol=0)


def test_attention_starts_with_unit_variance_behind_relu():
    mask = GlobalContext(4096).mask
    assert mask.weight.std().item() == pytest.approx((2 / 4096) ** 0.5, rel=0.1)
    assert mask.bias.item() == 0


def test_even_attention_is_the_mean():
    attention, mean = GlobalContext(8).double(), GlobalContext(8, pooling="avg").double()
    torch.nn.init.normal_(attention.add[-1].weight)
    mean.load_state_dict(attention.state_dict(), strict=False)
    torch.nn.init.zeros_(attention.mask.weight)
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(attention(x), mean(x), rtol=1e-12, atol=1e-12)


def test_attention_survives_large_values():
    block = GlobalContext(8).double()
    x = 1e4 * torch.randn(2, 8, 5, 3, dtype=torch.float64).requires_grad_()
    block(x).sum().backward()
    assert block(x).isfinite().all()
    assert block.mask.weight.grad.isfinite().all()
