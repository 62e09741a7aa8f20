"""The stock command on COCO JSON, from training to the numbers."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from coco_sets import content
from test_dataset import label_files, real, with_poses
from test_metrics import compare, official

from yolograft.coco.metrics import training_columns

SMALL = ["imgsz=64", "batch=4", "workers=0", "device=cpu", "conf=0.00001"]


def results(run):
    with (run / "results.csv").open() as file:
        return list(csv.reader(file))


def check(run, truth, kinds, sigmas=None):
    """The run's numbers are pycocotools' on the predictions that it saved."""
    pytest.importorskip("pycocotools")
    told = json.loads((run / "coco_metrics.json").read_text())
    rows = json.loads((run / "predictions.json").read_text())
    data = json.loads(Path(truth).read_text())
    assert told["predictions"] == len(rows) > 0
    assert told["images"] == len(data["images"])
    assert {r["image_id"] for r in rows} <= {i["id"] for i in data["images"]}
    assert {r["category_id"] for r in rows} <= {c["id"] for c in data["categories"]}
    for kind in kinds:
        compare(told[kind], official(truth, rows, kind, sigmas if kind == "keypoints" else None))
    return told


@pytest.mark.parametrize(
    ("task", "model", "kinds"),
    [
        ("detect", "yolov8n-sk.yaml", ["bbox"]),
        ("segment", "yolov8n-seg.yaml", ["bbox", "segm"]),
        ("pose", "yolov8n-pose.yaml", ["bbox", "keypoints"]),
    ],
)
def test_train_and_val(coco, yolo, tmp_path, task, model, kinds):
    file = coco(with_poses if task == "pose" else None)
    truth = tmp_path / "set" / "annotations" / "instances_val.json"
    before = sorted((tmp_path / "set").rglob("*"))
    place = [f"project={tmp_path / 'runs'}", "name=run"]
    plots = f"plots={task == 'detect'}"
    train = [f"model={model}", "data=data.yaml", "epochs=2", plots, *SMALL, *place]
    out = yolo(task, "train", *train, cwd=tmp_path)
    run = tmp_path / "runs" / "run"
    assert "COCO bbox" in out
    check(run, truth, kinds, sigmas=[0.25] * 4)
    head, *rows = results(run)
    assert len(rows) == 2
    assert all(len(row) == len(head) for row in rows)
    assert set(training_columns(task)) < set(head)
    assert "data: data.yaml\n" in (run / "args.yaml").read_text()
    again = [f"model={run / 'weights' / 'best.pt'}", f"data={file}", *SMALL, "plots=False"]
    out = yolo(task, "val", *again, f"project={tmp_path / 'runs'}", "name=val", cwd=tmp_path)
    told = check(tmp_path / "runs" / "val", truth, kinds, sigmas=[0.25] * 4)
    assert f"COCO {kinds[-1]}" in out
    assert told["annotations"] == {str(truth): "predictions.json"}
    assert sorted((tmp_path / "set").rglob("*")) == before


def test_epochs_without_validation_keep_the_columns(coco, yolo, tmp_path):
    coco()
    place = [f"project={tmp_path}", "name=run"]
    options = ["epochs=2", "val=False", "save_json=True", *SMALL, *place]
    yolo("train", "model=yolov8n.yaml", "data=data.yaml", *options, cwd=tmp_path)
    head, *rows = results(tmp_path / "run")
    assert [len(row) for row in rows] == [len(head)] * 2
    at = head.index("metrics/mAP_small(B)")
    assert float(rows[0][at]) == 0
    last = dict(zip(head, map(float, rows[1]), strict=True))
    assert last["val/cls_loss"] > 0
    assert -1 <= last["metrics/AP(B)"] <= 1


def test_label_files_are_as_before(coco, yolo, tmp_path):
    coco()
    file = label_files(tmp_path / "set")
    heads = []
    for switch in ("1", "0"):
        place = [f"project={tmp_path}", f"name=run{switch}"]
        options = [f"data={file}", "epochs=1", "plots=False", *SMALL, *place]
        env = {"YOLOGRAFT_AUTOLOAD": switch}
        yolo("train", "model=yolov8n.yaml", *options, cwd=tmp_path, env=env)
        rows = results(tmp_path / f"run{switch}")
        heads.append([rows[0], [v for k, v in zip(*rows, strict=True) if k != "time"]])
        assert not (tmp_path / f"run{switch}" / "coco_metrics.json").exists()
    assert heads[0] == heads[1]


def test_options_of_a_validation(coco, tmp_path):
    from ultralytics import YOLO

    file, truth = coco(), tmp_path / "set" / "annotations" / "instances_val.json"
    model = YOLO("yolov8n.yaml")
    common = {"data": str(file), "imgsz": 64, "device": "cpu", "conf": 1e-5, "plots": False}
    common |= {"project": str(tmp_path), "exist_ok": True}
    ids = sorted(c["id"] for c in content()["categories"])
    model.val(**common, name="part", classes=[1])
    assert json.loads((tmp_path / "part" / "predictions.json").read_text())
    model.val(**common, name="one", single_cls=True)
    told = json.loads((tmp_path / "one" / "coco_metrics.json").read_text())
    assert told["categories"] == "ignored"
    rows = json.loads((tmp_path / "one" / "predictions.json").read_text())
    assert {r["category_id"] for r in rows} == {ids[0]}
    model.val(**common, name="rect", rect=True, save_json=True)
    check(tmp_path / "rect", truth, ["bbox"])


RANK = """
import os
import sys

