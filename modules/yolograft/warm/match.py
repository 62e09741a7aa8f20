"""Which layer is which: the layer of a checkpoint that each layer of a model is.

Ultralytics matches tensors by name, and names hold the layer's number: after one inserted row, no
later layer matches. Here layers are matched instead, in one of two ways:

- by the config's record: its key ``graft`` says from which row of the base each row came;
- by aligning the two lists of layers, where there is no record, or it no longer describes the rows:
  the alignment that matches most, by module, tensors, and what they read.

A match has to fit in every tensor, read maps at the same strides and return maps of the same shape.
Where two alignments are equally good, or a layer reads another layer than its match did, it is left
out and reported: no tensor goes to a layer by guessing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from torch import nn

from yolograft.config import origin
from yolograft.config.labels import split
from yolograft.warm import rebuild
from yolograft.warm.layers import carry, is_head, labels, sources
from yolograft.warm.trace import Trace


@dataclass
class Match:
    """Which layer is which.

    Attributes:
        target: The model to fill.
        source: The model of a checkpoint.
        pairs: Layers of the target to the layer of the source that each is, or takes the place of.
        doubts: Layers of the source to the reason why they were left out.
    """

    target: nn.Module
    source: nn.Module
    pairs: dict[int, int]
    doubts: dict[int, str] = field(default_factory=dict)


def match(target: nn.Module, source: nn.Module, mine: Trace, theirs: Trace) -> Match:
    """Match the layers of a model with those of a checkpoint.

    Args:
        target: The model to fill.
        source: The model of a checkpoint.
        mine: The trace of the target.
        theirs: The trace of the source.
    """
    layers, others = list(target.model), list(rebuild.by_config(source).model)
    reads, read = [[sources(layer) for layer in one] for one in (layers, others)]

    @cache
    def score(i: int, j: int) -> int:
        ends = (layers[i] is layers[-1]) == (others[j] is others[-1])
        if not (ends and mine.meets(i, theirs, j)):
            return 0
        worth = _score(layers[i], others[j])
        return 0 if worth == 1 and list(map(len, mine.maps[i])) != [1, 1] else worth

    def tensors(pairs: dict[int, int]) -> int:
        return sum(len(carry(layers[i], others[j]).origins) for i, j in pairs.items())

    recorded = _by_record(target, source)
    if not all(
        score(i, j) and _reads_alike(i, j, recorded, reads, read) for i, j in recorded.items()
    ):
        recorded = {}  # the rows were edited since
    if tensors(recorded) == len(source.model.state_dict()):
        return Match(target, source, recorded)
    pairs, doubts = _align_all(
        [[score(i, j) for j in range(len(others))] for i in range(len(layers))]
    )
    for i, j in sorted(pairs.items()):
        if not _reads_alike(i, j, pairs, reads, read):
            del pairs[i]
            doubts[j] = f"layer {i} reads a different layer"
    if recorded and tensors(recorded) >= tensors(pairs):
        return Match(target, source, recorded)
    return Match(target, source, pairs, doubts)


def _score(layer: nn.Module, other: nn.Module) -> int:
    """Return how well a layer fits another: 4 it is that layer; 1 it may take its place; 0 not."""
    carried = carry(layer, other)
    if carried is None:
        return 0
    if type(layer) is type(other) or is_head(layer, other):
        return 4 if carried.tensors else 2
    return 3 if carried.tensors else 1


# -------------------------------------------------------------------------------------- the record


def _by_record(target: nn.Module, source: nn.Module) -> dict[int, int]:
    """Return the pairs that the records of two configs name, if both can be of one base."""
    mine, theirs = _origins(target), _origins(source)
    if mine is None:
        return {}
    theirs = theirs or [(j, "") for j in range(len(source.model))]
    at = {one: j for j, one in enumerate(theirs)}
    pairs = {i: at[one] for i, one in enumerate(mine) if one in at}
    ends = (len(mine) - 1, len(theirs) - 1)
    return pairs if ends in pairs.items() else {}


def _origins(model: nn.Module) -> list[tuple[int, str]] | None:
    """Return each layer's row of the base; of an inserted one also its module."""
    record, names = origin.read(model.yaml), labels(model)
    if record is None or len(record.origins) != len(names):
        return None
    blocks = [split(name)[1] for name in names]
    modules = [block.name if block else name for block, name in zip(blocks, names, strict=True)]
    return [
        (one.row, module if one.inserted else "")
        for one, module in zip(record.origins, modules, strict=True)
    ]


