"""Wrap steps of the validators: on COCO JSON they also give the official numbers.

Validators of others work as before. Recorded is what Ultralytics' own ``update_metrics`` counts, in
the form that Ultralytics' own ``pred_to_json`` gives it, whatever a subclass makes of either. Where
a subclass leaves out one of the steps, the numbers are computed at the end, or left out with the
reason. ``SegmentationValidator.init_metrics`` goes with them: masks are compared in full size where
they count, as Ultralytics does for its own COCO.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


def _recorder(validator: Any) -> Any | None:
    return getattr(validator, "_yolograft", None)


def _dataset(validator: Any) -> Any | None:
    """Return the COCO dataset that a validator reads, ``None`` for data of any other kind."""
    from torch.utils.data import Subset

    coco = sys.modules.get("yolograft.coco.dataset")  # loaded where there is such a dataset
    dataset = getattr(validator.dataloader, "dataset", None)
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset if coco and isinstance(dataset, coco.CocoDataset) else None


def _stock(validator: Any) -> type:
    """Return Ultralytics' own class of a validator."""
    return next(c for c in type(validator).__mro__ if c.__module__.startswith("ultralytics."))


def make_call(module: ModuleType, original: Callable) -> Callable:
    """Return a ``__call__`` that removes old numbers first, and at the end sees to the new ones.

    Args:
        module: ``ultralytics.engine.validator``.
        original: ``BaseValidator.__call__``.
    """

    def __call__(self, trainer=None, model=None, *args, **kwargs):
        from yolograft.coco.metrics import FILE

        self._yolograft = None
        if module.RANK in (-1, 0):
            with contextlib.suppress(OSError):
                Path(self.save_dir, FILE).unlink(missing_ok=True)
        stats = original(self, trainer, model, *args, **kwargs)
        return stats if _dataset(self) is None else _finish(self, stats, module)

    return __call__


def make_init(module: ModuleType, original: Callable) -> Callable:
    """Return an ``init_metrics`` that starts to record where the data is COCO JSON.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.init_metrics``.
    """

    def init_metrics(self, model, *args, **kwargs):
        dataset = _dataset(self)
        if dataset is None:
            return original(self, model, *args, **kwargs)
        from yolograft.coco.metrics import Recorder

        held = Recorder(
            dataset,
            self.args.task,
            classes=self.args.classes,
            agnostic=bool(self.args.single_cls),
            sigmas=_sigmas(self.data) if self.args.task == "pose" else None,
            categories=dataset.categories,
        )
        # Masks in full size cost too much after every epoch.
        held.boxes_alone = self.training and self.args.task == "segment"
        if dataset.augment:
            held.reason = "the dataset is augmented, as for training"
        elif not self.training and not self.args.single_cls:
            before = dataset.order or held.order
            held.order = dataset.number_as(model.names, held.classes)
            if held.order != before and hasattr(self.dataloader, "reset"):
                self.dataloader.reset()  # its workers may hold the targets already
        # Ultralytics' own predictions.json reads ids off the file names; one of others is theirs.
        own = any(
            getattr(type(self), step) is not getattr(_stock(self), step)
            for step in ("pred_to_json", "eval_json")
        )
        self.args.save_json = held.beside = bool(self.args.save_json and own)
        original(self, model, *args, **kwargs)
        self.args.save_json = held.beside
        self.is_coco = self.is_lvis = self.is_custom_json = self.build_gdict = False
        self.gdict = None
        self.metrics._yolograft = {}
        self._yolograft = held

    return init_metrics


def _sigmas(data: dict[str, Any]) -> list[float] | None:
    count = data["kpt_shape"][0]
    if data.get("kpt_oks_sigmas"):
        return list(data["kpt_oks_sigmas"])
    return None if count == 17 else [1 / count] * count


