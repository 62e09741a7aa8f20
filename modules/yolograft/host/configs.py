"""Wrap ``yaml_model_load``: find the pack's model YAMLs by bare name, and refuse broken files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from yolograft.registry import refuse

_HERE = Path(__file__).resolve().parents[1]
#: Inside the package in a wheel, beside modules/ in an editable install or a checkout.
CFG = _HERE / "cfg" if (_HERE / "cfg").is_dir() else _HERE.parents[1] / "cfg"


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``yaml_model_load`` that also knows the pack's files.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: The function to wrap.
    """

    def yaml_model_load(path):
        file = find_model(str(path))
        try:
            config = original(file or path)
        except (AttributeError, TypeError, ValueError):
            check_mapping(file or path)
            raise
        for key in ("backbone", "head"):
            if not isinstance(config.get(key), list):
                refuse(
                    f"{path}: the key {key!r} is missing"
                    if key not in config
                    else f"{path}: {key!r} is {config[key]!r}, not a list of rows",
                    "a model YAML has `backbone:` and `head:`, each a list of rows",
                )
        if file:
            config["scale"] = tasks.guess_model_scale(path)
            config["yaml_file"] = str(path)
        return config

    return yaml_model_load


def find_model(path: str) -> str | None:
    """Return the file of a model name, the user's own first, then the pack's.

    The scale letter is taken out of the base name only: stock Ultralytics also strips it from the
    names of folders.

    Args:
        path: What the user gave as ``model=``.

    Returns:
        A path, or ``None`` where Ultralytics is to search by its own rules.
    """
    if "://" in path or os.path.exists(path):
        return None
    folder, name = os.path.split(path)
    bare = re.sub(r"(\d+)[nslmx](.+)?$", r"\1\2", name)
    users = os.path.join(folder, bare)
    if os.path.isfile(users):
        return users
    return next((str(CFG / n) for n in (name, bare) if not folder and (CFG / n).is_file()), None)


def check_mapping(path: str) -> None:
    """Refuse a YAML file whose top level is no mapping.

    Args:
        path: Path of the file.

    Raises:
        ConfigError: If the file holds a list or a plain value.
    """
    import yaml

    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8", errors="ignore") as stream:
        content = yaml.safe_load(stream)
    if not isinstance(content, dict):
        refuse(
            f"{path}: the file holds a {type(content).__name__}, not a mapping",
            "a model YAML has the keys `nc`, `backbone` and `head`",
        )
