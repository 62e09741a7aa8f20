#!/usr/bin/env python3
"""Draw the badges of README.md, docs/assets/badges/*.svg, from pyproject.toml and the blocks.

With --check, nothing is written, and the exit status is 1 if one is stale.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from yolograft import files, registry

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "assets" / "badges"


def facts() -> dict[str, tuple[str, str, str]]:
    """Return name, value and colour of each badge, by its file."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    find = {
        "python": r'requires-python = ">=([\d.]+)"',
        "ultralytics": r'"ultralytics>=([\d.]+)"',
        "licence": r'license = "([\w.-]+)-only"',
    }
    found = {name: re.search(pattern, project)[1] for name, pattern in find.items()}
    return {
        "python": ("Python", f"{found['python']} or later", "#1c7ed6"),
        "ultralytics": ("Ultralytics", f"{found['ultralytics']} or later", "#1c7ed6"),
        "blocks": ("blocks", str(len(registry.OURS)), "#2b8a3e"),
        "licence": ("licence", found["licence"], "#868e96"),
    }


def svg(name: str, value: str, colour: str) -> str:
    """Return a badge.

    Args:
        name: Left half.
        value: Right half.
        colour: Of the right half.
    """
    left, right = (round(12 + 6.6 * len(text)) for text in (name, value))
    text = 'y="14" text-anchor="middle" fill="#fff"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" '
        f'font-family="Verdana, DejaVu Sans, sans-serif" font-size="11">'
        f"<title>{name}: {value}</title>"
        f'<clipPath id="r"><rect width="{left + right}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#495057"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>'
        f'<text x="{left / 2:g}" {text}>{name}</text>'
        f'<text x="{left + right / 2:g}" {text}>{value}</text></svg>\n'
    )


def main(argv: list[str] | None = None) -> int:
    """Draw all badges, or check them; return the exit status.

    Args:
        argv: Arguments, those of the process when left out.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, list stale files")
    check = parser.parse_args(argv).check
    stale = 0
    for name, fact in facts().items():
        file, drawn = FOLDER / f"{name}.svg", svg(*fact)
        if not file.is_file() or file.read_text(encoding="utf-8") != drawn:
            stale += 1
            print(f"{'stale' if check else 'written'}: {file.relative_to(ROOT)}")
            if not check:
                files.write(file, drawn)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
