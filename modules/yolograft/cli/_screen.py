"""What commands print: colour in a terminal; plain text of 80 columns in a pipe."""

from __future__ import annotations

import os
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


def coloured() -> bool:
    """Tell whether the standard output has colour; what that needs is imported only if so."""
    wanted = os.environ.get("FORCE_COLOR") or sys.stdout.isatty()
    return bool(wanted) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def error(words: str) -> None:
    """Print what went wrong on the standard error, under the name of the command.

    Args:
        words: A fact and, below it, a hint.
    """
    if not sys.stderr.isatty():
        sys.stderr.write(f"yolograft: {words}\n")
        return
    from rich.text import Text

    shown = Text.assemble(("yolograft: ", "bold red"), words)
    shown.highlight_regex("(?m)^Hint:", "bold green")
    console(stderr=True).print(shown, soft_wrap=True)


def table(
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (),
    head: bool = True,
    indent: int = 0,
    among: Sequence[Sequence[str]] = (),
    first: str = "",
) -> None:
    """Print rows in columns that fit the terminal; long cells are folded.

    Args:
        rows: The cells; the first row is the header.
        right: Columns that are aligned to the right, as numbers are.
        head: Whether there is a header.
        indent: Spaces before each line.
        among: Rows of tables below each other, whose columns are to be as wide.
        first: Style of the first column.
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=head, header_style="bold"
    )
    titles, *others = rows if head else ([""] * len(rows[0]), *rows)
    for number, title in enumerate(titles):
        last = number == len(titles) - 1
        width = max(len(row[number]) for row in (*rows, *among))
        grid.add_column(
            Text(title),
            justify="right" if number in right else "left",
            overflow="fold",
            no_wrap=not last and width <= 24,
            min_width=width if among and not last else None,
            style=first if number == 0 else "",
        )
    for row in others:
        grid.add_row(*(Text(str(cell)) for cell in row), style=_MARKS.get(row[0], ""))
    _print(Padding(grid, (0, 0, 0, indent)))


def text(words: str, style: str = "", fold: bool = True) -> None:
    """Print a paragraph.

    Args:
        words: The text.
        style: Of rich, such as ``bold``.
        fold: Whether it is folded to the width of the terminal.
    """
    from rich.text import Text

    if fold:
        _print(Text(words, style=style))
    else:
        console().print(Text(words, style=style), soft_wrap=True)


def title(words: str) -> None:
    """Print the title of a part, after an empty line.

    Args:
        words: The title.
    """
    print()
    text(f"{words}:", "bold yellow")


def signature(name: str, parameters: Sequence[str]) -> None:
    """Print how a class is called; no parameter is folded.

    Args:
        name: Of the class.
        parameters: Each with its annotation and default.
    """
    from rich.text import Text

    words = [f"{one}," for one in parameters[:-1]] + [f"{one})" for one in parameters[-1:]]
    width, lines = console().width, [f"{name}("]
    for word in words:
        joined = lines[-1] + " " * (not lines[-1].endswith("(")) + word
        if len(joined) > width and len(lines[-1]) > 4:
            lines.append(f"    {word}")
        else:
            lines[-1] = joined
    shown = Text("\n".join(lines))
    shown.stylize("bold", 0, len(name))
    _print(shown)


def steps(*lines: tuple[str, str]) -> None:
    """Print what to do next: commands that can be pasted.

    Args:
        lines: What each is for, and the command.
    """
    from rich.text import Text

    width = max(len(what) for what, _ in lines) + 2
    for what, command in lines:
        console().print(Text(f"{what + ':':{width}}").append(command, "green"), soft_wrap=True)


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
