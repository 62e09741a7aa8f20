"""ACmix: what it is at first, and its two ways to attend."""

import copy

import pytest
import torch
import torch.nn.functional as F

from yolograft.blocks import ACmix, acmix
from yolograft.blocks.acmix import WindowAttention

#: Smaller and larger than the padding of 3, rectangular, one position.
SIZES = [(1, 1), (2, 5), (3, 4), (6, 1), (9, 7)]


def randn(*size):
    return torch.randn(size, dtype=torch.float64)


def attention(d=2, k=7, s=1):
    return WindowAttention(d, k, s).double()


def test_starts_as_the_paper_does():
    block = ACmix(4, 8)
    assert block.rate1.tolist() == block.rate2.tolist() == [0.5]
    for out in block.shift.weight:
        for tap, kernel in enumerate(out):
            row, col = divmod(tap, 3)
            assert kernel[row, col] == 1
            assert kernel.sum() == 1


def test_mixing_to_a_kernel_is_a_convolution_of_the_values():
    """Sec. 3.1: at first, the maps of each channel are shifted as the taps of a 3x3 kernel."""
    block = ACmix(3, 8, heads=2).double()
    kernel = randn(3, 3)
    with torch.no_grad():
        block.rate1.zero_()
        block.mix.weight.zero_()
        block.mix.weight[:, 4, 0, 0] = kernel.flatten()  # of the values, the first head
    x = randn(2, 3, 5, 6)
    values = block.value(x)[:, :4]
    wanted = F.conv2d(values, kernel.expand(4, 1, 3, 3), padding=1, groups=4) / 2
    # All output heads of a channel are the same at first, and stand next to each other.
    torch.testing.assert_close(block(x), wanted.repeat_interleave(2, 1), rtol=1e-12, atol=1e-12)


def test_rates_weight_the_paths():
    block, x = ACmix(3, 8).double(), randn(2, 3, 6, 5)
    both = block(x)
    parts = []
    for rates in [(0.5, 0), (0, 0.5)]:
        block.rate1.data[:], block.rate2.data[:] = rates
        parts.append(block(x))
    torch.testing.assert_close(sum(parts), both, rtol=1e-12, atol=1e-12)
    assert all(part.abs().max() > 0.01 for part in parts)


def test_attention_without_likeness_is_the_mean_of_the_mirrored_window():
    q, k, v = torch.zeros(1, 2, 2, 5, 6).double(), randn(1, 2, 2, 5, 6), randn(1, 2, 2, 5, 6)
    wanted = F.avg_pool2d(F.pad(v.flatten(1, 2), (2, 2, 2, 2), mode="reflect"), 5, 1)
    torch.testing.assert_close(attention(k=5)(q, k, v), wanted, rtol=1e-12, atol=1e-12)


def test_position_is_that_of_the_key_relative_to_the_query():
    """A query that likes what lies left of it finds its left neighbour, at every place."""
    module = attention(d=1, k=3)
    module.position.weight.data[:] = torch.tensor([[1e4, 0]]).view(1, 2, 1, 1)
    v = randn(1, 1, 1, 4, 6)
    out = module(torch.ones_like(v), torch.zeros_like(v), v)
    column = F.avg_pool2d(F.pad(v[0], (0, 0, 1, 1), mode="reflect"), (3, 1), 1)
    torch.testing.assert_close(out[..., 1:], column[..., :-1], rtol=1e-9, atol=1e-9)


def test_bias_of_the_position_drops_out_yet_has_a_gradient():
    """All other parameters learn; an unused one would stop DDP."""
    block, x = ACmix(3, 8).double(), randn(2, 3, 6, 5)
    before = block(x)
    block.attention.position.bias.data += 3
    assert torch.equal(block(x), before)
    (block(x) * randn(2, 8, 6, 5)).sum().backward()
    gradients = {name: p.grad.abs().max() for name, p in block.named_parameters()}
    assert gradients.pop("attention.position.bias") == 0
    assert min(gradients.values()) > 1e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("k", "s"), [(7, 1), (3, 2), (5, 3), (1, 2), (3, 4)])
