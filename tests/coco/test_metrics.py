import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from coco_sets import content, write

from yolograft.coco import index, results
from yolograft.coco.recorder import Recorder
from yolograft.coco.sample import Sample

pytest.importorskip("pycocotools")


def official(truth, rows, kind, sigmas=None):
    """The numbers of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    gt = COCO(str(truth))
    run = COCOeval(gt, gt.loadRes(rows), kind)
    if sigmas is not None:
        run.params.kpt_oks_sigmas = np.array(sigmas)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats.tolist()


def record(file, rows, task="detect", **options):
    """Evaluate rows in COCO's results format as a validation would."""
    files = file if isinstance(file, list) else [file]
    indexes = [index.open_index(f) for f in files]
    samples = [
        Sample("", n, place, key, size=(w or 1, h or 1), frame=(w or 1, h or 1))
        for n, found in enumerate(indexes)
        for place, (key, (w, h)) in enumerate(zip(found.ids, found.sizes.tolist(), strict=True))
    ]
    count = max(found.poses.shape[1] for found in indexes)
    data = {"kpt_shape": [count, 3]}
    dataset = SimpleNamespace(indexes=indexes, samples=samples, data=data)
    held = Recorder(dataset, task, **options)
    classes = list(indexes[0].categories)
    for i, one in enumerate(samples):
        own = [r for r in rows if r["image_id"] == one.id and r.get("source", 0) == one.source]
        held.add(i, [{**r, "category_id": classes.index(r["category_id"])} for r in own])
    return held


def predictions(data, seed, share=0.8, extra=3):
    """Shifted truth, some of another category, some in the void; many scores are equal."""
    random = np.random.default_rng(seed)
    classes = [c["id"] for c in data["categories"]]
    rows = []
    for row in data["annotations"]:
        for _ in range(int(random.integers(1, 3))):
            if random.random() > share:
                continue
            x, y, w, h = row["bbox"]
            shift = random.normal(0, 0.1, 4) * (w, h, w, h)
            box = np.add([x, y, w, h], shift)
            box[2:] = np.maximum(box[2:], 1)
            cls = row["category_id"] if random.random() < 0.9 else random.choice(classes)
            rows.append((row["image_id"], cls, box))
    for image in data["images"]:
        for _ in range(extra):
            box = random.random(4) * np.tile([image["width"], image["height"]], 2)
            rows.append((image["id"], random.choice(classes), np.maximum(box, 1)))
    return [
        {
            "image_id": i,
            "category_id": int(c),
            "bbox": [round(float(v), 3) for v in box],
            "score": round(float(random.random()), 1 if n % 3 else 5),
        }
        for n, (i, c, box) in enumerate(rows)
    ]


def with_masks(rows, data):
    from pycocotools import mask as tools

    sizes = {i["id"]: (i["height"], i["width"]) for i in data["images"]}
    for row in rows:
        height, width = sizes[row["image_id"]]
        x, y, w, h = row["bbox"]
        polygon = [[x, y, x + w, y, x + w * 0.9, y + h, x, y + h * 0.8]]
        (found,) = tools.frPyObjects(polygon, height, width)
        row["segmentation"] = {**found, "counts": found["counts"].decode()}
    return rows


def compare(numbers, stats):
    assert len(numbers) == len(stats)
    np.testing.assert_allclose(list(numbers.values()), stats, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(5))
def test_random_predictions_equal_pycocotools(tmp_path, seed, kind):
    data = content(12, seed=seed)
    file = write(tmp_path / "a.json", data)
    rows = with_masks(predictions(data, seed), data)
    found = record(file, rows, "segment").evaluate([kind])[kind]
    compare(found, official(file, rows, kind))
    assert 0.05 < found["AP50"] < 0.95


