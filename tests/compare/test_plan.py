"""What is compared, and what is refused."""

import json
import shutil
from collections import namedtuple
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from yolograft import cli
from yolograft.compare import control, data, jobs, keep, plan, records, train, variants
from yolograft.compare.records import Variant
from yolograft.errors import ConfigError
from yolograft.ultra import build_model

from .instant import finished

SETTINGS = {"imgsz": 64, "device": "cpu", "batch": 4}


@pytest.fixture(scope="module")
def small(tiny, tmp_path_factory):
    """A plan of one recipe."""
    folder = tmp_path_factory.mktemp("plan") / "project"
    return plan.make("yolov8n.yaml", ["sk"], str(tiny), 2, 1, folder, SETTINGS)


def test_base_and_control_are_always_in(small):
    base, sk, wide = small.variants
    assert [one.kind for one in small.variants] == ["base", "recipe", "control"]
    assert [base.name, sk.name, wide.name] == ["yolov8n", "sk", "yolov8n-wide"]
    assert wide.params > base.params
    for factor in (1.02, 1.06, 1.12, 1.2, 1.4):  # none is nearer; channels go in steps of 8
        config = deepcopy(base.config)
        depth, width, most = config["scales"]["n"]
        config["scales"]["n"] = [depth, width * factor, most]
        other = variants.counted(Variant("other", "control", "", config), {"nc": 5}, 64)
        assert abs(wide.gflops - sk.gflops) <= abs(other.gflops - sk.gflops)
    assert "yolov8n-wide" in small.notes[0]


def test_next_scale_is_the_control_where_it_is_near(small):
    """A variant as expensive as yolov8s calls for yolov8s, not for a copy of its widths."""
    content = {"nc": 5, "channels": 3}
    dear = variants.counted(
        Variant("dear", "model", "", {**small.base.config, "scale": "s"}), content, 64
    )
    larger, _ = control.scale_up(small.base, [dear], content, 64)
    assert (larger.name, larger.config["scale"]) == ("yolov8s", "s")
    assert larger.gflops == dear.gflops


@pytest.mark.parametrize(
    ("base", "factor", "reach"),
    [("yolo11n", 1.35, 0.1), ("yolo11n", 1.5, 0.1), ("yolo12n", 3.3, 0.1), ("yolo12n", 1.5, 1.5)],
)
@pytest.mark.long
def test_a_control_is_found_where_attention_takes_some_widths_only(base, factor, reach):
    """Heads of 64 channels, and in yolo12, which only doubles, areas of 32."""
    start = variants.counted(variants.load("base", f"{base}.yaml"), {"nc": 5}, 64)
    dear = replace(start, name="dear", gflops=factor * start.gflops)
    larger, _ = control.scale_up(start, [dear], {"nc": 5}, 64)
    assert larger.gflops == pytest.approx(dear.gflops, rel=reach)


def test_key_is_that_of_the_inputs(small, tiny):
    keys = {job.id: job.key for job in jobs.trainings(small)}
    assert len({*keys.values()}) == 6
    again = plan.make("yolov8n.yaml", ["sk"], str(tiny), 2, 1, small.project, SETTINGS)
    assert {job.id: job.key for job in jobs.trainings(again)} == keys
    for change in ({"epochs": 2}, {"settings": {**small.settings, "lr0": 0.5}}, {"digest": "new"}):
        other = replace(small, **change)
        assert not {job.key for job in jobs.trainings(other)} & {*keys.values()}, change


def test_fingerprint_sees_labels_and_images(tiny, tmp_path):
    shutil.copytree(tiny.parent, tmp_path / "copy")
    file = tmp_path / "copy" / "tiny.yaml"
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**content, "path": str(tmp_path / "copy")}))

    def digest():
        return data.fingerprint(data.check(str(file))[1])

    first = digest()
    assert first == data.fingerprint(data.check(str(tiny))[1])  # wherever it lies
    label = tmp_path / "copy" / "labels" / "val" / "2.txt"
    text = label.read_text()
    label.write_text(text.replace("0", "1", 1))
    changed = digest()
    label.write_text(text)
    image = tmp_path / "copy" / "images" / "train" / "0.png"
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    assert len({first, changed, digest()}) == 3


