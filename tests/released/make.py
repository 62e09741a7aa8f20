"""Write the checkpoints of a release, and what it computed with them.

Run it with the code of the release, which must come first on the path::

    git worktree add ../v0.1.0 02f8efc
    PYTHONPATH=../v0.1.0/modules python tests/released/make.py train work
    PYTHONPATH=../v0.1.0/modules python tests/released/make.py measure work
    PYTHONPATH=../v0.1.0/modules python tests/released/make.py pack work

``train`` takes some fifteen minutes on two cores, and ran under Ultralytics 8.3.220. ``measure``
may be repeated under other releases of Ultralytics: each adds its own figures. ``pack`` writes the
files beside this one. They are there to be kept: made again, they would differ in every weight.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml

HERE = Path(__file__).parent

#: A YOLOv8 of 8 to 32 channels that detects on one map: three quarters of its size are the head.
NARROW = {
    "nc": 5,
    "scales": {"n": [0.33, 0.125, 1024]},
    "backbone": [
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 3, "C2f", [128, True]],
        [-1, 1, "Conv", [192, 3, 2]],
        [-1, 3, "C2f", [192, True]],
        [-1, 1, "Conv", [256, 3, 2]],
        [-1, 3, "C2f", [256, True]],
        [-1, 1, "SPPF", [256, 5]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 3, "C2f", [128]],
        [[10], 1, "Detect", ["nc"]],
    ],
}

#: Classifiers as in the papers, but small.
SKNET = {
    "nc": 5,
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "SKUnit", [32, {"c_mid": 16, "groups": 4, "s": 2}]],
        [-1, 1, "SKUnit", [64, {"c_mid": 32, "groups": 8, "s": 2}]],
    ],
    "head": [[-1, 1, "Classifier", ["nc"]]],
}
HRNET = {
    "nc": 5,
    "backbone": [
        [-1, 1, "HRNet", [2, {"modules": [1, 1, 1, 1], "blocks": 1}]],
        [0, 1, "Index", [2, 0]],
        [0, 1, "Index", [4, 1]],
        [0, 1, "Index", [8, 2]],
        [0, 1, "Index", [16, 3]],
    ],
    "head": [[[1, 2, 3, 4], 1, "Classifier", ["nc"]]],
}

#: Detectors that start from the plain one: recipe, and whether its blocks get residual gates.
GRAFTS = {
    "sk": ("sk", None),
    "cbam": ("cbam", None),
    "spd": ("spd", None),
    "dcn": ("dcn", None),
    "gated": ("combo", "exact"),
}
SIZE = 160
CROP = 64
TRAIN = {
    "imgsz": SIZE,
    "batch": 16,
    "device": "cpu",
    "workers": 0,
    "amp": False,
    "optimizer": "AdamW",
    "mosaic": 0.0,
    "plots": False,
    "exist_ok": True,
    "patience": 0,
    "deterministic": True,
}


def detection(folder: Path) -> Path:
    """Draw the data set and return its data YAML."""
    from yolograft.shapes import NAMES, draw

    draw(folder / "shapes")
    content = {"path": str(folder / "shapes"), "train": "images/train", "val": "images/val"}
    file = folder / "shapes.yaml"
    file.write_text(yaml.safe_dump({**content, "names": dict(enumerate(NAMES))}))
    return file


def classification(folder: Path) -> Path:
    """Cut the objects out of the drawn data set, one folder for each class."""
    from yolograft.shapes import NAMES

    shapes, out = folder / "shapes", folder / "crops"
    for label in sorted(shapes.glob("labels/*/*.txt")):
        split = label.parent.name
        image = cv2.imread(str(shapes / "images" / split / f"{label.stem}.png"))
        height, width = image.shape[:2]
        for n, line in enumerate(label.read_text().splitlines()):
            kind, x, y, w, h = (float(value) for value in line.split())
            x0, x1 = (round((x + s * w / 2) * width) for s in (-1, 1))
            y0, y1 = (round((y + s * h / 2) * height) for s in (-1, 1))
            crop = cv2.resize(image[max(y0, 0) : y1, max(x0, 0) : x1], (CROP, CROP))
            to = out / split / NAMES[int(kind)]
            to.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(to / f"{label.stem}-{n}.png"), crop)
    return out


def coco_json(folder: Path) -> None:
    """Write the drawn data set as COCO JSON, ``train.json`` and ``val.json``."""
    from yolograft.shapes import NAMES

    shapes = folder / "shapes"
    for split in ("train", "val"):
        images, boxes = [], []
        for number, label in enumerate(sorted((shapes / "labels" / split).glob("*.txt")), 1):
            name = f"{label.stem}.png"
            height, width = cv2.imread(str(shapes / "images" / split / name)).shape[:2]
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            for line in label.read_text().splitlines():
                kind, x, y, w, h = (float(value) for value in line.split())
                box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
                row = {"id": len(boxes) + 1, "image_id": number, "category_id": int(kind) + 1}
                boxes.append({**row, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
        classes = [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)]
        content = {"images": images, "annotations": boxes, "categories": classes}
        (folder / f"{split}.json").write_text(json.dumps(content))


def image(size: int) -> torch.Tensor:
    """Return the fixed image that outputs are compared on."""
    y, x = np.mgrid[:size, :size] / size
    planes = [np.sin(9 * x + 4 * y), np.cos(7 * x * y), np.sin(23 * y) * np.cos(17 * x)]
    return torch.from_numpy(np.stack(planes)[None] / 2 + 0.5).float()


def train(work: Path) -> None:
    """Train all nets."""
    from ultralytics import YOLO

    from yolograft import cli

    work.mkdir(parents=True, exist_ok=True)
    runs = {"project": str(work / "runs"), "data": str(detection(work)), **TRAIN}
    (work / "yolov8-narrow.yaml").write_text(yaml.safe_dump(NARROW))
    base = work / "runs/plain/weights/best.pt"
    if not base.exists():
        YOLO(str(work / "yolov8n-narrow.yaml")).train(**runs, name="plain", epochs=60, lr0=0.01)
    for name, (recipe, warm) in GRAFTS.items():
        start = work / f"start-{name}.pt"
        words = ["patch", str(base), "--recipe", recipe, "-o", str(start), "--force"]
        assert cli.main([*words, *(["--warm", warm] if warm else [])]) == 0
        head = len(YOLO(str(start)).model.model) - 1
        # The largest convolutions stay those of the plain net: files that share them pack small.
        still = [f"{head}.cv2.0.{i}.conv" for i in (0, 1)]
        more = {"epochs": 12} if name == "sk" else {"epochs": 4, "fraction": 0.5}
        YOLO(str(start)).train(**runs, **more, name=name, lr0=0.003, freeze=still)

    crops = classification(work)
    kinds = {**runs, "data": str(crops), "imgsz": CROP}
    file = work / "sknet-cls.yaml"
    file.write_text(yaml.safe_dump(SKNET))
    YOLO(str(file), task="classify").train(**kinds, name="sknet", epochs=6, lr0=0.01)
    file = work / "hrnet-cls.yaml"
    file.write_text(yaml.safe_dump(HRNET))
    model = YOLO(str(file), task="classify")
    still = _tile(model.model)
    start = work / "start-hrnet.pt"
    model.save(start)
    YOLO(str(start)).train(**kinds, name="hrnet", epochs=3, lr0=0.01, freeze=still)


def _tile(model: torch.nn.Module) -> list[str]:
    """Fill the large convolutions with a few values, repeated, and return their names to freeze.

    The classifier for four maps has ten million weights whatever the widths of the maps; filled
    like this they pack into nothing, and the layers around them learn on what they let through.
    """
    generator = torch.Generator().manual_seed(0)
    names = []
    for name, weight in model.named_parameters():
        if weight.ndim == 4 and weight.numel() > 1000:
            values = torch.randn(257, generator=generator)  # a prime: no two filters are the same
            tiled = values.repeat(weight.numel() // 257 + 1)[: weight.numel()]
            fan = weight[0].numel()
            weight.data.copy_(tiled.view_as(weight) * (2 / fan) ** 0.5)
            names.append(name.removeprefix("model.").removesuffix(".weight"))
    return names


def nets(work: Path) -> dict[str, Path]:
    """Return the trained checkpoints by name."""
    return {
        name: work / "runs" / name / "weights" / "best.pt"
        for name in ("plain", *GRAFTS, "sknet", "hrnet")
    }


def metrics(file: Path, work: Path) -> dict[str, float]:
    """Return what a validation of a checkpoint gives."""
    from ultralytics import YOLO

    model = YOLO(str(file))
    data, size = (
        (work / "crops", CROP) if model.task == "classify" else (work / "shapes.yaml", SIZE)
    )
    found = model.val(
        data=str(data), imgsz=size, batch=16, device="cpu", workers=0, plots=False, verbose=False
    )
    if model.task == "classify":
        return {"top1": round(found.top1, 6), "top5": round(found.top5, 6)}
    return {"mAP50": round(found.box.map50, 6), "mAP50-95": round(found.box.map, 6)}


def outputs(file: Path) -> np.ndarray:
    """Return what a checkpoint predicts on the fixed image, in float32."""
    from ultralytics import YOLO

    model = YOLO(str(file))
    net = model.model.float().eval()
    with torch.no_grad():
        return net(image(CROP))[0].numpy()


def measure(work: Path) -> None:
    """Validate all checkpoints under this release of Ultralytics."""
    import ultralytics

    import yolograft

    figures = work / "metrics.json"
    known = json.loads(figures.read_text()) if figures.exists() else {}
    known["yolograft"] = yolograft.__version__
    known.setdefault("metrics", {})[ultralytics.__version__] = {
        name: metrics(path, work) for name, path in nets(work).items()
    }
    figures.write_text(json.dumps(known, indent=2) + "\n")
    arrays = {name: outputs(path) for name, path in nets(work).items()}
    file = work / "outputs.npz"
    if file.exists():
        with np.load(file) as before:
            print({name: float(abs(before[name] - arrays[name]).max()) for name in arrays})
    else:
        np.savez_compressed(file, **arrays)
    print(figures.read_text())


def pack(work: Path) -> None:
    """Write all that is kept beside this file."""
    from yolograft import cli

    with tarfile.open(HERE / "checkpoints.tar.xz", "w:xz", preset=9) as archive:
        for name, path in nets(work).items():
            archive.add(path, f"{name}.pt")
    shutil.copy(work / "metrics.json", HERE)
    shutil.copy(work / "outputs.npz", HERE)
    base, grafted = work / "yolov8-narrow.yaml", HERE / "yolov8-narrow-sk+cbam.yaml"
    assert cli.main(["patch", str(base), "--recipe", "sk,cbam", "-o", str(grafted)]) == 0
    (HERE / "data.yaml").write_text(_data_yaml(work).replace(str(work), "FOLDER"))


def _data_yaml(work: Path) -> str:
    """Return the data YAML that ``yolograft train`` writes for COCO JSON."""
    from yolograft import cli, run

    coco_json(work)
    found = []
    run.train = lambda args: found.append(run._options(args)["data"]) or 0
    words = ["train", "--model", str(work / "yolov8-narrow.yaml")]
    for split in ("train", "val"):
        words += [f"--coco-{split}", str(work / f"{split}.json")]
        words += [f"--{split}-images", str(work / "shapes" / "images" / split)]
    assert cli.main(words) == 0
    return Path(found[0]).read_text()


if __name__ == "__main__":
    {"train": train, "measure": measure, "pack": pack}[sys.argv[1]](Path(sys.argv[2]).resolve())
