"""``fuse()`` of models that hold blocks of others."""

import pytest
import timm
import torch
from timm.models import _efficientnet_blocks as blocks_of_timm
from torch import nn
from torch.nn.utils import parametrizations
from torchvision.ops.misc import Conv2dNormActivation
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import DetectionModel

import yolograft
from yolograft import registry

pytestmark = pytest.mark.usefixtures("own_blocks")


def model_with(cls, args=(), role=None, count=1):
    """Return a model with a block, its statistics and scales anything but fresh."""
    yolograft.register(cls, "Theirs", role=role)
    backbone = [[-1, 1, "Conv", [16, 3, 2]], *[[-1, 1, "Theirs", list(args)]] * count]
    head = [[-1, 1, "Conv", [16, 3, 2]], [[count + 1], 1, "Detect", ["nc"]]]
    model = DetectionModel({"nc": 1, "backbone": backbone, "head": head}, verbose=False).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return model


def fused(model):
    """Fuse a model, and assert that nothing else has changed; returns its blocks."""
    image = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        before = model(image)[0]
    state = torch.get_rng_state()
    assert not model.is_fused()
    assert model.fuse(verbose=False) is model
    assert model.is_fused()
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        torch.testing.assert_close(model(image)[0], before, rtol=1e-4, atol=1e-4)
    blocks = [m for m in model.modules() if type(m) in registry.registered()]
    assert model.fuse(verbose=False) is model
    return blocks or [model.model[1]]


def norms(block):
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in block.modules())


class Sequence(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c, c, 3, 1, 1, groups=c, bias=False),
            nn.BatchNorm2d(c),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, c, 1),
            nn.BatchNorm2d(c, affine=False),
        )
        self.up = nn.Sequential(nn.ConvTranspose2d(c, c, 2, 2), nn.BatchNorm2d(c))
        self.down = nn.Sequential(nn.Conv2d(c, c, 2, 2, padding_mode="zeros"), nn.BatchNorm2d(c))

    def forward(self, x):
        return x + self.down(self.up(self.body(x)))


class Attributes(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm, self.conv, self.act = nn.BatchNorm2d(c, eps=1e-3), nn.Conv2d(c, c, 1), nn.SiLU()

    def forward(self, x):
        if x.mean() > 1e9:  # nothing for a tracer
            return x
        b, c, h, w = x.shape
        x = self.norm(self.conv(x))
        return self.act(x.view(b, c, h * w).view(b, c, h, w))


@pytest.mark.parametrize(
    ("cls", "args"),
    [
        (Sequence, []),
        (Attributes, []),
        (timm.layers.ConvNormAct, [16, 3]),
        (timm.layers.SeparableConvNormAct, [16, 3]),
        (blocks_of_timm.InvertedResidual, [16]),
        (Conv2dNormActivation, [16]),
    ],
)
def test_batchnorm_behind_a_convolution_is_folded(cls, args):
    blocks = fused(model_with(cls, args, count=2))
    assert len(blocks) == 2
    assert not sum(map(norms, blocks))


class HostsConv(nn.Module):
    """A convolution of Ultralytics, which folds it itself, beside one of PyTorch."""

    def __init__(self, c):
        super().__init__()
        self.a, self.b = Conv(c, c, 3), nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))

    def forward(self, x):
        return self.b(self.a(x))


def test_a_convolution_of_the_host_inside_a_block_is_left_to_the_host():
    block = fused(model_with(HostsConv, count=5))[0]  # five: older releases spare small models
    assert not hasattr(block.a, "bn")
    assert not norms(block)


class Before(nn.Module):
    """BatchNorm in front of the convolution."""

    def __init__(self, c):
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm2d(c), nn.Conv2d(c, c, 1))

    def forward(self, x):
        return self.body(x)


class Shared(nn.Module):
    """One convolution, two BatchNorms."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 1)
        self.a, self.b = (nn.Sequential(self.conv, nn.BatchNorm2d(c)) for _ in range(2))

    def forward(self, x):
        return self.a(x) + self.b(x)


class Tapped(nn.Module):
    """What the convolution returns is read by others too."""

    def __init__(self, c):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))

    def forward(self, x):
        y = self.body[0](x)
        return self.body[1](y) + y


class Threshold(Tapped):
    """They read it only where it is large."""

    def forward(self, x):
        y = self.body[0](x)
        return self.body[1](y) + (y - 3).relu()


class Weights(nn.Module):
    """The convolution's weight is read by others too."""

    def __init__(self, c):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))

    def forward(self, x):
        return self.body(x) + self.body[0].weight.sum()


class Between(nn.Module):
    """Something is done in place between the two."""

    def __init__(self, c):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)

    def forward(self, x):
        return self.bn(self.conv(x).relu_())


class NoStatistics(Before):
    def __init__(self, c):
        super().__init__(c)
        norm = nn.BatchNorm2d(c, track_running_stats=False)
        self.body = nn.Sequential(nn.Conv2d(c, c, 1), norm)


