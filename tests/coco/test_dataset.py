import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from coco_sets import content, draw, write
from ultralytics.cfg import get_cfg
from ultralytics.data import build_yolo_dataset
from ultralytics.data.utils import check_det_dataset

from yolograft.coco.dataset import CocoDataset
from yolograft.coco.mirror import mirror as mirrored


def line(row, image, task, classes):
    """A label file's line of one annotation, at full precision, as Ultralytics converts COCO."""
    size = np.array([image["width"], image["height"]], dtype=np.float64)
    if task == "segment":
        values = (np.reshape(row["segmentation"][0], (-1, 2)) / size).ravel()
    else:
        box = np.array(row["bbox"], dtype=np.float64)
        box[:2] += box[2:] / 2
        values = box / np.tile(size, 2)
    if task == "pose":
        points = np.reshape(row["keypoints"], (-1, 3)) / np.append(size, 1)
        values = np.append(values, points.ravel())
    return " ".join(map(repr, [classes.index(row["category_id"]), *values.tolist()]))


def label_files(root, task="detect", **more):
    """The same data with label files, beside copies of the images."""
    other = root.parent / "plain"
    for split in ("train", "val"):
        data = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
        classes = sorted(c["id"] for c in data["categories"])
        names = [next(c["name"] for c in data["categories"] if c["id"] == i) for i in classes]
        for image in data["images"]:
            file = other / "images" / split / image["file_name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((root / "images" / split / image["file_name"]).read_bytes())
            own = [a for a in data["annotations"] if a["image_id"] == image["id"]]
            lines = [line(a, image, task, classes) for a in own if not a["iscrowd"]]
            write(
                other / "labels" / split / f"{Path(image['file_name']).stem}.txt", "\n".join(lines)
            )
    config = {"path": str(other), "train": "images/train", "val": "images/val", "names": names}
    return write(root.parent / "plain.yaml", yaml.safe_dump({**config, **more}))


def twins(data, _):
    """Annotations that stand there twice, so that they are removed and the rest is reordered."""
    data["annotations"] += [dict(data["annotations"][i], id=9000 + i) for i in (0, 2, 3)]


def same(one, two):
    assert one.keys() - {"sample"} == two.keys() - {"sample"}
    for key, value in one.items():
        if key == "im_file":
            assert Path(value).name == Path(two[key]).name
        elif isinstance(value, torch.Tensor | np.ndarray):
            assert value.dtype == two[key].dtype, key
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(two[key])), key
        elif key != "sample":
            assert np.all(np.array(value) == np.array(two[key])), key


def seeded(dataset, index):
    import random

    random.seed(index)
    np.random.seed(index)
    torch.manual_seed(index)
    return dataset[index]


def with_poses(data, _):
    random = np.random.default_rng(5)
    for row in data["annotations"]:
        x, y, w, h = row["bbox"]
        row["keypoints"] = np.column_stack(
            (x + w * random.random(4), y + h * random.random(4), [0, 1, 2, 2])
        )
        row["keypoints"] = row["keypoints"].ravel().tolist()
        row["num_keypoints"] = 3
    for category in data["categories"]:
        category["keypoints"] = ["nose", "left_eye", "right_eye", "tail"]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_targets_are_those_of_label_files(coco, build, tmp_path, task, split):
    def edit(data, split):
        if task == "pose":
            with_poses(data, split)
        twins(data, split)

    options = {"copy_paste": 0.0 if task != "segment" else 0.7, "mosaic": 0.7, "degrees": 5.0}
    more = {"kpt_shape": [4, 3], "flip_idx": [0, 2, 1, 3]} if task == "pose" else {}
    ours = build(coco(edit), split, task, **options)
    plain = build(label_files(tmp_path / "set", task, **more), split, task, **options)
    assert isinstance(ours, CocoDataset)
    assert not isinstance(plain, CocoDataset)
    assert len(ours) == len(plain) == 6
    (twice,) = ours.report.dropped.values()
    assert twice[0] == 3
    for a, b in zip(ours.labels, plain.labels, strict=True):
        assert len(a["segments"]) == len(b["segments"])
        for one, two in zip(a["segments"], b["segments"], strict=True):
            np.testing.assert_array_equal(one, two)
    for i in range(len(ours)):
        same(seeded(ours, i), seeded(plain, i))


