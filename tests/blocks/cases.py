"""All cases: those of each file in `references/`, which joins every test of `test_blocks.py`."""

from importlib import import_module
from pkgutil import iter_modules

import torch

from . import references
from .case import BLOCKS, Case

#: Largest absolute and relative difference of a value, by the dtype of the computation; for
#: bfloat16 the relative distance of whole maps.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2}

_FILES = [
    import_module(f"{references.__name__}.{file.name}")
    for file in iter_modules(references.__path__)
]

CASES: list[Case] = [case for file in _FILES for case in getattr(file, "CASES", ())]

#: One case per block, for what is slow and does not depend on the arguments.
FIRST = list({case.block: case for case in reversed(CASES)}.values())[::-1]

#: Arguments that a block cannot take, beyond the wrong types and sizes that follow from its
#: annotations: block, arguments that fit, then the one that does not.
REFUSALS = [refusal for file in _FILES for refusal in getattr(file, "REFUSALS", ())]

__all__ = ["BLOCKS", "CASES", "FIRST", "REFUSALS", "TOLERANCES", "Case"]
