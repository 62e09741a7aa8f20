"""Find the pictures of a JSON, and look at each of them once."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np

from yolograft.coco.index import Index, cache_folder, locked, save_arrays
from yolograft.registry import refuse

#: States of a picture.
GOOD, CUT, MISSING, BROKEN, TINY = range(5)

#: Shares of missing images above which a data set is refused.
MISSING_SHARE = 0.05

_LOOKED_AT = 50


def find_folder(index: Index, given: str | Path | None) -> Path:
    """Return the folder that the file names of a JSON start from.

    Args:
        index: Index of the JSON.
        given: Folder by the data YAML; the usual COCO layouts are tried when left out.

    Raises:
        ConfigError: If there is no such folder, or no layout holds one of the images.
    """
    if given is not None:
        if not os.path.isdir(given):
            refuse(f"{given}: no such folder of images", "correct `images:` in the data YAML")
        return Path(given)
    step = max(len(index.names) // _LOOKED_AT, 1)
    names = index.names[::step]
    tried = list(layouts(index.file))
    found = [sum(os.path.isfile(folder / clean(name)) for name in names) for folder in tried]
    if not any(found):
        refuse(
            f"{index.file}: none of its images was found, such as {index.names[0]!r}; tried "
            f"{', '.join(map(str, tried))}",
            "say where they are: `images: folder` in the data YAML, or `images: {train: folder, "
            "val: folder}`; the yolograft command has options for it",
        )
    return tried[int(np.argmax(found))]


def layouts(file: Path) -> Iterable[Path]:
    """Return the folders where the images of a JSON usually are, likeliest first.

    Args:
        file: The JSON, such as ``coco/annotations/instances_train2017.json``.
    """
    here = file.parent
    root = here.parent if here.name.lower() in {"annotations", "annotation", "labels"} else here
    stem = re.sub(r"^_?(instances|person_keypoints|annotations|labels|coco)_", "", file.stem)
    stem = re.sub(r"[_.]?(annotations|labels|coco)(\.coco)?$", "", stem)
    split = re.match(r"train|valid|val|test", stem)
    splits = dict.fromkeys([stem, *([split[0]] if split else [])])
    folders = []
    for name in splits:
        if name:
            folders += [root / "images" / name, root / name / "images", root / name]
    folders += [here, here / "images", root / "images", root / "data", root / "JPEGImages", root]
    return dict.fromkeys(folder for folder in folders if os.path.isdir(folder))


def clean(name: str) -> str:
    """Return a file name of the JSON with this system's separators.

    Args:
        name: ``file_name`` as in the JSON.
    """
    return name.replace("\\", "/") if os.sep == "/" else name


def inspect(paths: list[str], prefix: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Look at each picture: is it there, can it be read, how large is it.

    What is known of a file of the same size and time is taken from the cache.

    Args:
        paths: Image files.
        prefix: For the progress bar.

    Returns:
        ``(n,)`` states and ``(n, 2)`` width and height as the picture is read.
    """
    from ultralytics.utils import NUM_THREADS, TQDM

    digest = hashlib.sha256("\n".join(paths).encode(errors="surrogateescape")).hexdigest()
    kept = cache_folder() / f"{digest[:40]}-images-v1.npz"
    with locked(kept), ThreadPool(NUM_THREADS) as pool:
        marks = np.array(pool.map(_mark, paths, chunksize=256), dtype=np.int64).reshape(-1, 2)
        state, size, old = _load(kept, len(paths))
        stale = np.flatnonzero((marks != old).any(1))
        if len(stale):
            found = pool.imap(_look, (paths[i] for i in stale), chunksize=16)
            bar = TQDM(found, desc=f"{prefix}Looking at images", total=len(stale))
            for i, one in zip(stale, bar, strict=True):
                state[i], size[i, 0], size[i, 1] = one
            save_arrays(kept, state=state, size=size, marks=marks)
    return state, size


def _load(kept: Path, n: int) -> tuple[np.ndarray, ...]:
    try:
        with np.load(kept, allow_pickle=False) as held:
            found = held["state"], held["size"], held["marks"]
            if len(found[0]) == n:
                return found
    except Exception:  # not there, or cut short
        pass
    return np.zeros(n, np.uint8), np.zeros((n, 2), np.int32), np.full((n, 2), -2, np.int64)


def _mark(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _look(path: str) -> tuple[int, int, int]:
    """Return state, width and height by the rules of Ultralytics' scan, changing nothing."""
    from PIL import Image
    from ultralytics.data.utils import IMG_FORMATS, exif_size
    from ultralytics.utils.patches import imread

    if not os.path.isfile(path):
        return MISSING, 0, 0
    try:
        with Image.open(path) as image:
            image.verify()
            width, height = exif_size(image)
            kind = image.format.lower()
        if kind not in IMG_FORMATS | {"jpeg2000"}:
            return BROKEN, 0, 0
        state = GOOD
        if kind in {"jpg", "jpeg"}:
            with open(path, "rb") as stream:
                stream.seek(-2, 2)
                if stream.read() != b"\xff\xd9":  # Ultralytics rewrites such a file; we read on
                    state = CUT if imread(path) is not None else BROKEN
    except Exception:  # whatever a decoder may raise
        return BROKEN, 0, 0
    return (state if min(width, height) > 9 else TINY), width, height
