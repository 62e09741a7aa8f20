"""What is compared: the base, its variants and a control; what cannot be compared is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from yolograft import pairs
from yolograft.compare import control, records, variants
from yolograft.compare import data as datasets
from yolograft.compare.records import Plan, Unreadable
from yolograft.errors import ConfigError, nearest, refuse

#: What every run gets unless the user says otherwise.
DEFAULTS = {"deterministic": True, "plots": False, "patience": 0, "imgsz": 640, "batch": 16}

#: What a comparison decides by itself, and what to do instead.
_OWN = {
    "model": "give --base, --recipes or a plan file",
    "data": "give --data",
    "seed": "give --seeds, how many",
    "epochs": "give --epochs",
    "project": "give --project",
    "name": "runs are named after variant and seed",
    "exist_ok": "a comparison continues by itself",
    "resume": "start the same command again: it continues where it was",
    "pretrained": "give the checkpoint as --base",
    "time": "variants that stop by the clock are not trained alike; give --epochs",
    "mode": "a comparison trains and validates",
    "task": "the base's head decides the task",
    "cfg": "give the settings themselves",
    "save": "the best checkpoint is what is evaluated",
    "val": "the best epoch is found by validating each",
    "split": "a comparison validates on `val`",
    "save_dir": "give --project",
}


def make(
    base: str,
    entries: list[Any],
    data: str,
    seeds: int,
    epochs: int,
    project: str | Path,
    overrides: dict[str, Any] | None = None,
    command: str = "",
    fetch: bool = True,
    allow_unequal: bool = False,
) -> Plan:
    """Return the plan of a comparison.

    Args:
        base: A model YAML by name or path, or a checkpoint.
        entries: The variants; each a recipe (``sk``, ``sk+cbam``), a model YAML, a checkpoint, or
            ``{name: ..., model: ...}`` or ``{name: ..., recipe: ...}``.
        data: A data YAML by name or path.
        seeds: How many.
        epochs: Of every run.
        project: Folder of the comparison.
        overrides: Training arguments for all runs.
        command: The user's command, for the report.
        fetch: Download or draw data that are not here yet.
        allow_unequal: Compare also what starts from other weights than the base.

    Raises:
        ConfigError: If something of it cannot be compared.
    """
    if not entries:
        refuse("there is nothing to compare the base with", "give --recipes sk,cbam")
    for name, value in (("seeds", seeds), ("epochs", epochs)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            refuse(f"{name}={value!r}: must be a positive integer", "3 seeds are the least")
    settings, devices = _settings(overrides or {})
    project = Path(project).absolute()
    _check_folder(project)
    start = variants.load("base", base)
    models = [start, *(variants.variant(one, start) for one in entries)]
    variants.check_names(models)
    variants.check_tasks(models)
    file, content = datasets.check(data, fetch)
    imgsz = -(-int(settings["imgsz"]) // 32) * 32
    models = [variants.counted(one, content, imgsz) for one in models]
    unequal = variants.unequal(models[0], models[1:])
    if unequal and not allow_unequal:
        refuse(
            f"{unequal} Their differences would be those of the training before",
            "give the checkpoint as --base, and blocks as recipes; or add --allow-unequal-starts, "
            "and the report says so",
        )
    images = {split: len(datasets.images(content, split)) for split in ("train", "val")}
    plan = Plan(
        variants=models,
        data=file,
        seeds=list(range(seeds)),
        epochs=epochs,
        settings=settings,
        devices=devices,
        images=images,
        digest=datasets.fingerprint(content) if images["train"] else _last_digest(project),
        command=command,
        unequal=unequal,
        project=project,
    )
    control.add(plan, content, imgsz)
    variants.check_names(plan.variants)
    _check_disk(plan)
    return plan


def read(file: str | Path) -> dict[str, Any]:
    """Return the content of a plan file.

    Args:
        file: A YAML with ``base``, ``variants`` and ``data``, and if wanted ``seeds``, ``epochs``,
            ``project`` and ``settings``.

    Raises:
        ConfigError: If it is not one.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{file}: the plan cannot be read ({' '.join(str(error).split())})"
        raise ConfigError(msg) from error
    known = ("base", "variants", "data", "seeds", "epochs", "project", "settings")
    if not isinstance(content, dict):
        refuse(f"{file}: the file is not a mapping", f"a plan has the keys {', '.join(known)}")
    for key in content:
        if key not in known:
            hint = nearest(str(key), known) or f"use {', '.join(known)}"
            refuse(f"{file}: the key {key!r} is unknown", hint)
    if not isinstance(content.get("variants", []), list):
        refuse(f"{file}: `variants` is not a list", "write one variant a line, `- sk`")
    if not isinstance(content.get("settings", {}), dict):
        refuse(f"{file}: `settings` is not a mapping", "write {imgsz: 640}")
    return content


