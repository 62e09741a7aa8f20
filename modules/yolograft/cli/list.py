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
    from yolograft import registry, ultra

    head = ("block", "alias", "recipe", "what it does")
    rows = {block: _row(block) for block in registry.table()}
    among = [head, *rows.values()]
    _screen.table([head], indent=2, among=among)
    for role in dict.fromkeys(block.role for block in rows):
        print()
        _screen.text(f"{role.name}: {role.about}", "bold yellow")
        of_role = [row for block, row in rows.items() if block.role is role]
        _screen.table(of_role, head=False, indent=2, among=among, first="cyan")
    print()
    _screen.text(
        "Inside a stage, as in C2f_SK: attention and conv blocks, in " + ", ".join(ultra.STAGES)
    )
    print()
    _screen.steps(
        ("One block", "yolograft list CBAM"),
        ("In any model", "yolo train model=yolo11n-cbam.yaml data=shapes.yaml"),
        ("What that changes", "yolograft patch yolo11n.yaml --recipe cbam --dry-run"),
    )


def _row(block) -> tuple[str, ...]:
    from yolograft import describe

    recipe = describe.recipe(block)
    about = describe.plain(describe.read(block).about).removesuffix(".")
    if recipe.endswith(".yaml"):  # it stands in a config of the pack, and has no recipe
        recipe, about = "", f"{about} (in {recipe})"
    return block.name, ", ".join(block.aliases), recipe, about


def _one(block) -> None:
    from yolograft import describe

    cls, parts = block.load(), describe.read(block)
    given = inspect.signature(cls).parameters.values()
    _screen.signature(block.name, [str(one).replace("'", "") for one in given])
    print()
    _screen.text(describe.plain(parts.about))
    for paragraph in parts.body:
        print()
        words, literal, formula = paragraph.partition("::\n\n")
        _screen.text(describe.plain(words) + (":" if literal else ""))
        if literal:
            print()
            _screen.text(formula, "green", fold=False)
    _screen.title("Row")
    _screen.code(describe.rows(block), "yaml")
    if parts.arguments:
        _screen.title("Arguments")
        arguments = [(n, d, describe.plain(meaning)) for n, d, meaning in parts.arguments]
        _screen.table([("argument", "default", "meaning"), *arguments], first="cyan")
    _screen.title("Where it is")
    recipe = describe.recipe(block)
    facts = {
        "role": f"{block.role.name}: {block.role.about}",
        "aliases": ", ".join(block.aliases),
        "recipe": "" if recipe.endswith(".yaml") else f"{recipe}, as in yolo11n-{recipe}.yaml",
        "config": block.config,
        "paper": describe.paper(block),
    }
    _screen.table([(key, value) for key, value in facts.items() if value], head=False, first="cyan")
