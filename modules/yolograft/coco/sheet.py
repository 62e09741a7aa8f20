"""Draw a contact sheet: images with their annotations, and a legend of the classes."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from ultralytics.utils.plotting import colors

from yolograft.coco.dataset import CocoDataset
from yolograft.coco.issues import outlined
from yolograft.coco.report import Report

#: The contact sheet: columns, rows, and pixels of an image's longer side.
COLUMNS, ROWS, SIDE = 4, 3, 480

#: Characters of a name that are shown.
LONGEST = 40

_WHITE, _BLACK, _GREY = (255, 255, 255), (0, 0, 0), (48, 48, 48)
_GAP = 2


def sheet(sets: list[CocoDataset]) -> np.ndarray:
    """Return a contact sheet.

    Args:
        sets: Each of one JSON; each gets its rows.

    Returns:
        ``(h, w, 3)`` blue, green, red.
    """
    lines, names = [], {}
    for dataset in sets:
        full = [i for i, label in enumerate(dataset.labels) if len(label["cls"])]
        full = full or list(range(len(dataset.labels)))
        count = min(COLUMNS * max(ROWS // len(sets), 1), len(full))
        chosen = [full[i] for i in np.linspace(0, len(full) - 1, count).round().astype(int)]
        used = {int(c) for i in chosen for c in dataset.labels[i]["cls"][:, 0]}
        names |= {c: dataset.data["names"][c] for c in used}
        tiles = [_tile(dataset, i) for i in chosen]
        lines += [_line(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    return np.concatenate((*lines, _legend(names, lines[0].shape[1])))


def _line(tiles: list[np.ndarray]) -> np.ndarray:
    """Return tiles side by side."""
    step = SIDE + 2 * _GAP
    height = max(map(len, tiles)) + 2 * _GAP
    line = np.full((height, COLUMNS * step, 3), _GREY, np.uint8)
    for i, tile in enumerate(tiles):
        h, w = tile.shape[:2]
        line[_GAP : _GAP + h, i * step + _GAP : i * step + _GAP + w] = tile
    return line


def _tile(dataset: CocoDataset, i: int) -> np.ndarray:
    """Return one image with its boxes, masks and keypoints, its file name below."""
    image = dataset.load_image(i)[0]
    if image.ndim == 2 or image.shape[2] == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    h, w = image.shape[:2]
    image = cv2.copyMakeBorder(image, 0, 18, 0, 0, cv2.BORDER_CONSTANT, value=_GREY)
    label = dataset.labels[i]
    (shapes,) = outlined(dataset, [dataset.samples[i]], Report())
    for cls, outline in zip(shapes["cls"][:, 0], shapes["segments"], strict=False):
        points = np.round(outline * (w, h)).astype(np.int32)
        filled = cv2.fillPoly(image.copy(), [points], colors(int(cls), bgr=True))
        cv2.addWeighted(filled, 0.4, image, 0.6, 0, dst=image)
        _draw_edge(image, points, int(cls))
    centre, size = label["bboxes"][:, :2], label["bboxes"][:, 2:]
    low, high = ((centre + side * size / 2) * (w, h) for side in (-1, 1))
    boxes = np.concatenate((low, high), 1).round().astype(np.int32).tolist()
    classes = label["cls"][:, 0].astype(int).tolist()
    for cls, (x1, y1, x2, y2) in zip(classes, boxes, strict=True):
        _draw_edge(image, np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.int32), cls)
    if shapes["keypoints"] is not None:
        for cls, pose in zip(shapes["cls"][:, 0], shapes["keypoints"], strict=True):
            _draw_pose(image, pose[(pose[:, :2] <= 1).all(1)] * (w, h, 1), int(cls))
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    _draw_names(draw, [dataset.data["names"][cls] for cls in classes], classes, boxes, (w, h))
    text, font = _font(f"{len(boxes)} boxes  {Path(label['im_file']).name}", 12)
    draw.text((4, h + 13), text, _WHITE, font, anchor="ls")
    return np.array(canvas)


def _draw_edge(image: np.ndarray, points: np.ndarray, cls: int) -> None:
    """Draw a closed line in the colour of a class, with an edge that is seen on any image."""
    colour = colors(cls, bgr=True)
    for shade, width in ((_against(colour), 3), (colour, 1)):
        cv2.polylines(image, [points], True, shade, width, cv2.LINE_AA)


def _draw_pose(image: np.ndarray, pose: np.ndarray, cls: int) -> None:
    """Draw keypoints, hidden ones as circles."""
    colour = colors(cls, bgr=True)
    for x, y, seen in pose[(pose[:, :2] >= 0).all(1)].round().astype(int).tolist():
        if seen:
            cv2.circle(image, (x, y), 4, _against(colour), -1, cv2.LINE_AA)
            cv2.circle(image, (x, y), 3, colour, -1 if seen > 1 else 1, cv2.LINE_AA)


def _against(colour: tuple) -> tuple:
    """Return black for light colours and white for dark ones: one of the two is seen anywhere."""
    return _BLACK if np.dot(colour, (0.114, 0.587, 0.299)) > 127 else _WHITE


def _draw_names(draw: ImageDraw.ImageDraw, names: list, classes: list, boxes: list, size: tuple):
    """Write class names above their boxes where there is room; the colour shows them anyway."""
    taken, named, height = np.zeros(size[::-1], bool), set(), 15
    for name, cls, (x1, y1, x2, _) in zip(names, classes, boxes, strict=True):
        text, font = _font(name, 11)
        width = math.ceil(font.getlength(text)) + 2
        if cls in named and x2 - x1 < width:  # it would hide its neighbours
            continue
        named.add(cls)
        x, y = min(max(x1, 0), max(size[0] - width, 0)), max(y1, height)
        area = taken[y - height : y, x : x + width]
        if not area.any():
            area[:] = True
            colour = colors(cls, bgr=True)
            draw.rectangle((x, y - height, x + width - 1, y - 1), colour)
            draw.text((x + 1, y - 4), text, _against(colour), font, anchor="ls")


def _legend(names: dict[int, str], width: int) -> np.ndarray:
    """Return a strip with the colour of each class."""
    entries, x, y = [], 8, 0
    for cls, name in sorted(names.items()):
        text, font = _font(name, 14)
        step = math.ceil(font.getlength(text)) + 34
        if x + step > width:
            x, y = 8, y + 24
        entries.append((x, y, cls, text, font))
        x += step
    canvas = Image.new("RGB", (width, y + 24), _GREY)
    draw = ImageDraw.Draw(canvas)
    for x, y, cls, text, font in entries:
        draw.rectangle((x, y + 6, x + 12, y + 18), colors(cls, bgr=True))
        draw.text((x + 18, y + 18), text, _WHITE, font, anchor="ls")
    return np.array(canvas)


def cut(text: str) -> str:
    """Return a text for one line, without its end where it is too long.

    Args:
        text: A text.
    """
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


@functools.lru_cache(4096)
def _font(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """Return a text as this machine can draw it, and a font that does."""
    text, fonts = cut(text), _fonts()
    path = next((path for path in fonts if _letters(path).issuperset(map(ord, text))), None)
    if path is None:  # no font of this machine has these letters
        path = fonts[0]
        text = "".join(c if ord(c) in _letters(path) else ascii(c)[1:-1] for c in text)
    return text, ImageFont.truetype(path, size)


@functools.lru_cache(1)
def _fonts() -> list[str]:
    """Return the fonts of this machine, first the one that comes with Matplotlib."""
    from matplotlib import font_manager

    fonts = [f for f in font_manager.fontManager.ttflist if not f.name.startswith("Last Resort")]
    return [font_manager.findfont("DejaVu Sans"), *(f.fname for f in fonts)]


@functools.lru_cache(None)
def _letters(path: str) -> frozenset[int]:
    """Return the letters that a font can draw."""
    from matplotlib.ft2font import FT2Font

    try:
        ImageFont.truetype(path, 11)  # fonts that hold bitmaps come in their own sizes only
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
