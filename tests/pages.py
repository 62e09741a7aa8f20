"""Pages of Markdown as tests see them: links, headings, code blocks and the output they show."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

#: A fenced block with the comment lines directly before it.
_FENCE = re.compile(
    r"(?P<marks>(?:^<!--.*?-->\n+)*)^(?P<ticks>`{3,})(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=ticks)\s*$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"!?\[[^\]\n]*\]\((?P<to>[^()\s]+(?:\([^()\s]*\))?[^()\s]*)\)")


@dataclass
class Block:
    """A code block.

    Attributes:
        language: ``bash``, ``python``, ...
        title: The file that it is written to, or ``""``.
        body: Its text.
        skip: Why it is not run, or ``""``.
        output: The lines that it has to print, ``...`` for any, or ``None``.
    """

    language: str
    title: str
    body: str
    skip: str = ""
    output: list[str] | None = field(default=None)


def blocks(text: str) -> list[Block]:
    """Return the code blocks of a page; an output belongs to the block before it."""
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        language, _, options = match["info"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', options)
        skip = re.search(r"<!-- not run: (.+?) -->", match["marks"])
        if "<!-- output -->" in match["marks"]:
            assert found, "an output without a command"
            found[-1].output = match["body"].rstrip("\n").split("\n")
            continue
        name = title[1] if title else ""
        found.append(Block(language, name, match["body"], skip[1] if skip else ""))
    return found


def missing(expected: list[str], printed: str) -> str | None:
    """Return the first expected line that was not printed in its place, or ``None``.

    Lines follow each other; where ``...`` stands, any may come between.
    """
    lines = [line.rstrip() for line in printed.splitlines()]
    at, free = 0, True
    for line in expected:
        if line.strip() == "...":
            free = True
            continue
        places = range(at, len(lines)) if free else range(at, min(at + 1, len(lines)))
        found = next((i for i in places if lines[i] == line.rstrip()), None)
        if found is None:
            return line
        at, free = found + 1, False
    return None


def text_of(page: Path) -> str:
    """Return the Markdown of a page, or of a notebook's cells."""
    content = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return content
    cells = json.loads(content)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def prose(text: str) -> str:
    """Return a page without its code."""
    return re.sub(r"`[^`\n]+`", "`code`", _FENCE.sub("", text))


def links(text: str) -> list[str]:
    """Return where the links and pictures of a page lead."""
    text = _FENCE.sub("", text)
    pictures = re.findall(r'<img [^>]*src="([^"]+)"', text)
    return [*(match["to"] for match in _LINK.finditer(text)), *pictures]


def anchors(text: str) -> set[str]:
    """Return the ids of a page's headings, as Python-Markdown's toc and GitHub make them."""
    found: set[str] = set()
    for line in _FENCE.sub("", text).splitlines():
        if match := re.match(r"#{1,6} +(.*)", line):
            plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).strip().lower()
            for normal in (
                unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode(),
                plain,
            ):
                found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", normal)).strip("-"))
                found.add(re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", normal)))
    return found


def dead(page: Path, root: Path) -> list[str]:
    """Return the links of a page that lead nowhere within the repository."""
    wrong = []
    for link in links(text_of(page)):
        to, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", to):
            if not re.fullmatch(r"https://[\w.-]+(/\S*)?", to):
                wrong.append(link)
            continue
        target = (page.parent / to).resolve() if to else page
        if not target.is_relative_to(root) or not target.is_file():
            wrong.append(link)
        elif anchor and anchor not in anchors(text_of(target)):
            wrong.append(link)
    return wrong
