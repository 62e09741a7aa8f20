"""Every block as a class: ``from yolograft.blocks import SKConv``. One paper, one file."""

from yolograft.blocks.cbam import CBAM
from yolograft.blocks.sk import SKConv
from yolograft.blocks.spd import SpaceToDepth, SPDConv

__all__ = ["CBAM", "SKConv", "SPDConv", "SpaceToDepth"]
