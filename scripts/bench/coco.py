"""Time the index of COCO JSON at COCO's size, beside parsing it and beside label files.

It draws a data set of the size of COCO train2017: 118,287 images, which share a few files, and
860,001 boxes with polygons. Each measurement runs in a process of its own. Peak memory is what the
process adds to what it holds after its imports. The full size takes ten minutes, 10 GB of memory
and 5 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from . import common

IMAGES, BOXES, CLASSES = 118_287, 860_001, 80
SIZES = ((640, 480), (640, 427), (480, 640), (640, 640), (500, 375), (612, 612))
ROUNDS = 3
#: Goal, and what has to stay below it.
GOALS = (("index over parse, time", 2.5), ("second start, seconds", 2.0), ("memory", 1.5))
HEADING = "## Scale"


def generate(root: Path, share: float) -> Path:
    """Write a JSON and its images; return the JSON.

    Args:
        root: Folder, made here.
        share: Part of COCO's size.
    """
    import cv2
    import orjson

    random = np.random.default_rng(0)
    folder = root / "images" / "train2017"
    (root / "annotations").mkdir(parents=True)
    folder.mkdir(parents=True)
    images = max(round(IMAGES * share), 1)
    owner = np.sort(random.integers(0, images, round(BOXES * share)))
    kinds = random.integers(0, len(SIZES), images)
    entries, links = [], {}
    for i, kind in enumerate(kinds.tolist()):
        name, (w, h) = f"{i:012}.jpg", SIZES[kind]
        entries.append({"id": i, "file_name": name, "width": w, "height": h})
        source = links.get(kind)
        if source is None or i % 20_000 == 0:  # a file can have some 60,000 names
            links[kind] = folder / name
            cv2.imwrite(str(folder / name), np.full((h, w, 3), 96 + 9 * kind, np.uint8))
        else:
            os.link(source, folder / name)
    outlines = []
    for corners in range(6, 37):
        around = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        outlines.append(0.5 + 0.5 * np.stack((np.cos(around), np.sin(around)), 1))
    choices = random.integers(0, len(outlines), (len(owner), 2))
    sizes = np.array([SIZES[kind] for kind in kinds])[owner]
    lows = random.uniform(0, 0.7, sizes.shape) * sizes
    boxes = random.uniform(0.02, 0.29, sizes.shape) * sizes
    file = _json(root)
    with file.open("wb") as stream:
        stream.write(b'{"images": ' + orjson.dumps(entries) + b', "annotations": [')
        for i, image in enumerate(owner.tolist()):
            parts = [
                (lows[i] + outlines[choice] * boxes[i]).round(2).ravel().tolist()
                for choice in choices[i, : 1 + (i % 5 == 0)]  # some have two parts
            ]
            row = {
                "segmentation": parts,
                "area": round(float(boxes[i].prod()) * 0.78, 2),
                "iscrowd": 0,
                "image_id": image,
                "bbox": np.concatenate((lows[i], boxes[i])).round(2).tolist(),
                "category_id": 1 + i % CLASSES,
                "id": i + 1,
            }
            stream.write((b"," if i else b"") + orjson.dumps(row))
        names = [{"id": i + 1, "name": f"class {i + 1}"} for i in range(CLASSES)]
        stream.write(b'], "categories": ' + orjson.dumps(names) + b"}")
    return file


# ----------------------------------------------------------------------------------- measurements


def parse(root: Path) -> object:
    """Read the JSON once."""
    import orjson

    return orjson.loads(_json(root).read_bytes())


def index(root: Path) -> object:
    """Make the index, or read it from the cache."""
    from yolograft.coco.index import open_index

    return open_index(_json(root))


def look(root: Path) -> object:
    """Read the size and format of every image."""
    from yolograft.coco.scan import inspect

    return inspect([str(p) for p in sorted((root / "images" / "train2017").iterdir())])[:2]


def convert(root: Path) -> object:
    """Write label files, as Ultralytics does."""
    from ultralytics.data.converter import convert_coco

    convert_coco(root / "annotations", root / "labelled", use_segments=True, cls91to80=False)


def scan(root: Path) -> object:
    """Read the label files and every image, as Ultralytics does."""
    from ultralytics.data.dataset import YOLODataset

    data = {"names": {i: str(i) for i in range(CLASSES)}, "nc": CLASSES, "channels": 3}
    folder = root / "labelled" / "images" / "train2017"
    return YOLODataset(img_path=str(folder), data=data, task="segment", augment=False)


STEPS = {"parse": parse, "index": index, "again": index, "look": look, "convert": convert}
STEPS |= {"scan": scan}


def _json(root: Path) -> Path:
    return root / "annotations" / "instances_train2017.json"


def measure(step: str, root: Path) -> dict[str, float]:
    """Run one step in this process; return its seconds and the bytes that it added at most.

    Args:
        step: A name of :data:`STEPS`.
        root: Folder of the data set.
    """
    import cv2  # noqa: F401
    import orjson  # noqa: F401
    import ultralytics.data.dataset  # noqa: F401

    import yolograft.coco.dataset  # noqa: F401

    before = _memory("VmRSS")
    wall, busy = time.perf_counter(), time.process_time()
    held = STEPS[step](root)
    found = {"wall": time.perf_counter() - wall, "busy": time.process_time() - busy}
    del held
    return {**found, "peak": _memory("VmHWM") - before}


def _memory(key: str) -> int:
    """Return bytes, by the system's account of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    msg = f"/proc/self/status has no {key}"
    raise SystemExit(msg)


