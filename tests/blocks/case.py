"""One block with one set of arguments, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from yolograft import registry
from yolograft.roles import ROLES

from .references import tools

#: Every block that the tests build, by name. The file of a reference may add parts of a block.
BLOCKS: dict[str, type[nn.Module]] = {
    block.name: block.load() for block in registry.OURS if block.role is not ROLES["classifier"]
}


@dataclass(frozen=True, eq=False)
class Case:
    """One block with one set of arguments.

    Attributes:
        block: Name in `BLOCKS`.
        args: Constructor arguments.
        reference: What the block computes, see `references/`.
        zoom: Factor on height and width where the coarsest map needs more than a pixel: a compiler
            takes 1 for a constant, and BatchNorm over a handful of values magnifies rounding.
    """

    block: str
    reference: Callable[..., Any]
    args: dict[str, Any] = field(default_factory=dict)
    zoom: int = 1

    def __str__(self) -> str:
        return "-".join([self.block, *(f"{k}={v}" for k, v in self.args.items())])

    def build(self, dtype: torch.dtype = torch.float64, **changes: Any) -> nn.Module:
        """Return the block with random weights and statistics, so that no term stays hidden."""
        module = BLOCKS[self.block](**deepcopy(self.args | changes))
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = tools.EPS
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim < 2):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.normal_(0, max(tensor[:1].numel(), 4) ** -0.5)
        return module.to(dtype)

    def input(self, *size: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return a random ``(B, C, H, W)`` map for a size ``B, H, W``."""
        b, h, w = size
        c = sum(self.args.get("channels", ())) or self.args.get("c1", self.args.get("c", 3))
        return torch.randn(b, c, h, w, dtype=dtype)

    def expected(self, module: nn.Module, x: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """Return the reference's result, and the weights it used with the new statistics."""
        p = {n: t.detach().clone() for n, t in module.state_dict().items()}
        for name, parameter in module.named_parameters():
            p[name].requires_grad_(parameter.requires_grad)
        return self.reference(p, x, module.training, **self.args), p
