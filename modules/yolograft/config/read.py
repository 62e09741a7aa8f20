"""Find and read a model YAML: the user's own, the pack's, or Ultralytics'."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from yolograft import ultra
from yolograft.config import rows, scale
from yolograft.errors import refuse
from yolograft.files import CFG


def load(path: str) -> dict[str, Any]:
    """Return what a model YAML holds, with its scale, as Ultralytics loads it.

    Args:
        path: Name or path.

    Raises:
        ConfigError: If the file is not a model YAML, or does not have the scale of its name.
        FileNotFoundError: If there is no such file.
    """
    file = find(path)
    if not file and os.path.isdir(path):
        refuse(f"{path}: this is a folder", "give the name or the path of a model YAML")
    if file and os.path.dirname(Path(path)) and Path(file).parent == CFG:
        say_once(path, f"the pack's {file}")
    try:
        config = ultra.original("ultralytics.nn.tasks:yaml_model_load")(file or path)
    except (AttributeError, TypeError, ValueError):
        _check_mapping(file or path)
        raise
    rows.check_sections(config, path)
    if file:
        config["scale"] = scale.letter(path)
        config["yaml_file"] = path
    scale.check_letter(path, config)
    return config


def find(path: str) -> str | None:
    """Return the file of a model name, the user's own first, then the pack's.

    Args:
        path: What the user gave as ``model=``. In the pack, its base name is looked up.

    Returns:
        A path, or ``None`` where Ultralytics searches by its own rules.
    """
    if "://" in path or os.path.isfile(path):
        return None
    bare, name = scale.file_of(path)
    users = os.path.join(os.path.dirname(Path(path)), bare)
    if os.path.isfile(users):
        return users
    return next((str(CFG / one) for one in (name, bare) if (CFG / one).is_file()), None)


def bases() -> list[str]:
    """Return the names of all model YAMLs of Ultralytics and of the pack."""
    from ultralytics.utils import ROOT

    stock = [path.name for path in (ROOT / "cfg" / "models").rglob("*.yaml")]
    return sorted({*stock, *(path.name for path in CFG.glob("*.yaml"))})


def _check_mapping(path: str) -> None:
    """Refuse a YAML file whose top level is not a mapping."""
    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8", errors="ignore") as stream:
        content = yaml.safe_load(stream)
    if not isinstance(content, dict):
        refuse(
            f"{path}: the file holds a {type(content).__name__}, not a mapping",
            "a model YAML has the keys `nc`, `backbone` and `head`",
        )


_said: set[str] = set()


def say_once(path: str, meaning: str) -> None:
    """Log once what a model name means.

    Args:
        path: The name.
        meaning: The meaning, in words.
    """
    from ultralytics.utils import LOGGER

    if path not in _said:
        _said.add(path)
        LOGGER.info(f"yolograft: {path} is {meaning}")
