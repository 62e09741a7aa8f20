"""Damaged JSON and YAML: a clear refusal, or every annotation accounted for."""

import copy
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from coco_sets import content, draw, write

from yolograft import ConfigError
from yolograft.coco import config

VALUES = [
    *(None, True, 0, -1, 1e308, float("nan"), float("inf"), -float("inf"), 2**70, "", "a", "7"),
    *("\ud800", "\0", [], {}, [[]], [None], {"a": 1}, [1, 2, 3], [1e9] * 4, "x" * 5000, "9" * 5000),
]


def places(data, path=()):
    """Every place in a tree."""
    yield path
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from places(data[key], (*path, key))


def damage(data, dice):
    """Replace, drop or repeat something, at one to three places."""
    data = copy.deepcopy(data)
    for _ in range(dice.randint(1, 3)):
        path = dice.choice(list(places(data)))
        if not path:
            continue
        owner = data
        for key in path[:-1]:
            owner = owner[key]
        what = dice.random()
        if what < 0.6:
            owner[path[-1]] = copy.deepcopy(dice.choice(VALUES))
        elif what < 0.8:
            del owner[path[-1]]
        elif isinstance(owner, list):
            owner.append(copy.deepcopy(owner[path[-1]]))
    return data


def garble(text, dice):
    """Cut, overwrite or drop some of the bytes."""
    raw = bytearray(text.encode())
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(max(len(raw), 1))
        what = dice.random()
        if what < 0.3:
            del raw[at:]
        elif what < 0.6:
            raw[at : at + 1] = bytes([dice.randrange(256)])
        else:
            del raw[at : at + dice.randint(1, 20)]
    return bytes(raw)


@pytest.fixture
def base(tmp_path):
    data = content(4)
    for category in data["categories"]:
        category["keypoints"] = ["left", "right"]
    for row in data["annotations"]:
        row["keypoints"] = [1, 2, 2, 3, 4, 1]
    draw(tmp_path / "images", data)
    write(tmp_path / "annotations" / "val.json", data)
    return data


def total(file):
    """How many annotations Python's own reader finds."""
    return len(json.loads(file.read_bytes())["annotations"])


def account(dataset, file):
    """Each annotation is a target, a crowd, or told as dropped."""
    boxes = sum(len(label["cls"]) for label in dataset.labels)
    crowds = sum(index.crowds for index in dataset.indexes)
    assert boxes + crowds + dataset.report.count("dropped") == total(file), str(dataset.report)
    for i in range(len(dataset)):
        dataset[i]


def attempt(call, errors):
    """Return what a call gives, or the text of the error that it raises."""
    try:
        return call(), ""
    except errors as error:
        return None, str(error)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_json(base, tmp_path, build, seed):
    file = tmp_path / "annotations" / "train.json"
    lines = {"train": "annotations/train.json", "val": "annotations/train.json"}
    lines |= {"images": "images", "allow_missing": True}
    data_yaml = write(tmp_path / "data.yaml", yaml.safe_dump(lines))
    dice = random.Random(seed)
    passed = 0
    for turn in range(35):
        if turn % 3:
            file.write_text(json.dumps(damage(base, dice)))
        else:
            file.write_bytes(garble(json.dumps(base), dice))
        task = dice.choice(["detect", "segment", "pose"])
        make = lambda task=task: build(data_yaml, task=task, mosaic=0.0)  # noqa: E731
        dataset, error = attempt(make, ConfigError)
        if dataset is None:
            assert str(file) in error
            assert "\n\nHint: " in error
            continue
        account(dataset, file)
        passed += 1
    assert 5 < passed < 35


@pytest.mark.parametrize("seed", range(4))
def test_damaged_yaml(base, tmp_path, build, seed):
    lines = {"path": str(tmp_path), "images": {"train": "images", "val": "images"}}
    lines |= {"train": ["annotations/val.json"], "val": "annotations/val.json", "nc": 3}
    lines |= {"names": ["dog", "cat", "owl"], "kpt_shape": [2, 3], "flip_idx": [1, 0]}
    dice = random.Random(seed)
    file = tmp_path / "data.yaml"
    passed = 0
    for turn in range(35):
        if turn % 3:
            file.write_text(yaml.safe_dump(damage(lines, dice)))
        else:
            file.write_bytes(garble(yaml.safe_dump(lines), dice))
        task = dice.choice(["detect", "pose"])
        stock = (SyntaxError, FileNotFoundError, TypeError, ValueError)
        dataset, error = attempt(lambda task=task: build(file, task=task, mosaic=0.0), stock)
        if dataset is None:
            # Ultralytics refuses what names no JSON any more.
            assert "\n\nHint: " in error or config.read(file) is None, error
            continue
        account(dataset, tmp_path / "annotations" / "val.json")
        passed += 1
    assert 0 < passed < 35


