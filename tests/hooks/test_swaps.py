"""Nothing of the host is replaced while it works: another thread would see it."""

import json
from types import ModuleType

import pytest
import torch
import yaml
from PIL import Image
from torch import distributed, nn
from ultralytics.cfg import get_cfg
from ultralytics.data import build
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.models.yolo.detect import DetectionTrainer

from yolograft import ultra
from yolograft.coco.dataset import CocoDataset
from yolograft.training import nodes


@pytest.fixture
def assigned(monkeypatch):
    """Watch modules; returns what was assigned to their names."""
    names = []

    class Watched(ModuleType):
        def __setattr__(self, name, value):
            names.append(name)
            super().__setattr__(name, value)

    for module in (build, nn, nn.parallel, torch):
        module.__class__ = Watched
    yield names
    for module in (build, nn, nn.parallel, torch):
        module.__class__ = ModuleType


@pytest.fixture
def data(tmp_path):
    """A data YAML with COCO JSON of one image, and one with label files."""
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "a.png")
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 64}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 32, 32], "area": 1024}
    content = {
        "images": [image],
        "annotations": [{**box, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "a.txt").write_text("0 0.4 0.4 0.5 0.5\n")
    for name, split in (("coco", "a.json"), ("labels", "a.png")):
        config = {"path": str(tmp_path), "train": split, "val": split, "names": ["a"]}
        config |= {"images": "."} if name == "coco" else {}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_a_coco_dataset_is_built_beside_the_stock_one(data, assigned):
    config = get_cfg(overrides={"task": "detect", "imgsz": 64, "fraction": 1.0, "cache": False})
    checked = check_det_dataset(str(data / "coco.yaml"))
    ours = build.build_yolo_dataset(config, checked["train"], 1, checked, mode="val", rect=True)
    assert type(ours) is CocoDataset
    assert ours.rect
    assert ours.stride == 32
    assert not ours.augment
    assert "YOLODataset" not in assigned
    assert build.YOLODataset is YOLODataset


def test_a_function_of_the_host_that_changed_is_no_silent_fit():
    with pytest.raises(ultra.Misfit, match="does not use YOLODataset"):
        ultra.with_globals(get_cfg, YOLODataset=CocoDataset)


def test_parallel_training_on_cpus_is_set_up_beside_the_stock_one(data, assigned, monkeypatch):
    monkeypatch.chdir(data)
    place = f"file://{data}/rendezvous"
    distributed.init_process_group("gloo", init_method=place, rank=0, world_size=1)
    try:
        overrides = {"model": "yolov8n.yaml", "data": str(data / "coco.yaml"), "device": "cpu"}
        overrides |= {"imgsz": 64, "batch": 2, "epochs": 1, "workers": 0, "plots": False}
        overrides |= {"project": str(data / "runs")}
        monkeypatch.setattr(nodes, "RANK", 0)  # as torchrun gives it
        trainer = nodes.across(DetectionTrainer)(overrides=overrides)
        trainer.world_size = 2
        trainer._setup_train()
        assert type(trainer.model) is nodes._OnCpu
        assert trainer.model.module.model[-1].nc == 1
        assert not {"parallel", "DistributedDataParallel", "nn"} & {*assigned}
    finally:
        distributed.destroy_process_group()
