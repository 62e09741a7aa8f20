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
from yolograft.errors import ConfigError, nearest, refuse
from yolograft.files import CFG


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
        show(_find(args.recipe))
        return 0
    rows, wrong = [("recipe", "blocks", "what it does")], 0
    mine = {name for name in recipes.names() if _is_mine(recipes.find(name))}
    for name in sorted(recipes.names(), key=lambda one: (one not in mine, one)):
        title = name + " (yours)" * (name in mine)
        try:
            recipe = recipes.load(name)
        except ConfigError as error:  # the others are shown all the same
            wrong += 1
            rows.append((title, "", f"cannot be used: {error}"))
            continue
        about = re.sub(r" \(https?://\S+\)", "", recipe.about)
        blocks = dict.fromkeys(step.label for step in recipe.steps if step.label)
        rows.append((title, ", ".join(blocks), about))
    _screen.table(rows, first="cyan")
    print()
    _screen.steps(
        ("One recipe", "yolograft recipes cbam"),
        ("In any model", "yolo train model=yolo11n-cbam.yaml data=shapes.yaml"),
        ("Two recipes", "yolo train model=yolo11n-sk+cbam.yaml data=shapes.yaml"),
    )
    return 1 if wrong else 0


def _find(word: str) -> str:
    """Return the recipe that a user means: its name in any case of letters, its path, or a block's.

    Args:
        word: What was given.

    Raises:
        ConfigError: If there is none.
    """
    from yolograft import describe
    from yolograft.graft import recipes

    if recipes.find(word):
        return word
    known = recipes.names()
    block = describe.find(word)
    for name in filter(None, (word, block and describe.recipe(block))):
        if name.lower() in {one.lower() for one in known}:
            return next(one for one in known if one.lower() == name.lower())
    refuse(
        f"unknown recipe {word!r}", nearest(word, known) or f"the recipes are {', '.join(known)}"
    )


def _is_mine(file: str | None) -> bool:
    return Path(file or "").parent.resolve() == Path("recipes").resolve()


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
    _screen.title(f"Steps ({recipe.file})")
    steps = re.search(r"^steps:.*", content, re.MULTILINE | re.DOTALL)
    _screen.code((steps[0] if steps else content).rstrip(), "yaml")
    _screen.title("Use it")
    known = recipe.name in recipes.names()
    given = recipe.name if known else name
    train = f"yolo train model=yolo11n-{recipe.name}.yaml data=shapes.yaml"
    _screen.steps(
        ("See the change", f"yolograft patch yolo11n.yaml --recipe {given} --dry-run"),
        *[("Train", train)] * known,
        ("From your weights", f"yolograft patch best.pt --recipe {given} --warm exact"),
    )
    config = f"yolov8-{recipe.name}.yaml"
    if (CFG / config).is_file() and not _is_mine(recipe.file):
        print()
        _screen.text(f"As a model YAML of the pack: {config}")
