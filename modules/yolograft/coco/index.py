"""Turn one COCO JSON file into arrays, once, and keep them in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import orjson

from yolograft import files
from yolograft.coco import rle
from yolograft.coco.report import Report
from yolograft.errors import refuse

#: The annotations of a JSON that has no list of them, as those of test sets.
NONE: list = []

#: Pieces that annotations are parsed in.
_PIECE = 1 << 20

#: A list of runs, read as the text that it is: a list of numbers takes ten times the memory.
_RUNS = re.compile(rb'("counts"\s*:\s*)\[(\s*\d+\s*(?:,\s*\d+\s*)*)\]')

#: Written into the name of each cached file: raise it when the arrays change.
VERSION = 2


@dataclass
class Index:
    """What training needs of one JSON file; annotations lie image by image, in the file's order.

    Attributes:
        file: The JSON.
        digest: SHA-256 of its content.
        categories: Original id -> name, ordered by id.
        keypoints: Names of the keypoints, empty where there are none.
        ids: Original id of each image.
        names: File name of each image, as in the JSON.
        sizes: ``(n, 2)`` width and height by the JSON, 0 where it has none.
        first: ``(n + 1,)``; the annotations of image ``i`` are ``first[i]`` to ``first[i + 1]``.
        annotations: ``(m,)`` their places in the JSON's list.
        cls: ``(m,)`` place of the category in ``categories``.
        boxes: ``(m, 4)`` left, top, width, height in pixels, as in the JSON.
        points: ``(p,)`` polygons, all in one row of ``x, y``.
        lengths: Numbers in each polygon.
        parts: ``(m,)`` polygons of each annotation.
        masks: Run-length encoded masks, as COCO's compressed text, all in one row.
        mask_lengths: ``(m,)`` bytes of each annotation's mask, 0 where it has none.
        mask_sizes: ``(m, 2)`` height and width of each mask.
        poses: ``(m, k, 3)`` keypoints.
        crowds: Crowd regions, which are not among the annotations.
        total: Annotations in the JSON.
        annotated: Whether the JSON has a list of annotations; those of test sets have none.
        written: Ids that the JSON writes in another way, such as ``"007"``: ``image_id`` and
            ``category_id`` -> id here -> id there.
        report: What was dropped, and why; its examples do not name the file.
    """

    file: Path
    digest: str
    categories: dict[int | str, str]
    keypoints: list[str]
    ids: list[int | str]
    names: list[str]
    sizes: np.ndarray
    first: np.ndarray
    annotations: np.ndarray
    cls: np.ndarray
    boxes: np.ndarray
    points: np.ndarray
    lengths: np.ndarray
    parts: np.ndarray
    masks: np.ndarray
    mask_lengths: np.ndarray
    mask_sizes: np.ndarray
    poses: np.ndarray
    crowds: int
    total: int
    annotated: bool = True
    written: dict[str, dict[int | str, str]] = field(default_factory=dict)
    report: Report = field(default_factory=Report)
    _ends: np.ndarray | None = None

    def mask(self, row: int) -> dict[str, Any] | None:
        """Return the run-length encoded mask of an annotation, ``None`` where it has none.

        Args:
            row: Its place among the annotations.
        """
        length = self.mask_lengths[row]
        if not length:
            return None
        if self._ends is None:
            self._ends = np.cumsum(self.mask_lengths, dtype=np.int64)
        end = self._ends[row]
        text = self.masks[end - length : end].tobytes()
        return {"size": self.mask_sizes[row].tolist(), "counts": text}

    def as_written(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a prediction with its ids as the JSON writes them.

        Args:
            row: A prediction in COCO's results format.
        """
        return {**row, **{k: held.get(row[k], row[k]) for k, held in self.written.items()}}


_ARRAYS = ("sizes", "first", "annotations", "cls", "boxes", "points", "lengths", "parts", "poses")
_ARRAYS += ("masks", "mask_lengths", "mask_sizes")
_WORDS = ("categories", "keypoints", "ids", "names", "crowds", "total", "annotated", "written")


def open_index(file: str | Path) -> Index:
    """Return the index of a JSON file, from the cache where its content is known.

    Several processes that ask for the same file build it once.

    Args:
        file: COCO instances JSON.

    Raises:
        ConfigError: If the file cannot be read or is not COCO instances JSON.
    """
    file = Path(file)
    digest = _digest(file)
    kept = files.cache("coco") / f"{digest[:40]}-v{VERSION}.npz"
    with locked(kept):
        index = _load(kept, file, digest)
        if index is None:
            index = build(file, digest)
            _save(kept, index)
    return index


