"""A data YAML that names COCO JSON: which files, which images, which names."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from yolograft.coco.arrays import Index
from yolograft.coco.categories import check_categories, match, short_names
from yolograft.coco.index import open_index
from yolograft.coco.mirror import mirror
from yolograft.coco.values import is_text
from yolograft.errors import refuse
from yolograft.files import CFG

#: Where the plan lies in Ultralytics' data dictionary.
KEY = "yolograft_coco"

SPLITS = ("train", "val", "test")


def check_data(
    name: str | Path,
    autodownload: bool = True,
    *args: Any,
    stock: Callable | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Return Ultralytics' data dictionary of a data YAML, which may name COCO JSON.

    Args:
        name: As ``data=`` takes it.
        autodownload: Whether data that is missing may be downloaded.
        *args: More of Ultralytics' ``check_det_dataset``: the split.
        stock: That function itself; the one of the installed release when left out.
        **kwargs: More of that function.

    Raises:
        ConfigError: If COCO JSON is named and cannot be used.
    """
    from ultralytics.data import utils

    stock = stock or inspect.unwrap(utils.check_det_dataset)
    file = find(str(name))
    content = read(file) if file else None
    if content is None:
        return stock(name, autodownload, *args, **kwargs)
    split = kwargs.get("split") or (args[0] if args else "")
    data = resolve(content, file, utils.DATASETS_DIR)
    if autodownload and data.get("download"):
        if not all(map(os.path.isfile, listed(data.get(split or "val")))):
            _stock_check(stock, {"names": ["?"], **data}, True)
    data = fill({k: v for k, v in data.items() if k != "download"}, split)
    return {**_stock_check(stock, data, False, *args, **kwargs), "yaml_file": str(file)}


def _stock_check(stock: Callable, data: dict[str, Any], *args, **kwargs) -> dict[str, Any]:
    """Return what the stock function makes of a data YAML of this content."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.yaml"
        file.write_text(yaml.safe_dump({k: v for k, v in data.items() if k != KEY}))
        try:
            checked = stock(str(file), *args, **kwargs)
        except (AttributeError, KeyError, SyntaxError, TypeError, ValueError) as error:
            own = data[KEY]["yaml"]
            refuse(f"{own}: {str(error).replace(str(file), own)}", "correct the data YAML")
    # The stock function follows links; images are looked for beside the link.
    return {**checked, **{k: data[k] for k in SPLITS if k in data}, KEY: data[KEY]}


def find(name: str) -> Path | None:
    """Return the data YAML that Ultralytics would read, ``None`` where that is not one file.

    Args:
        name: As ``data=`` takes it.
    """
    from ultralytics.utils.checks import check_file

    if "://" in name:
        return None
    if os.path.isdir(name):
        found = sorted([*Path(name).glob("*.yaml"), *Path(name).glob("*.yml")])
        return found[0] if len(found) == 1 else None
    if not name.lower().endswith((".yaml", ".yml")):
        if os.path.exists(name):
            return None
        name = f"{name}.yaml"
    file = shipped(name) or check_file(name, hard=False)
    return Path(file) if file else None


def shipped(name: str) -> Path | None:
    """Return the pack's own data YAML of a bare name, unless there is a file of that name here.

    Args:
        name: As ``data=`` takes it.
    """
    ours = CFG / "data" / name
    bare = not os.path.dirname(name) and not os.path.exists(name)
    return ours if bare and ours.is_file() else None


def read(file: Path) -> dict[str, Any] | None:
    """Return the content of a data YAML that names COCO JSON, ``None`` for any other file.

    Args:
        file: A YAML file.

    Raises:
        ConfigError: If a key is given twice, or JSON and other kinds of data are mixed.
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
        refuse(f"{file}{place}: not YAML: {problem}", "correct that line")
    if not isinstance(content, dict):
        return None
    if content.get("val") is None and "validation" in content:
        content["val"] = content.pop("validation")
    named = {split: listed(content.get(split)) for split in SPLITS}
    of_json = [split for split, files in named.items() if any(map(_is_json, files))]
    if not of_json:
        return None
    _refuse_twice(file, text)
    for split, files in named.items():
        if content.get(split) is not None and not (files and all(map(_is_json, files))):
            refuse(
                f"{file}: {split!r} is {content[split]!r}, but {min(of_json)!r} names COCO JSON",
                "name COCO JSON files in every split, one or a list",
            )
        if len(set(files)) < len(files):
            refuse(f"{file}: {split!r} names a file twice: {files}", "name each file once")
    for split in ("train", "val"):
        if content.get(split) is None:
            hint = "name the COCO JSON files of `train` and `val`"
            refuse(f"{file}: {split!r} is missing", hint)
    return content


def listed(value: object) -> list:
    """Return what a split names as a list.

    Args:
        value: One file, several, or ``None``.
    """
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _is_json(value: object) -> bool:
    return is_text(value) and value.lower().endswith(".json")


