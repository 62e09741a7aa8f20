"""The only room that knows Ultralytics' internals: one host function per file.

============  ============================================  ====================================
file          wraps                                         so that
============  ============================================  ====================================
parser.py     ``ultralytics.nn.tasks.parse_model``          YAML rows can name the blocks
configs.py    ``ultralytics.nn.tasks.yaml_model_load``      ``model=yolov8n-sk.yaml`` is found,
                                                            and ``yolo11n-cbam.yaml`` is grafted
fuse.py       ``ultralytics.nn.tasks.BaseModel.fuse``       the blocks fold their BatchNorm too
              and ``BaseModel.is_fused``
load.py       ``ultralytics.nn.tasks.torch_load``           ``ULTRALYTICS_SAFE_LOAD=1`` accepts
                                                            checkpoints that hold the blocks
forward.py    ``ultralytics.nn.tasks.BaseModel.forward``    a failing block is reported by its row
command.py    ``ultralytics.cfg.entrypoint``                ``yolo`` ends with the message alone
weights.py    ``ultralytics.nn.tasks.BaseModel.load``       a grafted model takes over the tensors
                                                            of the checkpoint that it grew from
data.py       ``ultralytics.data.utils.check_file``         ``data=shapes.yaml`` is found
              and ``check_det_dataset``                     a data YAML can name COCO JSON
build.py      ``ultralytics.data.build``'s                  its images and targets come from
              ``build_yolo_dataset``                        the JSON
rtdetr.py     ``build_dataset`` of RT-DETR's trainer and    RT-DETR reads COCO JSON too
              validator
validator.py  ``BaseValidator.__call__``, steps of          the official COCO numbers are added
              ``DetectionValidator`` and
              ``SegmentationValidator``,
              ``DetMetrics.results_dict``
trainer.py    ``engine.trainer.BaseTrainer.save_metrics``   results.csv has a column for each
              and ``save_model``                            a run can be resumed without the cache
freeze.py     its ``setup_model`` and ``_setup_train``      ``freeze=10`` counts rows of the base
============  ============================================  ====================================

Four files wrap nothing. ``trial.py`` runs blocks of others once. ``classifier.py`` holds the one
block that is a class of Ultralytics', so that the host knows a classification net by it;
``nodes.py`` the trainer for several machines, which ``yolograft train`` hands to Ultralytics;
``watch.py`` lets them end together.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from yolograft.ultra import ORIGINALS, Misfit

#: Host function -> None when wrapped, else the reason why not. Read by ``yolograft doctor``.
STATUS: dict[str, str | None] = {}


def attach(name: str) -> None:
    """Wrap the host functions of one Ultralytics module that has just been loaded.

    A wrap that does not fit is left out with one warning; stock configs work as before.

    Args:
        name: Full module name.
    """
    if name == "ultralytics.cfg":  # `yolo version` and the like need no more
        from yolograft.hooks import command

        _attach("ultralytics.cfg:entrypoint", ("debug",), command.make)
        return
    from yolograft.hooks import (
        build,
        configs,
        data,
        forward,
        freeze,
        fuse,
        load,
        parser,
        rtdetr,
        trainer,
        validator,
        weights,
    )

    detect = "ultralytics.models.yolo.detect.val:DetectionValidator"
    segment = "ultralytics.models.yolo.segment.val:SegmentationValidator"
    for target, parameters, make in (
        ("ultralytics.nn.tasks:parse_model", ("d", "ch", "verbose"), parser.make),
        ("ultralytics.nn.tasks:yaml_model_load", ("path",), configs.make),
        ("ultralytics.nn.tasks:BaseModel.forward", ("self", "x"), forward.make),
        ("ultralytics.nn.tasks:BaseModel.fuse", ("self", "verbose"), fuse.make),
        ("ultralytics.nn.tasks:BaseModel.is_fused", ("self",), fuse.make_is_fused),
        ("ultralytics.nn.tasks:torch_load", (), load.make),
        ("ultralytics.nn.tasks:BaseModel.load", ("self", "weights", "verbose"), weights.make),
        ("ultralytics.data.utils:check_file", ("file",), data.make),
        (
            "ultralytics.data.utils:check_det_dataset",
            ("dataset", "autodownload"),
            data.make_check,
        ),
        (
            "ultralytics.data.build:build_yolo_dataset",
            ("cfg", "img_path", "batch", "data"),
            build.make,
        ),
        ("ultralytics.engine.validator:BaseValidator.__call__", ("self",), validator.make_call),
        ("ultralytics.utils.metrics:DetMetrics.results_dict", ("self",), validator.make_results),
        (f"{detect}.init_metrics", ("self", "model"), validator.make_init),
        (f"{detect}.update_metrics", ("self", "preds", "batch"), validator.make_update),
        (f"{detect}.gather_stats", ("self",), validator.make_gather),
        (f"{detect}.get_stats", ("self",), validator.make_stats),
        (f"{segment}.init_metrics", ("self", "model"), validator.make_init_masks),
        ("ultralytics.models.rtdetr.val:RTDETRValidator.build_dataset", ("self",), rtdetr.make),
        ("ultralytics.models.rtdetr.train:RTDETRTrainer.build_dataset", ("self",), rtdetr.make),
        ("ultralytics.engine.trainer:BaseTrainer.save_metrics", ("self", "metrics"), trainer.make),
        ("ultralytics.engine.trainer:BaseTrainer.save_model", ("self",), trainer.make_save),
        ("ultralytics.engine.trainer:BaseTrainer.setup_model", ("self",), freeze.make_model),
        ("ultralytics.engine.trainer:BaseTrainer._setup_train", ("self",), freeze.make_train),
    ):
        if target.startswith(name + ":"):
            _attach(target, parameters, make)


def _attach(target: str, parameters: tuple[str, ...], make: Callable) -> None:
    try:
        wrap(target, parameters, make)
        STATUS[target] = None
    except Exception as error:
        STATUS[target] = str(error)
        _warn(target, error)


def wrap(target: str, parameters: tuple[str, ...], make: Callable) -> None:
    """Replace a host function, and every copy of it that other modules have bound by name.

    Args:
        target: ``"module:function"`` or ``"module:Class.method"``.
        parameters: Names that its signature has to start with.
        make: Takes the module and the original, returns the replacement.

    Raises:
        Misfit: If the function is missing or has another signature.
    """
    module_name, _, path = target.partition(":")
    module = sys.modules[module_name]
    *owners, name = path.split(".")
    owner = module
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
    if found[: len(parameters)] != parameters:
        msg = f"{path}({', '.join(found)}) does not start with ({', '.join(parameters)})"
        raise Misfit(msg)
    ORIGINALS[target] = original
    replacement = functools.wraps(original)(make(module, original))
    replacement._yolograft = True
    setattr(owner, name, property(replacement) if is_property else replacement)
    if not owners and original.__module__ == module_name:
        _rebind(name, original, replacement)


def _rebind(name: str, original: Callable, replacement: Callable) -> None:
    """Replace the copies of a host function, and those of its wrap before a reload."""
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

    from yolograft import __version__

    LOGGER.warning(
        f"yolograft {__version__} does not fit ultralytics {ultralytics.__version__}: "
        f"{target.replace(':', '.')} was left as it is ({error}). Stock configs work; grafted ones "
        "may not. Hint: `pip install -U yolograft`, then `yolograft doctor`."
    )
