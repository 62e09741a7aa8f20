"""Make the index of a COCO JSON; what cannot be used is dropped one by one, and reported."""

from __future__ import annotations

import contextlib
from array import array
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from yolograft.coco import parse, rle, values
from yolograft.coco.arrays import Index
from yolograft.coco.categories import read_categories
from yolograft.coco.progress import over
from yolograft.coco.report import Report
from yolograft.errors import refuse


def build(file: Path) -> Index:
    """Read a JSON and make its index.

    Args:
        file: COCO instances JSON.

    Raises:
        ConfigError: If it is not COCO instances JSON.
    """
    content, report = parse.parse(file), Report()
    categories, keypoints = read_categories(file, content["categories"])
    places, names, sizes = _images(content["images"], report)
    if not places:
        refuse(
            f"{file}: no image has a usable id and file_name; the first is "
            f"{values.short(content['images'][0])}",
            "each image is a mapping such as {id: 1, file_name: a.jpg, width: 640, height: 480}",
        )
    lists = {"image_id": content["images"], "category_id": content["categories"]}
    written = {key: ids for key, rows in lists.items() if (ids := _written(values.mappings(rows)))}
    listed = content["annotations"]
    odd = [values.short(row) for row in listed if not isinstance(row, dict)]
    report.add("dropped", "annotations that are not a mapping", odd)
    rows = values.mappings(listed)
    classes = {key: i for i, key in enumerate(categories)}
    image, cls, crowd, boxes = _columns(rows, places, classes, report)
    used = _used(rows, image, cls, crowd, boxes, report)
    crowds = int((used & crowd).sum())
    kept = np.flatnonzero(used & ~crowd)
    kept = kept[np.argsort(image[kept], kind="stable")]
    rows = [rows[i] for i in kept.tolist()]
    del content  # the memory of crowds and of what was dropped
    poses, keypoints = _poses(rows, keypoints, report)
    return Index(
        file=file,
        categories=categories,
        keypoints=keypoints,
        ids=list(places),
        names=names,
        crowds=crowds,
        total=len(listed),
        annotated=listed is not parse.NONE,
        written=written,
        sizes=sizes,
        first=np.searchsorted(image[kept], np.arange(len(places) + 1)).astype(np.int64),
        annotations=kept.astype(np.int64),
        cls=cls[kept],
        boxes=boxes[kept],
        poses=poses,
        **_segmentations(file, rows, report),
        report=report,
    )


def _images(rows: list, report: Report) -> tuple[dict[int | str, int], list[str], np.ndarray]:
    """Return the place of each image by its id, their file names and their sizes."""
    places, names, sizes = {}, [], []
    nameless, again, taken = [], [], []
    for row in rows:
        known = row if isinstance(row, dict) else {}
        key, name = values.read_id(known.get("id")), _name(known)
        if key is None or not name:
            nameless.append(values.short(row))
        elif key in places:
            (again if names[places[key]] == name else taken).append(f"image {key}, {name}")
        else:
            places[key] = len(names)
            names.append(name)
            sizes.append([_side(known.get(side)) for side in ("width", "height")])
    report.add("images", "images without a usable id or file_name", nameless)
    report.add("images", "images with an id that is already in use: the first one counts", taken)
    report.add("notes", "images that are listed again", again)
    return places, names, np.array(sizes, dtype=np.float64).reshape(-1, 2)


def _name(row: dict[str, Any]) -> str:
    """Return the file name of an image; LVIS has it in the address alone, with its folder."""
    if values.is_text(row.get("file_name")):
        return row["file_name"]
    for key in ("coco_url", "flickr_url"):
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            parts = unquote(urlsplit(row.get(key)).path).split("/")
            name = "/".join([part for part in parts if part][-2:])
            if values.is_text(name):
                return name
    return ""


def _side(value: object) -> float:
    number = float(value) if type(value) in (int, float) and value < 1e6 else 0.0
    return number if number > 0 else 0.0


def _written(rows: list[dict[str, Any]]) -> dict[int | str, str]:
    """Return the ids that are numbers written as text, by the number."""
    texts = [row["id"] for row in rows if isinstance(row.get("id"), str)]
    pairs = {values.read_id(text): text for text in reversed(texts)}  # the first one counts
    return {key: text for key, text in pairs.items() if key not in (None, text)}


def _columns(
    rows: list[dict[str, Any]], places: dict, classes: dict, report: Report
) -> tuple[np.ndarray, ...]:
    """Return image and class by place, -1 for unknown ones, crowd flag and box of annotations."""
    image, cls, crowd, boxes = array("i"), array("i"), array("b"), array("d")
    boxed, twice, seen = [], [], set()
    for row in rows:
        image.append(_place(row.get("image_id"), places))
        cls.append(_place(row.get("category_id"), classes))
        crowd.append(values.read_flag(row.get("iscrowd")))
        box, taken = values.read_box(row)
        _extend(boxes, box)
        if taken:
            boxed.append(values.where(row))
        key = row.get("id")
        key = repr(key) if isinstance(key, list | dict) else key
        if key in seen and key is not None:
            twice.append(values.where(row))
        seen.add(key)
    report.add("notes", "annotations without a box: taken from their polygon", boxed)
    report.add("notes", "annotations with an id that is already in use", twice)
    columns = np.asarray(image), np.asarray(cls), np.array(crowd, bool)
    return *columns, np.asarray(boxes).reshape(-1, 4)