def make_init_masks(module: ModuleType, original: Callable) -> Callable:
    """Return an ``init_metrics`` that asks for masks in full size in a final validation.

    Args:
        module: ``ultralytics.models.yolo.segment.val``.
        original: ``SegmentationValidator.init_metrics``.
    """

    def init_metrics(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if _recorder(self) is not None and not self.training:
            self.process = module.ops.process_mask_native

    return init_metrics


def make_update(module: ModuleType, original: Callable) -> Callable:
    """Return an ``update_metrics`` that also records the predictions that it counts.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.update_metrics``.
    """

    def update_metrics(self, preds, batch, *args, **kwargs):
        held = _recorder(self)
        if held is None or held.reason is not None:
            return original(self, preds, batch, *args, **kwargs)
        prepare, counted = self._prepare_pred, []

        def keep(*given, **more):
            counted.append(prepare(*given, **more))
            return counted[-1]

        self._prepare_pred = keep
        try:
            original(self, preds, batch, *args, **kwargs)
        finally:
            del self._prepare_pred
        stock = module.DetectionValidator if held.boxes_alone else _stock(self)
        try:
            for i, pred in enumerate(counted):
                held.add(int(batch["sample"][i]), _rows(self, stock, pred, batch, i))
        except Exception as error:  # a validation is not to be lost for a number
            held.clear()
            held.failed(error)

    return update_metrics


def _rows(validator: Any, stock: type, pred: dict, batch: dict, i: int) -> list[dict[str, Any]]:
    """Return the predictions for one image as Ultralytics writes them, with the class's number."""
    if not len(pred["cls"]):
        return []
    place = {
        "imgsz": batch["img"].shape[2:],
        **{key: batch[key][i] for key in ("ori_shape", "ratio_pad", "im_file")},
    }
    # RT-DETR scales in its own pred_to_json, where it has one.
    done = stock.__name__ == "RTDETRValidator" and "pred_to_json" in vars(stock)
    kept, validator.jdict = validator.jdict, []
    try:
        scaled = pred if done else stock.scale_preds(validator, pred, place)
        stock.pred_to_json(validator, scaled, place)
        rows = validator.jdict
    finally:
        validator.jdict = kept
    numbers = pred["cls"].tolist()
    return [{**row, "category_id": int(c)} for row, c in zip(rows, numbers, strict=True)]


def make_gather(module: ModuleType, original: Callable) -> Callable:
    """Return a ``gather_stats`` that brings the predictions of all ranks to the first.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.gather_stats``.
    """

    def gather_stats(self, *args, **kwargs):
        original(self, *args, **kwargs)
        _gather(_recorder(self), module)

    return gather_stats


def _gather(held: Any | None, module: ModuleType) -> None:
    """Bring the predictions of all ranks to the first, once."""
    if held is None or held.whole:
        return
    held.whole = True
    if module.RANK == -1:
        return
    ranks = [None] * module.dist.get_world_size() if module.RANK == 0 else None
    module.dist.gather_object((held.found, held.reason), ranks, dst=0)
    for found, reason in ranks or ():
        held.found.update(found)
        held.reason = held.reason or reason


def make_stats(module: ModuleType, original: Callable) -> Callable:
    """Return a ``get_stats`` that adds the official numbers and writes them down.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.get_stats``.
    """

    def get_stats(self, *args, **kwargs):
        stats = original(self, *args, **kwargs)
        held = _recorder(self)
        if held is None or not held.whole:
            return stats
        return {**stats, **_evaluate(self, held)}

    return get_stats


def make_results(module: ModuleType, original: Callable) -> Callable:
    """Return a getter of ``results_dict`` that holds the official numbers too.

    Args:
        module: ``ultralytics.utils.metrics``.
        original: The getter of ``DetMetrics.results_dict``.
    """

    def results_dict(self):
        return {**original(self), **vars(self).get("_yolograft", {})}

    return results_dict


def _evaluate(validator: Any, held: Any) -> dict[str, float]:
    """Return the columns of results.csv; evaluate and write ``coco_metrics.json`` first, once."""
    from yolograft.coco import metrics

    if held.numbers is None and held.reason is None:
        try:
            if not held.found:
                held.reason = _leaves_out(validator, "update_metrics")
                return {}
            numbers = held.evaluate(["bbox"] if held.boxes_alone else None)
            held.write(validator.save_dir, numbers, final=False)
            held.numbers = numbers
            validator.metrics._yolograft = metrics.columns(numbers, validator.args.task)
        except Exception as error:  # an epoch's work is not to be lost for a number
            held.failed(error)
    return metrics.columns(held.numbers or {}, validator.args.task)


def _leaves_out(validator: Any, step: str) -> str:
    return f"{type(validator).__name__}.{step} does not call Ultralytics' own {step}"


def _finish(validator: Any, stats: Any, module: ModuleType) -> Any:
    """Write and print what a validation on COCO JSON has found, or say why it has no numbers.

    Args:
        validator: A validator.
        stats: What it returns.
        module: ``ultralytics.engine.validator``.

    Returns:
        The same, with the official numbers.
    """
    from yolograft.coco import metrics

    held = _recorder(validator)
    _gather(held, module)
    if module.RANK > 0:
        return stats
    reason = _leaves_out(validator, "init_metrics")
    if held is not None:
        found = _evaluate(validator, held)
        if isinstance(stats, dict):
            stats = {**stats, **{k: v for k, v in found.items() if k not in stats}}
        if not validator.training and held.found:
            held.save(validator.save_dir)
        reason = held.reason
    if reason is None:
        module.LOGGER.info(metrics.table(held.numbers))
    elif not validator.training or reason != getattr(validator, "_yolograft_said", None):
        validator._yolograft_said = reason  # once, not after each epoch; and at the end
        module.LOGGER.warning(f"COCO metrics left out: {reason}")
    return stats
