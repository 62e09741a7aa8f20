# Written by `python scripts/generate.py`; do not edit.
# ruff: noqa: I001

from yolograft.blocks._row import Block
from yolograft.blocks.acmix import ACmix as ACmix
from yolograft.blocks.aspp import ASPP as ASPP
from yolograft.blocks.cbam import CBAM as CBAM
from yolograft.blocks.coordatt import CoordAtt as CoordAtt
from yolograft.blocks.deform import DeformConv as DeformConv
from yolograft.blocks.globalcontext import GlobalContext as GlobalContext
from yolograft.blocks.hrnet import HRModule as HRModule
from yolograft.blocks.hrnet import HRNet as HRNet
from yolograft.blocks.non_local import NonLocal as NonLocal
from yolograft.blocks.se import SE as SE
from yolograft.blocks.sk import SKConv as SKConv
from yolograft.blocks.sk import SKUnit as SKUnit
from yolograft.blocks.spd import SPDConv as SPDConv
from yolograft.blocks.spd import SpaceToDepth as SpaceToDepth
from yolograft.blocks.stn import STN as STN
from yolograft.blocks.strip import MixedPooling as MixedPooling
from yolograft.blocks.strip import StripPooling as StripPooling

BLOCKS: list[Block]
