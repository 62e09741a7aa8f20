"""Find the pictures of a JSON, and look at each of them once."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np

from yolograft import files
from yolograft.coco.index import Index, locked, save_arrays
from yolograft.errors import refuse

#: States of a picture.
GOOD, CUT, MISSING, BROKEN, TINY = range(5)

#: Shares of missing images above which a data set is refused.
MISSING_SHARE = 0.05

_LOOKED_AT = 50


def paths(index: Index, given: str | Path | None) -> tuple[list[str], list[str]]:
    """Return the file of each image of a JSON, and which of them bear another name there.

    A name is also found where it is written in another way: percent-encoded, with letters composed
    otherwise, in capitals. Where no image is found by its name and folders, the names count alone:
    the JSON may have been written beside other folders.

    Args:
        index: Index of the JSON.
        given: As for :func:`find_folder`.

    Raises:
        ConfigError: If there is no such folder, or none holds one of the images.
    """
    folder, there = find_folder(index, given), _Listing()
    found = [os.path.join(folder, clean(name)) for name in index.names]
    if not any(map(there.has, found)):
        bases = [os.path.basename(path) for path in found]
        counts = Counter(bases)
        alone = [os.path.join(folder, base) for base in bases]
        if any(map(there.find, alone)):
            found = [
                a if counts[b] == 1 else f for a, b, f in zip(alone, bases, found, strict=True)
            ]
    taken, other = set(found), []
    for i, path in enumerate(found):
        like = None if there.has(path) else there.find(path)
        if like and like not in taken:
            taken.add(like)
            found[i] = like
            other.append(f"{like}, image {index.ids[i]}")
    return found, other


class _Listing:
    """What lies in folders, each of which is read once."""

    def __init__(self):
        self._names: dict[str, set[str]] = {}
        self._alike: dict[str, dict[str, str | None]] = {}

    def has(self, path: str) -> bool:
        """Tell whether a folder holds a file of exactly this name."""
        folder, name = os.path.split(path)
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder or "."))
            except (OSError, ValueError):
                self._names[folder] = set()
        return name in self._names[folder]

    def find(self, path: str) -> str | None:
        """Return the one file whose name is that of a path, in whatever way it is written."""
        if self.has(path):
            return path
        folder, name = os.path.split(path)
        if folder not in self._alike:
            self._alike[folder] = alike = {}
            for one in self._names[folder]:
                alike[_plain(one)] = None if _plain(one) in alike else one
        like = self._alike[folder].get(_plain(name))
        return os.path.join(folder, like) if like else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name)).casefold()


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
    names = list(map(clean, index.names[::step]))
    # A link names its own surroundings first, then those of the file that it leads to.
    tried = list(dict.fromkeys([*layouts(index.file), *layouts(index.file.resolve())]))
    there = _Listing()
    found = [
        (
            sum(os.path.isfile(folder / name) for name in names),
            sum(
                there.find(os.path.join(folder, os.path.basename(name))) is not None
                for name in names
            ),
        )
        for folder in tried
    ]
    if not any(map(any, found)):
        refuse(
            f"{index.file}: none of its images was found, such as {index.names[0]!r}; tried "
            f"{', '.join(map(str, tried))}",
            "say where they are: `images: folder` in the data YAML, or `images: {train: folder, "
            "val: folder}`; the yolograft command has options for it",
        )
    return tried[found.index(max(found))]


def layouts(file: Path) -> Iterable[Path]:
    """Return the folders where the images of a JSON usually are, likeliest first.

    Args:
        file: The JSON, such as ``coco/annotations/instances_train2017.json``.
    """
    here = file.parent
    root = here.parent if here.name.lower() in {"annotations", "annotation", "labels"} else here
    kinds = r"instances|person_keypoints|annotations|labels|coco|image_info|lvis_v\d(\.\d)?"
    stem = re.sub(rf"^_?({kinds})_", "", file.stem).replace("-dev", "")
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


def inspect(paths: list[str], prefix: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Look at each picture: is it there, can it be read, how large is it.

    What is known of a file of the same size and time is taken from the cache.

    Args:
        paths: Image files.
        prefix: For the progress bar.

    Returns:
        ``(n,)`` states, ``(n, 2)`` width and height as the picture is read, and ``(n,)`` EXIF
        orientations: by which :data:`TURNS` a picture of the other height and width becomes the
        one that is read; 2 to 4 where the sizes are the same.
    """
    from ultralytics import __version__
    from ultralytics.utils import NUM_THREADS, TQDM

    # How a rotated picture is read depends on both.
    key = "\n".join([*paths, __version__, cv2.__version__])
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
    kept = files.cache("coco") / f"{digest[:40]}-images-v2.npz"
    with locked(kept), ThreadPool(NUM_THREADS) as pool:
        marks = np.array(pool.map(_mark, paths, chunksize=256), dtype=np.int64).reshape(-1, 2)
        state, size, turn, old = _load(kept, len(paths))
        stale = np.flatnonzero((marks != old).any(1))
        if len(stale):
            found = pool.imap(_look, (paths[i] for i in stale), chunksize=16)
            bar = TQDM(found, desc=f"{prefix}Looking at images", total=len(stale))
            for i, one in zip(stale, bar, strict=True):
                state[i], size[i, 0], size[i, 1], turn[i] = one
            save_arrays(kept, state=state, size=size, turn=turn, marks=marks)
    return state, size, turn


