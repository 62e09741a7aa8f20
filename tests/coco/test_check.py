"""``yolograft coco check``: what it counts, what it draws, how it ends."""

import json

import cv2
import numpy as np
import pytest
from coco_sets import content, draw, write
from ultralytics.utils.plotting import colors

from yolograft import cli
from yolograft.coco.check import SIDE


@pytest.fixture
def check(tmp_path, capsys):
    """Write a set, check it, and return the exit status and what was printed."""

    def call(*options, edit=None, images=6, lose=()):
        data = content(images)
        draw(tmp_path / "pictures", data)
        for name in lose:
            (tmp_path / "pictures" / name).unlink()
        if edit:
            edit(data)
        file = write(tmp_path / "set.json", data)
        folder = ["--images", str(tmp_path / "pictures")]
        status = cli.main(["coco", "check", str(file), *folder, *map(str, options)])
        out = capsys.readouterr()
        return status, out.out + out.err

    return call


def test_counts(check):
    data = content()
    rows = [row for row in data["annotations"] if not row["iscrowd"]]
    status, out = check()
    assert status == 0
    assert f"6 images, {len(rows) + 1} annotations" in out
    assert f"6 images, 1 of them backgrounds; {len(rows)} boxes; 1 crowd regions" in out
    for key, name in ((3, "dog"), (7, "cat"), (40, "owl")):
        boxes = [row["image_id"] for row in rows if row["category_id"] == key]
        line = f"{key} {name} {len(boxes)} {len(set(boxes))}"
        assert line in [" ".join(text.split()) for text in out.splitlines()]
    small = np.mean([np.prod(row["bbox"][2:]) < 32**2 for row in rows])
    assert f"boxes of {small:.1%} small" in out
    assert "nothing to complain about" in out


def test_what_is_wrong_is_told(check):
    def edit(data):
        data["annotations"][0]["category_id"] = 99
        data["annotations"][1]["bbox"][2] = -4

    status, out = check(edit=edit)
    assert status == 1
    assert "annotations dropped: 2" in out
    assert "1 x annotations of an unknown category: set.json, annotation 1 of image 10" in out
    assert "1 x boxes of zero or negative size: set.json, annotation 2" in out


def test_missing_images(check):
    status, out = check(lose=["000.jpg", "003.jpg"])
    assert status == 2
    assert "2 of 6 images are missing" in out
    assert "--allow-missing" in out
    status, out = check("--allow-missing", lose=["000.jpg", "003.jpg"])
    assert status == 1
    assert "images left out: 2" in out


def test_sheet(check, tmp_path):
    def edit(data):  # one box in the middle of the first picture
        del data["images"][1:]
        one = data["images"][0]
        box = [one["width"] / 4, one["height"] / 4, one["width"] / 2, one["height"] / 2]
        row = {"id": 1, "image_id": one["id"], "category_id": 7, "bbox": box, "iscrowd": 0}
        data["annotations"] = [{**row, "area": box[2] * box[3]}]

    status, out = check("-o", tmp_path / "sheet.png", edit=edit)
    assert status == 0
    assert "sheet: " in out
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    one = content()["images"][0]
    scale = SIDE / max(one["width"], one["height"])
    x, y = 2 + one["width"] / 4 * scale, 2 + one["height"] / 2 * scale
    edge = sheet[int(y) - 3 : int(y) + 3, int(x) - 2 : int(x) + 3].astype(int)
    colour = colors(1, bgr=True)  # cat: dog comes first by id
    assert (abs(edge - colour).max(2) < 60).any(1).all()
    x = 2 + one["width"] / 2 * scale
    inside = sheet[int(y) - 3 : int(y) + 3, int(x) - 3 : int(x) + 3].astype(int)
    assert not (abs(inside - colour).max(2) < 60).all()


@pytest.mark.parametrize("images", [1, 5, 40])
def test_sheets_of_any_number_of_pictures(check, tmp_path, images):
    status, _ = check("-o", tmp_path / "sheet.jpg", images=images)
    assert status == 0
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape[1] == 4 * (SIDE + 4)


def test_no_annotation_at_all(check, tmp_path):
    def edit(data):
        data["annotations"] = []

    status, out = check("-o", tmp_path / "sheet.jpg", edit=edit)
    assert status == 0
    assert "6 of them backgrounds; 0 boxes" in out
    assert (tmp_path / "sheet.jpg").is_file()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-o", "gone/sheet.jpg"), "there is no folder gone"),
        (("-o", "sheet.doc"), "no kind of picture"),
        (("--images", "gone"), "--images gone: no such folder"),
    ],
)
def test_refusals(check, options, says):
    status, out = check(*options)
    assert status == 2
    assert says in out
    assert "\n\nHint: " in out


def test_no_coco_json(tmp_path, capsys):
    write(tmp_path / "results.json", json.dumps([{"image_id": 1}]))
    assert cli.main(["coco", "check", str(tmp_path / "results.json")]) == 2
    assert "a list is what predictions look like" in capsys.readouterr().err
