"""Everything that can be wrong: one message with file and id, and what is good is kept."""

import logging

import cv2
import numpy as np
import pytest
from coco_sets import content, write
from ultralytics.data.utils import check_det_dataset

from yolograft import ConfigError
from yolograft.coco import dataset as coco_dataset
from yolograft.coco import images


def refused(call, *words):
    with pytest.raises(ConfigError) as error:
        call()
    text = str(error.value)
    assert "\n\nHint: " in text
    for word in words:
        assert word in text, text
    return text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["instances_val.json", "empty"]),
        ('{"images": [{"id": 1, "file_na', ["not JSON", "at byte", "cut short"]),
        ("[]", ["holds a list", "predictions"]),
        ("3", ["holds a int"]),
        ("{}", ["no 'images'"]),
        ('{"images": [], "annotations": [], "categories": []}', ["`images` is empty"]),
        ('{"images": {}, "annotations": [], "categories": []}', ["'images' is {}"]),
        ('{"images": [1], "annotations": [], "categories": []}', ["`categories` is empty"]),
        ('{"images": [1], "annotations": [], "categories": [{"id": 1}]}', ["no usable id or name"]),
        (
            '{"images": [1], "annotations": [], "categories": [{"id": 1, "name": "a"}, '
            '{"id": 1, "name": "b"}]}',
            ["category id 1 has two names: 'a' and 'b'"],
        ),
        ("\x00\x01\x02", ["not JSON"]),
        ("[" * 100000, ["not JSON"]),
    ],
)
def test_no_coco_json(coco, tmp_path, text, words):
    file = coco()
    (tmp_path / "set" / "annotations" / "instances_val.json").write_text(text)
    refused(lambda: check_det_dataset(str(file)), *words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"val": "gone.json"}, ["gone.json", "No such file"]),
        ({"val": "images/val"}, ["'val' is 'images/val'", "names COCO JSON"]),
        ({"train": ["a.json", "a.json"]}, ["'train' names a file twice"]),
        ({"train": None}, ["'train' is missing"]),
        ({"names": ["a", "b", "c"]}, ["'names' is ['a', 'b', 'c']", "['dog', 'cat', 'owl']"]),
        ({"nc": 80}, ["'nc' is 80", "3 categories"]),
        ({"images": 3}, ["'images' is 3"]),
        ({"images": {"trian": "x"}}, ["'images' names 'trian'"]),
        ({"images": ["a", "b"]}, ["1 JSON files", "2 folders"]),
        ({"images": "gone"}, ["gone: no such folder"]),
        ({"allow_missing": "yes"}, ["'allow_missing' is 'yes'"]),
        ({"path": 3}, ["'path' is 3"]),
        ({"kpt_shape": [17, 3]}, []),
    ],
)
def test_data_yaml(coco, build, more, words):
    if words:
        refused(lambda: build(coco(more=more)), *words)
    else:
        assert len(build(coco(more=more))) == 6


def test_a_key_twice(coco):
    file = coco()
    file.write_text(file.read_text() + "train: other.json\n")
    refused(lambda: check_det_dataset(str(file)), "line 4", "'train' is given twice")


def test_broken_yaml(coco):
    file = coco()
    file.write_text(file.read_text() + "names: [a, b\n")
    refused(lambda: check_det_dataset(str(file)), "data.yaml, line", "not YAML")


def test_categories_that_differ(coco, build):
    def edit(data, split):
        if split == "train":
            data["categories"][0]["name"] = "lion"

    words = ["instances_train.json", "instances_val.json", "id 7: 'cat' and 'lion'"]
    refused(lambda: build(coco(edit)), *words)


def test_missing_images(coco, build, tmp_path):
    file = coco(images=6)
    for i in (0, 3):
        (tmp_path / "set" / "images" / "train" / f"00{i}.jpg").unlink()
    words = ["2 of 6 images are missing", "000.jpg, image 10", "003.jpg, image 19"]
    refused(lambda: build(file), *words, "allow_missing")
    file.write_text(file.read_text() + "allow_missing: true\n")
    dataset = build(file)
    assert len(dataset) == 4
    assert dataset.report.images["missing images"][0] == 2
    assert dataset.report.dropped["annotations of missing images"][0] > 0


