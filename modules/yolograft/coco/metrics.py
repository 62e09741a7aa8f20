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

#: The file of a run that holds the numbers.
FILE = "coco_metrics.json"

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
        points: How many keypoints an annotation has; those with other keypoints have none.

    Attributes:
        places: For each file, image id -> our number.
        coco: ``faster_coco_eval.COCO``.
    """

    def __init__(
        self,
        files: Iterable[Path],
        categories: Iterable[int | str],
        masks: bool = False,
        points: int = 0,
    ):
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
                found = _annotation(row, places, classes, masks, points)
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


def _annotation(
    row: object, places: dict, classes: dict, masks: bool, size: int
) -> dict[str, Any] | None:
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
    if size and isinstance(points, list) and len(points) == 3 * size:
        points = [read_number(v) for v in points]
        if all(map(math.isfinite, points)):
            found["keypoints"] = points
            count = read_number(row.get("num_keypoints"))
            seen = sum(v > 0 for v in points[2::3])
            found["num_keypoints"] = int(count) if math.isfinite(count) and count >= 0 else seen
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
        classes: Number or numbers of the classes that count; all when ``None``.
        agnostic: Whether categories are ignored, as with ``single_cls``.
        sigmas: Of the keypoints; COCO's for its 17 when left out.
        categories: Ids by class number; those of the first JSON, ordered, when left out.

    Attributes:
        order: The model's number of a class -> the data's.
        found: The predictions for each image, by its place in the dataset's ``samples``.
        boxes_alone: Whether masks are left for the final validation.
        beside: Whether ``predictions.json`` is somebody else's.
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
        if classes is not None:  # Ultralytics passes over numbers that there are not
            classes = sorted({*np.ravel(classes).tolist()} & {*range(len(self.categories))})
        self.classes = classes
        self.order = {i: i for i in range(len(self.categories))}
        self.each: dict[str, list[dict[str, float | None]]] = {}
        self.clear()

    def clear(self) -> None:
        """Forget the predictions."""
        self.found: dict[int, list[dict[str, Any]]] = {}

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
        only = self.classes[0] if self.classes else 0  # it stands for all
        kept = []
        for row in predictions:
            cls = only if self.agnostic else self.order.get(row["category_id"])
            if cls is None:  # a class of the model that the data does not have
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
        images = [truth.places[samples[i].source][samples[i].id] for i in sorted(self.found)]
        numbers = {key: i for i, key in enumerate(self.categories, 1)}
        rows = [
            {**row, "image_id": image, "category_id": numbers[row["category_id"]]}
            for image, sample in zip(images, sorted(self.found), strict=True)
            for row in self.found[sample]
        ]
        classes = None if self.classes is None else [i + 1 for i in self.classes]
        found = {}
        for kind in kinds or KINDS[self.task]:
            run = _run(truth.coco, rows, kind, images, classes, self.agnostic, self.sigmas)
            found[kind] = _numbers(run, kind)
            self.each[kind] = [] if self.agnostic else _each(run)
        return found

    def _truth(self) -> GroundTruth:
        """Return the ground truth, read once for a dataset."""
        if getattr(self.dataset, "truth", None) is None:
            files = [index.file for index in self.dataset.indexes]
            points = self.dataset.data["kpt_shape"][0] if self.task == "pose" else 0
            self.dataset.truth = GroundTruth(files, self.categories, self.task == "segment", points)
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
        indexes = self.dataset.indexes
        names = {key: name for index in indexes for key, name in index.categories.items()}
        content = {
            **numbers,
            "classes": [
                {"id": key, "name": names[key], **{kind: self.each[kind][i] for kind in numbers}}
                for i, key in enumerate(self._counted())
            ],
            "images": len(self.found),
            "predictions": sum(map(len, self.found.values())),
            "categories": "ignored" if self.agnostic else "each",
            "annotations": {str(i.file): n for i, n in zip(indexes, self._names(), strict=True)},
        }
        (folder / FILE).write_text(json.dumps(content, indent=2) + "\n")
        if final:
            self.save(folder)

    def _counted(self) -> list[int | str]:
        """Return the categories that have numbers of their own, in the order of their numbers."""
        if self.agnostic:
            return []
        places = range(len(self.categories)) if self.classes is None else self.classes
        return [self.categories[i] for i in places]

    def _names(self) -> list[str]:
        """Return the name of the file of predictions for each JSON of the split."""
        stem = "coco_predictions" if self.beside else "predictions"
        files = [index.file for index in self.dataset.indexes]
        if len(files) == 1:
            return [f"{stem}.json"]
        return [f"{stem}-{i}-{file.stem}.json" for i, file in enumerate(files, 1)]

    def save(self, folder: Path) -> None:
        """Write the predictions.

        Args:
            folder: Folder of the run.
        """
        for name, rows in zip(self._names(), self.results(), strict=True):
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
    return _numbers(_run(truth, rows, kind, images, classes, agnostic, sigmas), kind)


def _run(
    truth: Any,
    rows: list[dict[str, Any]],
    kind: str,
    images: list[int],
    classes: list[int] | None,
    agnostic: bool,
    sigmas: list[float] | None,
) -> Any:
    """Return the evaluation, see :func:`evaluate`."""
    from faster_coco_eval import COCO, COCOeval_faster

    kept, categories = truth.dataset["annotations"], truth.dataset["categories"]
    if kind == "keypoints":  # COCO has no use for a pose without them
        kept = [row for row in kept if "keypoints" in row]
    if agnostic:  # one category; faster-coco-eval compares no poses with `useCats` off
        kept = [row for row in kept if classes is None or row["category_id"] in classes]
        kept, rows = ([{**row, "category_id": 1} for row in some] for some in (kept, rows))
        categories, classes = [{"id": 1, "name": "any"}], None
    if kind == "keypoints" or agnostic:
        truth = COCO({**truth.dataset, "annotations": kept, "categories": categories})
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
    if classes is None:  # faster-coco-eval leaves out categories that have no pose
        classes = [row["id"] for row in categories]
    run.params.catIds = classes or [0]  # an empty list would stand for all
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run


def _numbers(run: Any, kind: str) -> dict[str, float]:
    names = POSE_NAMES if kind == "keypoints" else BOX_NAMES
    return {n: float(v) for n, v in zip(names, run.all_stats[: len(names)], strict=True)}


def _each(run: Any) -> list[dict[str, float | None]]:
    """Return AP and AP50 of each category, ``None`` where there is nothing to find."""
    found = []
    for values in np.moveaxis(run.eval["precision"][:, :, :, 0, -1], 2, 0):  # IoU x recall each
        known = bool((values > -1).any())
        found.append(
            {
                "AP": float(values.mean()) if known else None,
                "AP50": float(values[0].mean()) if known else None,
            }
        )
    return found


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
