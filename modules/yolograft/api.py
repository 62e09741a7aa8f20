"""The public functions: a recipe and a config or a model in, a grafted one out.

>>> import yolograft
>>> model = yolograft.graft_model("best.pt", "cbam", warm="exact")
>>> model.train(data="shapes.yaml", epochs=10)
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

from yolograft import files, registry
from yolograft.config import rows, scale
from yolograft.config.labels import split
from yolograft.errors import refuse
from yolograft.graft.make import graft
from yolograft.graft.recipes import Recipe, load, load_all, names

if TYPE_CHECKING:
    from torch import nn
    from ultralytics import YOLO
    from ultralytics.engine.model import Model

    from yolograft.warm.checkpoint import Patched

    AnyModel = TypeVar("AnyModel", bound=Model)

#: A recipe by name or path, several as in ``"sk,cbam"``, or a mapping as a recipe file holds it.
OneRecipe: TypeAlias = "str | Path | dict[str, Any]"
Recipes: TypeAlias = "OneRecipe | Sequence[OneRecipe]"
Warm: TypeAlias = Literal["exact"]


def recipes() -> list[Recipe]:
    """Return all recipes: those in ``recipes/`` of the working directory, and the pack's.

    Raises:
        ConfigError: If one of the files is not a recipe.
    """
    return [load(name) for name in names()]


def graft_config(
    base: str | Path | dict[str, Any], recipe: Recipes, *, warm: Warm | None = None
) -> dict[str, Any]:
    """Return a model config with blocks grafted in.

    Args:
        base: A model YAML by name or path, ``yolo11s.yaml`` as Ultralytics reads it, or its
            content.
        recipe: A recipe by name or path, several as in ``"sk,cbam"``, a mapping as a recipe file
            holds it, or a list of these.
        warm: ``"exact"`` adds residual gates, so that a warm start leaves the outputs of a trained
            model as they are. ``warm: exact`` in a recipe does the same.

    Returns:
        The config, which Ultralytics' model classes accept. Its key ``graft`` records where each
        row came from. The base is left as it is.

    Raises:
        ConfigError: If the base is not a model config, or a recipe is wrong or does not fit it.

    Example:
        >>> model = DetectionModel(yolograft.graft_config("yolo11s.yaml", "cbam"))
    """
    if not isinstance(base, dict) and str(base).endswith(".pt"):
        refuse(f"{base}: this is a checkpoint, not a model YAML", "use yolograft.graft_model")
    return graft(base, recipe, warm).config


@overload
def graft_model(  # type: ignore[overload-overlap]
    model: AnyModel, recipe: Recipes, *, warm: Warm | None = None
) -> AnyModel: ...


@overload
def graft_model(
    model: nn.Module | str | Path, recipe: Recipes, *, warm: Warm | None = None
) -> YOLO: ...


def graft_model(
    model: Model | nn.Module | str | Path, recipe: Recipes, *, warm: Warm | None = None
) -> Model:
    """Return a trained model with blocks grafted in, with all weights that can be carried.

    Everything is checked before anything is built, and the model that is given stays as it is.

    Args:
        model: A ``YOLO`` (or ``RTDETR``, ``YOLOWorld``, ``YOLOE``), an Ultralytics model such as
            ``DetectionModel``, or the path of a checkpoint. A model YAML gives an untrained model.
        recipe: As for :func:`graft_config`.
        warm: As for :func:`graft_config`.

    Returns:
        An object of the class that was given, or that Ultralytics has for such a model. It is named
        after the base and the recipe, as ``best-cbam.pt``, and is in memory only: ``save()`` it
        under that name before ``tune()``, which reads the file, or before a training on several
        GPUs with Ultralytics older than 8.4.140.

    Raises:
        ConfigError: If there is no such model, a recipe is wrong or does not fit the model, or its
            BatchNorm is folded, or it was pruned.

    Warns:
        UserWarning: If the model already contains a block that the recipe adds.

    Example:
        >>> model = yolograft.graft_model(YOLO("best.pt"), "cbam", warm="exact")
        >>> model.train(data="shapes.yaml", epochs=10)
    """
    from ultralytics.utils import LOGGER

    from yolograft.warm import checkpoint

    given = _open(model)
    name = str(getattr(given.model, "pt_path", None) or given.model_name)
    if not checkpoint.is_model(given.model):
        refuse(
            f"{Path(name).name}: this is not a model that blocks can be grafted into",
            "give a checkpoint that `yolo train` wrote, not an exported model",
        )
    _warn_again(given.model.yaml, recipe, Path(name).name)
    source = copy.deepcopy(given.model)
    patched = checkpoint.transfer(source, recipe, warm, Path(name).name, given.ckpt or {})
    LOGGER.info(str(patched.report))
    return _ready(given, patched, Path(name))


def patch(
    base: str | Path | dict[str, Any], recipe: Recipes, warm: Warm | None = None
) -> dict[str, Any] | nn.Module:
    """Return a grafted config; for the path of a checkpoint, the grafted ``nn.Module``.

    :func:`graft_config` and :func:`graft_model` are the same for one kind of base each.

    Args:
        base: As for :func:`graft_config`; or the path of a checkpoint, ``best.pt``.
        recipe: As for :func:`graft_config`.
        warm: As for :func:`graft_config`.

    Raises:
        ConfigError: As for :func:`graft_config` and :func:`graft_model`.
    """
    if isinstance(base, dict) or not str(base).endswith(".pt"):
        return graft_config(base, recipe, warm=warm)
    from ultralytics.utils import LOGGER

    from yolograft.warm import checkpoint

    patched = checkpoint.patch(str(base), recipe, warm)
    LOGGER.info(str(patched.report))
    return patched.model


# ------------------------------------------------------------------------------------ a live model


def _open(model: Model | nn.Module | str | Path) -> Model:
    """Return a live model, as Ultralytics opens what was given."""
    import torch
    from ultralytics import YOLO
    from ultralytics.engine.model import Model

    from yolograft.warm import checkpoint

    if isinstance(model, Model):
        return model
    if isinstance(model, str | Path):
        if str(model).endswith((".yaml", ".yml")):
            return YOLO(str(model))
        _, source = checkpoint.read(str(model))
        return _class_of(source)(str(model))
    if not checkpoint.is_model(model):
        refuse(
            f"{type(model).__name__}: this is not a model of Ultralytics",
            "give a YOLO, an Ultralytics model such as DetectionModel, or the path of a checkpoint",
        )
    args = getattr(model, "args", {})
    with TemporaryDirectory() as folder:
        stem = Path(str(model.yaml.get("yaml_file") or type(model).__name__)).stem
        file = Path(folder, f"{stem}.pt")
        train_args = args if isinstance(args, dict) else vars(args)
        torch.save({"model": model, "train_args": train_args}, file)
        opened = _class_of(model)(str(file))
    opened.model.pt_path = getattr(model, "pt_path", None) or file.name
    return opened


def _class_of(model: nn.Module) -> type[Model]:
    """Return the class whose trainer and predictor are for a model."""
    from ultralytics import RTDETR, YOLO, YOLOE, YOLOWorld
    from ultralytics.nn import tasks

    kinds = (
        (tasks.RTDETRDetectionModel, RTDETR),
        (tasks.WorldModel, YOLOWorld),
        (tasks.YOLOEModel, YOLOE),
    )
    return next((cls for kind, cls in kinds if isinstance(model, kind)), YOLO)


def _warn_again(config: dict, recipe: Recipes, name: str) -> None:
    blocks = [split(row[2])[1] for row in rows.raw(config)]
    there = {block.name for block in blocks if block}
    steps = [step for one in load_all(recipe) for step in one.steps if step.label]
    again = sorted(there & {registry.find(step.label).name for step in steps})
    if again:
        text = f"{name} already contains {' and '.join(again)}: this graft adds the block again"
        warnings.warn(text, UserWarning, stacklevel=3)


def _ready(given: Model, patched: Patched, base: Path) -> Model:
    """Return a live model as the given one, around the grafted model."""
    from yolograft.warm import checkpoint, prompts

    recipe = "+".join(one.name for one in patched.graft.recipes)
    file = str(base.with_name(f"{base.stem}-{recipe}.pt"))
    model = patched.model.to(next(given.model.parameters()).device)
    model.pt_path = file
    if prompts.takes_texts(model):
        _write_config(model, patched)
    new = copy.copy(given)
    kept = {k: v for k, v in given.overrides.items() if k != "pretrained"}
    empty = ("cfg", "ckpt_path", "metrics", "predictor", "session", "trainer")
    vars(new).update(
        _modules={"model": model},
        callbacks=copy.copy(given.callbacks),
        ckpt=checkpoint.untrained(patched.content, model),  # with one, train() starts from `model`
        overrides={**kept, "model": file},
        model_name=file,
        **{key: None for key in empty if key in vars(given)},
    )
    new.callbacks.update({event: [*calls] for event, calls in given.callbacks.items()})
    return new


def _write_config(model: nn.Module, patched: Patched) -> None:
    """Write the config of a World or YOLOE model: Ultralytics trains it by the file's name."""
    from yolograft.graft import file as files_of

    name = Path(str(model.yaml.get("yaml_file") or "grafted.yaml")).name
    if scale.letter(name) != (model.yaml.get("scale") or ""):
        name = "grafted.yaml"
    text = files_of.text(replace(patched.graft, config=model.yaml), name)
    model.yaml["yaml_file"] = files.keep(text, "configs", files.digest(text), name)
