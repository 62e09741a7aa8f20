"""Tiny COCO sets, drawn on the spot; and fixtures of the rooms that test with them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml


def content(images=6, seed=0, categories=((7, "cat"), (3, "dog"), (40, "owl")), first=1):
    """A COCO mapping: boxes with polygons, two backgrounds' worth of gaps, one crowd region."""
    random = np.random.default_rng(seed)
    rows = []
    pictures = []
    for i in range(images):
        w, h = [int(v) for v in random.integers(60, 120, 2)]
        pictures.append({"id": 10 + 3 * i, "file_name": f"{i:03}.jpg", "width": w, "height": h})
        for _ in range(0 if i == 1 else int(random.integers(1, 5))):
            x, y = random.uniform(0, 0.6, 2) * (w, h)
            bw, bh = random.uniform(0.1, 0.39, 2) * (w, h)
            corners = [x, y, x + bw, y, x + bw, y + bh, x + bw / 2, y + bh * 0.8, x, y + bh]
            rows.append(
                {
                    "id": first + len(rows),
                    "image_id": pictures[-1]["id"],
                    "category_id": categories[int(random.integers(len(categories)))][0],
                    "bbox": [x, y, bw, bh],
                    "area": bw * bh * 0.9,
                    "iscrowd": 0,
                    "segmentation": [corners],
                }
            )
    one = pictures[0]
    w, h = one["width"], one["height"]
    crowd = {"size": [h, w], "counts": [h * 5, h * 20, h * (w - 25)]}
    box = {"bbox": [5, 0, 20, h], "area": 20 * h, "iscrowd": 1, "segmentation": crowd}
    names = {"image_id": one["id"], "category_id": categories[0][0]}
    rows.append({"id": first + len(rows), **names, **box})
    return {
        "images": pictures,
        "annotations": rows,
        "categories": [{"id": i, "name": name} for i, name in categories],
    }


def draw(folder, data, seed=0):
    """Write the images of a COCO mapping."""
    random = np.random.default_rng(seed)
    for row in data["images"]:
        file = Path(folder) / row["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (int(row["height"]), int(row["width"]), 3)
        assert cv2.imwrite(str(file), random.integers(0, 255, shape, dtype=np.uint8))


def write(file, data):
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    return file


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(folder))
    return folder


@pytest.fixture
def coco(tmp_path):
    """A data YAML in the usual layout; ``edit`` changes a mapping before it is written."""

    def make(edit=None, more=None, images=6, pictures=True):
        root = tmp_path / "set"
        for seed, split in enumerate(("train", "val")):
            data = content(images, seed)
            if pictures:
                draw(root / "images" / split, data, seed)
            if edit:
                data = edit(data, split) or data
            write(root / "annotations" / f"instances_{split}.json", data)
        config = {
            "path": str(root),
            "train": "annotations/instances_train.json",
            "val": "annotations/instances_val.json",
            **(more or {}),
        }
        file = tmp_path / "data.yaml"
        file.write_text(yaml.safe_dump(config))
        return file

    return make


@pytest.fixture
def build():
    """Read a data YAML and build the dataset of a split, as Ultralytics does."""

    def call(file, split="train", task="detect", batch=4, **options):
        from ultralytics.cfg import get_cfg
        from ultralytics.data import build_yolo_dataset
        from ultralytics.data.utils import check_det_dataset

        data = check_det_dataset(str(file))
        if options.get("single_cls"):
            data["names"], data["nc"] = {0: "item"}, 1
        cfg = get_cfg(overrides={"task": task, "imgsz": 64, **options})
        return build_yolo_dataset(cfg, data[split], batch, data, mode=split)

    return call
