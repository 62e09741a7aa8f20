"""Blocks of others as they are: constructors, entry points, the run at their row, threads."""

import os
import random
import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from timm.models import _efficientnet_blocks as blocks_of_timm
from torch import nn
from torchvision.ops import SqueezeExcitation
from torchvision.ops.misc import Conv2dNormActivation
from ultralytics import YOLO
from ultralytics.nn import tasks

import yolograft
from yolograft import ConfigError, registry

PAGE = Path(__file__).parents[1] / "docs" / "own-block.md"


pytestmark = pytest.mark.usefixtures("own_blocks")


def parse(*rows, **config):
    first = [[-1, 1, "Conv", [16, 3, 2]]]
    return tasks.parse_model({"nc": 1, "backbone": [*first, *rows], "head": [], **config}, 3, False)


def make(signature, forward="x", build="", name="Mine", code=""):
    """Return a block, written as text, whose ``given`` holds what its constructor was given."""
    source = f"""
class {name}(nn.Module):
    def __init__(self, {signature}):
        given = {{k: v for k, v in locals().items() if k not in ("self", "__class__")}}
        super().__init__()
        self.given = given
        {build or "pass"}

    def forward(self, x):
        {code or "pass"}
        return {forward}
"""
    scope = {"nn": nn, "torch": torch, "__name__": __name__}
    exec(source, scope)
    return scope[name]


# ------------------------------------------------------------------------------------- constructors

#: Of a convolution from 16 or 24 channels to 24.
WIDER = "x.repeat(1, 2, 1, 1)[:, :24]"


@pytest.mark.parametrize(
    ("signature", "role", "args", "given"),
    [
        ("channel, k_size=3", None, [], {"channel": 16}),
        ("channels", None, [], {"channels": 16}),
        ("in_channels, reduction=4", None, [], {"in_channels": 16}),
        ("dim, num_heads=8", None, [{"num_heads": 2}], {"dim": 16, "num_heads": 2}),
        ("in_planes, ratio=16", None, [], {"in_planes": 16}),
        ("gate_channels, reduction_ratio=16", None, [], {"gate_channels": 16}),
        ("d_model=512, S=64", None, [], {"d_model": 16}),
        ("channels=None, e_lambda=1e-4", None, [], {"channels": 16}),
        ("n_feat", None, [], {"n_feat": 16}),
        ("whatever", None, [], {"whatever": 16}),
        ("whatever, k=3", None, [{"k": 5}], {"whatever": 16, "k": 5}),
        ("*, channels", None, [], {"channels": 16}),
        ("c, /, k=3", None, [], {"c": 16}),
        ("reduction, dim", None, [{"reduction": 4}], {"reduction": 4, "dim": 16}),
        ("inp, oup, reduction=32", "gate", [], {"inp": 16, "oup": 16}),
        ("inplanes, planes", "gate", [], {"inplanes": 16, "planes": 16}),
        ("kernel_size=7", "gate", [{"kernel_size": 3}], {"kernel_size": 3}),
        ("nc, **kwargs", None, [{"deep": 2}], {"nc": 16, "kwargs": {"deep": 2}}),
        ("*args, **kwargs", "gate", [{"a": 1}], {"args": (16,), "kwargs": {"a": 1}}),
    ],
)
def test_a_constructor_of_a_gate_is_taken_as_it_is(signature, role, args, given):
    yolograft.register(make(signature), role=role)
    built = parse([-1, 1, "Mine", args])[0][1]
    assert registry.find("Mine").role.name == "attention"
    assert given.items() <= built.given.items()
    twice = parse([-1, 2, "Mine", args])[0][1]
    assert all(given.items() <= one.given.items() for one in twice)
    inside = parse([-1, 1, "C2f_Mine", [24, *args]])[0][1].m[0].cv2[1]
    width = {k: 12 if v == 16 else (12,) if v == (16,) else v for k, v in given.items()}
    assert width.items() <= inside.given.items()