def _place(value: object, known: dict) -> int:
    try:
        return known[value]
    except (KeyError, TypeError):  # an id that is written in another way, or is not one
        return known.get(values.read_id(value), -1)


def _used(rows: list, image, cls, crowd, boxes, report: Report) -> np.ndarray:
    """Return which annotations can be used; the box of a crowd does not matter."""
    finite = np.isfinite(boxes).all(1)
    used = np.ones(len(rows), dtype=bool)
    for reason, bad in (
        ("annotations of an image that `images` does not list", image < 0),
        ("annotations of an unknown category", cls < 0),
        ("boxes with NaN, infinity or missing numbers", ~finite & ~crowd),
        ("boxes of zero or negative size", finite & (boxes[:, 2:] <= 0).any(1) & ~crowd),
    ):
        new = np.flatnonzero(bad & used)
        report.add("dropped", reason, (values.where(rows[i]) for i in new[:9].tolist()), len(new))
        used &= ~bad
    return used


def _segmentations(file: Path, rows: list[dict], report: Report) -> dict[str, np.ndarray]:
    """Return polygons and runs of masks, each in one row of numbers, and whose is what."""
    points, lengths, parts = array("d"), array("i"), array("i")
    runs, mask_lengths, mask_sizes = array("i"), array("i"), array("i")
    unread = []
    for row in over(rows, f"Indexing {file}", len(rows)):
        shapes = values.read_shapes(row.get("segmentation"))
        held, size = len(runs), (0, 0)
        if isinstance(shapes, dict):
            try:
                found, *size = rle.counts(shapes)
                runs.frombytes(found.astype(np.int32).tobytes())
            except ValueError:
                unread.append(values.where(row))
            shapes = ()
        for part in shapes:
            lengths.append(_extend(points, part))
        parts.append(len(shapes))
        mask_lengths.append(len(runs) - held)
        mask_sizes.extend(size)
    report.add("notes", "annotations with a mask that cannot be read: the box is used", unread)
    return {
        **_whole_parts(rows, *map(np.asarray, (points, lengths, parts)), report),
        "runs": np.asarray(runs),
        "mask_lengths": np.asarray(mask_lengths),
        "mask_sizes": np.asarray(mask_sizes).reshape(-1, 2),
    }


def _extend(points: array, part: list) -> int:
    """Append the numbers of a box or polygon, NaN for what is not one; return how many."""
    before = len(points)
    try:
        points.extend(part)
    except (TypeError, OverflowError):
        del points[before:]
        points.extend(map(values.read_number, part))
    return len(part)


def _whole_parts(rows: list, points, lengths, parts, report: Report) -> dict[str, np.ndarray]:
    """Return the polygons of three or more points, all of them numbers."""
    bad = (lengths < 6) | (lengths % 2 == 1)
    if not np.isfinite(points).all():
        piece = np.repeat(np.arange(len(lengths)), lengths)
        bad[np.unique(piece[~np.isfinite(points)])] = True
    if bad.any():
        owner = np.repeat(np.arange(len(rows)), parts)
        owners = np.unique(owner[bad])
        examples = (values.where(rows[i]) for i in owners[:9].tolist())
        reason = "annotations with polygon parts that do not have three or more points"
        report.add("notes", reason, examples, len(owners))
        points = points[np.repeat(~bad, lengths)]
        parts = np.bincount(owner[~bad], minlength=len(rows)).astype(np.int32)
        lengths = lengths[~bad]
    return {"points": points, "lengths": lengths, "parts": parts}


def _poses(rows: list[dict], keypoints: list[str], report: Report) -> tuple[np.ndarray, list[str]]:
    """Return ``(m, k, 3)`` keypoints and their names; zeros where an annotation has none."""
    listed = [row.get("keypoints") for row in rows]
    size = len(keypoints) or max((len(v) // 3 for v in listed if isinstance(v, list)), default=0)
    poses, odd = np.zeros((len(rows), size, 3)), []
    for i, points in enumerate(listed if size else ()):
        if points is None:
            continue
        numbers = [values.read_number(v) for v in points] if isinstance(points, list) else []
        if len(numbers) == 3 * size and all(abs(v) < 1e6 for v in numbers):  # no NaN either
            poses[i] = np.reshape(numbers, (size, 3))
        else:
            odd.append(values.where(rows[i]))
    report.add("notes", f"annotations whose keypoints are not {size} times x, y, v", odd)
    return poses, keypoints or [str(i) for i in range(size)]
