"""Wrap ``BaseTrainer.setup_model`` and ``_setup_train``: ``freeze=10`` counts rows of the base.

Blocks that were put between the rows of a base shift the numbers of those behind them:
``freeze=10`` would freeze blocks that nothing has trained, and leave out rows that it was meant
for. The config's record, its key ``graft``, says which row of the base each row is. Blocks stay
trainable, also inside a frozen stage. A config without a record, or with one that was broken by
hand, is counted as it is.

The host reads ``args.freeze`` while it sets up a training, and keeps it in checkpoints, so what the
user gave is put back afterwards.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from yolograft import registry
from yolograft.blocks.blend import Blend
from yolograft.errors import ConfigError
from yolograft.graft import edits, recipes
from yolograft.graft.graph import split


def make_model(trainer: ModuleType, original: Callable) -> Callable:
    """Return a ``setup_model`` that translates ``args.freeze`` once the model is there.

    Args:
        trainer: ``ultralytics.engine.trainer``.
        original: ``BaseTrainer.setup_model``.
    """

    def setup_model(self):
        checkpoint = original(self)
        given = self.args.freeze
        rows = list(range(given)) if isinstance(given, int) else given
        if isinstance(rows, list) and rows and isinstance(self.model, nn.Module):
            model = getattr(self.model, "student_model", self.model)
            names, text = translate(model, rows)
            if text:
                self.args.freeze = names
                trainer.LOGGER.info(f"yolograft: freeze={given} counts the rows of {text}")
        return checkpoint

    return setup_model


def make_train(trainer: ModuleType, original: Callable) -> Callable:
    """Return a ``_setup_train`` that leaves ``args.freeze`` as it was given.

    Args:
        trainer: ``ultralytics.engine.trainer``.
        original: ``BaseTrainer._setup_train``.
    """

    def _setup_train(self, *args, **kwargs):
        with as_given(self):
            return original(self, *args, **kwargs)

    return _setup_train


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


def translate(model: nn.Module, rows: list[int | str]) -> tuple[list[str], str]:
    """Return what to freeze in a grafted model, for rows of its base.

    Args:
        model: The model to train.
        rows: Numbers of rows, or names of modules in them, as in ``"22.cv2"``.

    Returns:
        Names of modules, as the host takes them; and the base and the rows, in words. Both are
        empty where the config does not say from which base its rows are.
    """
    base, origins = _record(getattr(model, "yaml", None) or {})
    if len(origins) != len(getattr(model, "model", ())):
        return [], ""
    at = {str(row).rpartition(" ")[2]: i for i, row in enumerate(origins) if not _inserted(row)}
    labels = [row[2] for row in (*model.yaml["backbone"], *model.yaml["head"])]
    names, meant = [], set()
    for row in rows:
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
        for i, (label, row) in enumerate(zip(labels, origins, strict=True))
        if split(label)[1] and str(row).rpartition(" ")[2] in meant
    ]
    text = f"{base or 'the base'}: layers {', '.join(map(str, frozen)) or 'none'} are frozen"
    return names, text + (f", blocks stay trainable in {', '.join(blocks)}" if blocks else "")


def _inserted(row: int | str) -> bool:
    return str(row).startswith("after")


def _record(config: dict) -> tuple[str, list[int | str]]:
    """Return the base of a config and each row's origin; the pack's own files are by recipe."""
    record = config.get("graft")
    name = edits.unscaled(Path(str(config.get("yaml_file") or "")).name)
    recipe = Path(name).stem.removeprefix("yolov8-")
    if record is None and (recipes.CFG / name).is_file() and recipe in recipes.names():
        with contextlib.suppress(ConfigError):  # a recipe of the user's by that name
            made = edits.patch("yolov8.yaml", recipe)
            if all(made[part] == config[part] for part in ("backbone", "head")):
                record = made["graft"]
    rows = record.get("rows") if isinstance(record, dict) else None
    if not isinstance(rows, list) or not _in_order(rows):
        return "", []
    return str(record.get("base") or ""), rows


def _in_order(origins: list) -> bool:
    """Tell whether origins name rows of a base, each that stayed once and in its place."""
    if not all(re.fullmatch(r"((after|for|in) )?\d+", str(row)) for row in origins):
        return False
    stayed = [int(str(row).rpartition(" ")[2]) for row in origins if not _inserted(row)]
    return stayed == sorted({*stayed})


def _solid(name: str, module: nn.Module, path: str, label: str) -> list[str]:
    """Return the modules with parameters that hold nothing of a block, the outermost of each."""
    block = split(label)[1]
    fresh = (Blend, registry.load(block)) if block else ()
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