@pytest.mark.parametrize("piece", [1, 30, 10**6])
def test_both_ways_agree(monkeypatch, size, k, s, piece):
    """In graphs, on whole maps; elsewhere in pieces: of bands, of heads, of images."""
    monkeypatch.setattr(acmix, "_PIECE", piece)
    q, k_, v = (randn(3, 2, 4, *size).requires_grad_() for _ in range(3))
    p = randn(4, *size).requires_grad_()
    queries = q[..., ::s, ::s]
    pieces = acmix._Attend.apply(queries, k_, v, p, k, s)
    whole = acmix._attend_in_a_graph(queries, k_, v, p, k, s)
    torch.testing.assert_close(pieces, whole, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(whole)
    found, wanted = (
        torch.autograd.grad((t * weight).sum(), (q, k_, v, p)) for t in (pieces, whole)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_operator_for_compilers(dtype):
    maps = [torch.randn(2, 2, 3, 5, 6, dtype=dtype).requires_grad_() for _ in range(3)]
    p = torch.randn(3, 5, 6, dtype=torch.promote_types(dtype, torch.float32), requires_grad=True)
    torch.library.opcheck(acmix._attend_op, (maps[0][..., ::2, ::2], *maps[1:], p, 3, 2))


@pytest.mark.long
def test_compiled_gradients():
    torch._dynamo.reset()
    block = ACmix(3, 8, s=2).double()
    run = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in [(2, 3, 9, 7), (4, 3, 6, 8)]:
        x = randn(*size)
        found, wanted = (
            torch.autograd.grad(f(x).square().sum(), [*block.parameters()]) for f in (run, block)
        )
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_exports_without_an_operator_of_its_own():
    block, x = ACmix(3, 8, k_att=3).eval(), torch.randn(2, 3, 6, 5)
    program = torch.export.export(block, (x,))
    assert not any("yolograft" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x), block(x), rtol=1e-4, atol=1e-4)


def test_second_derivative():
    q, v = randn(1, 2, 3, 3, 4).requires_grad_(), randn(1, 2, 3, 3, 4).requires_grad_()
    k = randn(1, 2, 3, 3, 4)  # fixed
    module = attention(3, 3)
    assert torch.autograd.gradgradcheck(lambda q, v: module(q, k, v), (q, v))


def test_large_logits_do_not_overflow():
    q = 1e3 * torch.randn(1, 1, 4, 5, 6)
    assert WindowAttention(4, 7)(q, q, q).isfinite().all()


def test_no_copies_of_the_map_per_place_of_the_window(peak):
    """Neither forwards nor backwards: 49 copies of one map would be 49 maps."""
    module, map_bytes = WindowAttention(16, 7), 4 * 64 * 24 * 24 * 4
    x = torch.randn(4, 4, 16, 24, 24, requires_grad=True)

    def forward():
        with torch.no_grad():
            module(x, x, x)

    def backward():
        module(x, x, x).backward(torch.ones(4, 64, 24, 24))
        x.grad = None

    assert peak(forward) < 12 * map_bytes
    assert peak(backward) < 24 * map_bytes


def test_low_precision_attends_in_single_precision():
    """Rounding neighbours' places to 8 bits would leave little of their difference."""
    module = WindowAttention(4, 7)
    module.position.weight.data.normal_(0, 30)
    q, k, v = torch.randn(3, 1, 2, 4, 40, 40).bfloat16()
    exact = copy.deepcopy(module)(q.float(), k.float(), v.float())
    with torch.autocast("cpu", torch.bfloat16):
        out = module(q, k, v)
    assert out.dtype == torch.bfloat16
    assert (out - exact).norm() / exact.norm() < 3e-3
