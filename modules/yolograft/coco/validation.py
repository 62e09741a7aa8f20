"""Record a validation on COCO JSON, and add the official numbers to what Ultralytics reports.

Recorded is what Ultralytics' own ``update_metrics`` counts, in the form that Ultralytics' own
``pred_to_json`` gives it, whatever a subclass does with either. Where a subclass leaves out one of
the steps, the numbers are computed at the end, or left out with the reason.

A validator's :class:`Recorder` is its attribute ``_yolograft``, ``None`` for data of another kind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import distributed
from torch.utils.data import Subset
from ultralytics.utils import LOGGER, RANK

from yolograft.coco import metrics, results
from yolograft.coco.dataset import CocoDataset
from yolograft.coco.recorder import Recorder


def reset(validator: Any) -> None:
    """Forget the last validation, and remove its numbers from the folder of the run.

    Args:
        validator: A validator.
    """
    validator._yolograft = None
    if RANK in (-1, 0):
        with contextlib.suppress(OSError):
            Path(validator.save_dir, metrics.FILE).unlink(missing_ok=True)


def recorder(validator: Any) -> Recorder | None:
    """Return the recorder of a validator, ``None`` where it does not read COCO JSON.

    Args:
        validator: A validator.
    """
    return getattr(validator, "_yolograft", None)


def _dataset(validator: Any) -> CocoDataset | None:
    dataset = getattr(validator.dataloader, "dataset", None)
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset if isinstance(dataset, CocoDataset) else None


def _stock(validator: Any) -> type:
    """Return Ultralytics' own class of a validator."""
    return next(c for c in type(validator).__mro__ if c.__module__.startswith("ultralytics."))


@contextlib.contextmanager
def starting(validator: Any, model: Any) -> Iterator[None]:
    """Start to record around the stock ``init_metrics``, where the data is COCO JSON.

    Args:
        validator: A validator.
        model: The model that is validated.
    """
    dataset, args = _dataset(validator), validator.args
    if dataset is None:
        yield
        return
    held = Recorder(
        dataset,
        args.task,
        classes=args.classes,
        agnostic=bool(args.single_cls),
        sigmas=_sigmas(validator.data) if args.task == "pose" else None,
        categories=dataset.categories,
    )
    # Masks in full size take too long after every epoch.
    held.boxes_alone = validator.training and args.task == "segment"
    if dataset.augment:
        held.reason = "the dataset is augmented, as for training"
    elif not validator.training and not args.single_cls:
        before = dataset.order or held.order
        held.order = dataset.number_as(model.names, held.classes)
        if held.order != before and hasattr(validator.dataloader, "reset"):
            validator.dataloader.reset()  # its workers may hold the targets already
    # Ultralytics' own predictions.json reads ids from the file names; a subclass's is its own.
    own = any(
        getattr(type(validator), step) is not getattr(_stock(validator), step)
        for step in ("pred_to_json", "eval_json")
    )
    args.save_json = held.beside = bool(args.save_json and own)
    yield
    args.save_json = held.beside
    validator.is_coco = validator.is_lvis = validator.is_custom_json = False
    validator.build_gdict, validator.gdict = False, None
    validator.metrics._yolograft = {}
    validator._yolograft = held


def _sigmas(data: dict[str, Any]) -> list[float] | None:
    count = data["kpt_shape"][0]
    if data.get("kpt_oks_sigmas"):
        return list(data["kpt_oks_sigmas"])
    return None if count == 17 else [1 / count] * count


@contextlib.contextmanager
def recording(validator: Any, batch: dict[str, Any]) -> Iterator[None]:
    """Record the predictions that the stock ``update_metrics`` counts meanwhile.

    Args:
        validator: A validator.
        batch: The batch that they are for.
    """
    held = recorder(validator)
    if held is None or held.reason is not None:
        yield
        return
    prepare, counted = validator._prepare_pred, []

    def keep(*args, **kwargs):
        counted.append(prepare(*args, **kwargs))
        return counted[-1]

    validator._prepare_pred = keep
    try:
        yield
    finally:
        del validator._prepare_pred
    try:
        for i, pred in enumerate(counted):
            held.add(int(batch["sample"][i]), _rows(validator, held, pred, batch, i))
    except Exception as error:  # a validation must not be lost for a number
        held.found.clear()
        held.failed(error)