def _load(kept: Path, n: int) -> tuple[np.ndarray, ...]:
    try:
        with np.load(kept, allow_pickle=False) as held:
            found = held["state"], held["size"], held["turn"], held["marks"]
            if len(found[0]) == n:
                return found
    except Exception:  # not there, or cut short
        pass
    state, turn = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    return state, np.zeros((n, 2), np.int32), turn, np.full((n, 2), -2, np.int64)


def _mark(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _look(path: str) -> tuple[int, int, int, int]:
    """Return state, width, height and turn by the rules of Ultralytics' scan, changing nothing."""
    from ultralytics.data.utils import IMG_FORMATS
    from ultralytics.utils.patches import imread

    if not os.path.isfile(path):  # nothing else is opened: a device or a pipe never ends
        return (BROKEN if os.path.lexists(path) and os.path.exists(path) else MISSING), 0, 0, 0
    try:
        with _open(path) as image:
            image.verify()
            width, height = image.size
            kind = image.format.lower()
            turn = _orientation(image)
        if kind not in IMG_FORMATS | {"jpeg2000"}:
            return BROKEN, 0, 0, 0
        state = GOOD
        if kind in {"jpg", "jpeg"}:
            with open(path, "rb") as stream:
                stream.seek(-2, 2)
                if stream.read() != b"\xff\xd9":  # Ultralytics rewrites such a file; we read on
                    state = CUT
        # A JPEG or PNG of which all is there can be read; of others, and of rotated ones, the
        # reader alone knows.
        if turn or state == CUT or kind not in {"jpg", "jpeg", "png"}:
            picture = imread(path)
            if picture is None:
                return BROKEN, 0, 0, 0
            height, width = picture.shape[:2]
            turn = _turn(path, turn, (height, width))
    except Exception:  # whatever a decoder may raise
        return BROKEN, 0, 0, 0
    return (state if min(width, height) > 9 else TINY), width, height, turn


def _open(path: str):
    """Open an image; Ultralytics' opener installs a package for a file that it does not know."""
    from PIL import Image
    from ultralytics.utils import patches

    with open(path, "rb") as stream:
        heif = stream.read(12)[4:8] == b"ftyp"
    return Image.open(path) if heif else getattr(patches, "_image_open", Image.open)(path)


# ------------------------------------------------------------------------------------- orientation

#: The transposing EXIF orientations: on points in the unit square. 8 undoes 6, the others
#: themselves.
TURNS = {
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}
BACK = {5: 5, 6: 8, 7: 7, 8: 6}


def _orientation(image: Any) -> int:
    """Return the EXIF orientation of a picture that is opened, 0 for upright ones."""
    from PIL import Image

    try:
        tags = getattr(image, "tag_v2", None) or Image.Exif()
        if isinstance(tags, Image.Exif):
            tags.load(image.info.get("exif") or b"")
        value = tags.get(274)
    except Exception:  # damaged tags, beside a picture that may be whole
        return 0
    return value if value in range(2, 9) else 0


def _turn(path: str, turn: int, read: tuple[int, int]) -> int:
    """Return the turn from a picture's other frame to the one that it is read in."""
    if turn < 5 or read[0] == read[1]:
        return turn and 2  # both frames have one size
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    plain = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    if plain is None:
        return 0
    return turn if plain.shape[1::-1] == read else BACK[turn]


def turned(points: np.ndarray, turn: int) -> np.ndarray:
    """Return points of one frame of a picture in its other frame.

    Args:
        points: ``(..., 2)`` or more columns, of which the first two are shares of width and height.
        turn: A key of :data:`TURNS`.
    """
    new = points.copy()
    new[..., 0], new[..., 1] = TURNS[turn](points[..., 0], points[..., 1])
    return new


def turned_picture(picture: np.ndarray, turn: int) -> np.ndarray:
    """Return a picture in its other frame.

    Args:
        picture: ``(h, w, ...)``.
        turn: A key of :data:`TURNS`.
    """
    picture = picture.swapaxes(0, 1)
    picture = picture[:, ::-1] if turn in (6, 7) else picture
    return np.ascontiguousarray(picture[::-1] if turn in (7, 8) else picture)


def in_frame(points: np.ndarray, sample: Any) -> np.ndarray:
    """Return points of a file as they are in the frame of its JSON.

    Args:
        points: ``(n, 2)`` pixels of the file.
        sample: The :class:`yolograft.coco.dataset.Sample`.
    """
    turn = getattr(sample, "turn", 0)
    if not turn and sample.size == sample.frame:
        return points
    points = points / np.array(sample.size, dtype=np.float64)
    return (turned(points, BACK[turn]) if turn else points) * sample.frame
