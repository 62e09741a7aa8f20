"""``freeze=10`` counts rows of the base, not of the grafted model.

Blocks that were put between the rows of a base shift the numbers of those behind them:
``freeze=10`` would freeze blocks that are not trained yet, and leave out rows that it was meant
for. The config's record, its key ``graft``, says which row of the base each row is. Blocks stay
trainable, also inside a frozen stage. A config without a record, or with one that was broken by
hand, is counted as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from yolograft.blocks.blend import Blend
from yolograft.config import origin, rows
from yolograft.config.labels import split


@contextlib.contextmanager
def as_given(trainer: Any) -> Iterator[None]:
    """Leave a trainer's ``args.freeze`` as it was given.

    Args:
        trainer: Whose training is set up meanwhile.
    """
    given = trainer.args.freeze
    try:
        yield
    finally:
        trainer.args.freeze = given


def translate(model: nn.Module, given: list[int | str]) -> tuple[list[str], str]:
    """Return what to freeze in a grafted model, for rows of its base.

    Args:
        model: The model to train.
        given: Numbers of rows, or names of modules in them, as in ``"22.cv2"``.

    Returns:
        Names of modules, as Ultralytics takes them; and the base and the rows, in words. Both are
        empty where the config does not say from which base its rows are.
    """
    config = getattr(model, "yaml", None)
    record = origin.read(config)
    if record is None or len(record.origins) != len(getattr(model, "model", ())):
        return [], ""
    origins = record.origins
    at = {str(one.row): i for i, one in enumerate(origins) if not one.inserted}
    labels = [row[2] for row in rows.raw(config)]
    names, meant = [], set()
    for row in given:
        number, _, path = str(row).partition(".")
        meant.add(number)
        if number in at:
            i = at[number]
            names += _solid(str(i), model.model[i], path, labels[i])
        elif not number.isdigit():
            names.append(str(row))
    frozen = sorted({int(name.partition(".")[0]) for name in names if name[0].isdigit()})
    blocks = [
        f"{i} ({label})"
        for i, (label, one) in enumerate(zip(labels, origins, strict=True))
        if split(label)[1] and str(one.row) in meant
    ]
    text = f"{record.base or 'the base'}: layers {', '.join(map(str, frozen)) or 'none'} are frozen"
    return names, text + (f", blocks stay trainable in {', '.join(blocks)}" if blocks else "")


def _solid(name: str, module: nn.Module, path: str, label: str) -> list[str]:
    """Return the modules with parameters that hold nothing of a block, the outermost of each."""
    block = split(label)[1]
    fresh = (Blend, block.load()) if block else ()
    if isinstance(module, Blend):
        return _solid(f"{name}.old", module.old, path, label)
    first, _, rest = path.partition(".")
    if first:
        child = module._modules.get(first)
        return _solid(f"{name}.{first}", child, rest, label) if child is not None else []
    if isinstance(module, fresh) or next(module.parameters(), None) is None:
        return []
    if not any(isinstance(part, fresh) for part in module.modules()):
        return [name]
    children = module.named_children()
    return [one for key, child in children for one in _solid(f"{name}.{key}", child, "", label)]
