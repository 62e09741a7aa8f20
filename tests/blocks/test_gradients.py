"""Blocks with a gradient of their own: it is the one that autograd finds, wherever it can run."""

import pytest
import torch

from yolograft.blocks import CoordAtt, GlobalContext

BLOCKS = {
    "CoordAtt": lambda: CoordAtt(6),
    "GlobalContext-add": lambda: GlobalContext(6, ratio=0.7),
    "GlobalContext-mul-add": lambda: GlobalContext(6, ratio=0.7, fusion=("mul", "add")),
}


@pytest.fixture(params=BLOCKS)
def block(request):
    block = BLOCKS[request.param]().double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    return block


def gradients(run, block, x):
    x = x.detach().requires_grad_()
    weights = torch.arange(x.numel()).sin().view(x.shape)
    return torch.autograd.grad((run(x) * weights).sum(), [x, *block.parameters()])


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("how", ["trace", "compile"])
def test_graphs_have_the_same(block, how):
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    expected = gradients(block, block, x)
    if how == "trace":
        run = torch.jit.trace(block, x)
    else:
        torch._dynamo.reset()
        run = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(gradients(run, block, x), expected, rtol=1e-10, atol=1e-10)


def test_weights_learn_where_the_input_is_fixed(block):
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    weights = torch.arange(x.numel()).sin().view(x.shape)
    actual = torch.autograd.grad((block(x) * weights).sum(), list(block.parameters()))
    expected = gradients(block, block, x)[1:]
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_second_derivative(block):
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(block, (x,), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast(block, dtype):
    block, x = block.float(), torch.randn(2, 6, 5, 4)
    x = x.bfloat16().float()
    expected = gradients(block, block, x)

    def run(x):
        with torch.autocast("cpu", torch.bfloat16):
            return block(x.to(dtype))

    for got, wanted in zip(gradients(run, block, x), expected, strict=True):
        assert got.dtype == torch.float32
        assert (got - wanted).norm() <= 0.05 * wanted.norm() + 0.05
