"""Every block as a class: ``from yolograft.blocks import SKConv``. One paper, one file."""

from yolograft.blocks.acmix import ACmix
from yolograft.blocks.aspp import ASPP
from yolograft.blocks.cbam import CBAM
from yolograft.blocks.coordatt import CoordAtt
from yolograft.blocks.deform import DeformConv
from yolograft.blocks.globalcontext import GlobalContext
from yolograft.blocks.hrnet import HRModule, HRNet
from yolograft.blocks.non_local import NonLocal
from yolograft.blocks.se import SE
from yolograft.blocks.sk import SKConv, SKUnit
from yolograft.blocks.spd import SpaceToDepth, SPDConv
from yolograft.blocks.stn import STN
from yolograft.blocks.strip import MixedPooling, StripPooling

__all__ = [
    "ASPP",
    "CBAM",
    "SE",
    "STN",
    "ACmix",
    "CoordAtt",
    "DeformConv",
    "GlobalContext",
    "HRModule",
    "HRNet",
    "MixedPooling",
    "NonLocal",
    "SKConv",
    "SKUnit",
    "SPDConv",
    "SpaceToDepth",
    "StripPooling",
]
