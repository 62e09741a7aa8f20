"""EXIF rotation: from the frame of a file's pixels to the one that it is shown in, and back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

#: The transposing EXIF orientations: on points in the unit square.
TURNS = {
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}

#: The orientation that undoes another one.
BACK = {5: 5, 6: 8, 7: 7, 8: 6}


def orientation(image: Any) -> int:
    """Return the EXIF orientation of an image that is opened, 0 for upright ones.

    Args:
        image: A ``PIL.Image``.
    """
    from PIL import Image

    try:
        tags = getattr(image, "tag_v2", None) or Image.Exif()
        if isinstance(tags, Image.Exif):
            tags.load(image.info.get("exif") or b"")
        value = tags.get(274)
    except Exception:  # damaged tags, beside an image that may be whole
        return 0
    return value if value in range(2, 9) else 0


def turn_to(path: str, turn: int, read: tuple[int, int]) -> int:
    """Return the turn from an image's other frame to the one that it is read in.

    Args:
        path: Image file.
        turn: Its EXIF orientation.
        read: Width and height as it is read.

    Returns:
        A key of :data:`TURNS`, 2 where both frames have one size, 0 where there is one frame.
    """
    if turn < 5 or read[0] == read[1]:
        return turn and 2
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    plain = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    if plain is None:
        return 0
    return turn if plain.shape[:2] == read else BACK[turn]


def turned(points: np.ndarray, turn: int) -> np.ndarray:
    """Return points of one frame of an image in its other frame.

    Args:
        points: ``(..., 2)`` or more columns, of which the first two are shares of width and height.
        turn: A key of :data:`TURNS`.
    """
    new = points.copy()
    new[..., 0], new[..., 1] = TURNS[turn](points[..., 0], points[..., 1])
    return new


def turned_image(image: np.ndarray, turn: int) -> np.ndarray:
    """Return an image in its other frame.

    Args:
        image: ``(h, w, ...)``.
        turn: A key of :data:`TURNS`.
    """
    image = image.swapaxes(0, 1)
    image = image[:, ::-1] if turn in (6, 7) else image
    return np.ascontiguousarray(image[::-1] if turn in (7, 8) else image)
