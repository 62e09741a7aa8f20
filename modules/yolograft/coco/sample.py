"""One image of a split, and the frame that its JSON counts pixels in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolograft.coco.arrays import Index
from yolograft.coco.report import Report
from yolograft.coco.rotation import BACK, TURNS, turned

_ROTATED = "images whose EXIF rotation the JSON's size does not show: read as they are shown"
_UNSIZED = "images without a size in the JSON: the file's size is used"
_SCALED = "images scaled against the JSON: boxes scale along"
_WRONG = "images whose size differs from the JSON: the file's size is used"


@dataclass
class Sample:
    """One image of a split.

    Attributes:
        path: Image file.
        source: Which JSON of the split lists it.
        place: Its place in that JSON's index.
        id: Its id in that JSON.
        size: Width and height of the file.
        frame: Width and height that the JSON's pixels are counted in.
        turn: The EXIF orientation by which the JSON's frame becomes that of the file as it is
            read, 0 where they are the same.
    """

    path: str
    source: int
    place: int
    id: int | str
    size: tuple[int, int] = (0, 0)
    frame: tuple[float, float] = (0.0, 0.0)
    turn: int = 0

    def __str__(self) -> str:
        return f"{self.path}, image {self.id}"

    def in_frame(self, points: np.ndarray) -> np.ndarray:
        """Return points of the file as they are in the frame of the JSON.

        Args:
            points: ``(n, 2)`` pixels of the file.
        """
        if not self.turn and self.size == self.frame:
            return points
        points = points / np.array(self.size, dtype=np.float64)
        return (turned(points, BACK[self.turn]) if self.turn else points) * self.frame

    def settle(self, size: tuple[int, int], turn: int, index: Index, report: Report) -> None:
        """Set the size, and the frame that the JSON's pixels are counted in.

        Args:
            size: Width and height of the file as it is read.
            turn: From :func:`yolograft.coco.scan.inspect`.
            index: Index of the JSON.
            report: Where sizes that differ are counted.
        """
        width, height = self.size = self.frame = size
        given = w, h = tuple(index.sizes[self.place].tolist())
        if turn and (turn not in TURNS or not (w and h)):
            report.add("notes", _ROTATED, [str(self)])
        if not (w and h):
            report.add("notes", _UNSIZED, [str(self)])
            return
        if turn in TURNS and given != size and _alike(given, (height, width)):
            self.turn, self.frame = turn, (height, width)
        if given == self.frame:
            return
        boxes = index.boxes[index.rows(self.place)]
        inside = (boxes[:, :2] + boxes[:, 2:] <= np.array(given) * 1.01).all()
        scaled = inside and _alike(given, self.frame)
        text = f"{self}: {w:g} x {h:g}, not {self.frame[0]:g} x {self.frame[1]:g}"
        report.add("notes", _SCALED if scaled else _WRONG, [text])
        if scaled:
            self.frame = given


def _alike(one: tuple[float, float], two: tuple[float, float]) -> bool:
    """Return whether two sizes have the same shape."""
    return abs(one[0] * two[1] - one[1] * two[0]) <= 0.01 * one[0] * two[1]
