"""Look at COCO data before training: counts, what is wrong, and a contact sheet."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.utils import TQDM
from ultralytics.utils.plotting import colors

from yolograft.coco import config
from yolograft.coco.dataset import CocoDataset
from yolograft.coco.report import Report
from yolograft.errors import ConfigError, refuse

#: The contact sheet: columns, rows, and pixels of a picture's longer side.
COLUMNS, ROWS, SIDE = 4, 3, 480

#: Pixels that each side of a box should have; augmentation drops boxes of less.
TINY = 2

_WHITE, _BLACK, _GREY = (255, 255, 255), (0, 0, 0), (48, 48, 48)
_LONGEST = 40


def open_set(file: Path, folder: Path | None = None, allow_missing: bool = False) -> CocoDataset:
    """Read a JSON and look at its images, as a validation would.

    Args:
        file: COCO instances JSON.
        folder: Where its images are; the usual layouts are tried when left out.
        allow_missing: Whether to go on when many images are missing.

    Raises:
        ConfigError: If the JSON or its images cannot be used.
    """
    content = {"val": os.path.abspath(file), "allow_missing": allow_missing}
    data = config.resolve(content, file, file.parent)
    if folder is not None:
        data[config.KEY]["images"][data["val"]] = os.path.abspath(folder)
    data = config.fill(data)
    data["channels"] = 3
    logging.disable(logging.WARNING)  # the report is printed, not logged
    try:
        return CocoDataset(img_path=data["val"], data=data, imgsz=SIDE, augment=False)
    finally:
        logging.disable(logging.NOTSET)


def _sources(file: Path, folder: Path | None, allow_missing: bool) -> Iterator[tuple]:
    """Yield the JSON files that a command names, with their folders."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        yield file, folder, allow_missing
        return
    from ultralytics.data import utils

    from yolograft.hooks.data import find_yaml

    found = find_yaml(utils, str(file))
    content = config.read(found) if found else None
    if content is None:
        refuse(f"{file}: no data YAML that names COCO JSON", "name one, or JSON files")
    data = config.resolve(content, found, utils.DATASETS_DIR)
    for split in config.SPLITS:
        named = data.get(split) or []
        for one in named if isinstance(named, list) else [named]:
            own = folder or data[config.KEY]["images"].get(one)
            allow = allow_missing or data[config.KEY]["allow_missing"]
            yield Path(one), own and Path(own), allow


# ------------------------------------------------------------------------------------ findings


def findings(dataset: CocoDataset) -> Report:
    """Return what training would leave out or change, and what is odd.

    Args:
        dataset: From :func:`open_set`.
    """
    report, index = Report(), dataset.indexes[0]
    report.merge(dataset.report)
    if len(index.masks):
        masks = _shapes(dataset, list(range(len(dataset.samples))))[1]
        for reason, (count, where) in masks.notes.items():
            if reason.startswith("masks"):
                report.add("notes", reason, where, count)
    low, high = index.boxes[:, :2], index.boxes[:, :2] + index.boxes[:, 2:]
    unit = (low >= 0).all(1) & (high <= 1).all(1)
    _note(dataset, report, "boxes within 0 to 1, as if normalized: COCO counts pixels", unit)
    if len(index.lengths):
        starts = np.cumsum(index.lengths) - index.lengths
        owner = np.repeat(np.arange(len(index.parts)), index.parts)
        small = (np.abs(index.points) <= 1).astype(np.int8)
        inside = np.zeros(len(index.boxes), bool)
        inside[owner[np.minimum.reduceat(small, starts) == 1]] = True
        reason = "polygons within 0 to 1, as if normalized: COCO counts pixels"
        _note(dataset, report, reason, inside & ~unit)
    tiny = (index.boxes[:, 2:] < TINY).any(1) & ~unit
    _note(dataset, report, f"boxes with a side of less than {TINY} pixels", tiny)
    return report


def _note(dataset: CocoDataset, report: Report, reason: str, which: np.ndarray) -> None:
    index, rows = dataset.indexes[0], np.flatnonzero(which)
    where = (f"{index.file.name}, {dataset.place(index, row)}" for row in rows[:9].tolist())
    report.add("notes", reason, where, len(rows))