def test_coco_json_counts_by_its_images(tiny_json):
    content = data.check(str(tiny_json))[1]
    assert [len(data.images(content, split)) for split in ("train", "val")] == [8, 4]
    first = data.fingerprint(content)
    file = tiny_json.parent / "val.json"
    text = file.read_text()
    file.write_text(text.replace("thing", "other"))
    with pytest.raises(ConfigError, match="other"):
        data.check(str(tiny_json))
    file.write_text(text.replace('"bbox": [4,', '"bbox": [5,', 1))
    changed = data.fingerprint(data.check(str(tiny_json))[1])
    file.write_text(text)
    assert len({first, changed, data.fingerprint(data.check(str(tiny_json))[1])}) == 2


def test_variants_share_the_start_of_the_base(small):
    sk = small.variants[1]
    torch.manual_seed(5)
    base, model = build_model(deepcopy(small.base.config)), build_model(deepcopy(sk.config))
    count = train.share(base, model, sk.origins)
    state = model.state_dict()
    same = {  # sk is swapped inside stages: rows keep their numbers
        name: value
        for name, value in base.state_dict().items()
        if name in state and state[name].shape == value.shape
    }
    assert 200 < count == len(same) < len(state)
    for name, value in same.items():
        assert torch.equal(state[name], value), name


def test_variants_of_a_trained_base_are_warm_started(small):
    """From a checkpoint everything is carried, into layers that do what they did, or nothing."""
    grafted = variants.variant("spd", small.base)
    base, model = build_model(deepcopy(small.base.config)), build_model({**grafted.config, "nc": 5})
    assert train.carry(base, model) == len(base.state_dict())
    image = torch.rand(1, 3, 64, 64)
    outputs = [one.eval()(image)[0] for one in (base, model)]
    assert torch.allclose(*outputs, atol=1e-4, rtol=1e-4)
    other = build_model({**deepcopy(small.base.config), "scale": "s"})
    assert train.carry(base, other) == 0


