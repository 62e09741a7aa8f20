"""Gather predictions while Ultralytics validates, evaluate them, and write both down."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolograft import files
from yolograft.coco import metrics, rle
from yolograft.coco.rotation import BACK, turned_image
from yolograft.coco.sample import Sample
from yolograft.coco.truth import GroundTruth


class Recorder:
    """The predictions of a validation, and their numbers.

    Args:
        dataset: The :class:`yolograft.coco.dataset.CocoDataset` that is validated.
        task: ``detect``, ``segment`` or ``pose``.
        classes: Number or numbers of the classes that count; all when ``None``.
        agnostic: Whether categories are ignored, as with ``single_cls``.
        sigmas: Of the keypoints; COCO's for its 17 when left out.
        categories: Ids by class number; those of the first JSON, ordered, when left out.

    Attributes:
        order: The model's number of a class -> the data's.
        found: The predictions for each image, by its place in the dataset's ``samples``.
        boxes_alone: Whether masks are left for the final validation.
        beside: Whether ``predictions.json`` is written by somebody else.
        whole: Whether the predictions of all ranks are here.
        numbers: What :meth:`evaluate` has returned.
        reason: Why there are no numbers.
    """

    boxes_alone = beside = whole = False
    numbers: dict[str, dict[str, float]] | None = None
    reason: str | None = None

    def __init__(
        self,
        dataset: Any,
        task: str,
        classes: int | list[int] | None = None,
        agnostic: bool = False,
        sigmas: list[float] | None = None,
        categories: list[int | str] | None = None,
    ):
        self.dataset, self.task, self.agnostic, self.sigmas = dataset, task, agnostic, sigmas
        self.categories = categories or list(dataset.indexes[0].categories)
        if classes is not None:  # Ultralytics ignores numbers that no class has
            classes = sorted({*np.ravel(classes).tolist()} & {*range(len(self.categories))})
        self.classes = classes
        self.order = {i: i for i in range(len(self.categories))}
        self.found: dict[int, list[dict[str, Any]]] = {}
        self._each: dict[str, list[dict[str, float | None]]] = {}

    def failed(self, error: Exception) -> None:
        """Keep an error as the reason why there are no numbers.

        Args:
            error: What was raised.
        """
        self.reason = f"{type(error).__name__}: {error}"

    def add(self, sample: int, predictions: list[dict[str, Any]]) -> None:
        """Keep the predictions for one image.

        Args:
            sample: Its place in the dataset's ``samples``.
            predictions: As Ultralytics' ``pred_to_json`` writes them, with the model's number of
                the class as ``category_id``.
        """
        one = self.dataset.samples[sample]
        only = self.classes[0] if self.classes else 0  # predictions of any class count as this one
        kept = []
        for row in predictions:
            cls = only if self.agnostic else self.order.get(row["category_id"])
            if cls is None:  # a class of the model that the data does not have
                continue
            new = {"image_id": one.id, "category_id": self.categories[cls]}
            kept.append({**new, **_in_frame(row, one, self.dataset.data)})
        self.found[sample] = kept

    def results(self) -> list[list[dict[str, Any]]]:
        """Return the predictions in COCO's results format, for each JSON of the split."""
        sources: list[list[dict[str, Any]]] = [[] for _ in self.dataset.indexes]
        for sample in sorted(self.found):
            source = self.dataset.samples[sample].source
            index = self.dataset.indexes[source]
            sources[source] += map(index.as_written, self.found[sample])
        return sources

    def evaluate(self, kinds: Iterable[str] | None = None) -> dict[str, dict[str, float]]:
        """Return the official numbers of each kind.

        Args:
            kinds: ``bbox``, ``segm``, ``keypoints``; those of the task when left out.

        Returns:
            Nothing where no JSON has a list of annotations, as those of test sets.
        """
        if not any(index.annotated for index in self.dataset.indexes):
            return {}
        truth = self._truth()
        numbers = {key: i for i, key in enumerate(self.categories, 1)}
        images, rows = [], []
        for sample in sorted(self.found):
            one = self.dataset.samples[sample]
            images.append(truth.places[one.source][one.id])
            rows += [
                {**row, "image_id": images[-1], "category_id": numbers[row["category_id"]]}
                for row in self.found[sample]
            ]
        classes = None if self.classes is None else [i + 1 for i in self.classes]
        found = {}
        for kind in kinds or metrics.KINDS[self.task]:
            run = metrics.run(truth.coco, rows, kind, images, classes, self.agnostic, self.sigmas)
            found[kind] = metrics.numbers(run, kind)
            self._each[kind] = [] if self.agnostic else metrics.per_class(run)
        return found

    def _truth(self) -> GroundTruth:
        """Return the ground truth, read once for a dataset."""
        dataset = self.dataset
        if getattr(dataset, "truth", None) is None:
            points = dataset.data["kpt_shape"][0] if self.task == "pose" else 0
            truth = GroundTruth(
                [index.file for index in dataset.indexes],
                self.categories,
                self.task == "segment",
                points,
            )
            truth.resize(dataset.samples)
            dataset.truth = truth
        return dataset.truth

    def write(self, folder: Path, numbers: dict[str, dict[str, float]]) -> None:
        """Write ``coco_metrics.json``.

        Args:
            folder: Folder of the run.
            numbers: From :meth:`evaluate`.
        """
        indexes = self.dataset.indexes
        names = {key: name for index in indexes for key, name in index.categories.items()}
        places = range(len(self.categories)) if self.classes is None else self.classes
        counted = [] if self.agnostic else [self.categories[i] for i in places]
        content = {
            **numbers,
            "classes": [
                {"id": key, "name": names[key], **{kind: self._each[kind][i] for kind in numbers}}
                for i, key in enumerate(counted)
            ],
            "images": len(self.found),
            "predictions": sum(map(len, self.found.values())),
            "categories": "ignored" if self.agnostic else "each",
            "annotations": {str(i.file): n for i, n in zip(indexes, self._names(), strict=True)},
        }
        files.write(folder / metrics.FILE, json.dumps(content, indent=2) + "\n")

    def save(self, folder: Path) -> None:
        """Write the predictions.

        Args:
            folder: Folder of the run.
        """
        for name, rows in zip(self._names(), self.results(), strict=True):
            files.write(folder / name, json.dumps(rows))

    def _names(self) -> list[str]:
        """Return the name of the file of predictions for each JSON of the split."""
        stem = "coco_predictions" if self.beside else "predictions"
        stems = [index.file.stem for index in self.dataset.indexes]
        if len(stems) == 1:
            return [f"{stem}.json"]
        return [f"{stem}-{i}-{one}.json" for i, one in enumerate(stems, 1)]


