"""``yolograft coco check``: what it counts, what it draws, how it ends."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from coco_sets import content, draw, write
from ultralytics.utils.plotting import colors

from yolograft import cli
from yolograft.coco.sheet import SIDE


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
    assert "no issues" in out


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
        (("-o", "sheet.doc"), "not an image format"),
        (("--images", "gone"), "--images gone: no such folder"),
    ],
)
def test_refusals(check, options, says):
    status, out = check(*options)
    assert status == 2
    assert says in out
    assert "\n\nHint: " in out


def test_names_that_would_break_the_table(check):
    def edit(data):
        data["categories"][0]["name"] = "\x1b[31mred\nlines"
        data["categories"][1]["name"] = "x" * 300
        data["categories"].append({"id": 99, "name": "a\rb"})

    _, out = check(edit=edit)
    table = out[out.index("  id  class") :]
    assert "\x1b" not in table
    assert "\r" not in table
    assert r"\x1b[31mred\nlines" in table
    assert r"a\rb" in table[table.index("classes without a box") :]
    assert max(map(len, table[: table.index("boxes of")].splitlines())) < 100


def test_no_coco_json(tmp_path, capsys):
    write(tmp_path / "results.json", json.dumps([{"image_id": 1}]))
    assert cli.main(["coco", "check", str(tmp_path / "results.json")]) == 2
    assert "a list is what predictions look like" in capsys.readouterr().err


# ---------------------------------------------------------------------------------- several files


def two_sets(root, shared=2, copy=True):
    """A train and a val JSON with pictures of their own, some of which are equal."""
    for seed, split in enumerate(("train", "val")):
        data = content(6, seed)
        for row in data["images"]:
            row["file_name"] = f"{split}-{row['file_name']}"
        draw(root / split, data, seed)
        write(root / f"{split}.json", data)
    for i in range(shared):
        source = root / "train" / f"train-{i:03}.jpg"
        target = root / "val" / f"val-{5 - i:03}.jpg"
        target.unlink()
        target.write_bytes(source.read_bytes()) if copy else target.hardlink_to(source)
    data = json.loads((root / "val.json").read_text())
    sizes = [cv2.imread(str(root / "val" / row["file_name"])).shape for row in data["images"]]
    for row, (height, width, _) in zip(data["images"], sizes, strict=True):
        row["width"], row["height"] = width, height
    data["annotations"] = [
        {**a, "bbox": [1, 1, 20, 20], "segmentation": [], "area": 400 + n}
        for n, a in enumerate(data["annotations"])
        if not a["iscrowd"] and data["annotations"][n - 1]["image_id"] != a["image_id"]
    ]
    write(root / "val.json", data)
    return [root / "train.json", root / "val.json"]


@pytest.mark.parametrize("copy", [True, False])
def test_images_that_two_files_share(tmp_path, capsys, copy):
    files = two_sets(tmp_path, copy=copy)
    assert cli.main(["coco", "check", *map(str, files)]) == 1
    out = capsys.readouterr().out
    assert f"{files[0]} and {files[1]} share 2 images: " in out
    assert "train-000.jpg, image 10, and " in out
    assert "val-005.jpg, image 25" in out
    assert f"{files[0]}: 6 images" in out
    assert f"{files[1]}: 6 images" in out


def test_a_data_yaml(tmp_path, capsys):
    two_sets(tmp_path, shared=0)
    lines = "train: train.json\nval: val.json\nimages: {train: train, val: val}\n"
    file = write(tmp_path / "data.yaml", lines)
    status = cli.main(["coco", "check", str(file), "--json", "-o", str(tmp_path / "sheet.png")])
    out = capsys.readouterr().out
    found = json.loads(out)
    assert [one["file"] for one in found["sets"]] == [
        str(tmp_path / f"{s}.json") for s in ("train", "val")
    ]
    assert found["shared_images"] == []
    assert status == int(not found["ok"])
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None
    write(tmp_path / "other.yaml", "train: images\nval: images\nnames: [a]\n")
    assert cli.main(["coco", "check", str(tmp_path / "other.yaml")]) == 2
    assert "not a data YAML that names COCO JSON" in capsys.readouterr().err


def test_categories_that_differ_are_told(tmp_path, capsys):
    files = two_sets(tmp_path, shared=0)
    data = json.loads(files[1].read_text())
    data["categories"][0]["name"] = "lion"
    write(files[1], data)
    assert cli.main(["coco", "check", *map(str, files)]) == 1
    assert "differences in the categories" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------- findings


def test_what_is_odd(check):
    def edit(data):
        one = data["images"][2]
        good = {"image_id": one["id"], "category_id": 7, "iscrowd": 0, "area": 1}
        data["annotations"] += [
            {**good, "id": 900, "bbox": [0.1, 0.2, 0.5, 0.4]},
            {**good, "id": 901, "bbox": [20, 20, 1.5, 9]},
            {**good, "id": 902, "bbox": [20, 20, 9, 9], "segmentation": [[0.1, 0.1, 0.9, 0, 1, 1]]},
        ]
        data["categories"].append({"id": 99, "name": "unicorn"})

    status, out = check("--json", edit=edit)
    (found,) = json.loads(out[out.index("{") : out.rindex("}") + 1])["sets"]
    told = {one["reason"]: one["count"] for one in found["findings"]}
    assert told == {
        "boxes within 0 to 1, as if normalized: COCO counts pixels": 1,
        "polygons within 0 to 1, as if normalized: COCO counts pixels": 1,
        "boxes with a side of less than 2 pixels": 1,
    }
    assert status == 1
    assert found["empty_classes"] == ["unicorn"]
    assert found["classes"][-1] == {"id": 99, "name": "unicorn", "boxes": 0, "images": 0}
    assert "annotation no. " in found["findings"][0]["examples"][0]
    assert "classes without a box: unicorn" in check(edit=edit)[1]


def test_all_coordinates_normalised(check):
    def edit(data):
        sizes = {i["id"]: np.tile([i["width"], i["height"]], 2) for i in data["images"]}
        for row in data["annotations"]:
            row["bbox"] = (row["bbox"] / sizes[row["image_id"]]).tolist()

    boxes = sum(not row["iscrowd"] for row in content()["annotations"])
    status, out = check(edit=edit)
    assert status == 1
    assert f"{boxes} x boxes within 0 to 1" in out


def test_json_is_all_that_is_printed(tmp_path, capsys):
    data = content()
    draw(tmp_path / "images", data)
    file = write(tmp_path / "a.json", data)
    assert cli.main(["coco", "check", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], len(found["sets"])) == (True, 1)
    one = found["sets"][0]
    assert (one["images"], one["annotations"]) == (6, len(data["annotations"]))
    assert one["used"]["boxes"] == sum(c["boxes"] for c in one["classes"])
    assert sum(one["sizes"].values()) == pytest.approx(1)
    assert one["findings"] == []


def test_holes_are_told(check):
    def edit(data):
        one = data["images"][2]
        mask = np.zeros((one["height"], one["width"]), np.uint8)
        mask[10:40, 10:40] = 1
        mask[20:25, 20:25] = 0
        runs = np.flatnonzero(np.diff(np.r_[0, mask.T.ravel(), 0]))  # starts and ends of runs
        counts = np.diff(np.r_[0, runs, mask.size]).tolist()
        row = {"id": 900, "image_id": one["id"], "category_id": 7, "bbox": [10, 10, 30, 30]}
        row |= {"area": 875, "iscrowd": 0}
        row["segmentation"] = {"size": list(mask.shape), "counts": counts}
        data["annotations"].append(row)

    status, out = check(edit=edit)
    assert status == 1
    assert "1 x masks with holes, which are filled: set.json, annotation no. " in out


# ------------------------------------------------------------------------------------------- sheet


def one_picture(root, shade, name="cat", cls=0, **more):
    """A plain picture with one annotation in its middle, and its sheet."""
    root.mkdir(exist_ok=True, parents=True)
    cv2.imwrite(str(root / "one.png"), np.full((240, 480, 3), shade, np.uint8))
    row = {"id": 1, "image_id": 1, "category_id": cls, "bbox": [180, 80, 100, 100], "iscrowd": 0}
    names = [{"id": i, "name": name if i == cls else str(i)} for i in range(max(20, cls + 1))]
    for one in names if "keypoints" in more else ():
        one["keypoints"] = ["a", "b"]
    image = {"id": 1, "file_name": "one.png", "width": 480, "height": 240}
    data = {"images": [image], "annotations": [{**row, "area": 1e4, **more}], "categories": names}
    file = write(root / "a.json", data)
    target = root / "sheet.png"
    assert cli.main(["coco", "check", str(file), "-o", str(target)]) in (0, 1)
    return cv2.imread(str(target))[2:242, 2:482].astype(int)


@pytest.mark.parametrize("shade", [0, 255, 128])
@pytest.mark.parametrize("cls", range(20))
def test_each_colour_is_seen_on_any_picture(tmp_path, shade, cls):
    tile = one_picture(tmp_path, shade, cls=cls)
    edge = tile[120, 176:186]
    assert abs(edge - shade).max() > 110


@pytest.mark.parametrize("form", ["polygon", "runs"])
def test_masks_are_drawn(tmp_path, form):
    mask = np.zeros((240, 480), np.uint8)
    mask[90:170, 190:230] = 1
    shape = [[190, 90, 230, 90, 230, 170, 190, 170]]
    if form == "runs":
        flat = mask.T.ravel()
        ends = np.flatnonzero(np.diff(np.r_[0, flat, 0]))
        counts = np.diff(np.r_[0, ends, flat.size]).tolist()
        shape = {"size": [240, 480], "counts": counts}
    for shade in (0, 255):
        tile = one_picture(tmp_path, shade, segmentation=shape)
        assert abs(tile[130, 210] - shade).max() > 40  # inside the mask
        assert abs(tile[130, 260] - shade).max() == 0  # inside the box alone
        assert abs(tile[130, 186:194] - shade).max() > 100


def test_keypoints_are_drawn(tmp_path):
    for shade in (0, 255):
        tile = one_picture(tmp_path, shade, keypoints=[200, 120, 2, 0, 0, 0])
        assert abs(tile[112:128, 192:208] - shade).max() > 100
        assert abs(tile[:16, :16] - shade).max() == 0


def font_of(letter, file):
    """A font with one letter, a black square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    for step, place in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if step else pen.moveTo)(place)
    pen.closePath()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(letter): "square"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (900, 0), "square": (900, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Square", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(file)


def test_names_in_other_scripts(tmp_path, monkeypatch):
    from matplotlib import font_manager

    from yolograft.coco import sheet

    def forget():
        for held in (sheet._font, sheet._fonts, sheet._letters):
            held.cache_clear()

    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", list(manager.ttflist))
    letter = "\U0003104a"  # no font of this machine has it
    forget()
    assert sheet._font(letter, 20)[0] == "\\U0003104a"
    font_of(letter, tmp_path / "square.ttf")
    manager.addfont(tmp_path / "square.ttf")
    forget()
    text, font = sheet._font(letter, 20)
    assert text == letter
    assert font.getlength(text) == 18
    assert (np.array(font.getmask(text)) > 128).mean() > 0.5
    for name in ("Größe", "собака"):
        text, font = sheet._font(name, 20)
        assert text == name
        assert bytes(font.getmask(text)) != bytes(font.getmask("?" * len(name)))
        assert sheet._letters(font.path) >= set(map(ord, name))
    forget()


@pytest.mark.long
def test_never_a_unicode_error(tmp_path):
    data = content(3)
    data["categories"][0]["name"] = "猫 \U0001f431 \u202e"
    data["images"][0]["file_name"] = "größe-图.jpg"
    draw(tmp_path / "图", data)
    data["annotations"][0]["bbox"][2] = -1
    data["annotations"][1]["id"] = "\ud800"
    data["annotations"][1]["bbox"] = None
    data["images"].append({"id": 99, "file_name": "\ud800.jpg"})
    file = write(tmp_path / "图.json", data)
    folder = os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff")  # a name that is not UTF-8
    os.rename(tmp_path / "图", folder)
    command = [sys.executable, "-c", "import sys; from yolograft.cli import main; sys.exit(main())"]
    command += ["coco", "check", str(file), "--images", folder, "-o", folder + "/sheet.jpg"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 1, text
    assert "UnicodeEncodeError" not in text
    assert "\\u732b" in text
    assert os.path.getsize(folder + "/sheet.jpg") > 1000
