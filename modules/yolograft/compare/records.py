"""Plan, jobs and records of a comparison: one schema, one reader, one writer.

A project folder holds::

    plan.json              what is compared
    configs/NAME.yaml      the model of each variant
    runs/ID/record.json    the record of a run, beside Ultralytics' own files of it
    records.jsonl.gz       all records in one file, written when all runs have ended
    report.html, ...       written then, too
    aside/DATE/            the same, of runs that were moved out of the way
    moving.json            what is being moved there

``plan.json`` and ``records.jsonl.gz`` are enough for a report. Where a run has a ``record.json``,
it is newer than what the compact file holds. Paths in records are relative to the folder, so that
it can be moved as a whole. Yolograft 0.1.0 kept the records in ``records/ID.json``.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from yolograft import files
from yolograft.errors import refuse

#: Version of the schema. Files without a version are of the first one.
VERSION = 1

#: All records of a comparison in one file.
PACK = "records.jsonl.gz"


@dataclass(frozen=True, kw_only=True)
class Versioned:
    """The content of a file."""

    version: int = VERSION


class Unreadable(ValueError):
    """A file that is cut off, or holds something else than it should."""


# ------------------------------------------------------------------------------------------- plan


@dataclass(frozen=True)
class Variant:
    """One model of a comparison.

    Attributes:
        name: Its name in records and tables.
        kind: ``base``, ``recipe``, ``model``, ``checkpoint`` or ``control``.
        source: What the user gave, or how the control came about.
        config: The content of its model YAML.
        weights: Checkpoint that it starts from.
        origins: For each row, the base's row whose initial weights it shares, ``None`` for a new
            one; no list where the rows do not come from the base.
        params: Parameters, with the classes of the data.
        gflops: By :func:`yolograft.count`, at the image size of the comparison.
    """

    name: str
    kind: str
    source: str
    config: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    origins: list[int | None] | None = None
    params: int = 0
    gflops: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan(Versioned):
    """A comparison.

    Attributes:
        variants: The base first, the controls last.
        data: Absolute path of the data YAML.
        seeds: One run of each variant for each.
        epochs: Of every run.
        settings: Training arguments that all runs share.
        devices: What a run gets as ``device``, one each.
        images: Number of training and validation images; 0 where the data are not here yet.
        digest: Of the data's content.
        command: The user's command.
        notes: Sentences about the controls.
        unequal: Which variants start from other weights than the base does, if any.
        keys: Of each run by its id, as they were when the plan was written.
        versions: What the runs' numbers depend on, as it was when the plan was written.
        project: Folder of the comparison; where the file is read from.
    """

    variants: list[Variant]
    data: str
    seeds: list[int]
    epochs: int
    settings: dict[str, Any]
    images: dict[str, int]
    digest: str
    devices: list[str] = field(default_factory=list)
    command: str = ""
    notes: list[str] = field(default_factory=list)
    unequal: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    project: Path = Path()

    @property
    def base(self) -> Variant:
        """Return what all others are compared with."""
        return self.variants[0]


# ------------------------------------------------------------------------------------------- jobs


@dataclass(frozen=True)
class TrainInputs:
    """What decides the numbers of a training; ``start`` holds rows and digests of checkpoints."""

    config: dict[str, Any]
    start: dict[str, Any]
    data: str
    seed: int
    epochs: int
    settings: dict[str, Any]
    processor: str
    versions: dict[str, str]


@dataclass(frozen=True)
class SpeedInputs:
    """What decides the numbers of the speed measurement; models without gates have ``None``."""

    configs: dict[str, dict[str, Any]]
    imgsz: int
    versions: dict[str, str]
    processor: str
    gates: dict[str, list[float] | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Job(Versioned):
    """Something to do in a process of its own.

    Attributes:
        id: Name of its folder.
        key: Digest of the inputs; equal keys mean equal jobs.
        folder: Where it works.
        threads: ``OMP_NUM_THREADS``.
        device: Where it runs; given when it starts.
    """

    id: str
    key: str
    folder: str
    threads: str
    device: str = ""

    @property
    def record(self) -> Path:
        """Return the file of its record."""
        return Path(self.folder, "record.json")


@dataclass(frozen=True, kw_only=True)
class TrainJob(Job):
    """Train and evaluate one variant with one seed; ``base`` is what it shares its start with."""

    inputs: TrainInputs
    variant: Variant
    base: Variant | None
    data: str


@dataclass(frozen=True, kw_only=True)
class SpeedJob(Job):
    """Time all models, given by their configs."""

    inputs: SpeedInputs
    models: dict[str, dict[str, Any]]


# ---------------------------------------------------------------------------------------- records


@dataclass(frozen=True)
class Epoch:
    """A point of a learning curve: AP by Ultralytics' own metric, summed losses."""

    epoch: int
    AP: float | None
    train_loss: float | None
    val_loss: float | None


