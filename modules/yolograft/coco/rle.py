"""Run-length encoded masks of COCO JSON, both forms, and outlines from them.

An outline follows the edges of the pixels, in the coordinates of COCO's polygons: a mask of 8 x 8
pixels has an outline 8 wide and 8 high, a line of one pixel is one high.
"""

from __future__ import annotations

import cv2
import numpy as np

#: More pixels than any image has: a mask of that size is a mistake, and would fill the memory.
_TOO_LARGE = 1 << 31


def counts(mask: object) -> tuple[np.ndarray, int, int]:
    """Read a run-length encoding and check it.

    Args:
        mask: ``{"size": [h, w], "counts": ...}`` with a list of runs, or COCO's compressed text.

    Returns:
        The runs, down the columns and starting with background, then height and width.

    Raises:
        ValueError: If the runs are not those of a mask of that size.
    """
    if not isinstance(mask, dict) or not isinstance(mask.get("size"), list | tuple):
        msg = "no size"
        raise ValueError(msg)
    runs = mask.get("counts")
    try:
        height, width = (int(v) for v in mask["size"])
        if isinstance(runs, str | bytes):
            runs = _uncompress(runs.encode() if isinstance(runs, str) else runs)
        runs = np.array([] if runs is None else runs, dtype=np.int64)
    except (TypeError, OverflowError) as error:
        msg = f"no runs or size: {error}"
        raise ValueError(msg) from error
    good = runs.ndim == 1 and min(height, width) > 0 and height * width < _TOO_LARGE
    good = good and len(runs) and 0 <= runs.min() and runs.max() <= height * width
    if not good or runs.sum() != height * width:
        msg = f"the runs do not fill {height} x {width}"
        raise ValueError(msg)
    return runs, height, width


def _uncompress(text: bytes) -> np.ndarray:
    """Return the runs of COCO's compressed text: 5 bits a character, differences from the third.

    A text that starts with a comma is a list of runs as the JSON has it.
    """
    if text.startswith(b","):
        return np.fromstring(text[1:], np.int64, sep=",")
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    last = codes & 32 == 0
    if not len(codes) or (codes < 0).any() or (codes > 63).any() or not last[-1]:
        msg = "a character that no mask holds"
        raise ValueError(msg)
    ends = np.flatnonzero(last)
    sizes = np.diff(ends, prepend=-1)
    starts = ends - sizes + 1
    if sizes.max() > 12:
        msg = "a character that no mask holds"
        raise ValueError(msg)
    places = np.arange(len(codes)) - np.repeat(starts, sizes)
    runs = np.add.reduceat((codes & 31) << (5 * places), starts)
    runs -= np.where(codes[ends] & 16, np.int64(1) << (5 * sizes), 0)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


def decode(mask: object) -> np.ndarray:
    """Return the mask as an array of 0 and 1.

    Args:
        mask: As for :func:`counts`.

    Returns:
        ``(h, w)``, ``uint8``.

    Raises:
        ValueError: If it cannot be read.
    """
    runs, height, width = counts(mask)
    return _columns(runs, 0, height * width).reshape(width, height).T


def _columns(runs: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return the pixels from one place to another, down the columns."""
    ends = np.clip(np.cumsum(runs), start, stop)
    values = np.arange(len(runs), dtype=np.uint8) & 1
    return np.repeat(values, np.diff(ends, prepend=start))


def extent(mask: object) -> list[int] | None:
    """Return left, top, width and height of what a mask covers, ``None`` if that is nothing.

    Nothing is decoded.

    Args:
        mask: As for :func:`counts`.

    Raises:
        ValueError: If it cannot be read.
    """
    runs, height, _ = counts(mask)
    return _extent(runs, height)


def _extent(runs: np.ndarray, height: int) -> list[int] | None:
    ends = np.cumsum(runs)[1::2]
    starts, ends = ends - runs[1::2], ends - 1
    starts, ends = starts[starts <= ends], ends[starts <= ends]
    if not len(starts):
        return None
    left, right = int(starts[0]) // height, int(ends[-1]) // height
    if (starts // height != ends // height).any():  # down to the end of a column
        top, bottom = 0, height - 1
    else:
        top, bottom = int((starts % height).min()), int((ends % height).max())
    return [left, top, right - left + 1, bottom - top + 1]


def outlines(mask: object) -> tuple[list[np.ndarray], bool]:
    """Return the outlines of a mask, largest first; holes are filled.

    Args:
        mask: As for :func:`counts`.

    Returns:
        ``(n, 2)`` corners of each part, and whether there are holes.

    Raises:
        ValueError: If it cannot be read.
    """
    runs, rows, _ = counts(mask)
    box = _extent(runs, rows)
    if box is None:
        return [], False
    left, top, width, height = box
    columns = _columns(runs, left * rows, (left + width) * rows).reshape(width, rows)
    image = np.ascontiguousarray(columns.T[top : top + height])
    # In twice the size, a border's pixels lie on either side of the edge that is looked for.
    image = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    found, nested = cv2.findContours(image, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    outer = nested[0, :, 3] < 0
    edges = [(one[:, 0] + 1) // 2 for one, out in zip(found, outer, strict=True) if out]
    edges.sort(key=lambda corners: cv2.contourArea(corners), reverse=True)
    twice = [(one == np.roll(one, 1, 0)).all(1) for one in edges]
    corner = np.array([left, top])
    return [one[~same] + corner for one, same in zip(edges, twice, strict=True)], not outer.all()
