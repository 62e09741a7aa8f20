"""The picture of a graft: every row in its place, none over another, lines where rows read."""

from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from ultralytics.utils import ROOT

from yolograft import cli
from yolograft.graft import graft, plot
from yolograft.graft.graph import Graph

STOCK = sorted(path.name for path in (ROOT / "cfg" / "models").rglob("*.yaml"))
SVG = "{http://www.w3.org/2000/svg}"


def check(result):
    """Check that boxes and lines are those of the rows, and that none covers another."""
    panels = plot.layout(result)
    assert len(panels[0].boxes) == len(result.base.rows)
    assert len(panels[1].boxes) == len(result.rows)
    for panel, graph in zip(panels, (result.base, Graph(result.config)), strict=True):
        for box, row in zip(panel.boxes, graph.rows, strict=True):
            assert box.text.split() == [str(row.index), row.label]
            assert box.width >= 6.2 * len(box.text)
            assert panel.left <= box.x
            assert box.x + box.width <= panel.right
        for one, other in combinations(panel.boxes, 2):
            assert one.y + plot._BOX < other.y or other.y + plot._BOX < one.y
        reads = [(row.index, s) for row in graph.rows for s in row.sources if s >= 0]
        assert len(panel.lines) == len({*reads})
        for line in panel.lines:
            ends = [_box(panel, *line[0]), _box(panel, *line[-1])]
            assert (ends[1], ends[0]) in reads
            for (x, y), (x2, y2) in pairwise(line):
                assert x == x2 or y == y2
                for box in panel.boxes:
                    if box.row not in ends:
                        assert not _crosses(box, *sorted([x, x2]), *sorted([y, y2])), line
    assert panels[0].right < panels[1].left
    return panels


def _box(panel, x, y):
    """Return the row whose box a point is on the edge of."""
    return next(
        b.row for b in panel.boxes if b.x <= x <= b.x + b.width and b.y <= y <= b.y + plot._BOX
    )


def _crosses(box, x, x2, y, y2):
    return x < box.x + box.width and x2 > box.x and y < box.y + plot._BOX and y2 > box.y


@pytest.mark.parametrize("name", STOCK)
def test_of_every_model_of_ultralytics(name):
    check(graft(name, {"steps": [{"insert": "SE", "at": {"is": "stage-end"}}]}))


@pytest.mark.parametrize("base", ["yolo11n.yaml", "yolov8n-p2.yaml", "yolov5n.yaml"])
def test_kinds(base):
    """A row that is gone, one that is replaced, one that is changed inside, one that is new."""
    result = graft(
        base,
        {
            "steps": [
                {"remove": True, "at": {"module": "SPPF"}},
                {"replace": "SPDConv", "at": {"is": "downsampler", "level": "P4"}},
                {"swap": "SE", "at": {"is": "stage", "level": "P3"}},
                {"insert": "CBAM", "at": {"is": "head-feeder"}},
            ]
        },
    )
    before, after = check(result)
    kinds = {box.text.split()[1]: box.kind for box in before.boxes if box.kind != "kept"}
    assert kinds["SPPF"] == "removed"
    assert kinds["Conv"] == "changed"
    new = {box.text.split()[1]: box.kind for box in after.boxes}
    assert (new["SPDConv"], new["CBAM"]) == ("changed", "inserted")
    assert all(b.kind == "changed" for b in after.boxes if b.text.endswith("_SE"))
    assert "SPPF" not in new
    # a row and what became of it stand at the same height
    at = {box.row: box.y for box in before.boxes}
    for one, box in zip(result.origins, after.boxes, strict=True):
        assert (box.y == at[one.row]) is not one.inserted


def test_it_is_an_svg():
    root = ElementTree.fromstring(plot.svg(graft("yolo11n.yaml", "sk,cbam")))
    assert root.tag == f"{SVG}svg"
    groups = [g.get("class") for g in root.iter(f"{SVG}g")]
    assert {kind: groups.count(kind) for kind in plot.KINDS} == {
        "kept": 34, "inserted": 6, "changed": 14, "removed": 0,
    }  # fmt: skip
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert {"yolo11n.yaml", "+ sk + cbam", "P3", "P5", "28  CBAM", "changed"} <= {*words}
    assert "removed" not in words
    notes = [title.text for title in root.iter(f"{SVG}title")]
    assert "row 4: C3k2_SK [512, False, 0.25]" in notes


def test_text_is_escaped():
    config = {"nc": 2, "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "nn.Identity", []]]}
    config["head"] = [[[1], 1, "Detect", ["nc"]]]
    config["yaml_file"] = "a<b>&c.yaml"
    result = graft(config, {"steps": [{"insert": "SE", "at": {"rows": [0]}}]})
    root = ElementTree.fromstring(plot.svg(result))
    assert "a<b>&c.yaml" in [text.text for text in root.iter(f"{SVG}text")]


# ------------------------------------------------------------------------------------ the command


def test_patch_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["patch", "yolo11n.yaml", "--recipe", "se", "--plot", "graph.svg"]
    assert cli.main([*words, "--dry-run"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["graph.svg"]
    ElementTree.parse("graph.svg")
    assert capsys.readouterr().out.endswith("\n\nwrote graph.svg\n")
    assert cli.main(words) == 2  # it exists
    assert "graph.svg: it exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["graph.svg"]
    assert cli.main([*words, "--force"]) == 0
    assert (tmp_path / "yolo11-se.yaml").is_file()


def test_a_plot_is_an_svg(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["patch", "yolo11n.yaml", "--recipe", "se", "--plot", "graph.png"]) == 2
    assert "graph.png: the name of a plot ends in .svg" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
