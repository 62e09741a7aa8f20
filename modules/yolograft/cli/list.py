"""Show the blocks that a model YAML can name.

Each block with its aliases, role, paper, config and limits. A block's row in a model YAML:
[-1, 1, CBAM, [{reduction: 8}]]; inside a stage: [-1, 3, C2f_SK, [256, True]].
"""

from __future__ import annotations

import argparse
import inspect

from yolograft.cli import _options
from yolograft.errors import refuse
from yolograft.tables import aligned


def add(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand.

    Args:
        commands: Of the ``yolograft`` command.
    """
    parser = _options.command(commands, "list", __doc__, main)
    parser.add_argument(
        "block", nargs="?", help="a name or alias: show its signature and docstring"
    )


def main(args: argparse.Namespace) -> int:
    """Print all blocks, or one; return the exit status."""
    print(_one(args.block) if args.block else _all())
    return 0


def _all() -> str:
    from yolograft import registry, ultra

    rows = [("block", "aliases", "role", "paper", "config")]
    rows += [
        (b.name, ", ".join(b.aliases), str(b.role), b.paper, b.config) for b in registry.table()
    ]
    lines = [aligned(rows), ""]
    lines.append(
        f"Inside a stage, as in C2f_SK: conv and attention blocks, in {', '.join(ultra.STAGES)}."
    )
    for block in registry.table():
        lines += [f"{block.name}: {case}: {why}" for case, why in block.limits.items()]
    return "\n".join(lines)


def _one(name: str) -> str:
    from yolograft import registry

    block = registry.find(name)
    if block is None:
        refuse(f"unknown block {name!r}", registry.suggest(name))
    cls = block.load()
    signature = str(inspect.signature(cls)).replace("'", "")  # annotations are strings
    lines = [f"{block.name}{signature}", "", inspect.getdoc(cls) or "", ""]
    facts = {"Aliases": ", ".join(block.aliases), "Role": str(block.role), "Config": block.config}
    lines += [f"{key}: {value}" for key, value in facts.items() if value]
    lines += [f"Limit: {case}: {why}" for case, why in block.limits.items()]
    return "\n".join(lines)
