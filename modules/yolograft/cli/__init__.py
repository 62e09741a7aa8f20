"""The ``yolograft`` command: blocks, grafts, training and validation, COCO data, installation."""

from __future__ import annotations

from yolograft.compare import interrupt  # noqa: F401

# isort: split

import argparse
import inspect
import os
import platform
import shutil
import subprocess
import sys
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from yolograft import __version__, files, registry
from yolograft.cli import compare
from yolograft.errors import ConfigError, refuse
from yolograft.training import run, watch
from yolograft.ultra import STAGES


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments; those of the process when left out.

    Returns:
        The exit status.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        with watch.together() if watch.launched() and "train" in given[:1] else nullcontext():
            return _run(argv)
    except ConfigError as error:
        sys.stderr.write(f"yolograft: {error}\n")
        return 2


class _Parser(argparse.ArgumentParser):
    """One whose errors know what was printed: other machines print it too."""

    def error(self, message: str):
        try:
            super().error(message)
        except SystemExit as error:
            error.text = message
            raise


def _run(argv: list[str] | None) -> int:
    parser = _Parser(
        prog="yolograft",
        description="Published blocks for any Ultralytics YOLO. Training, validation, prediction "
        "and export are the stock command's: yolo train model=yolov8n-sk.yaml data=shapes.yaml. "
        "`yolograft train` and `val` add COCO JSON by option, several machines, and the COCO table "
        "at the end.",
    )
    parser.add_argument("--version", action="version", version=f"yolograft {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show = commands.add_parser(
        "list",
        help="show the blocks that a model YAML can name",
        description="Show every block with its aliases, role, paper, config and limits. A block's "
        "row in a model YAML: [-1, 1, CBAM, [{reduction: 8}]]; inside a stage: [-1, 3, C2f_SK, "
        "[256, True]].",
    )
    show.add_argument("block", nargs="?", help="a name or alias: show its signature and docstring")
    doctor = commands.add_parser(
        "doctor",
        help="check that the stock `yolo` command knows the blocks",
        description="Check versions, the interpreter of `yolo`, the start-up line, the wrapped "
        "host functions, and that a small model builds. Exits with 1 and a remedy if not.",
    )
    patch = commands.add_parser(
        "patch",
        help="graft blocks into a model YAML or a checkpoint by a recipe",
        description="Write a model YAML or a checkpoint with blocks grafted into it, and print "
        "what changes. A checkpoint keeps all weights that can be carried. "
        "Recipes: a name (yours in ./recipes, then the pack's; builtin:NAME is the pack's) or a "
        "path. The same without a file: yolo train model=yolo11s-cbam.yaml data=coco8.yaml",
    )
    patch.add_argument(
        "base", help="a model YAML by name or path, such as yolo11n.yaml; or a checkpoint, best.pt"
    )
    patch.add_argument(
        "--recipe", required=True, metavar="NAME[,NAME...]", help="what to graft, as in sk,cbam"
    )
    patch.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where to write; if left out, BASE-RECIPE.yaml without the scale letter, or .pt",
    )
    patch.add_argument(
        "--warm",
        choices=["exact"],
        help="a gate for each block that a trained model would not survive unchanged: fine-tuning "
        "then starts from the same outputs",
    )
    patch.add_argument("--dry-run", action="store_true", help="print what changes, write nothing")
    patch.add_argument("--force", action="store_true", help="write over a file that exists")
    patch.set_defaults(run=_patch)
    doctor.set_defaults(run=lambda args: _doctor())
    show.set_defaults(run=lambda args: _show(args.block) if args.block else _list())
    _add_train(commands)
    _add_val(commands)
    _add_coco(commands)
    compare.add(commands)
    args, rest = parser.parse_known_args(argv)
    pairs = hasattr(args, "overrides")
    if rest and (not pairs or any(word.startswith("-") for word in rest)):
        hint = "; Ultralytics' own are written key=value, as in epochs=100" if pairs else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if rest:  # argparse takes positional arguments from one place only
        args.overrides = [*args.overrides, *rest]
    if hasattr(sys.stdout, "reconfigure"):  # what a terminal cannot show is written in escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    return args.run(args)


# ---------------------------------------------------------------------------------------- options

