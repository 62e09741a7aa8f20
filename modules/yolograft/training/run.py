"""Train and validate: what ``yolograft train`` and ``yolograft val`` do.

Both pass everything to Ultralytics. What they add: COCO JSON without a data YAML, defaults by
device, several machines, errors before anything starts, and the official COCO numbers at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolograft import files, pairs
from yolograft.errors import ConfigError, refuse

#: Arguments of Ultralytics that have an option of their own here.
OPTIONS = ("model", "data", "device", "seed", "pretrained", "resume")

#: What a validation after a training across machines does not take over from the training.
_NOT_FOR_VAL = {*OPTIONS, "task", "mode", "project", "name", "save_dir", "exist_ok", "batch"}


def train(args: Namespace) -> int:
    """Train a model, then print the COCO numbers of its best checkpoint.

    Args:
        args: From the command line.

    Returns:
        The exit status.

    Raises:
        ConfigError: If an argument, the model or the data cannot be used.
    """
    from yolograft.training import watch

    given = _options(args)
    resume = given.pop("resume", None)
    if resume:
        model = _load(_latest() if resume is True else resume)
        if (model.ckpt or {}).get("epoch", -1) < 0 or model.ckpt.get("optimizer") is None:
            refuse(
                f"--resume {model.ckpt_path}: this training is finished",
                "give last.pt of an interrupted run, or start from this checkpoint with --model",
            )
        given["resume"] = model.ckpt_path
    else:
        if not given.get("model"):
            refuse("no model to train", "name one: --model yolov8n-sk.yaml")
        if not given.get("data"):
            refuse("no data to train on", "name them: --data coco.yaml, or --coco-train a.json")
        model = _load(_grafted(given["model"], args.recipe) if args.recipe else given["model"])
        given = {**defaults(given.get("device")), **given}
    given.pop("model", None)
    _check_data(model, given.get("data"))
    with _causes_raised():
        if watch.launched():
            return _train_across(model, given)
        model.train(**given)
    _print_numbers(model.trainer.save_dir, model.trainer.data)
    return 0


def val(args: Namespace) -> int:
    """Validate a model and print the COCO numbers.

    Args:
        args: From the command line.

    Returns:
        The exit status.

    Raises:
        ConfigError: If an argument, the model or the data cannot be used.
    """
    given = _options(args)
    for key, example in (("model", "runs/detect/train/weights/best.pt"), ("data", "coco.yaml")):
        if not given.get(key):
            refuse(f"no {key} to validate", f"name it: --{key} {example}")
    model = _load(given.pop("model"))
    data = _check_data(model, given["data"])
    with _causes_raised():
        found = model.val(**given)
    return 0 if _print_numbers(found.save_dir, data) else 1


def defaults(device: str | int | None) -> dict[str, Any]:
    """Return the arguments that depend on the device, for those that the user does not give.

    Mixed precision is for GPUs alone. A GPU waits for its images, so each process gets up to eight
    workers of its share of the cores; beside a network on the CPU they would only take its cores.
    Images are not kept in memory: Ultralytics then cannot promise equal runs, and on several GPUs
    each process would hold them all.

    Args:
        device: ``cpu``, ``0``, ``0,1``; Ultralytics' choice when left out.
    """
    import torch

    if device is None:
        device = "0" if torch.cuda.is_available() else "cpu"
    name = str(device).lower()
    if name in ("cpu", "mps"):
        return {"amp": False, "cache": False, "workers": 0}
    processes = max(len(name.split(",")), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    share = (os.cpu_count() or 1) // processes
    return {"amp": True, "cache": False, "workers": max(1, min(8, share))}


# -------------------------------------------------------------------------------------- arguments


def _options(args: Namespace) -> dict[str, Any]:
    """Return Ultralytics' arguments, checked as far as they can be without a model."""
    from yolograft.coco import options

    given = {key: getattr(args, key, None) for key in OPTIONS}
    given = {key: value for key, value in given.items() if value is not None}
    found, rest = pairs.read(args.overrides, given)
    if rest:
        refuse(f"{rest[0]!r} is not key=value", "write Ultralytics' arguments as in epochs=100")
    given |= found
    if file := given.pop("cfg", None):
        given = {**pairs.read_file(file), **given}
    if isinstance(given.get("pretrained"), str):
        given["pretrained"] = pairs.value_of(given["pretrained"])
    pairs.check(given)
    data = options.data_yaml(args, given.get("data"))
    return {**given, **({"data": data} if data else {})}


