"""Wrap ``yaml_model_load``: find the pack's model YAMLs, graft by name, refuse files.

Where no file has the name, ``yolo11s-cbam.yaml`` is ``yolo11s.yaml`` with the recipe ``cbam``, and
``yolov8m-p2-spd+ca.yaml`` is ``yolov8m-p2.yaml`` with two. With a folder in front, as in
``sub/yolo11s-cbam.yaml``, the folder's own files come first. The config that comes out holds the
grafted rows, and a checkpoint holds the config: resuming needs no recipe.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from yolograft import registry
from yolograft.errors import ConfigError, nearest, refuse
from yolograft.files import CFG

__all__ = ["CFG", "check_evaluated", "check_mapping", "find_model", "is_layer", "make"]


class NotFound(ConfigError, FileNotFoundError):
    """No file has the name, and it is nearly a base with a recipe."""


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``yaml_model_load`` that also knows the pack's files, and grafts by name.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: The function to wrap.
    """

    def load_file(path):
        file = find_model(str(path))
        if not file and os.path.isdir(path):
            refuse(f"{path}: this is a folder", "give the name or the path of a model YAML")
        if file and os.path.dirname(Path(path)) and Path(file).parent == CFG:
            _tell(tasks.LOGGER, str(path), f"the pack's {file}")
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
        scale, scales = config["scale"], config.get("scales")
        if scale and isinstance(scales, dict) and scales and scale not in scales:
            refuse(
                f"{path}: the name asks for scale {scale}, and the file has "
                f"{', '.join(map(str, scales))}",
                "use another letter in the name, or add the scale to the file",
            )
        return config

    def yaml_model_load(path):
        try:
            return load_file(path)
        except FileNotFoundError as error:
            if "://" in str(path) or "ultiple files" in str(error):
                raise
            grafted = _graft_by_name(str(path), load_file, tasks.LOGGER)
            if grafted is None:
                raise
            return grafted

    return yaml_model_load


_told: set[str] = set()


def _graft_by_name(path: str, load_file: Callable, logger) -> dict | None:
    """Return the config that a name such as ``yolo11s-cbam.yaml`` means.

    Args:
        path: What the user gave. Only its base name is taken apart; a base is looked up in its
            folder.
        load_file: Loads a model YAML that exists.
        logger: The host's, to tell what the name means.

    Returns:
        The config, or ``None`` if the name is no base with a recipe.

    Raises:
        NotFound: If one of the two is right, and the other is not.
    """
    from yolograft.graft import edits, recipes

    folder, name = os.path.split(Path(path))
    stem, suffix = os.path.splitext(name)
    parts = stem.split("-")
    missed: list[tuple[str, list[str], list[str]]] = []
    for at in range(len(parts) - 1, 0, -1):
        base, words = "-".join(parts[:at]) + suffix, "-".join(parts[at:]).split("+")
        unknown = [one for one in words if not recipes.find(one)]
        config = _load_base(folder, base, load_file)
        if unknown or config is None:
            if config is not None or not unknown:
                missed.append((base, words, unknown))
            continue
        result = edits.graft(config, words)
        files = " + ".join(str(one.file) for one in result.recipes)
        _tell(logger, path, f"{base} + {'+'.join(words)} ({files})")
        result.config["yaml_file"] = path
        return result.config
    if missed and "\\" in name:
        _refuse(f"{path}: no such file", f"write / between folders: {path.replace(chr(92), '/')}")
    for base, words, unknown in missed:
        joined = "-".join(words).split("-")
        if unknown and all(map(recipes.find, joined)):
            better = f"{base.removesuffix(suffix)}-{'+'.join(joined)}{suffix}"
            _refuse(f"{path}: no such file", f"a plus sign joins recipes: {better}")
    for base, words, unknown in missed:
        if unknown:
            known = recipes.names()
            hint = nearest(unknown[0], known) or f"there are {', '.join(known)}"
            _refuse(f"{path}: no such file, and {unknown[0]!r} is no recipe", hint)
        bases = [Path(one).stem for one in edits.bases()]
        hint = nearest(edits.unscaled(base).removesuffix(suffix), bases)
        fact = f"no such file, and there is no {base} to graft {'+'.join(words)} into"
        _refuse(f"{path}: {fact}", hint)
    return None


