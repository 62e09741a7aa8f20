"""What is compared: the base, its variants and a scale-up control; what cannot be is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from yolograft import __version__
from yolograft.compare import data as datasets
from yolograft.config.check import check_evaluated
from yolograft.errors import ConfigError, nearest, refuse
from yolograft.graft import make as grafts
from yolograft.graft import preview, recipes
from yolograft.ultra import without_weights

#: Format of the records; one of another format does not count.
FORMAT = 1

#: What every run gets unless the user says otherwise.
DEFAULTS = {"deterministic": True, "plots": False, "patience": 0, "imgsz": 640, "batch": 16}

#: What a comparison decides by itself, and where to say it instead.
_OWN = {
    "model": "give --base, --recipes or a plan file",
    "data": "give --data",
    "seed": "give --seeds, how many",
    "epochs": "give --epochs",
    "project": "give --project",
    "name": "runs are named after variant and seed",
    "exist_ok": "a comparison goes on by itself",
    "resume": "start the same command again: it goes on where it was",
    "pretrained": "give the checkpoint as --base",
    "time": "variants that stop by the clock are not trained alike; give --epochs",
    "mode": "a comparison trains and validates",
    "task": "the base's head tells the task",
    "cfg": "give the settings themselves",
    "save": "the best checkpoint is what is evaluated",
    "val": "the best epoch is found by validating each",
    "split": "a comparison validates on `val`",
    "save_dir": "give --project",
}
_TASKS = ("detect", "segment", "pose", "obb")
#: Share of GFLOPs within which the next scale is near enough to be the control.
_NEAR = 0.05
#: Share within which no nearer width is looked for.
_EQUAL = 0.01
#: Widths, a hundredth apart, that are tried until the host can build one.
_NUDGES = 12


@dataclass(frozen=True)
class Variant:
    """One model of a comparison.

    Attributes:
        name: Its name in records and tables.
        kind: ``base``, ``recipe``, ``model``, ``checkpoint`` or ``control``.
        source: What the user gave, or how the control came about.
        config: The model's rows.
        weights: Checkpoint that it starts from.
        origins: For each row, the base's row whose initial weights it shares, ``None`` for a new
            one; no list where the rows do not come from the base.
        params: Parameters, with the classes of the data.
        gflops: By :func:`yolograft.count`, at the size of the comparison.
    """

    name: str
    kind: str
    source: str
    config: dict[str, Any]
    weights: str | None = None
    origins: list[int | None] | None = None
    params: int = 0
    gflops: float = 0.0


@dataclass
class Plan:
    """A comparison.

    Attributes:
        variants: The base first, the controls last.
        data: Absolute path of the data YAML.
        seeds: One run of each variant for each.
        epochs: Of every run.
        project: Folder of records, runs and report.
        settings: Training arguments that all runs share.
        devices: What a run gets as ``device``, one each.
        images: Number of training and validation images; 0 where the data are not here yet.
        digest: Of the data's content.
        command: What the user called.
        notes: Sentences about the control.
        unequal: Which variants start from other weights than the base does, if any.
    """

    variants: list[Variant]
    data: str
    seeds: list[int]
    epochs: int
    project: Path
    settings: dict[str, Any]
    devices: list[str]
    images: dict[str, int]
    digest: str
    command: str = ""
    notes: list[str] = field(default_factory=list)
    unequal: str = ""

    @property
    def base(self) -> Variant:
        """Return what all others are compared with."""
        return self.variants[0]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """Return all runs, seed by seed, so that a comparison cut short has whole pairs."""
        return [self.job(variant, seed) for seed in self.seeds for variant in self.variants]

    def job(self, variant: Variant, seed: int) -> dict[str, Any]:
        """Return one run: all that its process needs to know, and the key of its inputs.

        Args:
            variant: Which.
            seed: Which.
        """
        shares = variant.kind in ("recipe", "model")
        inputs = {
            "config": rows_of(variant.config),
            "start": {
                "weights": _digest_file(variant.weights),
                "base": rows_of(self.base.config) if shares else None,
                "base_weights": _digest_file(self.base.weights) if shares else None,
                "origins": variant.origins,
            },
            "data": self.digest,
            "seed": seed,
            "epochs": self.epochs,
            "settings": self.settings,
            "processor": self.devices[0].rstrip("0123456789,:") or "cuda",
            "versions": versions(),
        }
        return {
            "id": f"{variant.name}-seed{seed}",
            "variant": variant.name,
            "seed": seed,
            "key": key_of(inputs),
            "inputs": inputs,
            "kind": variant.kind,
            "what": variant.source,
            "model": str(self.project / "configs" / f"{variant.name}.yaml"),
            "config": variant.config,
            "weights": variant.weights,
            "base": {"config": self.base.config, "weights": self.base.weights} if shares else None,
            "origins": variant.origins,
            "data": self.data,
            "epochs": self.epochs,
            "settings": self.settings,
            "threads": threads(),
        }

    def disk(self) -> int:
        """Return the bytes that the comparison still takes at most, about."""
        there = {file.stem for file in (self.project / "records").glob("*.json")}
        kept = sum(
            2 * one.params + 3e6
            for one in self.variants
            for seed in self.seeds
            if f"{one.name}-seed{seed}" not in there
        )
        running = max(one.params for one in self.variants) * 40 * len(self.devices)
        return int(kept + running)


def decimals(gflops: float) -> str:
    """Return GFLOPs with as many places as small models and small images need.

    Args:
        gflops: Of a model.
    """
    return f"{gflops:.{2 if gflops >= 1 else 4}f}"


def threads() -> str:
    """Return ``OMP_NUM_THREADS`` for all runs: sums of floats depend on it, also on other nodes."""
    return os.environ.get("OMP_NUM_THREADS") or "1"  # Ultralytics' own default


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    names = ("ultralytics", "torch", "torchvision", "numpy", "opencv-python")
    found = {"yolograft": __version__, "format": str(FORMAT)}
    for name in names:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:  # opencv has several distributions
            found[name] = ""
    return found


def key_of(inputs: dict[str, Any]) -> str:
    """Return a digest of a run's inputs; equal keys mean equal runs.

    Args:
        inputs: Plain values.
    """
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def rows_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return what of a config makes the model, without where it came from.

    Args:
        config: What a model YAML holds.
    """
    rows = {k: v for k, v in config.items() if k not in ("yaml_file", "graft", "scales", "names")}
    if config.get("scales"):  # the others' numbers make no difference
        rows["scales"] = config["scales"][config["scale"]]
    return rows


