"""A config with blocks grafted in: by recipe, or by a name such as ``yolo11s-cbam.yaml``.

Where no file has the name, ``yolo11s-cbam.yaml`` is ``yolo11s.yaml`` with the recipe ``cbam``, and
``yolov8m-p2-spd+ca.yaml`` is ``yolov8m-p2.yaml`` with two. With a folder in front, as in
``sub/yolo11s-cbam.yaml``, the folder's own files come first. The config that comes out holds the
grafted rows, and a checkpoint holds the config: resuming needs no recipe.
"""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import yaml

from yolograft.config import origin, read, rows, scale
from yolograft.config.origin import Origin
from yolograft.errors import ConfigError, nearest, refuse
from yolograft.graft import recipes
from yolograft.graft.edits import plan
from yolograft.graft.graph import Graph
from yolograft.graft.recipes import Recipe
from yolograft.graft.splice import splice


class NotFound(ConfigError, FileNotFoundError):
    """No file has the name, and it is nearly a base with a recipe."""


@dataclass(frozen=True)
class Graft:
    """A grafted config.

    Attributes:
        config: What the new model YAML holds.
        origins: One for each row of it, with rows of the base.
        base: The base.
        recipes: What was done to it.
    """

    config: dict
    origins: list[Origin]
    base: Graph
    recipes: list[Recipe]

    @property
    def rows(self) -> list[list]:
        """Return the rows of backbone and head."""
        return rows.raw(self.config)


def graft(
    base: str | Path | dict, recipe: str | dict | list, warm: str | None = None, name: str = ""
) -> Graft:
    """Put blocks into a config.

    Args:
        base: A model YAML by name or path, ``yolo11s.yaml`` as Ultralytics understands it, or what
            one holds.
        recipe: A recipe by name or path, several as in ``"sk,cbam"``, a mapping as a recipe file
            holds it, or a list of these.
        warm: ``"exact"`` does what ``warm: exact`` in the recipes does.
        name: What messages call the base; its file when left out.

    Raises:
        ConfigError: If the base is not a model, a recipe is wrong, or it does not fit the base.
    """
    recipes.check_warm("patch", warm)
    loaded = recipes.load_all(recipe)
    if warm:
        loaded = [recipes.exact(one) for one in loaded]
    config = deepcopy(base) if isinstance(base, dict) else load_base(str(base))
    graph = Graph(config, name)
    edits = plan(graph, [step for one in loaded for step in one.steps])
    spliced, origins = splice(graph, edits)
    backbone = sum(one.row < len(config["backbone"]) for one in origins)
    new = rows.with_rows(config, spliced, backbone)
    names = [one.name for one in loaded]
    if file := config.get("yaml_file"):
        path = Path(file)
        new["yaml_file"] = str(path.with_name(f"{path.stem}-{'+'.join(names)}{path.suffix}"))
    new["graft"] = origin.grafted(config, names, origins).content()
    return Graft(new, origins, graph, loaded)


def load(path: str) -> dict:
    """Return what a model YAML holds, or the config that a name grafts.

    Args:
        path: Name or path.

    Raises:
        ConfigError: If the file is not a model YAML, or a name is nearly a base with a recipe.
        FileNotFoundError: If there is no such file, and the name does not graft.
    """
    try:
        return read.load(path)
    except FileNotFoundError as error:
        if "://" in path or "ultiple files" in str(error):
            raise
        grafted = _by_name(path)
        if grafted is None:
            raise
        return grafted


def load_base(name: str) -> dict:
    """Return what the model YAML of a graft holds.

    Args:
        name: Name or path.

    Raises:
        ConfigError: If there is none, or it is not a model YAML.
    """
    if not name.endswith((".yaml", ".yml")):
        refuse(f"{name}: this is not a model YAML", "give a name or path such as yolo11n.yaml")
    try:
        return load(name)
    except ConfigError:
        raise
    except FileNotFoundError as error:
        known = nearest(scale.unscaled(Path(name).name), read.bases()) or "give a path, or a name"
        msg = f"{name}: no such model YAML\n\nHint: {known}"
        raise ConfigError(msg) from error
    except (yaml.YAMLError, OSError, AssertionError) as error:
        msg = f"{name}: this is not a model YAML ({' '.join(str(error).split())})"
        raise ConfigError(msg) from error


# ----------------------------------------------------------------------------------------- by name


def _by_name(path: str) -> dict | None:
    """Return the config that a name such as ``yolo11s-cbam.yaml`` means, ``None`` if no graft."""
    folder, name = os.path.split(Path(path))
    stem, suffix = os.path.splitext(name)
    parts = stem.split("-")
    missed: list[tuple[str, list[str], list[str]]] = []
    for at in range(len(parts) - 1, 0, -1):
        base, words = "-".join(parts[:at]) + suffix, "-".join(parts[at:]).split("+")
        unknown = [one for one in words if not recipes.find(one)]
        config = _in_folder(folder, base)
        if unknown or config is None:
            if config is not None or not unknown:
                missed.append((base, words, unknown))
            continue
        result = graft(config, words)
        files = " + ".join(str(one.file) for one in result.recipes)
        read.say_once(path, f"{base} + {'+'.join(words)} ({files})")
        return {**result.config, "yaml_file": path}
    if missed:
        _explain(path, suffix, missed)
    return None


def _in_folder(folder: str, name: str) -> dict | None:
    """Return the config of a base: a file of the folder, or else what the bare name means."""
    path = os.path.join(folder, name)
    try:
        return read.load(path if os.path.isfile(path) or read.find(path) else name)
    except FileNotFoundError:
        return None


def _explain(path: str, suffix: str, missed: list[tuple[str, list[str], list[str]]]) -> None:
    """Raise :class:`NotFound` for a name of which the base or a recipe is right."""
    if "\\" in os.path.basename(path):
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
            _refuse(f"{path}: no such file, and {unknown[0]!r} is not a recipe", hint)
        bases = [Path(one).stem for one in read.bases()]
        hint = nearest(scale.unscaled(base).removesuffix(suffix), bases)
        fact = f"no such file, and there is no {base} to graft {'+'.join(words)} into"
        _refuse(f"{path}: {fact}", hint)


def _refuse(fact: str, hint: str) -> None:
    refuse(fact, hint or "give the path of a file", NotFound)
