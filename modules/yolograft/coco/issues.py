"""Find what training would leave out or change, and what is odd, in COCO data."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

from yolograft.coco.categories import check_categories
from yolograft.coco.dataset import CocoDataset
from yolograft.coco.labels import make_labels, note
from yolograft.coco.progress import over
from yolograft.coco.report import Report
from yolograft.coco.sample import Sample
from yolograft.errors import ConfigError

#: Pixels that each side of a box should have; augmentation drops boxes of less.
TINY = 2


def find_issues(sets: list[CocoDataset]) -> tuple[list[Report], dict[tuple[int, int], list[str]]]:
    """Return the issues of each data set, and the images that two of them share.

    Args:
        sets: Each of one JSON.

    Returns:
        Reports, and numbers of two sets -> what is said of each image of the second.
    """
    reports = [_issues(dataset) for dataset in sets]
    shared = _same_images(sets)
    for i, report in enumerate(reports):
        twice = shared.pop((i, i), [])
        report.add("notes", "images that are equal to another one of the set", twice)
        first = sets[0].indexes[0]
        try:
            plan = {"categories": first.categories, "first": str(first.file)}
            check_categories(sets[i].indexes[0], plan)
        except ConfigError as error:
            where = [str(error).partition("\n")[0]]
            report.add("notes", "differences in the categories", where)
    return reports, dict(sorted(shared.items()))


def _issues(dataset: CocoDataset) -> Report:
    report, index = Report(), dataset.indexes[0]
    report.merge(dataset.report)
    if len(index.runs):
        masks = Report()
        outlined(dataset, dataset.samples, masks)
        for reason, (count, where) in masks.notes.items():
            if reason.startswith("masks"):
                report.add("notes", reason, where, count)
    low, high = index.boxes[:, :2], index.boxes[:, :2] + index.boxes[:, 2:]
    unit = (low >= 0).all(1) & (high <= 1).all(1)
    inside = np.zeros(len(unit), bool)
    if len(index.lengths):
        starts = np.cumsum(index.lengths) - index.lengths
        owner = np.repeat(np.arange(len(index.parts)), index.parts)
        inside[owner[np.maximum.reduceat(np.abs(index.points), starts) <= 1]] = True
    tiny = (index.boxes[:, 2:] < TINY).any(1)
    for reason, bad in (
        ("boxes within 0 to 1, as if normalized: COCO counts pixels", unit),
        ("polygons within 0 to 1, as if normalized: COCO counts pixels", inside & ~unit),
        (f"boxes with a side of less than {TINY} pixels", tiny & ~unit),
    ):
        note(report, index, reason, np.flatnonzero(bad).tolist())
    return report


def outlined(dataset: CocoDataset, samples: list[Sample], report: Report) -> list[dict[str, Any]]:
    """Return the labels of images with all outlines and keypoints that the JSON has.

    Args:
        dataset: A data set of one JSON.
        samples: Images of it.
        report: Where issues are counted.
    """
    index = dataset.indexes[0]
    shapes = bool(len(index.lengths) or len(index.runs))
    numbers, poses = list(range(len(index.categories))), index.poses.shape[1] > 0
    return make_labels(index, samples, numbers, report, outlines=shapes, tight=shapes, poses=poses)


def _same_images(sets: list[CocoDataset]) -> dict[tuple[int, int], list[str]]:
    """Return the images whose files are equal, for each pair of data sets, or within one."""
    sizes: dict[int, list[tuple[int, Sample]]] = {}
    for number, dataset in enumerate(sets):
        for sample in dataset.samples:
            sizes.setdefault(os.path.getsize(sample.path), []).append((number, sample))
    alike = [one for group in sizes.values() if len(group) > 1 for one in group]
    groups: dict[bytes, list[tuple[int, Sample]]] = {}
    read: dict[str, bytes] = {}
    for number, sample in over(alike, "Comparing images", len(alike), step=16):
        path = os.path.realpath(sample.path)
        if path not in read:
            with open(path, "rb") as stream:
                read[path] = hashlib.sha256(stream.read()).digest()
        groups.setdefault(read[path], []).append((number, sample))
    pairs: dict[tuple[int, int], list[str]] = {}
    for group in groups.values():
        first: dict[int, Sample] = {}
        for number, sample in group:
            for other, one in first.items():
                pairs.setdefault((other, number), []).append(f"{one}, and {sample}")
            first.setdefault(number, sample)
    return pairs
