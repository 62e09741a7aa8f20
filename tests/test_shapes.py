"""The drawn data set: same files each time, balanced, exact boxes, all or nothing on disk."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from yolograft import shapes
from yolograft.files import CFG

SMALL = {"train": 4, "val": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The data set as users get it."""
    folder = tmp_path_factory.mktemp("datasets") / "shapes"
    shapes.draw(folder)
    return folder


@pytest.fixture
def small(monkeypatch):
    """Six images instead of 300."""
    monkeypatch.setattr(shapes, "COUNTS", SMALL)


def read(folder, split):
    """Return per image its name, height, width and an array of (class, x, y, w, h)."""
    for label in sorted((folder / "labels" / split).iterdir()):
        image = cv2.imread(str(folder / "images" / split / f"{label.stem}.png"))
        yield label.stem, *image.shape[:2], np.loadtxt(label, ndmin=2)


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.mark.usefixtures("small")
def test_same_bytes_again_and_whatever_the_number_of_images(whole, tmp_path):
    shapes.draw(tmp_path / "a")
    drawn = files(tmp_path / "a")
    assert len(drawn) == 2 * sum(SMALL.values())
    assert drawn == {name: (whole / name).read_bytes() for name in drawn}


def test_no_image_twice(whole):
    images = [p.read_bytes() for p in (whole / "images").rglob("*.png")]
    assert len(set(images)) == len(images) == 300


@pytest.mark.parametrize("split", ["train", "val"])
def test_classes_and_sizes_are_balanced(whole, split):
    sides, kinds = [], []
    for _, height, width, rows in read(whole, split):
        kinds += rows[:, 0].astype(int).tolist()
        sides += np.sqrt(rows[:, 3] * width * rows[:, 4] * height).tolist()
    sizes = np.histogram(sides, [0, 32, 96, 400])[0]  # COCO's small, medium, large
    assert sizes.min() > 0.95 * sizes.max(), sizes
    assert len(kinds) / shapes.COUNTS[split] == pytest.approx(4.5, rel=0.02)
    share = np.bincount(kinds, minlength=len(shapes.NAMES)) / len(kinds)
    assert share == pytest.approx(1 / len(shapes.NAMES), abs=0.05)


@pytest.mark.parametrize("split", ["train", "val"])
def test_labels_are_valid(whole, split):
    canvases = set()
    for name, height, width, rows in read(whole, split):
        canvases.add((height, width))
        kind, centre, size = rows[:, 0], rows[:, 1:3], rows[:, 3:5]
        assert np.isin(kind, range(len(shapes.NAMES))).all(), name
        assert (centre - size / 2 >= -1e-6).all(), name
        assert (centre + size / 2 <= 1 + 1e-6).all(), name
        assert (size * (width, height) >= 10).all(), name
    assert canvases == {(320, 320), (256, 320), (320, 256)}


def test_boxes_are_tight_about_what_is_seen(whole, monkeypatch):
    masks = []
    paint = shapes._paint
    monkeypatch.setattr(shapes, "_paint", lambda *a: (masks.append(a[2].copy()), paint(*a)))
    for index, (_, height, width, rows) in enumerate(read(whole, "val")):
        masks.clear()
        shapes._scene(np.random.default_rng([1, index]), index)
        assert len(masks) == len(rows)
        for k, (_, x, y, w, h) in enumerate(rows):
            seen = masks[k].copy()
            for later in masks[k + 1 :]:
                seen &= ~later
            assert seen.sum() > 0.6 * masks[k].sum()
            want = cv2.boundingRect(seen.astype(np.uint8))
            got = (x - w / 2) * width, (y - h / 2) * height, w * width, h * height
            assert got == pytest.approx(want, abs=1e-3)


@pytest.mark.usefixtures("small")
def test_complete_folder_is_left_alone(tmp_path, monkeypatch, capsys):
    shapes.draw(tmp_path / "a")
    monkeypatch.setattr(shapes, "_draw_splits", lambda folder: pytest.fail("drawn again"))
    capsys.readouterr()
    shapes.draw(tmp_path / "a")
    assert str(tmp_path / "a") in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_interrupt_leaves_nothing(tmp_path, monkeypatch):
    scene = shapes._scene

    def interrupted(rng, index):
        if index == 2:
            raise KeyboardInterrupt
        return scene(rng, index)

    monkeypatch.setattr(shapes, "_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shapes.draw(tmp_path / "a")
    assert not [*tmp_path.iterdir()]


@pytest.mark.usefixtures("small")
def test_leftover_of_a_killed_process_is_no_data_set(tmp_path):
    code = (
        "import os; from yolograft import shapes; scene = shapes._scene\n"
        "shapes._scene = lambda rng, i: os._exit(9) if i == 2 else scene(rng, i)\n"
        f"shapes.draw({str(tmp_path / 'a')!r})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 9
    [leftover] = tmp_path.iterdir()
    assert leftover.name.startswith(".a-")
    assert any(leftover.rglob("*.png"))
    shapes.draw(tmp_path / "a")
    assert len(files(tmp_path / "a")) == 12


@pytest.mark.usefixtures("small")
def test_second_process_that_is_first(tmp_path, monkeypatch):
    draw_splits, rename = shapes._draw_splits, os.rename

    def overtaken(source, target):
        draw_splits(Path(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", overtaken)
    shapes.draw(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert len(files(tmp_path / "a")) == 12


@pytest.mark.usefixtures("small")
def test_damaged_folder_is_refused_and_kept(tmp_path):
    shapes.draw(tmp_path / "a")
    (tmp_path / "a/images/val/001.png").unlink()
    with pytest.raises(FileExistsError, match=r"1 \.png files, not 2\n\nHint: delete"):
        shapes.draw(tmp_path / "a")
    assert len(files(tmp_path / "a")) == 11
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").mkdir()  # an empty folder is no data set of anybody's
    shapes.draw(tmp_path / "a")
    assert len(files(tmp_path / "a")) == 12


@pytest.mark.usefixtures("small")
def test_ultralytics_draws_on_first_use(tmp_path, monkeypatch, capsys):
    from ultralytics.data import utils

    monkeypatch.setattr(utils, "DATASETS_DIR", tmp_path / "datasets")
    monkeypatch.setattr(utils, "check_font", lambda *_: None)  # would look on the network
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    data = utils.check_det_dataset("shapes.yaml")
    folder = tmp_path / "datasets" / "yolograft-shapes"
    assert data["val"] == str(folder / "images/val")
    assert data["names"] == dict(enumerate(shapes.NAMES))
    assert f"in {folder}" in capsys.readouterr().out
    assert len(files(folder)) == 12
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_yaml_tells_the_numbers_of_images():
    text = (CFG / "data/shapes.yaml").read_text()
    assert yaml.safe_load(text)["names"] == dict(enumerate(shapes.NAMES))
    for split, count in shapes.COUNTS.items():
        assert f"{split}: images/{split} # {count} images" in text
