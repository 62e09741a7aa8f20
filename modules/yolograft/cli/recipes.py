"""Show the recipes: where each puts its blocks in a model.

Without a name, all recipes: those of ./recipes first, then those that come
with yolograft. With one, its steps, and commands that use it.

  yolograft recipes
  yolograft recipes cbam
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from yolograft.cli import _options, _screen
from yolograft.errors import nearest, refuse


def add(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand.

    Args:
        commands: Of the ``yolograft`` command.
    """
    parser = _options.command(commands, "recipes", __doc__, main)
    parser.add_argument("recipe", nargs="?", help="a recipe, by name or path")


def main(args: argparse.Namespace) -> int:
    """Print all recipes, or one; return the exit status."""
    with _screen.working("Loading the recipes"):
        from yolograft.graft import recipes
    if args.recipe:
        if not recipes.find(args.recipe):
            known = recipes.names()
            hint = nearest(args.recipe, known) or f"there are {', '.join(known)}"
            refuse(f"unknown recipe {args.recipe!r}", hint)
        show(args.recipe)
        return 0
    rows = [("recipe", "blocks", "what it does")]
    for name in recipes.names():
        recipe = recipes.load(name)
        about = re.sub(r" \(https?://\S+\)", "", recipe.about)
        mine = Path(recipe.file).parent.resolve() == Path("recipes").resolve()
        blocks = dict.fromkeys(step.label for step in recipe.steps if step.label)
        rows.append((name + " (yours)" * mine, ", ".join(blocks), about))
    _screen.table(rows)
    print()
    print("One recipe:   yolograft recipes cbam")
    print("In any model: yolo train model=yolo11n-cbam.yaml data=shapes.yaml")
    print("Two recipes:  yolo train model=yolo11n-sk+cbam.yaml data=shapes.yaml")
    return 0


def show(name: str) -> None:
    """Print a recipe.

    Args:
        name: Its name or path.
    """
    from yolograft.graft import recipes

    recipe = recipes.load(name)
    _screen.text(recipe.name, "bold")
    for paragraph in filter(None, (recipe.about, recipe.why)):
        print()
        _screen.text(paragraph + "." * (paragraph[-1] != "."))
    content = Path(recipe.file).read_text(encoding="utf-8")
    print(f"\nSteps, of {recipe.file}:\n")
    steps = re.search(r"^steps:.*", content, re.MULTILINE | re.DOTALL)
    _screen.code((steps[0] if steps else content).rstrip(), "yaml")
    print()
    known = recipe.name in recipes.names()
    given = recipe.name if known else name
    print(f"See the change:    yolograft patch yolo11n.yaml --recipe {given} --dry-run")
    if known:
        print(f"Train:             yolo train model=yolo11n-{recipe.name}.yaml data=shapes.yaml")
    print(f"From your weights: yolograft patch best.pt --recipe {given} --warm exact")
