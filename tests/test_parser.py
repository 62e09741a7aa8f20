"""Rows of the pack's blocks through the stock parser."""

import logging

import pytest
import torch
import yaml
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import C2f, Conv, Detect

from yolograft import ConfigError, count, registry
from yolograft.blocks import CBAM, CoordAtt, HRNet, SKConv, SKUnit, SpaceToDepth, SPDConv
from yolograft.files import CFG
from yolograft.ultra import STAGES

CONFIGS = sorted(path.name for path in CFG.glob("yolov8-*.yaml"))


def parse(backbone, head=(), ch=3, verbose=False, **keys):
    """Run the wrapped parser on rows, at a scale that changes nothing unless another is given."""
    if not keys.keys() & {"scales", "depth_multiple"}:
        keys |= {"scales": {"n": [1.0, 1.0, 1024]}, "scale": "n"}
    config = {"nc": 3, "backbone": list(backbone), "head": list(head), **keys}
    return tasks.parse_model(config, ch, verbose)


def run(model, save, x):
    """Run a parsed model as BaseModel does."""
    outputs = []
    for layer in model:
        if layer.f != -1:
            f = layer.f
            x = outputs[f] if isinstance(f, int) else [x if j == -1 else outputs[j] for j in f]
        x = layer(x)
        outputs.append(x if layer.i in save else None)
    return x


STEM = [-1, 1, "Conv", [16, 3, 2]]


@pytest.mark.parametrize(
    ("row", "kind", "shape"),
    [
        ([-1, 1, "SKConv", [32]], SKConv, (1, 32, 16, 12)),
        ([-1, 1, "SK", [32, 3, 2]], SKConv, (1, 32, 8, 6)),
        ([-1, 1, "SKConv", [32, 5, {"branches": 3, "groups": 2}]], SKConv, (1, 32, 16, 12)),
        ([-1, 1, "SPDConv", [32]], SPDConv, (1, 32, 8, 6)),
        ([-1, 1, "SPD", [32, {"k": 1}]], SPDConv, (1, 32, 8, 6)),
        ([-1, 1, "SpaceToDepth", []], SpaceToDepth, (1, 64, 8, 6)),
        ([-1, 1, "CBAM", []], CBAM, (1, 16, 16, 12)),
        ([-1, 1, "CBAM", [{"reduction": 4, "spatial": False}]], CBAM, (1, 16, 16, 12)),
    ],
)
def test_row_builds_the_block_and_the_next_row_fits(row, kind, shape):
    model, save = parse([STEM, row, [-1, 1, "Conv", [8]]])
    assert type(model[1]) is kind
    assert (model[1].i, model[1].f) == (1, -1)
    assert model[1].type == f"{kind.__module__}.{kind.__qualname__}"
    assert model[1].np == sum(p.numel() for p in model[1].parameters())
    outputs = {}
    model[1].register_forward_hook(lambda *call: outputs.update(y=call[2]))
    run(model.eval(), save, torch.randn(1, 3, 32, 24))
    assert outputs["y"].shape == shape


def test_from_and_savelist_are_the_rows_own():
    rows = [STEM, [-1, 1, "Conv", [16, 3]], [0, 1, "SpaceToDepth", []], [0, 1, "CBAM", []]]
    model, save = parse(rows, [[[-1, 1], 1, "Concat", [1]]])
    assert [layer.f for layer in model] == [-1, -1, 0, 0, [-1, 1]]
    assert set(save) == {0, 1}
    assert run(model.eval(), save, torch.randn(1, 3, 32, 32)).shape == (1, 32, 16, 16)


def test_block_as_first_row():
    for name, args, width, size in (
        ("SpaceToDepth", [], 12, 8),
        ("SPDConv", [24], 24, 8),
        ("CBAM", [], 3, 16),
    ):
        model, save = parse([[-1, 1, name, args], [-1, 1, "Conv", [8]]])
        assert model[1].conv.in_channels == width
        assert run(model.eval(), save, torch.randn(1, 3, 16, 16)).shape == (1, 8, size, size)


