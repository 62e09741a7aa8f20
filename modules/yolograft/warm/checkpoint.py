"""A trained model in, a grafted one out."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from yolograft import files
from yolograft.config import rows
from yolograft.errors import ConfigError, refuse
from yolograft.graft.graph import Graph
from yolograft.graft.make import Graft, graft
from yolograft.warm import rebuild, transplant
from yolograft.warm.report import Report

#: What a training attaches to a model, and prediction needs.
_ATTACHED = "args kpt_names kpt_oks_sigmas kpt_shape names task transforms".split()


@dataclass(frozen=True)
class Patched:
    """A trained model with blocks grafted in.

    Attributes:
        model: The model, in float32.
        graft: What was done to its config.
        report: What was carried over.
        content: What the checkpoint held.
        dtype: The precision that it held the weights in.
    """

    model: nn.Module
    graft: Graft
    report: Report
    content: dict
    dtype: torch.dtype


def patch(file: str, recipe: str | Path | dict | list, warm: str | None = None) -> Patched:
    """Graft blocks into the model of a checkpoint.

    Args:
        file: A checkpoint of Ultralytics.
        recipe: As for :func:`yolograft.graft_model`.
        warm: As for :func:`yolograft.graft_model`.

    Raises:
        ConfigError: If the file is no such checkpoint, or a recipe does not fit its model.
    """
    content, source = read(file)
    return transfer(source, recipe, warm, Path(file).name, content)


def transfer(
    source: nn.Module,
    recipe: str | Path | dict | list,
    warm: str | None,
    name: str,
    content: dict,
) -> Patched:
    """Return a grafted model that has learned what another has.

    Args:
        source: A trained model; it becomes float32.
        recipe: As for :func:`yolograft.graft_model`.
        warm: As for :func:`yolograft.graft_model`.
        name: What messages call the trained model.
        content: What its checkpoint held.

    Raises:
        ConfigError: If a recipe does not fit the model, or its BatchNorm is folded, or it was
            pruned.
    """
    dtype = next(source.parameters()).dtype
    source = source.float()
    result = graft(source.yaml, recipe, warm, name=name)
    if reshaped := rebuild.pruned(source):
        refuse(
            f"{name}: {reshaped} as its config builds: the model was pruned, or changed by hand",
            "graft into the model as it was before",
        )
    channels = rows.channels(source.yaml)
    model = type(source)(copy.deepcopy(result.config), ch=channels, verbose=False)
    for key in _ATTACHED:
        if hasattr(source, key):
            setattr(model, key, copy.deepcopy(getattr(source, key)))
    transplant.widen(model, source)
    report = transplant.warm_start(model, source)
    return Patched(model.eval(), result, report, content, dtype)


def read(file: str) -> tuple[dict, nn.Module]:
    """Return what a checkpoint holds, and the model in it.

    Args:
        file: A checkpoint of Ultralytics, by path or by the name of an official one.

    Raises:
        ConfigError: If there is none, or it holds no model that is built from rows.
    """
    from ultralytics.nn import tasks
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    if not os.path.isfile(file) and file not in GITHUB_ASSETS_NAMES:
        refuse(f"{file}: there is no such file", "give the path of a checkpoint, such as best.pt")
    try:
        content, _ = tasks.torch_safe_load(file)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        msg = f"{file}: this is not a checkpoint ({type(error).__name__}: {text})"
        raise ConfigError(msg) from error
    model = content.get("ema") or content.get("model") if isinstance(content, dict) else None
    if not is_model(model):
        refuse(
            f"{file}: this is not a checkpoint of Ultralytics: it holds no model",
            "give one that `yolo train` wrote",
        )
    Graph(model.yaml, Path(file).name)  # refuses what was not built from rows
    model.pt_path = file
    return content, model


def is_model(found: object) -> bool:
    """Return whether an object is a model of Ultralytics that keeps its config."""
    return isinstance(found, nn.Module) and isinstance(getattr(found, "yaml", None), dict)


def untrained(content: dict, model: nn.Module) -> dict:
    """Return what a checkpoint holds of a model that is yet to be fine-tuned.

    Args:
        content: What the checkpoint of the base held.
        model: The grafted model.
    """
    state = {"ema": None, "optimizer": None, "scaler": None, "updates": None, "epoch": -1}
    results = ("best_fitness", "train_metrics", "train_results")
    return {**content, **state, "model": model, **{k: None for k in results if k in content}}


def save(patched: Patched, file: Path) -> None:
    """Write a checkpoint that Ultralytics loads: a model that is yet to be fine-tuned.

    Args:
        patched: What to write.
        file: Where to; nothing is there until all is written.
    """
    model = copy.deepcopy(patched.model).to(patched.dtype)
    for parameter in model.parameters():
        parameter.requires_grad = False
    files.write(file, lambda stream: torch.save(untrained(patched.content, model), stream))
