"""AP of a trained model by COCO's rules, and what it finds on a few images.

faster-coco-eval computes the numbers for any data: against the JSON where the data is COCO JSON,
else against the boxes of the label files. Of rotated boxes, Ultralytics' own are taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from yolograft.compare.records import Example

#: Names of the numbers, in COCO's order.
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")

#: Images whose detections a record holds, and the least score of one.
EXAMPLES, SCORE = 6, 0.25


def noting(validator: type) -> type:
    """Return a validator's class that keeps the boxes it finds, once training is over.

    Args:
        validator: The stock class, for detect, segment, pose or obb.
    """

    class Noting(validator):
        def init_metrics(self, model):
            super().init_metrics(model)
            self.noted: dict[str, dict[str, Any]] = {}

        def update_metrics(self, preds, batch):
            if not self.training and self.args.task != "obb":
                for i, pred in enumerate(preds):
                    place = self._prepare_batch(i, batch)
                    self.noted[str(batch["im_file"][i])] = _boxes(pred, place)
            super().update_metrics(preds, batch)

    Noting.__name__ = validator.__name__
    return Noting


def _boxes(pred: dict[str, Any], place: dict[str, Any]) -> dict[str, list]:
    """Return height and width of the original image; corners in it, scores and classes."""
    from ultralytics.utils import ops

    boxes = ops.scale_boxes(
        place["imgsz"], pred["bboxes"].clone(), place["ori_shape"], ratio_pad=place["ratio_pad"]
    )
    return {
        "shape": [int(v) for v in place["ori_shape"]],
        "boxes": boxes.float().cpu().tolist(),
        "scores": pred["conf"].float().cpu().tolist(),
        "classes": pred["cls"].int().cpu().tolist(),
    }


def measure(validator: Any) -> dict[str, Any]:
    """Return the numbers of a final validation.

    Args:
        validator: Made by :func:`noting`, after it has run on the best checkpoint.

    Returns:
        ``metrics`` with :data:`NAMES` (``None`` where no object is of that size) and Ultralytics'
        own ``mAP50-95``, ``per_class`` AP by name, ``examples`` and ``source`` of the numbers.
    """
    box = validator.metrics.box
    names = {int(k): str(v) for k, v in validator.names.items()}
    per_class = {names[int(c)]: float(box.maps[int(c)]) for c in box.ap_class_index}
    own = {"AP": float(box.map), "AP50": float(box.map50), "AP75": float(box.map75)}
    file = Path(validator.save_dir, "coco_metrics.json")
    if file.is_file():
        numbers, source = json.loads(file.read_text())["bbox"], "COCO JSON"
    elif validator.args.task == "obb":
        numbers, source = own, "Ultralytics, rotated boxes"
    else:
        numbers, source = _from_labels(validator), "label files, by COCO's rules"
    if validator.args.task in ("segment", "pose"):
        source += ", of the boxes"
    metrics = {name: _known(numbers.get(name)) for name in NAMES}
    return {
        "metrics": {**metrics, "ultralytics_AP": own["AP"]},
        "per_class": per_class,
        "examples": _examples(validator),
        "source": source,
        "names": [names[i] for i in sorted(names)],
    }


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) or value < 0 else float(value)


def _from_labels(validator: Any) -> dict[str, float]:
    from faster_coco_eval import COCO

    from yolograft.coco import metrics

    images, annotations, found = [], [], []
    for i, label in enumerate(validator.dataloader.dataset.labels, 1):
        one = validator.noted[str(label["im_file"])]
        height, width = one["shape"]
        images.append({"id": i, "height": height, "width": width})
        for box, kind in _truth(label, one["shape"]):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": kind + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        for (x0, y0, x1, y1), score, kind in _rows(one):
            box = [x0, y0, x1 - x0, y1 - y0]
            found.append({"image_id": i, "category_id": kind + 1, "bbox": box, "score": score})
    if not annotations:
        return {}
    categories = [{"id": int(c) + 1, "name": str(name)} for c, name in validator.names.items()]
    truth = COCO({"images": images, "annotations": annotations, "categories": categories})
    return metrics.evaluate(truth, found, "bbox", [one["id"] for one in images])


def _examples(validator: Any) -> list[Example]:
    """Return what was found on a few images, the same ones for every model."""
    files = sorted(validator.noted)
    places = sorted(
        {*np.linspace(0, len(files) - 1, EXAMPLES).round().astype(int)} if files else ()
    )
    labels = {str(one["im_file"]): one for one in validator.dataloader.dataset.labels}
    examples = []
    for file in (files[i] for i in places):
        one = validator.noted[file]
        rows = [
            [*(round(v, 1) for v in box), round(score, 3), kind]
            for box, score, kind in _rows(one)
            if score >= SCORE
        ]
        truth = [
            [*(round(v, 1) for v in (x, y, x + w, y + h)), kind]
            for (x, y, w, h), kind in _truth(labels[file], one["shape"])
        ]
        examples.append(Example(file, rows[:50], truth[:50]))
    return examples


def _truth(label: dict[str, Any], shape: list[int]) -> Iterator[tuple[list[float], int]]:
    """Return left, top, width, height in pixels and the class of each box of a label."""
    height, width = shape
    for kind, (x, y, w, h) in zip(label["cls"].ravel(), label["bboxes"], strict=True):
        box = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
        yield [float(v) for v in box], int(kind)


def _rows(one: dict[str, Any]) -> Iterator[tuple[list[float], float, int]]:
    return zip(one["boxes"], one["scores"], one["classes"], strict=True)
