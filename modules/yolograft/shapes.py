"""Shapes: a detection data set that is drawn, not downloaded.

300 images of coloured shapes on textured backgrounds, five classes, small, medium and large objects
(COCO's limits, in pixels of the image) in equal numbers. It is small enough to train on a CPU and
shows within minutes whether a model learns; it is not a benchmark of anything else.

Image ``i`` of a split depends on the split and ``i`` alone, and PNG is lossless, so drawing twice
gives the same files. ``data=shapes.yaml`` draws on first use.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np

NAMES = ("circle", "square", "triangle", "star", "ring")
COUNTS = {"train": 240, "val": 60}

#: Square root of a box's area in pixels: small (below 32), medium, large (above 96).
_SIDES = ((20, 30), (38, 90), (106, 150))
_CANVASES = ((320, 320), (256, 320), (320, 256), (320, 320))  # height, width
_OVERLAP = 0.05  # largest share of an object that may lie on others


def draw(folder: str | os.PathLike) -> None:
    """Draw the data set in Ultralytics' layout: ``images/train/*.png``, ``labels/train/*.txt``, ...

    The images go into a temporary folder beside, which takes its name when it is complete: a killed
    run leaves no half data set, and of two processes that draw at once the first one wins.

    Args:
        folder: Folder of the data set. If it is there already, nothing is done.

    Raises:
        FileExistsError: If the folder holds something else, or only part of the data set.
    """
    folder = Path(folder).absolute()
    if not _complete(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temp:
            _draw_splits(Path(temp, folder.name))
            if not _complete(folder):
                try:
                    os.rename(Path(temp, folder.name), folder)
                except OSError:
                    if not _complete(folder):
                        raise
    print(f"shapes: {COUNTS['train']} train and {COUNTS['val']} val images in {folder}")


def _complete(folder: Path) -> bool:
    """Return whether the data set is there; false for a missing or empty folder."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    parts = [("images", "png"), ("labels", "txt")]
    for part, split, suffix in [(p, s, x) for p, x in parts for s in COUNTS]:
        found = sum(1 for _ in (folder / part / split).glob(f"*.{suffix}"))
        if found != COUNTS[split]:
            msg = (
                f"{folder / part / split}: {found} .{suffix} files, not {COUNTS[split]}\n\n"
                "Hint: delete or move the folder, and it is drawn again"
            )
            raise FileExistsError(msg)
    return True


def _draw_splits(folder: Path) -> None:
    from ultralytics.utils import TQDM

    for part, split in [(p, s) for p in ("images", "labels") for s in COUNTS]:
        (folder / part / split).mkdir(parents=True)
    todo = [(split, index) for split, count in COUNTS.items() for index in range(count)]
    for split, index in TQDM(todo, desc=f"Drawing {folder.name}"):
        image, kinds, boxes = _scene(np.random.default_rng([[*COUNTS].index(split), index]), index)
        _, png = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        scale = np.tile(image.shape[1::-1], 2)
        centred = [(*(b[:2] + b[2:]) / 2, *(b[2:] - b[:2])) / scale for b in boxes]
        rows = [
            f"{k} {' '.join(f'{x:.6f}' for x in b)}\n" for k, b in zip(kinds, centred, strict=True)
        ]
        (folder / "images" / split / f"{index:03}.png").write_bytes(png.tobytes())
        (folder / "labels" / split / f"{index:03}.txt").write_text("".join(rows))


def _scene(rng: np.random.Generator, index: int) -> tuple[np.ndarray, list[int], list[np.ndarray]]:
    """Return an image, and class and box (x0, y0, x1, y1 in pixels) of what is seen in it."""
    image = _background(rng, *_CANVASES[index % len(_CANVASES)])
    owner = np.zeros(image.shape[:2], np.uint8)  # 0 is background, k the k-th object
    kinds: list[int] = []
    sizes = [(index + j) % len(_SIDES) for j in range(3 + index % 4)]
    for size in sorted(sizes, reverse=True):  # large ones first: none hides a smaller one
        kind = int(rng.integers(len(NAMES)))
        for _ in range(50):
            mask = _mask(rng, kind, rng.uniform(*_SIDES[size]), *owner.shape)
            if (owner[mask] > 0).mean() <= _OVERLAP:
                kinds.append(kind)
                owner[mask] = len(kinds)
                _paint(rng, image, mask)
                break
    image = cv2.GaussianBlur(image, (5, 5), rng.uniform(0.4, 0.9))
    image += rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 5)
    boxes = [_box(owner == k) for k in range(1, len(kinds) + 1)]
    return image.clip(0, 255).astype(np.uint8), kinds, boxes


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return one colour plus noise at scales from a fine grain to a slope, float32."""
    image = np.full((height, width, 3), rng.uniform(50, 205, 3), np.float32)
    for cell, strength in ((2, 6), (5, 6), (12, 7), (40, 9), (160, 25)):
        grid = rng.standard_normal((height // cell + 2, width // cell + 2, 3), np.float32)
        image += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def _mask(rng: np.random.Generator, kind: int, side: float, height: int, width: int) -> np.ndarray:
    """Return the pixels of one shape, turned and placed at random, as booleans.

    Args:
        rng: Source of chance.
        kind: Index into ``NAMES``.
        side: Square root of the area of its box.
        height: Of the image.
        width: Of the image.
    """
    corners = {"square": 4, "triangle": 3, "star": 10}.get(NAMES[kind], 64)
    turn = np.arange(corners) * 2 * np.pi / corners + rng.uniform(0, 2 * np.pi)
    radius = np.where(np.arange(corners) % 2, 0.45, 1.0) if NAMES[kind] == "star" else 1.0
    shape = np.stack([np.cos(turn), np.sin(turn)], 1) * np.reshape(radius, (-1, 1))
    shape[:, 0] *= rng.uniform(0.8, 1.25)
    low, high = shape.min(0), shape.max(0)
    shape = (shape - (low + high) / 2) * side / np.sqrt(np.prod(high - low))
    half = np.ptp(shape, 0) / 2 * 0.95  # a twentieth may lie outside the image
    centre = rng.uniform(half, (width, height) - half)
    rings = [shape, shape * 0.55] if NAMES[kind] == "ring" else [shape]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(ring + centre).astype(np.int32) for ring in rings], 1)
    return mask.astype(bool)


def _paint(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> None:
    """Fill the mask with a colour unlike what it covers, and give it a darker outline."""
    under = image[mask].mean(0)
    colour = max(rng.uniform(0, 255, (8, 3)), key=lambda c: np.abs(c - under).sum())
    size = 3 if mask.sum() < 32**2 else 5
    inner = cv2.erode(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    image[mask] = colour * rng.uniform(0.4, 0.7)
    image[inner] = colour


def _box(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
