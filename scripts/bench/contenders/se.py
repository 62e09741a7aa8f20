"""Squeeze-and-Excitation."""

from torch import Tensor, nn

from ._row import Public, Row, load


class _Naive(nn.Module):
    """Pooling module and linear layers, the gate expanded to the shape of the map."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            _linear(block.squeeze), nn.ReLU(inplace=True), _linear(block.excite), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        gate = self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1)
        return x * gate.expand_as(x)


def _linear(conv: nn.Conv2d) -> nn.Linear:
    """Return a 1x1 convolution as a linear layer."""
    return load(nn.Linear(conv.in_channels, conv.out_channels), conv)


def _timm(cls: type, block: nn.Module) -> nn.Module:
    hidden, c = block.squeeze.weight.shape[:2]
    return load(cls(c, rd_channels=hidden), block)


def _torchvision(cls: type, block: nn.Module) -> nn.Module:
    hidden, c = block.squeeze.weight.shape[:2]
    return load(cls(c, hidden), block)


ROWS = {
    "SE": Row(
        _Naive,
        Public("timm.layers.SEModule", _timm),
        Public("torchvision.ops.SqueezeExcitation", _torchvision),
        floor=True,
    )
}