_TRAIN = """\
Train, validate after each epoch, and end with the COCO table of the best checkpoint. Everything
is the stock command's, `yolo train`, which the same data YAMLs serve too.

  yolograft train --model yolov8n-sk.yaml --data coco.yaml epochs=100 imgsz=640
  yolograft train --model yolov8n.yaml --pretrained yolov8n.pt --device 0,1 batch=64 \\
      --coco-train train.json --train-images train --coco-val val.json --val-images val
  yolograft train --resume runs/detect/train/weights/last.pt

What you leave out depends on the device: amp=True and up to eight workers on a GPU, neither on a
CPU; cache=False on both. batch is the sum over all GPUs.

Several machines, here two with eight GPUs each; the second says --node-rank 1, HOST is the first:

  torchrun --nnodes 2 --nproc-per-node 8 --node-rank 0 --master-addr HOST --master-port 29500 \\
      --no-python yolograft train --model yolov8n-sk.yaml --data coco.yaml batch=256

If one process stops, those on the other machines print its message and end within 30 seconds.
"""
_VAL = """\
Validate a checkpoint and print the COCO table; `yolo val` is the same.

  yolograft val --model best.pt --data coco.yaml
  yolograft val --model best.pt --coco-val val.json --val-images val imgsz=640 split=val
"""
_CHECK = """\
Read COCO JSON and look at each image: what it holds, what training would leave out or change and
why, and a contact sheet of images with their boxes, masks and keypoints. Several files, or a data
YAML that names them, are also compared: which images do they share?

  yolograft coco check instances_train.json --images train -o sheet.jpg
  yolograft coco check instances_train.json instances_val.json
  yolograft coco check my-coco.yaml --json

Exits with 0 if nothing is wrong, 1 if something was dropped, changed or is odd, 2 if the data set
cannot be used.
"""


def _add(commands: argparse._SubParsersAction, name: str, about: str, text: str):
    return commands.add_parser(
        name, help=about, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _add_train(commands: argparse._SubParsersAction) -> None:
    train = _add(commands, "train", "train on a data YAML or on COCO JSON", _TRAIN)
    train.add_argument("--model", help="a model YAML, or a checkpoint to train on from")
    train.add_argument(
        "--recipe", metavar="NAME[,NAME...]", help="graft blocks into the model YAML: sk,cbam"
    )
    _add_data(train, ("train", "val"))
    train.add_argument(
        "--pretrained", metavar="FILE", help="checkpoint whose weights are taken where they fit"
    )
    _add_device(train)
    train.add_argument("--seed", type=int, metavar="N", help="of weights and augmentation (0)")
    train.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="LAST.PT",
        help="go on with a run that was cut short: its last.pt, or the newest below this folder",
    )
    _add_overrides(train)
    train.set_defaults(run=run.train)


def _add_val(commands: argparse._SubParsersAction) -> None:
    val = _add(commands, "val", "validate on a data YAML or on COCO JSON", _VAL)
    val.add_argument("--model", help="a checkpoint, or an exported model")
    _add_data(val, ("val",))
    _add_device(val)
    _add_overrides(val)
    val.set_defaults(run=run.val)


def _add_coco(commands: argparse._SubParsersAction) -> None:
    coco = commands.add_parser("coco", help="look at a COCO data set")
    check = _add(
        coco.add_subparsers(dest="action", required=True, metavar="ACTION"),
        "check",
        "count what COCO JSON holds, list what is wrong, draw its images",
        _CHECK,
    )
    check.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="COCO instances JSON, or a data YAML that names some",
    )
    check.add_argument(
        "--images",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder of the images, one for all files or one each; left out: the usual layouts",
    )
    check.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the sheet here")
    check.add_argument("--json", action="store_true", help="print the counts and findings as JSON")
    _add_allow(check)
    check.set_defaults(run=_check_coco)


def _add_data(parser: argparse.ArgumentParser, splits: tuple[str, ...]) -> None:
    data = parser.add_argument_group(
        "data", "A YAML, or COCO JSON directly; give an option again for one more file."
    )
    data.add_argument("--data", metavar="YAML", help="data YAML, with COCO JSON or label files")
    for split in splits:
        data.add_argument(
            f"--coco-{split}", action="append", metavar="JSON", help=f"COCO JSON of {split}"
        )
        data.add_argument(
            f"--{split}-images",
            action="append",
            metavar="DIR",
            help="its images; left out: the usual layouts beside the JSON",
        )
    _add_allow(data)


def _add_allow(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="go without images that are not there; else more than 5%% of them end it",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", metavar="0|0,1|cpu", help="GPUs by number, or cpu (default: GPU 0 if any)"
    )


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="any argument of Ultralytics, as `yolo` reads it: epochs=100 imgsz=640 lr0=1e-3; "
        "`yolo cfg` lists them",
    )


# -------------------------------------------------------------------------------------------- coco


def _check_coco(args: argparse.Namespace) -> int:
    from yolograft.coco.check import check

    return check(args.files, args.images, args.output, args.allow_missing, args.json)


# -------------------------------------------------------------------------------------------- list