@dataclass(frozen=True)
class Example:
    """Boxes on an image: corners, score if found, class."""

    file: str
    found: list[list[float]]
    truth: list[list[float]]


@dataclass(frozen=True)
class Memory:
    """The most bytes in use, and of what."""

    bytes: int
    of: str


@dataclass(frozen=True)
class Transferred:
    """Tensors that a variant starts from as the base does, of all it has."""

    tensors: int
    of: int


@dataclass(frozen=True)
class Timing:
    """Latency of a batch: median and middle half of the calls."""

    milliseconds: float
    low: float
    high: float
    images_per_second: float
    calls: int


@dataclass(frozen=True, kw_only=True)
class Record(Versioned):
    """The result of a job."""

    id: str
    key: str


@dataclass(frozen=True, kw_only=True)
class TrainRecord(Record):
    """The result of a training.

    Attributes:
        variant: Its name, with ``kind`` and ``what``, its source.
        metrics: The numbers of :data:`yolograft.compare.evaluate.NAMES` (``None`` where no object
            is of that size) and ``ultralytics_AP``.
        per_class: AP by class name.
        examples: What was found on a few images.
        source: Where the metrics come from.
        names: Of the classes.
        curve: Epoch by epoch.
        seconds: Of training, by the clock.
        checkpoint: The best one, below the project folder.
        gates: Of the trained model; see :func:`yolograft.compare.speed.gates`.
        environment: What it ran on.
        finished: Date and time.
    """

    inputs: TrainInputs
    variant: str
    seed: int
    kind: str
    what: str = ""
    metrics: dict[str, float | None]
    per_class: dict[str, float]
    examples: list[Example]
    source: str
    names: list[str] = field(default_factory=list)
    curve: list[Epoch]
    best_epoch: int
    seconds: float
    peak_memory: Memory
    transferred: Transferred
    checkpoint: str = ""
    gates: list[float] | None = None
    environment: dict[str, Any]
    finished: str = ""


@dataclass(frozen=True, kw_only=True)
class SpeedRecord(Record):
    """Latency and throughput of all models, by name and batch."""

    inputs: SpeedInputs
    models: dict[str, dict[str, Timing]]
    precision: str
    imgsz: int
    environment: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Failure(Record):
    """A job that failed: why, and its log below the project folder."""

    error: str
    log: str


#: What a record can be; its fields decide which.
AnyRecord = Failure | TrainRecord | SpeedRecord


# ------------------------------------------------------------------------------ reader and writer


def text(one: Versioned, indent: int | None = None) -> str:
    """Return a plan, job or record as JSON.

    Args:
        one: Without NaN, which is refused.
        indent: Spaces per level; one line if left out.
    """
    content = {k: v for k, v in asdict(one).items() if k != "project"}
    separators = None if indent else (",", ":")
    return json.dumps(content, indent=indent, separators=separators, allow_nan=False)


def save(file: Path, one: Versioned) -> None:
    """Write a plan, job or record: the whole file or nothing.

    Args:
        file: Where.
        one: What.
    """
    files.write(file, text(one, indent=1))


