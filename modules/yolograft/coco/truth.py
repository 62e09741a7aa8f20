"""The annotations of a split as faster-coco-eval reads them.

Images, categories and annotations get numbers of our own for an evaluation, in the order of their
ids, so that any ids will do: texts, 0, ids that two JSON files share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yolograft.coco import rle, values
from yolograft.coco.parse import parse
from yolograft.coco.sample import Sample

#: Corners of polygons are kept within this many pixels: each pixel of an edge costs memory.
_FAR = 1e5


class GroundTruth:
    """The annotations of a split.

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
            rows: dict[int | str, dict] = {}
            for row in values.mappings(content["images"]):
                rows.setdefault(values.read_id(row.get("id")), row)
            places = {}
            for key in sorted(rows.keys() - {None}, key=values.id_order):
                places[key] = len(images) + 1
                height, width = (_whole(rows[key].get(side)) for side in ("height", "width"))
                images.append({"id": places[key], "height": height, "width": width})
            self.places.append(places)
            for row in values.mappings(content["annotations"]):
                found = _annotation(row, places, classes, masks, points)
                if found is not None:
                    annotations.append({**found, "id": len(annotations) + 1})
        names = [{"id": number, "name": str(key)} for key, number in classes.items()]
        self.coco = COCO({"images": images, "annotations": annotations, "categories": names})

    def resize(self, samples: Iterable[Sample]) -> None:
        """Give images whose size the JSON has wrong that of their file, for the masks' sake.

        Args:
            samples: The images, with the frames that their JSON counts pixels in.
        """
        for one in samples:
            image = self.coco.imgs[self.places[one.source][one.id]]
            image["width"], image["height"] = map(int, one.frame)
            for row in self.coco.imgToAnns.get(image["id"], ()):
                shape = row.get("segmentation")
                if isinstance(shape, dict) and shape["size"] != [image["height"], image["width"]]:
                    row["segmentation"] = _outline(row["bbox"])  # as it is in training


def _whole(value: object) -> int:
    number = values.read_number(value)
    return int(number) if math.isfinite(number) and number > 0 else 1


def _annotation(
    row: dict[str, Any], places: dict, classes: dict, masks: bool, size: int
) -> dict[str, Any] | None:
    """Return one annotation with our numbers, ``None`` where COCO does not use it either."""
    image = places.get(values.read_id(row.get("image_id")))
    cls = classes.get(values.read_id(row.get("category_id")))
    box = [values.read_number(v) for v in values.read_box(row)[0]]
    if image is None or cls is None or not all(map(math.isfinite, box)):
        return None
    area = values.read_number(row.get("area"))
    found = {
        "image_id": image,
        "category_id": cls,
        "bbox": box,
        "area": area if math.isfinite(area) else box[2] * box[3],
        "iscrowd": int(values.read_flag(row.get("iscrowd"))),
    }
    if masks:
        found["segmentation"] = _mask(row.get("segmentation"), box)
    points = row.get("keypoints")
    points = [values.read_number(v) for v in points] if isinstance(points, list) else []
    if size and len(points) == 3 * size and all(map(math.isfinite, points)):
        found["keypoints"] = points
        count = values.read_number(row.get("num_keypoints"))
        seen = sum(v > 0 for v in points[2::3])
        found["num_keypoints"] = int(count) if math.isfinite(count) and count >= 0 else seen
    return found


def _mask(value: object, box: list[float]) -> list | dict:
    """Return a mask or polygons where they can be read, else the box as a polygon."""
    from faster_coco_eval import mask

    shapes = values.read_shapes(value)
    if isinstance(shapes, dict):
        try:
            runs, *size = rle.counts(shapes)
            return mask.frPyObjects({"size": size, "counts": runs.tolist()}, *size)
        except ValueError:
            return _outline(box)
    parts = [[values.read_number(v) for v in part] for part in shapes]
    good = [p for p in parts if len(p) >= 6 and len(p) % 2 == 0 and all(map(math.isfinite, p))]
    return list(map(_near, good)) or _outline(box)


def _outline(box: list[float]) -> list[list[float]]:
    x, y, w, h = box
    return [_near([x, y, x, y + h, x + w, y + h, x + w, y])]


def _near(polygon: list[float]) -> list[float]:
    return [min(max(v, -_FAR), _FAR) for v in polygon]