def _list() -> int:
    rows = [("block", "aliases", "role", "paper", "config")]
    rows += [
        (b.name, ", ".join(b.aliases), str(b.role), b.paper, b.config) for b in registry.table()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    print(f"\nInside a stage, as in C2f_SK: conv and attention blocks, in {', '.join(STAGES)}.")
    for block in registry.table():
        for condition, reason in block.limits.items():
            print(f"{block.name}: {condition}: {reason}")
    return 0


def _show(name: str) -> int:
    block = registry.find(name)
    if block is None:
        refuse(f"unknown block {name!r}", registry.suggest(name))
    cls = block.load()
    signature = str(inspect.signature(cls)).replace("'", "")  # annotations are strings
    print(f"{block.name}{signature}\n")
    print(inspect.getdoc(cls))
    facts = {"Aliases": ", ".join(block.aliases), "Role": block.role, "Config": block.config}
    print("\n" + "\n".join(f"{key}: {value}" for key, value in facts.items() if value))
    for condition, reason in block.limits.items():
        print(f"Limit: {condition}: {reason}")
    return 0


# ------------------------------------------------------------------------------------------- patch


def _patch(args: argparse.Namespace) -> int:
    from yolograft.config import scale
    from yolograft.graft import file as files_of
    from yolograft.graft import graft, preview
    from yolograft.warm import checkpoint

    trained = args.base.endswith(".pt")
    if trained and args.output:
        _check_output(Path(args.output), args.force, (".pt",))
    if trained:
        patched = checkpoint.patch(args.base, args.recipe, args.warm)
        result = patched.graft
        names = "+".join(one.name for one in result.recipes)
        name = f"{Path(args.base).stem}-{names}.pt"
    else:
        result = graft(args.base, args.recipe, args.warm)
        name = scale.file_name(result.config)
    file = Path(args.output or name)
    if not args.dry_run:
        _check_output(file, args.force, (".pt",) if trained else (".yaml", ".yml"))
    note = "" if trained else files_of.about_scale(result, file)
    print(preview.text(result))
    if trained:
        print(f"\n{patched.report}")
    if not args.dry_run:
        if trained:
            checkpoint.save(patched, file)
        else:
            text = files_of.text(result, file)
            files.write(file, text)
        print(f"\nwrote {file}")
    if note:
        print(note)
    return 0


def _check_output(file: Path, force: bool, suffixes: tuple[str, ...]) -> None:
    if file.suffix not in suffixes:
        kind = "checkpoint" if ".pt" in suffixes else "model YAML"
        refuse(f"{file}: the name of a {kind} ends in {suffixes[0]}", "use such a name")
    if not os.path.isdir(file.parent):
        refuse(f"{file}: there is no folder {file.parent}", "make it first")
    if file.exists() and not (force and file.is_file()):
        refuse(f"{file}: it exists", "use --force to write over it, or another name")


# ------------------------------------------------------------------------------------------ doctor


def _doctor() -> int:
    print(f"python       {platform.python_version()}  {sys.executable}")
    for name in ("yolograft", "ultralytics", "torch", "torchvision"):
        try:
            print(f"{name:<12} {version(name)}")
        except PackageNotFoundError:
            print(f"{name:<12} not installed")
    problems = 0
    for title, check in (
        ("`yolo` on the PATH", _check_command),
        ("start-up line", _check_autoload),
        ("host functions", _check_wraps),
        ("small model", _check_model),
    ):
        remedy = check()
        print(f"{'ok ' if not remedy else 'BAD'} {title}" + (f": {remedy}" if remedy else ""))
        problems += bool(remedy)
    return 1 if problems else 0


def _check_command() -> str:
    """Return a remedy if ``yolo`` belongs to another Python than this one."""
    command = shutil.which("yolo")
    if command is None:
        return "there is none; run `pip install ultralytics` in this environment"
    first = Path(command).read_bytes().split(b"\n", 1)[0].decode(errors="replace")
    other = first.removeprefix("#!").strip().strip('"')
    here = Path(sys.executable).parent.resolve()
    if here in (Path(command).parent.resolve(), Path(other).parent.resolve()):
        return ""
    return (
        f"{command} runs {other or 'another Python'}, not {sys.executable}; install yolograft "
        f"there: `{other or 'python'} -m pip install yolograft`"
    )


def _check_autoload() -> str:
    """Return a remedy if a fresh Python does not load yolograft by itself."""
    if os.environ.get("YOLOGRAFT_AUTOLOAD") == "0":
        return "YOLOGRAFT_AUTOLOAD=0 switches it off; unset it, or `import yolograft` yourself"
    fresh = subprocess.run(
        [sys.executable, "-c", "import sys; sys.exit('yolograft' not in sys.modules)"],
        cwd=Path(sys.executable).parent,
        check=False,
    )
    if fresh.returncode == 0:
        return ""
    return "a fresh Python does not load yolograft; run `pip install --force-reinstall yolograft`"


def _check_wraps() -> str:
    """Return a remedy if a host function is not wrapped."""
    try:
        import ultralytics.models.yolo
        import ultralytics.nn.tasks  # noqa: F401
    except Exception as error:
        return f"ultralytics does not import ({error}); run `pip install -U ultralytics`"
    from yolograft.hooks import STATUS

    for target, reason in STATUS.items():
        print(f"    {'wrapped' if reason is None else 'left  '}  {target.replace(':', '.')}")
    bad = [reason for reason in STATUS.values() if reason]
    if not STATUS:
        bad = ["none was wrapped"]
    return f"{'; '.join(bad)}; run `pip install -U yolograft ultralytics`" if bad else ""


def _check_model() -> str:
    """Return a remedy if a grafted model does not build and run."""
    try:
        import torch
        from ultralytics.nn.tasks import DetectionModel

        model = DetectionModel("yolov8n-sk.yaml", verbose=False).eval()
        with torch.no_grad():
            model(torch.zeros(1, 3, 64, 64))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