# --------------------------------------------------------------------------------------- alignment


def _align_all(scores: list[list[int]]) -> tuple[dict[int, int], dict[int, str]]:
    """Align the layers that are the same, then in between those that may take another's place.

    A block that was only inserted could take many places, and so decides nothing between layers.
    """
    pairs, doubts = align([[score if score > 1 else 0 for score in row] for row in scores])
    taken, sure = {*pairs.values(), *doubts}, len(scores) + 1
    left = [
        [
            sure
            if pairs.get(i) == j
            else score * (score == 1 and i not in pairs and j not in taken)
            for j, score in enumerate(row)
        ]
        for i, row in enumerate(scores)
    ]
    pairs, others = align(left)
    return pairs, {**others, **doubts}


def align(scores: list[list[int]]) -> tuple[dict[int, int], dict[int, str]]:
    """Return the pairs that all best alignments of two lists have in common.

    Args:
        scores: What each pair is worth; 0 if it is none.

    Returns:
        Pairs that are in every best alignment; and members of the second list that have several
        partners, or only sometimes one, with the reason.
    """
    n, m = len(scores), len(scores[0])
    ahead = [[0] * (m + 1) for _ in range(n + 1)]  # best of the first i and j
    behind = [[0] * (m + 1) for _ in range(n + 1)]  # best of those from i and j on
    for i in range(n):
        for j in range(m):
            pair = ahead[i][j] + scores[i][j]
            ahead[i + 1][j + 1] = max(pair, ahead[i][j + 1], ahead[i + 1][j])
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            pair = behind[i + 1][j + 1] + scores[i][j]
            behind[i][j] = max(pair, behind[i][j + 1], behind[i + 1][j])
    best = ahead[n][m]
    pairs: dict[int, int] = {}
    rivals: dict[int, list[int]] = {}
    for i in range(n):
        partners = [
            j
            for j in range(m)
            if scores[i][j] and ahead[i][j] + scores[i][j] + behind[i + 1][j + 1] == best
        ]
        alone = any(ahead[i][j] + behind[i + 1][j] == best for j in range(m + 1))
        if len(partners) == 1 and not alone:
            pairs[i] = partners[0]
        for j in partners:
            rivals.setdefault(j, []).append(i)
    doubts = {
        j: f"it may be layer {' or '.join(map(str, rows))}"
        for j, rows in rivals.items()
        if j not in pairs.values()
    }
    return pairs, doubts


# --------------------------------------------------------------------------------- what layers read


def _reads_alike(
    i: int, j: int, pairs: dict[int, int], reads: list[list[int]], read: list[list[int]]
) -> bool:
    """Return whether a layer reads what its match did; layers without a match may be in between."""
    if len(reads[i]) != len(read[j]):
        return False
    taken = {other: layer for layer, other in pairs.items()}
    for a, b in zip(reads[i], read[j], strict=True):
        a, b = _back(a, reads, pairs), _back(b, read, taken)
        known = (a < 0 or a in pairs), (b < 0 or b in taken)
        if all(known) and pairs.get(a, a) != b:
            return False
    return True


def _back(layer: int, reads: list[list[int]], matched: dict[int, int]) -> int:
    """Return the nearest layer with a match, while each layer reads only one."""
    while layer >= 0 and layer not in matched and len(reads[layer]) == 1:
        layer = reads[layer][0]
    return layer
