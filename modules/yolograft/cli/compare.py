"""``yolograft compare``: arguments in, exit status out."""

from __future__ import annotations

import argparse
import contextlib
import errno
import shlex
import sys

from yolograft.compare import interrupt
from yolograft.errors import ConfigError, refuse

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

A comparison that was stopped, or killed, continues when the same command is started again. Variants
and seeds may be added or removed: finished runs are kept. With other settings or versions, finished
runs are never trained over: choose another --project, or add --force, which first moves them to the
folder `aside` of the project.

Exits with 0 if all runs finished, 1 if one failed, 2 if there is nothing to run or something has to
be decided first, 130 after Ctrl-C.
"""

#: What to do about a folder that takes no files.
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space and start it again"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "make it writable, or choose another --project"
    ),
}


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
    add_option("--device", metavar="0|0,1|cpu", help="one run at a time on each (all GPUs)")
    add_option(
        "--jobs-per-device", type=int, default=1, metavar="N", help="runs at a time on each (1)"
    )
    add_option("--ray", metavar="ADDRESS", help="run on this Ray cluster, as in auto")
    add_option(
        "--allow-unequal-starts",
        action="store_true",
        help="compare variants from trained weights with variants from scratch; the report says so",
    )
    add_option(
        "--force",
        action="store_true",
        help="move finished runs of other settings or versions to DIR/aside, and train again",
    )
    add_option(
        "--dry-run",
        action="store_true",
        help="print plan, finished runs, time and disk; train, download and write nothing",
    )
    parser.set_defaults(run=main)


def main(args: argparse.Namespace) -> int:
    """Plan, run and report a comparison.

    Args:
        args: Parsed.
    """
    try:
        return _main(args)
    except BaseException as error:
        if interrupt.came() or isinstance(error, KeyboardInterrupt):
            return interrupt.end()
        if not isinstance(error, OSError) or error.errno not in _REMEDIES:
            raise
        msg = f"{error.filename or 'the comparison'}: {error.strerror}"
        msg += f"\n\nHint: {_REMEDIES[error.errno]}; finished runs are kept"
        raise ConfigError(msg) from error


def _main(args: argparse.Namespace) -> int:
    _check_packages()
    with _offline() if args.dry_run else contextlib.nullcontext():
        plan = _plan(args)
        if args.dry_run:
            from yolograft.compare import probe

            print(probe.text(plan))
            return 0
    from yolograft.compare import report, run

    engine = _engine(args, plan)
    for note in filter(None, (*plan.notes, plan.unequal)):
        print(note)
    failed = run.run(plan, engine, args.force)
    print(report.write(plan.project))
    if failed:
        sys.stderr.write(f"yolograft: failed: {', '.join(failed)}\n")
    return 1 if failed else 0


def _check_packages() -> None:
    try:
        import scipy  # noqa: F401
    except ImportError:
        hint = 'install what it needs: pip install "yolograft[compare]"'
        refuse("SciPy is not installed, and `yolograft compare` needs it", hint)


def _plan(args: argparse.Namespace):
    from yolograft import pairs
    from yolograft.compare import plan as planning

    given, files = pairs.read(args.overrides)
    for word in files:
        if not word.endswith((".yaml", ".yml")):
            hint = "a plan file ends in .yaml; write a list without spaces: --recipes sk,ca"
            refuse(f"{word!r} is neither a plan file nor key=value", hint)
    if len(files) > 1:
        refuse(f"{' and '.join(files)}: a comparison has one plan", "give one file")
    if args.jobs_per_device < 1:
        refuse(
            f"--jobs-per-device {args.jobs_per_device}: must be a positive integer", "1 is usual"
        )
    content = planning.read(files[0]) if files else {}
    for name in ("base", "data", "seeds", "epochs", "project"):
        if getattr(args, name) is not None:
            content[name] = getattr(args, name)
    if "epochs" in given and args.epochs is None:
        content["epochs"] = given.pop("epochs")
    if args.device is not None and str(given.setdefault("device", args.device)) != args.device:
        refuse(f"--device {args.device} and device={given['device']} differ", "give one of them")
    recipes = [name.strip() for name in (args.recipes or "").split(",") if name.strip()]
    for name, hint in (("base", "--base yolo11n.yaml"), ("data", "--data coco8.yaml")):
        if not content.get(name):
            refuse(f"there is no {name}", f"give {hint}, or a plan file")
    return planning.make(
        content["base"],
        [*content.get("variants", []), *recipes],
        content["data"],
        content.get("seeds", 3),
        content.get("epochs", 100),
        content.get("project", "runs/compare"),
        {**content.get("settings", {}), **given},
        shlex.join(["yolograft", "compare", *_words(args)]),
        not args.dry_run,
        args.allow_unequal_starts,
    )


@contextlib.contextmanager
def _offline():
    """Keep this process off the network: Ultralytics looks for fonts, and whether it is online."""
    import socket

    def refused(*args, **kwargs):
        msg = "a dry run does not use the network"
        raise OSError(msg)

    usual, socket.getaddrinfo = socket.getaddrinfo, refused
    try:
        yield
    finally:
        socket.getaddrinfo = usual


def _engine(args: argparse.Namespace, plan):
    if args.ray:
        from yolograft.compare.cluster import Cluster

        return Cluster(args.ray, plan.devices[0], args.jobs_per_device)
    from yolograft.compare.process import Local

    return Local(plan.devices, args.jobs_per_device)


def _words(args: argparse.Namespace) -> list[str]:
    named = ("base", "recipes", "data", "seeds", "epochs", "project", "device", "ray")
    options = [(f"--{n}", getattr(args, n)) for n in named if getattr(args, n) is not None]
    if args.jobs_per_device > 1:
        options.append(("--jobs-per-device", args.jobs_per_device))
    if args.allow_unequal_starts:
        options.append(("--allow-unequal-starts",))
    return [*(str(part) for option in options for part in option), *args.overrides]