@pytest.mark.long
def test_losses_are_those_of_label_files(coco, tmp_path):
    from ultralytics.models.yolo.detect import DetectionTrainer

    files = {"json": coco(twins)}
    files["txt"] = label_files(tmp_path / "set")
    losses = {}
    for kind, file in files.items():
        settings = {"model": "yolov8n.yaml", "data": str(file), "epochs": 2, "imgsz": 64}
        settings |= {"batch": 3, "device": "cpu", "workers": 0, "plots": False, "val": False}
        settings |= {"project": str(tmp_path), "name": kind, "warmup_epochs": 0, "seed": 3}
        trainer = DetectionTrainer(overrides=settings)
        losses[kind] = []
        keep = losses[kind].append
        trainer.add_callback("on_train_batch_end", lambda t, keep=keep: keep(t.loss.item()))
        trainer.train()
    assert len(losses["json"]) == 4
    assert losses["json"] == losses["txt"]


def test_nothing_is_written_beside_the_data(coco, build, tmp_path):
    file = coco()
    before = sorted(tmp_path.rglob("*"))
    build(file)
    build(file, "val")
    assert sorted(tmp_path.rglob("*")) == before


def test_names_paths_and_the_users_own_file(coco, tmp_path, monkeypatch):
    coco()
    monkeypatch.chdir(tmp_path)
    data = check_det_dataset("data.yaml")
    assert data["names"] == {0: "dog", 1: "cat", 2: "owl"}
    assert (data["nc"], data["channels"], data["yaml_file"]) == (3, 3, "data.yaml")
    assert data["path"] == tmp_path / "set"
    assert data["val"] == str(tmp_path / "set" / "annotations" / "instances_val.json")


def test_crowds_are_left_out_and_backgrounds_stay(coco, build):
    dataset = build(coco())
    assert len(dataset.labels[1]["cls"]) == 0
    raw = json.loads(dataset.indexes[0].file.read_text())["annotations"]
    assert sum(len(label["cls"]) for label in dataset.labels) == len(raw) - 1
    assert not dataset.report


@pytest.mark.parametrize(("fraction", "count"), [(0.5, 3), (1.0, 6), (0.2, 1)])
def test_fraction(coco, build, fraction, count):
    assert len(build(coco(), fraction=fraction)) == count


def test_classes_and_single_cls(coco, build):
    file = coco()
    whole = np.concatenate([label["cls"] for label in build(file).labels])
    part = np.concatenate([label["cls"] for label in build(file, classes=[1]).labels])
    assert set(part.ravel()) == {1.0}
    assert len(part) == (whole == 1).sum() > 0
    one = build(file, single_cls=True)
    assert {v for label in one.labels for v in label["cls"].ravel()} == {0.0}


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_image_cache(coco, build, cache):
    plain, held = build(coco(), "val"), build(coco(), "val", cache=cache)
    assert (held.ims[0] is not None) == (cache == "ram")
    for i in range(6):
        same(plain[i], held[i])


def test_rect(coco, build):
    dataset = build(coco(), "val", batch=1, rect=True, imgsz=256)
    shapes = [tuple(dataset[i]["img"].shape[1:]) for i in range(6)]
    assert len(set(shapes)) > 1
    for i in range(6):
        assert dataset.samples[dataset[i]["sample"]].path == dataset.im_files[i]


def test_copy_paste_in_detection_uses_the_polygons(coco, build):
    file = coco()
    assert not any(label["segments"] for label in build(file).labels)
    options = {"copy_paste": 1.0, "mosaic": 1.0}
    counts = [len(seeded(build(file, **more), 0)["cls"]) for more in ({"mosaic": 1.0}, options)]
    assert counts[1] > counts[0]