class Hooked(Before):
    def __init__(self, c):
        super().__init__(c)
        self.body = nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))
        self.body[0].register_forward_hook(double)


def double(module, args, result):
    return 2 * result


class Parametrized(Before):
    def __init__(self, c):
        super().__init__(c)
        conv = parametrizations.weight_norm(nn.Conv2d(c, c, 1))
        self.body = nn.Sequential(conv, nn.BatchNorm2d(c))


class Grouped(Before):
    def __init__(self, c):
        super().__init__(c)
        self.body = nn.Sequential(
            nn.ConvTranspose2d(c, c, 1, groups=2), nn.BatchNorm2d(c), nn.Conv2d(c, c, 1)
        )


@pytest.mark.parametrize(
    "cls",
    [
        Before,
        Shared,
        Tapped,
        Threshold,
        Weights,
        Between,
        NoStatistics,
        Hooked,
        Parametrized,
        Grouped,
    ],
)
def test_batchnorm_stays_where_folding_would_not_be_safe(cls):
    blocks = fused(model_with(cls))
    assert norms(blocks[0])


class Branches(nn.Module):
    """Two branches that become one; its own ``fuse`` works once."""

    def __init__(self, c):
        super().__init__()
        self.a, self.b, self.calls = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1), 0

    def forward(self, x):
        return self.a(x) if self.b is None else self.a(x) + self.b(x)

    def fuse(self):
        self.calls += 1
        self.a.weight.data += self.b.weight.data
        self.a.bias.data += self.b.bias.data
        self.b = None


class Outer(nn.Module):
    """Fuses what it holds itself."""

    def __init__(self, c):
        super().__init__()
        self.inner = Branches(c)

    def forward(self, x):
        return self.inner(x)

    def fuse(self):
        self.inner.fuse()


class Returns(nn.Module):
    """Its ``fuse`` returns the layer that takes its place, as LeViT's do."""

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 1)

    def forward(self, x):
        return 2 * self.conv(x)

    def fuse(self):
        conv = nn.Conv2d(*self.conv.weight.shape[:2], 1)
        conv.weight.data, conv.bias.data = 2 * self.conv.weight.data, 2 * self.conv.bias.data
        return conv


class Wants(nn.Module):
    """Its ``fuse`` wants to be told something: it is not for us."""

    def __init__(self, c):
        super().__init__()

    def forward(self, x):
        return x

    def fuse(self, prompts):
        raise AssertionError(prompts)


def test_a_block_with_a_fuse_of_its_own_is_fused_once():
    yolograft.register(Branches)
    blocks = fused(model_with(Outer))
    assert [b.inner.calls for b in blocks if isinstance(b, Outer)] == [1]


def test_a_fuse_is_called_once_however_often_the_model_is_fused():
    assert fused(model_with(Branches))[0].calls == 1


def test_inside_a_stage_too():
    yolograft.register(Branches)
    backbone = [[-1, 1, "Conv", [16, 3, 2]], [-1, 2, "C2f_Branches", [16]]]
    config = {"nc": 1, "backbone": backbone, "head": [[[1], 1, "Detect", ["nc"]]]}
    blocks = fused(DetectionModel(config, verbose=False).eval())
    assert [b.calls for b in blocks] == [1, 1]


def test_the_layer_that_a_fuse_returns_takes_the_blocks_place():
    model = model_with(Returns)
    block = fused(model)[0]
    assert type(block) is nn.Conv2d
    assert model.model[1] is block
    assert (block.i, block.f) == (1, -1)


class Joins(Wants):
    def fuse(self, *maps):
        raise AssertionError(maps)


@pytest.mark.parametrize("cls", [Wants, Joins])
def test_a_fuse_with_arguments_is_left_alone(cls):
    model = model_with(cls)
    assert model.fuse(verbose=False) is model
    assert model.is_fused()


def test_a_fuse_that_fails_is_told_with_its_block():
    class Fails(Wants):
        def fuse(self):
            {}["alpha"]

    with pytest.raises(
        yolograft.ConfigError, match=r"Fails: its fuse\(\) failed: KeyError: 'alpha'"
    ):
        model_with(Fails).fuse(verbose=False)


def test_a_model_that_runs_on_no_small_image_is_left_as_it_is():
    class Picky(Sequence):
        def forward(self, x):
            if x.shape[-1] != 24:
                raise ValueError(x.shape)
            return super().forward(x)

    yolograft.register(Picky, "Theirs")
    rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Sequence", []]]
    yolograft.register(Sequence)
    config = {"nc": 1, "backbone": rows, "head": [[[1], 1, "Detect", ["nc"]]]}
    model = DetectionModel(config, verbose=False).eval()
    model.model[1].__class__ = Picky
    model.fuse(verbose=False)
    assert norms(model.model[1]) == 4
    assert model.is_fused()