_digests: dict[str, str] = {}


def _digest_file(path: str | None) -> str | None:
    if path is None:
        return None
    if path not in _digests:
        _digests[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return _digests[path]


# ----------------------------------------------------------------------------------------- making


def make(
    base: str,
    variants: list[Any],
    data: str,
    seeds: int,
    epochs: int,
    project: str | Path,
    overrides: dict[str, Any] | None = None,
    command: str = "",
    fetch: bool = True,
    allow_unequal: bool = False,
) -> Plan:
    """Return the plan of a comparison.

    Args:
        base: A model YAML by name or path, or a checkpoint.
        variants: Each a recipe (``sk``, ``sk+cbam``), a model YAML, a checkpoint, or
            ``{name: ..., model: ...}`` or ``{name: ..., recipe: ...}``.
        data: A data YAML by name or path.
        seeds: How many.
        epochs: Of every run.
        project: Folder of the comparison.
        overrides: Training arguments for all runs.
        command: What the user called, for the report.
        fetch: Download or draw data that are not here yet.
        allow_unequal: Compare also what starts from other weights than the base.

    Raises:
        ConfigError: If something of it cannot be compared.
    """
    if not variants:
        refuse("there is nothing to compare the base with", "give --recipes sk,cbam")
    for name, value in (("seeds", seeds), ("epochs", epochs)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            refuse(f"{name}={value!r} is no count", "give 1 or more; 3 seeds are the least")
    settings, devices = _settings(overrides or {})
    project = Path(project).absolute()
    _check_folder(project)
    start = _load("base", base)
    models = [_variant(one, start) for one in variants]
    _check_names([start, *models])
    _check_tasks([start, *models])
    file, content = datasets.check(data, fetch)
    imgsz = -(-int(settings["imgsz"]) // 32) * 32
    start = _counted(start, content, imgsz)
    models = [_counted(one, content, imgsz) for one in models]
    unequal = _unequal(start, models)
    if unequal and not allow_unequal:
        refuse(
            f"{unequal} Their differences would be those of the training before",
            "give the checkpoint as --base, and blocks as recipes; or add --allow-unequal-starts, "
            "and the report says so",
        )
    images = {split: len(datasets.images(content, split)) for split in ("train", "val")}
    plan = Plan(
        [start, *models],
        file,
        list(range(seeds)),
        epochs,
        project,
        settings,
        devices,
        images,
        datasets.fingerprint(content) if images["train"] else _last_digest(project),
        command,
        unequal=unequal,
    )
    before = _controls(plan, content, imgsz)
    control, note = scale_up(start, models, content, imgsz, before)
    plan.notes.append(note)
    before = [one for one in before if one is not control]
    plan.variants += [*before, control]
    _check_names(plan.variants)
    for one in before:
        plan.notes.append(
            f"{one.name} ({decimals(one.gflops)} GFLOPs) was the control of other variants; its "
            "finished runs are kept."
        )
    if start.weights:
        controls = " and ".join(one.name for one in (*before, control))
        plan.notes.append(f"{controls} started from scratch, the others from {start.source}.")
    _check_disk(plan)
    return plan


def read(file: str | Path) -> dict[str, Any]:
    """Return what a plan file holds.

    Args:
        file: A YAML with ``base``, ``variants`` and ``data``, and if wanted ``seeds``, ``epochs``,
            ``project`` and ``settings``.

    Raises:
        ConfigError: If it is none.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{file}: the plan cannot be read ({' '.join(str(error).split())})"
        raise ConfigError(msg) from error
    known = ("base", "variants", "data", "seeds", "epochs", "project", "settings")
    if not isinstance(content, dict):
        refuse(f"{file}: the file holds no mapping", f"a plan has the keys {', '.join(known)}")
    for key in content:
        if key not in known:
            hint = nearest(str(key), known) or f"use {', '.join(known)}"
            refuse(f"{file}: the key {key!r} is unknown", hint)
    if not isinstance(content.get("variants", []), list):
        refuse(f"{file}: `variants` is no list", "write one variant a line, `- sk`")
    if not isinstance(content.get("settings", {}), dict):
        refuse(f"{file}: `settings` is no mapping", "write {imgsz: 640}")
    return content


def _settings(overrides: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return checked training arguments, and the devices."""
    from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg

    for key, value in overrides.items():
        if key in _OWN:
            refuse(f"{key}={value}: this is not for all runs to share", _OWN[key])
        if key not in DEFAULT_CFG_DICT:
            hint = nearest(key, DEFAULT_CFG_DICT) or "`yolo cfg` lists the settings"
            refuse(f"{key}={value}: there is no such setting", hint)
    settings = {**DEFAULTS, **overrides}
    devices = _devices(settings.pop("device", None))
    batch = settings["batch"]
    if not isinstance(batch, int) or batch < 1:
        refuse(f"batch={batch}: every variant needs the same batch", "give a number, as in 16")
    if not isinstance(settings["imgsz"], int) or settings["imgsz"] < 32:
        refuse(f"imgsz={settings['imgsz']} is no image size", "give pixels, 32 or more")
    try:
        get_cfg(overrides={**settings, "mode": "train"})
    except (TypeError, ValueError, SyntaxError) as error:
        msg = f"a setting is refused: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
    return dict(sorted(settings.items())), devices


def _devices(value: Any) -> list[str]:
    """Return the devices that are there; each run gets one."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if value is None or value == "":
        return [str(i) for i in range(count)] or ["cpu"]
    listed = value if isinstance(value, list | tuple) else str(value).split(",")
    names = [str(one).strip().removeprefix("cuda:") for one in listed]
    for name in names:
        if name == "cpu" or (name == "mps" and torch.backends.mps.is_available()):
            continue
        if not name.isdigit() or int(name) >= count:
            there = ", ".join([*map(str, range(count)), "cpu"])
            refuse(f"device={value}: there is no device {name}", f"there are {there}")
    if len({*names}) < len(names) or ("cpu" in names and len(names) > 1):
        refuse(f"device={value}: devices are named once, cpu alone", "write device=0,1")
    return names


def _check_folder(project: Path) -> None:
    above = next(p for p in (project, *project.parents) if p.exists())
    if not above.is_dir():
        refuse(f"{project}: {above} is a file", "choose another --project")
    if not os.access(above, os.W_OK):
        refuse(f"{project}: {above} cannot be written to", "choose another --project")
    taken = {file.name for file in project.iterdir()} if project.is_dir() else set()
    if taken and not taken & {"plan.json", ".lock"}:
        refuse(f"{project}: the folder holds something else", "choose another --project")


def _check_disk(plan: Plan) -> None:
    above = next(p for p in (plan.project, *plan.project.parents) if p.exists())
    free = shutil.disk_usage(above).free
    if free < plan.disk():
        refuse(
            f"{plan.project}: {free / 1e9:.1f} GB are free, and the comparison takes up to "
            f"{plan.disk() / 1e9:.1f} GB",
            "choose another --project, or fewer seeds",
        )


def _check_names(variants: list[Variant]) -> None:
    seen: dict[str, str] = {}
    for one in variants:
        if not re.fullmatch(r"\w[\w.+-]*", one.name):
            refuse(f"{one.name!r} is no name for a variant", "use letters, digits, . + - _")
        if (name := one.name.lower()) in seen:  # names of files, and not all systems tell a from A
            refuse(
                f"two variants are called {one.name}: {seen[name]} and {one.source}",
                "give one a name of its own in a plan file: {name: mine, model: my.yaml}",
            )
        seen[name] = one.source


def _check_tasks(variants: list[Variant]) -> None:
    tasks = {one.name: task_of(one.config) for one in variants}
    first = tasks[variants[0].name]
    for name, task in tasks.items():
        if task[0].isupper():
            refuse(f"{name}: models with the head {task} are not compared", "use a YOLO model")
        if task not in _TASKS:
            refuse(
                f"{name}: a comparison measures AP, and the task {task} has none",
                f"compare models for {', '.join(_TASKS)}",
            )
        if task != first:
            refuse(f"{name} is for {task}, the base for {first}", "compare models of one task")


def task_of(config: dict[str, Any]) -> str:
    """Return the task of a config, by its head; the head's name where it has its own trainer.

    Args:
        config: What a model YAML holds.
    """
    from ultralytics.nn.tasks import guess_model_task

    label = config["head"][-1][2]
    if label in ("WorldDetect", "YOLOEDetect", "YOLOESegment", "YOLOESegment26", "RTDETRDecoder"):
        return label
    return guess_model_task(config)


def _load(kind: str, model: str, name: str = "") -> Variant:
    """Return a model that is no recipe: a YAML, or a checkpoint."""
    if not isinstance(model, str):
        refuse(f"{model!r} is no model", "give a model YAML or a checkpoint by name or path")
    if not model.endswith(".pt"):
        config = grafts.load_base(model)
        return Variant(name or Path(model).stem, kind, model, config)
    file = Path(model)
    if not file.is_file():
        refuse(f"{model}: there is no such checkpoint", "give the path of a file")
    try:
        config = deepcopy(load_checkpoint(str(file)).yaml)
    except Exception as error:
        msg = f"{model}: this is no checkpoint of Ultralytics ({' '.join(str(error).split())})"
        raise ConfigError(msg) from error
    kind = kind if kind == "base" else "checkpoint"
    return Variant(name or file.stem, kind, model, config, str(file.resolve()))


def load_checkpoint(path: str):
    """Return the model of a checkpoint.

    Args:
        path: Of the file.
    """
    from ultralytics.nn import tasks

    return tasks.load_checkpoint(path)[0]


def _variant(given: Any, base: Variant) -> Variant:
    """Return what one entry of ``variants`` means."""
    name = ""
    if isinstance(given, dict):
        extra = sorted({*given} - {"name", "model", "recipe"})
        if extra or len({*given} & {"model", "recipe"}) != 1:
            refuse(
                f"variant {given}: it is not one model or one recipe", "{name: mine, recipe: sk}"
            )
        name = str(given.get("name") or "")
        model, recipe = given.get("model"), given.get("recipe")
    else:
        text = str(given)
        model, recipe = (text, None) if _is_model(text) else (None, text)
    if model is not None:
        return _load("model", model, name)
    recipe = re.sub(r"\s*([+,])\s*", r"\1", str(recipe).strip())
    words = recipe.replace("+", ",")
    try:
        result = grafts.graft(deepcopy(base.config), words)
    except ConfigError as error:
        if recipes.find(recipe.split("+")[0]) or "." in recipe:
            raise
        known = recipes.names()
        hint = nearest(recipe, known) or f"there are {', '.join(known)}."
        msg = f"unknown recipe {recipe!r}\n\nHint: {hint} A model ends in .yaml or .pt"
        raise ConfigError(msg) from error
    origins = [o.row if o.relation in ("kept", "in") else None for o in result.origins]
    stems = (re.sub(r"[^\w.-]+", "-", Path(one).stem) for one in words.split(","))
    name = name or "+".join(stems)
    return Variant(name, "recipe", recipe, result.config, None, origins)


def _is_model(text: str) -> bool:
    """Tell a model YAML or a checkpoint from a recipe, which may be a YAML too."""
    import yaml

    file = recipes.find(text) if text.endswith((".yaml", ".yml")) else None
    if file is None:
        return text.endswith((".yaml", ".yml", ".pt"))
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False  # the engine says what is wrong with it
    return isinstance(content, dict) and "backbone" in content


def _counted(one: Variant, data: dict[str, Any], imgsz: int) -> Variant:
    """Return a variant for the classes of the data, with what it costs."""
    check_evaluated(one.config, one.source)
    config = {**one.config, "nc": data.get("nc") or one.config.get("nc")}
    if data.get("channels", 3) not in (None, 3):
        config["channels"] = data["channels"]
    if data.get("kpt_shape"):
        config["kpt_shape"] = data["kpt_shape"]
    if config.get("scales"):
        config["scale"] = config.get("scale") or next(iter(config["scales"]))
    cost = preview.figures(config, set(), imgsz)
    return replace(one, config=config, params=cost.params, gflops=cost.gflops)


def _free(name: str, variants: list[Variant], before: Sequence[Variant]) -> str:
    """Return a name for a control that no other model has, near to the one given."""
    if name.lower() in {one.name.lower() for one in variants}:
        name = f"{name}-control"
    taken = {one.name.lower() for one in (*variants, *before)}
    return next(
        free
        for free in (name, *(f"{name}-{n}" for n in range(2, len(taken) + 3)))
        if free.lower() not in taken
    )


def _last_digest(project: Path) -> str:
    """Return the digest of the data that the folder's last comparison had."""
    try:
        return json.loads((project / "plan.json").read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError):
        return ""


# ----------------------------------------------------------------------------------------- starts


def _unequal(base: Variant, variants: list[Variant]) -> str:
    """Return a sentence that names the variants which do not start as the base does, or ``""``."""
    found = [f"{one.name} from {start}" for one in variants if (start := _other_start(one, base))]
    if not found:
        return ""
    start = f"the weights of {base.source}" if base.weights else "scratch"
    return f"Unequal starts: {base.name} starts from {start}, {', '.join(found)}."


def _other_start(one: Variant, base: Variant) -> str:
    """Return what a variant starts from, if it does not start as the base does."""
    import torch

    from yolograft.warm import transplant

    ready = [_pretrained(variant.config) for variant in (one, base)]
    if ready[0] != ready[1]:
        return "downloaded weights" if ready[0] else "scratch, without downloaded weights"
    if not base.weights:
        return f"the weights of {one.source}" if one.weights else ""
    if one.kind == "recipe":
        return ""
    model = preview.host_model(one.config)
    try:
        carried = transplant.warm_start(model, load_checkpoint(base.weights)).carried
    except ConfigError:
        carried = 0
    if not one.weights:
        return "" if carried else f"scratch, as it takes nothing of {base.source}"
    own = load_checkpoint(one.weights).state_dict()
    state = model.state_dict()  # of a grafted base, not trained since, all that was carried is own
    same = sum(k in own and torch.equal(v.half(), own[k].half()) for k, v in state.items())
    return "" if carried and same >= carried else f"the weights of {one.source}"


def _pretrained(config: dict[str, Any]) -> list[Any]:
    """Return the rows that download weights."""
    rows = [*config["backbone"], *config["head"]]
    return [row for row in rows if without_weights(row) != row]


# ---------------------------------------------------------------------------------------- control


def _controls(plan: Plan, data: dict[str, Any], imgsz: int) -> list[Variant]:
    """Return the controls of this base that have finished runs in the folder.

    Args:
        plan: Without a control.
        data: From :func:`yolograft.compare.data.check`.
        imgsz: Where GFLOPs are counted.
    """
    found: dict[str, Variant] = {}
    base = rows_of(plan.base.config)
    for file in sorted((plan.project / "records").glob("*.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            name, rows = record["variant"], record["inputs"]["config"]
            if record["kind"] != "control" or record["status"] != "finished" or name in found:
                continue
            scales = {"scales": {rows["scale"]: rows["scales"]}} if "scales" in rows else {}
            one = Variant(name, "control", record.get("what", ""), {**rows, **scales})
            same = all(rows[k] == base[k] for k in ("backbone", "head"))
            if same and plan.job(one, record["seed"])["key"] == record["key"]:
                found[name] = _counted(one, data, imgsz)
        except (OSError, ValueError, KeyError, TypeError):  # told when its run is looked for
            continue
    return list(found.values())


def scale_up(
    base: Variant,
    variants: list[Variant],
    data: dict[str, Any],
    imgsz: int,
    before: Sequence[Variant] = (),
) -> tuple[Variant, str]:
    """Return the base made larger, as near in GFLOPs as it gets to the dearest variant.

    The next scale where it lies within a twentieth, else the base with wider layers. A control from
    before is taken again where it lies within a twentieth, or no other one is nearer.

    Args:
        base: With its figures.
        variants: With theirs.
        data: From :func:`yolograft.compare.data.check`.
        imgsz: Where GFLOPs are counted.
        before: Controls that have finished runs.

    Returns:
        The control, and a sentence about it.
    """
    dearest = max(variants, key=lambda one: one.gflops)
    target = max(dearest.gflops, base.gflops)

    def off(one: Variant) -> float:
        return abs(one.gflops / target - 1)

    following = _next_scale(base, data, imgsz)
    nearest = min(before, key=off, default=None)
    if nearest and off(nearest) <= _NEAR:
        control = nearest
    elif following and off(following) <= _NEAR:
        control = following
    else:
        choice = [one for one in (_widened(base, target, data, imgsz), following) if one]
        if not choice:
            refuse(f"{base.name}: no wider one can be built as a control", "choose another base")
        control = min(choice, key=off)
        if nearest and off(nearest) <= off(control):
            control = nearest
    if control is not nearest:
        control = replace(control, name=_free(control.name, variants, before))
    return control, (
        f"The control {control.name} ({control.source}) has {decimals(control.gflops)} GFLOPs; "
        f"the dearest variant, {dearest.name}, has {decimals(dearest.gflops)}, the base "
        f"{decimals(base.gflops)}."
    )


def _next_scale(base: Variant, data: dict[str, Any], imgsz: int) -> Variant | None:
    scales = list(base.config.get("scales") or ())
    at = scales.index(base.config["scale"]) + 1 if base.config.get("scale") in scales else 0
    if not 0 < at < len(scales):
        return None
    name = re.sub(r"(\d+)[nslmxbetc](?=$|[-.])", rf"\g<1>{scales[at]}", base.name, count=1)
    name = name if name != base.name else f"{base.name}-{scales[at]}"
    config = {**deepcopy(base.config), "scale": scales[at]}
    return _counted(Variant(name, "control", f"scale {scales[at]}", config), data, imgsz)


def _widened(base: Variant, target: float, data: dict[str, Any], imgsz: int) -> Variant | None:
    """Return the base with its widths multiplied, by bisection; channels go in steps of 8."""
    found: list[Variant] = []

    def scaled(factor: float) -> Variant:
        config = deepcopy(base.config)
        scales, scale = config.get("scales"), config.get("scale")
        if scales:
            depth, width, most = scales[scale]
            config["scales"] = {scale: [depth, round(width * factor, 4), most]}
        else:
            config["width_multiple"] = round(config.get("width_multiple", 1.0) * factor, 4)
        name = f"{base.name}-wide"
        return _counted(Variant(name, "control", f"width x {factor:.3f}", config), data, imgsz)

    def wide(factor: float) -> Variant | None:
        """Return the least width from here on that can be built: attention takes some only."""
        for _ in range(_NUDGES):
            try:
                found.append(scaled(factor))
            except (AssertionError, RuntimeError):
                factor *= 1.01
            else:
                return found[-1]
        return None

    low, high = 1.0, 1.25
    while ((one := wide(high)) is None or one.gflops < target) and high < 8:
        low, high = high, high * 1.5
    for _ in range(6):
        middle = (low + high) / 2
        one = wide(middle)
        if one and abs(one.gflops / target - 1) < _EQUAL:
            break
        low, high = (middle, high) if one and one.gflops < target else (low, middle)
    larger = [one for one in found if one.gflops > base.gflops] or found[-1:]
    return min(larger, key=lambda one: (abs(one.gflops - target), one.params), default=None)
