"""The last row of a classification net: ``Classifier [nc]``.

Papers: Li et al., https://arxiv.org/abs/1903.06586 (SKNet); Wang et al.,
https://arxiv.org/abs/1908.07919 (HRNet).
"""

from __future__ import annotations

from torch import Tensor, nn
from ultralytics.nn.modules.head import Classify

from yolograft.blocks import _layers
from yolograft.blocks.hrnet import HRHead


class Classifier(Classify):
    """Classes from one map, or from the four maps of an HRNet, by the papers' classifiers.

    One map: its mean, then a linear layer (SKNet, https://arxiv.org/abs/1903.06586); the stock
    ``Classify`` puts a 1280 wide convolution before them. Four maps: the authors' head of HRNet
    (https://arxiv.org/abs/1908.07919), which gathers them into one of 2048 channels, then the same.

    Rows: ``[-1, 1, Classifier, [nc]]``, or ``[[1, 2, 3, 4], 1, Classifier, [nc]]`` with the maps
    from high to low resolution. The ``dropout=`` of a training acts before the linear layer.

    Args:
        c1: Channels of the map, or a list of those of the four maps.
        c2: Number of classes.

    Shape:
        - Input: ``(B, c1, H, W)``, or a list of four maps, each half the size of the one before
        - Output: ``(B, c2)`` logits in training; else probabilities and logits, or probabilities
          alone in an export

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or the maps are not four.
    """

    def __init__(self, c1: int | list[int], c2: int):
        nn.Module.__init__(self)  # without the convolution of the stock head
        several = isinstance(c1, list | tuple)
        if several and len(c1) != 4:
            msg = (
                f"Classifier: c1={c1!r} are the widths of {len(c1)} maps, but it takes one map or "
                "four\n\nHint: read one row, as in -1, or all four maps of an HRNet"
            )
            raise ValueError(msg)
        if not several:
            _layers.check_int("Classifier", c1=c1)
        _layers.check_int("Classifier", c2=c2)
        wide = 2048
        self.gather = HRHead(c1, wide) if several else nn.Identity()
        self.drop = nn.Dropout(p=0.0, inplace=True)
        self.linear = nn.Linear(wide if several else c1, c2)

    def forward(self, x: Tensor | list[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Return what the stock head returns."""
        x = self.linear(self.drop(_layers.mean(self.gather(x), 2, 3)))
        if self.training:
            return x
        y = x.softmax(1)
        return y if self.export else (y, x)