def _settings(overrides: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return checked training arguments, and the devices."""
    from ultralytics.cfg import DEFAULT_CFG_DICT

    for key, value in overrides.items():
        if key in _OWN:
            refuse(f"{key}={value}: a comparison sets this itself", _OWN[key])
        if key not in DEFAULT_CFG_DICT:
            hint = nearest(key, DEFAULT_CFG_DICT) or "`yolo cfg` lists the settings"
            refuse(f"{key}={value}: there is no such setting", hint)
    settings = {**DEFAULTS, **overrides}
    devices = _devices(settings.pop("device", None))
    batch = settings["batch"]
    if not isinstance(batch, int) or batch < 1:
        refuse(f"batch={batch}: every variant needs the same batch", "give a number, as in 16")
    if not isinstance(settings["imgsz"], int) or settings["imgsz"] < 32:
        refuse(f"imgsz={settings['imgsz']} is not an image size", "give pixels, 32 or more")
    pairs.check({**settings, "mode": "train"})
    return dict(sorted(settings.items())), devices


def _devices(value: Any) -> list[str]:
    """Return the devices that are there; each run gets one."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if value is None or value == "":
        return [str(i) for i in range(count)] or ["cpu"]
    listed = value if isinstance(value, list | tuple) else str(value).split(",")
    names = [str(one).strip().removeprefix("cuda:") for one in listed]
    for name in names:
        if name == "cpu" or (name == "mps" and torch.backends.mps.is_available()):
            continue
        if not name.isdigit() or int(name) >= count:
            there = ", ".join([*map(str, range(count)), "cpu"])
            refuse(f"device={value}: there is no device {name}", f"there are {there}")
    if len({*names}) < len(names) or ("cpu" in names and len(names) > 1):
        refuse(f"device={value}: devices are named once, cpu alone", "write device=0,1")
    return names


def _check_folder(project: Path) -> None:
    above = _existing(project)
    if not above.is_dir():
        refuse(f"{project}: {above} is a file", "choose another --project")
    if not os.access(above, os.W_OK):
        refuse(f"{project}: {above} cannot be written to", "choose another --project")
    taken = {file.name for file in project.iterdir()} if project.is_dir() else set()
    if taken and not taken & {"plan.json", ".lock"}:
        refuse(f"{project}: the folder holds something else", "choose another --project")


def _check_disk(plan: Plan) -> None:
    free, needed = shutil.disk_usage(_existing(plan.project)).free, disk(plan)
    if free < needed:
        refuse(
            f"{plan.project}: {free / 1e9:.1f} GB are free, and the comparison takes up to "
            f"{needed / 1e9:.1f} GB",
            "choose another --project, or fewer seeds",
        )


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def disk(plan: Plan) -> int:
    """Return the bytes that a comparison still takes at most, about.

    Args:
        plan: What is compared.
    """
    there = records.read(plan.project)
    kept = sum(
        2 * one.params + 3e6
        for one in plan.variants
        for seed in plan.seeds
        if f"{one.name}-seed{seed}" not in there
    )
    running = max(one.params for one in plan.variants) * 40 * len(plan.devices)
    return int(kept + running)


def _last_digest(project: Path) -> str:
    """Return the digest of the data that the folder's last comparison had."""
    try:
        return records.load(Plan, project / "plan.json").digest
    except Unreadable:
        return ""
