"""The official COCO numbers, by faster-coco-eval, against the original JSON.

Images, categories and annotations get numbers of our own for the time of an evaluation, in the
order of their ids, so that any ids will do: texts, 0, ids that two JSON files share. Nothing else
differs from what pycocotools computes for the same predictions and the same JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from yolograft.coco import rle
from yolograft.coco.images import BACK, in_frame, turned_picture
from yolograft.coco.index import (
    id_order,
    parse,
    read_box,
    read_categories,
    read_flag,
    read_id,
    read_number,
)

#: Names of the official numbers, in COCO's order.
BOX_NAMES = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
POSE_NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")

#: What is evaluated for each task, with the letter that Ultralytics gives it.
KINDS = {
    "detect": {"bbox": "B"},
    "segment": {"bbox": "B", "segm": "M"},
    "pose": {"bbox": "B", "keypoints": "P"},
}

#: Columns of results.csv; those that Ultralytics writes under ``save_json`` keep their names.
COLUMNS = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "APs": "mAP_small",
    "APm": "mAP_medium",
    "APl": "mAP_large",
    "AR100": "AR",
}


def training_columns(task: str) -> list[str]:
    """Return the columns that a training's results.csv has.

    Args:
        task: ``detect``, ``segment`` or ``pose``.
    """
    kinds = ["bbox"] if task == "segment" else KINDS[task]
    blank = {
        kind: dict.fromkeys(POSE_NAMES if kind == "keypoints" else BOX_NAMES, 0.0) for kind in kinds
    }
    return list(columns(blank, task))


def columns(numbers: dict[str, dict[str, float]], task: str) -> dict[str, float]:
    """Return the columns of results.csv.

    Args:
        numbers: From :meth:`Recorder.evaluate`.
        task: ``detect``, ``segment`` or ``pose``.
    """
    return {
        f"metrics/{COLUMNS.get(name, name)}({KINDS[task][kind]})": value
        for kind, values in numbers.items()
        for name, value in values.items()
        if name in COLUMNS or (kind == "keypoints" and name == "AR")
    }


#: No image has as many pixels in a row.
_FAR = 1e5


class GroundTruth:
    """The annotations of a split as faster-coco-eval reads them.

    Args:
        files: COCO instances JSON.
        categories: Ids in the order of the classes.
        masks: Whether to keep the masks.

    Attributes:
        places: For each file, image id -> our number.
        coco: ``faster_coco_eval.COCO``.
    """

    def __init__(self, files: Iterable[Path], categories: Iterable[int | str], masks: bool = False):
        from faster_coco_eval import COCO

        classes = {key: number for number, key in enumerate(categories, 1)}
        self.places: list[dict[int | str, int]] = []
        images, annotations = [], []
        for file in files:
            content = parse(file)
            read_categories(file, content["categories"])
            rows = {}
            for row in content["images"]:
                key = read_id(row.get("id")) if isinstance(row, dict) else None
                if key is not None:
                    rows.setdefault(key, row)
            places = {}
            for key in sorted(rows, key=id_order):
                places[key] = len(images) + 1
                height, width = (read_number(rows[key].get(k)) for k in ("height", "width"))
                images.append({"id": places[key], "height": _whole(height), "width": _whole(width)})
            self.places.append(places)
            for row in content["annotations"]:
                found = _annotation(row, places, classes, masks)
                if found is not None:
                    annotations.append({**found, "id": len(annotations) + 1})
        self.coco = COCO(
            {
                "images": images,
                "annotations": annotations,
                "categories": [{"id": i, "name": str(key)} for key, i in classes.items()],
            }
        )


def _whole(value: float) -> int:
    return int(value) if math.isfinite(value) and value > 0 else 1


def _annotation(row: object, places: dict, classes: dict, masks: bool) -> dict[str, Any] | None:
    """Return one annotation with our numbers, ``None`` where COCO has no use for it either."""
    if not isinstance(row, dict):
        return None
    image = places.get(read_id(row.get("image_id")))
    cls = classes.get(read_id(row.get("category_id")))
    box, _ = read_box(row)
    if image is None or cls is None or not all(map(math.isfinite, box)):
        return None
    area = read_number(row.get("area"))
    found = {
        "image_id": image,
        "category_id": cls,
        "bbox": box,
        "area": area if math.isfinite(area) else box[2] * box[3],
        "iscrowd": read_flag(row.get("iscrowd")),
    }
    if masks:
        found["segmentation"] = _mask(row.get("segmentation"), box)
    points = row.get("keypoints")
    if isinstance(points, list) and points and len(points) % 3 == 0:
        points = [read_number(v) for v in points]
        if all(map(math.isfinite, points)):
            found["keypoints"] = points
            count = read_number(row.get("num_keypoints"))
            seen = sum(v > 0 for v in points[2::3])
            found["num_keypoints"] = int(count) if math.isfinite(count) else seen
    return found


def _mask(value: object, box: list[float]) -> list | dict:
    """Return a mask as it is where it can be read, else the box as a polygon."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        try:
            runs, height, width = rle.counts(value)
            return {"size": [height, width], "counts": rle.compress(runs).decode()}
        except (TypeError, ValueError):
            pass
    elif isinstance(value, list) and value:
        shapes = [[read_number(v) for v in part] for part in value if isinstance(part, list)]
        good = [s for s in shapes if len(s) >= 6 and len(s) % 2 == 0 and all(map(math.isfinite, s))]
        if good:
            return [_drawable(s) for s in good]
    x, y, w, h = box
    return [_drawable([x, y, x, y + h, x + w, y + h, x + w, y])]


