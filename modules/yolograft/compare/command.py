"""``yolograft compare``: arguments in, exit status out."""

from __future__ import annotations

import argparse
import errno
import shlex
import sys

from yolograft.registry import ConfigError, refuse

DESCRIPTION = """\
Train a base, variants of it and a scale-up control on equal terms, several seeds each, and write
one page about it: AP with paired intervals, size, speed, curves, examples.

  yolograft compare --base yolo11n.yaml --recipes sk,cbam,spd --data coco.yaml --seeds 3 epochs=100
  yolograft compare plan.yaml
  yolograft compare plan.yaml --dry-run

A plan file has the same as the options, and variants of any kind:

  base: yolo11n.yaml
  variants:
    - sk                                  # a recipe, or two: sk+cbam
    - my-yolo11n.yaml                     # a model YAML, or a checkpoint
    - {name: mine, model: other.yaml}
  data: coco.yaml
  seeds: 3
  epochs: 100
  settings: {imgsz: 640}

A comparison that was stopped, or killed, goes on when the same command is started again. Exits with
0 if all runs finished, 1 if one failed, 2 if there is nothing to run.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand.

    Args:
        commands: Of the ``yolograft`` command.
    """
    parser = commands.add_parser(
        "compare",
        help="compare variants of a model fairly: AP, size, speed, over seeds",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="PLAN.yaml | key=value",
        help="a plan file; training arguments for all runs, as in imgsz=640 device=0,1",
    )
    add_option = parser.add_argument
    add_option("--base", metavar="MODEL", help="a model YAML by name or path, or a checkpoint")
    add_option(
        "--recipes", metavar="NAME[,NAME...]", help="one variant each; sk+cbam is one of two"
    )
    add_option("--data", metavar="YAML", help="a data YAML")
    add_option("--seeds", type=int, metavar="N", help="runs of each variant (3)")
    add_option("--epochs", type=int, metavar="N", help="of each run (100)")
    add_option("--project", metavar="DIR", help="folder of the comparison (runs/compare)")
    add_option(
        "--jobs-per-device", type=int, default=1, metavar="N", help="runs at a time on each (1)"
    )
    add_option("--ray", metavar="ADDRESS", help="run on this Ray cluster, as in auto")
    add_option("--dry-run", action="store_true", help="print plan, time and disk; train nothing")
    parser.set_defaults(run=main)


def main(args: argparse.Namespace) -> int:
    """Plan, run and report a comparison.

    Args:
        args: Parsed.
    """
    from yolograft.compare import plan as planning

    files = [word for word in args.overrides if "=" not in word]
    words = [word for word in args.overrides if "=" in word]
    if len(files) > 1:
        refuse(f"{' and '.join(files)}: a comparison has one plan", "give one file")
    if args.jobs_per_device < 1:
        refuse(f"--jobs-per-device {args.jobs_per_device} is no count", "give 1 or more")
    content = planning.read(files[0]) if files else {}
    for name in ("base", "data", "seeds", "epochs", "project"):
        if getattr(args, name) is not None:
            content[name] = getattr(args, name)
    given = planning.parse_overrides(words)
    if "epochs" in given and args.epochs is None:
        content["epochs"] = given.pop("epochs")
    recipes = [name for name in (args.recipes or "").split(",") if name]
    for name, hint in (("base", "--base yolo11n.yaml"), ("data", "--data coco8.yaml")):
        if not content.get(name):
            refuse(f"there is no {name}", f"give {hint}, or a plan file")
    plan = planning.make(
        content["base"],
        [*content.get("variants", []), *recipes],
        content["data"],
        content.get("seeds", 3),
        content.get("epochs", 100),
        content.get("project", "runs/compare"),
        {**content.get("settings", {}), **given},
        shlex.join(["yolograft", "compare", *_words(args, words, files)]),
    )
    if args.dry_run:
        from yolograft.compare import probe

        print(probe.text(plan, probe.seconds(plan)))
        return 0
    from yolograft.compare import report, run

    engine = _engine(args, plan)
    for note in plan.notes:
        print(note)
    try:
        failed = run.run(plan, engine)
        print(report.write(plan.project))
    except KeyboardInterrupt:
        sys.stderr.write("yolograft: stopped; the same command goes on from here\n")
        return 130
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        hint = "make room and start the same command again: it goes on"
        msg = f"{plan.project}: the disk is full\n\nHint: {hint}"
        raise ConfigError(msg) from error
    if failed:
        sys.stderr.write(f"yolograft: failed: {', '.join(failed)}\n")
    return 1 if failed else 0


def _engine(args: argparse.Namespace, plan):
    if args.ray:
        from yolograft.compare.cluster import Cluster

        return Cluster(args.ray, plan.devices[0], args.jobs_per_device)
    from yolograft.compare.run import Local

    return Local(plan.devices, args.jobs_per_device)


def _words(args: argparse.Namespace, words: list[str], files: list[str]) -> list[str]:
    named = ("base", "recipes", "data", "seeds", "epochs", "project", "ray")
    options = [(f"--{n}", getattr(args, n)) for n in named if getattr(args, n) is not None]
    if args.jobs_per_device > 1:
        options.append(("--jobs-per-device", args.jobs_per_device))
    return [*files, *(str(part) for pair in options for part in pair), *words]