def test_repeats_spend_the_stride_once():
    model, save = parse([STEM, [-1, 3, "SKConv", [32, 3, 2, {"groups": 2}]]])
    units = list(model[1])
    assert [u.branches[0].conv.in_channels for u in units] == [16, 32, 32]
    assert [u.branches[0].conv.stride for u in units] == [(2, 2), (1, 1), (1, 1)]
    assert [u.branches[0].conv.groups for u in units] == [2, 2, 2]
    assert run(model.eval(), save, torch.randn(1, 3, 32, 32)).shape == (1, 32, 8, 8)


def test_repeats_follow_depth_and_gates_repeat():
    model, _ = parse([STEM, [-1, 6, "CBAM", []]], depth_multiple=0.33)
    assert [type(u) for u in model[1]] == [CBAM, CBAM]


@pytest.mark.parametrize("scale", "nsmlx")
def test_width_and_max_channels_act_as_on_stock_rows(scale):
    scales = yaml.safe_load((CFG / "yolov8-sk.yaml").read_text())["scales"]
    rows = [[-1, 1, "Conv", [512]], [-1, 1, "Conv", [1024]]]
    ours = [[-1, 1, "SKConv", [512]], [-1, 1, "SPDConv", [1024]]]
    stock, _ = parse(rows, scales=scales, scale=scale)
    grafted, _ = parse(ours, scales=scales, scale=scale)
    assert grafted[0].branches[0].conv.out_channels == stock[0].conv.out_channels
    assert grafted[1].conv.conv.in_channels == 4 * stock[1].conv.in_channels
    assert grafted[1].conv.conv.out_channels == stock[1].conv.out_channels


@pytest.mark.parametrize(
    "row",
    [
        [-1, 1, "SKConv", [32, 3]],
        [-1, 1, "SPDConv", [32]],
        [-1, 2, "C2f_SK", [32, True]],
        [-1, 1, "SKConv", [32, {"act": True}]],
    ],
)
def test_activation_key_acts_as_on_stock_rows(row):
    default = Conv.default_act
    try:
        relu, _ = parse([STEM, row], activation="nn.ReLU()")  # as in the stock yolov6.yaml
        Conv.default_act = default  # releases before 8.4.190 leave it set
        silu, _ = parse([STEM, row])
        off, _ = parse([STEM, [-1, 1, "SKConv", [32, {"act": False}]]], activation="nn.ReLU()")
    finally:
        Conv.default_act = default
    kinds = {type(m) for m in relu.modules()}
    assert nn.ReLU in kinds
    assert nn.SiLU not in kinds
    assert nn.SiLU in {type(m) for m in silu.modules()}
    assert type(off[1].branches[0].act) is nn.Identity
    owned = [id(m) for m in relu[1].modules() if type(m) is nn.ReLU]
    assert len(owned) == len(set(owned))


HOST_ROWS = {
    "C2": [32, True],
    "C2f": [32, True],
    "C3": [32, True],
    "C3k2": [32, True, 0.5],
    "BottleneckCSP": [32, True],
    "RepNCSPELAN4": [32, 32, 16, 2],
}


@pytest.mark.parametrize("host", STAGES)
def test_every_host_takes_a_convolution(host):
    n = 1 if host == "RepNCSPELAN4" else 2  # it takes its repeats as an argument
    stock, _ = parse([STEM, [-1, n, host, HOST_ROWS[host]]])
    model, save = parse([STEM, [-1, n, f"{host}_SK", [*HOST_ROWS[host], {"groups": 2}]]])
    replaced = [m for m in model.modules() if isinstance(m, SKConv)]
    bottlenecks = [m for m in stock.modules() if type(m).__name__.endswith("Bottleneck")]
    assert len(replaced) == len(bottlenecks) > 0
    for block, bottleneck in zip(replaced, bottlenecks, strict=True):
        conv = bottleneck.cv2.conv
        assert block.branches[0].conv.in_channels == conv.in_channels
        assert block.branches[0].conv.out_channels == conv.out_channels
        assert block.branches[0].conv.groups == 2
    x = torch.randn(2, 3, 32, 32)
    assert run(model, save, x).shape == run(stock, save, x).shape


