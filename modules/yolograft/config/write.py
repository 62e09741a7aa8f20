"""A config as a YAML file in Ultralytics' style: one row a line, each with its number."""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from yolograft.config.rows import PARTS

#: What Ultralytics adds to a config when it loads it; a file that holds them would mislead.
_LOADED = ("yaml_file", "scale")


def text(config: dict[str, Any], header: list[str], comments: list[str]) -> str:
    """Return the text of a model YAML.

    Args:
        config: What it holds.
        header: Paragraphs for the top of the file.
        comments: What stands behind each row.
    """
    lines = []
    for paragraph in header:
        lines += [*(f"# {line}" for line in textwrap.wrap(paragraph, 98)), "#"]
    lines = [*lines[:-1], ""]
    start = 0
    for key, value in config.items():
        if key in _LOADED:
            continue
        if key in PARTS:
            lines += ["", f"{key}:", "  # [from, repeats, module, args]"]
            for row, comment in zip(value, comments[start:], strict=False):
                lines.append(f"  - {flow(row)} # {comment}")
            start += len(value)
        elif key == "graft":
            lines += ["", "graft: # where each row comes from, for warm starts"]
            lines += [f"  {k}: {flow(v)}" for k, v in value.items() if k != "rows"]
            words = ", ".join(str(row).replace(" ", "_") for row in value["rows"])
            wrapped = (line.replace("_", " ") for line in textwrap.wrap(words, 92))
            lines += ["  rows: [", *(f"    {line}" for line in wrapped), "  ]"]
        elif key == "scales" and isinstance(value, dict):
            lines.append("scales: # [depth, width, max_channels]")
            lines += [f"  {k}: {flow(v)}" for k, v in value.items()]
        else:
            lines.append(f"{key}: {flow(value)}")
    return "\n".join(lines) + "\n"


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
