"""Ultralytics' labels from the arrays of a JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics import __version__
from ultralytics.data.converter import merge_multi_segment
from ultralytics.utils.ops import segments2boxes

from yolograft.coco import rle
from yolograft.coco.arrays import Index
from yolograft.coco.progress import over
from yolograft.coco.report import Report
from yolograft.coco.rotation import turned
from yolograft.coco.sample import Sample

#: Whether this Ultralytics finds duplicates by their polygons, which also orders what is left.
BY_POLYGON = [*map(int, re.findall(r"\d+", __version__)[:3])] >= [8, 4, 180]

#: Pixels by which a box may reach out of its image before it is clipped: writers round.
SLACK = 0.05


def make_labels(
    index: Index,
    samples: list[Sample],
    numbers: list[int],
    report: Report,
    *,
    outlines: bool,
    tight: bool,
    poses: bool,
    prefix: str = "",
) -> list[dict[str, Any]]:
    """Return the labels of images that one JSON lists.

    Args:
        index: Its index.
        samples: The images.
        numbers: The class number of each of its categories.
        report: Where issues are counted.
        outlines: Whether to give an outline for each annotation.
        tight: Whether boxes are taken from the outlines, as for segmentation.
        poses: Whether to give keypoints.
        prefix: For the progress bar.
    """
    slices = [index.rows(one.place) for one in samples]
    counts = [one.stop - one.start for one in slices]
    rows = np.concatenate([np.arange(one.start, one.stop) for one in slices] or [[]]).astype(int)
    owner = np.repeat(np.arange(len(samples)), counts)
    frame = np.array([one.frame for one in samples], dtype=np.float64)[owner].reshape(-1, 2)
    boxes, inside = _clip(index, rows, frame, [samples[i] for i in owner], report)
    rows, owner, frame, boxes = rows[inside], owner[inside], frame[inside], boxes[inside]
    boxes[:, :2] += boxes[:, 2:] / 2
    boxes = (boxes / np.tile(frame, 2)).astype(np.float32)
    cls = np.array(numbers)[index.cls[rows]].astype(np.float32)[:, None]
    segments = _outlines(index, rows, frame, report, prefix) if outlines else []
    if tight and len(segments):
        boxes = segments2boxes(segments).astype(np.float32)
    points = index.poses[rows] if poses else None
    if points is not None:
        shares = np.append(frame, np.ones((len(frame), 1)), 1)[:, None]
        points = (points / shares).astype(np.float32)
    _turn([samples[i].turn for i in owner], boxes, segments, points)
    ends = np.searchsorted(owner, np.arange(len(samples) + 1)).tolist()
    twins = _twins(owner, boxes)
    labels = []
    for i, one in enumerate(samples):
        part = slice(*ends[i : i + 2])
        label = {
            "im_file": one.path,
            "shape": one.size[::-1],
            "cls": cls[part],
            "bboxes": boxes[part],
            "segments": segments[part],
            "keypoints": None if points is None else points[part],
            "normalized": True,
            "bbox_format": "xywh",
        }
        if i in twins:
            kept = distinct(label)
            lost = len(label["cls"]) - len(kept)
            report.add("dropped", "duplicate annotations in an image", [str(one)] * lost)
            for key in ("cls", "bboxes", *(["keypoints"] if poses else [])):
                label[key] = label[key][kept]
            label["segments"] = [label["segments"][k] for k in kept if segments]
        labels.append(label)
    return labels


def _clip(
    index: Index, rows: np.ndarray, frame: np.ndarray, owners: list[Sample], report: Report
) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes within their images, and which of them are there at all."""
    boxes = index.boxes[rows]
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    out = (low < -SLACK).any(1) | (high > frame + SLACK).any(1)
    clipped = boxes.copy()
    clipped[out, :2] = np.clip(low[out], 0, frame[out])
    clipped[out, 2:] = np.clip(high[out], 0, frame[out]) - clipped[out, :2]
    inside = (clipped[:, 2:] > 0).all(1)
    for group, reason, bad in (
        ("dropped", "boxes outside their image", ~inside),
        ("notes", "boxes clipped to their image", out & inside),
    ):
        examples = (
            f"{index.file.name}, {index.place(rows[i])} ({Path(owners[i].path).name})"
            for i in np.flatnonzero(bad)[:9]
        )
        report.add(group, reason, examples, int(bad.sum()))
    return clipped, inside