def with_poses(data, random):
    for category in data["categories"]:
        category["keypoints"] = [str(i) for i in range(5)]
    for n, row in enumerate(data["annotations"]):
        x, y, w, h = row["bbox"]
        seen = random.integers(0, 3, 5) if n % 4 else np.zeros(5, int)
        points = np.column_stack((x + w * random.random(5), y + h * random.random(5), seen))
        row["keypoints"] = points.ravel().tolist()
        row["num_keypoints"] = int((seen > 0).sum())


@pytest.mark.parametrize("seed", range(3))
def test_random_poses_equal_pycocotools(tmp_path, seed):
    random = np.random.default_rng(seed)
    data = content(12, seed=seed)
    with_poses(data, random)
    file = write(tmp_path / "a.json", data)
    rows = []
    for row in data["annotations"]:
        points = np.reshape(row["keypoints"], (-1, 3)) + random.normal(0, 1.5, (5, 3))
        points = np.round(np.column_stack((points[:, :2], np.ones(5))), 3)
        keys = ("image_id", "category_id", "bbox")
        rows.append({k: row[k] for k in keys})
        rows[-1] |= {"keypoints": points.ravel().tolist(), "score": round(random.random(), 3)}
    sigmas = [0.2] * 5
    found = record(file, rows, "pose", sigmas=sigmas).evaluate()
    compare(found["keypoints"], official(file, rows, "keypoints", sigmas))
    assert 0.05 < found["keypoints"]["AP"] < 0.95
    compare(found["bbox"], official(file, rows, "bbox"))


def test_a_category_without_poses_has_no_number_beside_those_that_have(tmp_path):
    data = content(6)
    with_poses(data, np.random.default_rng(0))
    for row in data["annotations"]:
        row["category_id"] = 7 if row["category_id"] == 40 else row["category_id"]
    file = write(tmp_path / "a.json", data)
    keys = ("image_id", "category_id", "bbox", "keypoints")
    own = (row for row in data["annotations"] if not row["iscrowd"])
    rows = [{"score": 0.9, **{key: row[key] for key in keys}} for row in own]
    recorder = record(file, rows, "pose", sigmas=[0.2] * 5)
    numbers = recorder.evaluate()
    compare(numbers["keypoints"], official(file, rows, "keypoints", [0.2] * 5))
    recorder.write(tmp_path, numbers)
    classes = json.loads((tmp_path / "coco_metrics.json").read_text())["classes"]
    found = {one["name"]: one["keypoints"]["AP"] for one in classes}
    assert found["owl"] is None
    assert found["cat"] > 0.9
    assert found["dog"] > 0.9


def real(name):
    root = os.environ.get("YOLOGRAFT_TEST_DATA")
    if not root:
        pytest.skip("YOLOGRAFT_TEST_DATA is not set: a folder that holds coco_open104")
    return Path(root) / "coco_open104" / "annotations" / f"instances_{name}.json"


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_random_predictions_on_real_coco(kind):
    file = real("val")
    data = json.loads(file.read_text())
    assert sum(a["iscrowd"] for a in data["annotations"]) == 7
    rows = with_masks(predictions(data, 0, extra=20), data)
    found = record(file, rows, "segment").evaluate([kind])[kind]
    compare(found, official(file, rows, kind))
    assert 0.02 < found["AP"] < 0.95


def truth_as_predictions(data):
    keys = ("image_id", "category_id", "bbox")
    rows = [{k: a[k] for k in keys} for a in data["annotations"] if not a["iscrowd"]]
    return [{**row, "score": 1.0} for row in rows]


def test_the_truth_scores_one(tmp_path):
    data = content(8, first=0)  # pycocotools takes annotation 0 for unmatched; we do not
    rows = truth_as_predictions(data)
    found = record(write(tmp_path / "a.json", data), rows).evaluate()["bbox"]
    assert {k: v for k, v in found.items() if v != -1 and k not in ("AR1", "AR10")} == {
        k: 1.0 for k, v in found.items() if v != -1 and k not in ("AR1", "AR10")
    }
    assert found["AP"] == 1


