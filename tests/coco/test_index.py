import gzip
import json
import os
import subprocess
import sys
import time
from multiprocessing.pool import ThreadPool

import cv2
import numpy as np
import pytest
from coco_sets import content, draw, write

from yolograft import ConfigError, files
from yolograft.coco import index, parse, rle


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
    kept = next(files.cache("coco").glob("*.npz"))
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


# -------------------------------------------------------------------------------------------- masks


def encoded(image, form):
    """A mask as COCO JSON has it, by faster-coco-eval, or counted here."""
    if form == "runs":
        flat = image.T.ravel()
        ends = np.flatnonzero(np.diff(np.r_[0, flat]))
        return {"size": list(image.shape), "counts": np.diff(np.r_[0, ends, flat.size]).tolist()}
    from faster_coco_eval import mask as tools

    mask = tools.encode(np.asfortranarray(image))
    return {"size": list(image.shape), "counts": mask["counts"].decode()}


def shape(kind, size=(40, 60)):
    image = np.zeros(size, np.uint8)
    if kind == "square":
        image[10:18, 20:28] = 1
    elif kind == "line across":
        image[10, 20:50] = 1
    elif kind == "line down":
        image[5:38, 7] = 1
    elif kind == "dot":
        image[3, 4] = 1
    elif kind == "whole":
        image[:] = 1
    elif kind == "two columns":  # one run, from the end of a column to the start of the next
        image[30:, 20] = image[:5, 21] = 1
    elif kind == "corner":
        image[10, 20:50] = image[10:30, 20] = 1
    elif kind == "hole":
        image[10:30, 20:50] = 1
        image[15:20, 30:40] = 0
    return image


SHAPES = ("square", "line across", "line down", "dot", "whole", "two columns", "corner", "hole")


@pytest.mark.parametrize("form", ["text", "runs"])
@pytest.mark.parametrize("kind", SHAPES)
def test_boxes_are_the_extent_of_the_mask(tmp_path, build, kind, form):
    image = shape(kind)
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    want = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    mask = encoded(image, form)
    assert rle.extent(mask) == want
    height, width = image.shape
    row = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": mask}
    data = {
        "images": [{"id": 1, "file_name": "a.png", "width": width, "height": height}],
        "annotations": [row],
        "categories": [{"id": 1, "name": "a"}],
    }
    draw(tmp_path, data)
    file = write(tmp_path / "a.json", data)
    text = write(tmp_path / "data.yaml", "train: a.json\nval: a.json\nimages: .")
    for task in ("detect", "segment"):
        label = build(text, "val", task).labels[0]
        x, y, w, h = label["bboxes"][0] * (width, height, width, height)
        np.testing.assert_allclose([x - w / 2, y - h / 2, w, h], want, rtol=0, atol=1e-4)
    dataset = build(text, "val", "segment")
    told = dataset.report.notes.get("masks with holes, which are filled", [0])
    assert told[0] == (kind == "hole")
    assert index.build(file).boxes.tolist() == [[float(v) for v in want]]


@pytest.mark.parametrize("seed", range(10))
def test_outlines_hold_exactly_the_mask(seed):
    """Drawn by pycocotools, an outline gives the mask back; holes are filled by SciPy."""
    tools = pytest.importorskip("pycocotools.mask")
    from scipy import ndimage

    random = np.random.default_rng(seed)
    for _ in range(30):
        height, width = random.integers(1, 30, 2).tolist()
        image = (random.random((height, width)) < random.random()).astype(np.uint8)
        if random.random() < 0.5:
            image = (ndimage.uniform_filter(image.astype(float), 3) > 0.5).astype(np.uint8)
        outlines, holes = rle.outlines(encoded(image, "text"))
        # Parts hang together by corners, so holes by edges.
        filled = ndimage.binary_fill_holes(image).astype(np.uint8)
        assert holes == bool((filled != image).any())
        assert len(outlines) == _parts(filled)
        if outlines:
            flat = [corners.ravel().astype(float).tolist() for corners in outlines]
            found = tools.decode(tools.merge(tools.frPyObjects(flat, height, width)))
            np.testing.assert_array_equal(found, filled)


def _parts(image):
    from scipy import ndimage

    return ndimage.label(image, np.ones((3, 3)))[1]


