"""Graft blocks into a model YAML or a checkpoint by a recipe.

Writes a model YAML, or a checkpoint that keeps all weights that can be carried,
and prints what changes. A recipe is a name (first yours in ./recipes, then
those that come with yolograft, which builtin:NAME also means) or a path.

  yolograft patch yolo11n.yaml --recipe sk,cbam --plot graph.svg
  yolograft patch best.pt --recipe cbam --warm exact
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from yolograft import files
from yolograft.cli import _options, _screen
from yolograft.errors import refuse


def add(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand.

    Args:
        commands: Of the ``yolograft`` command.
    """
    parser = _options.command(commands, "patch", __doc__, main)
    add_option = parser.add_argument
    add_option(
        "base", help="a model YAML by name or path, such as yolo11n.yaml; or a checkpoint, best.pt"
    )
    add_option(
        "--recipe", required=True, metavar="NAME[,NAME...]", help="what to graft, as in sk,cbam"
    )
    add_option(
        "-o",
        "--output",
        metavar="FILE",
        help="where to write; if left out, BASE-RECIPE.yaml without the scale letter, or .pt",
    )
    add_option(
        "--warm",
        choices=["exact"],
        help="put a residual gate on each block that would change the outputs of a trained model: "
        "fine-tuning then starts from the same outputs",
    )
    add_option(
        "--plot", metavar="FILE.svg", help="draw the model before and after, changed rows coloured"
    )
    add_option("--dry-run", action="store_true", help="print what changes, write no model")
    add_option("--force", action="store_true", help="overwrite a file that exists")


def main(args: argparse.Namespace) -> int:
    """Graft, print the preview and write the file; return the exit status."""
    with _screen.working("Loading Ultralytics"):
        from yolograft.config import scale
        from yolograft.graft import file as model_yaml
        from yolograft.graft import graft, plot, preview
        from yolograft.warm import checkpoint

    trained = args.base.endswith(".pt")
    suffixes = (".pt",) if trained else (".yaml", ".yml")
    if args.plot:
        _check_output(Path(args.plot), args.force, (".svg",))
    if trained:
        if args.output:
            _check_output(Path(args.output), args.force, suffixes)
        with _screen.working(f"Grafting {args.recipe} into {args.base}"):
            patched = checkpoint.patch(args.base, args.recipe, args.warm)
        result = patched.graft
        name = f"{Path(args.base).stem}-{'+'.join(one.name for one in result.recipes)}.pt"
    else:
        result = graft(args.base, args.recipe, args.warm)
        name = scale.file_name(result.config)
    file = Path(args.output or name)
    if not args.dry_run:
        _check_output(file, args.force, suffixes)
    note = "" if trained else model_yaml.about_scale(result, file)
    with _screen.working("Counting parameters and FLOPs"):
        title, rows, totals = preview.table(result)
    _screen.text(title, "bold")
    _screen.table(rows, right=preview.RIGHT)
    _screen.text(totals)
    if trained:
        print(f"\n{patched.report}")
    if not args.dry_run:
        if trained:
            checkpoint.save(patched, file)
        else:
            files.write(file, model_yaml.text(result, file))
        print(f"\nwrote {file}")
    if args.plot:
        files.write(Path(args.plot), plot.svg(result))
        print(f"\nwrote {args.plot}" if args.dry_run else f"wrote {args.plot}")
    if note:
        print(note)
    return 0


def _check_output(file: Path, force: bool, suffixes: tuple[str, ...]) -> None:
    if file.suffix not in suffixes:
        kind = {".pt": "checkpoint", ".svg": "plot"}.get(suffixes[0], "model YAML")
        refuse(f"{file}: the name of a {kind} ends in {suffixes[0]}", "use such a name")
    if not os.path.isdir(file.parent):
        refuse(f"{file}: there is no folder {file.parent}", "create it first")
    if file.exists() and not (force and file.is_file()):
        refuse(f"{file}: it exists", "use --force to overwrite it, or another name")
