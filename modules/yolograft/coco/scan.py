"""Look at each image file once: is it there, can it be read, how large is it, is it rotated."""

from __future__ import annotations

import hashlib
import os
from multiprocessing.pool import ThreadPool
from typing import Any

import cv2
import numpy as np

from yolograft.coco import cache, rotation
from yolograft.coco.progress import over

#: States of an image file.
GOOD, CUT, MISSING, BROKEN, TINY = range(5)


def inspect(paths: list[str], prefix: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Look at each image file; files of known size and time are taken from the cache.

    Args:
        paths: Image files.
        prefix: For the progress bar.

    Returns:
        ``(n,)`` states, ``(n, 2)`` width and height as the image is read, and ``(n,)`` EXIF
        orientations: by which of :data:`rotation.TURNS` an image of the other height and width
        becomes the one that is read; 2 to 4 where the sizes are the same.
    """
    from ultralytics import __version__
    from ultralytics.utils import NUM_THREADS

    # How a rotated image is read depends on both versions.
    key = "\n".join([*paths, __version__, cv2.__version__])
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
    with cache.entry(f"{digest[:40]}-images-v3") as kept, ThreadPool(NUM_THREADS) as pool:
        marks = np.array(pool.map(_mark, paths, chunksize=256), dtype=np.int64).reshape(-1, 2)
        held = cache.load(kept)
        found = held.get("found", np.zeros((len(paths), 4), np.int32))
        stale = np.flatnonzero((marks != held.get("marks", -2)).any(1))
        if len(stale):
            new = pool.imap(_look, [paths[i] for i in stale], chunksize=16)
            desc = f"{prefix}Looking at images"
            found[stale] = list(over(new, desc, len(stale), step=16))
            cache.save(kept, found=found, marks=marks)
    return found[:, 0], found[:, 1:3], found[:, 3]


def _mark(path: str) -> tuple[int, int]:
    """Return size and time of a file, by which a change is noticed."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _look(path: str) -> tuple[int, int, int, int]:
    """Return state, width, height and turn by the rules of Ultralytics' scan, changing nothing."""
    from ultralytics.data.utils import IMG_FORMATS
    from ultralytics.utils.patches import imread

    if not os.path.isfile(path):  # a device or a pipe is not opened: reading it may never end
        return (BROKEN if os.path.exists(path) else MISSING), 0, 0, 0
    try:
        with _open(path) as image:
            image.verify()
            width, height = image.size
            kind = image.format.lower()
            turn = rotation.orientation(image)
        if kind not in IMG_FORMATS | {"jpeg2000"}:
            return BROKEN, 0, 0, 0
        state = GOOD
        if kind in {"jpg", "jpeg"}:
            with open(path, "rb") as stream:
                stream.seek(-2, 2)
                if stream.read() != b"\xff\xd9":  # Ultralytics rewrites such a file; we do not
                    state = CUT
        # A complete, upright JPEG or PNG can be read; any other file is read to find out.
        if turn or state == CUT or kind not in {"jpg", "jpeg", "png"}:
            height, width = imread(path).shape[:2]
            turn = rotation.turn_to(path, turn, (width, height))
    except Exception:  # whatever a decoder may raise
        return BROKEN, 0, 0, 0
    return (state if min(width, height) > 9 else TINY), width, height, turn


def _open(path: str) -> Any:
    """Open an image; Ultralytics' opener installs a package for a file that it does not know."""
    from PIL import Image
    from ultralytics.utils import patches

    with open(path, "rb") as stream:
        heif = stream.read(12)[4:8] == b"ftyp"
    return Image.open(path) if heif else getattr(patches, "_image_open", Image.open)(path)
