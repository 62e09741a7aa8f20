"""Official numbers through Ultralytics' validators: restricted, by name, of others, and failed."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_dataset import label_files, with_poses
from test_metrics import compare
from ultralytics import RTDETR, YOLO
from ultralytics.data import YOLODataset
from ultralytics.models.rtdetr import RTDETRValidator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.models.yolo.pose import PoseValidator
from ultralytics.models.yolo.segment import SegmentationValidator
from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel
from ultralytics.utils import ops

from yolograft import ConfigError, cli

pytest.importorskip("pycocotools")

TASKS = {
    "detect": (DetectionValidator, DetectionModel, "yolov8n.yaml", ["bbox"]),
    "segment": (SegmentationValidator, SegmentationModel, "yolov8n-seg.yaml", ["bbox", "segm"]),
    "pose": (PoseValidator, PoseModel, "yolov8n-pose.yaml", ["bbox", "keypoints"]),
}
NAMES = ("dog", "cat", "owl")  # of coco_sets, ordered by id
IDS = (3, 7, 40)
SIGMAS = [0.25] * 4


def official(data, rows, kind, categories=IDS, agnostic=False):
    """pycocotools on the part of the data that counts."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data, rows = json.loads(json.dumps([data, rows]))
    data["annotations"] = [a for a in data["annotations"] if a["category_id"] in categories]
    rows = [r for r in rows if r["category_id"] in categories]
    if agnostic:
        for row in (*data["annotations"], *rows):
            row["category_id"] = 1
        data["categories"] = [{"id": 1, "name": "any"}]
    truth = COCO()
    truth.dataset = data
    truth.createIndex()
    run = COCOeval(truth, truth.loadRes(rows), kind)
    if kind == "keypoints":
        run.params.kpt_oks_sigmas = np.array(SIGMAS)
    run.params.imgIds = [image["id"] for image in data["images"]]
    run.params.catIds = [1] if agnostic else list(categories)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats.tolist()