@contextlib.contextmanager
def locked(file: Path):
    """Hold a lock beside a file of the cache, where the cache can be written.

    Args:
        file: The file.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a read-only home: work without a cache
            stack.enter_context(files.locked(Path(f"{file}.lock")))
        yield


def _digest(file: Path) -> str:
    total = hashlib.sha256()
    try:
        state = os.stat(file)
        if not stat.S_ISREG(state.st_mode):
            refuse(f"{file}: a {_kind(state.st_mode)}, not a file", "name a COCO instances JSON")
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


def _kind(mode: int) -> str:
    return "folder" if stat.S_ISDIR(mode) else "device or pipe"


class Progress:
    """A progress bar of Ultralytics that appears where something takes longer than a moment.

    Args:
        desc: What is done.
        total: How much there is to do.
        unit: ``"it"``, or ``"B"`` for bytes.
    """

    def __init__(self, desc: str, total: int, unit: str = "it"):
        self._options = {"desc": desc, "total": total, "unit": unit}
        self._began, self._done, self._bar = time.monotonic(), 0, None

    def update(self, count: int = 1) -> None:
        """Say that more is done.

        Args:
            count: How much.
        """
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._began > 0.5:
            from ultralytics.utils import LOCAL_RANK, TQDM

            off = {"disable": True} if LOCAL_RANK > 0 else {}
            self._bar = TQDM(**self._options, initial=self._done, **off)

    def over(self, items: list) -> Iterator:
        """Yield items, and say so.

        Args:
            items: What to yield.
        """
        for i, item in enumerate(items):
            yield item
            if i % 256 == 255:
                self.update(256)
        self.update(len(items) % 256)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.close()


def _load(kept: Path, file: Path, digest: str) -> Index | None:
    try:
        with np.load(kept, allow_pickle=False) as held:
            words = orjson.loads(held["words"].tobytes())
            words["categories"] = dict(words["categories"])
            words["written"] = {k: dict(pairs) for k, pairs in words["written"].items()}
            report = Report(words.pop("report"))
            return Index(file, digest, **words, **{k: held[k] for k in _ARRAYS}, report=report)
    except Exception:  # not there, or cut short: build it again
        return None


def _save(kept: Path, index: Index) -> None:
    words = {k: getattr(index, k) for k in _WORDS}
    words["categories"] = list(index.categories.items())
    words["written"] = {k: list(ids.items()) for k, ids in index.written.items()}
    words["report"] = index.report.content()
    text = np.frombuffer(orjson.dumps(words), dtype=np.uint8)
    save_arrays(kept, words=text, **{k: getattr(index, k) for k in _ARRAYS})


def save_arrays(kept: Path, **arrays: np.ndarray) -> None:
    """Write arrays into the cache in one step; where that cannot be, leave it.

    Args:
        kept: File.
        **arrays: Arrays by name.
    """
    with contextlib.suppress(OSError):
        files.write(kept, lambda stream: np.savez(stream, **arrays))


# ------------------------------------------------------------------------------------------ parse


def parse(file: Path) -> dict[str, Any]:
    """Read a COCO instances JSON and check its outline.

    Args:
        file: The JSON. Python's ``NaN`` and ``Infinity``, which JSON does not know, are read.

    Returns:
        Its content, with lists under ``images``, ``annotations`` and ``categories``.

    Raises:
        ConfigError: If it is no JSON, or not of that form.
    """
    try:
        raw = Path(file).read_bytes()
    except OSError as error:
        refuse(f"{file}: {error.strerror or error}", "name an existing COCO instances JSON")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    content = _in_pieces(file, raw) if len(raw) > 2 * _PIECE else None
    if content is None:
        try:
            content = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            content = _parse_again(file, raw, error)
    del raw
    if not isinstance(content, dict):
        refuse(
            f"{file}: the file holds a {type(content).__name__}, not COCO instances",
            "COCO instances are a mapping with `images`, `annotations` and `categories`"
            + ("; a list is what predictions look like" if isinstance(content, list) else ""),
        )
    content.setdefault("annotations", NONE)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            state = f"{key!r} is {_short(content[key])}" if key in content else f"no {key!r}"
            refuse(
                f"{file}: {state}, but COCO instances have a list there",
                "COCO instances are a mapping with `images`, `annotations` and `categories`",
            )
    if not content["images"]:
        refuse(f"{file}: `images` is empty", "name a JSON that lists at least one image")
    return content


def _in_pieces(file: Path, raw: bytes) -> dict | None:
    """Parse a large file piece by piece, which a bar can show; ``None`` where that cannot be.

    What lies between two places in a list, and is a list of its own if put into brackets, are whole
    items of it: a piece that parses was cut where items end.
    """
    found = re.search(rb'"annotations"\s*:\s*\[', raw)
    if not found:
        return None
    rows, at, mark = [], found.end(), str(id(raw))
    try:
        with Progress(f"Parsing {file}", len(raw), "B") as bar:
            bar.update(at)
            while len(raw) - at > 2 * _PIECE and (piece := _piece(raw, at)):
                rows += piece[0]
                bar.update(piece[1] - at)
                at = piece[1]
            rest = "[" + raw[at:].decode()
            last, end = json.JSONDecoder().raw_decode(rest)
            rest = rest[end:].encode()
            content = orjson.loads(raw[: found.end()] + f'"{mark}"]'.encode() + rest)
            bar.update(len(raw) - at)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("annotations") != [mark]:
        return None  # another list of that name
    content["annotations"] = rows + last
    return content


def _piece(raw: bytes, at: int) -> tuple[list, int] | None:
    """Return the items from a place in a list on, about a megabyte of them, and where they end."""
    ends = [m.start() + 1 for m in re.finditer(rb"\}\s*,\s*\{", raw[at : at + _PIECE])]
    for end in ends[: -1 - 8 : -1]:
        text = raw[at : at + end]
        if b'"counts"' in text:
            text = _RUNS.sub(_as_text, text)
        try:
            return orjson.loads(b"[" + text + b"]"), raw.index(b",", at + end) + 1
        except orjson.JSONDecodeError:  # not between two items, or nothing that orjson reads
            continue
    return None


def _as_text(found: re.Match) -> bytes:
    return found[1] + b'",' + found[2].translate(None, b" \t\r\n") + b'"'


def _parse_again(file: Path, raw: bytes, error: orjson.JSONDecodeError) -> Any:
    """Read what Python's own writer makes of NaN; anything else is broken."""
    if not raw.strip():
        refuse(f"{file}: the file is empty", "get or write the file again")
    if raw.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        refuse(f"{file}: no JSON: the file is compressed", "unpack it, and name what is in it")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # includes text that is not UTF-8
        refuse(
            f"{file}: no JSON: {error.msg} at byte {error.pos} of {len(raw)}",
            "the file was cut short or edited by hand: get or write it again",
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def read_id(value: object) -> int | str | None:
    """Return an id as it is meant: ``7``, ``7.0`` and ``"7"`` are one; ``None`` if it is none.

    Args:
        value: What the JSON holds.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else None
    return value if isinstance(value, str) and is_text(value) else None


def is_text(value: str) -> bool:
    """Tell whether a string has characters, all of which a file can hold.

    Args:
        value: A string.
    """
    try:
        return bool(value.encode()) and "\0" not in value
    except UnicodeEncodeError:
        return False


def id_order(value: int | str) -> tuple:
    """Return a sort key: numbers by size, then texts.

    Args:
        value: An id.
    """
    return (isinstance(value, str), value)


def read_categories(file: Path, rows: list) -> tuple[dict[int | str, str], list[str]]:
    """Return names by category id, ordered by id, and the names of the keypoints.

    Args:
        file: The JSON, for messages.
        rows: Its ``categories``.

    Raises:
        ConfigError: If a category has no id or name, or an id stands for two names.
    """
    names, points = {}, []
    for row in rows:
        key = read_id(row.get("id")) if isinstance(row, dict) else None
        name = row.get("name") if isinstance(row, dict) else None
        name = str(name) if isinstance(name, str | int | float) else ""
        if key is None or not is_text(name):
            refuse(
                f"{file}: the category {_short(row)} has no usable id or name",
                "each category is a mapping such as {id: 1, name: person}",
            )
        if names.setdefault(key, name) != name:
            refuse(
                f"{file}: category id {key} stands for {names[key]!r} and for {name!r}",
                "give every category an id of its own",
            )
        listed = row.get("keypoints")
        if isinstance(listed, list) and len(listed) > len(points):
            points = [
                v if isinstance(v, str) and is_text(v) else str(i) for i, v in enumerate(listed)
            ]
    if not names:
        refuse(f"{file}: `categories` is empty", "list each class as {id: 1, name: person}")
    return {key: names[key] for key in sorted(names, key=id_order)}, points


# ------------------------------------------------------------------------------------------ build


def build(file: Path, digest: str = "") -> Index:
    """Read a JSON and make its index.

    Args:
        file: COCO instances JSON.
        digest: SHA-256 of its content.

    Raises:
        ConfigError: If it is not COCO instances JSON.
    """
    content = parse(file)
    report = Report()
    categories, keypoints = read_categories(file, content["categories"])
    ids, names, sizes, places = _images(content["images"], report)
    if not ids:
        first = _short(content["images"][0])
        refuse(
            f"{file}: no image has a usable id and file_name; the first is {first}",
            "each image is a mapping such as {id: 1, file_name: a.jpg, width: 640, height: 480}",
        )
    lists = {"image_id": content["images"], "category_id": content["categories"]}
    written = {key: _written(rows) for key, rows in lists.items()}
    rows = content["annotations"]
    annotated = rows is not NONE
    total = len(rows)
    classes = {key: i for i, key in enumerate(categories)}
    try:
        image, cls, boxes, crowd = _columns(rows, places, classes)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        rows = _mend(rows, report)
        image, cls, boxes, crowd = _columns(rows, places, classes)
    for column, key, known in ((image, "image_id", places), (cls, "category_id", classes)):
        for i in np.flatnonzero(column < 0).tolist():  # ids written as text
            column[i] = known.get(read_id(rows[i][key]), -1)
    _tell_twice(rows, report)
    finite = np.isfinite(boxes).all(1)
    whole = finite & (boxes[:, 2:] > 0).all(1)
    used = np.ones(len(rows), dtype=bool)
    for reason, bad in (
        ("annotations of an image that `images` does not list", image < 0),
        ("annotations of an unknown category", cls < 0),
        ("boxes with NaN, infinity or missing numbers", ~finite & (crowd == 0)),
        ("boxes of zero or negative size", finite & ~whole & (crowd == 0)),
    ):
        new = np.flatnonzero(bad & used)
        report.add("dropped", reason, (_where(rows[i]) for i in new[:9]), len(new))
        used &= ~bad
    crowds = int((used & (crowd != 0)).sum())
    used &= crowd == 0
    places_used = np.flatnonzero(used)
    places_used = places_used[np.argsort(image[places_used], kind="stable")]
    kept = [rows[i] for i in places_used.tolist()]
    del content, rows
    shapes = _segmentations(file, kept, report)
    poses, keypoints = _poses(kept, keypoints, report)
    per_image = np.bincount(image[places_used], minlength=len(ids))
    return Index(
        file=file,
        digest=digest,
        categories=categories,
        keypoints=keypoints,
        ids=ids,
        names=names,
        sizes=sizes,
        first=np.concatenate(([0], np.cumsum(per_image))).astype(np.int64),
        annotations=places_used.astype(np.int64),
        cls=cls[places_used],
        boxes=boxes[places_used],
        **shapes,
        poses=poses,
        crowds=crowds,
        total=total,
        annotated=annotated,
        written={key: ids for key, ids in written.items() if ids},
        report=report,
    )


def _where(row: object) -> str:
    if not isinstance(row, dict):
        return _short(row)
    text = f"annotation {_short(row.get('id'))}"
    return f"{text} of image {_short(row.get('image_id'))}"


def _images(rows: list, report: Report) -> tuple[list, list, np.ndarray, dict]:
    ids, names, sizes, places = [], [], [], {}
    nameless, again, twice = [], [], []
    for row in rows:
        key = read_id(row.get("id")) if isinstance(row, dict) else None
        name = _name(row) if isinstance(row, dict) else ""
        if key is None or not name:
            nameless.append(_short(row))
            continue
        if key in places:
            same = names[places[key]] == name
            (again if same else twice).append(f"image {key}, {name}")
            continue
        places[key] = len(ids)
        ids.append(key)
        names.append(name)
        sizes.append((_size(row.get("width")), _size(row.get("height"))))
    report.add("images", "images without a usable id or file_name", nameless)
    report.add("images", "other images under an id that was taken: the first holds", twice)
    report.add("notes", "images listed again", again)
    return ids, names, np.array(sizes, dtype=np.float64).reshape(-1, 2), places


def _name(row: dict) -> str:
    """Return the file name of an image; LVIS has it in the address alone, with its folder."""
    name = row.get("file_name")
    if isinstance(name, str) and is_text(name):
        return name
    for key in ("coco_url", "flickr_url"):
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            parts = unquote(urlsplit(row.get(key)).path).split("/")
            name = "/".join([part for part in parts if part][-2:])
            if is_text(name):
                return name
    return ""


def _written(rows: list) -> dict[int | str, str]:
    """Return the ids that are numbers written as text, by the number."""
    written: dict[int | str, str] = {}
    for row in rows:
        key = row.get("id") if isinstance(row, dict) else None
        if isinstance(key, str) and read_id(key) not in (None, key):
            written.setdefault(read_id(key), key)
    return written


def _size(value: object) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good and 0 < value < 1e6 else 0.0


def _columns(rows: list, places: dict, classes: dict) -> tuple[np.ndarray, ...]:
    """Return image, class, box and crowd flag of well-formed annotations, or raise."""
    image = np.array([places.get(row["image_id"], -1) for row in rows], dtype=np.int32)
    cls = np.array([classes.get(row["category_id"], -1) for row in rows], dtype=np.int32)
    crowd = np.array([row.get("iscrowd", 0) for row in rows], dtype=np.int8)
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64)
    if not rows:
        boxes = boxes.reshape(0, 4)
    if boxes.shape != (len(rows), 4):
        msg = "boxes are not four numbers each"
        raise ValueError(msg)
    return image, cls, boxes, crowd


def _mend(rows: list, report: Report) -> list[dict]:
    """Return the annotations in a form that :func:`_columns` reads; what cannot be is reported."""
    mended, odd, boxed = [], [], []
    for row in rows:
        if not isinstance(row, dict):
            odd.append(_where(row))
            continue
        new = dict(row)
        new["image_id"] = read_id(row.get("image_id"))
        new["category_id"] = read_id(row.get("category_id"))
        new["iscrowd"] = read_flag(row.get("iscrowd"))
        new["segmentation"] = _shapes(row.get("segmentation"))
        new["bbox"], taken = read_box(row)
        if taken:
            boxed.append(_where(row))
        mended.append(new)
    report.add("dropped", "annotations that are no mapping", odd)
    report.add("notes", "annotations without a box: taken from their polygon", boxed)
    return mended


def read_box(row: dict) -> tuple[list[float], bool]:
    """Return the box of an annotation, NaN where it has none, and whether its shape gave it.

    Args:
        row: The annotation.
    """
    box, shapes = row.get("bbox"), _shapes(row.get("segmentation"))
    if isinstance(box, list) and len(box) == 4:
        return [read_number(v) for v in box], False
    if isinstance(shapes, dict):
        try:
            box = rle.extent(shapes)
        except ValueError:
            box = None
        return (box, True) if box else ([math.nan] * 4, False)
    if shapes and any(len(s) >= 6 for s in shapes):
        x = [v for s in shapes for v in s[: len(s) // 2 * 2 : 2]]
        y = [v for s in shapes for v in s[1 : len(s) // 2 * 2 : 2]]
        return [min(x), min(y), max(x) - min(x), max(y) - min(y)], True
    return [math.nan] * 4, False


def read_number(value: object) -> float:
    """Return a number, NaN where there is none.

    Args:
        value: What the JSON holds.
    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def read_flag(value: object) -> int:
    """Return 1 for a number other than 0, else 0.

    Args:
        value: What the JSON holds.
    """
    number = read_number(value)
    return int(math.isfinite(number) and number != 0)


def _shapes(value: object) -> list[list[float]] | dict | None:
    """Return polygons as flat lists of numbers, a mask as it is, ``None`` for anything else."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        return None
    if value and not any(isinstance(part, list) for part in value):
        value = [value]  # one polygon, without the list around it
    shapes = []
    for part in value:
        if isinstance(part, list):
            flat = [v for pair in part for v in (pair if isinstance(pair, list) else [pair])]
            shapes.append([read_number(v) for v in flat])
    return shapes


def _tell_twice(rows: list, report: Report) -> None:
    """Report ids that several annotations share; training needs no ids."""
    try:
        ids = [row.get("id") for row in rows]
        if len(set(ids)) == len(ids):
            return
    except TypeError:  # lists as ids
        ids = [repr(row.get("id")) for row in rows]
    seen, twice = set(), []
    for key, row in zip(ids, rows, strict=True):
        if key in seen and key is not None:
            twice.append(_where(row))
        seen.add(key)
    report.add("notes", "annotations under an id that was taken", twice)


def _segmentations(file: Path, rows: list[dict], report: Report) -> dict[str, np.ndarray]:
    """Return polygons in one row of numbers, masks in one of characters, and whose is what."""
    points, lengths, parts = array("d"), array("i"), array("i")
    masks, mask_lengths, mask_sizes = bytearray(), array("i"), array("i")
    unread = []
    with Progress(f"Indexing {file}", len(rows)) as bar:
        for row in bar.over(rows):
            shapes = row.get("segmentation")
            start, pieces, held, size = len(points), len(lengths), len(masks), (0, 0)
            try:
                if not isinstance(shapes, list) or (shapes and isinstance(shapes[0], dict)):
                    shapes = _shapes(shapes)
                if isinstance(shapes, dict):
                    runs, *size = rle.counts(shapes)
                    masks += rle.compress(runs)
                else:
                    for part in shapes or ():
                        before = len(points)
                        points.extend(part)
                        lengths.append(len(points) - before)
            except (TypeError, ValueError, AttributeError, OverflowError, MemoryError):
                del points[start:], lengths[pieces:]
                for part in _shapes(shapes) or () if isinstance(shapes, list) else ():
                    points.extend(part)
                    lengths.append(len(part))
                if len(lengths) == pieces:
                    unread.append(_where(row))
            parts.append(len(lengths) - pieces)
            mask_lengths.append(len(masks) - held)
            mask_sizes.extend(size)
    points = np.frombuffer(points, dtype=np.float64) if len(points) else np.zeros(0)
    lengths, parts = np.array(lengths, dtype=np.int32), np.array(parts, dtype=np.int32)
    bad = (lengths < 6) | (lengths % 2 == 1)
    if not np.isfinite(points).all():
        piece = np.repeat(np.arange(len(lengths)), lengths)
        bad[np.unique(piece[~np.isfinite(points)])] = True
    if bad.any():
        owner = np.repeat(np.arange(len(rows)), parts)
        owners = np.unique(owner[bad])
        report.add(
            "notes",
            "annotations with polygon parts that are not three or more points",
            (_where(rows[i]) for i in owners[:9]),
            len(owners),
        )
        points = points[np.repeat(~bad, lengths)]
        parts = np.bincount(owner[~bad], minlength=len(rows)).astype(np.int32)
        lengths = lengths[~bad]
    report.add("notes", "annotations with a mask that cannot be read: the box is used", unread)
    return {
        "points": points,
        "lengths": lengths,
        "parts": parts,
        "masks": np.frombuffer(masks, dtype=np.uint8) if masks else np.zeros(0, np.uint8),
        "mask_lengths": np.array(mask_lengths, dtype=np.int32),
        "mask_sizes": np.array(mask_sizes, dtype=np.int32).reshape(-1, 2),
    }


def _poses(rows: list[dict], keypoints: list[str], report: Report) -> tuple[np.ndarray, list[str]]:
    """Return ``(m, k, 3)`` keypoints and their names; zeros where an annotation has none."""
    size = len(keypoints)
    if not size:
        listed = (row.get("keypoints") for row in rows)
        size = max((len(v) // 3 for v in listed if isinstance(v, list)), default=0)
        keypoints = [str(i) for i in range(size)]
    poses, odd = np.zeros((len(rows), size, 3)), []
    for i, row in enumerate(rows if size else ()):
        values = row.get("keypoints")
        if values is None:
            continue
        numbers = [read_number(v) for v in values] if isinstance(values, list) else []
        if len(numbers) == 3 * size and all(abs(v) < 1e6 for v in numbers):  # no NaN either
            poses[i] = np.reshape(numbers, (size, 3))
        else:
            odd.append(_where(row))
    report.add("notes", f"annotations whose keypoints are not {size} times x, y, v", odd)
    return poses, keypoints
