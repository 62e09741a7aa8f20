"""What commands print: colour in a terminal; plain text of 80 columns in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

#: Styles of rows by the mark in their first cell, and of words that say how it went.
_MARKS = {"+": "green", "~": "yellow", "-": "red", "ok": "green", "BAD": "bold red"}


def console(stderr: bool = False) -> Any:
    """Return a console; ``NO_COLOR`` and ``FORCE_COLOR`` are respected.

    Args:
        stderr: Whether it prints on the standard error.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def table(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), head: bool = True, indent: int = 0
) -> None:
    """Print rows in columns that fit the terminal; long cells are folded.

    Args:
        rows: The cells; the first row is the header.
        right: Columns that are aligned to the right, as numbers are.
        head: Whether there is a header.
        indent: Spaces before each line.
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=head, header_style="bold"
    )
    first, *others = rows if head else ([""] * len(rows[0]), *rows)
    for number, title in enumerate(first):
        last = number == len(first) - 1
        grid.add_column(
            Text(title),
            justify="right" if number in right else "left",
            overflow="fold",
            no_wrap=not last and max(len(row[number]) for row in rows) <= 24,
        )
    for row in others:
        grid.add_row(*(Text(str(cell)) for cell in row), style=_MARKS.get(row[0], ""))
    _print(Padding(grid, (0, 0, 0, indent)))


def text(words: str, style: str = "") -> None:
    """Print a paragraph, folded to the width of the terminal.

    Args:
        words: The text.
        style: Of rich, such as ``bold``.
    """
    from rich.text import Text

    _print(Text(words, style=style))


def code(content: str, language: str) -> None:
    """Print code that can be pasted: no line is folded.

    Args:
        content: The code.
        language: For its colours.
    """
    screen = console()
    if not screen.is_terminal or screen.no_color:
        print(content)
        return
    from rich.syntax import Syntax

    found = Syntax(content, language, background_color="default").highlight(content)
    found.rstrip()
    screen.print(found, soft_wrap=True)


def working(words: str) -> AbstractContextManager:
    """Return a spinner for what takes seconds; nothing where the standard error is no terminal.

    Args:
        words: What is being done.
    """
    if not sys.stderr.isatty():
        return nullcontext()
    return console(stderr=True).status(words)


def _print(what: Any) -> None:
    """Print without the spaces that fill lines up."""
    screen = console()
    with screen.capture() as captured:
        screen.print(what)
    lines = captured.get().split("\n")
    sys.stdout.write("\n".join(line.rstrip() for line in lines))
