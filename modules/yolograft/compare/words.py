"""How numbers are written, and the sentences and pages in ``templates``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any


def decimals(gflops: float) -> str:
    """Return GFLOPs with as many places as small models and small images need.

    Args:
        gflops: Of a model.
    """
    return f"{gflops:.{2 if gflops >= 1 else 4}f}"


def duration(value: float) -> str:
    """Return seconds in words of one unit or two.

    Args:
        value: Seconds.
    """
    value = round(value)
    if value < 60:
        return f"{value} s"
    if value < 3600:
        return f"{value // 60} min {value % 60:02} s"
    return f"{value // 3600} h {value % 3600 // 60:02} min"


@cache
def _environment():
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=lambda name: name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"decimals": decimals, "duration": duration}
    return environment


def render(name: str, **content: Any) -> str:
    """Return a template with its content.

    Args:
        name: Of a file in ``templates``. What is put into HTML is escaped.
        **content: What the template names.
    """
    return _environment().get_template(name).render(**content)


def say(name: str, about: Any) -> str:
    """Return a sentence, or several.

    Args:
        name: Of a macro in ``templates/words.jinja``.
        about: What it is about.
    """
    return getattr(_environment().get_template("words.jinja").module, name)(about).strip()
