"""What is said of a block, in the terminal and on its page: read off its class and its row."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from yolograft import registry, signatures
from yolograft.blocks._row import Block


@dataclass(frozen=True)
class Description:
    """A block's docstring in parts, as docstrings write them.

    Attributes:
        about: Its first sentence.
        body: Its paragraphs; an equation stands behind ``::``.
        arguments: Name, default as text, and meaning of each argument.
        shape: Shapes in and out.
        differs: What is not as in the paper, and why.
    """

    about: str
    body: tuple[str, ...]
    arguments: tuple[tuple[str, str, str], ...]
    shape: str
    differs: tuple[str, ...]


def read(block: Block) -> Description:
    """Return the parts of a block's docstring.

    Args:
        block: A row of the table.
    """
    cls = block.load()
    about, *paragraphs = re.split(r"\n\n(?! )", inspect.getdoc(cls) or "")
    body, differs, arguments, shape = [], [], (), ""
    for text in paragraphs:
        heading, _, rest = text.partition(":\n")
        if heading == "Args":
            arguments = _arguments(cls, rest)
        elif heading == "Shape":
            shape = textwrap.dedent(rest)
        elif text.startswith("Differs"):
            differs.append(text)
        elif heading != "Raises":
            body.append(text)
    return Description(about, tuple(body), arguments, shape, tuple(differs))


def _arguments(cls: type, text: str) -> tuple[tuple[str, str, str], ...]:
    entries = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", text, re.MULTILINE | re.DOTALL)
    known = {parameter.name: parameter for parameter in signatures.signature(cls)}
    found = []
    for name, meaning in entries:
        default = known[name].default
        shown = "" if default is inspect.Parameter.empty else str(default)
        found.append((name, shown, " ".join(meaning.split())))
    return tuple(found)


def plain(text: str) -> str:
    """Return text of a docstring without its markup.

    Args:
        text: As a docstring has it.
    """
    text = re.sub(r":\w+:`[\w.]*?(\w+)`", r"\1", text.replace("``", ""))
    return text.replace("::\n", ":\n")


def row(block: Block) -> str:
    """Return an example of a block's row in a model YAML.

    Args:
        block: A row of the table.
    """
    widths = signatures.widths(block.load(), block.role) or ()
    others = [name for name in signatures.parameters(block.load()) if name not in widths]
    given = [
        {"k": 3, "s": 1}.get(name, 64 if not block.role.one_map else 256)
        for name in block.role.positional(widths, others)
    ]
    if block.role.takes_classes:
        given = ["nc"]
    return f"[-1, 1, {block.name}, [{', '.join(map(str, given))}]]"


def rows(block: Block) -> str:
    """Return example rows of a block as YAML: alone and, where it can stand there, inside a stage.

    Args:
        block: A row of the table.
    """
    lines = [f"- {row(block)}"]
    if block.role.inside:
        short = min((block.name, *block.aliases), key=len)
        how = {
            "replace": "for the second 3x3 convolution of each bottleneck",
            "follow": "after the second 3x3 convolution of each bottleneck",
        }[block.role.inside]
        lines += [f"# inside a stage, {how}:", f"- [-1, 3, C2f_{short}, [256, True]]"]
    return "\n".join(lines)


def paper(block: Block) -> str:
    """Return the address of a block's paper, ``""`` where none is known.

    Args:
        block: A row of the table.
    """
    if not block.paper or "://" in block.paper:
        return block.paper
    return f"https://arxiv.org/abs/{block.paper}"


def recipe(block: Block) -> str:
    """Return the recipe of a block of the pack, or the config where it stands without one.

    Args:
        block: A row of the table.
    """
    from yolograft.graft import recipes

    name = Path(block.config).stem.removeprefix("yolov8-")
    return name if name and recipes.find(recipes.BUILT_IN + name) else block.config


def find(word: str) -> Block | None:
    """Return the block of a name, an alias, a recipe or a config, in any case of letters.

    Args:
        word: What the user calls it.
    """
    exact = registry.find(word)
    if exact is not None:
        return exact
    low = word.lower()
    for block in registry.table():
        names = (block.name, *block.aliases, recipe(block), block.config)
        if low in {name.lower() for name in names if name}:
            return block
    return None
