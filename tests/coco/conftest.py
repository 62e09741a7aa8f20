"""A data YAML, its dataset, and a cache folder of each test's own."""

import pytest
import yaml
from coco_sets import content, draw, write


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