def _refuse_twice(file: Path, text: str) -> None:
    """Refuse a key that is given twice: the YAML reader would silently take the last one."""
    seen = set()
    for key, _ in yaml.compose(text, Loader=yaml.SafeLoader).value:
        if key.value in seen:
            refuse(
                f"{file}, line {key.start_mark.line + 1}: {key.value!r} is given twice",
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
        ConfigError: If ``path``, ``images`` or ``allow_missing`` cannot be used.
    """
    root = content.get("path")
    if root is not None and not is_text(root):
        refuse(f"{file}: 'path' is {root!r}", "name the folder that the other paths start from")
    root = Path(root or Path(file).parent)
    if not os.path.exists(root) and not root.is_absolute():
        beside = Path(file).parent / root
        root = beside if os.path.exists(beside) else Path(datasets) / root
    root = Path.cwd() / root  # links are kept: what lies beside one is found from there
    new = {k: v for k, v in content.items() if k not in ("images", "allow_missing")}
    new["path"] = str(root)
    folders: dict[str, str | None] = {}
    for split in SPLITS:
        files = [str(root / name) for name in listed(content.get(split))]
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
    folders = given if isinstance(given, list) else [given] * count
    if not all(map(is_text, folders)):
        refuse(
            f"{file}: 'images' is {content['images']!r}",
            "name one folder, or one per split: {train: folder, val: folder}",
        )
    if len(folders) != count:
        refuse(
            f"{file}: {split!r} has {count} JSON files, but `images` names {len(folders)} folders",
            "name one folder for all of them, or one each",
        )
    return [str(root / v) for v in folders]


def fill(data: dict[str, Any], split: str = "") -> dict[str, Any]:
    """Return the data with names, number of classes and keypoints from its JSON files.

    Args:
        data: From :func:`resolve`.
        split: The split that is wanted; ``val`` when left out.

    Raises:
        ConfigError: If a JSON cannot be read, or what the YAML says contradicts it.
    """
    file = data[KEY]["yaml"]
    wanted = listed(data.get(split or "val"))
    if not wanted:
        refuse(f"{file}: {split!r} is missing", f"name the COCO JSON of `{split}`")
    indexes = list(map(open_index, wanted))
    plan = {"categories": indexes[0].categories, "first": str(indexes[0].file), **data[KEY]}
    for index in indexes:
        check_categories(index, plan)
    plan["categories"] = _in_order(data, plan)
    names = list(plan["categories"].values())
    if data.get("nc") not in (None, len(names)):
        refuse(
            f"{file}: 'nc' is {data['nc']!r}, but {plan['first']} has {len(names)} categories",
            "leave `nc` out",
        )
    data = {**data, KEY: plan, "names": dict(enumerate(names)), "nc": len(names)}
    _fill_pose(data, indexes[-1])
    return data


def _in_order(data: dict[str, Any], plan: dict[str, Any]) -> dict[int | str, str]:
    """Return the categories in the order of the YAML's `names`, by id where it has none."""
    names, given = list(plan["categories"].values()), data.get("names")
    if given is None:
        return plan["categories"]
    if isinstance(given, dict):
        whole = all(type(key) is int for key in given)
        given = [given[key] for key in (sorted(given) if whole else given)]
    given = [str(name) for name in given] if isinstance(given, list) else given
    if given == names:
        return plan["categories"]
    places = match(given, names) if isinstance(given, list) else []
    if {*places} != {*range(len(names))}:
        refuse(
            f"{data[KEY]['yaml']}: 'names' is {short_names(given)}, but {plan['first']} has "
            f"{short_names(names)}",
            "leave `names` out: the JSON's categories are taken, ordered by id",
        )
    ids = list(plan["categories"])
    return {ids[i]: names[i] for i in places}


def _fill_pose(data: dict[str, Any], index: Index) -> None:
    points, file = index.keypoints, data[KEY]["yaml"]
    if not points:
        return
    shape = data.setdefault("kpt_shape", [len(points), 3])
    if not isinstance(shape, list) or len(shape) != 2 or shape[0] != len(points):
        refuse(
            f"{file}: 'kpt_shape' is {shape!r}, but {index.file} has {len(points)} keypoints",
            "leave `kpt_shape` out",
        )
    flip = data.pop("flip_idx", None)
    flip = mirror(points) if flip is None else flip
    if not flip:  # as without the key: Ultralytics turns flips off, with a warning
        return
    numbers = isinstance(flip, list) and all(type(v) is int for v in flip)
    if not (numbers and sorted(flip) == list(range(len(points)))):
        refuse(
            f"{file}: 'flip_idx' is {flip!r}",
            f"name each keypoint, 0 to {len(points) - 1}, once; or leave `flip_idx` out",
        )
    data["flip_idx"] = flip
