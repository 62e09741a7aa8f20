"""How the images of a JSON are found and read: names, links, rotation, what is not an image."""

import json
import os
import socket
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from coco_sets import content, draw, write
from PIL import Image, ImageOps

from yolograft import ConfigError
from yolograft.coco import images
from yolograft.coco.index import open_index
from yolograft.coco.recorder import Recorder

BOX = [10, 6, 30, 12]
POINTS = [12, 8, 2, 38, 16, 2, 0, 0, 0]


def rotated(folder, orientation, kind="jpg", frame="raw", size=(100, 60)):
    """One image, dark but for a white box, with an EXIF orientation; and its JSON.

    The frame is that of the pixels as they lie in the file, or that of Pillow's upright picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    width, height = size
    raw = np.zeros((height, width, 3), np.uint8)
    x, y, w, h = BOX
    raw[y : y + h, x : x + w] = 255
    exif = Image.Exif()
    exif[274] = orientation
    file = folder / f"one.{kind}"
    Image.fromarray(raw).save(file, exif=exif, **({"quality": 100} if kind == "jpg" else {}))
    box, mask = BOX, (raw[..., 0] > 0).astype(np.uint8)
    if frame == "upright":
        with Image.open(file) as image:
            mask = np.array(ImageOps.exif_transpose(image).convert("L")) > 128
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        box = [int(v) for v in box]
    height, width = mask.shape
    x, y, w, h = box
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": w * h, "iscrowd": 0}
    row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    row["keypoints"] = [x + 1, y + 1, 2, x + w - 1, y + h - 1, 2, 0, 0, 0]
    return {
        "images": [{"id": 1, "file_name": file.name, "width": width, "height": height}],
        "annotations": [row],
        "categories": [{"id": 1, "name": "a", "keypoints": ["x", "y", "z"]}],
    }


def one_set(root, data, **more):
    write(root / "a.json", data)
    lines = {"train": "a.json", "val": "a.json", "images": "images", **more}
    return write(root / "data.yaml", yaml.safe_dump(lines))


def lit(picture, box):
    """The share of light under a box, and outside of it."""
    inside = np.zeros(picture.shape[:2], bool)
    x1, y1, x2, y2 = np.round(box).astype(int)
    inside[y1:y2, x1:x2] = True
    light = picture[..., 0] > 128
    return light[inside].mean(), light[~inside].mean()


@pytest.mark.parametrize("frame", ["raw", "upright"])
@pytest.mark.parametrize(
    ("orientation", "kind"),
    [*((o, "jpg") for o in (1, 5, 6, 7, 8)), (6, "png"), (8, "webp")],
)
def test_boxes_follow_the_frame_of_the_json(tmp_path, build, orientation, kind, frame):
    data = rotated(tmp_path / "images", orientation, kind, frame)
    file = one_set(tmp_path, data)
    for task in ("detect", "segment", "pose"):
        dataset = build(file, "val", task)
        picture = dataset.load_image(0)[0]
        height, width = picture.shape[:2]
        label, one = dataset.labels[0], dataset.samples[0]
        assert tuple(label["shape"]) == cv2.imread(one.path).shape[:2]  # as it is read
        box = label["bboxes"][0] * (width, height, width, height)
        box = np.concatenate((box[:2] - box[2:] / 2, box[:2] + box[2:] / 2))
        inside, outside = lit(picture, box)
        assert inside > 0.95
        assert outside < 0.02
        if task == "segment":
            corners = label["segments"][0] * (width, height)
            np.testing.assert_allclose([*corners.min(0), *corners.max(0)], box, atol=0.01)
        if task == "pose":
            places = label["keypoints"][0] * (width, height, 1)
            assert [picture[int(y), int(x), 0] > 128 for x, y, _ in places[:2]] == [True, True]
            assert places[2].tolist() == [0, 0, 0]
        batch = dataset[0]  # what a model gets
        x, y, w, h = (batch["bboxes"][0] * np.tile(batch["img"].shape[:0:-1], 2)).tolist()
        image = batch["img"].permute(1, 2, 0).numpy()
        assert lit(image, (x - w / 2, y - h / 2, x + w / 2, y + h / 2))[0] > 0.9
        assert not dataset.report
        # a prediction of the same place comes back as what the JSON has
        width, height = one.size
        box = label["bboxes"][0] * (width, height, width, height)
        row = {"category_id": 0, "score": 1, "bbox": [*(box[:2] - box[2:] / 2), *box[2:]]}
        if task == "pose":
            row["keypoints"] = (label["keypoints"][0] * (width, height, 1)).ravel().tolist()
        held = Recorder(dataset, task, sigmas=[0.1] * 3)
        if task == "segment":
            from faster_coco_eval import mask as tools

            shape = cv2.fillPoly(
                np.zeros((height, width), np.uint8),
                [np.round(label["segments"][0] * (width, height)).astype(np.int32)],
                1,
            )
            mask = tools.encode(np.asfortranarray(shape))
            row["segmentation"] = {**mask, "counts": mask["counts"].decode()}
        held.add(0, [row])
        (back,) = held.results()[0]
        truth = data["annotations"][0]
        np.testing.assert_allclose(back["bbox"], truth["bbox"], atol=1e-3)
        if task == "pose":
            want = np.reshape(truth["keypoints"], (3, 3))[:2, :2]
            np.testing.assert_allclose(np.reshape(back["keypoints"], (3, 3))[:2, :2], want, 0, 1e-2)
        for numbers in held.evaluate().values():
            assert numbers["AP50"] == 1


def test_a_rotation_that_the_size_does_not_show_is_reported(tmp_path, build):
    for orientation, size in ((3, (100, 60)), (6, (80, 80))):
        data = rotated(tmp_path / "images", orientation, size=size)
        (note,) = build(one_set(tmp_path, data), "val").report.notes
        assert "EXIF rotation" in note


def test_rotated_and_scaled(tmp_path, build):
    data = rotated(tmp_path / "images", 6)
    one, row = data["images"][0], data["annotations"][0]
    one["width"], one["height"] = 200, 120
    row["bbox"] = [2 * v for v in row["bbox"]]
    dataset = build(one_set(tmp_path, data), "val")
    picture = dataset.load_image(0)[0]
    height, width = picture.shape[:2]
    x, y, w, h = dataset.labels[0]["bboxes"][0] * (width, height, width, height)
    assert lit(picture, (x - w / 2, y - h / 2, x + w / 2, y + h / 2))[0] > 0.95


# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("given", [None, "pictures", "pictures/train2017", "flat"])
@pytest.mark.parametrize("key", ["coco_url", "flickr_url"])
def test_names_from_addresses(tmp_path, build, given, key):
    data = content(3)
    draw(
        tmp_path / ("flat" if given == "flat" else (given or "images").split("/")[0]),
        {
            "images": [
                {**i, "file_name": ("" if given == "flat" else "train2017/") + i["file_name"]}
                for i in data["images"]
            ]
        },
    )
    for row in data["images"]:
        row[key] = f"http://images.cocodataset.org/train2017/{row.pop('file_name')}?x=1"
    write(tmp_path / "annotations" / "lvis_v1_train.json", data)
    lines = dict.fromkeys(("train", "val"), "annotations/lvis_v1_train.json")
    lines |= {"images": given} if given else {}
    dataset = build(write(tmp_path / "data.yaml", yaml.safe_dump(lines)))
    assert [Path(p).name for p in dataset.im_files] == ["000.jpg", "001.jpg", "002.jpg"]
    assert not dataset.report


@pytest.mark.parametrize(
    ("told", "there"),
    [
        ("my%20cat.jpg", "my cat.jpg"),
        ("my cat.jpg", "my%20cat.jpg"),
        ("cat.JPG", "cat.jpg"),
        (unicodedata.normalize("NFD", "Größe.jpg"), unicodedata.normalize("NFC", "Größe.jpg")),
        (unicodedata.normalize("NFC", "Größe.jpg"), unicodedata.normalize("NFD", "Größe.jpg")),
    ],
)
def test_names_in_another_spelling(tmp_path, build, told, there):
    data = content(3)
    data["images"][0]["file_name"] = there
    draw(tmp_path / "images", data)
    data["images"][0]["file_name"] = told
    dataset = build(one_set(tmp_path, data))
    assert str(tmp_path / "images" / there) in dataset.im_files
    (note,) = dataset.report.notes.values()
    assert note[0] == 1


def test_another_spelling_is_no_other_image(tmp_path):
    data = content(3)
    draw(tmp_path / "images", {"images": data["images"][:2]})
    data["images"][2]["file_name"] = "000.JPG"  # it is not there, and 000.jpg is another's
    index = open_index(write(tmp_path / "a.json", data))
    found, other = images.paths(index, tmp_path / "images")
    assert found == [str(tmp_path / "images" / n) for n in ("000.jpg", "001.jpg", "000.JPG")]
    assert not other


def test_paths_of_another_machine(tmp_path, build):
    data = content(3)
    draw(tmp_path / "images", data)
    for row in data["images"]:
        row["file_name"] = "C:\\data\\set\\" + row["file_name"]
    assert len(build(one_set(tmp_path, data))) == 3
    for row in data["images"]:
        row["file_name"] = "/data/set/" + row["file_name"][12:]
    assert len(build(one_set(tmp_path, data))) == 3


def test_folders_count_before_bare_names(tmp_path):
    data = content(2)
    for part in ("train", "val"):
        draw(tmp_path / "images" / part, data)
    for row in data["images"]:
        row["file_name"] = "val/" + row["file_name"]
    index = open_index(write(tmp_path / "annotations" / "instances_train.json", data))
    assert images.paths(index, None)[0][0] == str(tmp_path / "images" / "val" / "000.jpg")


# ------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("listed", [False, True])
def test_a_link_is_read_where_it_lies(tmp_path, build, listed):
    """As DVC and hub caches keep files: under their digest, in a folder of their own."""
    blobs, here = tmp_path / "blobs", tmp_path / "snapshot"
    data = content(3)
    draw(blobs, data)
    (here / "images" / "train").mkdir(parents=True)
    (here / "annotations").mkdir()
    for i, row in enumerate(data["images"]):
        (blobs / row["file_name"]).rename(blobs / f"{i:064}")
        (here / "images" / "train" / row["file_name"]).symlink_to(blobs / f"{i:064}")
    write(blobs / "f00", data)
    (here / "annotations" / "instances_train.json").symlink_to(blobs / "f00")
    name = "annotations/instances_train.json"
    file = write(
        here / "data.yaml", yaml.safe_dump({"train": [name] if listed else name, "val": name})
    )
    dataset = build(file)
    assert dataset.im_files[0] == str(here / "images" / "train" / "000.jpg")
    assert dataset.indexes[0].file == here / name
    from yolograft import cli

    assert cli.main(["coco", "check", str(here / name)]) == 0


def test_a_link_to_a_file_beside_its_images(tmp_path, build):
    data = content(3)
    draw(tmp_path / "set" / "images", data)
    write(tmp_path / "set" / "a.json", data)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "mine.json").symlink_to(tmp_path / "set" / "a.json")
    lines = {"train": "links/mine.json", "val": "links/mine.json"}
    assert len(build(write(tmp_path / "data.yaml", yaml.safe_dump(lines)))) == 3


# ----------------------------------------------------------------------------------- no images


@pytest.mark.timeout(60)
def test_what_is_no_file_is_never_opened(tmp_path, build):
    data = content(9)
    draw(tmp_path / "images", data)
    folder = tmp_path / "images"
    for i in range(6):
        (folder / f"{i:03}.jpg").unlink()
    data["images"][0]["file_name"] = "/dev/zero"
    (folder / "001.jpg").symlink_to("/dev/zero")
    os.mkfifo(folder / "002.jpg")
    (folder / "003.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder)  # the names of sockets are short
        server.bind("004.jpg")
        os.chdir(here)
    (folder / "005.jpg").write_bytes(b"")
    for _ in range(3):  # Ultralytics reads some files to see how fast that is
        dataset = build(one_set(tmp_path, data))
        assert [Path(p).name for p in dataset.im_files] == ["006.jpg", "007.jpg", "008.jpg"]
        ((reason, (count, _)),) = dataset.report.images.items()
        assert (reason, count) == ("files that Ultralytics cannot read as images", 6)


@pytest.mark.timeout(60)
def test_a_json_that_is_no_file(tmp_path, build):
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.json").symlink_to("/dev/zero")
    (tmp_path / "c.json").mkdir()
    for name in "abc":
        lines = {"train": f"{name}.json", "val": f"{name}.json"}
        file = write(tmp_path / "data.yaml", yaml.safe_dump(lines))
        with pytest.raises(ConfigError, match=rf"{name}\.json: a (folder|device or pipe), not a"):
            build(file)


@pytest.mark.parametrize("kind", ["bmp", "png", "webp", "tif", "jpg"])
def test_images_cut_short(tmp_path, build, kind):
    data = content(3)
    for row in data["images"]:
        row["file_name"] = row["file_name"].replace("jpg", kind)
    draw(tmp_path / "images", data)
    file = tmp_path / "images" / f"000.{kind}"
    file.write_bytes(file.read_bytes()[:40])
    dataset = build(one_set(tmp_path, data))
    assert len(dataset) == 2
    for i in range(2):
        dataset[i]


def test_an_unknown_file_installs_nothing(tmp_path, build, monkeypatch):
    from ultralytics.utils import checks

    asked = []
    monkeypatch.setattr(checks, "check_requirements", lambda *a, **k: asked.append(a))
    data = content(3)
    draw(tmp_path / "images", data)
    (tmp_path / "images" / "000.jpg").write_text("no image at all")
    assert len(build(one_set(tmp_path, data))) == 2
    assert not asked


# ----------------------------------------------------------------------------------------- ids


def test_ids_are_written_as_the_json_has_them(tmp_path, build):
    data = content(4)
    draw(tmp_path / "images", data)
    for row in data["images"]:
        row["id"] = f"{row['id']:012}"
    for row in data["annotations"]:
        row["image_id"], row["category_id"] = f"{row['image_id']:012}", f"{row['category_id']:02}"
    for row in data["categories"]:
        row["id"] = f"{row['id']:02}"
    dataset = build(one_set(tmp_path, data), "val")
    held = Recorder(dataset, "detect")
    for i, (label, one) in enumerate(zip(dataset.labels, dataset.samples, strict=True)):
        boxes = label["bboxes"] * np.tile(one.size, 2)
        boxes[:, :2] -= boxes[:, 2:] / 2
        rows = zip(label["cls"][:, 0], boxes.tolist(), strict=True)
        held.add(i, [{"category_id": int(c), "bbox": box, "score": 1.0} for c, box in rows])
    rows = held.results()[0]
    pairs = {(r["image_id"], r["category_id"]) for r in data["annotations"] if not r["iscrowd"]}
    assert {(r["image_id"], r["category_id"]) for r in rows} == pairs
    assert held.evaluate()["bbox"]["AP"] == 1
    held.save(tmp_path)
    assert json.loads((tmp_path / "predictions.json").read_text()) == rows
    again = open_index(tmp_path / "a.json")  # from the cache
    assert again.written == dataset.indexes[0].written != {}