def test_inner_c3k_takes_the_block_at_scale_m():
    scales = {"n": [0.5, 0.5, 1024], "m": [0.5, 1.0, 512]}
    model, _ = parse([STEM, [-1, 2, "C3k2_CBAM", [64, False]]], scales=scales, scale="m")
    gates = [name for name, m in model.named_modules() if isinstance(m, CBAM)]
    assert len(gates) == 2  # C3k holds two bottlenecks
    assert all(".m.0.m." in name for name in gates)


def test_a_gate_inside_a_stage_follows_the_convolution():
    model, _ = parse([STEM, [-1, 1, "C2f_CBAM", [32, True, {"k": 3}]]])
    conv, gate = model[1].m[0].cv2
    assert isinstance(conv, Conv)
    assert gate.spatial.conv.kernel_size == (3, 3)


def test_groups_of_the_stage_reach_the_block():
    model, _ = parse([STEM, [-1, 1, "C2f_SK", [32, True, 4]]])
    assert model[1].m[0].cv2.branches[0].conv.groups == 4


def test_stage_keeps_its_class_so_the_stock_parser_sees_it():
    legacy = Detect.legacy
    try:
        model, _ = parse([STEM, [-1, 1, "C3k2_SK", [32, False]]], [[[1], 1, "Detect", ["nc"]]])
        assert model[2].legacy is False
        model, _ = parse([STEM, [-1, 1, "C2f_SK", [32, False]]], [[[1], 1, "Detect", ["nc"]]])
        assert model[2].legacy is True
        assert type(model[1]) is C2f
    finally:
        Detect.legacy = legacy


class Pyramid(nn.Module):
    """A backbone of two maps, of widths that the host cannot guess."""

    def __init__(self, c1, width=8, extra=1):
        super().__init__()
        self.out_channels = [width + extra, 2 * width]
        self.stem = nn.Conv2d(c1, width + extra, 3, 2, 1)
        self.down = nn.Conv2d(width + extra, 2 * width, 3, 2, 1)

    def forward(self, x):
        high = self.stem(x)
        return [high, self.down(high)]


@pytest.fixture
def pyramid(own_blocks):
    import yolograft

    yolograft.register(Pyramid, role="backbone")


@pytest.mark.usefixtures("pyramid")
@pytest.mark.parametrize("scale", "ns")
def test_index_rows_take_the_true_widths(scale):
    scales = {"n": [1.0, 0.25, 1024], "s": [1.0, 0.5, 1024]}
    width = {"n": 16, "s": 32}[scale]
    model, save = parse(
        [[-1, 1, "Pyramid", [64, {"extra": 5}]]],
        [
            [0, 1, "Index", [64, 0]],
            [-2, 1, "Index", [128, 1]],
            [1, 1, "Conv", [64, 3, 2]],
            [[-1, 2], 1, "Concat", [1]],
            [-1, 1, "Conv", [64]],
        ],
        scales=scales,
        scale=scale,
    )
    assert model[0].out_channels == [width + 5, 2 * width]
    assert model[3].conv.in_channels == width + 5
    assert model[5].conv.in_channels == width + 2 * width
    assert run(model.eval(), save, torch.randn(1, 3, 32, 32)).shape[-2:] == (8, 8)


@pytest.mark.usefixtures("pyramid")
@pytest.mark.parametrize(
    ("head", "says"),
    [
        ([[0, 1, "Conv", [16]]], "row 1 (head): Conv reads row 0, Pyramid, which returns 2 maps"),
        ([[0, 1, "Index", [16, 2]]], "row 1 (head): Index [16, 2] does not name a map of row 0"),
    ],
)
def test_several_maps_read_wrongly(head, says):
    with pytest.raises(ConfigError) as error:
        parse([[-1, 1, "Pyramid", [64]]], head)
    assert says in str(error.value)


@pytest.fixture
def printed():
    """What the host's logger prints."""
    lines, handler = [], logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(" ".join(record.getMessage().split()))
    tasks.LOGGER.addHandler(handler)
    yield lines
    tasks.LOGGER.removeHandler(handler)