def load(kind: Any, file: Path) -> Any:
    """Return the plan, job or record in a file.

    Args:
        kind: One of the classes above, or a union of them. ``Job`` is what all jobs have in common.
        file: As :func:`save` writes it.

    Raises:
        Unreadable: If the file is cut off, or holds something else.
        ConfigError: If it is of a newer version.
    """
    try:
        one = parse(kind, file.read_text(encoding="utf-8"), str(file))
    except OSError as error:
        raise Unreadable(str(error)) from error
    return replace(one, project=file.parent) if isinstance(one, Plan) else one


def parse(kind: Any, content: str, place: str) -> Any:
    """Return the plan, job or record in a text; see :func:`load`.

    Args:
        kind: What it has to be.
        content: JSON.
        place: What messages call it.
    """
    try:
        found = json.loads(content)
    except ValueError as error:
        msg = f"{place}: {error}"
        raise Unreadable(msg) from error
    version = found.get("version", 1) if isinstance(found, dict) else None
    if isinstance(version, int) and version > VERSION:
        refuse(
            f"{place}: the file has format version {version}, and this yolograft reads versions up "
            f"to {VERSION}",
            "update yolograft on this machine",
        )
    return _typed(kind, found, place)


_hints = cache(get_type_hints)


def _typed(kind: Any, value: Any, place: str) -> Any:
    """Return a value of JSON as an annotation says; names that it does not know are left out."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind) and isinstance(value, dict):
        known = {
            k: _typed(t, value[k], f"{place}: {k}") for k, t in _hints(kind).items() if k in value
        }
        try:
            return kind(**known)
        except TypeError as error:  # something is missing
            msg = f"{place}: {error}"
            raise Unreadable(msg) from error
    if origin in (Union, UnionType):
        for one in inner:
            with suppress(Unreadable):
                return _typed(one, value, place)
    elif origin is list and isinstance(value, list):
        return [_typed(inner[0], one, place) for one in value]
    elif origin is dict and isinstance(value, dict):
        return {k: _typed(inner[1], one, place) for k, one in value.items()}
    elif origin is None and isinstance(value, (int, float) if kind is float else kind):
        return value
    msg = f"{place}: {value!r:.80} is not {getattr(kind, '__name__', kind)}"
    raise Unreadable(msg)


# ------------------------------------------------------------------------------------- the folder


def read(project: Path) -> dict[str, AnyRecord | None]:
    """Return all records of a folder by their ids; ``None`` for a file that is corrupt.

    Args:
        project: Folder of a comparison.

    Raises:
        ConfigError: If a record is of a newer version, or the compact file is corrupt.
    """
    found: dict[str, AnyRecord | None] = {}
    whole = project / PACK
    if whole.is_file():
        try:
            with gzip.open(whole, "rt", encoding="utf-8") as lines:
                some = [parse(AnyRecord, line, str(whole)) for line in lines]
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, Unreadable) as error:
            refuse(
                f"{whole}: the file is corrupt ({error})",
                "move it away; runs that still have their runs/ID/record.json are kept",
            )
        found = {record.id: record for record in some}
    for file in [*_old(project), *sorted(project.glob("runs/*/record.json"))]:
        name = file.parent.name if file.name == "record.json" else file.stem
        try:
            found[name] = load(AnyRecord, file)
        except Unreadable:
            found[name] = None
    return found


def pack(project: Path, left_out: Iterable[str] = ()) -> None:
    """Write all records of a folder that can be read into one file; equal records, equal bytes.

    Args:
        project: Folder of a comparison.
        left_out: Ids of records that are no longer wanted there.
    """
    found = read(project)
    lines = [text(found[name]) for name in sorted({*found} - {*left_out}) if found[name]]
    stream = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, stream, mtime=0) as packed:
        packed.write("".join(f"{line}\n" for line in lines).encode())
    files.write(project / PACK, stream.getvalue())


def adopt(project: Path) -> None:
    """Bring the records of a folder of yolograft 0.1.0 to where they are now.

    Args:
        project: Folder of a comparison.
    """
    for file in _old(project):
        folder = project / "runs" / file.stem
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(file, folder / "record.json")


def _old(project: Path) -> list[Path]:
    return sorted(project.glob("records/*.json"))
