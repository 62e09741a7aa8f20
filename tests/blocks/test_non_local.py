"""Non-local: what it is at first, and that it never stores the matrix of all pairs."""

import pytest
import torch

from yolograft.blocks import NonLocal


@pytest.mark.parametrize("norm", [False, True])
def test_starts_as_the_identity(norm):
    x = torch.randn(2, 4, 5, 3)
    assert torch.equal(NonLocal(4, norm=norm)(x), x)


def block_of_ones(c, **args):
    """Return a block that adds what each position gathered, per channel."""
    block = NonLocal(c, reduction=1, norm=False, **args).double()
    block.out.weight.data.copy_(torch.eye(c)[:, :, None, None])
    return block


def test_without_likeness_gathers_the_mean_of_the_values():
    block, x = block_of_ones(4), torch.randn(2, 4, 5, 3, dtype=torch.float64)
    block.theta.weight.data.zero_()
    block.theta.bias.data.zero_()
    mean = block.g(x).mean((2, 3), keepdim=True)
    torch.testing.assert_close(block(x), x + mean, rtol=1e-12, atol=1e-12)


def test_permuted_positions_give_permuted_results():
    block, x = block_of_ones(4), torch.randn(2, 4, 1, 9, dtype=torch.float64)
    order = torch.randperm(9)
    torch.testing.assert_close(block(x)[..., order], block(x[..., order]), rtol=1e-12, atol=1e-12)


def test_subsampling_leaves_constant_patches_as_they_are():
    x = torch.randn(2, 4, 3, 4, dtype=torch.float64).repeat_interleave(2, 2).repeat_interleave(2, 3)
    block, state = block_of_ones(4), block_of_ones(4, subsample=True)
    state.load_state_dict(block.state_dict())
    torch.testing.assert_close(state(x), block(x), rtol=1e-12, atol=1e-12)


def test_every_parameter_learns_but_the_bias_of_phi():
    """The same for all keys, it drops out of the softmax."""
    block = NonLocal(6).double().eval()
    block.out.bn.weight.data.fill_(1)
    x = torch.randn(3, 6, 4, 5, dtype=torch.float64)
    (block(x) * torch.randn_like(x)).sum().backward()
    gradients = {name: p.grad.abs().max() for name, p in block.named_parameters()}
    assert gradients.pop("phi.bias") < 1e-12
    assert min(gradients.values()) > 1e-6


def train_step(block, x, run):
    leaf = x.detach().requires_grad_()

    def step():
        run(leaf).backward(torch.ones_like(leaf))
        block.zero_grad()
        leaf.grad = None

    return step


def with_matrix(block, x):
    q, k, v = (layer(x).flatten(2) for layer in (block.theta, block.phi, block.g))
    y = v @ (q.transpose(1, 2) @ k).softmax(2).transpose(1, 2)
    return x + block.out(y.view_as(block.theta(x)))


@pytest.mark.parametrize("subsample", [False, True])
def test_memory_grows_with_positions_not_pairs(subsample, peak):
    block, x = NonLocal(8, subsample=subsample), torch.randn(1, 8, 80, 80)
    matrix = 6400 * 6400 * x.element_size() // (4 if subsample else 1)
    found = peak(train_step(block, x, block))
    assert found < matrix / 8
    small = peak(train_step(block, x[..., :40], block))
    assert found < 2.5 * small


def test_memory_of_the_matrix_would_be_seen(peak):
    block, x = NonLocal(8), torch.randn(1, 8, 40, 40)
    found = peak(train_step(block, x, lambda leaf: with_matrix(block, leaf)))
    assert found > 1600 * 1600 * x.element_size()


def test_softmax_under_autocast_is_that_of_single_precision():
    """Logits of tens, kept in 8 bits, would be off by up to an eighth, and so would the weights."""
    block, x = block_of_ones(8).float(), torch.randn(1, 8, 12, 12)
    for layer in (block.theta, block.phi):
        layer.weight.data.copy_(2 * torch.eye(8)[:, :, None, None])
    block.g.weight.data.normal_()
    x = x.bfloat16().float()
    rounded = block.bfloat16().float()
    wanted = rounded(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = rounded(x)
    assert (found - wanted).norm() / (wanted - x).norm() < 1e-2
