import json

import numpy as np
import pytest
from coco_sets import content, write

from yolograft.coco import index, rle


def test_categories_by_id_with_gaps(tmp_path):
    found = index.open_index(write(tmp_path / "a.json", content()))
    assert list(found.categories.items()) == [(3, "dog"), (7, "cat"), (40, "owl")]


def test_every_annotation_is_told(tmp_path):
    data = content()
    found = index.open_index(write(tmp_path / "a.json", data))
    assert found.total == len(data["annotations"])
    assert (len(found.boxes), found.crowds) == (found.total - 1, 1)
    rows = [a for a in data["annotations"] if not a["iscrowd"]]
    assert found.boxes.tolist() == [a["bbox"] for a in rows]
    assert found.points.tolist() == [v for a in rows for v in a["segmentation"][0]]
    ids = np.repeat(found.ids, np.diff(found.first))
    assert ids.tolist() == [a["image_id"] for a in rows]


def test_the_cache_is_by_content(tmp_path, monkeypatch):
    data = content()
    file = write(tmp_path / "a.json", data)
    first = index.open_index(file)
    built = []
    monkeypatch.setattr(index, "build", lambda *a, real=index.build: built.append(a) or real(*a))
    again = index.open_index(write(tmp_path / "moved.json", data))
    assert not built
    assert again.file.name == "moved.json"
    for name in index._ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert [getattr(first, k) for k in index._WORDS] == [getattr(again, k) for k in index._WORDS]
    data["annotations"][0]["bbox"][0] += 0.5
    changed = index.open_index(write(file, data))
    assert built
    assert changed.boxes[0, 0] == first.boxes[0, 0] + 0.5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "moved.json"]


def test_a_broken_cache_is_built_anew(tmp_path):
    file = write(tmp_path / "a.json", content())
    first = index.open_index(file)
    kept = next(index.cache_folder().glob("*.npz"))
    kept.write_bytes(kept.read_bytes()[:100])
    assert index.open_index(file).boxes.tolist() == first.boxes.tolist()


def test_without_a_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(write(tmp_path / "no-folder", "")))
    assert len(index.open_index(write(tmp_path / "a.json", content())).boxes)


def test_ids_as_text_and_nested_polygons(tmp_path):
    data = content()
    plain = index.build(write(tmp_path / "a.json", data))
    for row in data["annotations"]:
        row["image_id"], row["category_id"] = str(row["image_id"]), float(row["category_id"])
        if not row["iscrowd"]:
            row["segmentation"] = np.reshape(row["segmentation"], (-1, 2)).tolist()
            row["segmentation"] = [row["segmentation"]]
    found = index.build(write(tmp_path / "b.json", data))
    np.testing.assert_array_equal(found.boxes, plain.boxes)
    np.testing.assert_array_equal(found.cls, plain.cls)
    np.testing.assert_array_equal(found.points, plain.points)
    assert not found.report


def test_masks_as_polygons(tmp_path):
    from faster_coco_eval import mask as tools

    image = np.zeros((50, 70), np.uint8)
    image[10:30, 20:50] = 1
    image[35:45, 5:15] = 1
    short = tools.encode(np.asfortranarray(image))
    short = {"size": [50, 70], "counts": short["counts"].decode()}
    runs, height, width = rle.counts(short)
    assert (height, width) == (50, 70)
    for mask in (short, {"size": [50, 70], "counts": runs}):
        np.testing.assert_array_equal(rle.decode(mask), image)
    found = index.build(write(tmp_path / "a.json", with_mask(short)))
    assert rle.counts(found.mask(0))[0].tolist() == runs.tolist()
    assert found.mask(1) is None


def with_mask(mask, **more):
    """A set whose first annotation has a mask."""
    data = content()
    data["annotations"][0].update(segmentation=mask, **more)
    return data


@pytest.mark.parametrize("seed", range(20))
def test_compressed_masks_decode_as_in_pycocotools(seed):
    tools = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(seed)
    image = np.asfortranarray(random.random((33, 41)) < random.random()).astype(np.uint8, order="F")
    np.testing.assert_array_equal(rle.decode(tools.encode(image)), image)


@pytest.mark.parametrize(
    "mask",
    [
        {},
        {"size": [4, 4]},
        {"size": [4, 4], "counts": [3]},
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [4, 4], "counts": "oo"},
        {"size": [-4, 4], "counts": [16]},
    ],
)
def test_masks_that_are_none_raise(mask):
    with pytest.raises(ValueError, match=r"size|fill|character"):
        rle.decode(mask)


def test_python_writes_nan(tmp_path):
    data = content()
    data["annotations"][2]["bbox"][1] = float("nan")
    data["annotations"][3]["area"] = float("inf")
    found = index.build(write(tmp_path / "a.json", json.dumps(data)))
    assert found.report.count("dropped") == 1
    assert len(found.boxes) + found.crowds + 1 == found.total
