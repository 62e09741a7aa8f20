"""The diagrams of the blocks: there is one for each, and nothing lies over anything else."""

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scripts import diagrams

from yolograft import registry

ROOT = Path(__file__).parents[1]


def test_every_block_has_a_diagram():
    assert sorted(diagrams.DIAGRAMS) == sorted(block.name for block in registry.OURS)


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="needs a checkout")
def test_they_are_up_to_date(capsys):
    assert diagrams.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", diagrams.DIAGRAMS)
def test_nothing_lies_over_anything_else(name):
    drawing = diagrams.layout(diagrams.DIAGRAMS[name])
    for node in drawing.nodes:
        assert node.width / 2 <= node.x <= drawing.width - node.width / 2
        assert 12 <= node.y <= drawing.height - 12
    for one, other in combinations(drawing.nodes, 2):
        apart = abs(one.x - other.x) >= (one.width + other.width) / 2
        assert apart or abs(one.y - other.y) >= diagrams._HIGH
    for x, y, x2, y2 in drawing.lines:
        assert x == x2 or y == y2
        for node in drawing.nodes:
            left, right = node.x - node.width / 2, node.x + node.width / 2
            top, bottom = node.y - diagrams._HIGH / 2, node.y + diagrams._HIGH / 2
            inside = min(x, x2) < right and max(x, x2) > left
            assert not (inside and min(y, y2) < bottom and max(y, y2) > top)
    assert drawing.width < 900
    texts = ElementTree.fromstring(diagrams.svg(name)).itertext()
    assert {node.text for node in drawing.nodes} <= {*texts}