def _drawable(polygon: list[float]) -> list[float]:
    """Return a polygon without corners far outside of any image: each pixel there costs memory."""
    if max(map(abs, polygon)) < _FAR:
        return polygon
    return [min(max(v, -_FAR), _FAR) for v in polygon]


class Recorder:
    """Gathers predictions while Ultralytics validates, then evaluates them.

    Args:
        dataset: The :class:`yolograft.coco.dataset.CocoDataset` that is validated.
        task: ``detect``, ``segment`` or ``pose``.
        classes: Class numbers that count; all when ``None``.
        agnostic: Whether categories are ignored, as with ``single_cls``.
        sigmas: Of the keypoints; COCO's for its 17 when left out.
    """

    def __init__(
        self,
        dataset: Any,
        task: str,
        classes: list[int] | None = None,
        agnostic: bool = False,
        sigmas: list[float] | None = None,
    ):
        self.dataset, self.task = dataset, task
        self.classes, self.agnostic, self.sigmas = classes, agnostic, sigmas
        self.categories = list(dataset.indexes[0].categories)
        self.found: dict[int, list[dict[str, Any]]] = {}

    def clear(self) -> None:
        """Forget the predictions."""
        self.found = {}

    def add(self, sample: int, predictions: list[dict[str, Any]]) -> None:
        """Keep the predictions for one image.

        Args:
            sample: Its place in the dataset's ``samples``.
            predictions: As Ultralytics' ``pred_to_json`` writes them, with the number of the class
                as ``category_id``.
        """
        one = self.dataset.samples[sample]
        kept = []
        for row in predictions:
            cls = 0 if self.agnostic else row["category_id"]
            if cls >= len(self.categories):  # a class of the model that the data does not have
                continue
            new = {"image_id": one.id, "category_id": self.categories[cls], "bbox": row["bbox"]}
            left, top, width, height = row["bbox"]
            corners = np.array([[left, top], [left + width, top + height]])
            if (framed := in_frame(corners, one)) is not corners:
                low, high = framed.min(0), framed.max(0)
                new["bbox"] = [*low.tolist(), *(high - low).tolist()]
            new["score"] = row["score"]
            if "segmentation" in row:
                new["segmentation"] = _resized(row["segmentation"], one)
            if "keypoints" in row:
                points = np.reshape(row["keypoints"], (self.dataset.data["kpt_shape"][0], -1))
                points = in_frame(points[:, :2], one)
                points = np.column_stack((points, np.ones(len(points))))
                new["keypoints"] = [round(float(v), 3) for v in points.ravel()]
            kept.append(new)
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
        samples = self.dataset.samples
        images = [truth.places[s.source][s.id] for s in samples]
        numbers = {key: i for i, key in enumerate(self.categories, 1)}
        rows = [
            {
                **row,
                "image_id": truth.places[samples[sample].source][row["image_id"]],
                "category_id": numbers[row["category_id"]],
            }
            for sample in sorted(self.found)
            for row in self.found[sample]
        ]
        classes = None if self.classes is None else [i + 1 for i in self.classes]
        return {
            kind: evaluate(truth.coco, rows, kind, images, classes, self.agnostic, self.sigmas)
            for kind in kinds or KINDS[self.task]
        }

    def _truth(self) -> GroundTruth:
        """Return the ground truth, read once for a dataset."""
        masks = self.task == "segment"
        if getattr(self.dataset, "truth", None) is None:
            files = [index.file for index in self.dataset.indexes]
            self.dataset.truth = GroundTruth(files, self.categories, masks)
            self._resize_truth()
        return self.dataset.truth

    def _resize_truth(self) -> None:
        """Give images whose size the JSON has wrong that of their file, for the masks' sake."""
        truth = self.dataset.truth
        for one in self.dataset.samples:
            image = truth.coco.imgs[truth.places[one.source][one.id]]
            image["width"], image["height"] = (int(v) for v in one.frame)
            for row in truth.coco.imgToAnns.get(image["id"], ()):
                shape = row.get("segmentation")
                if isinstance(shape, dict) and shape["size"] != [image["height"], image["width"]]:
                    row["segmentation"] = _mask(None, row["bbox"])  # as it is in training

    def write(self, folder: Path, numbers: dict[str, dict[str, float]], final: bool) -> None:
        """Write ``coco_metrics.json`` and, after a final validation, the predictions.

        Args:
            folder: Folder of the run.
            numbers: From :meth:`evaluate`.
            final: Whether to write the predictions.
        """
        files = [index.file for index in self.dataset.indexes]
        names = ["predictions.json"]
        if len(files) > 1:
            names = [f"predictions-{i}-{file.stem}.json" for i, file in enumerate(files, 1)]
        content = {
            **numbers,
            "images": len(self.dataset.samples),
            "predictions": sum(map(len, self.found.values())),
            "categories": "ignored" if self.agnostic else "each",
            "annotations": dict(zip(map(str, files), names, strict=True)),
        }
        (folder / "coco_metrics.json").write_text(json.dumps(content, indent=2) + "\n")
        for name, rows in zip(names, self.results() if final else (), strict=False):
            (folder / name).write_text(json.dumps(rows))