def test_plan_file_names_variants_of_any_kind(small, tiny, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(variants.yaml_of(small.variants[2]))
    file = tmp_path / "compare.yaml"
    entries = ["sk+ca", str(own), {"name": "mine", "recipe": "se"}]
    file.write_text(yaml.safe_dump({"base": "yolov8n.yaml", "variants": entries, "data": "x"}))
    content = plan.read(file)
    made = plan.make(
        content["base"], content["variants"], str(tiny), 1, 1, tmp_path / "p", SETTINGS
    )
    assert [one.name for one in made.variants][:4] == ["yolov8n", "sk+ca", "own", "mine"]
    assert made.variants[2].gflops == pytest.approx(small.variants[2].gflops)


BAD = [
    (["--recipes", "skk"], "unknown recipe 'skk'\n\nHint: did you mean sk?"),
    (["--base", "yolov9q.yaml"], "yolov9q.yaml: no such model YAML"),
    (["--base", "none.pt"], "none.pt: there is no such checkpoint"),
    (["--recipes", "sk,sk"], "two variants are called sk: sk and sk"),
    (["--recipes", "yolov8n.yaml"], "two variants are called yolov8n"),
    (["--recipes", "yolov8n-cls.yaml"], "the task classify has none"),
    (["--recipes", "yolov8n-seg.yaml"], "yolov8n-seg is for segment, the base for detect"),
    (["--seeds", "0"], "seeds=0: must be a positive integer"),
    (["--data", "nowhere.yaml"], "nowhere.yaml: the dataset cannot be used"),
    (["device=7"], "device=7: there is no device 7"),
    (["batch=-1"], "batch=-1: every variant needs the same batch"),
    (["seed=3"], "seed=3: a comparison sets this itself\n\nHint: give --seeds"),
    (["imgzs=64"], "imgzs=64: there is no such setting\n\nHint: did you mean imgsz?"),
    (["lr0=fast"], "a setting is refused"),
    (["resume=True"], "start the same command again"),
    (["a.yaml", "b.yaml"], "a.yaml and b.yaml: a comparison has one plan"),
    (["--jobs-per-device", "0"], "--jobs-per-device 0: must be a positive integer"),
]


@pytest.mark.parametrize(("words", "says"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_refused_before_anything_is_written(words, says, tiny, tmp_path, capsys):
    project = tmp_path / "project"
    given = ["compare", "--base", "yolov8n.yaml", "--recipes", "sk", "--data", str(tiny)]
    assert cli.main([*given, "--project", str(project), *words]) == 2
    assert says in capsys.readouterr().err
    assert not project.exists()


def test_bad_plan_files_are_refused(tmp_path):
    file = tmp_path / "plan.yaml"
    for text, says in (
        ("- a", "is not a mapping"),
        ("recipe: sk", "the key 'recipe' is unknown"),
        ("variants: sk", "`variants` is not a list"),
        ("a: [", "the plan cannot be read"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=says):
            plan.read(file)


def test_data_without_val_is_refused(tiny, tmp_path):
    content = yaml.safe_load(tiny.read_text())
    del content["val"]
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="val"):
        data.check(str(tmp_path / "bad.yaml"))


def test_full_disk_and_foreign_folder_are_refused(small, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 10**6))
    with pytest.raises(ConfigError, match=r"0\.0 GB are free"):
        plan._check_disk(small)
    (tmp_path / "thesis.docx").write_text("")
    with pytest.raises(ConfigError, match="the folder holds something else"):
        plan._check_folder(tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        plan._check_folder(tmp_path / "thesis.docx" / "project")


def test_dry_run_prints_the_plan_and_trains_nothing(tiny, tmp_path, capsys):
    words = ["--base", "yolov8n.yaml", "--recipes", "ca", "--data", str(tiny), "--epochs", "2"]
    words += ["--project", str(tmp_path / "p"), "--dry-run", "imgsz=64", "device=cpu"]
    assert cli.main(["compare", *words]) == 0
    out = capsys.readouterr().out
    assert "9 runs of 2 epochs on 8 training and 4 validation images, seeds 0, 1, 2." in out
    assert "recipe: ca" in out
    assert not (tmp_path / "p").exists()


# ---------------------------------------------------------------------------------------- records


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: None, ""),
        (lambda r: r["inputs"].update(epochs=9), "epochs 9, now 1"),
        (lambda r: r["inputs"]["versions"].update(torch="1.0"), "torch 1.0, now"),
        (lambda r: r.pop("curve"), "is corrupt"),
        (lambda r: r["metrics"].update(AP="much"), "is corrupt"),
        (lambda r: r.update(error="out of memory", log="log.txt"), "failed"),
    ],
)
def test_records_that_do_not_hold_are_reported(change, reason, small, tmp_path):
    job = jobs.trainings(small)[1]
    content = json.loads(records.text(finished(job)))
    change(content)
    if reason.startswith(("epochs", "torch")):
        content["key"] = "another"
    file = tmp_path / "runs" / job.id / "record.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))
    kept, why = keep.holds(job, records.read(tmp_path))
    assert (kept is not None) == (reason == "")
    assert reason in why


def test_cut_off_record_is_set_aside_and_nothing_overwritten(small, tmp_path):
    job = jobs.trainings(small)[0]
    file = tmp_path / "runs" / job.id / "record.json"
    for n in range(2):
        file.parent.mkdir(parents=True)
        file.write_text(records.text(finished(job))[: 40 + n])
        assert keep.holds(job, records.read(tmp_path)) == (None, "is corrupt")
        folder = keep.set_aside(tmp_path, [job.id])
        assert len((folder / file.relative_to(tmp_path)).read_text()) == 40 + n
    assert len(list((tmp_path / "aside").iterdir())) == 2
    assert not file.exists()


def test_one_comparison_at_a_time_in_a_folder(tmp_path):
    with keep.locked(tmp_path), pytest.raises(ConfigError, match="another comparison"):
        with keep.locked(tmp_path):
            pass
    with keep.locked(Path(tmp_path)):
        pass