def _grafted(model: str, recipe: str) -> str:
    """Return a model YAML in the user's cache folder: the model with a recipe's blocks."""
    from yolograft.graft import file, graft

    result = graft(model, recipe)
    text, name = file.text(result), Path(result.config["yaml_file"]).name
    return files.keep(text, "models", files.digest(text), name)


# -------------------------------------------------------------------------------------------- run


def _load(name: str) -> Any:
    from ultralytics import RTDETR, YOLO

    kind = RTDETR if "rtdetr" in Path(name).stem.lower() else YOLO  # as the `yolo` command does
    try:
        return kind(str(name))
    except OSError as error:  # missing, a folder, or a download that failed
        refuse(f"{name}: {error}", "name a model YAML or a checkpoint")


def _check_data(model: Any, data: str | None) -> dict[str, Any] | None:
    """Return what a data YAML holds; report here what Ultralytics would after it made a folder."""
    if not data or model.task not in ("detect", "segment", "pose"):
        return None
    from yolograft.coco import config

    try:
        return config.check_data(data)
    except (FileNotFoundError, RuntimeError, SyntaxError) as error:
        refuse(f"{data}: {error}", "correct the data YAML or its path")


def _latest() -> str:
    from ultralytics.utils.files import get_latest_run

    found = get_latest_run()
    if not found:
        refuse("--resume: no last.pt below the working directory", "name it: --resume run/last.pt")
    return found


@contextlib.contextmanager
def _causes_raised() -> Iterator[None]:
    """Raise the :class:`ConfigError` that Ultralytics has wrapped into an exception of its own."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ConfigError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, FileNotFoundError):
            refuse(str(error), "correct the path")
        raise


def _train_across(model: Any, given: dict[str, Any]) -> int:
    """Train as one of torchrun's processes; the first then validates alone."""
    from yolograft.training import nodes

    if not given.get("resume") and float(given.get("batch", 16)) < 1:
        refuse(f"batch={given['batch']}: this is measured on one GPU only", "give a number")
    with nodes.group(given.get("device")) as device, _causes_raised():
        trainer = nodes.across(model.task_map[model.task]["trainer"])
        model.train(trainer=trainer, **{**given, "device": device})
    if int(os.environ["RANK"]):
        return 0
    trained, run = model.trainer, model.trainer.save_dir
    best = next(f for f in (trained.best, trained.last) if f.exists())
    options = {k: v for k, v in nodes.changed(trained.args).items() if k not in _NOT_FOR_VAL}
    options |= {"project": run.parent, "name": run.name, "exist_ok": True}
    options["batch"] = max(2 * trained.batch_size // trained.world_size, 1)
    alone = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    command = [sys.executable, "-c", "import sys; from yolograft.cli import main; sys.exit(main())"]
    command += ["val", "--model", best, "--data", trained.args.data]
    command += ["--device", device.split(",")[0], *(f"{k}={v}" for k, v in options.items())]
    return subprocess.run([str(word) for word in command], env=alone, check=False).returncode


def _print_numbers(run: Path, data: dict[str, Any] | None) -> bool:
    """Print the official numbers of a run, if its data is COCO JSON.

    Args:
        run: Its folder.
        data: What its data YAML holds.

    Returns:
        Whether nothing is missing.
    """
    from yolograft.coco import config, metrics

    if config.KEY not in (data or {}):
        return True
    file = Path(run) / metrics.FILE
    if not os.path.isfile(file):
        print(f"\n{run}: there are no COCO metrics. The warning above says why.")
        return False
    content = json.loads(file.read_text())
    numbers = {k: v for k, v in content.items() if k in ("bbox", "segm", "keypoints")}
    print(f"\n{file}: {content['images']} images of {', '.join(content['annotations'])}")
    print(metrics.table(numbers))
    return True