def _in_frame(row: dict[str, Any], one: Sample, data: dict[str, Any]) -> dict[str, Any]:
    """Return box, score, mask and keypoints of a prediction in the frame of its JSON."""
    new = {"bbox": row["bbox"], "score": row["score"]}
    left, top, width, height = row["bbox"]
    corners = np.array([[left, top], [left + width, top + height]])
    if (framed := one.in_frame(corners)) is not corners:
        low, high = framed.min(0), framed.max(0)
        new["bbox"] = [*low.tolist(), *(high - low).tolist()]
    if "segmentation" in row:
        new["segmentation"] = _resized(row["segmentation"], one)
    if "keypoints" in row:
        points = np.reshape(row["keypoints"], (data["kpt_shape"][0], -1))
        points = one.in_frame(points[:, :2])
        points = np.column_stack((points, np.ones(len(points))))
        new["keypoints"] = [round(float(v), 3) for v in points.ravel()]
    return new


def _resized(mask: dict[str, Any], one: Sample) -> dict[str, Any]:
    """Return a predicted mask in the size that the JSON has for its image."""
    width, height = map(int, one.frame)
    if mask["size"] == [height, width] and not one.turn:
        return mask
    from faster_coco_eval import mask as tools

    image = rle.decode(mask)
    if one.turn:
        image = turned_image(image, BACK[one.turn])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
    new = tools.encode(np.asfortranarray(image))
    return {"size": [height, width], "counts": new["counts"].decode()}