def _resized(mask: dict[str, Any], sample: Any) -> dict[str, Any]:
    """Return a predicted mask in the size that the JSON has for its image."""
    width, height = (int(v) for v in sample.frame)
    turn = getattr(sample, "turn", 0)
    if mask["size"] == [height, width] and not turn:
        return mask
    import cv2
    from faster_coco_eval import mask as tools

    image = rle.decode(mask)
    if turn:
        image = turned_picture(image, BACK[turn])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
    new = tools.encode(np.asfortranarray(image))
    return {"size": [height, width], "counts": new["counts"].decode()}


def evaluate(
    truth: Any,
    rows: list[dict[str, Any]],
    kind: str,
    images: list[int],
    classes: list[int] | None = None,
    agnostic: bool = False,
    sigmas: list[float] | None = None,
) -> dict[str, float]:
    """Return the official numbers; -1 where there is nothing to find, as COCO has it.

    Args:
        truth: ``faster_coco_eval.COCO`` of the ground truth.
        rows: Predictions in COCO's results format.
        kind: ``bbox``, ``segm`` or ``keypoints``.
        images: Ids of the images that count.
        classes: Ids of the categories that count; all when ``None``.
        agnostic: Whether categories are ignored.
        sigmas: Of the keypoints.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    names = POSE_NAMES if kind == "keypoints" else BOX_NAMES
    found = COCO()
    if rows:
        found = truth.loadRes([dict(row) for row in rows])
    else:
        found.dataset = {**truth.dataset, "annotations": []}
        found.createIndex()
    quiet = {"print_function": lambda *_: None}
    extra = {"kpt_oks_sigmas": sigmas} if kind == "keypoints" and sigmas is not None else {}
    run = COCOeval_faster(truth, found, iouType=kind, **quiet, **extra)
    run.params.imgIds = images
    if classes is not None:
        run.params.catIds = classes
    run.params.useCats = int(not agnostic)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return {n: float(v) for n, v in zip(names, run.all_stats[: len(names)], strict=True)}


def table(numbers: dict[str, dict[str, float]]) -> str:
    """Return the numbers as rows under Ultralytics' own table.

    Args:
        numbers: From :meth:`Recorder.evaluate`.
    """
    lines = []
    for kind, values in numbers.items():
        lines.append(f"{'COCO ' + kind:>22}" + "".join(f"{name:>8}" for name in values))
        lines.append(" " * 22 + "".join(f"{value:>8.3g}" for value in values.values()))
    return "\n".join(lines)
