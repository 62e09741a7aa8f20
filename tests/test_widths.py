"""Every role builds wherever it reads from, and hands on the width that its map has."""

import random
from copy import deepcopy

import pytest
import torch
import yaml
from torch import nn
from ultralytics.nn import tasks

import yolograft

SCALES = {
    "n": [0.33, 0.25, 1024],
    "s": [0.33, 0.5, 256],
    "l": [1.0, 1.0, 128],
    "x": [1.0, 1.25, 96],
}


class Tint(nn.Module):
    """Somebody's block that keeps the shape."""

    def __init__(self, c, bias=0.0):
        super().__init__()
        self.tint = nn.Parameter(torch.full((c,), bias))

    def forward(self, x):
        return x + self.tint[:, None, None]


class Mix(nn.Module):
    """Somebody's convolution."""

    def __init__(self, c1, c2, k=1, s=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2)

    def forward(self, x):
        return self.conv(x)


class Halve(nn.Module):
    """Somebody's downsampler."""

    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 2, 2)

    def forward(self, x):
        return self.conv(x)


class Fold(nn.Module):
    """Somebody's space-to-depth."""

    def forward(self, x):
        return nn.functional.pixel_unshuffle(x, 2)


class Steps(nn.Module):
    """Somebody's backbone: maps at 1/2 and 1/4, of widths that no row names."""

    def __init__(self, c1, width=8):
        super().__init__()
        self.out_channels = [width + 3, 2 * width + 1]
        self.first = nn.Conv2d(c1, width + 3, 3, 2, 1)
        self.second = nn.Conv2d(width + 3, 2 * width + 1, 3, 2, 1)

    def forward(self, x):
        x = self.first(x)
        return [x, self.second(x)]


class Means(nn.Module):
    """Somebody's classifier of any maps."""

    def __init__(self, c1, c2):
        super().__init__()
        self.linear = nn.Linear(sum(c1) if isinstance(c1, list) else c1, c2)

    def forward(self, x):
        maps = x if isinstance(x, list) else [x]
        return self.linear(torch.cat([m.mean((2, 3)) for m in maps], 1))


THEIRS = {
    Tint: "gate",
    Mix: "conv",
    Halve: "down",
    Fold: "widen",
    Steps: "backbone",
    Means: "classifier",
}


@pytest.fixture(autouse=True)
def _theirs(own_blocks):
    for cls, role in THEIRS.items():
        yolograft.register(cls, role=role)


class Draw:
    """Random rows, each of which reads any row before it.

    Attributes:
        rows: Of a model config.
        sizes: Stride of each row's map, 0 where it is several maps.
        wide: Rows whose map is not to be widened once more.
    """

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.rows, self.sizes, self.wide = [], [], set()

    def add(self, module, args, repeats=1, source=None, grow=1):
        """Add a row that reads one row, any if none is given."""
        here = len(self.rows)
        if source is None:
            source = self.dice.choice(self.large() or [-1])
        size = self.sizes[source] if here else 1
        written = source - here if source >= 0 and self.dice.random() < 0.5 else source
        self.rows.append([written, repeats, module, args])
        self.sizes.append(size * grow)

    def large(self):
        """Return the rows whose map can still be halved."""
        return [i for i, size in enumerate(self.sizes) if 0 < size < 8]

    def first(self):
        """Add a row that reads the image."""
        width = self.dice.choice([24, 64, 100])
        pick = self.dice.randrange(8)
        if pick < 4:
            row = [("Conv", [width, 3, 2], 2), ("SKConv", [width], 1), ("SPDConv", [width], 2)]
            name, args, grow = [*row, ("Mix", [width], 1)][pick]
            self.add(name, args, grow=grow)
        elif pick < 6:
            name, grow = self.dice.choice([("SpaceToDepth", 2), ("Fold", 2), ("Tint", 1)])
            self.add(name, [], grow=grow)
        else:
            self.backbone(width, pick == 6)

    def backbone(self, width, theirs):
        """Add a row that returns several maps, and two that take one each."""
        small = {"modules": [1, 1, 1, 1], "blocks": 1}
        name, args = ("Steps", [width]) if theirs else ("HRNet", [32, small])
        strides = (2, 4) if theirs else (4, 8, 16, 32)
        self.add(name, args, grow=0)
        here = len(self.rows) - 1
        for k in self.dice.sample(range(len(strides)), 2):
            self.add("Index", [width, k], source=here)
            self.sizes[-1] = strides[k]

    def any(self):
        """Add a row of any role."""
        width = self.dice.choice([24, 64, 72, 100, 160])
        twice = self.dice.choice([1, 1, 2, 3])
        name = self.dice.choice(["SKConv", "Mix"])
        kind = self.dice.randrange(13)
        if kind < 3:
            self.add(self.dice.choice(["CBAM", "SE", "CoordAtt", "Tint"]), [], twice)
        elif kind == 3:
            self.add(self.dice.choice(["CBAM", "Tint"]), [{"blend": True}])
        elif kind == 4:
            self.add(self.dice.choice(["SKConv", "DeformConv", "Mix"]), [width], twice)
        elif kind == 5:
            self.add(name, [width, 3, 2], twice, grow=2)
        elif kind == 6:
            self.add(name, [width, {"blend": ["Conv", [width, 3]]}])
        elif kind == 7:
            self.add(self.dice.choice(["SPDConv", "Halve", "nn.MaxPool2d"]), [width], grow=2)
            if self.rows[-1][2] == "nn.MaxPool2d":
                self.rows[-1][3] = [2, 2]
        elif kind == 8:
            self.add("SPDConv", [width, {"blend": ["Conv", [width, 3, 2]]}], grow=2)
        elif kind == 9 and (narrow := [i for i in self.large() if i not in self.wide]):
            self.wide.add(len(self.rows))
            name = self.dice.choice(["SpaceToDepth", "Fold"])
            self.add(name, [], source=self.dice.choice(narrow), grow=2)
        elif kind == 10:
            name = self.dice.choice(["C2f_SK", "C3_CBAM", "C2f_Mix", "C3_Tint"])
            self.add(name, [width, True], twice)
        elif kind == 11:
            self.add("Conv", [width, 3, 2], grow=2)
        else:
            self.concat()

    def concat(self):
        """Join rows of one size."""
        size = self.dice.choice([size for size in self.sizes if size])
        same = [i for i, other in enumerate(self.sizes) if other == size]
        sources = self.dice.choices(same, k=self.dice.randint(1, 3))
        self.wide.add(len(self.rows))
        self.rows.append([sources, 1, "Concat", [1]])
        self.sizes.append(size)


