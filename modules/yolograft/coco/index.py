"""Open the index of a COCO JSON: made once, kept in the user's cache folder by content."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import fields
from pathlib import Path

import numpy as np
import orjson

from yolograft.coco import cache
from yolograft.coco.arrays import Index
from yolograft.coco.build import build
from yolograft.coco.progress import Progress
from yolograft.coco.report import Report
from yolograft.errors import refuse

#: Written into the name of each cached file: raise it when the arrays change.
VERSION = 3

_ARRAYS = [one.name for one in fields(Index) if one.type == "np.ndarray"]
_WORDS = [one.name for one in fields(Index) if one.name not in ("file", "report", *_ARRAYS)]


def open_index(file: str | Path) -> Index:
    """Return the index of a JSON file, from the cache where its content is known.

    Several processes that ask for the same file build it once.

    Args:
        file: COCO instances JSON.

    Raises:
        ConfigError: If the file cannot be read or is not COCO instances JSON.
    """
    file = Path(file)
    with cache.entry(f"{_digest(file)[:40]}-v{VERSION}") as kept:
        if arrays := cache.load(kept):
            words = orjson.loads(arrays.pop("words").tobytes())
            words["categories"] = dict(words["categories"])
            words["written"] = {k: dict(pairs) for k, pairs in words["written"].items()}
            words["report"] = Report(**words["report"])
            return Index(file=file, **words, **arrays)
        index = build(file)
        words = {k: getattr(index, k) for k in _WORDS} | {"report": index.report.content()}
        words["categories"] = list(index.categories.items())
        words["written"] = {k: list(ids.items()) for k, ids in index.written.items()}
        text = np.frombuffer(orjson.dumps(words), dtype=np.uint8)
        cache.save(kept, words=text, **{k: getattr(index, k) for k in _ARRAYS})
        return index


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    total = hashlib.sha256()
    try:
        state = os.stat(file)
        if not stat.S_ISREG(state.st_mode):
            kind = "folder" if stat.S_ISDIR(state.st_mode) else "device or pipe"
            refuse(f"{file}: a {kind}, not a file", "name a COCO instances JSON")
        with file.open("rb") as stream, Progress(f"Hashing {file}", state.st_size, "B") as bar:
            while block := stream.read(1 << 22):
                total.update(block)
                bar.update(len(block))
    except OSError as error:
        refuse(
            f"{file}: {error.strerror or error}",
            "name an existing COCO instances JSON in `train:`, `val:` and `test:`",
        )
    return total.hexdigest()