def test_a_small_share_of_missing_images_is_told(coco, build, tmp_path):
    file = coco(images=int(1 / coco_dataset.MISSING_SHARE) + 1)
    (tmp_path / "set" / "images" / "train" / "002.jpg").unlink()
    dataset = build(file)
    assert dataset.report.images == {
        "missing images": [1, [f"{tmp_path}/set/images/train/002.jpg, image 16"]]
    }


def test_no_image_at_all(coco):
    words = ["none of its images was found", "'000.jpg'", "images/train"]
    from yolograft.coco.index import open_index

    file = coco(pictures=False).parent / "set" / "annotations" / "instances_train.json"
    (file.parents[1] / "images" / "train").mkdir(parents=True)
    refused(lambda: images.find_folder(open_index(file), None), *words)


def test_files_that_are_no_image(coco, build, tmp_path):
    file = coco()
    folder = tmp_path / "set" / "images" / "train"
    (folder / "000.jpg").write_text("no image")
    whole = (folder / "002.jpg").read_bytes()
    (folder / "002.jpg").write_bytes(whole + b"..")
    cv2.imwrite(str(folder / "003.jpg"), np.zeros((5, 80, 3), np.uint8))
    dataset = build(file)
    assert [p[-7:] for p in dataset.im_files] == ["001.jpg", "002.jpg", "004.jpg", "005.jpg"]
    (broken, tiny) = dataset.report.images.values()
    assert broken == [1, [f"{folder}/000.jpg, image 10"]]
    assert tiny[0] == 1
    assert dataset.report.notes["JPEG files that end early: read as they are"][0] == 1
    assert (folder / "002.jpg").read_bytes() == whole + b".."  # never rewritten
    for i in range(len(dataset)):
        dataset[i]


def broken_rows(data, split):
    """One annotation for each thing that can be wrong, and what it is told as."""
    image = data["images"][2]
    good = {"image_id": image["id"], "category_id": 7, "bbox": [1, 2, 10, 20], "area": 200}
    nan = float("nan")
    rows = [
        {**good, "image_id": 4711},
        {**good, "category_id": 99},
        {**good, "bbox": [1, 2, nan, 4]},
        {**good, "bbox": [1, 2, 3]},
        {**good, "bbox": None},
        {**good, "bbox": ["a", 2, 3, 4]},
        {**good, "bbox": [1, 2, 0, 4]},
        {**good, "bbox": [1, 2, 5, -4]},
        {**good, "bbox": [500, 2, 5, 4]},
        {**good, "bbox": [-50, -50, 5, 4]},
        {k: v for k, v in good.items() if k != "category_id"},
        "annotation",
        None,
    ]
    odd = [
        {**good, "bbox": [-5, 3, 20, 10]},
        {**good, "bbox": ["3", "4", "5", "6"]},
        {k: v for k, v in good.items() if k != "bbox"} | {"segmentation": [[1, 1, 9, 1, 9, 9]]},
        {**good, "bbox": [3, 3, 4, 4], "segmentation": {"size": [1, 1], "counts": "?"}},
        {**good, "bbox": [3, 3, 4, 5], "segmentation": [[1, 2], "x"], "iscrowd": None},
        {**good, "bbox": [3, 3, 4, 6], "iscrowd": "0"},
    ]
    data["annotations"] += [
        {"id": 500 + i, **row} if isinstance(row, dict) else row for i, row in enumerate(rows + odd)
    ]
    return data


