"""What a value of a COCO JSON means, in whatever way it is written."""

from __future__ import annotations

import math
from typing import Any

from yolograft.coco import rle


def short(value: object) -> str:
    """Return a value for a message, cut to one line.

    Args:
        value: What the JSON holds.
    """
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def where(row: dict[str, Any]) -> str:
    """Return what identifies an annotation in a message.

    Args:
        row: The annotation.
    """
    return f"annotation {short(row.get('id'))} of image {short(row.get('image_id'))}"


def mappings(rows: list) -> list[dict[str, Any]]:
    """Return the rows that are mappings.

    Args:
        rows: A list of the JSON.
    """
    return [row for row in rows if isinstance(row, dict)]


def is_text(value: object) -> bool:
    """Return whether a value is a string that is not empty and that a file can hold.

    Args:
        value: What the JSON holds.
    """
    try:
        return isinstance(value, str) and bool(value.encode()) and "\0" not in value
    except UnicodeEncodeError:
        return False


def read_id(value: object) -> int | str | None:
    """Return an id: ``7``, ``7.0`` and ``"7"`` are the same; ``None`` if it is not an id.

    Args:
        value: What the JSON holds.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 1 << 63 else None
    return value if is_text(value) else None


def id_order(value: int | str) -> tuple:
    """Return a sort key: numbers by size, then texts.

    Args:
        value: An id.
    """
    return (isinstance(value, str), value)


def read_number(value: object) -> float:
    """Return a number, NaN if it is not a number.

    Args:
        value: What the JSON holds.
    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def read_flag(value: object) -> bool:
    """Return whether a value is a number other than 0.

    Args:
        value: What the JSON holds.
    """
    return value != 0 and math.isfinite(number := read_number(value)) and number != 0


def read_shapes(value: object) -> list[list] | dict[str, Any]:
    """Return polygons as flat lists, a mask as it is, an empty list for anything else.

    Args:
        value: The ``segmentation`` of an annotation.
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        return []
    if value and not any(isinstance(part, list) for part in value):
        value = [value]  # one polygon, without the list around it
    return [_flat(part) for part in value if isinstance(part, list)]


def _flat(points: list) -> list:
    """Return ``x, y, x, y`` for points that are pairs."""
    if not any(isinstance(one, list) for one in points[:1]):
        return points
    return [v for pair in points for v in (pair if isinstance(pair, list) else [pair])]


def read_box(row: dict[str, Any]) -> tuple[list, bool]:
    """Return the box of an annotation, and whether it was taken from its polygons or mask.

    Args:
        row: The annotation.

    Returns:
        Left, top, width and height as they are written, NaN where there is no box.
    """
    box = row.get("bbox")
    if isinstance(box, list) and len(box) == 4:
        return box, False
    shapes, box = read_shapes(row.get("segmentation")), None
    if isinstance(shapes, dict):
        try:
            box = rle.extent(shapes)
        except ValueError:
            pass
    elif any(len(part) >= 6 for part in shapes):
        x = [read_number(v) for part in shapes for v in part[: len(part) // 2 * 2 : 2]]
        y = [read_number(v) for part in shapes for v in part[1 : len(part) // 2 * 2 : 2]]
        box = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
    return (box, True) if box else ([math.nan] * 4, False)
