"""Other people's blocks, and the table itself."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn
from ultralytics.nn import tasks

import yolograft
from yolograft import ConfigError, registry, signatures
from yolograft.files import CFG


class Gain(nn.Module):
    """A user's block that keeps the shape."""

    def __init__(self, c, start=1.0):
        super().__init__()
        self.gain = nn.Parameter(torch.full((c, 1, 1), start))

    def forward(self, x):
        return x * self.gain


class Twice(nn.Module):
    """A user's convolution."""

    def __init__(self, c1, c2, k=3, s=1, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2)
        self.act = act

    def forward(self, x):
        return self.act(2 * self.conv(x))


pytestmark = pytest.mark.usefixtures("own_blocks")


def parse(*rows):
    config = {"nc": 1, "backbone": [[-1, 1, "Conv", [8, 3, 2]], *rows], "head": []}
    return tasks.parse_model(config, 3, False)[0]


def test_a_users_block_works_by_name_alias_and_inside_stages():
    yolograft.register(Gain, aliases=("G",))
    yolograft.register(Twice, "Double")
    model = parse(
        [-1, 1, "Gain", [{"start": 2.0}]],
        [-1, 2, "G", []],
        [-1, 1, "Double", [16, 3, 2]],
        [-1, 1, "C2f_Double", [16]],
        [-1, 1, "C3_G", [16]],
    )
    assert model[1].gain.unique().tolist() == [2.0]
    assert len(model[2]) == 2
    assert type(model[3].act) is nn.SiLU  # act=True means the config's activation
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 8, 8)
    assert {b.name: b.role for b in registry.table()}["Double"].name == "conv"


class Peaks(nn.Module):
    """A user's classifier of several maps."""

    def __init__(self, c1, c2):
        super().__init__()
        self.linear = nn.Linear(sum(c1), c2)

    def forward(self, x):
        return self.linear(torch.cat([m.amax((2, 3)) for m in x], 1))


def test_a_users_classifier_reads_several_rows():
    yolograft.register(Peaks, role="classifier")
    model = parse([-1, 1, "Conv", [16, 3, 2]], [[0, -1], 1, "Peaks", ["nc"]])
    assert model[2].f == [0, -1]
    assert model[2].linear.weight.shape == (1, 24)


def test_register_is_a_decorator_and_a_notebook_cell_may_run_twice():
    def cell(start):
        @yolograft.register
        class Cell(nn.Module):
            def __init__(self, c):
                super().__init__()
                self.gain = start

            def forward(self, x):
                return x * self.gain

    cell(1.0)
    cell(3.0)
    assert parse([-1, 1, "Cell", []])[1].gain == 3.0


class Reserved(nn.Module):
    """Owns a module named f."""

    def __init__(self, c):
        super().__init__()
        self.f = nn.Conv2d(c, c, 1)


class ReservedLate(nn.Module):
    """Owns an attribute named np once it is built with other arguments than 64."""

    def __init__(self, c):
        super().__init__()
        if c == 64:
            msg = "not now"
            raise RuntimeError(msg)
        self.np = 3


class NoChannels(nn.Module):
    """A signature that fits no role."""

    def __init__(self, width, depth):
        super().__init__()


def function(c):
    """Not a module."""


@pytest.mark.parametrize(
    ("args", "options", "says"),
    [
        ((Gain, "CBAM"), {}, "CBAM: the name is taken by yolograft.blocks.cbam.CBAM"),
        ((Gain, "SK"), {}, "SK: the name is taken by yolograft.blocks.sk.SKConv"),
        ((Gain, "Gain"), {"aliases": ("SPD",)}, "SPD: the name is taken"),
        ((Gain, "Conv"), {}, "Conv: the name is taken by Ultralytics"),
        ((Gain, "C2f_Gain"), {}, "the name reads as a block inside C2f"),
        ((Reserved,), {}, "Reserved: self.f is an attribute that Ultralytics sets"),
        ((NoChannels,), {}, "NoChannels(width, depth) does not fit any role"),
        ((Gain,), {"role": "conv"}, "does not fit role='conv'"),
        ((Gain,), {"role": "neck"}, "role='neck' is unknown"),
        ((function,), {}, "is not a subclass of torch.nn.Module"),
    ],
)
def test_registration_is_refused(args, options, says):
    with pytest.raises(ConfigError) as error:
        yolograft.register(*args, **options)
    assert says in str(error.value)
    assert registry.find("CBAM").path == "yolograft.blocks.cbam:CBAM"


def test_reserved_attributes_are_also_refused_when_the_row_is_built():
    yolograft.register(ReservedLate)
    with pytest.raises(ConfigError, match=r"row 1 \(backbone\): ReservedLate: self.np"):
        parse([-1, 1, "ReservedLate", []])


def test_entry_points_are_found_and_a_broken_one_is_left_out(tmp_path):
    (tmp_path / "other_pack.py").write_text(
        textwrap.dedent(
            """
            from torch import nn
            class Scale(nn.Module):
                def __init__(self, c):
                    super().__init__()
                    self.conv = nn.Conv2d(c, c, 1)
                def forward(self, x):
                    return self.conv(x)
            """
        )
    )
    info = tmp_path / "other_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[yolograft.blocks]\nOtherScale = other_pack:Scale\nBroken = other_pack:Missing\n"
    )
    code = (
        "import sys, warnings; sys.path.insert(0, sys.argv[1]);"
        "import yolograft; from ultralytics.nn import tasks\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    rows = [[-1, 1, 'Conv', [8]], [-1, 1, 'OtherScale', []]]\n"
        "    tasks.parse_model({'nc': 1, 'backbone': rows[:1], 'head': []}, 3, False)\n"
        "    assert 'other_pack' not in sys.modules\n"  # a stock model reads no entry points
        "    model = tasks.parse_model({'nc': 1, 'backbone': rows, 'head': []}, 3, False)[0]\n"
        "print(type(model[1]).__name__, len([w for w in seen if 'Broken' in str(w.message)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].split() == ["Scale", "1"]


def test_the_table_holds_what_it_says():
    for block in registry.OURS:
        cls = block.load()
        assert cls.__name__ == block.name
        prefix = block.role.prefix
        assert tuple(signatures.parameters(cls)[: len(prefix)]) == prefix
        assert block.paper in cls.__doc__
        if block.role.name != "classifier":  # a class of Ultralytics', so it lives in the host
            assert getattr(__import__("yolograft.blocks").blocks, block.name) is cls
        assert not block.config or (CFG / block.config).is_file()


def test_package_attributes():
    assert yolograft.Block is type(registry.find("SK"))
    assert yolograft.blocks.SKConv is registry.find("SK").load()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = yolograft.nothing
    assert {"register", "count", "blocks"} <= set(dir(yolograft))
