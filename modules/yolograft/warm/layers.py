"""What a layer is: what it reads, its tensors, whether it is a head or a stem."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from yolograft import exact
from yolograft.blocks._carry import Carried
from yolograft.config import rows
from yolograft.config.labels import split
from yolograft.roles import take_place


def sources(layer: nn.Module) -> list[int]:
    """Return the numbers of the layers that a layer reads; -1 is the image."""
    return [rows.absolute(source, layer.i) for source in rows.as_list(layer.f)]


def labels(model: nn.Module) -> list[str]:
    """Return the module names of a model's rows; an empty list for a model without rows."""
    given = rows.raw(getattr(model, "yaml", None) or {})
    return [row[2] for row in given] if len(given) == len(model.model) else []


def holds_blocks(model: nn.Module) -> bool:
    """Return whether a row of a model holds a block, alone or inside a stage."""
    return any(split(label)[1] for label in labels(model))


def name(model: nn.Module) -> str:
    """Return the file of a checkpoint's model, for messages."""
    return str(getattr(model, "pt_path", None) or "the checkpoint")


def with_layers(model: nn.Module, layers: nn.Sequential) -> nn.Module:
    """Return a model that is another, except for its layers.

    Args:
        model: A model, which stays as it is.
        layers: The layers to hold instead.
    """
    view = copy.copy(model)
    view._modules = {**model._modules, "model": layers}
    return view


# ----------------------------------------------------------------------------------------- tensors


def shapes(layer: nn.Module) -> dict[str, torch.Size]:
    """Return the shape of each tensor of a layer."""
    return {k: v.shape for k, v in layer.state_dict().items()}


def fitting(theirs: Mapping[str, Tensor], mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of one state that have the same name and shape in another.

    Args:
        theirs: The state to take tensors from.
        mine: The state to fill.
    """
    return {k: v for k, v in theirs.items() if k in mine and mine[k].shape == v.shape}


def carry(layer: nn.Module, other: nn.Module) -> Carried | None:
    """Do as :func:`exact.carry`, but a head may have other classes, and a stem other channels.

    Args:
        layer: The layer to fill.
        other: The trained layer.
    """
    if not (is_head(layer, other) or is_stem(layer, other)):
        return exact.carry(layer, other)
    fits = fitting(other.state_dict(), layer.state_dict())
    return Carried(fits, {k: k for k in fits}) if fits else None


def placed(module: nn.Module, like: nn.Module) -> nn.Module:
    """Return a copy of a checkpoint's module, ready to be trained in another's place.

    Args:
        module: A module of a checkpoint.
        like: The module that it replaces.
    """
    new = copy.deepcopy(module).train(like.training)
    learns = {k: parameter.requires_grad for k, parameter in like.named_parameters()}
    for k, parameter in new.named_parameters():
        parameter.requires_grad_(learns.get(k, parameter.is_floating_point()))
    if (weight := next(like.parameters(), None)) is not None:
        new.to(weight)
    take_place(new, like)
    return new


# ------------------------------------------------------------------------------------ head and stem


def is_head(layer: nn.Module, other: nn.Module) -> bool:
    """Return whether two layers are heads of one kind, perhaps with other classes."""
    kinds = type(layer), type(other)
    related = issubclass(*kinds) or issubclass(*kinds[::-1])
    return related and None not in (classes(layer), classes(other))


def classes(head: nn.Module) -> int | None:
    """Return the number of classes of a head; ``None`` for any other layer."""
    linear = getattr(head, "linear", None)
    return getattr(head, "nc", None) or getattr(linear, "out_features", None)


def is_stem(layer: nn.Module, other: nn.Module) -> bool:
    """Return whether two layers are the same first one, except for the channels of the image."""
    mine, theirs = layer.state_dict(), other.state_dict()
    key = "conv.weight"
    return (
        layer.i == other.i == 0
        and type(layer) is type(other)
        and mine.keys() == theirs.keys()
        and {*mine} - {*fitting(theirs, mine)} == {key}
        and mine[key][:, 0].shape == theirs[key][:, 0].shape
    )


def is_fused(model: nn.Module) -> bool:
    """Return whether the BatchNorm of a model is folded into its convolutions."""
    from ultralytics.nn.modules import Conv

    return any(isinstance(m, Conv) and "bn" not in m._modules for m in model.modules())
