"""Wheel, sdist and editable install; what Python's start-up then does and does not do."""

import os
import pkgutil
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"yolograft", "yolograft._startup", "yolograft_autoload"}

pytestmark = pytest.mark.skipif(
    not (ROOT / "hatch_build.py").exists(), reason="needs a checkout to build from"
)


def python(interpreter, code, *flags, cwd=None, **env):
    """Run code in a fresh interpreter and return its output, which must hold no complaint."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "YOLOGRAFT"))}
    done = subprocess.run(
        [interpreter, *flags, "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd or interpreter.parent,
        env={**environment, "YOLO_OFFLINE": "true", **env},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def pip(interpreter, *args):
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", interpreter, "-q", *args],
        check=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )


def install(interpreter, *what):
    # The environment of the tests, which the new one may see, has a yolograft of its own.
    pip(interpreter, "install", "--no-deps", "--no-index", "--ignore-installed", *what)


def build(kind, source, folder):
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "-o", folder, source]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout without what builds and tests leave behind."""
    folder = tmp_path_factory.mktemp("source") / "yolograft"
    names = ["cfg", "docs", "modules", "scripts", "tests", "hatch_build.py", "pyproject.toml"]
    names += ["mkdocs.yml", "README.md", "README.zh-CN.md", "CITATION.cff"]
    for name in [*names, "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"]:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def fresh(tmp_path):
    """Make virtual environments; with ``host`` they see this environment's packages."""

    def make(host=True):
        venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
        interpreter = tmp_path / "venv" / "bin" / "python"
        site = Path(
            python(interpreter, "import site; print(site.getsitepackages()[0])").stdout[:-1]
        )
        if host:
            (site / "host.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return interpreter, site

    return make


def test_wheel_and_sdist_hold_the_same(source, wheel, tmp_path):
    sdist = build("sdist", source, tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    again = build("wheel", next((tmp_path / "unpacked").iterdir()), tmp_path)
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set(zipfile.ZipFile(again).namelist()) == names
    configs = {f"yolograft/{p.relative_to(ROOT)}" for p in (ROOT / "cfg").rglob("*.yaml")}
    assert len(configs) > 3
    start = {f"yolograft_autoload.{ending}" for ending in ("py", "pth", "start")}
    assert configs | start | {"yolograft/py.typed", "yolograft/hooks/fuse.py"} <= names
    assert not [n for n in names if n.startswith(("tests", "scripts", "cfg"))]


def test_wheel_is_found_everywhere_and_uninstalls_without_a_trace(wheel, fresh):
    interpreter, site = fresh()
    install(interpreter, wheel)
    code = (
        "from ultralytics import YOLO; import yolograft; print(yolograft.__file__);"
        "m = YOLO('yolov8s-sk.yaml').model; print(m.yaml['scale'], type(m.model[4].m[0].cv2))"
    )
    out = python(interpreter, code).stdout.splitlines()
    assert out[-2:] == [
        str(site / "yolograft" / "__init__.py"),
        "s <class 'yolograft.blocks.sk.SKConv'>",
    ]
    assert (interpreter.parent / "yolograft").exists()
    pip(interpreter, "uninstall", "-y", "yolograft")
    left = [p for p in site.rglob("*graft*") if p.is_file()]
    assert not left
    assert not (interpreter.parent / "yolograft").exists()
    quiet = python(
        interpreter, "import sys; print(OURS & {*sys.modules})".replace("OURS", str(OURS))
    )
    assert quiet.stdout == "set()\n"
    assert quiet.stderr == ""


@pytest.mark.long
def test_editable_install_reads_the_checkout(source, fresh):
    interpreter, site = fresh()
    install(interpreter, "--no-build-isolation", "-e", source)
    config = (source / "cfg" / "yolov8-cbam.yaml").read_text()
    (source / "cfg" / "yolov8-mine.yaml").write_text(config.replace("CBAM, []", "CBAM, [{k: 3}]"))
    code = (
        "from ultralytics import YOLO; print(YOLO('yolov8n-mine.yaml').model.model[5].spatial.conv)"
    )
    assert "kernel_size=(3, 3)" in python(interpreter, code).stdout
    assert not (site / "yolograft").exists()
    pip(interpreter, "uninstall", "-y", "yolograft")
    assert not [p for p in site.rglob("*graft*") if p.is_file()]


def test_start_up_loads_two_small_modules_only(wheel, fresh):
    interpreter, _ = fresh()
    install(interpreter, wheel)
    code = "import sys; print(*sys.modules)"
    off = {*python(interpreter, code, YOLOGRAFT_AUTOLOAD="0").stdout.split()}
    on = {*python(interpreter, code).stdout.split()}
    assert on - off == OURS - {"yolograft_autoload"}  # that one is for Python 3.15
    assert not {"torch", "pathlib", "importlib.abc", "ultralytics"} & on


@pytest.mark.parametrize("flags", [(), ("-S",), ("-I",), ("-E",), ("-s",)])
@pytest.mark.parametrize("ultralytics", ["none", "broken", "old", "good"])
def test_start_up_is_silent_whatever_ultralytics_is(wheel, fresh, ultralytics, flags):
    interpreter, site = fresh(host=ultralytics == "good")
    install(interpreter, wheel)
    if ultralytics in ("broken", "old"):
        package = site / "ultralytics"
        package.mkdir()
        broken = (
            "raise RuntimeError('broken')" if ultralytics == "broken" else "__version__ = '7.0'"
        )
        (package / "__init__.py").write_text(broken)
    done = python(interpreter, "print('as before')", *flags)
    assert (done.stdout, done.stderr) == ("as before\n", "")


def test_a_half_removed_package_is_silent(wheel, fresh):
    interpreter, site = fresh(host=False)
    install(interpreter, wheel)
    shutil.rmtree(site / "yolograft")
    assert python(interpreter, "pass").stderr == ""
    (site / "yolograft_autoload.py").unlink()
    assert python(interpreter, "pass").stderr == ""


@pytest.mark.long
def test_a_spawned_worker_knows_the_blocks(wheel, fresh, tmp_path):
    interpreter, _ = fresh()
    install(interpreter, wheel)
    script = tmp_path / "spawn.py"
    script.write_text(
        "import multiprocessing as mp\n"
        "def work(_):\n"
        "    from ultralytics.nn.tasks import DetectionModel\n"
        "    return type(DetectionModel('yolov8n-cbam.yaml', verbose=False).model[5]).__name__\n"
        "if __name__ == '__main__':\n"
        "    print(mp.get_context('spawn').Pool(1).map(work, [0]))\n"
    )
    code = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    assert "['CBAM']" in python(interpreter, code).stdout


def test_the_start_file_names_a_function(monkeypatch):
    line = (ROOT / "modules" / "yolograft_autoload.start").read_text().strip()
    start = pkgutil.resolve_name(line)
    monkeypatch.setenv("YOLOGRAFT_AUTOLOAD", "0")
    start()
    monkeypatch.delenv("YOLOGRAFT_AUTOLOAD")
    before = list(sys.meta_path)
    start()
    start()
    assert sys.meta_path == before  # idempotent: importing yolograft has put its watcher there


@pytest.mark.long
def test_import_after_ultralytics_reaches_the_bound_copies():
    code = (
        "from ultralytics.nn.tasks import parse_model, DetectionModel\n"
        "import ultralytics.nn, ultralytics.engine.model, ultralytics.nn.tasks as tasks\n"
        "before = parse_model\n"
        "import yolograft\n"
        "assert parse_model is tasks.parse_model is ultralytics.nn.parse_model is not before\n"
        "assert ultralytics.engine.model.yaml_model_load is tasks.yaml_model_load\n"
        "again = tasks.parse_model\n"
        "yolograft._startup.start()\n"
        "assert tasks.parse_model is again\n"
        "print(type(DetectionModel('yolov8n-spd.yaml', verbose=False).model[0]).__name__)\n"
    )
    done = python(Path(sys.executable), code, YOLOGRAFT_AUTOLOAD="0")
    assert done.stdout.splitlines()[-1] == "SPDConv"


@pytest.mark.long
def test_a_wrap_that_no_longer_fits_warns_once_and_leaves_stock_configs():
    code = (
        "import ultralytics.nn.tasks as tasks\n"
        "old = tasks.parse_model\n"
        "def parse_model(spec, channels):\n"
        "    return old(spec, channels, False)\n"
        "tasks.parse_model = parse_model\n"
        "import yolograft\n"
        "assert tasks.parse_model is parse_model\n"
        "tasks.parse_model = old\n"
        "tasks.DetectionModel('yolov8n.yaml', verbose=False)\n"
        "from yolograft import cli\n"
        "assert cli.main(['doctor']) == 1\n"
    )
    done = python(Path(sys.executable), code, YOLOGRAFT_AUTOLOAD="0")
    import ultralytics

    import yolograft

    text = done.stdout + done.stderr
    warnings = [line for line in text.splitlines() if "does not fit" in line]
    assert len(warnings) == 1
    assert f"yolograft {yolograft.__version__}" in warnings[0]
    assert f"ultralytics {ultralytics.__version__}" in warnings[0]
    assert "parse_model(spec, channels) does not start with (d, ch, verbose)" in warnings[0]