import torch
from torch import distributed, nn
from ultralytics.models.yolo.detect import DetectionTrainer
from yolograft.coco import index


class OnCpu(nn.parallel.DistributedDataParallel):
    def __init__(self, module, device_ids=None, **kwargs):
        super().__init__(module, **kwargs)


class Gloo(DetectionTrainer):
    def _setup_ddp(self):
        nn.parallel.DistributedDataParallel = OnCpu
        distributed.init_process_group("gloo")

    def final_eval(self):
        pass  # the stock validator wants a GPU in a group


def build(*args, real=index.build):
    open(f"{sys.argv[1]}/built-{os.environ['RANK']}-{args[0].name}", "w").close()
    return real(*args)


index.build = build
trainer = Gloo(overrides=OVERRIDES)
trainer.world_size = 2
trainer.train()
"""


def test_two_ranks(coco, tmp_path):
    settings = {"model": "yolov8n.yaml", "data": str(coco()), "epochs": 1, "imgsz": 64, "batch": 4}
    settings |= {"workers": 0, "plots": False, "device": "cpu", "project": str(tmp_path)}
    settings |= {"name": "run", "conf": 1e-5}
    script = tmp_path / "rank.py"
    script.write_text(RANK.replace("OVERRIDES", repr(settings)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run([*command, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    built = sorted(p.name.split("-")[2] for p in tmp_path.glob("built-*"))
    assert built == ["instances_train.json", "instances_val.json"]  # once each, by any rank
    told = json.loads((tmp_path / "run" / "coco_metrics.json").read_text())
    assert (told["images"], told["predictions"] > 0) == (6, True)
    head, row = results(tmp_path / "run")
    numbers = dict(zip(head, map(float, row), strict=True))
    np.testing.assert_allclose(numbers["metrics/AP(B)"], told["bbox"]["AP"], atol=1e-5)


def test_real_coco_trains(yolo, tmp_path):
    root = real("coco_open104")
    lines = [f"path: {root}", "train: annotations/instances_train.json"]
    lines += ["val: annotations/instances_val.json"]
    (tmp_path / "data.yaml").write_text("\n".join(lines))
    place = [f"project={tmp_path}", "name=run", "plots=False", "data=data.yaml", "epochs=1"]
    place += ["max_det=20"]  # masks in full size take their time
    yolo("segment", "train", "model=yolov8n-seg.yaml", "fraction=0.2", *SMALL, *place, cwd=tmp_path)
    check(tmp_path / "run", root / "annotations" / "instances_val.json", ["bbox", "segm"])
