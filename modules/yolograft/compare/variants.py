"""The models of a comparison: read, built once for their cost, checked against each other."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolograft import ultra
from yolograft.compare.records import Variant
from yolograft.config import rows, scale, write
from yolograft.config.check import check_evaluated
from yolograft.errors import ConfigError, nearest, refuse
from yolograft.graft import make, preview, recipes
from yolograft.ultra import without_weights

#: Tasks whose AP a comparison measures.
TASKS = ("detect", "segment", "pose", "obb")

#: Heads that have a trainer of their own, which a comparison does not use.
_OTHERS = ("WorldDetect", "YOLOEDetect", "YOLOESegment", "YOLOESegment26", "RTDETRDecoder")


def load(kind: str, model: str, name: str = "") -> Variant:
    """Return a model that is not given by a recipe: a model YAML, or a checkpoint.

    Args:
        kind: ``base`` or ``model``; a checkpoint that is not the base is a ``checkpoint``.
        model: Name or path.
        name: What to call it, if not after its file.

    Raises:
        ConfigError: If there is no such model.
    """
    if not isinstance(model, str):
        refuse(f"{model!r} is not a model", "give a model YAML or a checkpoint by name or path")
    if not model.endswith(".pt"):
        config = make.load_base(model)
        return Variant(name or Path(model).stem, kind, model, config)
    file = Path(model)
    if not file.is_file():
        refuse(f"{model}: there is no such checkpoint", "give the path of a file")
    try:
        config = deepcopy(load_checkpoint(str(file)).yaml)
    except Exception as error:
        msg = f"{model}: this is not a checkpoint of Ultralytics ({' '.join(str(error).split())})"
        raise ConfigError(msg) from error
    kind = kind if kind == "base" else "checkpoint"
    return Variant(name or file.stem, kind, model, config, str(file.resolve()))


def load_checkpoint(path: str):
    """Return the model of a checkpoint.

    Args:
        path: Of the file.
    """
    from ultralytics.nn import tasks

    return tasks.load_checkpoint(path)[0]


def variant(given: Any, base: Variant) -> Variant:
    """Return the model that one entry of ``variants`` means.

    Args:
        given: A recipe, a model YAML, a checkpoint, or a mapping with ``name`` and one of ``model``
            and ``recipe``.
        base: What a recipe is applied to.

    Raises:
        ConfigError: If it is none of these.
    """
    name = ""
    if isinstance(given, dict):
        extra = sorted({*given} - {"name", "model", "recipe"})
        if extra or len({*given} & {"model", "recipe"}) != 1:
            refuse(
                f"variant {given}: give one model or one recipe", "write {name: mine, recipe: sk}"
            )
        name = str(given.get("name") or "")
        model, recipe = given.get("model"), given.get("recipe")
    else:
        model, recipe = (given, None) if _is_model(str(given)) else (None, given)
    return _grafted(str(recipe), base, name) if model is None else load("model", model, name)


def _grafted(recipe: str, base: Variant, name: str) -> Variant:
    """Return the base with a recipe, or several as in ``sk+cbam``."""
    recipe = re.sub(r"\s*([+,])\s*", r"\1", recipe.strip())
    words = recipe.replace("+", ",")
    try:
        result = make.graft(deepcopy(base.config), words)
    except ConfigError as error:
        if recipes.find(recipe.split("+")[0]) or "." in recipe:
            raise
        known = recipes.names()
        hint = nearest(recipe, known) or f"there are {', '.join(known)}."
        msg = f"unknown recipe {recipe!r}\n\nHint: {hint} A model ends in .yaml or .pt"
        raise ConfigError(msg) from error
    origins = [o.row if o.relation in ("kept", "in") else None for o in result.origins]
    stems = (re.sub(r"[^\w.-]+", "-", Path(one).stem) for one in words.split(","))
    return Variant(name or "+".join(stems), "recipe", recipe, result.config, None, origins)


def _is_model(given: str) -> bool:
    """Tell a model YAML or a checkpoint from a recipe, which may be a YAML too."""
    import yaml

    file = recipes.find(given) if given.endswith((".yaml", ".yml")) else None
    if file is None:
        return given.endswith((".yaml", ".yml", ".pt"))
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False  # grafting it reports what is wrong
    return isinstance(content, dict) and "backbone" in content


def counted(one: Variant, data: dict[str, Any], imgsz: int) -> Variant:
    """Return a variant for the classes of the data, with its parameters and GFLOPs.

    Args:
        one: The variant.
        data: From :func:`yolograft.compare.data.check`.
        imgsz: Where GFLOPs are counted.
    """
    check_evaluated(one.config, one.source)
    config = {**one.config, "nc": data.get("nc") or one.config.get("nc")}
    if data.get("channels", 3) not in (None, 3):
        config["channels"] = data["channels"]
    if data.get("kpt_shape"):
        config["kpt_shape"] = data["kpt_shape"]
    config = scale.explicit(config)
    cost = preview.figures(config, set(), imgsz)
    return replace(one, config=config, params=cost.params, gflops=cost.gflops)


def yaml_of(one: Variant) -> str:
    """Return the model YAML of a variant.

    Args:
        one: The variant.
    """
    config = scale.alone_in(one.config)  # its own scale alone: the file's name does not say which
    config = {k: v for k, v in config.items() if k != "graft" and (k != "scales" or v)}
    numbers = [str(i) for i in range(len(rows.raw(config)))]
    return write.text(config, [f"{one.name}: {one.source}, as compared"], numbers)


# ----------------------------------------------------------------------------------------- checks


def check_names(variants: list[Variant]) -> None:
    """Refuse names that are no file names, or that two variants have.

    Args:
        variants: All models of a comparison.
    """
    seen: dict[str, str] = {}
    for one in variants:
        if not re.fullmatch(r"\w[\w.+-]*", one.name):
            refuse(f"{one.name!r} is not a valid name of a variant", "use letters, digits, . + - _")
        if (name := one.name.lower()) in seen:  # names of files; some systems take A and a for one
            refuse(
                f"two variants are called {one.name}: {seen[name]} and {one.source}",
                "give one a name of its own in a plan file: {name: mine, model: my.yaml}",
            )
        seen[name] = one.source


def check_tasks(variants: list[Variant]) -> None:
    """Refuse models without an AP, and models of two tasks.

    Args:
        variants: All models of a comparison, the base first.
    """
    first = task_of(variants[0].config)
    for one in variants:
        task = task_of(one.config)
        if task in _OTHERS:
            refuse(f"{one.name}: models with the head {task} are not compared", "use a YOLO model")
        if task not in TASKS:
            refuse(
                f"{one.name}: a comparison measures AP, and the task {task} has none",
                f"compare models for {', '.join(TASKS)}",
            )
        if task != first:
            refuse(f"{one.name} is for {task}, the base for {first}", "compare models of one task")


def task_of(config: dict[str, Any]) -> str:
    """Return the task of a config, by its head; the head's name where it has its own trainer.

    Args:
        config: The content of a model YAML.
    """
    from ultralytics.nn.tasks import guess_model_task

    label = config["head"][-1][2]
    return label if label in _OTHERS else guess_model_task(config)


# ----------------------------------------------------------------------------------------- starts


def unequal(base: Variant, variants: list[Variant]) -> str:
    """Return a sentence that names the variants which do not start as the base does, or ``""``.

    Args:
        base: The base.
        variants: The others, without controls.
    """
    found = [f"{one.name} from {start}" for one in variants if (start := _other_start(one, base))]
    if not found:
        return ""
    start = f"the weights of {base.source}" if base.weights else "scratch"
    return f"Unequal starts: {base.name} starts from {start}, {', '.join(found)}."


def _other_start(one: Variant, base: Variant) -> str:
    """Return what a variant starts from, if it does not start as the base does."""
    import torch

    from yolograft.warm import transplant

    ready = [_downloading(variant.config) for variant in (one, base)]
    if ready[0] != ready[1]:
        return "downloaded weights" if ready[0] else "scratch, without downloaded weights"
    if not base.weights:
        return f"the weights of {one.source}" if one.weights else ""
    if one.kind == "recipe":
        return ""
    model = ultra.build_model(one.config)
    try:
        carried = transplant.warm_start(model, load_checkpoint(base.weights)).carried
    except ConfigError:
        carried = 0
    if not one.weights:
        return "" if carried else f"scratch, as it takes nothing of {base.source}"
    own = load_checkpoint(one.weights).state_dict()
    state = model.state_dict()  # of a grafted base, not trained since, all that was carried is own
    same = sum(k in own and torch.equal(v.half(), own[k].half()) for k, v in state.items())
    return "" if carried and same >= carried else f"the weights of {one.source}"


def _downloading(config: dict[str, Any]) -> list[Any]:
    """Return the rows that download weights."""
    return [row for row in rows.raw(config) if without_weights(row) != row]