def _outlines(
    index: Index, rows: np.ndarray, frame: np.ndarray, report: Report, prefix: str
) -> list[np.ndarray]:
    """Return one outline per annotation, in shares of its image."""
    parts = np.concatenate(([0], np.cumsum(index.parts)))
    ends = np.concatenate(([0], np.cumsum(index.lengths)))
    segments, boxed, holed, other = [], [], [], []
    desc = f"{prefix}Reading masks of {index.file}"
    for row, size in zip(over(rows.tolist(), desc, len(rows)), frame, strict=True):
        shapes = [index.points[ends[k] : ends[k + 1]] for k in range(*parts[row : row + 2])]
        if (mask := index.mask(row)) is not None:
            fits = mask["size"] == [round(v) for v in size[::-1].tolist()]
            shapes, holes = rle.outlines(mask) if fits else ([], False)
            if holes or not fits:
                (holed if fits else other).append(row)
        if len(shapes) > 1:
            outline = np.concatenate(merge_multi_segment(shapes), axis=0)
        elif shapes:
            outline = shapes[0].reshape(-1, 2)
        else:
            x, y, w, h = index.boxes[row]
            outline = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
            boxed.append(row)
        if (outline < -SLACK).any() or (outline > size + SLACK).any():
            outline = np.clip(outline, 0, size)
        segments.append((outline / size).astype(np.float32))
    for reason, found in (
        ("annotations without a polygon: the box is used", boxed),
        ("masks with holes, which are filled", holed),
        ("masks of another size than their image: the box is used", other),
    ):
        note(report, index, reason, found)
    return segments


def note(report: Report, index: Index, reason: str, rows: Sequence[int]) -> None:
    """Count annotations that are kept and have the same issue.

    Args:
        report: Where to count.
        index: Index of their JSON.
        reason: What is wrong, in the plural.
        rows: Their places in the index.
    """
    where = (f"{index.file.name}, {index.place(row)}" for row in rows[:9])
    report.add("notes", reason, where, len(rows))


def _turn(turns: list[int], boxes: np.ndarray, segments: list, poses: np.ndarray | None) -> None:
    """Bring what was drawn on an image that is read in its other frame into that one."""
    for i in np.flatnonzero(turns).tolist():
        boxes[i, :2] = turned(boxes[i, :2], turns[i])
        boxes[i, 2:] = boxes[i, :1:-1].copy()
        if segments:
            segments[i] = turned(segments[i], turns[i])
        if poses is not None:
            seen = poses[i, :, 2] > 0
            poses[i, seen] = turned(poses[i, seen], turns[i])


def _twins(owner: np.ndarray, boxes: np.ndarray) -> set[int]:
    """Return the images that may hold an annotation twice: two boxes have the same x."""
    order = np.lexsort((boxes[:, 0], owner))
    same = (np.diff(owner[order]) == 0) & (np.diff(boxes[order, 0]) == 0)
    return set(owner[order[1:][same]].tolist())


def distinct(label: dict[str, Any]) -> np.ndarray:
    """Return the rows of a label without duplicates, chosen and ordered as Ultralytics does.

    Args:
        label: A label; polygons that differ are not duplicates, whatever their boxes.
    """
    columns = [label["cls"], label["bboxes"]]
    if label["keypoints"] is not None:
        columns.append(label["keypoints"].reshape(len(label["cls"]), -1))
    rows = np.concatenate(columns, 1)
    _, kept = np.unique(rows, axis=0, return_index=True)
    if len(kept) < len(rows) and label["segments"]:
        pairs = zip(label["cls"][:, 0], label["segments"], strict=True)
        texts = np.array([c.tobytes() + s.tobytes() for c, s in pairs], dtype=object)
        _, apart = np.unique(texts, return_index=True)
        # Before 8.4.180, Ultralytics compared the boxes alone and lost polygons that share one.
        kept = apart if BY_POLYGON else np.append(kept, np.setdiff1d(apart, kept))
    return kept if len(kept) < len(rows) else np.arange(len(rows))