def finding(base, truth):
    """A validator that finds what the JSON says, a little off, in the numbers of its model."""
    data = json.loads(Path(truth).read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    images = {i["id"]: i["file_name"] for i in data["images"]}
    known = {name: [] for name in images.values()}
    for row in data["annotations"]:
        known[images[row["image_id"]]].append(row)

    class Finding(base):
        def preprocess(self, batch):
            self.batch = super().preprocess(batch)
            return self.batch

        def postprocess(self, preds):
            return [self.one(i, Path(f).name) for i, f in enumerate(self.batch["im_file"])]

        def one(self, i, file):
            random = np.random.default_rng(int(Path(file).stem))
            height, width = self.batch["img"].shape[2:]
            h, w = self.batch["ori_shape"][i]
            ratio = self.batch["ratio_pad"][i]
            stretched = not isinstance(ratio[0], tuple | list)
            gain = (width / w, height / h) if stretched else (ratio[0][0],) * 2
            pad = (0, 0) if stretched else ratio[1]
            numbers = {str(v).strip().lower(): k for k, v in self.names.items()}
            boxes, classes, points = [], [], []
            for row in known[file]:
                for _ in range(2):
                    box = np.array(row["bbox"], dtype=float)
                    box += random.normal(0, 0.06, 4) * np.tile(box[2:], 2)
                    told = NAMES[int(random.integers(3))] if random.random() < 0.2 else None
                    told = told or names[row["category_id"]]
                    box[2:] += box[:2]
                    boxes.append(box.reshape(2, 2) * gain + pad)
                    classes.append(numbers.get(told, 0))
                    points.append(box[:2] + random.random((4, 2)) * (box[2:] - box[:2]))
            found = {
                "bboxes": torch.tensor(np.reshape(boxes, (-1, 4)), dtype=torch.float32),
                "conf": torch.tensor(np.sort(random.random(len(boxes)))[::-1].copy()).float(),
                "cls": torch.tensor(classes, dtype=torch.float32),
            }
            if self.args.task == "pose":
                placed = np.reshape(points, (-1, 4, 2)) * gain + pad
                seen = np.concatenate((placed, np.ones((len(placed), 4, 1))), 2)
                found["keypoints"] = torch.tensor(seen, dtype=torch.float32)
            if self.args.task == "segment":
                masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
                for k, (x0, y0, x1, y1) in enumerate(found["bboxes"].int().clip(0).tolist()):
                    masks[k, y0:y1, x0:x1] = 1
                small = self.process is not ops.process_mask_native
                found["masks"] = masks[:, ::4, ::4] if small else masks
            return found

    return Finding


def model(task, names=NAMES):
    _, kind, file, _ = TASKS[task]
    found = YOLO(file)
    more = {"data_kpt_shape": [4, 3]} if task == "pose" else {}
    found.model = kind(file, nc=len(names), verbose=False, **more)
    found.model.names = dict(enumerate(names))
    found.model.args, found.model.task = {"task": task, "imgsz": 64}, task
    return found


@pytest.fixture
def validate(coco, tmp_path):
    """Validate; return Ultralytics' metrics, the numbers and the predictions, where there are."""

    def call(found, validator, file=tmp_path / "data.yaml", name="run", **options):
        options |= {"data": str(file), "imgsz": 64, "batch": 4, "device": "cpu", "workers": 0}
        options |= {"plots": False, "project": str(tmp_path), "name": name, "exist_ok": True}
        metrics = found.val(validator=validator, conf=1e-5, **options)
        file = tmp_path / name / "coco_metrics.json"
        if not file.exists():
            return metrics, None, None
        told = json.loads(file.read_text())
        (saved,) = told["annotations"].values()
        return metrics, told, json.loads((tmp_path / name / saved).read_text())

    return call


def val_json(tmp_path):
    return tmp_path / "set" / "annotations" / "instances_val.json"


@pytest.mark.parametrize("task", TASKS)
def test_restricted_numbers_equal_pycocotools(coco, validate, tmp_path, task):
    coco(with_poses)
    data = json.loads(val_json(tmp_path).read_text())
    base, _, _, kinds = TASKS[task]
    finder, net = finding(base, val_json(tmp_path)), model(task)
    for options, wanted in (
        ({"classes": 0}, (3,)),
        ({"classes": [0, 2]}, (3, 40)),
        ({"single_cls": True}, IDS),
        ({"single_cls": True, "classes": [2]}, (40,)),
    ):
        metrics, told, rows = validate(net, finder, **options)
        agnostic = "single_cls" in options
        if agnostic:
            assert {row["category_id"] for row in rows} == {wanted[0]}
            rows = [{**row, "category_id": wanted[0]} for row in rows]
        for kind in kinds:
            compare(told[kind], official(data, rows, kind, wanted, agnostic))
            assert told[kind]["AP50"] > 0.05
        assert metrics.results_dict["metrics/AP(B)"] == told["bbox"]["AP"]
        assert [one["id"] for one in told["classes"]] == ([] if agnostic else list(wanted))
    metrics, told, _ = validate(net, finder, classes=99)
    assert {*told["bbox"].values()} == {-1}


def test_each_class_has_its_numbers(coco, validate, tmp_path):
    def edit(data, split):
        data["categories"].insert(1, {"id": 5, "name": "bird"})  # no annotation

    coco(edit)
    data = json.loads(val_json(tmp_path).read_text())
    finder = finding(DetectionValidator, val_json(tmp_path))
    metrics, told, rows = validate(model("detect"), finder)
    assert [(one["id"], one["name"]) for one in told["classes"]] == [
        (3, "dog"),
        (5, "bird"),
        (7, "cat"),
        (40, "owl"),
    ]
    assert told["classes"].pop(1)["bbox"] == {"AP": None, "AP50": None}
    for one in told["classes"]:
        stats = official(data, rows, "bbox", (one["id"],))
        assert list(one["bbox"].values()) == pytest.approx(stats[:2], abs=1e-6)
    want = {"metrics/AP(B)": "AP", "metrics/mAP_small(B)": "APs", "metrics/AR(B)": "AR100"}
    for key, name in want.items():
        assert metrics.results_dict[key] == told["bbox"][name]
    assert metrics.results_dict["fitness"] == metrics.fitness


def test_a_bad_pose_drops_itself_alone(coco, validate, tmp_path):
    def edit(data, split):
        with_poses(data, split)
        rows = data["annotations"]
        rows[0]["keypoints"] = [1.0, 2.0, 2]
        rows[1]["keypoints"] = None
        del rows[2]["keypoints"]
        rows[3]["keypoints"][3] = "left"
        rows[4]["keypoints"][0] = float("nan")
        rows[5]["keypoints"] = rows[5]["keypoints"] * 2
        del rows[6]["num_keypoints"]
        rows[7]["num_keypoints"] = None

    file = coco(edit)
    data = json.loads(val_json(tmp_path).read_text())
    finder = finding(PoseValidator, val_json(tmp_path))
    _, told, rows = validate(model("pose"), finder, file)
    compare(told["bbox"], official(data, rows, "bbox"))
    del data["annotations"][:6]
    for row in data["annotations"][:2]:
        row["num_keypoints"] = 3
    compare(told["keypoints"], official(data, rows, "keypoints"))
    assert told["keypoints"]["AP50"] > 0.05


MANY = ("ant", "owl", "bee", "dog", "elk", "cat")


@pytest.mark.parametrize("task", TASKS)
def test_classes_of_a_model_are_found_by_name(coco, validate, tmp_path, task):
    coco(with_poses)
    finder = finding(TASKS[task][0], val_json(tmp_path))
    host, told, _ = validate(model(task), finder)
    assert host.results_dict["metrics/mAP50(B)"] > 0.05
    for names in (("owl", "dog", "cat"), MANY, ("Owl ", "CAT", "dog")):
        metrics, again, rows = validate(model(task, names), finder)
        for kind in TASKS[task][3]:
            assert again[kind] == told[kind]
        assert metrics.results_dict == pytest.approx(host.results_dict)
        assert {row["category_id"] for row in rows} == {*IDS}


def test_workers_learn_of_the_classes(coco, validate, tmp_path):
    coco()
    loaders = []

    class Shared(finding(DetectionValidator, val_json(tmp_path))):
        def get_dataloader(self, path, batch):
            self.args.workers = 1
            loaders.append(loaders[0] if loaders else super().get_dataloader(path, batch))
            return loaders[0]

    aps = []
    for names in (("owl", "dog", "cat"), NAMES):
        metrics, told, _ = validate(model("detect", names), Shared)
        aps.append((told["bbox"]["AP"], metrics.results_dict["metrics/mAP50-95(B)"]))
    assert loaders[0].num_workers == 1
    assert aps[0] == pytest.approx(aps[1])
    assert aps[0][1] > 0.05


@pytest.mark.long
def test_classes_that_a_model_lacks(coco, validate, tmp_path, caplog):
    def unused(data, split):
        data["categories"].insert(0, {"id": 0, "name": "animals"})

    coco(unused)  # as Roboflow writes it: no annotation is of it
    finder = finding(DetectionValidator, val_json(tmp_path))
    host, told, _ = validate(model("detect"), finder)
    coco()
    plain, again, _ = validate(model("detect"), finder)
    assert again["bbox"] == told["bbox"]
    assert plain.results_dict == host.results_dict
    with pytest.raises(ConfigError) as error:
        validate(model("detect", ("cat", "owl")), finder)
    for said in ("['cat', 'owl']", "['dog', 'cat', 'owl']", "no ['dog']", "classes=[1, 2]"):
        assert said in str(error.value)
    with pytest.raises(ConfigError, match=r"\['cat', 'dog', 'bird'\]"):
        validate(model("detect", ("cat", "dog", "bird")), finder)
    _, told, _ = validate(model("detect", ("dog", "cat", "bird")), finder)  # the same order
    assert told["bbox"]["AP50"] > 0
    for names in (("0", "1", "2"), ("class0", "class1", "class2")):  # never named
        assert validate(model("detect", names), finder)[1]["images"] == 6


def filtered(preds):
    return [{k: v[pred["conf"] > 0.4] for k, v in pred.items()} for pred in preds]


def others(base):
    """Validators of others, by name: what they change, and whether the numbers stay the same."""

    class Update(base):
        def update_metrics(self, preds, batch):
            for i, pred in enumerate(preds):
                self.seen += 1
                truth = self._prepare_batch(i, batch)
                cls = truth["cls"].numpy()
                stats = {"target_cls": cls, "target_img": np.unique(cls), "im_name": str(i)}
                stats |= {"conf": pred["conf"].numpy(), "pred_cls": pred["cls"].numpy()}
                self.metrics.update_stats({**self._process_batch(pred, truth), **stats})

    class Fewer(base):
        def update_metrics(self, preds, batch, *extra):
            super().update_metrics(filtered(preds), batch)

    class Stats(base):
        def get_stats(self):
            self.metrics.process(save_dir=self.save_dir)
            return {"mine": 1.0}

    class Fitness(base):
        def get_stats(self):
            stats = super().get_stats()
            return {**stats, "fitness": stats["metrics/AP(B)"]}

    class Nothing(base):
        def get_stats(self):
            super().get_stats()

    class Json(base):
        def pred_to_json(self, predn, pbatch):
            self.jdict.append({"file": pbatch["im_file"]})

    class More(base):
        def pred_to_json(self, predn, pbatch):
            super().pred_to_json(predn, pbatch)
            for row in self.jdict:
                row["category_id"] += 100

    class Broken(base):
        def pred_to_json(self, predn, pbatch):
            raise NotImplementedError

    class Prepare(base):
        def _prepare_pred(self, pred):
            return filtered([super()._prepare_pred(pred)])[0]

    class InPlace(base):
        def _prepare_pred(self, pred):
            pred["cls"] = (pred["cls"] + 1) % 3
            return pred

    class Gather(base):
        def gather_stats(self):
            pass

        def print_results(self):
            pass

    same = (Stats, Fitness, Nothing, Json, More, Broken, Gather)
    return same, (Fewer, Prepare, InPlace), Update


@pytest.mark.parametrize("task", ["detect", "pose"])
def test_validators_of_others(coco, validate, tmp_path, caplog, task):
    coco(with_poses)
    data = json.loads(val_json(tmp_path).read_text())
    base, _, _, kinds = TASKS[task]
    finder, net = finding(base, val_json(tmp_path)), model(task)
    _, plain, _ = validate(net, finder)
    same, changed, without = others(finder)
    for validator in (*same, *changed):
        metrics, told, rows = validate(net, validator)
        for kind in kinds:
            assert (told[kind] == plain[kind]) == (validator in same), validator
            compare(told[kind], official(data, rows, kind))
        assert metrics.results_dict["metrics/AP(B)"] == told["bbox"]["AP"]
        host = metrics.results_dict["metrics/mAP50(B)"]  # of the same predictions
        assert told["bbox"]["AP50"] == pytest.approx(host, abs=0.1), validator
    caplog.clear()
    metrics, told, _ = validate(net, without)  # into the folder that held numbers
    assert told is None
    assert "metrics/AP(B)" not in metrics.results_dict
    assert "Update.update_metrics does not call Ultralytics' own" in caplog.text


def test_predictions_of_others_stay_theirs(coco, validate, tmp_path):
    coco()
    data = json.loads(val_json(tmp_path).read_text())
    (_, _, _, mine, *_), *_ = others(finding(DetectionValidator, val_json(tmp_path)))
    _, told, rows = validate(model("detect"), mine, save_json=True)
    compare(told["bbox"], official(data, rows, "bbox"))
    theirs = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert theirs[0].keys() == {"file"}


def test_data_of_others_with_an_attribute_of_ours(coco, validate, tmp_path):
    coco()
    file = label_files(tmp_path / "set")

    class Indexed(YOLODataset):
        indexes = samples = ("theirs",)

    class Validator(finding(DetectionValidator, val_json(tmp_path))):
        def build_dataset(self, *args, **kwargs):
            found = super().build_dataset(*args, **kwargs)
            found.__class__ = Indexed
            return found

    metrics, told, _ = validate(model("detect"), Validator, file)
    assert told is None
    assert metrics.results_dict["metrics/mAP50(B)"] > 0.05
    assert "metrics/AP(B)" not in metrics.results_dict


def test_a_part_of_the_images(coco, validate, tmp_path, caplog):
    from torch.utils.data import DataLoader, Subset

    coco()
    data = json.loads(val_json(tmp_path).read_text())

    class Training(finding(DetectionValidator, val_json(tmp_path))):
        def build_dataset(self, path, mode="val", batch=None):
            return super().build_dataset(path, "train", batch)

    assert validate(model("detect"), Training, rect=False)[1] is None
    assert "the dataset is augmented" in caplog.text

    class Part(finding(DetectionValidator, val_json(tmp_path))):
        def get_dataloader(self, path, batch):
            found = self.build_dataset(path, batch=batch)
            part = Subset(found, [0, 2, 3])
            part.im_files = found.im_files
            return DataLoader(part, batch, collate_fn=found.collate_fn)

    _, told, rows = validate(model("detect", ("owl", "dog", "cat")), Part, rect=False)
    data["images"] = [data["images"][i] for i in (0, 2, 3)]
    ids = [image["id"] for image in data["images"]]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in ids]
    assert told["images"] == 3
    compare(told["bbox"], official(data, rows, "bbox"))