def drawn(seed):
    """Return a config at random, and a reader of each of its rows."""
    draw = Draw(seed)
    draw.first()
    while len(draw.rows) < 12:
        draw.any()
    body = len(draw.rows)
    split = draw.dice.randint(1, body)
    for i in range(body):
        if draw.sizes[i]:
            draw.rows.append([draw.dice.choice([i, i - len(draw.rows)]), 1, "nn.BatchNorm2d", []])
    maps = [i for i in range(body) if draw.sizes[i]]
    sources = draw.dice.choice([draw.dice.choice(maps), draw.dice.choices(maps, k=3)])
    draw.rows.append([sources, 1, "Means", ["nc"]])
    return {
        "nc": draw.dice.choice([1, 3, 24, 64, 80, 100, 160]),
        "scales": SCALES,
        "scale": draw.dice.choice([*SCALES]),
        "backbone": draw.rows[:split],
        "head": draw.rows[split:],
    }


def forward(layers, save, x):
    """Run rows as the host does, and return the map of each."""
    outputs = []
    for layer in layers:
        if layer.f != -1:
            f = [layer.f] if isinstance(layer.f, int) else layer.f
            kept = [j % layer.i for j in f if j != -1]
            assert {*kept} <= {*save}
            maps = [outputs[j] for j in f]
            x = maps[0] if isinstance(layer.f, int) else maps
        x = layer(x)
        outputs.append(x)
    return outputs


@pytest.mark.parametrize("seed", range(60))
def test_every_row_reads_the_width_that_is_there(seed):
    config = drawn(seed)
    ch = random.Random(seed).choice([1, 2, 3, 4, 6])
    layers, save = tasks.parse_model(deepcopy(config), ch, False)
    with torch.no_grad():
        outputs = forward(layers.eval(), save, torch.rand(2, ch, 64, 64))
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            assert outputs[layer.f % layer.i].shape[1] == layer.num_features
    assert outputs[-1].shape == (2, config["nc"])


# ------------------------------------------------------------------------------- stock models


def absolute(config):
    """Return the rows of a config, each of which names the rows that it reads by their numbers."""
    rows = deepcopy([*config["backbone"], *config["head"]])
    for i, row in enumerate(rows[1:], 1):
        given = row[0] if isinstance(row[0], list) else [row[0]]
        row[0] = [s % i for s in given]
    rows[0][0] = [-1]
    return rows