def test_each_bad_annotation_is_counted_and_the_good_ones_stay(coco, build, caplog):
    clean = build(coco(images=6))
    kept = sum(len(label["cls"]) for label in clean.labels)
    logging.getLogger("ultralytics").propagate = True
    caplog.clear()
    dataset = build(coco(broken_rows, images=6))
    assert {k: v[0] for k, v in dataset.report.dropped.items()} == {
        "annotations that are not a mapping": 2,
        "annotations of an image that `images` does not list": 1,
        "annotations of an unknown category": 2,
        "boxes with NaN, infinity or missing numbers": 4,
        "boxes of zero or negative size": 2,
        "boxes outside their image": 2,
    }
    assert sum(len(label["cls"]) for label in dataset.labels) == kept + 6
    assert dataset.report.notes["boxes clipped to their image"][0] == 1
    assert dataset.report.notes["annotations without a box: taken from their polygon"][0] == 1
    text = str(dataset.report)
    for word in ("annotation 500 of image 4711", "annotation 506 of image 16", "2 x", "13"):
        assert word in text
    told = {r.created for r in caplog.records if "annotations dropped" in r.getMessage()}
    assert len(told) == 1
    for label in dataset.labels:
        assert np.isfinite(label["bboxes"]).all()
        assert (label["bboxes"] >= 0).all()
        assert (label["bboxes"] <= 1).all()
    for task in ("detect", "segment"):
        item = build(coco(broken_rows, images=6), task=task, mosaic=0.0)[2]
        assert len(item["cls"]) == len(item["bboxes"]) > 0


def test_duplicate_ids(coco, build):
    def edit(data, split):
        data["images"].append(dict(data["images"][0]))
        data["images"].append({**data["images"][1], "file_name": "other.jpg"})
        data["images"] += [{"id": None, "file_name": "x.jpg"}, {"id": 5}, 7]
        data["annotations"][1]["id"] = data["annotations"][0]["id"]

    dataset = build(coco(edit))
    assert len(dataset) == 6
    report = dataset.report
    assert {k: v[0] for k, v in report.images.items()} == {
        "images without a usable id or file_name": 3,
        "images with an id that is already in use: the first one counts": 1,
    }
    assert {k: v[0] for k, v in report.notes.items()} == {
        "images that are listed again": 1,
        "annotations with an id that is already in use": 1,
    }
    assert not report.dropped


def test_sizes_that_disagree(coco, build):
    def edit(data, split):
        one, two, three = data["images"][2], data["images"][3], data["images"][4]
        one["width"], one["height"] = one["width"] * 2, one["height"] * 2  # scaled down since
        for row in data["annotations"]:
            if row["image_id"] == one["id"]:
                row["bbox"] = [2 * v for v in row["bbox"]]
        two["width"] += 70
        del three["width"]

    plain, dataset = build(coco()), build(coco(edit))
    for a, b in zip(plain.labels, dataset.labels, strict=True):
        np.testing.assert_allclose(a["bboxes"], b["bboxes"], rtol=1e-6)
    one, two, three = (next(iter(v[1])) for v in dataset.report.notes.values())
    assert "002.jpg, image 16: " in one
    assert "003.jpg, image 19: " in two
    assert "004.jpg, image 22" in three
    assert dataset.samples[2].frame == tuple(2 * v for v in dataset.samples[2].size)


def test_nothing_to_train_on(coco, build):
    def edit(data, split):
        data["annotations"] = []

    refused(lambda: build(coco(edit)), "no annotation to train on")
    assert len(build(coco(edit), "val")) == 6  # backgrounds can be validated


def test_pose_without_keypoints(coco, build):
    file = coco(more={"kpt_shape": [17, 3]})
    refused(lambda: build(file, task="pose"), "0 keypoints, not 17")


def test_text_that_is_no_text(coco, build, tmp_path):
    data = content()
    text = __import__("json").dumps(data)
    file = coco()
    place = tmp_path / "set" / "annotations"
    write(place / "instances_train.json", text.replace('"000.jpg"', '"\\ud800.jpg"'))
    dataset = build(file)
    assert dataset.report.images["images without a usable id or file_name"][0] == 1
    (place / "instances_train.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(build(file)) == 6
