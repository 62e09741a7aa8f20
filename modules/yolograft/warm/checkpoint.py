"""A trained model in, a grafted one out."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from yolograft import files
from yolograft.errors import ConfigError, refuse
from yolograft.graft.graph import Graph
from yolograft.graft.make import Graft, graft
from yolograft.warm import rebuild, transplant


@dataclass(frozen=True)
class Patched:
    """A checkpoint with blocks grafted in.

    Attributes:
        model: The host's model, in float32.
        graft: What was done to its config.
        report: What was carried over.
        content: What the checkpoint held.
        dtype: The precision that it held the weights in.
    """

    model: nn.Module
    graft: Graft
    report: transplant.Report
    content: dict
    dtype: torch.dtype


def patch(file: str, recipe: str | dict | list, warm: str | None = None) -> Patched:
    """Graft blocks into a trained model.

    Args:
        file: A checkpoint of Ultralytics.
        recipe: As for :func:`yolograft.patch`.
        warm: As for :func:`yolograft.patch`.

    Raises:
        ConfigError: If the file is no such checkpoint, or a recipe does not fit its model.
    """
    content, source = _read(file)
    dtype = next(source.parameters()).dtype
    source = source.float()
    result = graft(source.yaml, recipe, warm, name=Path(file).name)
    if reshaped := rebuild.pruned(source):
        refuse(
            f"{file}: {reshaped} as its config builds: the model was pruned, or changed by hand",
            "graft into the model as it was before",
        )
    channels = rebuild.channels(source.yaml)
    model = type(source)(copy.deepcopy(result.config), ch=channels, verbose=False)
    for name in ("names", "args", "task", "kpt_names"):
        if hasattr(source, name):
            setattr(model, name, copy.deepcopy(getattr(source, name)))
    transplant.widen(model, source)
    report = transplant.warm_start(model, source)
    return Patched(model.eval(), result, report, content, dtype)


def _read(file: str) -> tuple[dict, nn.Module]:
    """Return what a checkpoint holds, and the model in it."""
    from ultralytics.nn import tasks
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    if not os.path.isfile(file) and file not in GITHUB_ASSETS_NAMES:
        refuse(f"{file}: there is no such file", "give the path of a checkpoint, such as best.pt")
    try:
        content, _ = tasks.torch_safe_load(file)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        msg = f"{file}: this is no checkpoint ({type(error).__name__}: {text})"
        raise ConfigError(msg) from error
    model = content.get("ema") or content.get("model") if isinstance(content, dict) else None
    if not (isinstance(model, nn.Module) and isinstance(getattr(model, "yaml", None), dict)):
        refuse(
            f"{file}: this is no checkpoint of Ultralytics: it holds no model",
            "give one that `yolo train` wrote",
        )
    Graph(model.yaml, Path(file).name)  # refuses what was built from no rows
    model.pt_path = file
    return content, model


def save(patched: Patched, file: Path) -> None:
    """Write a checkpoint that the host loads: a model that is yet to be fine-tuned.

    Args:
        patched: What to write.
        file: Where to; nothing is there until all is written.
    """
    model = copy.deepcopy(patched.model).to(patched.dtype)
    for parameter in model.parameters():
        parameter.requires_grad = False
    state = {"ema": None, "optimizer": None, "scaler": None, "updates": None, "epoch": -1}
    known = {k: None for k in ("best_fitness", "train_metrics", "train_results")}
    content = {**patched.content, **state, "model": model}
    content |= {k: v for k, v in known.items() if k in content}
    files.write(file, lambda stream: torch.save(content, stream))
