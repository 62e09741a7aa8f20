"""Train and validate: what ``yolograft train`` and ``yolograft val`` do.

Both hand everything to Ultralytics. What they add: COCO JSON without a data YAML, defaults by
device, several machines, refusals before anything starts, and the official COCO numbers at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

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
    given = _options(args)
    resume = given.pop("resume", None)
    if resume:
        model = _load(_latest() if resume is True else resume)
        if (model.ckpt or {}).get("epoch", -1) < 0 or model.ckpt.get("optimizer") is None:
            refuse(
                f"--resume {model.ckpt_path}: there is nothing to go on with: its training is done",
                "give last.pt of a run that was cut short, or train on from it with --model",
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
    from yolograft.training import watch

    with _errors_told():
        if watch.launched():
            return _train_across(model, given)
        model.train(**given)
    _tell(model.trainer.save_dir, model.trainer.data)
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
    with _errors_told():
        found = model.val(**given)
    return 0 if _tell(found.save_dir, data) else 1


def defaults(device: str | int | None) -> dict[str, Any]:
    """Return what depends on the device, where the user says nothing.

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
    given = {key: getattr(args, key, None) for key in OPTIONS}
    given = {key: value for key, value in given.items() if value is not None}
    found, rest = pairs.read(args.overrides, given)
    if rest:
        refuse(f"{rest[0]!r}: what is that?", "Ultralytics' arguments are written key=value")
    given |= found
    if file := given.pop("cfg", None):
        given = {**_settings(file), **given}
    if isinstance(given.get("pretrained"), str):
        given["pretrained"] = pairs.value_of(given["pretrained"])
    pairs.check(given)
    data = _data(args, given.get("data"))
    return {**given, **({"data": data} if data else {})}


def _settings(file: str) -> dict[str, Any]:
    """Return what a file of settings gives, as in ``cfg=mine.yaml``; ``yolo copy-cfg`` writes one.

    Args:
        file: By name or path.
    """
    from ultralytics.utils.checks import check_yaml

    try:
        content = yaml.safe_load(Path(check_yaml(file)).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, AssertionError, yaml.YAMLError) as error:
        refuse(f"cfg={file}: {' '.join(str(error).split())}", "give the path of a YAML file")
    if not isinstance(content, dict):
        refuse(f"cfg={file}: the file holds no mapping", "write one setting a line, `epochs: 100`")
    return {k: v for k, v in content.items() if v is not None and k not in ("cfg", "mode", "task")}


def _data(args: Namespace, data: str | None) -> str | None:
    """Return the data YAML; one that says what the options say where they say more."""
    direct = {
        "train": (getattr(args, "coco_train", None), getattr(args, "train_images", None)),
        "val": (args.coco_val, args.val_images),
    }
    if not any(jsons or folders for jsons, folders in direct.values()):
        return _allowing(data) if args.allow_missing and data else data
    if data:
        refuse(f"--data {data}: --coco-train and --coco-val name data too", "give one of them")
    content: dict[str, Any] = {"images": {}}
    for split, (jsons, folders) in direct.items():
        if not jsons:
            if split == "val" or args.command == "train":
                refuse(f"--coco-{split} is missing", f"name the COCO JSON: --coco-{split} a.json")
            continue
        content[split] = [_there(file, f"--coco-{split}", Path.is_file) for file in jsons]
        folders = [_there(f, f"--{split}-images", Path.is_dir) for f in folders or ()]
        if len(folders) not in (0, 1, len(jsons)):
            refuse(
                f"--{split}-images names {len(folders)} folders for {len(jsons)} JSON files",
                "name one folder for all of them, or one each",
            )
        if folders:
            content["images"][split] = folders if len(folders) > 1 else folders[0]
    if "train" not in content:  # Ultralytics wants both
        content["train"] = content["val"]
    content["allow_missing"] = args.allow_missing
    return _keep(content, Path(content["train"][0]).stem)


def _there(name: str, option: str, test: Any) -> str:
    if not test(Path(name)):
        kind = "file" if test is Path.is_file else "folder"
        refuse(f"{option} {name}: no such {kind}", f"the working directory is {Path.cwd()}")
    return os.path.abspath(name)  # a link stays one: images are found beside it


def _allowing(data: str) -> str:
    """Return a data YAML that says the same, and that missing images are left out."""
    from ultralytics.data import utils

    from yolograft.coco import config
    from yolograft.hooks.data import find_yaml

    file = find_yaml(utils, data)
    content = config.read(file) if file else None
    if content is None:
        refuse(
            f"--allow-missing: {data} does not name COCO JSON",
            "leave it out; Ultralytics skips missing images of its own lists",
        )
    root = config.resolve(content, file, utils.DATASETS_DIR)["path"]
    return _keep({**content, "path": root, "allow_missing": True}, file.stem)