def test_the_printed_table_shows_the_real_modules(printed):
    rows = [
        STEM,
        [-1, 2, "CBAM", [{"k": 3}]],
        [0, 1, "SpaceToDepth", []],
        [-1, 2, "C2f_SK", [32, True, {"groups": 2}]],
        [-1, 1, "SKConv", [32, 3, 2]],
    ]
    model, _ = parse(rows, verbose=True)
    assert [line for line in printed if line[:1].isdigit()] == [
        f"0 -1 1 {model[0].np} ultralytics.nn.modules.conv.Conv [3, 16, 3, 2]",
        f"1 -1 2 {model[1].np} yolograft.blocks.cbam.CBAM [16, {{'k': 3}}]",
        "2 0 1 0 yolograft.blocks.spd.SpaceToDepth []",
        f"3 -1 2 {model[3].np} ultralytics.nn.modules.block.C2f[SKConv] "
        "[64, 32, 2, True] {'groups': 2}",
        f"4 -1 1 {model[4].np} yolograft.blocks.sk.SKConv [32, 32, {{'k': 3, 's': 2}}]",
    ]
    assert not tasks.LOGGER.filters


def test_quiet_means_quiet(printed):
    parse([STEM, [-1, 1, "CBAM", []]])
    assert not printed


def test_ours_wins_over_a_stock_class_of_the_same_name(printed, monkeypatch):
    monkeypatch.setattr(tasks, "CBAM", nn.Identity, raising=False)
    for _ in range(2):
        model, _ = parse([STEM, [-1, 1, "CBAM", []]])
        assert type(model[1]) is CBAM
    assert len(printed) == 1
    assert "Ultralytics has a class named CBAM too" in printed[0]


def test_the_callers_config_is_left_alone():
    config = {"nc": 3, "backbone": [STEM, [-1, 1, "CBAM", [{"k": 3}]]], "head": []}
    before = yaml.safe_dump(config)
    tasks.parse_model(config, 3, False)
    assert yaml.safe_dump(config) == before


@pytest.fixture(scope="module")
def stock_work():
    """GFLOPs of the stock model, by scale."""
    return {}


def work(name):
    """Return GFLOPs at 640 pixels, and the model; nothing is computed, where that can be."""
    model = tasks.DetectionModel(name, verbose=False)
    if "stn" not in name:  # it switches autocast off, which a meta tensor has not
        strides = model.stride
        model = model.to("meta")
        model.stride = model.model[-1].stride = strides
    return count(model).gflops, model