def _tell(logger, path: str, meaning: str) -> None:
    """Say once what a name means."""
    if path not in _told:
        _told.add(path)
        logger.info(f"yolograft: {path} is {meaning}")


def _load_base(folder: str, name: str, load_file: Callable) -> dict | None:
    """Return the config of a base: a file of the folder, or else what the bare name means."""
    path = os.path.join(folder, name)
    try:
        return load_file(path if os.path.isfile(path) or find_model(path) else name)
    except FileNotFoundError:
        return None


def _refuse(fact: str, hint: str) -> None:
    msg = f"{fact}\n\nHint: {hint or 'give the path of a file'}"
    raise NotFound(msg)


def find_model(path: str) -> str | None:
    """Return the file of a model name, the user's own first, then the pack's.

    The scale letter is taken out of the base name only: stock Ultralytics also strips it from the
    names of folders.

    Args:
        path: What the user gave as ``model=``. In the pack, its base name is looked up.

    Returns:
        A path, or ``None`` where Ultralytics is to search by its own rules.
    """
    if "://" in path or os.path.isfile(path):
        return None
    folder, name = os.path.split(Path(path))
    bare = re.sub(r"(\d+)[nslmx](.+)?$", r"\1\2", name)
    users = os.path.join(folder, bare)
    if os.path.isfile(users):
        return users
    return next((str(CFG / one) for one in (name, bare) if (CFG / one).is_file()), None)


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


def check_evaluated(config: dict, name: str = "") -> None:
    """Refuse a config that makes the host execute something else than layers of a model.

    The host evaluates ``activation:`` as Python, and calls any function of its module that a row
    names.

    Args:
        config: What a model YAML holds.
        name: What messages call it; its file when left out.

    Raises:
        ConfigError: If ``activation:`` is not ``nn.X(...)`` or ``torch.nn.X(...)`` with literal
            arguments, or a row names something that is not a layer.
    """
    name = name or config.get("yaml_file") or "model config"
    if value := config.get("activation"):
        _check_activation(value, f"{name}: activation: {value!r}")
    for index, row in enumerate([*config["backbone"], *config["head"]]):
        label = row[2] if isinstance(row, list | tuple) and len(row) > 2 else None
        if isinstance(label, str) and not is_layer(label):
            refuse(
                f"{name}, row {index}: {label} is a function or another object, not a layer",
                "a row names a module, such as Conv or nn.Upsample",
            )


def _check_activation(value: object, fact: str) -> None:
    import torch
    from torch import nn

    kind, args, named = _literal_call(value) if isinstance(value, str) else ("", [], {})
    cls, reason = getattr(nn, kind, None), "is not an activation of torch.nn"
    if isinstance(cls, type) and issubclass(cls, nn.Module):
        maps = torch.zeros(2, 8, 4, 4), torch.zeros(2, 12, 4, 4)  # of any width
        does = "cannot be built"
        try:
            with registry.undisturbed(), torch.no_grad():
                activation = cls(*args, **named)
                does = "cannot be applied to any feature map"
                shapes = [activation(one).shape for one in maps]
        except Exception as error:
            reason = f"{does} ({type(error).__name__}: {error})"
        else:
            if shapes == [one.shape for one in maps]:
                return
            reason = "changes the shape of a feature map"
    refuse(
        f"{fact} {reason}",
        "write a class of torch.nn with literal arguments: nn.SiLU(), nn.LeakyReLU(0.1)",
    )


def _literal_call(text: str) -> tuple[str, list, dict]:
    """Return class and arguments of ``nn.X(...)``; the class is empty for anything else."""
    try:
        match ast.parse(text.strip(), mode="eval").body:
            case ast.Call(
                ast.Attribute(ast.Name("nn") | ast.Attribute(ast.Name("torch"), "nn"), kind),
                args,
                keywords,
            ):
                named = {word.arg: ast.literal_eval(word.value) for word in keywords}
                return kind, [ast.literal_eval(arg) for arg in args], named
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        pass
    return "", [], {}


def is_layer(label: str) -> bool:
    """Tell whether a row's name means a layer to the host, or nothing, which it reports itself.

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