def test_several_files_with_folders_in_their_names(tmp_path, build):
    for i, part in enumerate(("one", "two")):
        data = content(4, seed=i)
        for row in data["images"]:
            row["file_name"] = f"{part}/{row['file_name']}"
        draw(tmp_path / "pictures", data)
        write(tmp_path / f"{part}.json", data)
    lines = ["train: [one.json, two.json]", "val: [two.json]", "images: pictures"]
    dataset = build(write(tmp_path / "data.yaml", "\n".join(lines)))
    assert [Path(f).parent.name for f in dataset.im_files] == ["one"] * 4 + ["two"] * 4
    assert {s.source for s in dataset.samples} == {0, 1}
    for number, index in enumerate(dataset.indexes):
        own = [i for i, s in enumerate(dataset.samples) if s.source == number]
        assert sum(len(dataset.labels[i]["cls"]) for i in own) == len(index.boxes) > 0


@pytest.mark.parametrize("where", ["images/train", "train", "images", ".", "annotations"])
def test_the_usual_layouts(tmp_path, build, where):
    data = content(3)
    draw(tmp_path / where, data)
    write(tmp_path / "annotations" / "instances_train.json", data)
    lines = ["train: annotations/instances_train.json", "val: annotations/instances_train.json"]
    assert len(build(write(tmp_path / "data.yaml", "\n".join(lines)))) == 3


def test_pictures_beside_the_json(tmp_path, build):
    for split in ("train", "valid"):
        data = content(3)
        draw(tmp_path / split, data)
        write(tmp_path / split / "_annotations.coco.json", data)
    text = "train: train/_annotations.coco.json\nval: valid/_annotations.coco.json"
    dataset = build(write(tmp_path / "data.yaml", text), "val")
    assert {Path(f).parent.name for f in dataset.im_files} == {"valid"}


def test_pose_shape_and_mirror_come_from_the_categories(coco):
    data = check_det_dataset(str(coco(with_poses)))
    assert data["kpt_shape"] == [4, 3]
    assert data["flip_idx"] == [0, 2, 1, 3]


@pytest.mark.parametrize(
    ("names", "mirror"),
    [
        ("left_eye right_eye nose", [1, 0, 2]),
        ("L_Eye R_Eye Neck L_F_Paw R_F_Paw", [1, 0, 2, 4, 3]),
        ("eye_r eye_l root-of-tail", [1, 0, 2]),
        ("LeftEye RightEye HeadTop", [1, 0, 2]),
        ("l-eye r-eye", [1, 0]),
        ("eyeLeft eyeRight Mid_Hip", [1, 0, 2]),
        ("REar LEar RBigToe LBigToe", [1, 0, 3, 2]),
        ("lefteye righteye", [1, 0]),
        ("eyeL forelegR2 eyeR forelegL2 abdomen2", [2, 3, 0, 1, 4]),
        ("top_left top_right bottom_right bottom_left", [1, 0, 3, 2]),
        ("left_eye_right left_eye_left right_eye_right right_eye_left", [3, 2, 1, 0]),
        ("L4_left L4_right spine1", [1, 0, 2]),
        ("left_eye right_eye lip rear lower upper_lip", [1, 0, 2, 3, 4, 5]),
        ("left_eye nose", None),
        ("left_eye L_Eye right_eye R_Eye", None),
        ("left_eye right_eye face-0 face-1", None),
        ("left_eye right_eye hook", None),
        ("L1 L2 L3", None),
        ("L1 R1", None),
        ("lear rear", None),
        ("leg reg", None),
        ("Nearknee Offknee", None),
        ("wrist thumb1 thumb2", None),
        ("0 1 2", None),
    ],
)
def test_left_and_right_are_told_by_names(names, mirror):
    assert mirrored(names.split()) == mirror


