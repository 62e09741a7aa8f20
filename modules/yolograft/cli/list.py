"""Show the blocks that a model YAML can name.

Without a name, all blocks by role. With one, what the block does, its row to
paste into a model YAML, its arguments, recipe and paper. A name is that of a
block, an alias, a recipe or a config.

  yolograft list
  yolograft list sk
"""

from __future__ import annotations

import argparse
import inspect

from yolograft.cli import _options, _screen
from yolograft.errors import nearest, refuse


def add(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand.

    Args:
        commands: Of the ``yolograft`` command.
    """
    parser = _options.command(commands, "list", __doc__, main)
    parser.add_argument("block", nargs="?", help="a block, an alias, a recipe or a config")


def main(args: argparse.Namespace) -> int:
    """Print all blocks, or one; return the exit status."""
    with _screen.working("Loading the blocks"):
        from yolograft import describe
        from yolograft.graft import recipes

        block = describe.find(args.block) if args.block else None
    if block:
        _one(block)
    elif args.block and recipes.find(args.block):
        from yolograft.cli import recipes as command

        command.show(args.block)  # a recipe of several blocks
    elif args.block:
        _refuse(args.block)
    else:
        _all()
    return 0


def _refuse(name: str) -> None:
    from yolograft import registry
    from yolograft.graft import recipes

    known = [*recipes.names(), *registry.names()]
    refuse(f"unknown block {name!r}", nearest(name, known) or "`yolograft list` shows all blocks")


def _all() -> None:
    from yolograft import describe, registry, ultra

    blocks = list(registry.table())
    for role in dict.fromkeys(block.role for block in blocks):
        _screen.text(f"{role.name}: {role.about}", "bold")
        rows = [
            (
                block.name,
                ", ".join(block.aliases),
                describe.recipe(block),
                describe.plain(describe.read(block).about).removesuffix("."),
            )
            for block in blocks
            if block.role is role
        ]
        _screen.table([("block", "alias", "recipe or config", "what it does"), *rows], indent=2)
        print()
    _screen.text(
        "Inside a stage, as in C2f_SK: attention and conv blocks, in " + ", ".join(ultra.STAGES)
    )
    print()
    print("One block:         yolograft list CBAM")
    print("In any model:      yolo train model=yolo11n-cbam.yaml data=shapes.yaml")
    print("What that changes: yolograft patch yolo11n.yaml --recipe cbam --dry-run")


def _one(block) -> None:
    from yolograft import describe

    cls, parts = block.load(), describe.read(block)
    signature = str(inspect.signature(cls)).replace("'", "")  # annotations are strings
    _screen.text(f"{block.name}{signature}", "bold")
    print()
    _screen.text(describe.plain(parts.about))
    for paragraph in parts.body:
        print()
        words, literal, formula = paragraph.partition("::\n\n")
        _screen.text(describe.plain(words) + (":" if literal else ""))
        if literal:
            print()
            print(formula)
    print("\nRow:\n")
    _screen.code(describe.rows(block), "yaml")
    if parts.arguments:
        print()
        arguments = [(n, d, describe.plain(meaning)) for n, d, meaning in parts.arguments]
        _screen.table([("argument", "default", "meaning"), *arguments])
    print()
    recipe = describe.recipe(block)
    facts = {
        "role": f"{block.role.name}: {block.role.about}",
        "aliases": ", ".join(block.aliases),
        "recipe": "" if recipe.endswith(".yaml") else f"{recipe}, as in yolo11n-{recipe}.yaml",
        "config": block.config,
        "paper": describe.paper(block),
    }
    _screen.table([(key, value) for key, value in facts.items() if value], head=False)
