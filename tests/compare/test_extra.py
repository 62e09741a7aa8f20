"""Only `yolograft compare` needs the packages of its extra."""

import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

from yolograft import install

BIN = Path(sys.executable).parent

#: Python imports this module when it starts, also in the processes that a command starts.
BLOCKER = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def without(tmp_path):
    """Run a command where packages are not installed; return status, output and errors."""

    def call(names, *words):
        (tmp_path / "site").mkdir(exist_ok=True)
        (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKER.format(names=set(names)))
        paths = [str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
            },
        )
        return done.returncode, done.stdout, done.stderr

    return call


def test_the_blocker_blocks(without):
    status, _, err = without(["scipy"], sys.executable, "-c", "import scipy.stats")
    assert status == 1
    assert "No module named 'scipy'" in err


def _brought() -> set[str]:
    """Return the packages that Ultralytics itself brings."""
    plain = [line for line in requires("ultralytics") if "extra ==" not in line]
    return {re.match(r"[\w-]+", line)[0].lower() for line in plain}


TRAIN = ["data=DATA", "epochs=1", "imgsz=32", "batch=4", "device=cpu", "workers=0", "project=runs"]


@pytest.mark.parametrize(
    "words",
    [
        ["yolo", "train", "model=yolov8n-sk.yaml", *TRAIN],
        ["yolograft", "train", "--model", "yolov8n-sk.yaml", *TRAIN],
        ["yolograft", "list"],
        ["yolograft", "doctor"],
        ["yolograft", "patch", "yolov8n.yaml", "--recipe", "sk", "-o", "own.yaml"],
        ["yolograft", "coco", "check", "JSON"],
    ],
    ids=["yolo train", "yolograft train", "list", "doctor", "patch", "coco check"],
)
@pytest.mark.long
def test_everything_else_works_without_them(words, without, tiny, tiny_json):
    names = {"scipy", "plotly"} - _brought()
    assert names, "this release of Ultralytics brings both"
    words = [{"JSON": tiny_json.parent / "val.json"}.get(word, word) for word in words]
    words = [f"data={tiny}" if word == "data=DATA" else word for word in words]
    status, out, err = without(names, BIN / words[0], *words[1:])
    assert status == 0, out[-2000:] + err[-2000:]


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_compare_without_them_names_the_extra_before_anything_runs(more, without, tiny, tmp_path):
    words = [BIN / "yolograft", "compare", "--base", "yolov8n.yaml", "--recipes", "ca", *more]
    status, out, err = without(["scipy"], *words, "--data", tiny, "--project", tmp_path / "p")
    hint = f"Hint: install what it needs: {install.line('compare')}"
    says = f"yolograft: SciPy is not installed, and `yolograft compare` needs it\n\n{hint}\n"
    assert (status, out, err) == (2, "", says)
    assert not (tmp_path / "p").exists()
