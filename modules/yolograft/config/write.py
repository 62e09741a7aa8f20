"""A config as a YAML file in Ultralytics' style: one row a line, each with its number."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import yaml

from yolograft import __version__
from yolograft.errors import refuse
from yolograft.graft.edits import Graft
from yolograft.graft.graph import split

#: What the host puts into a config when it loads it; a file that holds them would mislead.
_LOADED = ("yaml_file", "scale")


#: Behind this, the host reads the scale letter in the name of a file.
_LETTERED = re.compile(r"yolo(e-)?v?\d+")


def text(result: Graft, file: str | Path = "") -> str:
    """Return the file that holds a grafted config.

    Args:
        result: What :func:`yolograft.graft.graft` returned.
        file: Where it will be written. A name without a place for the scale letter gets a file
            with one scale, that of the base.
    """
    config = {k: v for k, v in result.config.items() if k not in _LOADED}
    scale, scales = result.config.get("scale"), config.get("scales")
    if file and scale and scales and not _LETTERED.search(Path(file).stem):
        config["scales"] = {scale: scales[scale]}
    lines = [*_header(result), ""]
    comments, start = _comments(result), 0
    for key, value in config.items():
        if key in ("backbone", "head"):
            lines += ["", f"{key}:", "  # [from, repeats, module, args]"]
            for row, comment in zip(value, comments[start:], strict=False):
                lines.append(f"  - {flow(row)} # {comment}")
            start += len(value)
        elif key == "graft":
            lines += ["", "graft: # where each row comes from, for warm starts"]
            lines += [f"  {k}: {flow(v)}" for k, v in value.items() if k != "rows"]
            rows = ", ".join(str(row).replace(" ", "_") for row in value["rows"])
            wrapped = (line.replace("_", " ") for line in textwrap.wrap(rows, 92))
            lines += ["  rows: [", *(f"    {line}" for line in wrapped), "  ]"]
        elif key == "scales" and isinstance(value, dict):
            lines.append("scales: # [depth, width, max_channels]")
            lines += [f"  {k}: {flow(v)}" for k, v in value.items()]
        else:
            lines.append(f"{key}: {flow(value)}")
    return "\n".join(lines) + "\n"


def about_scale(result: Graft, file: str | Path) -> str:
    """Return a note where a file of that name is built at another scale than the base.

    Args:
        result: What :func:`yolograft.graft.graft` returned.
        file: Where it will be written.

    Raises:
        ConfigError: If the name asks for a scale that the model does not have, or is one that
            Ultralytics takes for another.
    """
    from ultralytics.nn import tasks

    scale, scales = result.config.get("scale"), result.config.get("scales")
    stem, letter = Path(file).stem, tasks.guess_model_scale(file)
    if p6 := re.fullmatch(r"(yolov[58][nsmlx])6", stem):
        refuse(
            f"{file}: Ultralytics reads this name as {p6[1]}-p6{Path(file).suffix}",
            "choose another name, such as mine.yaml",
        )
    if not scales or not _LETTERED.search(stem):
        return ""
    if letter and letter not in scales:
        refuse(
            f"{file}: the name asks for scale {letter}, and {result.base.name} has "
            f"{', '.join(map(str, scales))}",
            "choose a name without that letter, such as mine.yaml",
        )
    built = letter or next(iter(scales))
    if not scale or built == scale:
        return ""
    at = re.search(f"{_LETTERED.pattern}(?={letter})", stem).end()
    named = f"{stem[:at]}{scale}{stem[at + len(letter) :]}{Path(file).suffix}"
    return (
        f"The name decides the scale: {Path(file).name} is built at scale {built}, not {scale}. "
        f"For {scale}, {'write it with -o ' if letter else 'give model='}{named}"
    )


def _header(result: Graft) -> list[str]:
    made = result.config["graft"]
    title = f"{made['base'] or 'A config'} with {' and '.join(made['recipe'])}"
    about = [f"{one.name}: {one.about}." for one in result.recipes if one.about]
    note = (
        f"Written by `yolograft patch`, version {__version__}. It trains wherever yolograft is "
        "installed; the recipe is not needed. Row numbers behind an inserted row are shifted by it."
    )
    lines = []
    for paragraph in (title, *about, note):
        lines += [*textwrap.wrap(paragraph, 98), ""]
    return [f"# {line}".rstrip() for line in lines[:-1]]


def _comments(result: Graft) -> list[str]:
    """Return for each new row its number, its level where it is new, and what became of it."""
    graph, comments, level = result.base, [], 0
    for i, origin in enumerate(result.origins):
        old = graph.rows[origin.row]
        note, at = str(i), graph.level(origin.row)
        if origin.relation == "after":
            note += f" after {old.label}" + (f", P{at}" if at is not None else "")
        else:
            if old.section == "backbone" and at is not None and at > level:
                note, level = f"{note}-P{at}/{2**at}", at
            elif old.section == "neck" and origin.row in graph.rows[-1].sources and at is not None:
                note += f" (P{at}/{2**at})"
            elif old.section == "head":
                levels = [graph.level(s) for s in old.sources]
                names = ", ".join(f"P{n}" for n in levels if n is not None)
                note += f" {old.label}({names})"
            if origin.relation == "for":
                note += f" for {old.label} {flow(old.args)}"
            elif origin.relation == "in":
                note += f" {split(result.rows[i][2])[1].name} inside"
        comments.append(note)
    return comments


def flow(value: object) -> str:
    """Return a value on one line, as Ultralytics' files write it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, bool):
        return str(value)
    plain = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return plain.removesuffix("\n").removesuffix("\n...")