def _rows(validator: Any, held: Recorder, pred: dict, batch: dict, i: int) -> list[dict[str, Any]]:
    """Return the predictions for one image as Ultralytics writes them, with the class's number."""
    from ultralytics.models.yolo.detect import DetectionValidator

    if not len(pred["cls"]):
        return []
    place = {key: batch[key][i] for key in ("ori_shape", "ratio_pad", "im_file")}
    place["imgsz"] = batch["img"].shape[2:]
    stock = DetectionValidator if held.boxes_alone else _stock(validator)
    # RT-DETR scales in its own pred_to_json, where it has one.
    done = stock.__name__ == "RTDETRValidator" and "pred_to_json" in vars(stock)
    kept, validator.jdict = validator.jdict, []
    try:
        stock.pred_to_json(
            validator, pred if done else stock.scale_preds(validator, pred, place), place
        )
        rows = validator.jdict
    finally:
        validator.jdict = kept
    classes = pred["cls"].tolist()
    return [{**row, "category_id": int(c)} for row, c in zip(rows, classes, strict=True)]


def gather(validator: Any) -> None:
    """Bring the predictions of all ranks to the first, once.

    Args:
        validator: A validator.
    """
    held = recorder(validator)
    if held is None or held.whole:
        return
    held.whole = True
    if RANK == -1:
        return
    ranks = [None] * distributed.get_world_size() if RANK == 0 else None
    distributed.gather_object((held.found, held.reason), ranks, dst=0)
    for found, reason in ranks or ():
        held.found.update(found)
        held.reason = held.reason or reason


def numbers(validator: Any) -> dict[str, float]:
    """Return the columns of results.csv; evaluate and write ``coco_metrics.json`` first, once.

    Args:
        validator: A validator.

    Returns:
        Nothing where the predictions of other ranks are not here yet.
    """
    held, task = recorder(validator), validator.args.task
    if held is None or not held.whole:
        return {}
    if held.numbers is None and held.reason is None:
        try:
            if not held.found:
                held.reason = _leaves_out(validator, "update_metrics")
                return {}
            found = held.evaluate(["bbox"] if held.boxes_alone else None)
            held.write(validator.save_dir, found)
            held.numbers = found
            validator.metrics._yolograft = results.columns(found, task)
        except Exception as error:  # an epoch's work must not be lost for a number
            held.failed(error)
    return results.columns(held.numbers or {}, task)


def _leaves_out(validator: Any, step: str) -> str:
    return f"{type(validator).__name__}.{step} does not call Ultralytics' own {step}"


def finish(validator: Any, stats: Any) -> Any:
    """Write and print what a validation on COCO JSON has found, or why it has no numbers.

    Args:
        validator: A validator.
        stats: What it returns.

    Returns:
        The same, with the official numbers.
    """
    if _dataset(validator) is None:
        return stats
    held = recorder(validator)
    gather(validator)
    if RANK > 0:
        return stats
    found = numbers(validator)
    if isinstance(stats, dict):
        stats = {**stats, **{k: v for k, v in found.items() if k not in stats}}
    if held is not None and held.found and not validator.training:
        held.save(validator.save_dir)
    reason = held.reason if held else _leaves_out(validator, "init_metrics")
    if reason is None:
        LOGGER.info(metrics.table(held.numbers))
    elif not validator.training or reason != getattr(validator, "_yolograft_reason", None):
        validator._yolograft_reason = reason  # reported once, not after each epoch; and at the end
        LOGGER.warning(f"COCO metrics left out: {reason}")
    return stats
