"""What a config may make Ultralytics execute: layers, and an activation of PyTorch."""

from __future__ import annotations

import ast

from yolograft import trial, ultra
from yolograft.config import rows
from yolograft.errors import refuse


def check_evaluated(config: dict, name: str = "") -> None:
    """Refuse a config that makes Ultralytics execute anything but layers of a model.

    Ultralytics evaluates ``activation:`` as Python, and calls any function of its module that a
    row names.

    Args:
        config: What a model YAML holds.
        name: What messages call it; its file when left out.

    Raises:
        ConfigError: If ``activation:`` is not ``nn.X(...)`` or ``torch.nn.X(...)`` with literal
            arguments, or a row names something that is not a layer.
    """
    name = name or rows.name(config)
    if value := config.get("activation"):
        _check_activation(value, f"{name}: activation: {value!r}")
    for index, row in enumerate(rows.raw(config)):
        label = row[2] if isinstance(row, list | tuple) and len(row) > 2 else None
        if isinstance(label, str) and not ultra.is_layer(label):
            refuse(
                f"{name}, row {index}: {label} is a function or another object, not a layer",
                "a row names a module, such as Conv or nn.Upsample",
            )


def _check_activation(value: object, fact: str) -> None:
    import torch
    from torch import nn

    kind, args, named = _literal_call(value) if isinstance(value, str) else ("", [], {})
    cls, reason = getattr(nn, kind, None), "is not an activation of torch.nn"
    if isinstance(cls, type) and issubclass(cls, nn.Module):
        maps = torch.zeros(2, 8, 4, 4), torch.zeros(2, 12, 4, 4)  # of any width
        does = "cannot be built"
        try:
            with trial.undisturbed(), torch.no_grad():
                activation = cls(*args, **named)
                does = "cannot be applied to any feature map"
                shapes = [activation(one).shape for one in maps]
        except Exception as error:
            reason = f"{does} ({type(error).__name__}: {error})"
        else:
            if shapes == [one.shape for one in maps]:
                return
            reason = "changes the shape of a feature map"
    refuse(
        f"{fact} {reason}",
        "write a class of torch.nn with literal arguments: nn.SiLU(), nn.LeakyReLU(0.1)",
    )


def _literal_call(text: str) -> tuple[str, list, dict]:
    """Return class and arguments of ``nn.X(...)``; the class is empty for anything else."""
    try:
        match ast.parse(text.strip(), mode="eval").body:
            case ast.Call(
                ast.Attribute(ast.Name("nn") | ast.Attribute(ast.Name("torch"), "nn"), kind),
                args,
                keywords,
            ):
                named = {word.arg: ast.literal_eval(word.value) for word in keywords}
                return kind, [ast.literal_eval(arg) for arg in args], named
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        pass
    return "", [], {}