def test_damaged_truth_never_stops_a_validation(base, tmp_path):
    from faster_coco_eval import mask as tools
    from test_metrics import record

    dice = random.Random(1)
    file = tmp_path / "annotations" / "train.json"
    evaluated = 0
    for _ in range(60):
        file.write_text(json.dumps(damage(base, dice)))
        try:
            held = record(file, [], "segment")
        except ConfigError:
            continue
        if not held.dataset.samples:
            continue
        size = [int(v) for v in reversed(held.dataset.samples[0].frame)]
        mask = tools.frPyObjects({"size": size, "counts": [0, size[0] * size[1]]}, *size)
        mask = {"size": size, "counts": mask["counts"].decode()}
        row = {"category_id": 0, "bbox": [1, 1, 20, 20], "score": 0.5, "segmentation": mask}
        held.add(0, [row])
        for numbers in held.evaluate().values():
            assert all(-1 <= v <= 1 for v in numbers.values())
        evaluated += 1
    assert evaluated > 30


MORE = [
    *("000.jpg", "../images/000.jpg", "..\\images\\000.jpg", "C:\\x\\000.jpg", "/dev/zero"),
    *("/dev/null", "/proc/self/mem", "file:///x.jpg", "http://a/b/000.jpg", "a%00b.jpg"),
    *("x" * 300, "x/" * 3000, "e\u0301.jpg", "0", "1e5", "NaN", 2**31, 2**63, -(2**70), 10**400),
    *([1, 2, 3, 4, 5], ["1", "2", "3", "4"], [[1, 2], [3, 4]], [0, 0, 0, 0], [1, 1, 1e-9, 1e-9]),
    *([[1, 2, 3, 4, 5, 6]], [[1, 2, 3]], [[[1, 2], [3, 4], [5, 6]]], [{"x": 1, "y": 2}], [{}]),
    *({"size": [10, 10], "counts": "PPYo0"}, {"size": [10, 10], "counts": [100]}),
    *({"size": [10, 10], "counts": [-5, 105]}, {"size": ["a", 1], "counts": None}, {"counts": [1]}),
    *({"size": [1e9, 1e9], "counts": [1e18]}, {"size": [40000, 40000], "counts": [0, 1600000000]}),
    *([{"size": [10, 10], "counts": [0, 100]}], [[1, 2, 3, 4, 5, 6], {"a": 1}, "x"]),
]


@pytest.mark.parametrize("seed", range(2))
def test_other_damage(base, tmp_path, build, seed, monkeypatch):
    """Names, masks, encodings; parsed in pieces; looked at, trained, evaluated."""
    from yolograft.coco import check, parse
    from yolograft.coco.recorder import Recorder

    monkeypatch.setattr(parse, "_PIECE", 300)
    file = tmp_path / "annotations" / "train.json"
    lines = {"train": "annotations/train.json", "val": "annotations/train.json"}
    lines |= {"images": "images", "allow_missing": True}
    data_yaml = write(tmp_path / "data.yaml", yaml.safe_dump(lines))
    one = base["images"][0]
    mask = {"size": [one["height"], one["width"]], "counts": [5, 20, one["height"] * one["width"]]}
    mask["counts"][2] -= 25
    dice = random.Random(100 + seed)
    passed = 0
    for turn in range(25):
        data = copy.deepcopy(base)
        data["annotations"][0]["segmentation"] = copy.deepcopy(mask)
        for _ in range(dice.randint(1, 4)):
            path = dice.choice([p for p in places(data) if len(p) == 3])
            data[path[0]][path[1]][path[2]] = copy.deepcopy(dice.choice(MORE + VALUES))
        encoding = dice.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"])
        file.write_bytes(json.dumps(data, indent=dice.choice([None, 1])).encode(encoding))
        task = dice.choice(["detect", "segment", "pose"])
        make = lambda task=task: build(data_yaml, "val", task=task)  # noqa: E731
        dataset, error = attempt(make, ConfigError)
        if dataset is None:
            assert str(file) in error
            assert "\n\nHint: " in error
            continue
        account(dataset, file)
        for numbers in Recorder(dataset, task, sigmas=[0.5, 0.5]).evaluate().values():
            assert all(-1 <= v <= 1 for v in numbers.values())
        if turn % 4 == 0:
            assert check.check([file], [tmp_path / "images"], tmp_path / "a.png", True) in (0, 1)
        passed += 1
    assert passed > 10


@pytest.mark.skipif(sys.platform != "linux", reason="sets the limit of a process")
def test_polygons_far_outside_take_no_memory(base, tmp_path):
    """Each pixel of a polygon's edge takes memory, inside the image or not."""
    base["annotations"][0]["segmentation"] = [[0, 0, 1e9, 0, 1e9, 1e9]]
    base["annotations"][1]["bbox"] = [1e9, 1e9, 1e9, 1e9]
    base["annotations"][1]["segmentation"] = []
    file = write(tmp_path / "annotations" / "train.json", base)
    script = (
        "import sys, resource; sys.path[:0] = sys.argv[2:4]\n"
        "from test_metrics import record\n"
        "held = record(sys.argv[1], [], 'segment')\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))\n"
        "assert held.evaluate()['segm']['AP'] == 0\n"
    )
    folders = Path(__file__).parent, Path(__file__).parents[1]
    command = [sys.executable, "-c", script, file, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
