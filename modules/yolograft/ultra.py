"""What we call in Ultralytics. Our own code calls Ultralytics' own builders, never our hooks."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import FunctionType
from typing import Any

from yolograft import files

#: Stock stages that hold bottlenecks with a 3x3 second convolution: `C2f_SK` and the like.
STAGES = ("C2", "C2f", "C3", "C3k2", "BottleneckCSP", "RepNCSPELAN4")

#: Heads with model classes of their own, and the class of the Python API that knows those.
_OWN_MODELS = {
    "RTDETRDecoder": "RTDETR",
    "WorldDetect": "YOLOWorld",
    "YOLOEDetect": "YOLOE",
    "YOLOESegment": "YOLOE",
    "YOLOESegment26": "YOLOE",
}


class Misfit(Exception):
    """A function of Ultralytics that no longer looks as we expect it."""


def original(target: str) -> Callable:
    """Return a function of Ultralytics as it is without our hook.

    Args:
        target: ``"module:function"`` or ``"module:Class.method"``.
    """
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    while hasattr(found, "_yolograft"):
        found = found.__wrapped__
    return found


def with_globals(function: FunctionType, **others: Any) -> FunctionType:
    """Return a copy of a function that sees other objects under some of its global names.

    Args:
        function: A function of Ultralytics, which stays as it is.
        **others: The names and what they mean to the copy.

    Raises:
        Misfit: If the function does not use a name.
    """
    for name in others:
        if name not in function.__code__.co_names:
            msg = f"{function.__qualname__} does not use {name}"
            raise Misfit(msg)
    copy = FunctionType(
        function.__code__,
        {**function.__globals__, **others},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def classes(config: dict[str, Any]) -> dict[str, type]:
    """Return Ultralytics' classes for a config: ``model``, ``trainer``, ``validator``, ...

    Args:
        config: What a model YAML holds; its head decides.
    """
    import ultralytics
    from ultralytics.nn import tasks

    head = config["head"][-1][2]
    api = getattr(ultralytics, _OWN_MODELS.get(head, "YOLO"))
    task = "detect" if head == "RTDETRDecoder" else tasks.guess_model_task(config)
    return api.task_map.fget(None)[task]  # the property reads nothing of an instance


def build_model(config: dict[str, Any]) -> Any:
    """Return Ultralytics' model of a config; rows that would download weights start without.

    Args:
        config: What a model YAML holds.
    """
    config = deepcopy(config)
    for part in ("backbone", "head"):
        config[part] = [without_weights(row) for row in config[part]]
    return classes(config)["model"](config, verbose=False)


def without_weights(row: list) -> list:
    """Return a copy of a row that downloads no weights when it is built.

    Args:
        row: A row of a config.
    """
    row = deepcopy(list(row))
    if row[2] == "TorchVision" and len(row[3]) > 2:
        row[3][2] = None
    return row


def find_yaml(name: str) -> Path | None:
    """Return the data YAML that ``data=`` means, ``None`` where that is not one file.

    Args:
        name: What the user gave: a path, or the name of a YAML of Ultralytics or of the pack.
    """
    if "://" in name:
        return None
    if os.path.isdir(name):
        found = sorted([*Path(name).glob("*.yaml"), *Path(name).glob("*.yml")])
        return found[0] if len(found) == 1 else None
    if not name.lower().endswith((".yaml", ".yml")):
        if os.path.exists(name):
            return None
        name = f"{name}.yaml"
    if ours := files.data_yaml(name):
        return ours
    file = original("ultralytics.data.utils:check_file")(name, hard=False)
    return Path(file) if file else None