def _shapes(dataset: CocoDataset, own: list[int]) -> tuple[list[dict[str, Any]], Report]:
    """Return the labels of images with outlines and keypoints, and what is said about them."""
    index, kept = dataset.indexes[0], (dataset.report, dataset.use_segments, dataset.use_keypoints)
    dataset.report, dataset.use_segments = Report(), bool(len(index.lengths) or len(index.masks))
    dataset.use_keypoints = index.poses.shape[1] > 0
    try:
        return dataset._labels(index, own), dataset.report
    finally:
        dataset.report, dataset.use_segments, dataset.use_keypoints = kept


def same_pictures(sets: list[CocoDataset]) -> dict[tuple[int, int], list[str]]:
    """Return the images whose files are equal, for each pair of data sets.

    Args:
        sets: From :func:`open_set`.

    Returns:
        Numbers of two sets, or of one twice -> what is said of each image of the second.
    """
    sizes: dict[int, list[tuple[int, Any]]] = {}
    for number, dataset in enumerate(sets):
        for sample in dataset.samples:
            sizes.setdefault(os.path.getsize(sample.path), []).append((number, sample))
    groups: dict[bytes, list[tuple[int, Any]]] = {}
    alike = [one for group in sizes.values() if len(group) > 1 for one in group]
    read: dict[str, bytes] = {}
    for number, sample in TQDM(alike, desc="Comparing images", disable=len(alike) < 1000):
        path = os.path.realpath(sample.path)
        if path not in read:
            with open(path, "rb") as stream:
                read[path] = hashlib.sha256(stream.read()).digest()
        groups.setdefault(read[path], []).append((number, sample))
    pairs: dict[tuple[int, int], list[str]] = {}
    for group in groups.values():
        first: dict[int, Any] = {}
        for number, sample in group:
            for other, one in first.items():
                text = f"{one.path}, image {one.id}, and {sample.path}, image {sample.id}"
                pairs.setdefault((other, number), []).append(text)
            first.setdefault(number, sample)
    return pairs


# ------------------------------------------------------------------------------------ summary


def facts(dataset: CocoDataset, report: Report) -> dict[str, Any]:
    """Return the counts of a data set, and what is wrong.

    Args:
        dataset: From :func:`open_set`.
        report: From :func:`findings`.
    """
    index = dataset.indexes[0]
    counts = [len(label["cls"]) for label in dataset.labels]
    cls = np.concatenate([label["cls"] for label in dataset.labels])[:, 0].astype(int)
    image = np.repeat(np.arange(len(counts)), counts)
    boxes = np.bincount(cls, minlength=len(index.categories))
    pairs = np.unique(np.stack((image, cls)), axis=1)[1]
    rows = np.bincount(pairs, minlength=len(boxes)) if len(pairs) else boxes
    written = index.written.get("category_id", {})
    sides = np.concatenate([label["bboxes"] for label in dataset.labels])[:, 2:]
    frames = [one.frame[::-1] if one.turn else one.frame for one in dataset.samples]
    areas = (sides * np.array(frames, dtype=np.float64)[image]).prod(1)
    shares = np.histogram(areas, (0, 32**2, 96**2, np.inf))[0] / max(len(areas), 1)
    classes = zip(index.categories.items(), boxes.tolist(), rows.tolist(), strict=True)
    return {
        "file": str(index.file),
        "images": len(index.ids),
        "annotations": index.total if index.annotated else None,
        "used": {"images": len(counts), "backgrounds": counts.count(0), "boxes": sum(counts)},
        "crowds": index.crowds,
        "classes": [
            {"id": written.get(key, key), "name": name, "boxes": n, "images": m}
            for (key, name), n, m in classes
        ],
        "empty_classes": [
            name for name, n in zip(index.categories.values(), boxes, strict=True) if not n
        ],
        "sizes": dict(zip(("small", "medium", "large"), shares.tolist(), strict=True)),
        "findings": [
            {"kind": kind, "reason": reason, "count": count, "examples": where}
            for kind, held in report.content().items()
            for reason, (count, where) in held.items()
        ],
    }