# -------------------------------------------------------------------------------------------- run


def run(share: float, page: Path | None, record: Path | None) -> None:
    """Draw the data set, measure, print and write.

    Args:
        share: Part of COCO's size.
        page: Markdown file; what it holds before its heading "Scale" stays.
        record: JSON file.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print(f"drawing {share:.0%} of COCO train2017", file=sys.stderr, flush=True)
        size = generate(root, share).stat().st_size
        found: dict[str, list[dict]] = {step: [] for step in STEPS}
        for number in range(ROUNDS):
            for step in ("parse", "index", "again"):
                found[step].append(_apart(step, root, f"cache-{number}"))
        for step in ("look", "convert"):
            found[step].append(_apart(step, root, "cache"))
        (root / "images").rename(root / "labelled" / "images")  # where label files are found
        found["scan"].append(_apart("scan", root, "cache"))
    result = {
        "command": f"python -m scripts.bench.coco --share {share:g}",
        "images": max(round(IMAGES * share), 1),
        "boxes": round(BOXES * share),
        "json_bytes": size,
        "machine": common.machine() | common.versions("orjson", "ultralytics", "yolograft"),
        "load": common.load(),
        "steps": {
            step: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
            for step, runs in found.items()
        },
        "rounds": {step: len(runs) for step, runs in found.items()},
    }
    text = markdown(result)
    print(text)
    common.save(record, result)
    before = page.read_text(encoding="utf-8") if page and page.is_file() else ""
    common.save(page, before.partition(HEADING)[0] + text)


def _apart(step: str, root: Path, cache: str) -> dict[str, float]:
    """Run one step in a process of its own; return what :func:`measure` does."""
    command = [sys.executable, "-m", "scripts.bench.coco", "--step", step, str(root)]
    env = {**os.environ, "XDG_CACHE_HOME": str(root / cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=env, cwd=common.ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    print(step, json.dumps(found), file=sys.stderr, flush=True)
    return found


def ratios(result: dict) -> dict[str, float]:
    """Return what the goals are about, by processor time.

    Args:
        result: Of :func:`run`.
    """
    steps = result["steps"]
    ours = steps["index"]["busy"] + steps["look"]["busy"]
    return {
        "index over parse, time": steps["index"]["busy"] / steps["parse"]["busy"],
        "second start, seconds": steps["again"]["busy"],
        "memory": steps["index"]["peak"] / steps["parse"]["peak"],
        "label files over ours": (steps["convert"]["busy"] + steps["scan"]["busy"]) / ours,
    }


def markdown(result: dict) -> str:
    """Return the page's section.

    Args:
        result: Of :func:`run`.
    """
    names = {
        "parse": "orjson alone: parse the file",
        "index": "first start: read, hash, parse, index, write the cache",
        "again": "second start: hash, read the cache",
        "look": "look at every image, first start",
        "convert": "Ultralytics' `convert_coco`, which writes label files",
        "scan": "Ultralytics' scan of labels and images",
    }
    unit = result["steps"]["parse"]
    rows = [("step", "processor time, s", "wall time, s", "over parse", "memory, MB", "over parse")]
    for step, name in names.items():
        one = result["steps"][step]
        times = (one["busy"], one["wall"], one["busy"] / unit["busy"])
        memory = (f"{one['peak'] / 1e6:.0f}", f"{one['peak'] / unit['peak']:.2f}")
        rows.append((name, *(f"{value:.2f}" for value in times), *memory))
    lines = [
        HEADING,
        "",
        f"A drawn JSON: {result['images']:,} images, {result['boxes']:,} boxes with polygons, "
        f"{result['json_bytes'] / 1e6:.0f} MB. `{result['command']}`; medians of {ROUNDS} runs for "
        "the first three rows, one run for the others, each in a process of its own. Memory is "
        "what the step adds at most. Ratios are of processor time, which other work on the machine "
        f"disturbs least (load average {result['load']:.1f}).",
        "",
        common.table(rows, "lr"),
        "",
    ]
    found = ratios(result)
    for name, goal in GOALS:
        state = "reached" if found[name] <= goal else "missed"
        lines.append(f"- Goal: {name} at most {goal:g}: {found[name]:.2f}, {state}.")
    lines.append(
        f"- Label files take {found['label files over ours']:.1f} times the index and the look at "
        "the images."
    )
    machine = result["machine"]
    lines += ["", ", ".join(f"{key} {value}" for key, value in machine.items()) + "."]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Run the bench, or one step of it.

    Args:
        argv: Arguments, those of the process when left out.
    """
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.coco",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--share", type=float, default=1.0, metavar="SHARE", help="of COCO's size, 1 by default")
    add("--json", type=Path, metavar="FILE", help="write every figure here")
    add("--markdown", type=Path, metavar="FILE", help="replace the section `Scale` of this page")
    add("--step", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.step:
        print(json.dumps(measure(args.step[0], Path(args.step[1]))))
        return
    if not 0 < args.share <= 1:
        parser.error("argument --share: use a share above 0, up to 1")
    run(args.share, args.markdown, args.json)


if __name__ == "__main__":
    main()