def _keep(content: dict[str, Any], name: str) -> str:
    """Write a data YAML into the user's cache folder; equal content is one file.

    A training takes it into its own folder, which is not known before it starts.
    """
    text = yaml.safe_dump(content, sort_keys=False)
    return _write(text, "data", f"{name[:80]}-{_digest(text)}.yaml")


def keep_with_run(trainer: Any) -> None:
    """Copy a data YAML that a command has written into the cache to the folder of its run.

    A training is resumed from there, whatever becomes of the cache.

    Args:
        trainer: Ultralytics' trainer, about to save a checkpoint.
    """
    from ultralytics.utils import YAML

    file, folder = Path(str(trainer.args.data)), Path(trainer.save_dir)
    if file.parent != files.cache("data") or not file.is_file():
        return
    own = folder / file.name
    files.write(own, file.read_bytes())
    for args in (trainer.args, getattr(trainer.validator, "args", None)):
        if args is not None:
            args.data = str(own)
    told = folder / "args.yaml"
    if told.is_file():
        YAML.save(told, {**YAML.load(told), "data": str(own)})


def _grafted(model: str, recipe: str) -> str:
    """Return a model YAML in the user's cache folder: the model with a recipe's blocks."""
    from yolograft.graft import file, graft

    result = graft(model, recipe)
    text = file.text(result)
    return _write(text, f"models/{_digest(text)}", Path(result.config["yaml_file"]).name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _write(text: str, folder: str, name: str) -> str:
    file = files.cache(folder, name)
    try:
        files.write(file, text)
    except OSError as error:
        refuse(
            f"{file}: {error.strerror or error}",
            "set XDG_CACHE_HOME to a folder that can be written, or write the YAML yourself and "
            "give it as --data or --model",
        )
    return str(file)


# -------------------------------------------------------------------------------------------- run


def _load(name: str) -> Any:
    from ultralytics import RTDETR, YOLO

    kind = RTDETR if "rtdetr" in Path(name).stem.lower() else YOLO  # as the `yolo` command does
    try:
        return kind(str(name))
    except OSError as error:  # not there, a folder, or not to be downloaded
        refuse(f"{name}: {error}", "name a model YAML or a checkpoint")


def _check_data(model: Any, data: str | None) -> dict[str, Any] | None:
    """Return what a data YAML holds, or refuse what Ultralytics would with a run's folder made."""
    if not data or model.task not in ("detect", "segment", "pose"):
        return None
    from ultralytics.data import utils

    try:
        return utils.check_det_dataset(data)
    except (FileNotFoundError, RuntimeError, SyntaxError) as error:
        refuse(f"{data}: {error}", "correct the data YAML or its path")


def _latest() -> str:
    from ultralytics.utils.files import get_latest_run

    found = get_latest_run()
    if not found:
        refuse("--resume: no last.pt below the working directory", "name it: --resume run/last.pt")
    return found


@contextlib.contextmanager
def _errors_told() -> Iterator[None]:
    """Bring what the user can mend out of the exceptions that Ultralytics wraps it in."""
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
        refuse(f"batch={given['batch']}: it is found out on one GPU only", "give a number")
    with nodes.group(given.get("device")) as device, _errors_told():
        trainer = nodes.across(model._smart_load("trainer"))
        model.train(trainer=trainer, **{**given, "device": device})
    if int(os.environ["RANK"]):
        return 0
    run, options = model.trainer.save_dir, nodes.changed(model.trainer.args)
    best = next(f for f in (model.trainer.best, model.trainer.last) if f.exists())
    options = {k: v for k, v in options.items() if k not in _NOT_FOR_VAL}
    options |= {"project": run.parent, "name": run.name, "exist_ok": True}
    options["batch"] = max(2 * model.trainer.batch_size // model.trainer.world_size, 1)
    alone = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    command = [sys.executable, "-c", "import sys; from yolograft.cli import main; sys.exit(main())"]
    command += ["val", "--model", best, "--data", model.trainer.args.data]
    command += ["--device", device.split(",")[0], *(f"{k}={v}" for k, v in options.items())]
    return subprocess.run([str(word) for word in command], env=alone, check=False).returncode


def _tell(run: Path, data: dict[str, Any] | None) -> bool:
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
