"""What we call in Ultralytics. Our own code calls Ultralytics' own builders, never our hooks."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from copy import deepcopy
from types import FunctionType
from typing import Any

#: Stock stages that hold bottlenecks with a 3x3 second convolution: `C2f_SK` and the like.
STAGES = ("C2", "C2f", "C3", "C3k2", "BottleneckCSP", "RepNCSPELAN4")


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


def is_stock(label: str) -> bool:
    """Tell whether Ultralytics knows the module name of a row.

    Args:
        label: Module name of a row.
    """
    from ultralytics.nn import tasks

    return label.startswith(("nn.", "torchvision.ops.")) or hasattr(tasks, label)


def stock_names() -> list[str]:
    """Return the names of the layers that Ultralytics has."""
    from torch import nn
    from ultralytics.nn import tasks

    return [
        name
        for name, value in vars(tasks).items()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__.startswith("ultralytics.nn.modules")
    ]


def is_layer(label: str) -> bool:
    """Tell whether the module name of a row means a layer to Ultralytics, or nothing.

    What means nothing is reported by Ultralytics itself.

    Args:
        label: Module name of a row.
    """
    import torchvision
    from torch import nn
    from ultralytics.nn import tasks

    for prefix, place in (("nn.", nn), ("torchvision.ops.", torchvision.ops), ("", tasks)):
        if label.startswith(prefix):
            found = getattr(place, label.removeprefix(prefix), nn.Identity)
            break
    return (
        isinstance(found, type)
        and issubclass(found, nn.Module)
        and not issubclass(found, tasks.BaseModel)
    )


#: Model classes that are not those of their task, by the head.
_MODELS_BY_HEAD = {
    "RTDETRDecoder": "RTDETRDetectionModel",
    "WorldDetect": "WorldModel",
    "YOLOEDetect": "YOLOEModel",
    "YOLOESegment": "YOLOESegModel",
    "YOLOESegment26": "YOLOESegModel",
}


def build_model(config: dict[str, Any]) -> Any:
    """Return Ultralytics' model of a config, by its head.

    Args:
        config: What a model YAML holds. Rows that would download weights are built without.
    """
    from ultralytics import YOLO
    from ultralytics.nn import tasks

    config = deepcopy(config)
    for part in ("backbone", "head"):
        config[part] = [without_weights(row) for row in config[part]]
    special = _MODELS_BY_HEAD.get(config["head"][-1][2])
    if special:
        return getattr(tasks, special)(config, verbose=False)
    task = tasks.guess_model_task(config)
    return YOLO.task_map.fget(None)[task]["model"](config, verbose=False)


def without_weights(row: list[Any]) -> list[Any]:
    """Return a copy of a row that downloads no weights when it is built.

    Args:
        row: A row of a config.
    """
    row = deepcopy(list(row))
    if row[2] == "TorchVision" and len(row[3]) > 2:
        row[3][2] = None
    return row