def test_a_failed_evaluation_leaves_blanks(coco, tmp_path):
    file, truth, run = coco(), val_json(tmp_path), tmp_path / "run"
    run.mkdir()
    (run / "coco_metrics.json").write_text("{}")  # another run's
    kept, there = truth.read_bytes(), []
    net = YOLO("yolov8n.yaml")
    net.add_callback("on_val_start", lambda validator: there or truth.unlink())
    net.add_callback("on_val_end", lambda v: there.append((run / "coco_metrics.json").exists()))
    net.add_callback("on_fit_epoch_end", lambda trainer: truth.write_bytes(kept))
    options = {"imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "plots": False}
    net.train(data=str(file), epochs=2, project=str(tmp_path), name="run", exist_ok=True, **options)
    head, *rows = csv.reader((run / "results.csv").read_text().splitlines())
    assert [len(row) for row in rows] == [len(head)] * 2
    ours = [i for i, key in enumerate(head) if key in ("metrics/AP(B)", "metrics/AR(B)")]
    assert [[row[i] == "" for i in ours] for row in rows] == [[True] * 2, [False] * 2]
    assert all(row[head.index("val/cls_loss")] for row in rows)
    assert there[:2] == [False, True]


def test_what_failed_in_each_epoch_is_told_at_the_end_again(coco, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("ultralytics.engine.validator.LOGGER.warning", told.append)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    options = {"imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "plots": False}
    YOLO("yolov8n.yaml").train(data=str(coco()), epochs=2, project=str(tmp_path), **options)
    assert sum("COCO metrics left out" in one for one in told) == 2


def test_the_command_prints_no_other_numbers(coco, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, run = coco(), tmp_path / "run"
    weights = tmp_path / "model.pt"
    model("detect").save(weights)
    words = ["val", "--model", str(weights), "--device", "cpu", "imgsz=64", "batch=4"]
    words += ["plots=False", f"project={tmp_path}", "name=run", "exist_ok=True", "workers=0"]
    assert cli.main([*words, "--data", str(file)]) == 0
    assert "COCO bbox" in capsys.readouterr().out
    with monkeypatch.context() as patch:  # as where it is not installed
        patch.setitem(sys.modules, "faster_coco_eval", None)
        assert cli.main([*words, "--data", str(file)]) == 1
    out = capsys.readouterr().out
    assert "there are no COCO metrics" in out
    assert "COCO bbox" not in out
    assert not (run / "coco_metrics.json").exists()
    assert (run / "predictions.json").exists()
    assert cli.main([*words, "--data", str(file)]) == 0
    assert (run / "coco_metrics.json").exists()
    capsys.readouterr()
    assert cli.main([*words, "--data", str(label_files(tmp_path / "set"))]) == 0
    assert "COCO" not in capsys.readouterr().out.replace(str(tmp_path), "")
    assert not (run / "coco_metrics.json").exists()


SQUARES = """
nc: 3
scales: {l: [1, 1, 1024]}
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
head: [[[2, 3, 4], 1, RTDETRDecoder, [nc, 32, 20, 2, 4, 1, 64]]]
"""


def test_rtdetr_reads_coco_json(coco, validate, tmp_path):
    file, truth = coco(), val_json(tmp_path)
    data = json.loads(truth.read_text())
    (tmp_path / "rtdetr-tiny.yaml").write_text(SQUARES)
    net = RTDETR(str(tmp_path / "rtdetr-tiny.yaml"))
    options = {"imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "plots": False}
    net.train(data=str(file), epochs=1, project=str(tmp_path), name="train", **options)
    told = json.loads((tmp_path / "train" / "coco_metrics.json").read_text())
    assert told["images"] == 6
    for names in (NAMES, ("owl", "cat", "dog")):
        net.model.names = dict(enumerate(names))
        metrics, told, rows = validate(net, finding(RTDETRValidator, truth), file)
        compare(told["bbox"], official(data, rows, "bbox"))
        assert told["bbox"]["AP50"] > 0.05
        assert metrics.results_dict["metrics/mAP50(B)"] > 0.05


def test_names_in_another_order(coco, validate, tmp_path):
    coco()
    finder = finding(DetectionValidator, val_json(tmp_path))
    host, told, _ = validate(model("detect"), finder)
    from ultralytics.data.utils import check_det_dataset

    for names in (["owl", "dog", "cat"], {1: "dog", 0: "owl", 2: "cat"}, ["Owl", "dog ", "cat"]):
        file = coco(more={"names": names})
        assert check_det_dataset(str(file))["names"] == {0: "owl", 1: "dog", 2: "cat"}
        for order in (NAMES, ("owl", "dog", "cat")):
            metrics, again, _ = validate(model("detect", order), finder, file)
            assert again["bbox"] == told["bbox"]
            assert metrics.results_dict == pytest.approx(host.results_dict)
    file = coco(more={"names": {7: "cat", 3: "dog", 40: "owl"}})  # by id
    assert check_det_dataset(str(file))["names"] == dict(enumerate(NAMES))
    for names in (["owl", "dog"], ["owl", "dog", "cow"], ["owl", "dog", "cat", "cat"], "owl"):
        with pytest.raises(ConfigError, match="'names' is"):
            check_det_dataset(str(coco(more={"names": names})))
