"""A data set of a few images, and a comparison's records without the trainings."""

import json
import random

import cv2
import numpy as np
import pytest
import yaml

from yolograft import shapes
from yolograft.compare import records
from yolograft.compare import report as reports
from yolograft.compare.records import (
    Epoch,
    Example,
    Memory,
    Plan,
    SpeedInputs,
    SpeedRecord,
    Timing,
    TrainInputs,
    TrainRecord,
    Transferred,
    Variant,
)

from .calls import call


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A data YAML of 8 training and 4 validation images."""
    folder = tmp_path_factory.mktemp("tiny")
    for split, count in (("train", 8), ("val", 4)):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for i in range(count):
            image, kinds, boxes = shapes._scene(np.random.default_rng([split == "val", i]), i)
            size = np.tile(image.shape[1::-1], 2)
            centred = [np.array((*(b[:2] + b[2:]) / 2, *(b[2:] - b[:2]))) / size for b in boxes]
            rows = [f"{k} {' '.join(map(str, b))}" for k, b in zip(kinds, centred, strict=True)]
            cv2.imwrite(str(folder / "images" / split / f"{i}.png"), image)
            (folder / "labels" / split / f"{i}.txt").write_text("\n".join(rows))
    file = folder / "tiny.yaml"
    names = dict(enumerate(shapes.NAMES))
    content = {"path": str(folder), "train": "images/train", "val": "images/val", "names": names}
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="session")
def whole(tiny, tmp_path_factory):
    """A comparison that nothing disturbed."""
    project = tmp_path_factory.mktemp("whole") / "project"
    status, out = call(tiny, project)
    assert status == 0, out
    return project


@pytest.fixture(scope="session")
def tiny_json(tiny):
    """The same images, with COCO JSON of one box each."""
    for split in ("train", "val"):
        files = sorted((tiny.parent / "images" / split).iterdir())
        images, boxes = [], []
        for i, file in enumerate(files, 1):
            height, width = cv2.imread(str(file)).shape[:2]
            images.append({"id": i, "file_name": file.name, "width": width, "height": height})
            box = [4, 4, width / 2, height / 2]
            row = {"id": i, "image_id": i, "category_id": 7, "bbox": box, "iscrowd": 0}
            boxes.append({**row, "area": width * height / 4})
        content = {"images": images, "annotations": boxes}
        content["categories"] = [{"id": 7, "name": "thing"}]
        (tiny.parent / f"{split}.json").write_text(json.dumps(content))
    file = tiny.parent / "json.yaml"
    content = {"path": str(tiny.parent), "train": "train.json", "val": "val.json"}
    content["images"] = {split: f"images/{split}" for split in ("train", "val")}
    file.write_text(yaml.safe_dump(content))
    return file


#: A model that is built in no time; its widths leave room for controls of several sizes.
MODEL = """
nc: 5
scales: {n: [1.0, 0.25, 1024], s: [1.0, 0.5, 1024]}
backbone:
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 1, C2f, [256, True]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 1, C2f, [256, True]]
head:
  - [-1, 1, Conv, [256, 3, 2]]
  - [[4, 5], 1, Detect, [nc]]
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Name of a model YAML, at its scale n."""
    file = tmp_path_factory.mktemp("model") / "yolov77.yaml"
    file.write_text(MODEL)
    return str(file.with_name("yolov77n.yaml"))


VARIANTS = (
    ("yolov8n", "base", "yolov8n.yaml", 0.0, 3011823, 8.1),
    ("sk", "recipe", "sk", 0.021, 3541999, 9.3),
    ("ca", "recipe", "ca", 0.001, 3035263, 8.2),
    ("spd & co", "model", "<b>spd</b>.yaml", 0.012, 4741119, 11.9),
    ("yolov8n-wide", "control", "width x 1.19", 0.011, 4445759, 12.0),
)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder as a finished comparison of five variants and three seeds leaves it."""
    folder = tmp_path_factory.mktemp("finished")
    _record(folder)
    reports.write(folder)
    return folder


@pytest.fixture
def project(tmp_path):
    """The same without its report, to be changed."""
    _record(tmp_path)
    return tmp_path


def inputs(**more):
    """Inputs of a run, as far as nothing compares them."""
    empty = {"config": {}, "start": {}, "data": "", "settings": {}, "versions": {}}
    return TrainInputs(**{**empty, "seed": 0, "epochs": 30, "processor": "cpu", **more})


def _record(folder):
    rng = random.Random(3)
    image = np.full((240, 320, 3), 90, np.uint8)
    cv2.circle(image, (160, 120), 60, (40, 160, 220), -1)
    cv2.imwrite(str(folder / "example.png"), image)
    keys = {}
    environment = {"device": "A processor", "torch": "2.15.0", "python": "3.11"}
    for seed in range(3):
        level = 0.4 + rng.gauss(0, 0.02)
        for name, kind, source, shift, *_ in VARIANTS:
            ap = level + shift + rng.gauss(0, 0.003)
            sizes = {"APs": ap - 0.2, "APm": ap, "APl": None if seed == 2 else ap + 0.2}
            key = keys[f"{name}-seed{seed}"] = f"{name}{seed}"
            curve = [
                Epoch(e, ap * (1 - 0.8**e) / (1 - 0.8**30), 3 + 5 * 0.9**e, 3.5)
                for e in range(1, 31)
            ]
            found = [[100 - 9 * seed, 60, 222, 182, 0.91, 0], [5, 5, 60, 50, 0.4, 1]]
            example = Example(str(folder / "example.png"), found, [[100, 60, 220, 180, 0]])
            record = TrainRecord(
                id=f"{name}-seed{seed}",
                key=key,
                variant=name,
                seed=seed,
                inputs=inputs(),
                kind=kind,
                what=source,
                metrics={"AP": ap, "AP50": ap + 0.2, "AP75": ap, **sizes, "ultralytics_AP": ap},
                per_class={"circle": ap + 0.1, "star": ap - 0.1},
                names=["circle", "star"],
                examples=[example] * 2,
                source="label files, by COCO's rules",
                curve=curve,
                best_epoch=30,
                seconds=754.2,
                peak_memory=Memory(3_210_000_000, "the process"),
                transferred=Transferred(349 if kind == "recipe" else 0, 391),
                environment=environment,
            )
            records.save(folder / "runs" / record.id / "record.json", record)
    models = {
        name: {
            str(n): Timing((9 + i) * n, (8.8 + i) * n, (9.4 + i) * n, 1000 / (9 + i), 30)
            for n in (1, 32)
        }
        for i, (name, *_) in enumerate(VARIANTS)
    }
    speed = SpeedRecord(
        id="speed",
        key="speed",
        inputs=SpeedInputs({}, 160, {}, "cpu"),
        models=models,
        precision="float32",
        imgsz=160,
        environment=environment,
    )
    records.save(folder / "runs" / "speed" / "record.json", speed)
    plan = Plan(
        variants=[
            Variant(name, kind, source, params=params, gflops=gflops)
            for name, kind, source, _, params, gflops in VARIANTS
        ],
        keys=keys,
        data="/data/shapes.yaml",
        digest="0123456789abcdef0123",
        images={"train": 240, "val": 60},
        seeds=[0, 1, 2],
        epochs=30,
        settings={"imgsz": 160, "batch": 16},
        command="yolograft compare --base yolov8n.yaml --recipes sk,ca",
        notes=["The control yolov8n-wide has 12.00 GFLOPs."],
        versions={"yolograft": "0.1.0", "torch": "2.15.0"},
    )
    records.save(folder / "plan.json", plan)
