"""COCO JSON that the options of a command name: a data YAML in the cache folder says the same."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from yolograft import files
from yolograft.errors import refuse


def data_yaml(args: Namespace, data: str | None) -> str | None:
    """Return the data YAML of a command; options that say more are written into another one.

    Args:
        args: From the command line.
        data: The data YAML that it names.

    Raises:
        ConfigError: If the options contradict each other, or a file is missing.
    """
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
        content[split] = [_existing(f, f"--coco-{split}", Path.is_file, "file") for f in jsons]
        option = f"--{split}-images"
        folders = [_existing(f, option, Path.is_dir, "folder") for f in folders or ()]
        if len(folders) not in (0, 1, len(jsons)):
            refuse(
                f"{option} names {len(folders)} folders for {len(jsons)} JSON files",
                "name one folder for all of them, or one each",
            )
        if folders:
            content["images"][split] = folders if len(folders) > 1 else folders[0]
    content.setdefault("train", content["val"])  # Ultralytics requires both
    content["allow_missing"] = args.allow_missing
    return _keep(content, Path(content["train"][0]).stem)


def _existing(name: str, option: str, test: Callable[[Path], bool], kind: str) -> str:
    if not test(Path(name)):
        refuse(f"{option} {name}: no such {kind}", f"the working directory is {Path.cwd()}")
    return os.path.abspath(name)  # a link stays one: images are found beside it


def _allowing(data: str) -> str:
    """Return a data YAML that says the same, and that missing images are skipped."""
    from ultralytics.data import utils

    from yolograft.coco import config

    file = config.find(data)
    content = config.read(file) if file else None
    if content is None:
        refuse(
            f"--allow-missing: {data} does not name COCO JSON",
            "leave it out; Ultralytics skips missing images of its own lists",
        )
    root = config.resolve(content, file, utils.DATASETS_DIR)["path"]
    return _keep({**content, "path": root, "allow_missing": True}, file.stem)


def _keep(content: dict[str, Any], name: str) -> str:
    """Write a data YAML into the cache folder; equal content is one file.

    A training copies it into its own folder, which is not known before it starts.
    """
    text = yaml.safe_dump(content, sort_keys=False)
    return files.keep(text, "data", f"{name[:80]}-{files.digest(text)}.yaml")


def keep_with_run(trainer: Any) -> None:
    """Copy a data YAML that a command has written into the cache to the folder of its run.

    A training is resumed from there, even if the cache was emptied.

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
    record = folder / "args.yaml"
    if record.is_file():
        YAML.save(record, {**YAML.load(record), "data": str(own)})
