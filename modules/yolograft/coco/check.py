"""Look at a COCO data set before training: counts, what is wrong, and a contact sheet."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import cv2
import numpy as np
from ultralytics.utils import TQDM
from ultralytics.utils.plotting import colors

from yolograft.coco.config import fill, resolve
from yolograft.coco.dataset import CocoDataset
from yolograft.registry import refuse

#: The contact sheet: columns, rows, and pixels of a picture's longer side.
COLUMNS, ROWS, SIDE = 4, 3, 480

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE, _BLACK, _GREY = (255, 255, 255), (0, 0, 0), (48, 48, 48)


def open_set(file: Path, folder: Path | None = None, allow_missing: bool = False) -> CocoDataset:
    """Read a JSON and look at its images, as a validation would.

    Args:
        file: COCO instances JSON.
        folder: Where its images are; the usual layouts are tried when left out.
        allow_missing: Whether to go on when many images are missing.

    Raises:
        ConfigError: If the JSON or its images cannot be used.
    """
    content = {"val": str(file.resolve()), "allow_missing": allow_missing}
    if folder is not None:
        if not os.path.isdir(folder):
            refuse(f"--images {folder}: no such folder", "name the folder of the images")
        content["images"] = str(folder.resolve())
    data = fill(resolve(content, file, file.parent))
    data["channels"] = 3
    logging.disable(logging.WARNING)  # the report is printed, not logged
    try:
        return CocoDataset(img_path=data["val"], data=data, imgsz=SIDE, augment=False)
    finally:
        logging.disable(logging.NOTSET)


def summary(dataset: CocoDataset) -> str:
    """Return the counts of a data set: images, classes, sizes, and what is wrong.

    Args:
        dataset: From :func:`open_set`.
    """
    index = dataset.indexes[0]
    counts = [len(label["cls"]) for label in dataset.labels]
    lines = [
        f"{index.file}: {len(index.ids)} images, {index.total} annotations",
        f"  to be used: {len(counts)} images, {counts.count(0)} of them backgrounds; "
        f"{sum(counts)} boxes; {index.crowds} crowd regions for the COCO metrics only",
    ]
    if sum(counts):
        cls = np.concatenate([label["cls"] for label in dataset.labels])[:, 0].astype(int)
        image = np.repeat(np.arange(len(counts)), counts)
        boxes = np.bincount(cls, minlength=len(index.categories))
        images = np.bincount(np.unique(np.stack((image, cls)), axis=1)[1], minlength=len(boxes))
        rows = [("id", "class", "boxes", "images")]
        for (key, name), n, m in zip(index.categories.items(), boxes, images, strict=True):
            rows.append((str(key), name, str(n), str(m)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for key, name, n, m in rows:
            row = (key.rjust(widths[0]), name.ljust(widths[1]), n.rjust(widths[2]), m)
            lines.append(f"  {'  '.join(row[:3])}  {m.rjust(widths[3])}")
        frames = np.array([sample.frame for sample in dataset.samples])[image]
        sides = np.concatenate([label["bboxes"] for label in dataset.labels])[:, 2:] * frames
        shares = np.histogram(sides.prod(1), (0, 32**2, 96**2, np.inf))[0] / len(sides)
        small, medium, large = (f"{share:.1%}" for share in shares)
        lines.append(f"  boxes of {small} small, {medium} medium, {large} large, by COCO's limits")
    report = str(dataset.report) if dataset.report else "  nothing to complain about"
    return "\n".join([*lines, report])


def sheet(dataset: CocoDataset) -> np.ndarray:
    """Return a contact sheet: pictures with their boxes, and a legend of the classes.

    Args:
        dataset: From :func:`open_set`.

    Returns:
        ``(h, w, 3)`` blue, green, red.
    """
    full = [i for i, label in enumerate(dataset.labels) if len(label["cls"])]
    full = full or list(range(len(dataset.labels)))
    places = np.linspace(0, len(full) - 1, min(COLUMNS * ROWS, len(full))).round().astype(int)
    tiles = [_tile(dataset, full[i]) for i in TQDM(places.tolist(), desc="Drawing", delay=1)]
    lines = []
    for i in range(0, len(tiles), COLUMNS):
        row = tiles[i : i + COLUMNS]
        height = max(len(tile) for tile in row)
        row += [np.full((height, SIDE, 3), _GREY, np.uint8)] * (COLUMNS - len(row))
        fit = [(0, height - len(tile)) for tile in row]
        padded = [
            cv2.copyMakeBorder(t, 2, f[1] + 2, 2, 2, cv2.BORDER_CONSTANT, value=_GREY)
            for t, f in zip(row, fit, strict=True)
        ]
        lines.append(np.concatenate(padded, 1))
    image = np.concatenate(lines)
    used = {int(c) for i in places for c in dataset.labels[full[i]]["cls"][:, 0]}
    return np.concatenate((image, _legend(dataset, sorted(used), image.shape[1])))


def _tile(dataset: CocoDataset, i: int) -> np.ndarray:
    """Return one picture with its boxes, its file name below."""
    picture = dataset.load_image(i)[0]
    if picture.ndim == 2 or picture.shape[2] == 1:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    picture = picture.copy()
    h, w = picture.shape[:2]
    label = dataset.labels[i]
    centre, size = label["bboxes"][:, :2] * (w, h), label["bboxes"][:, 2:] * (w, h)
    corners = np.concatenate((centre - size / 2, centre + size / 2), 1).round().astype(int)
    named, taken = set(), np.zeros((h, w), bool)
    for cls, (x1, y1, x2, y2) in zip(label["cls"][:, 0], corners.tolist(), strict=True):
        cv2.rectangle(picture, (x1, y1), (x2, y2), colors(int(cls), bgr=True), 1, cv2.LINE_AA)
    for cls, (x1, y1, x2, _) in zip(label["cls"][:, 0], corners.tolist(), strict=True):
        name = _ascii(dataset.data["names"][int(cls)])
        if cls not in named or x2 - x1 > _width(name, 0.35):  # else it hides its neighbours
            named.add(cls)
            _write_name(picture, taken, name, x1, y1, int(cls))
    picture = cv2.copyMakeBorder(picture, 0, 18, 0, SIDE - w, cv2.BORDER_CONSTANT, value=_GREY)
    name = f"{Path(label['im_file']).name}  {len(corners)} boxes"
    cv2.putText(picture, _ascii(name), (4, h + 13), _FONT, 0.4, _WHITE, 1, cv2.LINE_AA)
    return picture


def _write_name(picture: np.ndarray, taken: np.ndarray, name: str, x: int, y: int, cls: int):
    """Write a class above its box where no other name stands; the colour tells it anyway."""
    w, h = _width(name, 0.35) + 2, 12
    x = min(max(x, 0), max(picture.shape[1] - w, 0))
    y = max(y, h)
    area = (slice(y - h, y), slice(x, x + w))
    if taken[area].any():
        return
    taken[area] = True
    picture[area] = colour = colors(cls, bgr=True)
    text = _WHITE if np.dot(colour, (0.114, 0.587, 0.299)) < 140 else _BLACK
    cv2.putText(picture, name, (x + 1, y - 3), _FONT, 0.35, text, 1, cv2.LINE_AA)


def _legend(dataset: CocoDataset, classes: list[int], width: int) -> np.ndarray:
    """Return a strip with the colour of each class."""
    strip = np.full((24, width, 3), _GREY, np.uint8)
    lines, x = [strip], 8
    for cls in classes:
        name = _ascii(dataset.data["names"][cls])
        w = _width(name, 0.45) + 34
        if x + w > width:
            lines.append(np.full_like(strip, _GREY))
            x = 8
        cv2.rectangle(lines[-1], (x, 6), (x + 12, 18), colors(cls, bgr=True), -1)
        cv2.putText(lines[-1], name, (x + 18, 16), _FONT, 0.45, _WHITE, 1, cv2.LINE_AA)
        x += w
    return np.concatenate(lines)


def _width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, _FONT, scale, 1)[0][0]


def _ascii(text: str) -> str:
    """Return what OpenCV's letters can show."""
    return text.encode("ascii", "replace").decode()


def check(file: Path, folder: Path | None, output: Path | None, allow_missing: bool) -> int:
    """Print what a data set holds and what is wrong with it, and draw its contact sheet.

    Args:
        file: COCO instances JSON.
        folder: Where its images are.
        output: Where to write the sheet; not drawn when left out.
        allow_missing: Whether to go on when many images are missing.

    Returns:
        0 if nothing is wrong, 1 if something was dropped, changed or is odd.

    Raises:
        ConfigError: If the data set cannot be used, or the sheet cannot be written.
    """
    if output is not None:
        if not os.path.isdir(output.parent):
            refuse(f"{output}: there is no folder {output.parent}", "make it first")
        if not cv2.haveImageWriter(output.name):
            refuse(f"{output}: no kind of picture that OpenCV writes", "name it sheet.jpg")
    dataset = open_set(file, folder, allow_missing)
    print(summary(dataset))
    if output is not None:
        if not cv2.imwrite(str(output), sheet(dataset)):
            refuse(f"{output}: it could not be written", "choose another place")
        print(f"  sheet: {output}")
    return 1 if dataset.report else 0