@pytest.mark.parametrize(
    ("signature", "args", "given"),
    [
        ("inp, oup", [24], {"inp": 16, "oup": 24}),
        ("in_channels, out_channels, bias=True", [24], {"in_channels": 16, "out_channels": 24}),
        ("in_planes, out_planes", [24], {"in_planes": 16, "out_planes": 24}),
        ("in_ch, out_ch", [24], {"in_ch": 16, "out_ch": 24}),
        ("inc, ouc", [24], {"inc": 16, "ouc": 24}),
        ("inplanes, planes", [24], {"inplanes": 16, "planes": 24}),
        ("nIn, nOut", [24], {"nIn": 16, "nOut": 24}),
        ("dim, dim_out", [24], {"dim": 16, "dim_out": 24}),
        ("*, out_channels, in_channels", [24], {"in_channels": 16, "out_channels": 24}),
        ("in_c, out_c, kernel_size=1, stride=1", [24, 3, 1], {"kernel_size": 3, "stride": 1}),
        ("in_c, out_c, **kwargs", [24, {"k": 3}], {"out_c": 24, "kwargs": {"k": 3}}),
    ],
)
def test_a_constructor_of_a_convolution_is_taken_as_it_is(signature, args, given):
    yolograft.register(make(signature, WIDER))
    built = parse([-1, 1, "Mine", args])[0][1]
    assert registry.find("Mine").role.name == "conv"
    assert given.items() <= built.given.items()


def test_classifiers_backbones_and_strides_under_other_names():
    yolograft.register(make("in_features, num_classes", name="Ends"), role="classifier")
    assert parse([-1, 1, "Ends", ["nc"]], nc=5)[0][1].given == {"in_features": 16, "num_classes": 5}
    build = "self.out_channels = [width]"
    yolograft.register(make("in_channels, width=8", "[x]", build, "Net"), role="backbone")
    assert parse([-1, 1, "Net", [24]])[0][1].given == {"in_channels": 16, "width": 24}
    assert parse([-1, 1, "Net", [{"width": 24}]])[0][1].given["width"] == 24
    yolograft.register(make("in_c, out_c, kernel_size=3, stride=1", WIDER, name="Strided"))
    first, second = parse([-1, 2, "Strided", [24, 3, 2]])[0][1]
    assert (first.given["stride"], second.given["stride"]) == (2, 1)


def test_a_gate_without_a_constructor_of_its_own():
    class Plain(nn.Module):
        def forward(self, x):
            return x

    yolograft.register(Plain, role="gate")
    assert type(parse([-1, 1, "Plain", []])[0][1]) is Plain
    with pytest.raises(ConfigError, match="Plain: the argument 'x' does not exist"):
        parse([-1, 1, "Plain", [{"x": 1}]])


@pytest.mark.parametrize(
    ("signature", "role"),
    [
        ("width, depth", None),  # two that could be anything
        ("kernel_size", None),
        ("**kwargs", "gate"),
        ("c, start=1.0", "conv"),
        ("*args", None),
    ],
)
def test_a_constructor_that_fits_no_role_is_refused(signature, role):
    with pytest.raises(ConfigError, match=r"the signature Mine\("):
        yolograft.register(make(signature), role=role)


def test_unknown_arguments_are_still_refused_where_there_are_no_kwargs():
    yolograft.register(make("channels, k=3"))
    with pytest.raises(ConfigError, match="Mine: the argument 'kk' does not exist"):
        parse([-1, 1, "Mine", [{"kk": 3}]])
    with pytest.raises(ConfigError, match="the channels come from the layers around"):
        parse([-1, 1, "Mine", [{"channels": 3}]])


@pytest.mark.parametrize(
    ("cls", "args"),
    [
        (timm.layers.EcaModule, []),
        (timm.layers.CecaModule, []),
        (timm.layers.SEModule, [{"rd_ratio": 0.25}]),
        (timm.layers.LayerScale2d, []),
        (timm.layers.ConvNormAct, [24, 3]),
        (timm.layers.SeparableConvNormAct, [24]),
        (blocks_of_timm.InvertedResidual, [24]),
        (SqueezeExcitation, [{"squeeze_channels": 4}]),
        (Conv2dNormActivation, [24]),
    ],
)
def test_blocks_of_timm_and_torchvision(cls, args):
    yolograft.register(cls, "Theirs")
    model, _ = parse([-1, 1, "Theirs", args])
    assert type(model[1]) is cls
    width = args[0] if args and isinstance(args[0], int) else 16
    assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, width, 16, 16)


def test_register_is_a_decorator_with_arguments():
    @yolograft.register(name="Other", role="gate", aliases=("O", "P"))
    class Here(nn.Module):
        def __init__(self, c1, c2):
            super().__init__()
            self.widths = c1, c2

        def forward(self, x):
            return x

    assert isinstance(Here, type)
    assert parse([-1, 1, "P", []])[0][1].widths == (16, 16)
    assert registry.find("Here") is None


