"""Read a data YAML that names COCO JSON: which files, which images, which names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from yolograft.coco.index import Index, is_text, open_index
from yolograft.registry import refuse

#: Where the plan lies in Ultralytics' data dictionary.
KEY = "yolograft_coco"

SPLITS = ("train", "val", "test")


def read(file: Path) -> dict[str, Any] | None:
    """Return the content of a data YAML that names COCO JSON, ``None`` for any other file.

    Args:
        file: A YAML file.

    Raises:
        ConfigError: If a key stands twice, or JSON and other kinds of data are mixed.
    """
    try:
        text = Path(file).read_text(encoding="utf-8", errors="ignore")
    except OSError:
        return None
    if ".json" not in text.lower():
        return None
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        refuse(f"{file}{place}: no YAML: {problem}", "correct that line")
    if not isinstance(content, dict):
        return None
    if content.get("val") is None and "validation" in content:
        content["val"] = content.pop("validation")
    named = {split: _files(content.get(split)) for split in SPLITS}
    json_named = {s for s, files in named.items() if any(map(_is_json, files))}
    if not json_named:
        return None
    _refuse_twice(file, text)
    for split, files in named.items():
        value = content.get(split)
        if value is not None and not (files and all(map(_is_json, files))):
            refuse(
                f"{file}: {split!r} is {value!r}, but {min(json_named)!r} names COCO JSON",
                "name COCO JSON files in every split, one or a list",
            )
        if len(set(files)) < len(files):
            refuse(f"{file}: {split!r} names a file twice: {files}", "name each file once")
    if content.get("train") is None or content.get("val") is None:
        lacking = "train" if content.get("train") is None else "val"
        refuse(f"{file}: {lacking!r} is missing", "name the COCO JSON files of `train` and `val`")
    return content


def _files(value: object) -> list:
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _is_json(value: object) -> bool:
    return isinstance(value, str) and value.lower().endswith(".json") and is_text(value)


def _refuse_twice(file: Path, text: str) -> None:
    """Refuse a key that stands twice: the YAML reader would take the last without a word."""
    seen = set()
    for key, _ in yaml.compose(text, Loader=yaml.SafeLoader).value:
        if key.value in seen:
            refuse(
                f"{file}, line {key.start_mark.line + 1}: {key.value!r} stands there twice",
                "keep one; several JSON files of a split are a list: [a.json, b.json]",
            )
        seen.add(key.value)


def resolve(content: dict[str, Any], file: Path, datasets: Path) -> dict[str, Any]:
    """Return a data YAML's content with absolute paths.

    Args:
        content: From :func:`read`.
        file: The YAML.
        datasets: Ultralytics' folder of data sets.

    Returns:
        A copy with ``path``, ``train``, ``val``, ``test`` absolute, and under :data:`KEY` the
        folder of images of each JSON that the YAML names one for.

    Raises:
        ConfigError: If ``images`` or ``allow_missing`` cannot be read.
    """
    root = content.get("path")
    if root is not None and not (isinstance(root, str) and is_text(root)):
        refuse(f"{file}: 'path' is {root!r}", "name the folder that the other paths start from")
    root = Path(root or Path(file).parent)
    if not os.path.exists(root) and not root.is_absolute():
        beside = Path(file).parent / root
        root = beside if os.path.exists(beside) else Path(datasets) / root
    root = Path.cwd() / root  # links stay: what lies beside one is found from there
    new = {k: v for k, v in content.items() if k not in ("images", "allow_missing")}
    new["path"] = str(root)
    folders: dict[str, str | None] = {}
    for split in SPLITS:
        files = [str(root / name) for name in _files(content.get(split))]
        if files:
            new[split] = files if isinstance(content[split], list) else files[0]
        folders.update(zip(files, _folders(content, split, len(files), file, root), strict=True))
    allow = content.get("allow_missing", False)
    if not isinstance(allow, bool):
        refuse(f"{file}: 'allow_missing' is {allow!r}", "use true or false")
    new[KEY] = {"images": folders, "allow_missing": allow, "yaml": str(file)}
    return new


def _folders(content: dict, split: str, count: int, file: Path, root: Path) -> list:
    """Return the folder of images of each JSON of a split, ``None`` where it is to be found."""
    given = content.get("images")
    if isinstance(given, dict):
        unknown = [key for key in given if key not in (*SPLITS, "validation")]
        if unknown:
            refuse(f"{file}: 'images' names {unknown[0]!r}", "its keys are train, val and test")
        given = given.get(split)
    if given is None:
        return [None] * count
    listed = given if isinstance(given, list) else [given] * count
    if not all(isinstance(v, str) and is_text(v) for v in listed):
        refuse(
            f"{file}: 'images' is {content['images']!r}",
            "name one folder, or one per split: {train: folder, val: folder}",
        )
    if len(listed) != count:
        refuse(
            f"{file}: {split!r} has {count} JSON files, but `images` names {len(listed)} folders",
            "name one folder for all of them, or one each",
        )
    return [str(root / v) for v in listed]


def fill(data: dict[str, Any], split: str = "") -> dict[str, Any]:
    """Return the data with names, number of classes and keypoints from its JSON files.

    Args:
        data: From :func:`resolve`.
        split: The split that is wanted; ``val`` when left out.

    Raises:
        ConfigError: If a JSON cannot be read, or what the YAML says contradicts it.
    """
    file = data[KEY]["yaml"]
    wanted = data.get(split or "val")
    if wanted is None:
        refuse(f"{file}: {split!r} is missing", f"name the COCO JSON of `{split}`")
    plan = data[KEY] = dict(data[KEY])
    for index in map(open_index, _files(wanted)):
        plan.setdefault("categories", index.categories)
        plan.setdefault("first", str(index.file))
        check_categories(index, plan)
    names = list(plan["categories"].values())
    given = data.get("names")
    if given is not None:
        given = list(given.values()) if isinstance(given, dict) else given
        if not isinstance(given, list) or [str(v) for v in given] != names:
            refuse(
                f"{file}: 'names' is {_short(given)}, but {plan['first']} has {_short(names)}",
                "leave `names` out: the JSON's categories are taken, ordered by id",
            )
    if data.get("nc") not in (None, len(names)):
        refuse(
            f"{file}: 'nc' is {data['nc']!r}, but {plan['first']} has {len(names)} categories",
            "leave `nc` out",
        )
    data = {**data, "names": dict(enumerate(names)), "nc": len(names)}
    _fill_pose(data, index)
    return data


def _short(names: object) -> str:
    if isinstance(names, list) and len(names) > 8:
        return f"[{', '.join(map(repr, names[:8]))}, ... {len(names)} in all]"
    return repr(names)


def _fill_pose(data: dict[str, Any], index: Index) -> None:
    points = index.keypoints
    if not points:
        return
    shape = data.setdefault("kpt_shape", [len(points), 3])
    if not isinstance(shape, list) or len(shape) != 2 or shape[0] != len(points):
        refuse(
            f"{data[KEY]['yaml']}: 'kpt_shape' is {shape!r}, but {index.file} has {len(points)} "
            "keypoints",
            "leave `kpt_shape` out",
        )
    other = [_mirrored(name) for name in points]
    if "flip_idx" not in data and sorted(other) == sorted(set(points)):
        data["flip_idx"] = [points.index(name) for name in other]
    mirror = data.get("flip_idx")
    numbers = isinstance(mirror, list) and all(type(v) is int for v in mirror)
    if mirror is not None and not (numbers and sorted(mirror) == list(range(len(points)))):
        refuse(
            f"{data[KEY]['yaml']}: 'flip_idx' is {mirror!r}",
            f"name each keypoint, 0 to {len(points) - 1}, once; or leave `flip_idx` out",
        )


def _mirrored(name: str) -> str:
    return name.replace("left", "\0").replace("right", "left").replace("\0", "right")


def check_categories(index: Index, plan: dict[str, Any]) -> None:
    """Refuse a JSON whose categories differ from those of the others.

    Args:
        index: Index of the JSON.
        plan: The plan, with the categories of the first JSON.

    Raises:
        ConfigError: If an id or a name differs.
    """
    here, there = index.categories, plan["categories"]
    if here == there:
        return
    keys = [k for k in {**there, **here} if here.get(k) != there.get(k)]
    pairs = ", ".join(f"id {k}: {there.get(k)!r} and {here.get(k)!r}" for k in keys[:3])
    refuse(
        f"{plan['first']} and {index.file} have different categories: {pairs}"
        + (f", ... {len(keys)} in all" if len(keys) > 3 else ""),
        "give all JSON files of a data set the same list of categories, used or not",
    )
