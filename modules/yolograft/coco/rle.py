"""Run-length encoded masks of COCO JSON, both forms, and polygons from them."""

from __future__ import annotations

import cv2
import numpy as np


def counts(mask: object) -> tuple[list[int], int, int]:
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
    height, width = (int(v) for v in mask["size"])
    runs = mask.get("counts")
    if isinstance(runs, str | bytes):
        runs = _uncompress(runs.encode() if isinstance(runs, str) else runs)
    runs = [int(v) for v in runs or []]
    if min(height, width) < 1 or min(runs, default=-1) < 0 or sum(runs) != height * width:
        msg = f"the runs do not fill {height} x {width}"
        raise ValueError(msg)
    return runs, height, width


def _uncompress(text: bytes) -> list[int]:
    """Return the runs of COCO's compressed text: 5 bits a character, differences from the third."""
    runs, value, shift = [], 0, 0
    for byte in text:
        bits = byte - 48
        if not 0 <= bits < 64 or shift > 60:
            msg = "a character that no mask holds"
            raise ValueError(msg)
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
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
    values = np.arange(len(runs), dtype=np.uint8) & 1
    return np.repeat(values, runs).reshape(width, height).T


def polygons(mask: object) -> list[list[float]]:
    """Return the outlines of a mask, largest first; holes are filled.

    Args:
        mask: As for :func:`counts`.

    Returns:
        One flat list ``x, y, x, y, ...`` per part that has an area.

    Raises:
        ValueError: If it cannot be read.
    """
    image = np.ascontiguousarray(decode(mask))
    found, _ = cv2.findContours(image, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = sorted((c for c in found if len(c) > 2), key=cv2.contourArea, reverse=True)
    return [c.reshape(-1).astype(float).tolist() for c in found]
