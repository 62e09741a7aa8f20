"""What a World or YOLOE model knows of its classes, beside the tensors of its layers.

Such a model compares what it sees with one vector per class. The vectors and the number of classes
are attributes, which no state dict holds: a model that is built from a config has random vectors,
or none. Some checkpoints have the vectors folded into the head, which no config can say.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from yolograft.errors import refuse
from yolograft.warm.layers import name, placed

#: Attributes that hold vectors of the classes, and those that say how to get other ones.
_VECTORS = ("txt_feats", "pe")
_ENCODERS = ("text_model", "clip_model")


def takes_texts(model: nn.Module) -> bool:
    """Return whether a model finds the classes that texts name."""
    return hasattr(model, "set_classes")


def take(target: nn.Module, source: nn.Module) -> dict[str, str]:
    """Give a model the classes of a checkpoint: its vectors, names and number.

    A model that a ``YOLO`` object holds, or that is grafted from the checkpoint, becomes a model of
    the checkpoint's classes. One that a trainer has just built keeps its number: it is the number
    of texts per image, and the trainer sets the vectors.

    Args:
        target: The model to fill.
        source: The model of a checkpoint.

    Returns:
        For each set of vectors in the checkpoint why it was not taken; empty where it was.

    Raises:
        ConfigError: If the classes are folded into the checkpoint's head, and cannot be taken.
    """
    if not (takes_texts(target) and takes_texts(source)):
        return {}
    head, other = target.model[-1], source.model[-1]
    vectors = [key for key in _VECTORS if isinstance(getattr(source, key, None), torch.Tensor)]
    built = not hasattr(target, "task")  # by a trainer: Ultralytics names the task of all others
    fits = type(head) is type(other) and _inputs(head) == _inputs(other)
    folded = is_folded(head) != is_folded(other)
    if folded and (built or not fits):
        refuse(
            f"{name(source)}: its classes are folded into its head ({type(other).__name__}), which "
            "the model's head cannot take over",
            "graft into this checkpoint with `yolograft patch`, or start from the one before",
        )
    if not fits:
        return dict.fromkeys(vectors, "the heads differ")
    if built and head.nc != other.nc:
        return dict.fromkeys(vectors, f"it has {other.nc} classes, the model has {head.nc}")
    if folded:
        target.model[-1] = placed(other, head)
    target.model[-1].nc = other.nc
    for key in (*vectors, *_ENCODERS):
        if hasattr(source, key):
            setattr(target, key, copy.deepcopy(getattr(source, key)))
    target.names = copy.deepcopy(source.names)
    return dict.fromkeys(vectors, "")


def _inputs(head: nn.Module) -> tuple:
    """Return the widths and strides of the maps that a head reads."""
    branches = head.cv2 or head.one2one_cv2  # folding may leave one of them
    first = [next(m for m in one.modules() if isinstance(m, nn.Conv2d)) for one in branches]
    return [conv.in_channels for conv in first], head.stride.tolist()


def is_folded(head: nn.Module) -> tuple[bool, bool]:
    """Return whether a head holds its classes: with their vectors in it, and as a vocabulary.

    Args:
        head: The last layer of any model.
    """
    return bool(getattr(head, "is_fused", False)), hasattr(head, "lrpc")
