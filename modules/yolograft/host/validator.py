"""Wrap five steps of ``DetectionValidator``: on COCO JSON they also give the official numbers.

``SegmentationValidator.init_metrics`` goes with them: masks are compared in full size where they
count, as Ultralytics does for its own COCO.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


def _recorder(validator: Any) -> Any | None:
    return getattr(validator, "_yolograft", None)


def make_init(module: ModuleType, original: Callable) -> Callable:
    """Return an ``init_metrics`` that starts to record where the data is COCO JSON.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.init_metrics``.
    """

    def init_metrics(self, model, *args, **kwargs):
        dataset = getattr(self.dataloader, "dataset", None)
        if not hasattr(dataset, "indexes"):
            self._yolograft = None
            return original(self, model, *args, **kwargs)
        from yolograft.coco.metrics import Recorder

        self.args.save_json = False  # Ultralytics' own reads ids off the file names
        original(self, model, *args, **kwargs)
        self.args.save_json = self.is_coco = self.is_lvis = False
        self.is_custom_json = self.build_gdict = False
        self.gdict = None
        self.class_map = list(range(len(model.names)))
        held = _recorder(self)
        if held is None or held.dataset is not dataset:
            held = Recorder(
                dataset,
                self.args.task,
                classes=self.args.classes,
                agnostic=bool(self.args.single_cls),
                sigmas=_sigmas(self.data) if self.args.task == "pose" else None,
            )
        held.clear()
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
    """Return an ``update_metrics`` that also records the predictions.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.update_metrics``.
    """

    def update_metrics(self, preds, batch, *args, **kwargs):
        original(self, preds, batch, *args, **kwargs)
        held = _recorder(self)
        if held is None:
            return
        # Masks in full size cost too much after every epoch: boxes alone then.
        owner = type(self)
        if self.training and self.args.task == "segment":
            owner = module.DetectionValidator
        for i, pred in enumerate(preds):
            rows = []
            if len(pred["cls"]):
                place = {
                    "imgsz": batch["img"].shape[2:],
                    **{key: batch[key][i] for key in ("ori_shape", "ratio_pad", "im_file")},
                }
                kept, self.jdict = self.jdict, rows
                owner.pred_to_json(self, owner.scale_preds(self, pred, place), place)
                self.jdict = kept
            held.add(batch["sample"][i], rows)

    return update_metrics


def make_gather(module: ModuleType, original: Callable) -> Callable:
    """Return a ``gather_stats`` that brings the predictions of all ranks to the first.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.gather_stats``.
    """

    def gather_stats(self, *args, **kwargs):
        original(self, *args, **kwargs)
        held = _recorder(self)
        if held is None or module.RANK == -1:
            return
        ranks = [None] * module.dist.get_world_size() if module.RANK == 0 else None
        module.dist.gather_object(held.found, ranks, dst=0)
        for found in ranks or ():
            held.found.update(found)

    return gather_stats


def make_stats(module: ModuleType, original: Callable) -> Callable:
    """Return a ``get_stats`` that adds the official numbers and writes them down.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.get_stats``.
    """

    def get_stats(self, *args, **kwargs):
        stats = original(self, *args, **kwargs)
        held = _recorder(self)
        if held is None:
            return stats
        from yolograft.coco import metrics

        try:
            kinds = ["bbox"] if self.training and self.args.task == "segment" else None
            self._yolograft_numbers = held.evaluate(kinds)
            held.write(self.save_dir, self._yolograft_numbers, final=not self.training)
        except Exception as error:  # an epoch's work is not to be lost for a number
            module.LOGGER.warning(f"COCO metrics left out: {type(error).__name__}: {error}")
            self._yolograft_numbers = {}
        return {**stats, **metrics.columns(self._yolograft_numbers, self.args.task)}

    return get_stats


def make_print(module: ModuleType, original: Callable) -> Callable:
    """Return a ``print_results`` that adds the official numbers below.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.print_results``.
    """

    def print_results(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if _recorder(self) is not None and self._yolograft_numbers:
            from yolograft.coco import metrics

            module.LOGGER.info(metrics.table(self._yolograft_numbers))

    return print_results
