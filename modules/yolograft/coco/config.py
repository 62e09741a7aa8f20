"""Read a data YAML that names COCO JSON: which files, which images, which names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from yolograft.coco.index import Index, is_text, open_index
from yolograft.errors import refuse

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
        given = _listed(given)
        places = match(given, names) if isinstance(given, list) else []
        if given != names and {*places} != {*range(len(names))}:
            refuse(
                f"{file}: 'names' is {_short(given)}, but {plan['first']} has {_short(names)}",
                "leave `names` out: the JSON's categories are taken, ordered by id",
            )
        if given != names:
            ids = list(plan["categories"])
            plan["categories"] = {ids[i]: names[i] for i in places}
            names = list(plan["categories"].values())
    if data.get("nc") not in (None, len(names)):
        refuse(
            f"{file}: 'nc' is {data['nc']!r}, but {plan['first']} has {len(names)} categories",
            "leave `nc` out",
        )
    data = {**data, "names": dict(enumerate(names)), "nc": len(names)}
    _fill_pose(data, index)
    return data


def _listed(names: object) -> object:
    """Return the names of a data YAML in their order, as texts; what is no list stays as it is."""
    if isinstance(names, dict):
        whole = all(type(key) is int for key in names)
        names = [names[key] for key in (sorted(names) if whole else names)]
    return [str(name) for name in names] if isinstance(names, list) else names


def match(names: Iterable[str], known: list[str]) -> list[int | None]:
    """Return the place of each name among others, ``None`` for one that is not there just once.

    Upper case, spaces, hyphens and underscores make no difference where one is missing otherwise.

    Args:
        names: Names to look for.
        known: Where to look.
    """
    found: list[int | None] = []
    for spell in (str, lambda name: re.sub(r"[\s_-]+", " ", str(name)).strip().casefold()):
        one, two = [spell(name) for name in names], [spell(name) for name in known]
        found = [two.index(n) if one.count(n) == two.count(n) == 1 else None for n in one]
        if None not in found:
            break
    return found


def line_up(names: list[str], known: list[str], used: Iterable[int], file: str) -> list[int]:
    """Return a model's number for each class of the data, -1 for one that it does not have.

    Args:
        names: The classes of the data.
        known: The classes of the model.
        used: Which of the data's classes the model has to have.
        file: The JSON that names them, for messages.

    Raises:
        ConfigError: If the model lacks one of those, and the names tell that it has another order.
    """
    same = list(range(len(names)))
    if names == known:
        return same
    places = match(names, known)
    lacking = [names[i] for i in used if places[i] is None]
    if not lacking:
        return [-1 if place is None else place for place in places]
    if all(name in (str(i), f"class{i}") for i, name in enumerate(known)):
        return same  # a model that was never given names
    lists = f"the model's classes are {_short(known)}, but {file} has {_short(names)}"
    if len(known) == len(names) and all(place in (None, i) for i, place in enumerate(places)):
        from ultralytics.utils import LOGGER

        LOGGER.warning(f"Classes are compared by their order: {lists}")
        return same
    have = [i for i, place in enumerate(places) if place is not None]
    refuse(
        f"{lists}; the model has no {_short(lacking)}",
        "validate a model that was trained on these classes"
        + (f", or only those that it has: classes={have}" if have else ""),
    )


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
    if data.get("flip_idx") is None:
        data["flip_idx"] = _mirror(points)
    mirror = data["flip_idx"]
    if not mirror:  # as without the key: Ultralytics turns flips off, with a warning
        del data["flip_idx"]
        return
    numbers = isinstance(mirror, list) and all(type(v) is int for v in mirror)
    if not (numbers and sorted(mirror) == list(range(len(points)))):
        refuse(
            f"{data[KEY]['yaml']}: 'flip_idx' is {mirror!r}",
            f"name each keypoint, 0 to {len(points) - 1}, once; or leave `flip_idx` out",
        )


#: Names of keypoints that lie in the middle, and of which a mirrored image has the same.
_CENTRAL = re.compile(
    r"(?:nose|head|forehead|crown|neck|nape|throat|chin|jaw|mouth|lips?|tongue|beak|bill|snout|"
    r"muzzle|chest|breast|sternum|belly|navel|withers|croup|rump|pelvis|hips?|waist|crotch|"
    r"(?:spine|back|thorax|abdomen|torso|trunk|body|tail)\d*|"
    r"upper|lower|mid|middle|center|centre|top|bottom|front|rear|tip|base|root|start|end|of|the)+"
)


def _mirror(points: list[str]) -> list[int] | None:
    """Return each keypoint's counterpart in a mirrored image, ``None`` where names leave a doubt.

    Args:
        points: Names of the keypoints.
    """
    keys = [_words(name) for name in points]
    other = [tuple({"left": "right", "right": "left"}.get(w, w) for w in key) for key in keys]
    if len({*keys}) < len(keys) or not {*other} <= {*keys}:
        return None
    for key, there in zip(keys, other, strict=True):
        if key == there and not _CENTRAL.fullmatch("".join(key)):
            return None
    return [keys.index(there) for there in other]


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a keypoint's name, its side as ``left`` or ``right``."""
    words = [
        part.lower()
        for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+", name)
        for part in re.findall(r"(?i)^(?:left|right)|.+?(?=(?:left|right)$)|.+", word)
    ]
    if not {"left", "right"} & {*words} and any(len(w) > 1 and w.isalpha() for w in words):
        # A letter alone, or before a number, may stand for something else: L1 is a vertebra.
        words = [{"l": "left", "r": "right"}.get(word, word) for word in words]
    return tuple(words)


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
