"""``key=value`` words: what they mean, everywhere."""

import pytest
from ultralytics import cfg

from yolograft import ConfigError, cli, pairs
from yolograft.compare import plan


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("lr0=1e-3", 0.001),
        ("lr0=1E-3", 0.001),
        ("lr0 = .5", 0.5),
        ("epochs=1_0", 10),
        ("epochs=3,", 3),
        ("save_period=-1", -1),
        ("classes=[0, 1]", [0, 1]),
        ("device=0,1", (0, 1)),
        ("device=cpu", "cpu"),
        ("amp=false", False),
        ("amp=TRUE", True),
        ("time=None", None),
        ("freeze=none", None),
        ("optimizer='SGD'", "SGD"),
        ("cache=ram", "ram"),
        ("name=007", "007"),
        ("name=a=b", "a=b"),
        ("name=None", None),
        ("project=1e3", "1e3"),
        ("project=runs/[x]", "runs/[x]"),
        ("data=max", "max"),  # a name of Python's is no value
        ("data=__import__('os').getcwd()", "__import__('os').getcwd()"),
    ],
)
def test_values(word, value):
    key = word.partition("=")[0].strip()
    given = pairs.read([word])[0]
    assert given == {key: value}
    assert type(given[key]) is type(value)
    if "name=" not in word and "project=" not in word and "data=" not in word:
        stock = cfg.parse_key_value_pair(word.removesuffix(","))
        assert stock == (key, value)


@pytest.mark.parametrize(
    ("line", "given", "rest"),
    [
        ("lr0 = 1e-3 epochs=3", {"lr0": 0.001, "epochs": 3}, []),
        ("plan.yaml lr0= 1e-3", {"lr0": 0.001}, ["plan.yaml"]),
        ("lr0 =1e-3 plan.yaml", {"lr0": 0.001}, ["plan.yaml"]),
        ("name = a=b", {"name": "a=b"}, []),
        ("classes=[0, 1, 2] epochs=3", {"classes": [0, 1, 2], "epochs": 3}, []),
        ("imgsz = [64, 96] plan.yaml", {"imgsz": [64, 96]}, ["plan.yaml"]),
        ("a.yaml b.yaml", {}, ["a.yaml", "b.yaml"]),
        ("", {}, []),
    ],
)
def test_words_are_joined_as_by_the_stock_command(line, given, rest):
    assert pairs.read(line.split()) == (given, rest)


def test_joining_is_that_of_the_newest_release():
    for line in ("lr0 = 1e-3", "lr0= 1", "lr0 =1", "a.yaml x = [1, 2] b.yaml", "n = a=b", "a b=1"):
        assert pairs._joined(line.split()) == cfg.merge_equals_args(line.split()) or (
            "b.yaml" in line  # 8.3.220 and others leave a space behind a bracket out
            and pairs._joined(line.split())[-1] == "b.yaml"
        )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("epochs=", "epochs=: no value"),
        ("epochs= lr0=1", "epochs=: no value"),
        ("=3", "=3: the name is missing"),
        ("=", "=: the name is missing"),
        ("epoch=3", "did you mean epochs?"),
        ("LR0=1", "did you mean lr0?"),
        ("nothing_like_it=1", "nothing_like_it=1: there is no such setting"),
        ("epochs=3 epochs=4", "epochs=4: given twice"),
        ("data=a.yaml", "data=a.yaml: given twice"),
        ("classes=[0, epochs=3", "the bracket is not closed"),
        ("epochs=many", "'epochs=many'"),
        ("lr0=1,0", "'lr0=(1, 0)'"),
        ("lr0=nan", "'lr0=nan'"),
    ],
)
def test_refusals(line, says):
    with pytest.raises(ConfigError) as error:
        pairs.read(line.split(), {"data": "b.yaml"})
    assert says in str(error.value)
    assert "\n\nHint: " in str(error.value)


def compare(*words):
    return cli.main(["compare", "--base", "yolov8n.yaml", "--data", "x.yaml", *words])


def test_compare_refuses_what_train_refuses(capsys):
    for line in ("lr0=many", "epoch=3", "lr0=", "lr0=1 lr0=2"):
        with pytest.raises(ConfigError) as error:
            pairs.read(line.split())
        assert compare(*line.split()) == 2
        assert str(error.value) in capsys.readouterr().err


def test_compare_reads_what_train_reads(monkeypatch):
    class Made(Exception):
        pass

    def make(base, variants, data, seeds, epochs, project, settings, command, *rest):
        raise Made(settings, command)

    monkeypatch.setattr(plan, "make", make)
    with pytest.raises(Made) as made:
        compare("lr0", "=", "1e-3", "--recipes", "my recipe", "classes=[0,", "1]")
    settings, command = made.value.args
    assert settings == {"lr0": 1e-3, "classes": [0, 1]}
    assert command.endswith("lr0 = 1e-3 'classes=[0,' '1]'")


def test_old_names_are_ultralytics_to_translate():
    assert pairs.read(["line_thickness=2"]) == ({"line_thickness": 2}, [])


def test_every_default_reads_back():
    """Each default that has a value is written as a pair, read, and is what it was."""
    defaults = {k: v for k, v in cfg.DEFAULT_CFG_DICT.items() if v is not None}
    given, _ = pairs.read(f"{key}={value}" for key, value in defaults.items())
    assert given == defaults