def summary(found: dict[str, Any], report: Report) -> str:
    """Return the counts of a data set as text: images, classes, sizes, and what is wrong.

    Args:
        found: From :func:`facts`.
        report: From :func:`findings`.
    """
    used, annotations = found["used"], found["annotations"]
    told = "no list of annotations" if annotations is None else f"{annotations} annotations"
    lines = [
        f"{found['file']}: {found['images']} images, {told}",
        f"  to be used: {used['images']} images, {used['backgrounds']} of them backgrounds; "
        f"{used['boxes']} boxes; {found['crowds']} crowd regions for the COCO metrics only",
    ]
    if used["boxes"]:
        rows = [("id", "class", "boxes", "images")]
        rows += [
            (str(one["id"]), _in_line(one["name"]), str(one["boxes"]), str(one["images"]))
            for one in found["classes"]
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for key, name, n, m in rows:
            row = (key.rjust(widths[0]), name.ljust(widths[1]), n.rjust(widths[2]), m)
            lines.append(f"  {'  '.join(row[:3])}  {m.rjust(widths[3])}")
        sizes = ", ".join(f"{share:.1%} {name}" for name, share in found["sizes"].items())
        lines.append(f"  boxes of {sizes}, by COCO's limits")
        empty = found["empty_classes"]
        if empty:
            more = f", ... {len(empty)} in all" if len(empty) > 9 else ""
            lines.append(f"  classes without a box: {', '.join(map(_in_line, empty[:9]))}{more}")
    lines.append(str(report) if report else "  nothing to complain about")
    return "\n".join(lines)


def _in_line(name: str) -> str:
    """Return a name for a table: not too long, and nothing that a terminal takes for a command."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


# ------------------------------------------------------------------------------------ sheet


def sheet(sets: list[CocoDataset]) -> np.ndarray:
    """Return a contact sheet: pictures with their annotations, and a legend of the classes.

    Args:
        sets: From :func:`open_set`; each gets its rows.

    Returns:
        ``(h, w, 3)`` blue, green, red.
    """
    lines, names = [], {}
    for dataset in sets:
        full = [i for i, label in enumerate(dataset.labels) if len(label["cls"])]
        full = full or list(range(len(dataset.labels)))
        count = min(COLUMNS * max(ROWS // len(sets), 1), len(full))
        places = np.linspace(0, len(full) - 1, count).round().astype(int).tolist()
        tiles = [_tile(dataset, full[i]) for i in places]
        used = {int(c) for i in places for c in dataset.labels[full[i]]["cls"][:, 0]}
        names |= {c: dataset.data["names"][c] for c in used}
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
    return np.concatenate((image, _legend(names, image.shape[1])))


def _tile(dataset: CocoDataset, i: int) -> np.ndarray:
    """Return one image with its boxes, masks and keypoints, its file name below."""
    picture = dataset.load_image(i)[0]
    if picture.ndim == 2 or picture.shape[2] == 1:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    picture = picture.copy()
    h, w = picture.shape[:2]
    label, drawn = dataset.labels[i], _shapes(dataset, [i])[0][0]
    for cls, outline in zip(drawn["cls"][:, 0], drawn["segments"], strict=False):
        _fill(picture, np.round(outline * (w, h)).astype(np.int32), colors(int(cls), bgr=True))
    centre, size = label["bboxes"][:, :2] * (w, h), label["bboxes"][:, 2:] * (w, h)
    corners = np.concatenate((centre - size / 2, centre + size / 2), 1).round().astype(int)
    named, taken = set(), np.zeros((h, w), bool)
    for cls, (x1, y1, x2, y2) in zip(label["cls"][:, 0], corners.tolist(), strict=True):
        colour = colors(int(cls), bgr=True)
        for shade, width in ((_against(colour), 3), (colour, 1)):
            cv2.rectangle(picture, (x1, y1), (x2, y2), shade, width, cv2.LINE_AA)
    if drawn["keypoints"] is not None:
        for cls, pose in zip(drawn["cls"][:, 0], drawn["keypoints"], strict=True):
            colour = colors(int(cls), bgr=True)
            for x, y, seen in pose.tolist():
                if seen and 0 <= x <= 1 and 0 <= y <= 1:
                    place = round(x * w), round(y * h)
                    cv2.circle(picture, place, 4, _against(colour), -1, cv2.LINE_AA)
                    cv2.circle(picture, place, 3, colour, -1 if seen > 1 else 1, cv2.LINE_AA)
    for cls, (x1, y1, x2, _) in zip(label["cls"][:, 0], corners.tolist(), strict=True):
        text = _text(dataset.data["names"][int(cls)], 11)
        if cls not in named or x2 - x1 > text.shape[1]:  # else it hides its neighbours
            named.add(cls)
            _write_name(picture, taken, text, x1, y1, int(cls))
    picture = cv2.copyMakeBorder(picture, 0, 18, 0, SIDE - w, cv2.BORDER_CONSTANT, value=_GREY)
    name = f"{len(corners)} boxes  {Path(label['im_file']).name}"
    _put(picture, _text(name, 12), 4, h + 1, _WHITE)
    return picture


def _fill(picture: np.ndarray, outline: np.ndarray, colour: tuple) -> None:
    """Lay a colour over an outline's inside, and draw the outline."""
    layer = picture.copy()
    cv2.fillPoly(layer, [outline], colour)
    cv2.addWeighted(layer, 0.4, picture, 0.6, 0, dst=picture)
    for shade, width in ((_against(colour), 3), (colour, 1)):
        cv2.polylines(picture, [outline], True, shade, width, cv2.LINE_AA)


def _against(colour: tuple) -> tuple:
    """Return black for light colours and white for dark ones: one of both is seen anywhere."""
    return _BLACK if np.dot(colour, (0.114, 0.587, 0.299)) > 127 else _WHITE


def _write_name(picture: np.ndarray, taken: np.ndarray, text: np.ndarray, x: int, y: int, cls: int):
    """Write a class above its box where no other name stands; the colour tells it anyway."""
    h, w = text.shape[0], min(text.shape[1] + 2, picture.shape[1])
    x = min(max(x, 0), picture.shape[1] - w)
    y = max(y, h)
    area = (slice(y - h, y), slice(x, x + w))
    if taken[area].any():
        return
    taken[area] = True
    picture[area] = colour = colors(cls, bgr=True)
    _put(picture, text, x + 1, y - h, _against(colour))


def _legend(names: dict[int, str], width: int) -> np.ndarray:
    """Return a strip with the colour of each class."""
    strip = np.full((24, width, 3), _GREY, np.uint8)
    lines, x = [strip], 8
    for cls, name in sorted(names.items()):
        text = _text(name, 14)
        w = text.shape[1] + 34
        if x + w > width:
            lines.append(np.full_like(strip, _GREY))
            x = 8
        cv2.rectangle(lines[-1], (x, 6), (x + 12, 18), colors(cls, bgr=True), -1)
        _put(lines[-1], text, x + 18, 4, _WHITE)
        x += w
    return np.concatenate(lines)


def _put(picture: np.ndarray, text: np.ndarray, x: int, y: int, colour: tuple) -> None:
    area = picture[y : y + text.shape[0], x : x + text.shape[1]]
    ink = text[: area.shape[0], : area.shape[1], None] / 255
    area[:] = (area * (1 - ink) + np.array(colour) * ink).round()


@functools.lru_cache(4096)
def _text(text: str, size: int) -> np.ndarray:
    """Return written text: ``(h, w)``, 255 where there is ink."""
    from PIL import Image, ImageDraw, ImageFont

    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    path = next((path for path in _fonts() if _glyphs(path).issuperset(map(ord, text))), None)
    if path is None:  # no font of this machine has these letters
        path = _fonts()[0]
        known = _glyphs(path)
        text = "".join(c if ord(c) in known else ascii(c)[1:-1] for c in text)
    font = ImageFont.truetype(path, size)
    width, height = max(round(font.getlength(text)), 1), size + 4
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((0, height - 4), text, 255, font, anchor="ls")
    return np.array(image)


@functools.lru_cache(1)
def _fonts() -> list[str]:
    """Return the fonts of this machine, first the one that comes with Matplotlib."""
    from matplotlib import font_manager

    first = font_manager.findfont("DejaVu Sans")
    others = [f for f in font_manager.fontManager.ttflist if not f.name.startswith("Last Resort")]
    others.sort(key=lambda f: (f.style != "normal", f.weight not in ("normal", 400), f.fname))
    return list(dict.fromkeys([first, *(f.fname for f in others)]))


@functools.lru_cache(None)
def _glyphs(path: str) -> frozenset[int]:
    """Return the letters that a font can draw."""
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    try:
        ImageFont.truetype(path, 11)  # fonts of pictures come in their own sizes only
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


# ------------------------------------------------------------------------------------ command


def check(
    files: list[Path],
    folders: list[Path] | None,
    output: Path | None,
    allow_missing: bool,
    as_json: bool = False,
) -> int:
    """Print what data sets hold and what is wrong with them, and draw their contact sheet.

    Args:
        files: COCO instances JSON, or data YAMLs that name some.
        folders: Where the images are: one folder for all files, or one each.
        output: Where to write the sheet; not drawn when left out.
        allow_missing: Whether to go on when many images are missing.
        as_json: Whether to print JSON.

    Returns:
        0 if nothing is wrong, 1 if something was dropped, changed or is odd.

    Raises:
        ConfigError: If a data set cannot be used, or the sheet cannot be written.
    """
    for folder in folders or ():
        if not os.path.isdir(folder):
            refuse(f"--images {folder}: no such folder", "name the folder of the images")
    folders = folders or [None]
    if len(folders) not in (1, len(files)):
        refuse(
            f"--images names {len(folders)} folders for {len(files)} files",
            "name one folder for all of them, or one each",
        )
    if output is not None:
        if not os.path.isdir(output.parent):
            refuse(f"{output}: there is no folder {output.parent}", "make it first")
        if not cv2.haveImageWriter(f"sheet{output.suffix}"):
            refuse(f"{output}: no kind of picture that OpenCV writes", "name it sheet.jpg")
    pairs = zip(files, folders * (len(files) if len(folders) == 1 else 1), strict=True)
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):  # progress bars
        sources = [one for file, folder in pairs for one in _sources(file, folder, allow_missing)]
        sets = [open_set(*source) for source in sources]
        reports = [findings(dataset) for dataset in sets]
        common = same_pictures(sets)
        for (first, second), where in common.items():
            if first == second:
                reason = "images that are equal to another one of the set"
                reports[first].add("notes", reason, where)
        for dataset, report in zip(sets[1:], reports[1:], strict=True):
            _compare_classes(sets[0], dataset, report)
        told = [facts(dataset, report) for dataset, report in zip(sets, reports, strict=True)]
        if output is not None:
            _save(output, sheet(sets))
    shared = [
        {"files": [told[a]["file"], told[b]["file"]], "count": len(where), "examples": where[:3]}
        for (a, b), where in sorted(common.items())
        if a != b
    ]
    clean = not any(reports) and not shared
    if as_json:
        content = {"ok": clean, "sets": told, "shared_images": shared}
        content |= {"sheet": str(output)} if output else {}
        print(json.dumps(content, indent=2))
        return int(not clean)
    for found, report in zip(told, reports, strict=True):
        print(summary(found, report))
    for one in shared:
        more = "; ..." if one["count"] > len(one["examples"]) else ""
        where = "; ".join(one["examples"])
        print(f"{' and '.join(one['files'])} share {one['count']} images: {where}{more}")
    if output is not None:
        print(f"  sheet: {output}")
    return int(not clean)


def _compare_classes(first: CocoDataset, second: CocoDataset, report: Report) -> None:
    plan = {"categories": first.indexes[0].categories, "first": str(first.indexes[0].file)}
    try:
        config.check_categories(second.indexes[0], plan)
    except ConfigError as error:
        report.add("notes", "differences in the categories", [str(error).partition("\n")[0]])


def _save(output: Path, picture: np.ndarray) -> None:
    try:
        good, data = cv2.imencode(output.suffix, picture)
        if good:
            output.write_bytes(data.tobytes())
    except (OSError, cv2.error) as error:
        refuse(f"{output}: it could not be written: {error}", "choose another place")
    if not good:
        refuse(f"{output}: it could not be written", "choose another place")
