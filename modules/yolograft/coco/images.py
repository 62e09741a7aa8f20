"""Find the image files of a JSON."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from yolograft.coco.arrays import Index
from yolograft.errors import refuse

#: Images of a JSON by which its folder is found.
_LOOKED_AT = 50


def paths(index: Index, given: str | Path | None) -> tuple[list[str], list[str]]:
    """Return the file of each image of a JSON, and which of them have another name there.

    A name is also found where it is spelled differently: percent-encoded, with composed or
    decomposed letters, in capitals. Where no image is found by its folders and name, the names
    alone are used: the JSON may have been written beside other folders.

    Args:
        index: Index of the JSON.
        given: As for :func:`find_folder`.

    Raises:
        ConfigError: If there is no such folder, or none holds one of the images.
    """
    folder, there = find_folder(index, given), _Listing()
    found = [os.path.join(folder, clean(name)) for name in index.names]
    if not any(map(there.has, found)):
        counts = Counter(map(os.path.basename, found))
        alone = [os.path.join(folder, os.path.basename(path)) for path in found]
        if any(map(there.find, alone)):
            pairs = zip(alone, found, strict=True)
            found = [a if counts[os.path.basename(a)] == 1 else path for a, path in pairs]
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
        """Return whether a folder holds a file of exactly this name."""
        folder, name = os.path.split(path)
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder or "."))
            except (OSError, ValueError):
                self._names[folder] = set()
        return name in self._names[folder]

    def find(self, path: str) -> str | None:
        """Return the one file whose name is that of a path, however it is spelled."""
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
    names = [clean(name) for name in index.names[:: max(len(index.names) // _LOOKED_AT, 1)]]
    there = _Listing()
    hits = {}
    # Beside a link come its own surroundings, then those of the file that it leads to.
    for folder in (*layouts(index.file), *layouts(index.file.resolve())):
        alone = [os.path.join(folder, os.path.basename(name)) for name in names]
        whole = sum(os.path.isfile(folder / name) for name in names)
        hits[folder] = whole, sum(there.find(path) is not None for path in alone)
    if not any(map(any, hits.values())):
        refuse(
            f"{index.file}: none of its images was found, such as {index.names[0]!r}; tried "
            f"{', '.join(map(str, hits))}",
            "set the folder: `images: folder` in the data YAML, or `images: {train: folder, "
            "val: folder}`; the yolograft command has options for it",
        )
    return max(hits, key=hits.get)


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
    folders = []
    for name in filter(None, (stem, split and split[0])):
        folders += [root / "images" / name, root / name / "images", root / name]
    folders += [here, here / "images", root / "images", root / "data", root / "JPEGImages", root]
    return dict.fromkeys(folder for folder in folders if os.path.isdir(folder))


def clean(name: str) -> str:
    """Return a file name of the JSON with this system's separators.

    Args:
        name: ``file_name`` as in the JSON.
    """
    return name.replace("\\", "/") if os.sep == "/" else name
