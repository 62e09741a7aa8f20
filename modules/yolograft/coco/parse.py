"""Read a COCO instances JSON and check its outline."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import orjson

from yolograft.coco.progress import Progress
from yolograft.coco.values import short
from yolograft.errors import refuse

#: The annotations of a JSON that has no list of them, as those of test sets.
NONE: list = []

#: Bytes of a piece, see :func:`_in_pieces`.
_PIECE = 1 << 20

#: A list of runs, kept as the text that it is: a list of numbers takes ten times the memory.
_RUNS = re.compile(rb'("counts"\s*:\s*)\[(\s*\d+\s*(?:,\s*\d+\s*)*)\]')

_OUTLINE = "COCO instances are a mapping with `images`, `annotations` and `categories`"


def parse(file: Path) -> dict[str, Any]:
    """Read a COCO instances JSON and check its outline.

    Args:
        file: The JSON. ``NaN`` and ``Infinity``, which Python writes, are accepted.

    Returns:
        Its content, with lists under ``images``, ``annotations`` and ``categories``.

    Raises:
        ConfigError: If it is not JSON, or not of that form.
    """
    try:
        raw = Path(file).read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        refuse(f"{file}: {error.strerror or error}", "name an existing COCO instances JSON")
    content = _in_pieces(file, raw) if len(raw) > 2 * _PIECE else None
    content = _whole(file, raw) if content is None else content
    if not isinstance(content, dict):
        more = "; a list is what predictions look like" if isinstance(content, list) else ""
        kind = type(content).__name__
        refuse(f"{file}: the file holds a {kind}, not COCO instances", _OUTLINE + more)
    content.setdefault("annotations", NONE)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            state = f"{key!r} is {short(content[key])}" if key in content else f"no {key!r}"
            refuse(f"{file}: {state}, but COCO instances have a list there", _OUTLINE)
    if not content["images"]:
        refuse(f"{file}: `images` is empty", "name a JSON that lists at least one image")
    return content


def _whole(file: Path, raw: bytes) -> Any:
    """Parse a file in one go; Python's own reader takes NaN and other encodings."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if not raw.strip():
            refuse(f"{file}: the file is empty", "download or write the file again")
        if raw.startswith((b"\x1f\x8b", b"PK\x03\x04")):
            refuse(f"{file}: not JSON: the file is compressed", "unpack it and name the JSON in it")
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):  # includes text that is not UTF-8
            refuse(
                f"{file}: not JSON: {error.msg} at byte {error.pos} of {len(raw)}",
                "the file was cut short or edited by hand: download or write it again",
            )


def _in_pieces(file: Path, raw: bytes) -> dict | None:
    """Parse a large file piece by piece, under a progress bar; ``None`` where that fails.

    A part of a list that parses as a list of its own, when put into brackets, holds whole items.
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
            content = orjson.loads(raw[: found.end()] + f'"{mark}"]{rest[end:]}'.encode())
            bar.update(len(raw) - at)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("annotations") != [mark]:
        return None  # another list of that name
    return {**content, "annotations": rows + last}


def _piece(raw: bytes, at: int) -> tuple[list, int] | None:
    """Return about a megabyte of items that start at a place in a list, and where they end."""
    ends = [m.start() + 1 for m in re.finditer(rb"\}\s*,\s*\{", raw[at : at + _PIECE])]
    for end in ends[:-9:-1]:
        text = raw[at : at + end]
        if b'"counts"' in text:
            text = _RUNS.sub(_as_text, text)
        try:
            return orjson.loads(b"[" + text + b"]"), raw.index(b",", at + end) + 1
        except orjson.JSONDecodeError:  # not between two items, or not read by orjson
            continue
    return None


def _as_text(found: re.Match) -> bytes:
    return found[1] + b'",' + found[2].translate(None, b" \t\r\n") + b'"'
