"""Where Ultralytics calls us: each function that we wrap, in one table.

:data:`HOOKS` is the documentation and the working list. Each file here wraps one function, or
the few that have one purpose; ``yolograft doctor --hooks`` prints the table.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from types import FunctionType, ModuleType
from typing import Any

from yolograft.ultra import Misfit


@dataclass(frozen=True)
class Hook:
    """A function of Ultralytics that we wrap.

    Attributes:
        target: ``"module:function"`` or ``"module:Class.method"``.
        make: ``"file:function"`` in this room; the function takes the module and the original, and
            returns the replacement.
        parameters: Names that the signature has to start with.
        why: What we wrap it for.
        instead: What Ultralytics could offer that would make the wrap unnecessary.
        since: First of the supported releases whose signature is that of the newest one.
    """

    target: str
    make: str
    parameters: tuple[str, ...]
    why: str
    instead: str
    since: str = "8.3.220"

    @property
    def module(self) -> str:
        """Return the module that holds the function."""
        return self.target.partition(":")[0]


def _hooks(why: str, instead: str, *functions: tuple[str, ...]) -> list[Hook]:
    """Return the hooks of one purpose; each has target, maker, parameters and perhaps since."""
    return [
        Hook(target, make, tuple(parameters.split()), why, instead, *since)
        for target, make, parameters, *since in functions
    ]


_TASKS = "ultralytics.nn.tasks"
_DATA = "ultralytics.data"
_ENGINE = "ultralytics.engine"
_RTDETR = "ultralytics.models.rtdetr"
_DETECT = "ultralytics.models.yolo.detect.val:DetectionValidator"
_SEGMENT = "ultralytics.models.yolo.segment.val:SegmentationValidator"

HOOKS: tuple[Hook, ...] = (
    *_hooks(
        "the `yolo` command ends with our message alone, without a traceback",
        "a class of errors that `entrypoint` prints without a traceback",
        ("ultralytics.cfg:entrypoint", "command:make", "debug"),
    ),
    *_hooks(
        "rows of a model YAML can name the blocks",
        "a registry of custom modules, with their rule for channels, that `parse_model` reads",
        (f"{_TASKS}:parse_model", "parser:make", "d ch verbose"),
    ),
    *_hooks(
        "`model=yolov8n-sk.yaml` is found, and `model=yolo11n-cbam.yaml` is grafted",
        "a list of folders or functions that look up a model YAML",
        (f"{_TASKS}:yaml_model_load", "configs:make", "path"),
    ),
    *_hooks(
        "an error in a block is reported with the row of the model YAML",
        "an error of a layer's forward that names the layer's row",
        (f"{_TASKS}:BaseModel.forward", "forward:make", "self x"),
    ),
    *_hooks(
        "the blocks fold their BatchNorm too",
        "a `BaseModel.fuse` that calls the `fuse()` of any layer that has one",
        (f"{_TASKS}:BaseModel.fuse", "fuse:make", "self verbose", "8.4.120"),
        (f"{_TASKS}:BaseModel.is_fused", "fuse:make_is_fused", "self", "8.4.150"),
    ),
    *_hooks(
        "`ULTRALYTICS_SAFE_LOAD=1` accepts checkpoints that hold the blocks",
        "a callback before a checkpoint is read, to allow the classes that it holds",
        (f"{_TASKS}:torch_load", "load:make", ""),
    ),
    *_hooks(
        "a grafted model takes over the tensors of the checkpoint that its base was trained to",
        "an `on_model_load` callback that gets the model and the tensors before they are matched",
        (f"{_TASKS}:BaseModel.load", "weights:make", "self weights verbose"),
    ),
    *_hooks(
        "`data=shapes.yaml` is found",
        "a list of folders or functions that look up a data YAML",
        (f"{_DATA}.utils:check_file", "data:make", "file"),
    ),
    *_hooks(
        "`cfg=shapes-demo.yaml` is found",
        "a list of folders or functions that look up a settings file",
        ("ultralytics.utils.checks:check_yaml", "settings:make", "file"),
    ),
    *_hooks(
        "a data YAML can name COCO JSON",
        "a registry of data formats that `check_det_dataset` reads",
        (f"{_DATA}.utils:check_det_dataset", "data:make_check", "dataset autodownload", "8.4.120"),
    ),
    *_hooks(
        "images and targets come from the COCO JSON",
        "an argument for the dataset class of a trainer and a validator",
        (f"{_DATA}.build:build_yolo_dataset", "build:make", "cfg img_path batch data", "8.4.60"),
        (f"{_RTDETR}.train:RTDETRTrainer.build_dataset", "rtdetr:make", "self"),
        (f"{_RTDETR}.val:RTDETRValidator.build_dataset", "rtdetr:make", "self"),
    ),
    *_hooks(
        "a validation on COCO JSON also gives the official COCO numbers",
        "a callback with each batch's predictions, and metrics that a callback can add",
        (f"{_ENGINE}.validator:BaseValidator.__call__", "validator:make_call", "self", "8.4.150"),
        (f"{_DETECT}.init_metrics", "validator:make_init", "self model"),
        (f"{_DETECT}.update_metrics", "validator:make_update", "self preds batch"),
        (f"{_DETECT}.gather_stats", "validator:make_gather", "self"),
        (f"{_DETECT}.get_stats", "validator:make_stats", "self"),
        (f"{_SEGMENT}.init_metrics", "validator:make_init_masks", "self model"),
        ("ultralytics.utils.metrics:DetMetrics.results_dict", "validator:make_results", "self"),
    ),
    *_hooks(
        "results.csv has a column for each of these numbers",
        "columns of results.csv that a callback can add, blank where there is no value",
        (f"{_ENGINE}.trainer:BaseTrainer.save_metrics", "trainer:make", "self metrics"),
    ),
    *_hooks(
        "a run can be resumed after the cache folder was emptied",
        "a callback before the first checkpoint is written",
        (f"{_ENGINE}.trainer:BaseTrainer.save_model", "trainer:make_save", "self"),
    ),
    *_hooks(
        "a training of a model with blocks ends with the path of an image of predictions",
        "a last line of `yolo train` that names the images of predictions",
        (f"{_ENGINE}.trainer:BaseTrainer.final_eval", "trainer:make_final", "self"),
    ),
    *_hooks(
        "`freeze=10` counts rows of the base, not the blocks between them",
        "a `freeze` that takes a function, called with the model",
        (f"{_ENGINE}.trainer:BaseTrainer.setup_model", "freeze:make_model", "self"),
        (f"{_ENGINE}.trainer:BaseTrainer._setup_train", "freeze:make_train", "self"),
    ),
)

#: Target -> None when it is wrapped, else the reason why not. Read by ``yolograft doctor``.
STATUS: dict[str, str | None] = {}


def attach(name: str) -> None:
    """Wrap the functions of one module of Ultralytics that has just been loaded.

    A wrap that does not fit is left out with one warning; stock configs work as before.

    Args:
        name: Full module name.
    """
    for hook in HOOKS:
        if hook.module != name:
            continue
        make = pkgutil.resolve_name(f"{__name__}.{hook.make}")
        try:
            _wrap(hook, make)
            STATUS[hook.target] = None
        except Exception as error:
            STATUS[hook.target] = str(error)
            _warn(hook.target, error)


def _wrap(hook: Hook, make: Callable) -> None:
    """Replace a function, and every copy of it that other modules have bound by name.

    Raises:
        Misfit: If the function is missing or has another signature.
    """
    module = sys.modules[hook.module]
    path = hook.target.partition(":")[2]
    *owners, name = path.split(".")
    owner: Any = module
    for part in owners:
        owner = getattr(owner, part, None)
    original = getattr(owner, name, None)
    if original is None:
        msg = f"{path} is missing"
        raise Misfit(msg)
    is_property = isinstance(original, property)
    original = original.fget if is_property else original
    if hasattr(original, "_yolograft"):
        return
    found = tuple(inspect.signature(original).parameters)
    if found[: len(hook.parameters)] != hook.parameters:
        msg = f"{path}({', '.join(found)}) does not start with ({', '.join(hook.parameters)})"
        raise Misfit(msg)
    replacement = functools.wraps(original)(make(module, original))
    replacement._yolograft = True
    setattr(owner, name, property(replacement) if is_property else replacement)
    if not owners and original.__module__ == hook.module:
        _rebind(name, original, replacement)


def _rebind(name: str, original: Callable, replacement: Callable) -> None:
    """Replace the copies of a function, and those of its wrap before a reload."""
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            held = vars(module).get(name)
            before = vars(held)["__wrapped__"] if _is_wrap(held) else held
            if before is original or (
                before is not held and before.__globals__ is original.__globals__
            ):
                setattr(module, name, replacement)


def _is_wrap(function: Any) -> bool:
    return isinstance(function, FunctionType) and "_yolograft" in vars(function)


def _warn(target: str, error: Exception) -> None:
    import ultralytics
    from ultralytics.utils import LOGGER

    LOGGER.warning(
        f"yolograft {version('yolograft')} does not fit ultralytics {ultralytics.__version__}: "
        f"{target.replace(':', '.')} was not wrapped ({error}). Stock configs work; grafted ones "
        "may not. Hint: update yolograft, then run `yolograft doctor`."
    )
