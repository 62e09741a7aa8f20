"""What training needs of one COCO JSON, as arrays."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yolograft.coco.report import Report


@dataclass
class Index:
    """One JSON file; its annotations lie image by image, in the file's order.

    Attributes:
        file: The JSON.
        categories: Original id -> name, ordered by id.
        keypoints: Names of the keypoints, empty where there are none.
        ids: Original id of each image.
        names: File name of each image, as in the JSON.
        crowds: Crowd regions, which are not among the annotations.
        total: Annotations in the JSON.
        annotated: Whether the JSON has a list of annotations; those of test sets have none.
        written: Ids that the JSON writes in another way, such as ``"007"``: ``image_id`` and
            ``category_id`` -> id here -> id there.
        sizes: ``(n, 2)`` width and height by the JSON, 0 where it has none.
        first: ``(n + 1,)``; the annotations of image ``i`` are ``first[i]`` to ``first[i + 1]``.
        annotations: ``(m,)`` their places in the JSON's list.
        cls: ``(m,)`` place of the category in ``categories``.
        boxes: ``(m, 4)`` left, top, width, height in pixels, as in the JSON.
        poses: ``(m, k, 3)`` keypoints.
        points: ``(p,)`` polygons, all in one row of ``x, y``.
        lengths: Numbers in each polygon.
        parts: ``(m,)`` polygons of each annotation.
        runs: Runs of the masks, down the columns and starting with background, all in one row.
        mask_lengths: ``(m,)`` runs of each annotation's mask, 0 where it has none.
        mask_sizes: ``(m, 2)`` height and width of each mask.
        report: What was dropped, and why; its examples do not name the file.
    """

    file: Path
    categories: dict[int | str, str]
    keypoints: list[str]
    ids: list[int | str]
    names: list[str]
    crowds: int
    total: int
    annotated: bool
    written: dict[str, dict[int | str, str]]
    sizes: np.ndarray
    first: np.ndarray
    annotations: np.ndarray
    cls: np.ndarray
    boxes: np.ndarray
    poses: np.ndarray
    points: np.ndarray
    lengths: np.ndarray
    parts: np.ndarray
    runs: np.ndarray
    mask_lengths: np.ndarray
    mask_sizes: np.ndarray
    report: Report = field(default_factory=Report)

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.mask_lengths, dtype=np.int64)

    def mask(self, row: int) -> dict[str, Any] | None:
        """Return the run-length encoded mask of an annotation, ``None`` where it has none.

        Args:
            row: Its place among the annotations.
        """
        length = self.mask_lengths[row]
        if not length:
            return None
        end = self._ends[row]
        return {"size": self.mask_sizes[row].tolist(), "counts": self.runs[end - length : end]}

    def rows(self, place: int) -> slice:
        """Return where the annotations of an image are.

        Args:
            place: Its place among the images.
        """
        return slice(*self.first[place : place + 2].tolist())

    def place(self, row: int) -> str:
        """Return what identifies an annotation in a message.

        Args:
            row: Its place among the annotations.
        """
        image = int(np.searchsorted(self.first, row, side="right")) - 1
        return f"annotation no. {self.annotations[row] + 1} of image {self.ids[image]}"

    def as_written(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a prediction with its ids as the JSON writes them.

        Args:
            row: A prediction in COCO's results format.
        """
        return {**row, **{k: held.get(row[k], row[k]) for k, held in self.written.items()}}
