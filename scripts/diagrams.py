#!/usr/bin/env python3
"""Draw docs/assets/blocks/BLOCK.svg: how maps flow through each block.

A diagram is a list from top to bottom. A text is an operation; one that starts with "=" is a map;
``Split`` lets branches run side by side, which its join brings together. With --check, nothing is
written, and the exit status is 1 if one is stale.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from yolograft import files

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "assets" / "blocks"


@dataclass(frozen=True)
class Split:
    """Branches side by side: what joins them, and the branches; an empty one is a shortcut."""

    join: str
    branches: tuple[list, ...]


def split(join: str, *branches: list) -> Split:
    """Return branches side by side.

    Args:
        join: What brings them together: a sign (``×``, ``+``) or an operation.
        *branches: Each a list from top to bottom.
    """
    return Split(join, branches)


X, MEAN = "= x: C × H × W", "mean over H, W"
#: Block -> its diagram.
DIAGRAMS: dict[str, list] = {
    "SE": [
        X,
        split("×", [], [MEAN, "= C", "1×1 to C/16, ReLU", "1×1 to C, sigmoid"]),
        "= C × H × W",
    ],
    "CBAM": [
        X,
        split(
            "×",
            [],
            [
                split("+", ["mean over H, W", "MLP"], ["max over H, W", "same MLP"]),
                "sigmoid",
                "= C",
            ],
        ),
        split(
            "×",
            [],
            [split("concat", ["max over C"], ["mean over C"]), "7×7 to 1, BN, sigmoid", "= H × W"],
        ),
        "= C × H × W",
    ],
    "CoordAtt": [
        X,
        split(
            "×",
            [],
            [
                split("concat", ["mean over W", "= C × H"], ["mean over H", "= C × W"]),
                "1×1 to C/32, BN, hard-swish",
                split("×", ["1×1, sigmoid", "= C × H × 1"], ["1×1, sigmoid", "= C × 1 × W"]),
            ],
        ),
        "= C × H × W",
    ],
    "GlobalContext": [
        X,
        split(
            "+",
            [],
            [
                split("weighted sum", [], ["1×1 to 1", "softmax over H, W"]),
                "= C",
                "1×1 to C/4, LayerNorm, ReLU",
                "1×1 to C (starts at 0)",
            ],
        ),
        "= C × H × W",
    ],
    "NonLocal": [
        X,
        split(
            "+",
            [],
            [
                split(
                    "product",
                    [split("softmax of products", ["θ: 1×1"], ["φ: 1×1"]), "= HW × HW"],
                    ["g: 1×1"],
                ),
                "1×1, BN (starts at 0)",
            ],
        ),
        "= C × H × W",
    ],
    "STN": [
        X,
        split(
            "read x at these positions",
            [],
            ["two 3×3 stride 2, BN, ReLU", MEAN, "two linear layers", "= 2 × 3 matrix"],
        ),
        "= C × H × W",
    ],
    "StripPooling": [
        X,
        split(
            "×",
            [],
            [
                split(
                    "+",
                    ["mean over W", "3×1, BN", "= C × H × 1"],
                    ["mean over H", "1×3, BN", "= C × 1 × W"],
                ),
                "ReLU, 1×1, sigmoid",
            ],
        ),
        "= C × H × W",
    ],
    "MixedPooling": [
        X,
        split(
            "+",
            [],
            [
                split(
                    "concat",
                    [
                        "1×1 to C/4, BN, ReLU",
                        split("+", ["3×3, BN"], ["pool to 20, 3×3, BN"], ["pool to 12, 3×3, BN"]),
                        "ReLU, 3×3, BN, ReLU",
                    ],
                    [
                        "1×1 to C/4, BN, ReLU",
                        split("+", ["mean over H, 1×3, BN"], ["mean over W, 3×1, BN"]),
                        "ReLU, 3×3, BN, ReLU",
                    ],
                ),
                "1×1 to C, BN",
            ],
        ),
        "ReLU",
        "= C × H × W",
    ],
    "ACmix": [
        "= x: C1 × H × W",
        split("= q, k, v", ["1×1"], ["1×1"], ["1×1"]),
        split(
            "rate1 · a + rate2 · b",
            ["attention in a 7×7 window", "= a"],
            ["1×1 mixing to 9 maps", "shift and sum", "= b"],
        ),
        "= C2 × H × W",
    ],
    "ASPP": [
        "= x: C1 × H × W",
        split(
            "concat",
            ["1×1, BN, ReLU"],
            ["3×3 at each dilation, BN, ReLU"],
            [MEAN, "1×1, BN, ReLU", "spread over H, W"],
        ),
        "1×1 to C2, BN, ReLU",
        "= C2 × H × W",
    ],
    "DeformConv": [
        "= x: C1 × H × W",
        split(
            "3×3 of x read there, times masks",
            [],
            ["3×3 (starts at 0)", split("= positions, masks", ["18 offsets"], ["9, sigmoid"])],
        ),
        "BN, SiLU",
        "= C2 × H × W",
    ],
    "SKConv": [
        "= x: C1 × H × W",
        split("= U1, U2", ["3×3, BN, SiLU"], ["3×3 dilation 2, BN, SiLU"]),
        split(
            "sum of U1, U2 times weights",
            [],
            ["sum, mean over H, W", "1×1, BN, ReLU", "1×1 to 2 · C2", "softmax over branches"],
        ),
        "= C2 × H × W",
    ],
    "SKUnit": [
        "= x: C1 × H × W",
        split(
            "+",
            ["1×1 if the shape changes"],
            ["1×1, BN, ReLU", "SKConv 3×3, ReLU", "1×1, BN"],
        ),
        "ReLU",
        "= C2 × H × W",
    ],
    "SpaceToDepth": [
        X,
        split(
            "concat",
            ["even rows, even columns"],
            ["odd rows, even columns"],
            ["even rows, odd columns"],
            ["odd rows, odd columns"],
        ),
        "= 4C × H/2 × W/2",
    ],
    "SPDConv": [
        "= x: C1 × H × W",
        "SpaceToDepth",
        "= 4 C1 × H/2 × W/2",
        "3×3 stride 1, BN, SiLU",
        "= C2 × H/2 × W/2",
    ],
    "HRNet": [
        "= x: C1 × H × W",
        "two 3×3 stride 2",
        "bottlenecks, stride 4",
        "stages that exchange their maps",
        split("= four maps, read by Index rows", ["stride 4"], ["stride 8"], ["16"], ["32"]),
    ],
    "Classifier": [
        "= one map, or the four of an HRNet",
        "four maps: gathered into one of 2048",
        MEAN,
        "linear to the classes",
        "= nc scores",
    ],
}

# ------------------------------------------------------------------------------------------ layout

_CHAR, _HIGH, _GAP, _SIDE = 6.7, 24, 16, 14


@dataclass
class Node:
    """A box with its text, by its centre."""

    kind: str
    text: str
    x: float
    y: float
    width: float


@dataclass
class Drawing:
    """Nodes, lines, and the size of all."""

    nodes: list[Node] = field(default_factory=list)
    lines: list[tuple[float, float, float, float]] = field(default_factory=list)
    width: float = 0
    height: float = 0


def _kind(text: str) -> str:
    return "map" if text.startswith("=") else "join" if text in ("×", "+") else "op"


def _size(text: str) -> float:
    return _HIGH if text in ("×", "+") else 16 + _CHAR * len(text.removeprefix("= "))


def _extent(items: list) -> float:
    """Return the width of a list."""
    widths = [0.0]
    for item in items:
        if isinstance(item, Split):
            inner = [max(_extent(branch), 24) for branch in item.branches]
            widths += [sum(inner) + _SIDE * (len(inner) - 1), _size(item.join)]
        else:
            widths.append(_size(item))
    return max(widths)


def _place(drawing: Drawing, items: list, x: float, y: float) -> float:
    """Place a list around a centre, from a height on; return the height of its end."""
    for number, item in enumerate(items):
        if number:
            drawing.lines.append((x, y, x, y + _GAP))
            y += _GAP
        if not isinstance(item, Split):
            text = item.removeprefix("= ")
            drawing.nodes.append(Node(_kind(item), text, x, y + _HIGH / 2, _size(item)))
            y += _HIGH
            continue
        widths = [max(_extent(branch), 24) for branch in item.branches]
        left = x - (sum(widths) + _SIDE * (len(widths) - 1)) / 2
        centres, ends = [], []
        for branch, width in zip(item.branches, widths, strict=True):
            centre = left + width / 2
            centres.append(centre)
            drawing.lines.append((centre, y, centre, y + _GAP))
            ends.append(_place(drawing, branch, centre, y + _GAP))
            left += width + _SIDE
        drawing.lines.append((min(*centres, x), y, max(*centres, x), y))
        bottom = max(ends) + _GAP
        for centre, end in zip(centres, ends, strict=True):
            drawing.lines.append((centre, end, centre, bottom))
        drawing.lines.append((min(*centres, x), bottom, max(*centres, x), bottom))
        drawing.lines.append((x, bottom, x, bottom + _GAP / 2))
        y = bottom + _GAP / 2
        text = item.join.removeprefix("= ")
        node = Node(_kind(item.join), text, x, y + _HIGH / 2, _size(item.join))
        drawing.nodes.append(node)
        y += _HIGH
    return y


def layout(items: list) -> Drawing:
    """Return the places of all nodes and lines of a diagram.

    Args:
        items: The diagram.
    """
    drawing = Drawing(width=_extent(items) + 24)
    drawing.height = _place(drawing, items, drawing.width / 2, 12) + 12
    return drawing


_FILLS = {"op": ("#e7f5ff", "#1c7ed6"), "map": ("#ffffff", "none"), "join": ("#b2f2bb", "#2b8a3e")}


def svg(name: str) -> str:
    """Return the picture of a block.

    Args:
        name: Of the block.
    """
    drawing = layout(DIAGRAMS[name])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {drawing.width:g} '
        f'{drawing.height:g}" width="{drawing.width:g}" height="{drawing.height:g}" '
        'font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12">',
        f"<title>{name}</title>",
        '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>',
    ]
    for x, y, x2, y2 in drawing.lines:
        parts.append(f'<path d="M{x:g} {y:g}L{x2:g} {y2:g}" stroke="#adb5bd"/>')
    for node in drawing.nodes:
        fill, edge = _FILLS[node.kind]
        weight = ' font-weight="bold"' if node.kind != "op" else ""
        parts.append(
            f'<rect x="{node.x - node.width / 2:g}" y="{node.y - _HIGH / 2:g}" '
            f'width="{node.width:g}" height="{_HIGH}" rx="{12 if node.kind == "join" else 5}" '
            f'fill="{fill}" stroke="{edge}"/>'
            f'<text x="{node.x:g}" y="{node.y + 4:g}" text-anchor="middle" fill="#212529"'
            f"{weight}>{escape(node.text)}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def main(argv: list[str] | None = None) -> int:
    """Draw all diagrams, or check them; return the exit status.

    Args:
        argv: Arguments, those of the process when left out.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, list stale files")
    check = parser.parse_args(argv).check
    texts = {FOLDER / f"{name}.svg": svg(name) for name in DIAGRAMS}
    gone = [path for path in FOLDER.glob("*.svg") if path not in texts]
    stale = [p for p, text in texts.items() if not p.is_file() or p.read_text() != text]
    for path in sorted([*stale, *gone]):
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            files.write(path, texts[path]) if path in texts else path.unlink()
    return 1 if check and (stale or gone) else 0


if __name__ == "__main__":
    sys.exit(main())
