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

#: Attributes that hold vectors of the classes, and those that say how to get other ones.
_VECTORS = ("txt_feats", "pe")
_ENCODERS = ("text_model", "clip_model")


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
    if not all(hasattr(model, "set_classes") for model in (target, source)):
        return {}
    head, other = target.model[-1], source.model[-1]
    vectors = [name for name in _VECTORS if isinstance(getattr(source, name, None), torch.Tensor)]
    built = not hasattr(target, "task")  # by a trainer: the host names the task of all others
    fits = type(head) is type(other) and _inputs(head) == _inputs(other)
    folded = is_folded(head) != is_folded(other)
    if folded and (built or not fits):
        refuse(
            f"{getattr(source, 'pt_path', None) or 'the checkpoint'}: its classes are folded into "
            f"its head ({type(other).__name__}), and the model's head does not take them",
            "graft into this checkpoint with `yolograft patch`, or start from the one before",
        )
    if not fits:
        return dict.fromkeys(vectors, "the heads differ")
    if built and head.nc != other.nc:
        return dict.fromkeys(vectors, f"{other.nc} classes there, {head.nc} here")
    if folded:
        _take_head(target, source)
    target.model[-1].nc = other.nc
    for name in (*vectors, *_ENCODERS):
        if hasattr(source, name):
            setattr(target, name, copy.deepcopy(getattr(source, name)))
    target.names = copy.deepcopy(source.names)
    return dict.fromkeys(vectors, "")


def _inputs(head: nn.Module) -> tuple:
    """Return the widths and strides of the maps that a head reads."""
    branches = head.cv2 or head.one2one_cv2  # folding may leave one of them
    first = [next(m for m in one.modules() if isinstance(m, nn.Conv2d)) for one in branches]
    return [conv.in_channels for conv in first], head.stride.tolist()


def is_folded(head: nn.Module) -> tuple[bool, bool]:
    """Tell whether a head holds its classes: with their vectors in it, and as a vocabulary.

    Args:
        head: The last layer of any model.
    """
    return bool(getattr(head, "is_fused", False)), hasattr(head, "lrpc")


def _take_head(target: nn.Module, source: nn.Module) -> None:
    """Put a copy of the checkpoint's head in the place of the model's."""
    old, weight = target.model[-1], next(target.parameters())
    head = copy.deepcopy(source.model[-1]).to(weight).train(old.training)
    learns = {name: parameter.requires_grad for name, parameter in old.named_parameters()}
    for name, parameter in head.named_parameters():
        parameter.requires_grad_(learns.get(name, True))
    for name in ("i", "f", "type"):
        setattr(head, name, getattr(old, name))
    target.model[-1] = head
