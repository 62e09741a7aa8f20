"""``yolograft coco check``: what COCO data holds, its issues, and a contact sheet."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.data import utils

from yolograft import files as disk
from yolograft.coco import config
from yolograft.coco.dataset import CocoDataset
from yolograft.coco.issues import find_issues
from yolograft.coco.report import Report
from yolograft.coco.sheet import SIDE, cut, sheet
from yolograft.errors import refuse
from yolograft.tables import aligned


def check(
    files: list[Path],
    folders: list[Path] | None,
    output: Path | None,
    allow_missing: bool,
    as_json: bool = False,
) -> int:
    """Print what data sets hold and their issues, and draw their contact sheet.

    Args:
        files: COCO instances JSON, or data YAMLs that name some.
        folders: Where the images are: one folder for all files, or one each.
        output: Where to write the sheet; not drawn when left out.
        allow_missing: Whether to continue when many images are missing.
        as_json: Whether to print JSON.

    Returns:
        0 if there are no issues, 1 if something was dropped, changed or is odd.

    Raises:
        ConfigError: If a data set cannot be used, or the sheet cannot be written.
    """
    _check_options(files, folders, output)
    folders = folders or [None]
    pairs = zip(files, folders * (len(files) if len(folders) == 1 else 1), strict=True)
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):  # progress bars
        sources = [one for file, folder in pairs for one in _sources(file, folder, allow_missing)]
        sets = [open_set(*source) for source in sources]
        reports, common = find_issues(sets)
        found = [facts(dataset, report) for dataset, report in zip(sets, reports, strict=True)]
        if output is not None:
            _save(output, sheet(sets))
    shared = [
        {"files": [found[a]["file"], found[b]["file"]], "count": len(where), "examples": where[:3]}
        for (a, b), where in common.items()
    ]
    good = not any(reports) and not shared
    if as_json:
        content = {"ok": good, "sets": found, "shared_images": shared}
        content |= {"sheet": str(output)} if output else {}
        print(json.dumps(content, indent=2))
        return int(not good)
    for one, report in zip(found, reports, strict=True):
        print(summary(one, report))
    for one in shared:
        more = "; ..." if one["count"] > len(one["examples"]) else ""
        where = "; ".join(one["examples"])
        print(f"{' and '.join(one['files'])} share {one['count']} images: {where}{more}")
    if output is not None:
        print(f"  sheet: {output}")
    return int(not good)


def _check_options(files: list[Path], folders: list[Path] | None, output: Path | None) -> None:
    for folder in folders or ():
        if not os.path.isdir(folder):
            refuse(f"--images {folder}: no such folder", "name the folder of the images")
    if folders and len(folders) not in (1, len(files)):
        refuse(
            f"--images names {len(folders)} folders for {len(files)} files",
            "name one folder for all of them, or one each",
        )
    if output is not None:
        if not os.path.isdir(output.parent):
            refuse(f"{output}: there is no folder {output.parent}", "make it first")
        if not cv2.haveImageWriter(f"sheet{output.suffix}"):
            refuse(f"{output}: not an image format that OpenCV writes", "name it sheet.jpg")


def _sources(file: Path, folder: Path | None, allow_missing: bool) -> Iterator[tuple]:
    """Yield the JSON files that a command names, with their folders."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        yield file, folder, allow_missing
        return
    found = config.find(str(file))
    content = config.read(found) if found else None
    if content is None:
        refuse(f"{file}: not a data YAML that names COCO JSON", "name one, or JSON files")
    data = config.resolve(content, found, utils.DATASETS_DIR)
    plan = data[config.KEY]
    for split in config.SPLITS:
        for one in config.listed(data.get(split)):
            yield Path(one), folder or plan["images"][one], allow_missing or plan["allow_missing"]


def open_set(file: Path, folder: str | Path | None, allow_missing: bool) -> CocoDataset:
    """Read a JSON and look at its images, as a validation would.

    Args:
        file: COCO instances JSON.
        folder: Where its images are; the usual layouts are tried when ``None``.
        allow_missing: Whether to continue when many images are missing.

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


def facts(dataset: CocoDataset, report: Report) -> dict[str, Any]:
    """Return the counts of a data set, and its issues.

    Args:
        dataset: From :func:`open_set`.
        report: Its issues.
    """
    index = dataset.indexes[0]
    counts = [len(label["cls"]) for label in dataset.labels]
    cls = np.concatenate([label["cls"] for label in dataset.labels])[:, 0].astype(int)
    image, kinds = np.repeat(np.arange(len(counts)), counts), len(index.categories)
    boxes = np.bincount(cls, minlength=kinds).tolist()
    images = np.bincount(np.unique(image * kinds + cls) % kinds, minlength=kinds).tolist()
    written = index.written.get("category_id", {})
    sides = np.concatenate([label["bboxes"] for label in dataset.labels])[:, 2:]
    areas = sides.prod(1) * np.array([np.prod(one.frame) for one in dataset.samples])[image]
    shares = np.histogram(areas, (0, 32**2, 96**2, np.inf))[0] / max(len(areas), 1)
    classes = [
        {"id": written.get(key, key), "name": name, "boxes": n, "images": m}
        for (key, name), n, m in zip(index.categories.items(), boxes, images, strict=True)
    ]
    return {
        "file": str(index.file),
        "images": len(index.ids),
        "annotations": index.total if index.annotated else None,
        "used": {"images": len(counts), "backgrounds": counts.count(0), "boxes": sum(counts)},
        "crowds": index.crowds,
        "classes": classes,
        "empty_classes": [one["name"] for one in classes if not one["boxes"]],
        "sizes": dict(zip(("small", "medium", "large"), shares.tolist(), strict=True)),
        "findings": [
            {"kind": kind, "reason": reason, "count": count, "examples": where}
            for kind, held in report.content().items()
            for reason, (count, where) in held.items()
        ],
    }


def summary(found: dict[str, Any], report: Report) -> str:
    """Return the counts of a data set as text: images, classes, sizes, and its issues.

    Args:
        found: From :func:`facts`.
        report: Its issues.
    """
    used, annotations = found["used"], found["annotations"]
    count = "no list of annotations" if annotations is None else f"{annotations} annotations"
    lines = [
        f"{found['file']}: {found['images']} images, {count}",
        f"  to be used: {used['images']} images, {used['backgrounds']} of them backgrounds; "
        f"{used['boxes']} boxes; {found['crowds']} crowd regions for the COCO metrics only",
    ]
    if used["boxes"]:
        rows = [(c["id"], _in_line(c["name"]), c["boxes"], c["images"]) for c in found["classes"]]
        table = aligned([("id", "class", "boxes", "images"), *rows], right=(0, 2, 3))
        sizes = ", ".join(f"{share:.1%} {name}" for name, share in found["sizes"].items())
        lines += [textwrap.indent(table, "  "), f"  boxes of {sizes}, by COCO's limits"]
        empty = found["empty_classes"]
        if empty:
            more = f", ... {len(empty)} in all" if len(empty) > 9 else ""
            lines.append(f"  classes without a box: {', '.join(map(_in_line, empty[:9]))}{more}")
    return "\n".join([*lines, str(report) if report else "  no issues"])


def _in_line(name: str) -> str:
    """Return a name for a table: not too long, and nothing that a terminal takes for a command."""
    return cut("".join(c if c.isprintable() else ascii(c)[1:-1] for c in name))


def _save(output: Path, image: np.ndarray) -> None:
    try:
        disk.write(output, cv2.imencode(output.suffix, image)[1].tobytes())
    except (OSError, cv2.error) as error:
        refuse(f"{output}: it could not be written: {error}", "choose another place")