def test_compressed_text_is_read_as_in_pycocotools():
    tools = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for _ in range(200):
        size = random.integers(1, 60, 2)
        image = np.asfortranarray((random.random(size) < random.random()).astype(np.uint8))
        mask = tools.encode(image)
        runs, height, width = rle.counts(mask)
        again = tools.frPyObjects({"size": mask["size"], "counts": runs.tolist()}, height, width)
        assert again["counts"] == mask["counts"]


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [4, 4], "counts": [[16]]},
        {"size": [4, 4], "counts": [float("nan")]},
        {"size": [4, 4], "counts": ["a"]},
        {"size": [4, 4], "counts": [None]},
        {"size": [4, 4], "counts": [1 << 70]},
        {"size": [4, 4], "counts": {"a": 1}},
        {"size": [4, 4], "counts": [8, 1 << 62, 1 << 62, 1 << 62, 1 << 62, 8]},
        {"size": [1 << 40, 1 << 40], "counts": [1 << 80]},
        {"size": [10**6, 10**6], "counts": [0, 10**12]},
        {"size": [4], "counts": [4]},
        {"size": ["a", 4], "counts": [4]},
        {"size": [float("inf"), 4], "counts": [4]},
        {"size": [4, 4], "counts": "P" * 100},
        {"size": [4, 4], "counts": "\u00e9"},
        {"size": [4, 4], "counts": ""},
        [16],
        None,
    ],
)
def test_no_mask_is_a_value_error(mask):
    for call in (rle.counts, rle.decode, rle.extent, rle.outlines):
        with pytest.raises(ValueError, match=r"."):
            call(mask)


def many_masks(file, form, count):
    """Ellipses on images of 1920 x 1080, one text for each of a few."""
    random = np.random.default_rng(0)
    texts = []
    for _ in range(12):
        image = np.zeros((1080, 1920), np.uint8)
        middle, radii = random.integers(300, 700, 2), random.integers(60, 200, 2)
        cv2.ellipse(image, middle.tolist(), radii.tolist(), 30, 0, 360, 1, -1)
        texts.append(json.dumps(encoded(image, form)))
    with file.open("w") as stream:
        images = [
            {"id": i, "file_name": f"{i}.jpg", "width": 1920, "height": 1080} for i in range(1000)
        ]
        stream.write(f'{{"images": {json.dumps(images)}, "annotations": [')
        for i in range(count):
            stream.write(", " * bool(i))
            stream.write(f'{{"id": {i}, "image_id": {i % 1000}, "category_id": 1, "iscrowd": 0, ')
            stream.write(f'"bbox": [1, 2, 30, 40], "segmentation": {texts[i % 12]}}}')
        stream.write('], "categories": [{"id": 1, "name": "a"}]}')
    return file