def inserted(config, seed, count=3):
    """Return a config with rows of ``Tint``, each read by some readers of the row that it reads.

    Returns:
        The config, and the new number of each row.
    """
    dice, rows = random.Random(seed), absolute(config)
    place = [*range(len(rows))]
    for _ in range(count):
        maps = [i for i, row in enumerate(rows[:-1]) if row[2] not in ("CBLinear", "Tint")]
        source = dice.choice(maps)
        at = dice.randint(source + 1, len(rows) - 1)
        for row in rows:
            row[0] = [s + (s >= at) for s in row[0]]
        rows.insert(at, [[source], 1, "Tint", []])
        place = [i + (i >= at) for i in place]
        for row in rows[at + 1 :]:
            if source in row[0] and dice.random() < 0.7:
                row[0] = [at if s == source else s for s in row[0]]
    for i, row in enumerate(rows):
        several = row[2] in ("Concat", "CBFuse") or (i == len(rows) - 1 and row[2] != "Classify")
        row[0] = row[0] if several else row[0][0]
    return {**config, "backbone": rows[:2], "head": rows[2:]}, place


def build(config):
    """Return the host's model of a config."""
    kind = {
        "Classify": tasks.ClassificationModel,
        "Segment": tasks.SegmentationModel,
        "Pose": tasks.PoseModel,
        "OBB": tasks.OBBModel,
        "RTDETRDecoder": tasks.RTDETRDetectionModel,
    }.get(config["head"][-1][2].removesuffix("26"), tasks.DetectionModel)
    return kind(deepcopy(config), ch=3, verbose=False).eval()


def tensors(output):
    """Yield the tensors of what a model returns."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, dict | list | tuple):
        for one in output.values() if isinstance(output, dict) else output:
            yield from tensors(one)


STOCK = [
    *("yolov3-tiny", "yolov5n", "yolov5n-p6", "yolov6n", "yolov8n", "yolov8n-ghost", "yolov8n-seg"),
    *("yolov8n-pose", "yolov8n-obb", "yolov8n-cls", "yolov9t", "yolov10n", "yolo11n", "yolo12n"),
    *("yolo11n-seg", "yolo26n", "yolo26n-pose"),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("yolov8s-p2", "yolov9e", "yolov10s", "yolo11m", "yolo26s-seg", "yolov3")
    ),
    *(pytest.param(f"rtdetr-{name}", marks=pytest.mark.slow) for name in ("l", "resnet50")),
]


@pytest.mark.parametrize("name", STOCK)
def test_blocks_that_do_nothing_leave_a_stock_model_as_it_is(name):
    config = tasks.yaml_model_load(f"{name}.yaml")
    stock = build(config)
    grafted, place = inserted(config, name)
    model = build(grafted)
    moved = {}
    for key, value in stock.state_dict().items():
        _, row, rest = key.split(".", 2)
        moved[f"model.{place[int(row)]}.{rest}"] = value
    left = model.load_state_dict(moved, strict=False)
    assert not left.unexpected_keys
    assert len(left.missing_keys) == 3 == sum(key.endswith(".tint") for key in left.missing_keys)
    side = 192 if "rtdetr" in name else 64
    x = torch.rand(2, 3, side, side)
    with torch.no_grad():
        for got, want in zip(tensors(model(x)), tensors(stock(x)), strict=True):
            assert torch.equal(got, want)


HEAD = """
- [-1, 1, nn.Upsample, [None, 2, nearest]]
- [6, 1, CBAM, []]
- [[-2, -1], 1, Concat, [1]]
- [-1, 3, C2f, [512]]
- [-1, 1, nn.Upsample, [None, 2, nearest]]
- [[-1, 4], 1, Concat, [1]]
- [-1, 3, C2f, [256]]
- [-1, 1, Conv, [256, 3, 2]]
- [[-1, 13], 1, Concat, [1]]
- [-1, 3, C2f, [512]]
- [-1, 1, Conv, [512, 3, 2]]
- [[-1, 9], 1, Concat, [1]]
- [-1, 3, C2f, [1024]]
- [16, 1, CBAM, []]
- [19, 1, CBAM, []]
- [22, 1, CBAM, []]
- [[23, 24, 25], 1, Detect, [nc]]
"""


@pytest.mark.parametrize(
    ("name", "widths"), [("n", [128, 64, 128, 256]), ("m", [384, 192, 384, 576])]
)
def test_gates_on_a_skip_and_before_the_head(name, widths):
    config = {**tasks.yaml_model_load(f"yolov8{name}.yaml"), "head": yaml.safe_load(HEAD)}
    model = build(config)
    assert [model.model[i].mlp[-1].out_features for i in (11, 23, 24, 25)] == widths
    assert model.stride.tolist() == [8, 16, 32]
