"""Wrap ``check_file`` where data YAMLs are looked up: find the pack's own by bare name.

``check_det_dataset`` goes with it: a data YAML may name COCO JSON.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from yolograft.errors import refuse
from yolograft.files import CFG


def make(utils: ModuleType, original: Callable) -> Callable:
    """Return a ``check_file`` that looks into the pack's ``cfg/data`` last.

    Args:
        utils: ``ultralytics.data.utils``.
        original: The function to wrap.
    """

    def check_file(file, *args, **kwargs):
        name = str(file)
        ours = CFG / "data" / name
        if not os.path.dirname(name) and not os.path.exists(name) and ours.is_file():
            return str(ours)
        return original(file, *args, **kwargs)

    return check_file


def make_check(utils: ModuleType, original: Callable) -> Callable:
    """Return a ``check_det_dataset`` that takes names and more from COCO JSON.

    Args:
        utils: ``ultralytics.data.utils``.
        original: The function to wrap.
    """

    def check_det_dataset(dataset, autodownload=True, *args, **kwargs):
        from yolograft.coco import config

        file = find_yaml(utils, str(dataset))
        content = config.read(file) if file else None
        if content is None:
            return original(dataset, autodownload, *args, **kwargs)
        split = kwargs.get("split") or (args[0] if args else "")
        data = config.resolve(content, file, utils.DATASETS_DIR)
        if autodownload and data.get("download") and _lacks(data, split):
            _stock(original, {"names": ["?"], **data}, True)
        data = config.fill({k: v for k, v in data.items() if k != "download"}, split)
        checked = _stock(original, data, False, *args, **kwargs)
        checked["yaml_file"] = str(file)
        return checked

    return check_det_dataset


def find_yaml(utils: ModuleType, name: str) -> Path | None:
    """Return the data YAML that Ultralytics would read, ``None`` where that is not one file.

    Args:
        utils: ``ultralytics.data.utils``.
        name: What the user gave as ``data=``.
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
    file = utils.check_file(name, hard=False)
    return Path(file) if file else None


def _lacks(data: dict[str, Any], split: str) -> bool:
    named = data.get(split or "val") or []
    return not all(map(os.path.isfile, named if isinstance(named, list) else [named]))


def _stock(original: Callable, data: dict[str, Any], *args, **kwargs) -> dict[str, Any]:
    """Return what the stock function makes of a data YAML of this content."""
    import yaml

    from yolograft.coco.config import KEY, SPLITS

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.yaml"
        file.write_text(yaml.safe_dump({k: v for k, v in data.items() if k != KEY}))
        try:
            checked = original(str(file), *args, **kwargs)
        except (AttributeError, KeyError, SyntaxError, TypeError, ValueError) as error:
            own = data[KEY]["yaml"]
            refuse(f"{own}: {str(error).replace(str(file), own)}", "correct the data YAML")
    # The stock function follows links; images are looked for beside the link.
    return {**checked, **{k: data[k] for k in SPLITS if k in data}, KEY: data[KEY]}