MEASURE = """
import json, sys, time
import ultralytics.data.dataset
from yolograft.coco import dataset, index
def memory(key):
    (line,) = [l for l in open("/proc/self/status") if l.startswith(key)]
    return int(line.split()[1])
before, start = memory("VmRSS"), time.process_time()
found = index.open_index(sys.argv[1])
seconds = time.process_time() - start
print("\\n" + json.dumps([seconds, memory("VmHWM") - before, len(found.boxes)]))
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("form", ["runs", pytest.param("text", marks=pytest.mark.slow)])
def test_many_masks_take_little(tmp_path, form):
    file = many_masks(tmp_path / "a.json", form, 4000)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, file], capture_output=True, text=True, check=True
    )
    seconds, kilobytes, count = json.loads(done.stdout.splitlines()[-1])
    assert count == 4000
    assert seconds < 5
    assert kilobytes / count < 10


def test_detection_decodes_no_mask(tmp_path, build, monkeypatch):
    data = content(3)
    draw(tmp_path, data)
    one = data["images"][0]
    mask = np.zeros((one["height"], one["width"]), np.uint8)
    mask[5:20, 8:30] = 1
    data["annotations"][0]["segmentation"] = encoded(mask, "text")
    write(tmp_path / "a.json", data)
    text = write(tmp_path / "data.yaml", "train: a.json\nval: a.json\nimages: .")
    decoded = []
    real = rle.outlines
    monkeypatch.setattr(rle, "outlines", lambda m: decoded.append(m) or real(m))
    build(text)
    assert not decoded
    build(text, task="segment")
    assert len(decoded) == 1


def test_a_mask_of_another_size_is_told(tmp_path, build):
    data = content(3)
    draw(tmp_path, data)
    data["annotations"][0]["segmentation"] = encoded(shape("square"), "text")
    write(tmp_path / "a.json", data)
    text = write(tmp_path / "data.yaml", "train: a.json\nval: a.json\nimages: .")
    notes = build(text, task="segment").report.notes
    assert notes["masks of another size than their image: the box is used"][0] == 1


# ----------------------------------------------------------------------------------------- parsing


def test_a_large_file_is_parsed_as_a_small_one(tmp_path, monkeypatch):
    """Cut into pieces of any size, in any order of its lists, a file says what it says."""
    data = content(40)
    for i, row in enumerate(data["annotations"]):
        row["attributes"] = [{"a": [{"b": 1}]}, {"},{": '"annotations": ['}, "},{"]
        if i % 3 == 0 and not row["iscrowd"]:
            row["segmentation"] = encoded(shape("hole"), "runs" if i % 2 else "text")
    whole = index.build(write(tmp_path / "whole.json", data))
    orders = [["images", "annotations", "categories"], ["annotations", "categories", "images"]]
    for size in (100, 400, 3000):
        monkeypatch.setattr(parse, "_PIECE", size)
        for order in orders:
            for indent in (None, 1):
                text = json.dumps({key: data[key] for key in order}, indent=indent)
                found = index.build(write(tmp_path / "a.json", text))
                for name in index._ARRAYS:
                    np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
                assert found.report.content() == whole.report.content()
    deep = {"info": {"annotations": [{"a": 1}, {"b": 2}]}, **data}
    found = index.build(write(tmp_path / "a.json", deep))
    np.testing.assert_array_equal(found.boxes, whole.boxes)
    data["annotations"][5]["bbox"][0] = float("nan")
    assert len(index.build(write(tmp_path / "a.json", data)).boxes) == len(whole.boxes) - 1
    with pytest.raises(ConfigError, match="not JSON"):
        index.build(write(tmp_path / "a.json", text[:-300]))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings(tmp_path, encoding):
    data = content()
    data["categories"][0]["name"] = "Ä猫"
    file = tmp_path / "a.json"
    file.write_bytes(json.dumps(data, ensure_ascii=False).encode(encoding))
    assert "Ä猫" in index.build(file).categories.values()


def test_compressed_files_are_named_so(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(gzip.compress(json.dumps(content()).encode()))
    with pytest.raises(ConfigError, match="the file is compressed"):
        index.build(file)


def test_bars_move(tmp_path, monkeypatch, build):
    """Hashing, parsing, indexing and reading masks each show how far they are."""
    file = many_masks(tmp_path / "a.json", "text", 3000)
    seen = {}

    class Bar:
        def __init__(self, desc, total, initial=0, **more):
            self.told = seen.setdefault(desc.split()[0], [initial])
            self.total = total

        def update(self, count):
            self.told.append(self.told[-1] + count)

        def close(self):
            assert self.told[-1] == self.total

    ticks = iter(range(10**9))
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))  # nothing takes a moment only
    monkeypatch.setattr("ultralytics.utils.TQDM", Bar)
    monkeypatch.setattr(parse, "_PIECE", 1 << 17)
    index.open_index(file)
    assert set(seen) == {"Hashing", "Parsing", "Indexing"}
    assert len(seen["Parsing"]) > 5
    assert len(seen["Indexing"]) > 5


# ----------------------------------------------------------------------------------------- cache


def test_messages_name_the_file_that_was_given(tmp_path, build):
    """Two equal files share an index; what is said of each names it."""
    data = content(3)
    data["annotations"][0]["category_id"] = 99
    draw(tmp_path, data)
    for name in ("one", "two"):
        write(tmp_path / f"{name}.json", data)
        lines = f"train: {name}.json\nval: {name}.json\nimages: ."
        report = str(build(write(tmp_path / "data.yaml", lines)).report)
        assert f"{name}.json, annotation 1 of image 10" in report
        assert ("two" if name == "one" else "one") not in report
    for part in ("x", "y"):
        write(tmp_path / part / "same.json", data)
    lines = "train: [x/same.json, y/same.json]\nval: x/same.json\nimages: ."
    report = str(build(write(tmp_path / "data.yaml", lines)).report)
    assert f"{tmp_path}/x/same.json, annotation 1" in report
    assert f"{tmp_path}/y/same.json, annotation 1" in report


WRITER = """
import os, sys, time
from pathlib import Path
from yolograft import files
def write(stream):
    stream.write(b"half")
    stream.flush()
    print("writing", flush=True)
    time.sleep(600)
files.write(Path(sys.argv[1]), write)
"""


def test_parts_of_killed_writers_are_swept():
    folder = files.cache("coco")
    folder.mkdir(parents=True)
    file = folder / "a.npz"
    writers = []
    for _ in range(2):
        command = [sys.executable, "-c", WRITER, file]
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert writers[-1].stdout.readline() == b"writing\n"
    old = folder / "b.npz.1-2@elsewhere.part"
    new = folder / "c.npz.1-2@elsewhere.part"
    other = folder / "mine.part"
    for part in (old, new, other):
        part.write_bytes(b"half")
    for part in (old, other):
        os.utime(part, (0, 0))
    parts = set(folder.glob("*.part"))
    assert len(parts) == 5
    try:
        writers[0].kill()
        writers[0].wait()
        files.write(file, lambda stream: stream.write(b"whole"))
        left = set(folder.glob("*.part"))
        assert file.read_bytes() == b"whole"
        assert len(left) == 3  # one is being written, one is another machine's, one not ours
        assert new in left
        assert any(f".{writers[1].pid}-" in part.name for part in left)
    finally:
        writers[1].kill()
        writers[1].wait()
    files.write(folder / "d.npz", lambda stream: stream.write(b"whole"))
    assert set(folder.glob("*.part")) == {new, other}


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def fail(stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a.npz", fail)
    assert not list(tmp_path.iterdir())


def test_writers_side_by_side(tmp_path):
    """Threads that write one file at the same time leave a whole one."""
    texts = [bytes([i]) * 100_000 for i in range(16)]
    with ThreadPool(16) as pool:
        pool.map(lambda t: files.write(tmp_path / "a", lambda s: s.write(t)), texts * 4)
    assert (tmp_path / "a").read_bytes() in texts
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