def test_flips_are_off_where_names_leave_a_doubt(coco, build, caplog):
    def edit(data, split):
        with_poses(data, split)
        for category in data["categories"]:
            category["keypoints"] = ["a", "b", "c", "d"]

    file = coco(edit)
    assert "flip_idx" not in check_det_dataset(str(file))
    dataset = build(file, task="pose", fliplr=1.0, mosaic=0.0, degrees=0.0)
    assert "disabling 'fliplr'" in caplog.text
    flips = [t.p for t in dataset.transforms.transforms if type(t).__name__ == "RandomFlip"]
    assert flips == [0, 0]
    file = coco(with_poses, more={"flip_idx": []})  # the user wants none
    assert "flip_idx" not in check_det_dataset(str(file))


def test_copy_paste_leaves_poses_alone(coco, build):
    file = coco(with_poses)
    plain, pasted = (build(file, task="pose", copy_paste=share) for share in (0.0, 1.0))
    for i in range(len(plain)):
        same(seeded(plain, i), seeded(pasted, i))


def test_masks_and_several_parts_train(coco, build):
    def edit(data, _):
        w, h = data["images"][0]["width"], data["images"][0]["height"]
        row = data["annotations"][0]
        runs = {"size": [h, w], "counts": [h * 10, h * 20, h * (w - 30)]}
        row["segmentation"], row["bbox"] = runs, [10, 0, 20, h]
        two = data["annotations"][1]
        (points,) = two["segmentation"]
        shifted = (np.array(points) + 5).tolist()
        two["segmentation"] = [points, shifted]
        data["annotations"][2]["segmentation"] = []

    dataset = build(coco(edit), task="segment", mosaic=0.0, overlap_mask=False)
    label = dataset.labels[0]
    assert len(label["segments"]) == len(label["cls"])
    w = label["shape"][1]
    np.testing.assert_allclose(label["segments"][0].max(0), [29 / w, 1], atol=0.02)
    assert dataset.report.notes["annotations without a polygon: the box is used"][0] == 1
    for i in range(len(dataset)):
        item = dataset[i]
        assert len(item["masks"]) == len(item["cls"])


def test_other_data_is_left_to_ultralytics(coco, tmp_path):
    coco()
    file = label_files(tmp_path / "set")
    from ultralytics.data import utils

    data = check_det_dataset(str(file))
    assert data == utils.check_det_dataset.__wrapped__(str(file))
    assert "yolograft_coco" not in data
    cfg = get_cfg(overrides={"task": "detect", "imgsz": 64})
    assert type(build_yolo_dataset(cfg, data["train"], 2, data)).__name__ == "YOLODataset"


def test_a_spawned_worker_gets_the_same(coco, build):
    import pickle

    dataset = build(coco(), "val")
    again = pickle.loads(pickle.dumps(dataset))
    same(dataset[0], again[0])


def real(name):
    root = os.environ.get("YOLOGRAFT_TEST_DATA")
    if not root:
        pytest.skip("YOLOGRAFT_TEST_DATA is not set: a folder that holds bccd and others")
    return Path(root) / name


@pytest.mark.parametrize(
    ("name", "train", "val"),
    [
        ("bccd", "instances_train", "instances_val"),
        ("aerial_cars", "instances_train_by_scene", "instances_val_by_scene"),
        ("coco_open104", "instances_train", "instances_val"),
    ],
)
def test_real_sets_equal_their_label_files(name, train, val, build, tmp_path):
    root = real(name)
    config = {"path": str(root)}
    config |= {s: f"annotations/{v}.json" for s, v in (("train", train), ("val", val))}
    file = write(tmp_path / "data.yaml", yaml.safe_dump(config))
    names = yaml.safe_load((root / "data.yaml").read_text())["names"]
    for split in ("train", "val"):
        dataset = build(file, split)
        assert dataset.data["names"] == names
        assert not dataset.report
        for label in dataset.labels:
            text = root / "labels" / Path(label["im_file"]).with_suffix(".txt").name
            rows = np.loadtxt(text, ndmin=2).reshape(-1, 5) if text.exists() else np.zeros((0, 5))
            own = np.concatenate((label["cls"], label["bboxes"]), 1)
            assert own.shape == rows.shape
            np.testing.assert_allclose(own, rows, rtol=0, atol=1e-6)
