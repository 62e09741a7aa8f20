"""A cell of the matrix of all recipes and all model YAMLs of Ultralytics: one recipe on one YAML.

The grafted model is built, takes one training step by its own loss on two small images, and each
block of ours must get a finite gradient. It can also be saved, loaded and exported to ONNX, and
compared with what it was before the export. The report of all cells is made by :mod:`.cross`; the
tests take samples.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from yolograft import ConfigError
from yolograft.blocks._row import Block
from yolograft.config.labels import split
from yolograft.graft import graft
from yolograft.ultra import build_model

from . import common

#: Largest difference between an exported model and the one that it came from.
TOLERANCE = 1e-3

#: One YAML of each family, and of each task in three: these are exported too.
EXPORTED = (
    *("yolov5", "yolov8", "yolov9t", "yolov10n", "yolo11", "yolo12", "yolo26"),
    *(
        f"{family}-{task}"
        for family in ("yolov8", "yolo11", "yolo26")
        for task in ("seg", "pose", "obb", "cls")
    ),
)

#: How many random models of a cell are tried until one is steady enough to be compared.
SEEDS = 3

#: Pixels of a side. RT-DETR asks for its 300 best positions, and a smaller image has fewer.
IMGSZ, IMGSZ_RTDETR = 64, 128


def stock() -> dict[str, Path]:
    """Return the model YAMLs of the installed Ultralytics, by name."""
    from ultralytics.utils import ROOT

    return {path.stem: path for path in sorted((ROOT / "cfg" / "models").rglob("*.yaml"))}


def versions() -> dict[str, str | None]:
    """Return the versions that a record holds for."""
    return common.versions("yolograft", "ultralytics", "torch")


def record_of(base: str, recipe: str, scale: str = "") -> dict:
    """Return the result of a cell, a failure included, and how long it took.

    Args:
        base: Name of a model YAML of Ultralytics.
        recipe: Name of a recipe.
        scale: Scale letter, where the YAML has it; the narrowest when left out.
    """
    start = time.process_time()
    try:
        found = cell(base, recipe, scale, base in EXPORTED)
        found["mark"] = "E" if "gap" in found else "+"
    except ConfigError as error:
        lines = str(error).partition("\n\n")[0].splitlines()
        found = {"mark": "refused", "reason": "; ".join(lines)}
    except Exception as error:
        found = {"mark": "F", "reason": f"{type(error).__name__}: {error}"}
    found["seconds"] = round(time.process_time() - start, 2)
    return {"base": base, "recipe": recipe, "scale": scale, **found, "versions": versions()}


def cell(base: str, recipe: str, scale: str = "", export: bool = False) -> dict:
    """Graft a recipe into a model YAML, build the model, train it for a step and export it.

    Args:
        base: Name of a model YAML of Ultralytics.
        recipe: Name of a recipe.
        scale: Scale letter, where the YAML has it; the narrowest when left out.
        export: Whether to export it too.

    Returns:
        The figures of the cell: its scale, the blocks in the model, the largest difference of the
        exported model, and, in `far`, how much the output for a black image differs, without
        which the first says nothing.

    Raises:
        ConfigError: If the recipe does not fit.
        RuntimeError: If the model does not do what it should.
    """
    from ultralytics.nn import tasks

    config = tasks.yaml_model_load(str(stock()[base]))
    if scales := config.get("scales"):
        narrowest = min(scales, key=lambda letter: scales[letter][1])
        config["scale"] = scale if scale in scales else narrowest
    if export:  # with one class, NMS-free heads return all detections: none is at the edge
        config["nc"] = 3 if tasks.guess_model_task(config) == "classify" else 1
    start = time.process_time()
    grafted = graft(config, recipe)
    patching = time.process_time() - start
    found = {"at": config.get("scale", ""), "patching": round(patching, 3)}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = build_model(grafted.config)
        blocks = blocks_of(model, grafted.rows)
        step(model, blocks)
        found["blocks"] = len(blocks)
        if not export:
            break
        found |= exported(model)
        if found["gap"] <= found["far"] / 10:
            break
    else:
        msg = f"{SEEDS} random models of it are too unsteady to be compared"
        raise RuntimeError(msg)
    return found


def blocks_of(model: nn.Module, rows: list[list]) -> list[tuple[nn.Module, Block]]:
    """Return the blocks of ours in a model, each with its entry in the table of blocks."""
    found = []
    for layer, row in zip(model.model, rows, strict=True):
        block = split(row[2])[1]
        if block is None:
            continue
        cls = block.load()
        inside = [(module, block) for module in layer.modules() if type(module) is cls]
        if not inside:
            msg = f"row {layer.i} ({row[2]}) was built without {block.name}"
            raise RuntimeError(msg)
        found += inside
    return found


# ------------------------------------------------------------------------------------------ a step


def step(model: nn.Module, blocks: list[tuple[nn.Module, Block]]) -> None:
    """Take one training step by the model's own loss, and check the gradients of each block."""
    from ultralytics.cfg import get_cfg

    model.train()
    model.nc, model.args = model.yaml["nc"], get_cfg()  # as Ultralytics' trainer sets them
    for module in model.modules():
        if type(module) is nn.Conv2d and module.weight.requires_grad and module.weight.any():
            # By He: otherwise BatchNorm's first statistics leave nothing of the image in eval mode.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    with torch.no_grad():
        for module, _ in blocks:
            for parameter in module.parameters():
                if not parameter.any():  # what is behind a zero gets no gradient
                    parameter.normal_(0, 0.05)
    loss = model.loss(batch(model))[0].sum()
    if not loss.isfinite():
        msg = f"the loss is {loss.item()}"
        raise RuntimeError(msg)
    loss.backward()
    for module, block in blocks:
        check_gradients(module, block)
    torch.optim.SGD(model.parameters(), 1e-3).step()
    if not all(tensor.isfinite().all() for tensor in model.parameters()):
        msg = "a parameter is not finite after the step"
        raise RuntimeError(msg)


