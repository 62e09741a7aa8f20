"""Categories: read from a JSON, compared between files, found among a model's classes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yolograft.coco.arrays import Index
from yolograft.coco.values import id_order, is_text, read_id, short
from yolograft.errors import refuse


def read_categories(file: Path, rows: list) -> tuple[dict[int | str, str], list[str]]:
    """Return names by category id, ordered by id, and the names of the keypoints.

    Args:
        file: The JSON, for messages.
        rows: Its ``categories``.

    Raises:
        ConfigError: If a category has no id or name, or an id has two names.
    """
    names, points = {}, []
    for row in rows:
        known = row if isinstance(row, dict) else {}
        key, name = read_id(known.get("id")), known.get("name")
        name = str(name) if isinstance(name, int | float) else name
        if key is None or not is_text(name):
            refuse(
                f"{file}: the category {short(row)} has no usable id or name",
                "each category is a mapping such as {id: 1, name: person}",
            )
        if names.setdefault(key, name) != name:
            refuse(
                f"{file}: category id {key} has two names: {names[key]!r} and {name!r}",
                "give every category an id of its own",
            )
        listed = row.get("keypoints")
        if isinstance(listed, list) and len(listed) > len(points):
            points = [v if is_text(v) else str(i) for i, v in enumerate(listed)]
    if not names:
        refuse(f"{file}: `categories` is empty", "list each class as {id: 1, name: person}")
    return {key: names[key] for key in sorted(names, key=id_order)}, points


def check_categories(index: Index, plan: dict[str, Any]) -> None:
    """Refuse a JSON whose categories differ from those of the others.

    Args:
        index: Index of the JSON.
        plan: ``categories`` and the file ``first`` that they were read from.

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
        "give all JSON files of a dataset the same list of categories, used or not",
    )


def match(names: Iterable[str], known: list[str]) -> list[int | None]:
    """Return the place of each name among others, ``None`` for one that is not there just once.

    Where a name is missing otherwise, capitals, spaces, hyphens and underscores are ignored.

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
        ConfigError: If the model lacks one of those, and the names show that its order differs.
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
    lists = f"the model's classes are {short_names(known)}, but {file} has {short_names(names)}"
    if len(known) == len(names) and all(place in (None, i) for i, place in enumerate(places)):
        from ultralytics.utils import LOGGER

        LOGGER.warning(f"Classes are compared by their order: {lists}")
        return same
    have = [i for i, place in enumerate(places) if place is not None]
    refuse(
        f"{lists}; the model has no {short_names(lacking)}",
        "validate a model that was trained on these classes"
        + (f", or only those that it has: classes={have}" if have else ""),
    )


def short_names(names: object) -> str:
    """Return a list of names for a message.

    Args:
        names: The names; what is not a list stays whole.
    """
    if isinstance(names, list) and len(names) > 8:
        return f"[{', '.join(map(repr, names[:8]))}, ... {len(names)} in all]"
    return repr(names)
