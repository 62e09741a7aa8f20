"""The stock command on COCO JSON, from training to the numbers."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from coco_sets import content
from test_dataset import label_files, real, with_poses
from test_metrics import compare, official

from yolograft.coco.results import training_columns

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
    told = json.loads((tmp_path / "run" / "coco_metrics.json").read_text())
    assert last["metrics/AP(B)"] == pytest.approx(told["bbox"]["AP"], abs=1e-5)


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


@pytest.mark.long
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


@pytest.mark.long
def test_a_run_is_resumed_without_the_cache(coco, cache, tmp_path, monkeypatch):
    """The data YAML that the command writes lies in the run's folder; a run of that name stays."""
    import shutil

    from yolograft import cli

    coco()
    root = tmp_path / "set"
    (root / "images").rename(root / "pictures")
    data = []
    for split in ("train", "val"):
        data += [f"--coco-{split}", str(root / "annotations" / f"instances_{split}.json")]
        data += [f"--{split}-images", str(root / "pictures" / split)]
    (tmp_path / "runs" / "run" / "weights").mkdir(parents=True)  # the next is run2
    (tmp_path / "runs" / "run" / "args.yaml").write_text("mine")
    monkeypatch.chdir(tmp_path)
    place = [f"project={tmp_path / 'runs'}", "name=run", "save_period=1", "plots=False"]
    words = ["train", "--model", "yolov8n.yaml", *data, "--device", "cpu", "epochs=2", *place]
    assert cli.main([*words, "imgsz=64", "batch=4"]) == 0
    (run,) = {p for p in (tmp_path / "runs").iterdir() if p.name != "run"}
    told = yaml.safe_load((run / "args.yaml").read_text())
    assert Path(told["data"]).parent == run
    assert yaml.safe_load(Path(told["data"]).read_text())["val"] == [data[5]]
    assert (tmp_path / "runs" / "run" / "args.yaml").read_text() == "mine"
    shutil.rmtree(cache / "yolograft")
    assert cli.main(["train", "--resume", str(run / "weights" / "epoch0.pt")]) == 0
    assert [row[0] for row in results(run)] == ["epoch", "1", "2", "2"]
    numbers = json.loads((run / "coco_metrics.json").read_text())
    assert list(numbers["annotations"]) == [data[5]]


def test_no_annotations_give_predictions(coco, yolo, tmp_path):
    """As for test-dev: there is a list of images, and nothing to compare with."""

    def edit(data, split):
        if split == "val":
            del data["annotations"]

    file = coco(edit)
    model = tmp_path / "model.pt"
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    net = YOLO("yolov8n.yaml")
    net.model = DetectionModel("yolov8n.yaml", nc=3, verbose=False)  # the classes of the JSON
    net.model.names = {0: "dog", 1: "cat", 2: "owl"}
    net.save(model)
    place = [f"project={tmp_path}", "name=run", "plots=False"]
    out = yolo("detect", "val", f"model={model}", f"data={file}", *SMALL, *place, cwd=tmp_path)
    truth = tmp_path / "set" / "annotations" / "instances_val.json"
    assert f"{truth}: no annotation to validate against" in out
    assert "as in test sets): predictions.json is written, without COCO numbers" in out
    assert "Traceback" not in out
    rows = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert set() != {r["image_id"] for r in rows} <= {i["id"] for i in content()["images"]}
    assert "bbox" not in json.loads((tmp_path / "run" / "coco_metrics.json").read_text())
