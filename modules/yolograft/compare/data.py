"""Check a data set before anything is trained, and tell its content from another's."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from yolograft.errors import ConfigError, refuse

_ENDS = 32 * 1024


def check(name: str, fetch: bool = True) -> tuple[str, dict[str, Any]]:
    """Return the absolute path of a data YAML, and its content as Ultralytics reads it.

    Args:
        name: Name or path of a data YAML, as ``data=`` takes it.
        fetch: Let data that download or draw themselves do so. Otherwise, where they are not here
            yet, only what the YAML says of the classes is returned, without splits.

    Raises:
        ConfigError: If there is none, or a split is missing.
    """
    from ultralytics.data.utils import check_file

    from yolograft.coco.config import check_data

    if not fetch and "://" in name:
        return name, {}
    try:
        file = Path(check_file(name)).resolve()
        if not fetch and (later := _later(file)) is not None:
            return str(file), later
        data = check_data(str(file))
    except ConfigError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        hint = "a data YAML has `train`, `val` and `names`; the folders have to exist"
        msg = f"{name}: the dataset cannot be used: {text}\n\nHint: {hint}"
        raise ConfigError(msg) from error
    for split in ("train", "val"):
        if not data.get(split):
            refuse(f"{name}: the key {split!r} is missing", "a comparison trains and validates")
        if not any(images(data, split)):
            refuse(f"{name}: {split}: there are no images in {data[split]}", "check the paths")
    return str(file), data


def _later(file: Path) -> dict[str, Any] | None:
    """Return what a YAML says of the classes of data that a start would fetch; else ``None``."""
    import yaml

    from yolograft.coco.config import check_data

    if file.is_file() and file.suffix not in (".yaml", ".yml"):
        return {}  # an archive, which Ultralytics would unpack
    try:
        check_data(str(file), autodownload=False)
    except Exception:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content.get("download"):
            raise
        known = {k: content[k] for k in ("nc", "channels", "kpt_shape") if k in content}
        return {"nc": len(content["names"]), **known} if content.get("names") else known
    return None


def images(data: dict[str, Any], split: str) -> list[str]:
    """Return the image files of a split, sorted.

    Args:
        data: From :func:`check`.
        split: ``train`` or ``val``.
    """
    from ultralytics.data.utils import IMG_FORMATS

    files: list[str] = []
    for entry in map(Path, _entries(data, split)):
        if entry.suffix == ".json":
            files += _of_json(entry, data)
        elif entry.is_dir():
            found = (p for p in entry.rglob("*") if p.suffix[1:].lower() in IMG_FORMATS)
            files += map(str, found)
        elif entry.is_file():
            base = str(entry.parent) + os.sep
            lines = entry.read_text(encoding="utf-8").split()
            files += [base + x[2:] if x.startswith("./") else x for x in lines]
    return sorted(files)


def _entries(data: dict[str, Any], split: str) -> list[str]:
    given = data.get(split) or []
    return given if isinstance(given, list) else [given]


def _of_json(file: Path, data: dict[str, Any]) -> list[str]:
    from yolograft.coco.config import KEY, check_categories
    from yolograft.coco.images import paths
    from yolograft.coco.index import open_index

    index = open_index(file)
    check_categories(index, data[KEY])
    return paths(index, data[KEY]["images"].get(str(file)))[0]


def fingerprint(data: dict[str, Any]) -> str:
    """Return a digest of what is trained and validated on.

    Label files and JSON are read whole, of an image its size and both ends: an image that changed
    has another size or another end, unless someone took pains that it does not.

    Args:
        data: From :func:`check`.
    """
    from ultralytics.data.utils import img2label_paths

    digest = hashlib.sha256()
    digest.update(repr((data.get("names"), data.get("kpt_shape"), data.get("channels"))).encode())
    for split in ("train", "val"):
        files = images(data, split)
        sources = [file for file in _entries(data, split) if file.endswith(".json")]
        for source in sources:
            digest.update(_ends(source, whole=True))
        root = os.path.commonpath(files) if len(files) > 1 else ""
        for file, label in zip(files, img2label_paths(files), strict=True):
            name = os.path.relpath(file, root) if root else os.path.basename(file)
            digest.update(f"{split} {name}".encode())
            digest.update(_ends(file, whole=False))
            if not sources:
                digest.update(_ends(label, whole=True))
    return digest.hexdigest()


def _ends(file: str, whole: bool) -> bytes:
    try:
        with open(file, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if whole or size <= 2 * _ENDS:
                return size.to_bytes(8, "big") + hashlib.sha256(stream.read()).digest()
            first = stream.read(_ENDS)
            stream.seek(-_ENDS, os.SEEK_END)
            return size.to_bytes(8, "big") + hashlib.sha256(first + stream.read()).digest()
    except OSError:  # a background has no label file, and some images may be missing
        return b"none"