# ------------------------------------------------------------------------------- the run at the row


@pytest.mark.parametrize(
    ("signature", "forward", "role", "args", "says"),
    [
        ("c", "x[:, :, ::2, ::2]", None, [], "returns 16x16x16 for a map of 16x32x32"),
        ("c", "torch.cat([x, x], 1)", None, [], "returns 32x32x32"),
        ("c", "x.mean((2, 3))", None, [], "returns 16 for a map of"),
        ("c", "x.mean((2, 3), keepdim=True)", None, [], "returns 16x1x1"),
        ("c", "x.mean(1, keepdim=True)", None, [], "returns 1x32x32"),
        ("c", "(x, x)", None, [], "returns a tuple, not a feature map"),
        ("c", "None", None, [], "returns None, not a feature map"),
        ("c", "x[..., : x.shape[-1] // 2 * 2]", None, [], "returns 16x15x18 for a map of 16x15x19"),
        (
            "c1, c2",
            "x",
            None,
            [24],
            "16x32x32, but a block of the role conv returns 24",
        ),
        ("c1, c2", "torch.cat([x, x[:, :8]], 1)", "down", [24], "24 channels at half the size"),
        (
            "",
            "x",
            "widen",
            [],
            "8x32x32, but a block of the role widen returns 32",
        ),
    ],
)
def test_a_block_that_returns_another_shape_is_refused_at_its_row(
    signature, forward, role, args, says
):
    yolograft.register(make(signature, forward), role=role)
    with pytest.raises(ConfigError, match=r"mine\.yaml, row 1 \(backbone\): Mine returns") as error:
        parse([-1, 1, "Mine", args], yaml_file="mine.yaml")
    assert says in str(error.value)


def test_inside_a_stage_a_convolution_keeps_the_size():
    yolograft.register(make("c1, c2", "self.m(x)", "self.m = nn.Conv2d(c1, c2, 3)"))
    assert parse([-1, 1, "Mine", [24]])[0][1].m.out_channels == 24
    with pytest.raises(ConfigError, match=r"row 1 .*Mine returns 12x30x30 for a map of 12x32x32"):
        parse([-1, 1, "C2f_Mine", [24]])


@pytest.mark.parametrize(
    ("build", "code"),
    [
        ("", "assert x.shape[2:] == (20, 20)"),  # one size alone
        ("", "if min(x.shape[2:]) < 64: raise RuntimeError('too small')"),
        ("", "x = x.view(x.shape[0], -1, 8, x.shape[2] // 8, 8, x.shape[3] // 8).view(x.shape)"),
        ("self.m = nn.Conv2d(3, 3, 1).to('meta')", "x = self.m(x)"),
    ],
)
def test_a_block_that_fails_on_the_small_maps_is_built_all_the_same(build, code):
    yolograft.register(make("c", "x", build, code=code))
    assert type(parse([-1, 1, "Mine", []])[0][1]).__name__ == "Mine"