def check_gradients(module: nn.Module, block: Block) -> None:
    """Raise an error if a parameter got no finite gradient, or all of a block's got zeros."""
    excused = [one.parameter for one in block.no_gradient]
    largest = 0.0
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        if gradient is None and name in excused:
            continue
        if gradient is None or not gradient.isfinite().all():
            what = "none" if gradient is None else "not finite"
            msg = f"{block.name}: the gradient of {name} is {what}"
            raise RuntimeError(msg)
        largest = max(largest, gradient.abs().max().item())
    if not largest:
        msg = f"{block.name}: all gradients are zero"
        raise RuntimeError(msg)


def batch(model: nn.Module) -> dict[str, Tensor]:
    """Return two noise images with an object each, as the model's loss needs them."""
    kind = type(model.model[-1]).__name__
    size = IMGSZ_RTDETR if kind == "RTDETRDecoder" else IMGSZ
    boxes = torch.tensor([[0.4, 0.5, 0.5, 0.6], [0.6, 0.4, 0.7, 0.5]])
    masks = torch.zeros(2, size // 4, size // 4)
    masks[:, size // 16 : size // 8, size // 16 : size // 8] = 1
    keypoints = torch.cat([torch.rand(2, 17, 2), torch.full((2, 17, 1), 2.0)], 2)
    whole = torch.randint(0, 2, (2, size, size))
    if kind.startswith("OBB"):
        boxes = torch.cat([boxes, torch.tensor([[0.3], [0.8]])], 1)
    return {
        "img": torch.rand(2, 3, size, size),
        "batch_idx": torch.arange(2.0),
        "cls": torch.arange(2) if kind == "Classify" else torch.zeros(2, 1),
        "bboxes": boxes,
        "masks": masks,
        "sem_masks": torch.zeros_like(masks),
        "keypoints": keypoints,
        "txt_feats": torch.rand(2, model.nc, 512),
        "semantic_mask": whole,
        "depth": 1.0 + whole,
    }


# ------------------------------------------------------------------------------------------ export


def exported(model: nn.Module) -> dict:
    """Save, load and export a model, run it, and return how far it is from the model in float64.

    Args:
        model: A model of Ultralytics.
    """
    import onnx
    import onnxruntime
    from ultralytics import YOLO

    images = patches(8)
    settle(model, images)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "model.pt")
        torch.save({"model": model}, weights)
        file = YOLO(weights).export(format="onnx", imgsz=IMGSZ, simplify=False, verbose=False)
        opset = max(one.version for one in onnx.load(file).opset_import if not one.domain)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        eager = YOLO(weights).model.eval()
    x = images[:1]
    outputs = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    outputs, moved = [*map(torch.from_numpy, outputs)], getattr(model, "end2end", False)
    with torch.no_grad():
        same, black = ([*tensors(eager(y))][: len(outputs)] for y in (x, torch.zeros_like(x)))
        wanted = [y.float() for y in tensors(eager.double()(x.double()))][: len(outputs)]
    off, own, far = (
        max(gap(y, z, moved) for y, z in zip(found, wanted, strict=True))
        for found in (outputs, same, black)
    )
    if not off <= max(TOLERANCE, 10 * own):
        msg = f"the exported model is {off:.1e} off, where float32 itself is {own:.1e} off"
        raise RuntimeError(msg)
    return {"gap": off, "far": far, "opset": opset}


def patches(count: int) -> Tensor:
    """Return random images of few large patches, which deep layers can still distinguish."""
    small = torch.rand(count, 3, 4, 4)
    return nn.functional.interpolate(small, (IMGSZ, IMGSZ), mode="nearest")


def settle(model: nn.Module, images: Tensor) -> None:
    """Take BatchNorm's statistics from images, so that values of the maps stay near 1."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors of a model's output."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from tensors(one)
    elif isinstance(value, Tensor):
        yield value


def gap(one: Tensor, other: Tensor, moved: bool = False) -> float:
    """Return the largest difference of two outputs.

    Args:
        one: An output.
        other: Another.
        moved: Whether detections may have changed places, as NMS-free heads sort them by score:
            each is then compared with the nearest one of the other output.
    """
    if one.shape != other.shape:
        msg = f"the exported model returns {tuple(one.shape)}, not {tuple(other.shape)}"
        raise RuntimeError(msg)
    if not (one.isfinite().all() and other.isfinite().all()):
        msg = "an output is not finite"
        raise RuntimeError(msg)
    if moved and one.ndim == 3:
        distances = torch.cdist(one, other, p=math.inf)
        return max(distances.amin(1).max().item(), distances.amin(2).max().item())
    return (one - other).abs().max().item()
