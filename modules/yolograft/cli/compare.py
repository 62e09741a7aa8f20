"""Compare variants of a model fairly, and write one page about it.

The base, its variants and a scale-up control are trained on equal terms, each
with several seeds. The page has AP with paired intervals, size, speed, curves
and examples.

  yolograft compare --base yolo11n.yaml --recipes sk,cbam --data coco.yaml
  yolograft compare plan.yaml --dry-run

A plan file has the same as the options, and variants of any kind:

  base: yolo11n.yaml
  variants:
    - sk                # a recipe, or two: sk+cbam
    - my-yolo11n.yaml   # a model YAML, or a checkpoint
    - {name: mine, model: other.yaml}
  data: coco.yaml
  seeds: 3
  epochs: 100
  settings: {imgsz: 640}

A comparison that was stopped, or killed, continues when the same command is
started again. Variants and seeds may be added or removed: finished runs are
kept. With other settings or versions, finished runs are never trained over:
choose another --project, or add --force, which first moves them to the folder
`aside` of the project.

Exits with 0 if all runs finished, 1 if one failed, 2 if there is nothing to run
or something has to be decided first, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import shlex
import sys

from yolograft import install
from yolograft.cli import _options
from yolograft.compare import interrupt
from yolograft.errors import ConfigError, refuse

#: Options with a value: name, what to give, help.
_VALUES = (
    ("base", "MODEL", "a model YAML by name or path, or a checkpoint"),
    ("recipes", "NAME[,NAME...]", "one variant each; sk+cbam is one of two"),
    ("data", "YAML", "a data YAML"),
    ("seeds", "N", "runs of each variant (3)"),
    ("epochs", "N", "of each run (100)"),
    ("project", "DIR", "folder of the comparison (runs/compare)"),
    ("device", "0|0,1|cpu", "one run at a time on each (all GPUs)"),
    ("ray", "ADDRESS", "run on this Ray cluster, as in auto"),
    ("jobs-per-device", "N", "runs at a time on each device (1)"),
)
_SWITCHES = {
    "allow-unequal-starts": "compare variants from trained weights with variants from scratch; the "
    "report says so",
    "force": "move finished runs of other settings or versions to DIR/aside, and train again",
    "dry-run": "print plan, finished runs, time and disk; train, download and write nothing",
}

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
    parser = _options.command(commands, "compare", __doc__, main)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="PLAN.yaml | key=value",
        help="a plan file; training arguments for all runs, as in imgsz=640 device=0,1",
    )
    for name, metavar, text in _VALUES:
        kind = int if metavar == "N" else str
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=text)
    for name, text in _SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)


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
        hint = f"install what it needs: {install.line('compare')}"
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
    each = args.jobs_per_device
    if each is not None and each < 1:
        refuse(f"--jobs-per-device {each}: must be a positive integer")
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
        _command(args),
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
    from yolograft.compare import cluster, process

    each = args.jobs_per_device or 1
    if args.ray:
        return cluster.Cluster(args.ray, plan.devices[0], each)
    return process.Local(plan.devices, each)


def _command(args: argparse.Namespace) -> str:
    """Return the command, without what only this start of it asks for."""
    words = ["yolograft", "compare"]
    for name, *_ in _VALUES:
        if (value := getattr(args, name.replace("-", "_"))) is not None:
            words += [f"--{name}", str(value)]
    words += ["--allow-unequal-starts"] if args.allow_unequal_starts else []
    return shlex.join([*words, *args.overrides])