@pytest.mark.parametrize("scale", "nsmlx")
@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_at_every_scale(name, scale, stock_work):
    gflops, model = work(name.replace("yolov8", f"yolov8{scale}"))
    stock = tasks.yaml_model_load(f"yolov8{scale}.yaml")
    assert model.yaml["scale"] == scale
    assert model.yaml["scales"] == stock["scales"]
    assert sorted(int(x) for x in model.model[-1].f) == model.model[-1].f
    if scale not in stock_work:
        stock_work[scale] = work(f"yolov8{scale}.yaml")[0]
    assert gflops <= 2 * stock_work[scale]

    kinds = {b.load() for b in registry.OURS if b.config == name}
    kinds = kinds or {SPDConv, CoordAtt, SKConv}  # the combination
    backbone = len(model.yaml["backbone"])
    for kind in kinds - {SpaceToDepth, SKUnit}:
        where = [
            int(n.split(".")[0]) for n, m in model.model.named_modules() if isinstance(m, kind)
        ]
        assert any(i < backbone for i in where)
        assert any(i >= backbone for i in where) or kind is HRNet  # which is a backbone


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([-1, 1, "SKCon", [32]], ["unknown block 'SKCon'", "did you mean SKConv?"]),
        ([-1, 1, "cbam", []], ["unknown block 'cbam'", "did you mean CBAM?"]),
        ([-1, 1, "Convv", [32]], ["unknown block 'Convv'", "did you mean Conv?"]),
        ([-1, 1, "C2f_SKK", [32]], ["C2f_SKK: unknown block 'SKK'", "did you mean SK?"]),
        ([-1, 1, "Zyx", [32]], ["unknown block 'Zyx'", "`yolograft list` shows all blocks"]),
        ([-1, 1, "SKConv", ["32"]], ["SKConv: c2='32' must be a positive integer"]),
        ([-1, 1, "SKConv", [0]], ["SKConv: c2=0 must be a positive integer"]),
        ([-1, 1, "SKConv", []], ["SKConv: the output channels are missing"]),
        ([-1, 1, "SKConv", [32, "3"]], ["SKConv: k='3' must be an integer"]),
        ([-1, 1, "SKConv", [32, 4]], ["SKConv: k=4 is even", "odd kernel, 3 or 5"]),
        ([-1, 1, "SKConv", [32, 3, 0]], ["SKConv: s=0 is too small"]),
        ([-1, 1, "SKConv", [32, 3, 1, 2]], ["argument 2 is", "only c2, k, s", "{branches: 2}"]),
        ([-1, 1, "SKConv", [32, 3, {"k": 5}]], ["SKConv: k is given twice"]),
        ([-1, 1, "SKConv", [32, {"group": 2}]], ["'group' does not exist", "did you mean groups?"]),
        ([-1, 1, "SKConv", [32, {"c1": 2}]], ["'c1' cannot be given", "the channels come from"]),
        ([-1, 1, "SKConv", [32, {"groups": 3}]], ["groups=3 does not divide c1=16", "use 1, 2, 4"]),
        ([-1, 1, "SKConv", [32, {"act": "nn.ReLU()"}]], ["act='nn.ReLU()' is not an activation"]),
        ([-1, 1, "SPDConv", [32, 3]], ["positional argument 3", "only c2", "{k: 3}"]),
        ([-1, 1, "CBAM", [16]], ["positional argument 16", "{reduction: 16}"]),
        ([-1, 1, "SpaceToDepth", [2]], ["positional argument 2 is one too many"]),
        ([-1, 1, "SpaceToDepth", [{"x": 2}]], ["the argument 'x' does not exist", "it takes none"]),
        ([-1, 1, "CBAM", [{"spatial": 1}]], ["spatial=1 must be True or False"]),
        ([-1, 2, "SPDConv", [32]], ["repeats=2, but the block changes the size"]),
        ([-1, 0, "CBAM", []], ["repeats=0 must be a positive integer"]),
        ([-1, 1, "CBAM", 8], ["the arguments 8 are not a list"]),
        ([7, 1, "CBAM", []], ["from=7 does not exist", "-1, or a row from 0 to 0"]),
        ([-3, 1, "CBAM", []], ["from=-3 does not exist"]),
        ([[-1, 0], 1, "CBAM", []], ["from=[-1, 0], but the block reads one layer"]),
        ([-1, 1, "CBAM"], ["is not a row", "[from, repeats, module, arguments]"]),
        ([-1, 1, "SPPF_SK", [32]], ["SPPF has no bottleneck", "C2, C2f, C3, C3k2"]),
        ([-1, 1, "C3x_SK", [32]], ["C3x has no bottleneck", "C2, C2f, C3, C3k2"]),
        ([-1, 1, "C2f_SPD", [32]], ["C2f_SPD: SPDConv changes the size", "a row of its own"]),
        ([-1, 1, "C2f_SK", [32, {"kk": 1}]], ["'kk' does not exist", "did you mean k?"]),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_in_one_message(row, says):
    with pytest.raises(ConfigError) as error:
        parse([STEM, row], yaml_file="my.yaml")
    message = str(error.value)
    assert message.startswith("my.yaml, row 1 (backbone): ")
    for part in says:
        assert part in message


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ([5, 1, "Conv", [32]], IndexError),
        ([-1, 1, "Conv", []], IndexError),
        ([-1, 1, "nn.Nothing", []], AttributeError),
    ],
)
def test_stock_rows_keep_their_own_errors(row, kind):
    with pytest.raises(kind) as error:
        parse([STEM, row, [-1, 1, "CBAM", []]])
    assert not isinstance(error.value, ConfigError)
    assert not tasks.LOGGER.filters
