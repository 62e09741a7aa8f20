"""A grafted config as a model YAML: the top of the file, and what stands behind each row."""

from __future__ import annotations

from pathlib import Path

from yolograft import __version__
from yolograft.config import origin, scale, write
from yolograft.config.labels import split
from yolograft.config.write import flow
from yolograft.graft.make import Graft


def text(result: Graft, file: str | Path = "") -> str:
    """Return the file that holds a grafted config.

    Args:
        result: The graft.
        file: Where it will be written. A name without a place for the scale letter gets a file
            with one scale, that of the base.
    """
    config = scale.one_in_name(result.config, file)
    return write.text(config, _header(result), _comments(result))


def about_scale(result: Graft, file: str | Path) -> str:
    """Return a note where a file of a name is built at another scale than the base.

    Args:
        result: The graft.
        file: Where it will be written.

    Raises:
        ConfigError: If the name asks for a scale that the model does not have, or is one that
            Ultralytics takes for another.
    """
    return scale.note(result.config, file, result.base.name)


def _header(result: Graft) -> list[str]:
    made = result.config["graft"]
    title = f"{made['base'] or 'A config'} with {' and '.join(made['recipe'])}"
    about = [f"{one.name}: {one.about}." for one in result.recipes if one.about]
    note = (
        f"Written by `yolograft patch`, version {__version__}. It trains wherever yolograft is "
        "installed; the recipe is not needed. Row numbers behind an inserted row are shifted by it."
    )
    return [title, *about, note]


def _comments(result: Graft) -> list[str]:
    """Return for each new row its number, its level where it is new, and what became of it."""
    graph, comments, level = result.base, [], 0
    for i, source in enumerate(result.origins):
        old = graph.rows[source.row]
        note, at = str(i), graph.level(source.row)
        if source.relation == origin.AFTER:
            note += f" after {old.label}" + (f", P{at}" if at is not None else "")
        else:
            if old.section == "backbone" and at is not None and at > level:
                note, level = f"{note}-P{at}/{2**at}", at
            elif old.section == "neck" and source.row in graph.rows[-1].sources and at is not None:
                note += f" (P{at}/{2**at})"
            elif old.section == "head":
                levels = [graph.level(s) for s in old.sources]
                names = ", ".join(f"P{n}" for n in levels if n is not None)
                note += f" {old.label}({names})"
            if source.relation == origin.FOR:
                note += f" for {old.label} {flow(old.args)}"
            elif source.relation == origin.IN:
                note += f" {split(result.rows[i][2])[1].name} inside"
        comments.append(note)
    return comments