def test_the_truth_scores_one_on_real_coco():
    from pycocotools.coco import COCO

    file = real("val")
    data = json.loads(file.read_text())
    rows = truth_as_predictions(data)
    api = COCO(str(file))
    for row, source in zip(rows, [a for a in data["annotations"] if not a["iscrowd"]], strict=True):
        mask = api.annToRLE(source)  # as their masks come out of a perfect model
        row["segmentation"] = {**mask, "counts": mask["counts"].decode()}
    found = record(file, rows, "segment").evaluate()
    for numbers in found.values():
        names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "ARs", "ARm", "ARl")
        assert {n: round(numbers[n], 6) for n in names} == dict.fromkeys(names, 1.0)


def test_without_predictions(tmp_path):
    found = record(write(tmp_path / "a.json", content()), []).evaluate()["bbox"]
    assert found["AP"] == 0
    assert found["APl"] == -1  # nothing large to find


def test_crowds_swallow_what_lies_in_them(tmp_path):
    data = content(3)
    crowd = data["annotations"][-1]
    assert crowd["iscrowd"]
    rows = [{**row, "score": 0.5} for row in truth_as_predictions(data)]
    inside = {k: crowd[k] for k in ("image_id", "category_id")} | {"score": 1.0}
    more = [*rows, {**inside, "bbox": [6, 2, 10, 20]}, {**inside, "bbox": [8, 9, 12, 20]}]
    file = write(tmp_path / "a.json", data)
    assert record(file, more).evaluate()["bbox"]["AP"] == 1
    assert record(file, rows).evaluate()["bbox"]["AP"] == 1
    crowd["bbox"] = [90, 0, 1, 1]
    other = write(tmp_path / "b.json", data)
    assert record(other, more).evaluate()["bbox"]["AP"] < 1


def test_ids_of_any_kind_and_ids_that_two_files_share(tmp_path):
    data = content(6)
    rows = predictions(data, 1)
    want = record(write(tmp_path / "a.json", data), rows).evaluate()
    text = json.loads(json.dumps(data))
    for row in (*text["images"], *text["annotations"]):
        row["id"] = f"x{row['id']:04}"
    for row in text["annotations"]:
        row["image_id"] = f"x{row['image_id']:04}"
    renamed = [{**r, "image_id": f"x{r['image_id']:04}"} for r in rows]
    held = record(write(tmp_path / "b.json", text), renamed)
    assert held.evaluate() == want
    assert {r["image_id"] for r in held.results()[0]} <= {i["id"] for i in text["images"]}
    twice = [tmp_path / "a.json", write(tmp_path / "c.json", {**data, "info": "again"})]
    both = [*rows, *({**r, "source": 1} for r in rows)]
    held = record(twice, both)
    assert [len(r) for r in held.results()] == [len(rows), len(rows)]
    assert 0 < held.evaluate()["bbox"]["AP"] < 1
    held.save(tmp_path)
    names = ["predictions-1-a.json", "predictions-2-c.json"]
    assert [len(json.loads((tmp_path / n).read_text())) for n in names] == [len(rows)] * 2


def test_classes_and_agnostic(tmp_path):
    data = content(8)
    file = write(tmp_path / "a.json", data)
    rows = truth_as_predictions(data)
    ids = sorted(c["id"] for c in data["categories"])
    part = [r for r in rows if r["category_id"] == ids[1]]
    assert record(file, part).evaluate()["bbox"]["AP"] < 1
    assert record(file, part, classes=[1]).evaluate()["bbox"]["AP"] == 1
    wrong = [{**r, "category_id": ids[0]} for r in rows]
    assert record(file, wrong).evaluate()["bbox"]["AP"] < 1
    assert record(file, wrong, agnostic=True).evaluate()["bbox"]["AP"] == 1


def test_columns_reuse_ultralytics_names():
    names = results.training_columns("detect")
    assert {f"metrics/mAP_{size}(B)" for size in ("small", "medium", "large")} < set(names)
    assert results.training_columns("segment") == names
    assert "metrics/AP(P)" in results.training_columns("pose")