def test_the_run_leaves_the_block_and_the_random_state_as_they_were():
    class Counting(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.bn = nn.BatchNorm2d(c)
            self.register_buffer("seen", torch.zeros(()))
            self.table = None

        def forward(self, x):
            self.seen += 1
            self.table = torch.rand(x.shape[2:]) * random.random() * np.random.rand()
            return self.bn(x) * self.table

    yolograft.register(Counting)
    torch.manual_seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist()
    torch.manual_seed(3)
    parse()
    after_stock = torch.get_rng_state()
    torch.manual_seed(3)
    block = parse([-1, 1, "Counting", []])[0][1]
    assert torch.equal(after_stock, torch.get_rng_state())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert block.seen == 0
    assert block.table is None
    assert block.training
    assert block.bn.training
    assert block.bn.num_batches_tracked == 0


def test_a_lazy_block_is_built_by_the_run():
    yolograft.register(make("c", "self.m(x)", "self.m = nn.LazyConv2d(c, 1)"))
    model, _ = parse([-1, 1, "Mine", []])
    assert model[1].m.weight.shape == (16, 16, 1, 1)
    assert model[1].np == 16 * 16 + 16


# ------------------------------------------------------------------------ random state and threads


def test_registering_leaves_the_random_state():
    class Random(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.w = nn.Parameter(torch.rand(c) * np.random.rand() * random.random())
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    yolograft.register(Random)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]


def test_a_name_is_never_missing_while_it_is_registered_again(monkeypatch):
    class Watched(dict):
        gone = ()

        def __delitem__(self, name):
            self.gone += (name,)
            super().__delitem__(name)

    yolograft.register(make("c"), aliases=("M", "Before"))
    names = Watched(registry._names)
    monkeypatch.setattr(registry, "_names", names)
    yolograft.register(make("c"), aliases=("M", "After"))
    assert names.gone == ("Before",)
    assert {"Mine", "M", "After"} <= {*names}


# ------------------------------------------------------------------------------------ entry points

PACK = {
    "__init__.py": "",
    "layers.py": """
        import dataclasses, enum
        from torch import nn

        class Mode(enum.Enum):
            PLAIN = "plain"
            TWICE = "twice"

        @dataclasses.dataclass
        class Settings:
            factor: float = 1.0
            mode: Mode = Mode.TWICE

        class Unit(nn.Module):
            def __init__(self, c):
                super().__init__()
                self.conv = nn.Conv2d(c, c, 3, 1, 1, bias=False)
                self.norm = nn.BatchNorm2d(c)

            def forward(self, x):
                return self.norm(self.conv(x))

        def risky(path):
            import os
            os.remove(path)
    """,
    "blocks.py": """
        import torch
        from torch import nn
        from torch.nn import functional as F
        from torchvision.ops import SqueezeExcitation

        import yolograft
        from foreign_pack.layers import Settings, Unit

        def helper(x):
            return x

        class Plain(nn.Module):
            def __init__(self, channels):
                super().__init__()
                self.unit, self.settings = Unit(channels), Settings()
                self.act, self.after = F.silu, helper
                self.se = SqueezeExcitation(channels, 4)

            def forward(self, x):
                return x + self.after(self.act(self.se(self.unit(x)))) * self.settings.factor

        @yolograft.register(role="gate", aliases=("X", "Y"))
        class Marked(nn.Module):
            def __init__(self, inp, oup):
                super().__init__()
                self.conv = nn.Conv2d(inp, oup, 1)

            def forward(self, x):
                return self.conv(x)
    """,
    "offer.py": """
        import random
        import numpy, torch, yolograft
        from torch import nn
        torch.manual_seed(99), random.seed(99), numpy.random.seed(99)

        class Late(nn.Module):
            def __init__(self, inp, oup):
                super().__init__()
            def forward(self, x):
                return x

        def offer():
            yolograft.register(Late, role="gate", aliases=("L",))
    """,
}
POINTS = """
[yolograft.blocks]
Plain = foreign_pack.blocks:Plain
Marked = foreign_pack.blocks:Marked
Second = foreign_pack.blocks:Marked
anything = foreign_pack.offer:offer
Number = foreign_pack.blocks:torch
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A foreign package, as an installer leaves it; returns the folder for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "foreign_pack").mkdir()
    for name, text in PACK.items():
        (folder / "foreign_pack" / name).write_text(textwrap.dedent(text))
    info = folder / "foreign_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    return folder


def path(*folders):
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([*map(str, folders), *([before] if before else [])])


def run(code, *folders):
    """Run code in a fresh interpreter; returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": path(*folders)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.long
def test_entry_points_are_read_once_by_the_first_of_many_threads(installed):
    out = run(
        """
        import random, sys, threading, time, warnings
        import numpy, torch
        from ultralytics.nn import tasks
        from yolograft import registry
        import importlib.metadata as metadata

        reads, real = [], metadata.entry_points
        def slow(**kwargs):  # the machine may be busy: others come in the middle of it
            reads.append(1)
            points = real(**kwargs)
            for point in points:
                time.sleep(0.05)
                yield point
        metadata.entry_points = slow
        seen, barrier = [], threading.Barrier(8)
        def ask(i):
            barrier.wait()
            with warnings.catch_warnings():
                if i % 2:
                    time.sleep(0.1)
                    seen.append(sorted({"Plain", "Marked", "X", "L"} & {*registry.names()}))
                else:
                    rows = [[-1, 1, "Conv", [8]], [-1, 1, "Plain", []], [-1, 1, "L", []]]
                    rows += [[-1, 1, "X", []], [-1, 1, "Second", []]]
                    config = {"nc": 1, "backbone": rows, "head": []}
                    model = tasks.parse_model(config, 3, False)[0]
                    seen.append([type(m).__name__ for m in model[1:]])
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        [t.start() for t in threads], [t.join() for t in threads]
        print(len(reads), len(seen), sorted(map(str, {tuple(s) for s in seen})))
        block = registry.find("Marked")
        print(block.role.name, block.aliases, registry.find("L").name, registry.find("Number"))
        registry._entry_points.__init__()  # once more, with nothing else in between
        states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
        del sys.modules["foreign_pack.offer"]
        with warnings.catch_warnings():
            registry.names()
        assert "foreign_pack.offer" in sys.modules
        print(torch.equal(torch.get_rng_state(), states[0]), random.getstate() == states[1],
              numpy.random.get_state()[1].tolist() == states[2])
        """,
        installed,
    )
    first, second, third = out.splitlines()[-3:]
    assert first == (
        "1 8 [\"('L', 'Marked', 'Plain', 'X')\", \"('Plain', 'Late', 'Marked', 'Marked')\"]"
    )
    assert second == "attention ('X', 'Y', 'Second') Late None"
    assert third == "True True True"


@pytest.mark.long
def test_a_block_registered_while_entry_points_are_read_waits_for_nobody(installed):
    """Its thread may hold the import lock of a package that the reading thread wants."""
    out = run(
        """
        import threading, time, warnings
        import importlib.metadata as metadata
        import yolograft
        from torch import nn
        from ultralytics.nn import tasks
        from yolograft import registry

        class Own(nn.Module):
            def __init__(self, c):
                super().__init__()

        registered = threading.Event()
        class Point:
            name, value = "Waits", "x:y"
            def load(self):
                assert registered.wait(20), "register() waited for the entry points"
                return Own
        metadata.entry_points = lambda **_: [Point()]
        reader = threading.Thread(target=registry.names)
        reader.start()
        time.sleep(0.2)
        yolograft.register(Own)
        registered.set()
        reader.join()
        print(registry.find("Waits").name)
        """,
        installed,
    )
    assert out.split() == ["Own"]


# ------------------------------------------------------------------------------------- restricted

safe = pytest.mark.skipif(
    not hasattr(tasks, "_SafeLoad"), reason="no safe load in this Ultralytics"
)


@pytest.fixture
def tiny(tmp_path):
    """A folder with data.yaml and one image."""
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        Image.new("RGB", (64, 64), "gray").save(tmp_path / "images" / split / "a.png")
        (tmp_path / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    data = {"path": str(tmp_path), "train": "images/train", "val": "images/val", "names": ["a"]}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    return tmp_path


@safe
def test_a_checkpoint_with_entry_point_blocks_under_safe_load(installed, yolo, tiny):
    rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Plain", []], [-1, 1, "C2f_X", [16]]]
    config = {"nc": 1, "backbone": rows, "head": [[[2], 1, "Detect", ["nc"]]]}
    (tiny / "mine.yaml").write_text(yaml.safe_dump(config))
    run(
        f"""
        from ultralytics import YOLO
        YOLO(r"{tiny}/mine.yaml").save(r"{tiny}/mine.pt")
        """,
        installed,
    )
    env = {"ULTRALYTICS_SAFE_LOAD": "true", "PYTHONPATH": path(installed)}
    small = ["imgsz=64", "batch=1", "workers=0", "plots=False", "device=cpu"]
    small += [f"project={tiny}/runs"]
    args = ["val", f"model={tiny}/mine.pt", f"data={tiny}/data.yaml", *small]
    assert re.search(r"^ +all +1 +1 ", yolo(*args, cwd=tiny, env=env), re.M)


@safe
def test_safe_load_still_refuses_what_no_block_holds(installed, tmp_path):
    out = run(
        f"""
        import os, sys, torch, warnings
        warnings.simplefilter("ignore")
        import foreign_pack.blocks as blocks, foreign_pack.layers, yolograft.cli
        from ultralytics.nn import tasks
        open(r"{tmp_path}/here", "w").close()

        class Evil:
            def __init__(self, call, *args):
                self.call = call, args
            def __reduce__(self):
                return self.call

        file = r"{tmp_path}/evil.pt"
        for one in (Evil(os.remove, r"{tmp_path}/here"), Evil(yolograft.cli.main, ["list"]),
                    Evil(foreign_pack.layers.risky, r"{tmp_path}/here"), Evil(eval, "1")):
            torch.save({{"model": one, "block": blocks.Plain(8)}}, file)
            try:
                tasks.torch_safe_load(file, safe_only=True)
                print("loaded")
            except Exception as error:
                print(type(error).__name__)
        torch.save({{"model": blocks.Plain(8)}}, file)
        print(type(tasks.torch_safe_load(file, safe_only=True)[0]["model"]).__name__)
        """,
        installed,
    )
    assert not {"loaded", "block"} & {*out.split()}
    assert out.split()[-1] == "Plain"
    assert (tmp_path / "here").exists()


# ----------------------------------------------------------------------------------------- reloads


@pytest.mark.long
def test_a_reload_of_the_host_is_wrapped_again():
    out = run(
        """
        import importlib
        from ultralytics.nn import tasks
        from ultralytics.data import build, utils
        import ultralytics.nn, ultralytics.engine.model as model, ultralytics.data as data
        import yolograft
        from yolograft import hooks
        before = tasks.parse_model, tasks.yaml_model_load
        for module in (tasks, build, utils):
            importlib.reload(module)
        assert hasattr(tasks.parse_model, "_yolograft") and tasks.parse_model is not before[0]
        assert ultralytics.nn.parse_model is tasks.parse_model
        assert model.yaml_model_load is tasks.yaml_model_load is not before[1]
        assert data.build_yolo_dataset is build.build_yolo_dataset
        assert hasattr(build.build_yolo_dataset, "_yolograft")
        assert hasattr(tasks.BaseModel.fuse, "_yolograft")
        assert not hasattr(tasks.parse_model.__wrapped__, "_yolograft")
        assert set(hooks.STATUS.values()) == {None}
        print(type(tasks.DetectionModel("yolov8n-cbam.yaml", verbose=False).model[5]).__name__)
        """
    )
    assert out.split()[-1] == "CBAM"


@pytest.mark.long
def test_two_threads_import_the_host_at_once():
    out = run(
        """
        import sys, threading
        import yolograft
        import ultralytics.utils.torch_utils, ultralytics.data.augment  # what both would wait for
        from importlib import import_module
        watched = [n for n in yolograft._startup.WATCHED if n not in sys.modules]
        finder = next(f for f in sys.meta_path if type(f).__name__ == "_Watcher")

        class Slow:  # another finder: while it thinks, the other thread's import comes
            barrier = threading.Barrier(2)
            def find_spec(self, name, path=None, target=None):
                if name in ("ultralytics.nn.tasks", "ultralytics.data.utils"):
                    try:
                        self.barrier.wait(5)
                    except threading.BrokenBarrierError:
                        pass
        sys.meta_path.insert(sys.meta_path.index(finder) + 1, Slow())
        for name in ("ultralytics.nn.tasks", "ultralytics.data.utils"):
            sys.modules.pop(name, None)
        names = "ultralytics.nn.tasks", "ultralytics.data.utils"
        threads = [threading.Thread(target=import_module, args=(n,)) for n in names]
        [t.start() for t in threads], [t.join() for t in threads]
        print(*(hasattr(f, "_yolograft") for f in (
            sys.modules[names[0]].parse_model, sys.modules[names[1]].check_det_dataset)))
        """
    )
    assert out.split() == ["True", "True"]


# -------------------------------------------------------------------------------- the documentation


def test_the_block_of_the_documentation_trains_by_muon(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    text = re.search(r'```python title="gain.py"\n(.*?)```', PAGE.read_text(), re.S)[1]
    example = ModuleType("page_example")
    monkeypatch.setitem(sys.modules, example.__name__, example)
    exec(text, vars(example))
    rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Gain", [{"start": 0.5}]]]
    head = [[-1, 1, "Conv", [16, 3, 2]], [[1, 2], 1, "Detect", ["nc"]]]
    config = {"nc": 1, "backbone": rows, "head": head}
    (tiny / "gain.yaml").write_text(yaml.safe_dump(config))
    model = YOLO("gain.yaml")
    gain = model.model.model[1]
    assert gain.gain.ndim == 1  # of later releases, the optimizer leaves others out
    x = torch.rand(1, 16, 4, 4)
    assert torch.equal(gain(x), x / 2)
    optimizer = "MuSGD" if find_spec("ultralytics.optim") else "SGD"
    small = {"imgsz": 64, "batch": 1, "nbs": 1, "workers": 0, "plots": False, "device": "cpu"}
    small |= {"epochs": 1, "warmup_epochs": 0, "val": False, "project": str(tiny / "runs")}
    model.train(data="data.yaml", optimizer=optimizer, **small)
    trained = model.trainer.ema.ema.model[1].gain
    assert not torch.equal(trained, torch.full_like(trained, 0.5))
